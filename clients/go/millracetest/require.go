// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/clients/go"
)

// Condition is what a job must be, besides being of a task.
type Condition struct {
	name string
	fits func(*millrace.Job) bool
}

// InQueue: it waits, or waited, in this queue.
func InQueue(name string) Condition {
	return Condition{"in queue " + name, func(j *millrace.Job) bool { return j.Queue == name }}
}

// WithPriority: it has this priority.
func WithPriority(p millrace.Priority) Condition {
	return Condition{fmt.Sprintf("of priority %d", p), func(j *millrace.Job) bool { return j.Priority == p }}
}

// WithPayload: its payload, as JSON or bytes, is what this value is encoded to.
func WithPayload(value any) Condition {
	want, err := millrace.NewPayload(value)
	return Condition{fmt.Sprintf("with payload %s", show(want)), func(j *millrace.Job) bool { return err == nil && same(want, j.Payload) }}
}

// WithLabel: it has this label.
func WithLabel(key, value string) Condition {
	return Condition{fmt.Sprintf("with label %s=%s", key, value), func(j *millrace.Job) bool { return j.Labels[key] == value }}
}

// InState: it is in this state now.
func InState(state millrace.State) Condition {
	return Condition{"now " + string(state), func(j *millrace.Job) bool { return j.State == state }}
}

// RunningAt: it may start at this time.
func RunningAt(t time.Time) Condition {
	return Condition{"running at " + t.String(), func(j *millrace.Job) bool { return j.RunAt.Equal(t) }}
}

// Jobs tells of all jobs, in the order in which they were created, with payloads and results.
func (f *Fake) Jobs(t testing.TB) []*millrace.Job {
	t.Helper()
	var jobs []*millrace.Job
	for job, err := range f.ownClient().ListFull(context.Background(), millrace.Filter{}) {
		if err != nil {
			t.Fatalf("millracetest: %v", err)
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// RequireCreated fails the test unless a job of this task that meets all conditions was created, and returns the first one.
func (f *Fake) RequireCreated(t testing.TB, task string, conditions ...Condition) *millrace.Job {
	t.Helper()
	jobs := f.Jobs(t)
	found := matching(jobs, task, conditions)
	if len(found) == 0 {
		t.Fatalf("no job %s was created%s; there are:%s", task, describe(conditions), list(jobs))
	}
	return found[0]
}

// RequireNotCreated fails the test if a job of this task that meets all conditions was created.
func (f *Fake) RequireNotCreated(t testing.TB, task string, conditions ...Condition) {
	t.Helper()
	if found := matching(f.Jobs(t), task, conditions); len(found) > 0 {
		t.Fatalf("a job %s was created%s:%s", task, describe(conditions), list(found))
	}
}

// RequireCount fails the test unless so many jobs of this task that meet all conditions were created, and returns them.
func (f *Fake) RequireCount(t testing.TB, count int, task string, conditions ...Condition) []*millrace.Job {
	t.Helper()
	jobs := f.Jobs(t)
	found := matching(jobs, task, conditions)
	if len(found) != count {
		t.Fatalf("%d jobs %s were created%s, not %d; there are:%s", len(found), task, describe(conditions), count, list(jobs))
	}
	return found
}

func matching(jobs []*millrace.Job, task string, conditions []Condition) []*millrace.Job {
	var found []*millrace.Job
	for _, job := range jobs {
		fits := job.Task == task
		for _, condition := range conditions {
			fits = fits && condition.fits(job)
		}
		if fits {
			found = append(found, job)
		}
	}
	return found
}

func describe(conditions []Condition) string {
	var text strings.Builder
	for _, condition := range conditions {
		text.WriteString(", " + condition.name)
	}
	return text.String()
}

func list(jobs []*millrace.Job) string {
	if len(jobs) == 0 {
		return " none"
	}
	var text strings.Builder
	for _, job := range jobs {
		fmt.Fprintf(&text, "\n  %s in queue %s, priority %d, %s, payload %s", job.Task, job.Queue, job.Priority, job.State, show(job.Payload))
	}
	return text.String()
}

func show(p millrace.Payload) string {
	switch {
	case p.JSON != nil:
		return string(p.JSON)
	case p.Data != nil:
		return fmt.Sprintf("%d bytes", len(p.Data))
	}
	return "empty"
}

// same compares JSON by its meaning.
func same(a, b millrace.Payload) bool {
	if a.JSON == nil || b.JSON == nil {
		return bytes.Equal(a.Data, b.Data) && (a.JSON == nil) == (b.JSON == nil)
	}
	return a.ContentType == b.ContentType && reflect.DeepEqual(meaning(a.JSON), meaning(b.JSON))
}

func meaning(text []byte) (value any) {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	return value
}
