// SPDX-License-Identifier: Apache-2.0

package millrace_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Around the pieces of code that the documents show: what they take for granted.
const around = `package main

import (
	"context"
	"database/sql"
	"iter"
	"testing"
	"time"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/millracetest"
)

type Email struct{ To string }

var (
	ctx         context.Context
	client      *millrace.Client
	tx          *sql.Tx
	to          string
	order       struct{}
	payload     []byte
	err         error
	newsletters iter.Seq[*millrace.JobSpec]
	mailer      interface{ Send(context.Context, Email) error }
	newWorker   func(*millrace.Client) *millrace.Worker
	signUp      func(context.Context, *millrace.Client, string)
	_           time.Duration
	_           = millracetest.New
	_           *testing.T
)

func use(...any) {}

func main() {}
`

// goBlocks are the pieces of Go in a document.
func goBlocks(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, found[1])
	}
	return blocks
}

// What the README and the guide for those who come from other queues show, compiles; the guide's relay is the one of the example.
func TestSnippetsOfTheDocuments(t *testing.T) {
	outbox, err := os.ReadFile("examples/outbox/outbox.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := append(goBlocks(t, "README.md")[1:], goBlocks(t, "../../docs/from-asynq.md")...)
	if len(blocks) < 10 {
		t.Fatalf("only %d", len(blocks))
	}
	declared := regexp.MustCompile(`(?m)^(\w+)(?:, (\w+))? :=`)
	program := around
	for number, block := range blocks {
		switch {
		case strings.HasPrefix(block, "// asynq\n"): // theirs
		case strings.Contains(string(outbox), block):
		case strings.HasPrefix(block, "func "):
			program += block
		default:
			used := ""
			for _, names := range declared.FindAllStringSubmatch(block, -1) {
				for _, name := range names[1:] {
					if name != "" && name != "_" {
						used += name + ", "
					}
				}
			}
			program += fmt.Sprintf("func _() { // block %d\n%s\nuse(%s)\n}\n", number, block, used)
		}
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, program)
	}
}

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
