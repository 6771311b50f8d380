// SPDX-License-Identifier: Apache-2.0

package millrace_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program that the README begins with is run as it stands there.
func TestServerReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(text), "```go\n")
	program, _, closed := strings.Cut(program, "```")
	if !found || !closed {
		t.Fatal("the README has no program")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", file)
	var log strings.Builder
	command.Stderr = &log
	out, err := command.Output()
	if _, promised, _ := strings.Cut(string(text), "`go run .` prints `"); err != nil || !strings.HasPrefix(promised, strings.TrimSpace(string(out))+"`") {
		t.Fatalf("%v: it prints %q\n%s", err, out, log.String())
	}
}
