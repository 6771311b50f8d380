// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/millracetest"
)

// postgres starts a PostgreSQL of the test's own, on a socket in a temporary folder.
func postgres(t *testing.T) *sql.DB {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no PostgreSQL")
		}
		t.Skip("there is no PostgreSQL")
	}
	programs := filepath.Dir(found[len(found)-1])
	folder, err := os.MkdirTemp("", "outbox-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 { // which PostgreSQL refuses to be
		attributes.Credential = nobody(t)
		if err := os.Chown(folder, int(attributes.Credential.Uid), int(attributes.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(folder, "data")
	initialise := exec.Command(filepath.Join(programs, "initdb"), "--auth", "trust", "--no-sync", "--username", "postgres", "--pgdata", data)
	initialise.SysProcAttr, initialise.Dir = attributes, folder
	if out, err := initialise.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(programs, "postgres"), "-D", data, "-k", folder, "-c", "listen_addresses=", "-F")
	server.SysProcAttr, server.Dir = attributes, folder
	var log strings.Builder
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
	})
	db, err := sql.Open("pgx", fmt.Sprintf("host=%s user=postgres dbname=postgres", folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for end := time.Now().Add(time.Minute); db.Ping() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("PostgreSQL did not start\n%s", log.String())
		}
	}
	return db
}

func nobody(t *testing.T) *syscall.Credential {
	t.Helper()
	account, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func insert(t *testing.T, db *sql.DB, count int, commit bool) {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if _, err := tx.Exec(`INSERT INTO outbox (task, payload) VALUES ('ship_order', $1)`, fmt.Sprintf(`{"number": %d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	end := tx.Rollback
	if commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

func TestRelay(t *testing.T) {
	db := postgres(t)
	if _, err := db.Exec(Schema); err != nil {
		t.Fatal(err)
	}
	fake := millracetest.New(t)
	client := fake.Client()
	insert(t, db, 3, false)
	if done, err := Relay(t.Context(), db, client); done != 0 || err != nil {
		t.Fatalf("of a transaction that was rolled back %d rows came (%v)", done, err)
	}
	insert(t, db, 1500, true)

	// A relay that creates and then dies before it deletes.
	gone, cancel := context.WithCancel(t.Context())
	dying := fake.Client(millrace.WithTracer(dies{cancel}))
	if _, err := Relay(gone, db, dying); err == nil {
		t.Fatal("the dying relay did not notice")
	}
	// Many at once, until nothing is left.
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				done, err := Relay(t.Context(), db, client)
				if err != nil {
					t.Error(err)
				}
				if done == 0 || err != nil {
					return
				}
			}
		}()
	}
	all.Wait()
	var left int
	if err := db.QueryRow(`SELECT count(*) FROM outbox`).Scan(&left); err != nil || left != 0 {
		t.Fatalf("%d rows are left (%v)", left, err)
	}
	fake.RequireCount(t, 1500, "ship_order")
}

// dies ends the relay's context once its create has been answered.
type dies struct{ now func() }

func (d dies) Create(context.Context, *millrace.JobSpec) (string, string, func(error)) {
	return "", "", func(error) { d.now() }
}

func (d dies) Run(ctx context.Context, _ *millrace.Delivery) (context.Context, func(error)) {
	return ctx, func(error) {}
}
