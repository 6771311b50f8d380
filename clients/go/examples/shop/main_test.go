// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/internal/servertest"
	"github.com/millrace/millrace/clients/go/millracetest"
)

// The whole program, against a real server.
func TestServerTour(t *testing.T) {
	if servertest.Program() == "" {
		t.Skip("there is no millraced (MILLRACE_BIN)")
	}
	server, err := servertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Remove() }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", ".")
	command.Env = append(os.Environ(), "MILLRACE_ADDRESS="+server.Address())
	var log strings.Builder
	command.Stderr = &log
	out, err := command.Output()
	want := `1. at once: succeeded
2. later: succeeded true
3. again and again: succeeded "all is well"
4. one after the other: succeeded "order 7 shipped, 1995 cents paid"
5. many together: succeeded 1200 of 1200
`
	if err != nil || string(out) != want {
		t.Fatalf("%v\n%s\n%s", err, out, log.String())
	}
	if !strings.Contains(log.String(), "worker stopped") {
		t.Fatal("the worker did not stop gracefully")
	}
}

// How an application tests its own handlers: without a server.
func TestWelcome(t *testing.T) {
	fake := millracetest.New(t)
	client := fake.Client(millrace.WithRoutes(millrace.Route{Tasks: "shop_*", Queue: queue}))
	fake.Serve(newWorker(client))
	if err := errors.Join(chain(t.Context(), client, order{Number: 7}), newsletter(t.Context(), client)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), "shop_welcome", order{}); err != nil {
		t.Fatal(err)
	}
	failed := fake.RequireCreated(t, "shop_welcome", millracetest.InState(millrace.StateFailed))
	if failed.Attempts != 1 {
		t.Fatalf("a missing address was tried %d times", failed.Attempts)
	}
	fake.RequireCount(t, 1200, "shop_newsletter", millracetest.InState(millrace.StateSucceeded), millracetest.WithPriority(millrace.PriorityLow))
}
