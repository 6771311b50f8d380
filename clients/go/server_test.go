// SPDX-License-Identifier: Apache-2.0

package millrace_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/internal/servertest"
)

const soon = 60 * time.Second

// What all clients must do is told in tests/e2e/scenarios; these tests are about what this client does in ways of its own.

func newClient(t *testing.T, options ...millrace.ClientOption) *millrace.Client {
	t.Helper()
	client, err := millrace.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return ctx
}

// logs collects what a worker logs.
type logs struct {
	lock sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(line []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

// work runs a worker until the test ends, and fails the test if it does not stop well.
func work(t *testing.T, worker *millrace.Worker) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := worker.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func eachTransport(t *testing.T, test func(t *testing.T, transport millrace.Transport)) {
	for _, transport := range []millrace.Transport{millrace.TransportNNG, millrace.TransportGRPC} {
		t.Run(string(transport), func(t *testing.T) { test(t, transport) })
	}
}

func TestServerTypedHandlerAndLogLine(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport millrace.Transport) {
		client, log := newClient(t), &logs{}
		queue := "typed-" + string(transport)
		worker := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithTransport(transport),
			millrace.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		type numbers struct{ A, B int64 }
		worker.Handle("add", millrace.Typed(func(_ context.Context, in numbers) (int64, error) { return in.A + in.B, nil }))
		work(t, worker)
		created, err := client.Create(within(t), "add", numbers{1 << 62, 1<<62 - 1}, millrace.WithQueue(queue))
		if err != nil {
			t.Fatal(err)
		}
		job, err := client.Wait(within(t), created.ID)
		var sum int64
		if err != nil || job.Err() != nil || job.DecodeResult(&sum) != nil || sum != 1<<63-1 {
			t.Fatalf("%+v %d (%v)", job, sum, err)
		}
		line := fmt.Sprintf("msg=attempt job=%s task=add attempt=1 duration=", created.ID)
		eventually(t, func() bool {
			return strings.Count(log.String(), line) == 1 && strings.Contains(log.String(), "outcome=succeeded")
		})
	})
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about in time")
		}
	}
}

// Results of a MiB take many frames; a lot of them at once take many messages.
func TestServerBigResults(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport millrace.Transport) {
		client, queue := newClient(t), "big-"+string(transport)
		worker := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithTransport(transport), millrace.WithConcurrency(8))
		worker.Handle("blob", millrace.Typed(func(_ context.Context, size int) ([]byte, error) { return bytes.Repeat([]byte{7}, size), nil }))
		work(t, worker)
		var specs []*millrace.JobSpec
		for i := range 12 {
			specs = append(specs, millrace.NewJob("blob", 1<<20-i, millrace.WithQueue(queue)))
		}
		if _, err := client.CreateMany(within(t), specs...); err != nil {
			t.Fatal(err)
		}
		for i, spec := range specs {
			job, err := client.Wait(within(t), spec.ID())
			if err != nil || len(job.Result.Data) != 1<<20-i {
				t.Fatalf("job %d is %s with %d bytes (%v)", i, job.State, len(job.Result.Data), err)
			}
		}
	})
}

