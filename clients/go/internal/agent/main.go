// SPDX-License-Identifier: Apache-2.0

// The agent through which tests/e2e/clients plays its scenarios with this client: tests/e2e/scenarios/README.md is its protocol.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/millrace/millrace/clients/go"
)

type agent struct {
	transport millrace.Transport
	out       sync.Mutex
	lock      sync.Mutex
	client    *millrace.Client
	worker    *millrace.Worker
	stopped   chan error // Run's result
}

func main() {
	transport := flag.String("transport", "nng", "nng or grpc")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	a := &agent{transport: millrace.Transport(*transport)}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		a.stopWorker()
		os.Exit(0)
	}()
	a.write(map[string]any{"ready": true, "client": "go", "version": millrace.Version()})
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			if err != io.EOF {
				slog.Error("cannot read", "error", err)
			}
			os.Exit(0)
		}
		command, err := parse(line)
		if err != nil {
			slog.Error("not a command", "error", err)
			os.Exit(2)
		}
		if command.Command == "open" {
			a.answer(command)
			continue
		}
		go a.answer(command)
	}
}

func parse(line []byte) (*command, error) {
	result := &command{}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	return result, decoder.Decode(result)
}

func (a *agent) answer(command *command) {
	run, known := commands[command.Command]
	var ok any
	var err error = errUnsupported
	if known {
		ok, err = run(a, context.Background(), command)
	}
	if err != nil {
		a.write(map[string]any{"number": command.Number, "error": describeError(err)})
		return
	}
	a.write(map[string]any{"number": command.Number, "ok": ok})
}

func (a *agent) write(line any) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		panic(fmt.Sprintf("cannot write an answer: %v", err))
	}
	a.out.Lock()
	defer a.out.Unlock()
	if _, err := os.Stdout.Write(text.Bytes()); err != nil {
		os.Exit(0) // the runner is gone
	}
}

// millrace opens the client when it is first needed.
func (a *agent) millrace(options ...millrace.ClientOption) (*millrace.Client, error) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.client == nil {
		client, err := millrace.NewClient(options...)
		if err != nil {
			return nil, err
		}
		a.client = client
	}
	return a.client, nil
}

func (a *agent) stopWorker() {
	a.lock.Lock()
	worker := a.worker
	a.lock.Unlock()
	if worker != nil {
		if err := worker.Shutdown(context.Background()); err != nil {
			slog.Error("shutdown", "error", err)
		}
	}
}
