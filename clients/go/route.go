// SPDX-License-Identifier: Apache-2.0

package millrace

import "strings"

// Route sends the jobs of some tasks to a queue.
type Route struct {
	// Tasks is a task's name, in which * stands for any text: "fraud_*".
	Tasks string
	// Queue is where such jobs wait.
	Queue string
}

func (c *Client) route(task string) string {
	for _, route := range c.options.routes {
		if matches(route.Tasks, task) {
			return route.Queue
		}
	}
	return ""
}

func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, found := strings.CutPrefix(text, parts[0])
	if !found {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
