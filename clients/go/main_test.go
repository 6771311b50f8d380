// SPDX-License-Identifier: Apache-2.0

package millrace_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/millrace/millrace/clients/go/internal/servertest"
)

// shared is the server of all tests and examples that need none of their own.
var shared *servertest.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if queue := os.Getenv(stuckQueue); queue != "" {
		return workStuck(queue)
	}
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if servertest.Program() == "" {
		fmt.Println("there is no millraced (MILLRACE_BIN): end-to-end tests and examples are skipped")
		if os.Getenv("CI") == "true" {
			return 1
		}
		if err := flag.Set("test.skip", "^(TestServer|Example)"); err != nil {
			panic(err)
		}
		return m.Run()
	}
	var err error
	if shared, err = servertest.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() {
		if err := shared.Remove(); err != nil {
			fmt.Println(err)
		}
	}()
	if err := os.Setenv("MILLRACE_ADDRESS", shared.Address()); err != nil {
		panic(err)
	}
	return m.Run()
}