func TestServerAutoGoesOnOverGRPC(t *testing.T) {
	client, log := newClient(t), &logs{}
	worker := millrace.NewWorker(client, millrace.WithQueues("auto"), millrace.WithWorkerURL("ws://127.0.0.1:1"),
		millrace.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	worker.HandleFunc("*", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
	work(t, worker)
	created, err := client.Create(within(t), "anything", nil, millrace.WithQueue("auto"))
	if err != nil {
		t.Fatal(err)
	}
	if job, err := client.Wait(within(t), created.ID); err != nil || job.State != millrace.StateSucceeded {
		t.Fatalf("%+v (%v)\n%s", job, err, log)
	}
}

func TestServerRefusesAWorker(t *testing.T) {
	worker := millrace.NewWorker(newClient(t), millrace.WithQueues("no spaces"))
	worker.HandleFunc("x", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
	if err := worker.Run(within(t)); !errors.Is(err, millrace.ErrInvalidArgument) {
		t.Fatalf("run: %v", err)
	}
}

func TestServerDrainsAWorker(t *testing.T) {
	client := newClient(t)
	worker := millrace.NewWorker(client, millrace.WithQueues("drained"))
	worker.HandleFunc("x", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(context.Background()) }()
	var session string
	eventually(t, func() bool {
		for info, err := range client.Workers(t.Context(), "drained") {
			if err != nil {
				t.Fatal(err)
			}
			session = info.SessionID
			return info.State == "active" && info.Transport == "nng"
		}
		return false
	})
	if err := client.QuietWorker(within(t), session, true); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(soon):
		t.Fatal("the worker did not end")
	}
}

// A worker without work hears the server's pings, so that it has no reason to join again.
func TestServerIdleWorkerKeepsItsConnection(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport millrace.Transport) {
		client, log, queue := newClient(t), &logs{}, "idle-"+string(transport)
		worker := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithTransport(transport),
			millrace.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		worker.HandleFunc("x", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
		work(t, worker)
		eventually(t, func() bool {
			for info, err := range client.Workers(within(t), queue) {
				if err != nil {
					t.Fatal(err)
				}
				return info.LastSeenAt.Sub(info.RegisteredAt) > 6*time.Second // three times the silence that it bears
			}
			return false
		})
		if count := strings.Count(log.String(), "msg=joined"); count != 1 {
			t.Fatalf("it joined %d times\n%s", count, log)
		}
	})
}

// The context ends with the cause, and a job that was given back runs in the next worker, with the attempt not counted.
func TestServerShutdownGivesBack(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport millrace.Transport) {
		client, queue := newClient(t), "stop-"+string(transport)
		causes := make(chan error, 1)
		started := make(chan struct{})
		first := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithTransport(transport), millrace.WithStopGrace(time.Millisecond))
		first.HandleFunc("long", func(ctx context.Context, _ *millrace.Delivery) (any, error) {
			close(started)
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, ctx.Err()
		})
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go func() { ended <- first.Run(ctx) }()
		created, err := client.Create(within(t), "long", nil, millrace.WithQueue(queue))
		if err != nil {
			t.Fatal(err)
		}
		<-started
		stop()
		if cause := <-causes; cause != millrace.ErrShutdown {
			t.Fatalf("the cause is %v", cause)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		second := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithTransport(transport))
		second.HandleFunc("long", func(_ context.Context, d *millrace.Delivery) (any, error) { return d.Attempt, nil })
		work(t, second)
		job, err := client.Wait(within(t), created.ID)
		if err != nil || string(job.Result.JSON) != "1" || job.Deliveries != 2 || job.LostCount != 0 {
			t.Fatalf("%+v (%v)", job, err)
		}
	})
}

// compress is a codec.
type compress struct{}

func (compress) Encode(p millrace.Payload) (millrace.Payload, error) {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, err := writer.Write(p.JSON)
	err = errors.Join(err, writer.Close())
	return millrace.Payload{ContentType: "application/json+gzip", Data: out.Bytes()}, err
}

func (compress) Decode(p millrace.Payload) (millrace.Payload, error) {
	if p.ContentType != "application/json+gzip" {
		return p, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(p.Data))
	if err != nil {
		return p, err
	}
	text, err := io.ReadAll(reader)
	return millrace.Payload{JSON: text}, err
}

func TestServerCodec(t *testing.T) {
	client := newClient(t, millrace.WithCodec(compress{}))
	worker := millrace.NewWorker(client, millrace.WithQueues("codec"))
	worker.Handle("upper", millrace.Typed(func(_ context.Context, in string) (string, error) { return strings.ToUpper(in), nil }))
	work(t, worker)
	created, err := client.Create(within(t), "upper", "words", millrace.WithQueue("codec"))
	if err != nil {
		t.Fatal(err)
	}
	job, err := client.Wait(within(t), created.ID)
	if err != nil || string(job.Result.JSON) != `"WORDS"` || string(job.Payload.JSON) != `"words"` {
		t.Fatalf("%+v (%v)", job, err)
	}
	stored, err := newClient(t).Get(within(t), created.ID)
	if err != nil || stored.Payload.ContentType != "application/json+gzip" || stored.Result.Data == nil {
		t.Fatalf("%+v (%v)", stored, err)
	}
}

// What panics only after the handler has returned is an attempt's fault, too, and not the worker's.
func TestServerWorkerSurvivesErrorsThatPanic(t *testing.T) {
	client := newClient(t)
	worker := millrace.NewWorker(client, millrace.WithQueues("panics"), millrace.WithLogger(slog.New(slog.DiscardHandler)))
	worker.HandleFunc("nil", func(context.Context, *millrace.Delivery) (any, error) { return nil, (*fs.PathError)(nil) })
	worker.HandleFunc("fine", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
	work(t, worker)
	ended := func(task string) *millrace.Job {
		created, err := client.Create(within(t), task, nil, millrace.WithQueue("panics"), millrace.WithMaxAttempts(1))
		if err != nil {
			t.Fatal(err)
		}
		job, err := client.Wait(within(t), created.ID)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	if job := ended("nil"); job.State != millrace.StateFailed || !strings.HasPrefix(job.Error.Type, "panic: ") {
		t.Fatalf("%+v", job)
	}
	if job := ended("fine"); job.State != millrace.StateSucceeded {
		t.Fatalf("%+v", job)
	}
}

func TestServerWaitTimesOut(t *testing.T) {
	client := newClient(t)
	created, err := client.Create(within(t), "nobody", nil, millrace.WithQueue("unserved"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	job, err := client.Wait(ctx, created.ID)
	var timeout *millrace.WaitTimeoutError
	if !errors.Is(err, millrace.ErrWaitTimeout) || !errors.As(err, &timeout) || timeout.Reason != millrace.WaitingNoWorkerForQueue || job == nil {
		t.Fatalf("%+v (%v)", job, err)
	}
	cancelled, leave := context.WithCancel(t.Context())
	leave()
	if _, err := client.Wait(cancelled, created.ID); !errors.Is(err, context.Canceled) {
		t.Fatalf("a wait that was left says %v", err)
	}
}

func TestServerAwayIsUnavailable(t *testing.T) {
	client := newClient(t, millrace.WithAddress("127.0.0.1:1"))
	created, err := client.Create(within(t), "x", nil)
	if !errors.Is(err, millrace.ErrUnavailable) || created.ID == "" {
		t.Fatalf("%+v (%v)", created, err)
	}
}

// stuckQueue, in the environment, makes a process of this test program a worker of that queue.
const stuckQueue = "MILLRACE_TEST_STUCK_QUEUE"

// workStuck handles one job that returns only when the other is told to stop, and that other, which never does.
func workStuck(queue string) int {
	client, err := millrace.NewClient()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	worker := millrace.NewWorker(client, millrace.WithQueues(queue), millrace.WithConcurrency(2), millrace.WithTerminateGrace(300*time.Millisecond))
	told := make(chan struct{})
	worker.HandleFunc("late", func(ctx context.Context, _ *millrace.Delivery) (any, error) {
		<-told
		return nil, ctx.Err()
	})
	worker.HandleFunc("deaf", func(ctx context.Context, _ *millrace.Delivery) (any, error) {
		<-ctx.Done()
		close(told)
		select {}
	})
	if err := worker.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	return 1
}

// A terminate that is obeyed too late ends the process all the same: it takes nothing new, and what else it runs is given back.
func TestServerTerminateEndsTheProcess(t *testing.T) {
	const queue = "stuck"
	client := newClient(t)
	process := exec.CommandContext(within(t), os.Args[0])
	process.Env = append(os.Environ(), stuckQueue+"="+queue)
	process.Stdout, process.Stderr = os.Stderr, os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	var ids []string
	for _, task := range []string{"late", "deaf"} {
		created, err := client.Create(within(t), task, nil, millrace.WithQueue(queue))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, created.ID)
		eventually(t, func() bool {
			job, err := client.Get(within(t), created.ID)
			return err == nil && job.State == millrace.StateRunning
		})
	}
	if _, err := client.Cancel(within(t), ids[0], millrace.Terminate()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		for info, err := range client.Workers(within(t), queue) {
			return err == nil && info.State == "quiet"
		}
		return false
	})
	<-ended
	if code := process.ProcessState.ExitCode(); code != millrace.ExitStuck {
		t.Fatalf("exit code %d", code)
	}
	second := millrace.NewWorker(client, millrace.WithQueues(queue))
	second.HandleFunc("deaf", func(context.Context, *millrace.Delivery) (any, error) { return nil, nil })
	work(t, second)
	if job, err := client.Wait(within(t), ids[0]); err != nil || job.State != millrace.StateCancelled {
		t.Fatalf("%+v (%v)", job, err)
	}
	job, err := client.Wait(within(t), ids[1])
	if err != nil || job.State != millrace.StateSucceeded || job.Deliveries != 2 || job.LostCount != 0 {
		t.Fatalf("%+v (%v)", job, err)
	}
}

// The server is killed in the middle of a stream and of everything else: all jobs are there once, and all are done.
func TestServerKilled(t *testing.T) {
	eachTransport(t, func(t *testing.T, transport millrace.Transport) {
		server, err := servertest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Remove() })
		client := newClient(t, millrace.WithAddress(server.Address()))
		worker := millrace.NewWorker(client, millrace.WithTransport(transport), millrace.WithConcurrency(50))
		var ran atomic.Int64
		worker.HandleFunc("count", func(context.Context, *millrace.Delivery) (any, error) { return ran.Add(1), nil })
		work(t, worker)
		const count = 20_000
		specs := func(yield func(*millrace.JobSpec) bool) {
			for i := range count {
				if i == count/4 || i == count/2 {
					if err := errors.Join(server.Kill(), server.Up()); err != nil {
						t.Error(err)
					}
				}
				if !yield(millrace.NewJob("count", i)) {
					return
				}
			}
		}
		var ids []string
		for outcome, err := range client.CreateStream(within(t), specs) {
			if err != nil || outcome.Err != nil {
				t.Fatalf("after %d: %v, %v", len(ids), err, outcome.Err)
			}
			ids = append(ids, outcome.ID)
		}
		if len(ids) != count {
			t.Fatalf("%d outcomes", len(ids))
		}
		for _, id := range ids[:10] {
			if job, err := client.Wait(within(t), id); err != nil || job.State != millrace.StateSucceeded {
				t.Fatalf("%+v (%v)", job, err)
			}
		}
		eventually(t, func() bool {
			queue, err := client.Queue(within(t), "default")
			return err == nil && queue.Counts.Succeeded == count
		})
		t.Logf("%d runs of %d jobs", ran.Load(), count)
	})
}

func TestServerStreamLeftEarly(t *testing.T) {
	client := newClient(t)
	specs := []*millrace.JobSpec{
		millrace.NewJob("x", 1, millrace.WithQueue("left")), millrace.NewJob("x", 2, millrace.WithQueue("left")),
	}
	for outcome, err := range client.CreateStream(within(t), slices.Values(specs)) {
		if err != nil || outcome.ID != specs[0].ID() {
			t.Fatalf("%+v (%v)", outcome, err)
		}
		break
	}
	var queues []string
	for queue, err := range client.Queues(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		queues = append(queues, queue.Name)
	}
	if !slices.Contains(queues, "left") {
		t.Fatalf("the queues are %v", queues)
	}
}

// Items that the server refuses keep none of the others out, in whatever chunk they are, and each is told.
func TestServerBatchWithRefusedItems(t *testing.T) {
	client := newClient(t)
	refused := []int{7, 1500, 2400}
	items := func(yield func(*millrace.JobSpec) bool) {
		for i := range 2500 {
			key := fmt.Sprint("key-", i)
			if slices.Contains(refused, i) {
				key = "key-3"
			}
			if !yield(millrace.NewJob("x", i, millrace.WithQueue("batch-refused"), millrace.WithUniqueKey(millrace.UniqueKey{Key: key}))) {
				return
			}
		}
	}
	batch, err := client.CreateBatch(within(t), millrace.BatchSpec{Items: items})
	if batch == nil || batch.Total != 2500-len(refused) || batch.State != "sealed" || !errors.Is(err, millrace.ErrJobExists) {
		t.Fatalf("%+v (%v)", batch, err)
	}
	var told []int
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		var item *millrace.BatchItemError
		if !errors.As(fault, &item) {
			t.Fatal(fault)
		}
		told = append(told, item.Item)
	}
	if !slices.Equal(told, refused) {
		t.Fatalf("told are %v", told)
	}
}
