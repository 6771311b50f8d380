// SPDX-License-Identifier: Apache-2.0

// Package millracetest is a server in the test's own process, with a clock that the test moves, for testing applications that create
// jobs and handle them:
//
//	fake := millracetest.New(t)
//	client := fake.Client()
//	worker := millrace.NewWorker(client)
//	worker.Handle("send_email", millrace.TypedNoResult(sendEmail))
//	fake.Serve(worker)
//
//	signUp(ctx, client, "a@example.org")         // creates a job, which runs at once
//	fake.RequireCreated(t, "send_email")         // it was created
//	fake.Advance(72 * time.Hour)                 // delayed jobs, retries and schedules come due
//
// It behaves as the real server does, by the same client, as far as an application can see with one job running at a time. It keeps
// nothing, has no limits on rates and running jobs, and no workers over the network.
package millracetest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/internal/hook"
	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const bufferBytes = 1 << 20

// Fake is the server.
type Fake struct {
	t        testing.TB
	listener *bufconn.Listener
	onDemand bool

	lock      sync.Mutex
	now       time.Time
	sequence  int
	jobs      map[string]*job
	order     []*job // as created
	chains    map[string]*chain
	batches   map[string]*batch
	schedules map[string]*schedule
	queues    map[string]*queue
	workers   []hook.Worker
	client    *millrace.Client // the first one
	changed   chan struct{}    // closed, and made anew, at each change
}

// Option sets what is not the default of a fake.
type Option func(*Fake)

// OnDemand lets jobs run only when the test says RunPending. Without it, a job for which a worker is served runs within the call
// that creates it, or within Advance when it comes due.
func OnDemand() Option { return func(f *Fake) { f.onDemand = true } }

// StartAt sets the clock. Default: 2030-01-01 00:00 UTC.
func StartAt(t time.Time) Option { return func(f *Fake) { f.now = t } }

// New starts a fake, which ends with the test.
func New(t testing.TB, options ...Option) *Fake {
	f := &Fake{
		t: t, listener: bufconn.Listen(bufferBytes), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), jobs: map[string]*job{},
		chains: map[string]*chain{}, batches: map[string]*batch{}, schedules: map[string]*schedule{}, queues: map[string]*queue{},
		changed: make(chan struct{}),
	}
	for _, option := range options {
		option(f)
	}
	// A client may ping as often as the real server lets it.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second})
	server := grpc.NewServer(grpc.MaxRecvMsgSize(4<<20), pings)
	pb.RegisterJobServiceServer(server, &jobService{fake: f})
	pb.RegisterChainServiceServer(server, &chainService{fake: f})
	pb.RegisterBatchServiceServer(server, &batchService{fake: f})
	pb.RegisterScheduleServiceServer(server, &scheduleService{fake: f})
	pb.RegisterQueueServiceServer(server, &queueService{fake: f})
	pb.RegisterAdminServiceServer(server, &adminService{fake: f})
	go func() {
		if err := server.Serve(f.listener); err != nil {
			t.Errorf("millracetest: %v", err)
		}
	}()
	t.Cleanup(server.Stop)
	return f
}

// Client makes a client of the fake, which is closed with the test.
func (f *Fake) Client(options ...millrace.ClientOption) *millrace.Client {
	f.t.Helper()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return f.listener.DialContext(ctx) }
	// A create ends only when the job has run, so that those of its handler must not wait behind it.
	options = append([]millrace.ClientOption{
		millrace.WithAddress("passthrough:///millracetest"), millrace.WithDialer(dial), millrace.WithoutCoalescing(),
	}, options...)
	client, err := millrace.NewClient(options...)
	if err != nil {
		f.t.Fatalf("millracetest: %v", err)
	}
	f.t.Cleanup(func() {
		if err := client.Close(); err != nil {
			f.t.Errorf("millracetest: %v", err)
		}
	})
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.client == nil {
		f.client = client
	}
	return client
}

// ownClient is for looking at jobs: the application's first client, which knows its codec.
func (f *Fake) ownClient() *millrace.Client {
	f.lock.Lock()
	client := f.client
	f.lock.Unlock()
	if client == nil {
		client = f.Client()
	}
	return client
}

// Serve lets the handlers of a worker do the jobs of its queues. The worker is not Run.
func (f *Fake) Serve(worker *millrace.Worker) {
	f.lock.Lock()
	f.workers = append(f.workers, hook.Open(worker))
	f.lock.Unlock()
	f.settle()
}

// Now is the fake's clock.
func (f *Fake) Now() time.Time {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.now
}

// Advance moves the clock, and lets happen, in order, what comes due: delayed jobs, retries, schedules, expiry.
func (f *Fake) Advance(d time.Duration) {
	f.lock.Lock()
	end := f.now.Add(d)
	f.lock.Unlock()
	for {
		f.lock.Lock()
		next, due := f.nextDueLocked()
		if !due || next.After(end) {
			f.now = end
			f.lock.Unlock()
			return
		}
		if next.After(f.now) {
			f.now = next
		}
		f.fireLocked()
		f.lock.Unlock()
		f.settle()
	}
}

// RunPending runs what is pending and has a handler, and what that makes ready in turn, and returns how many attempts that were.
func (f *Fake) RunPending() int {
	for count := 0; ; count++ {
		if !f.runNext() {
			return count
		}
	}
}

// settle runs what is ready, unless the test does that.
func (f *Fake) settle() {
	if !f.onDemand {
		f.RunPending()
	}
}

// runNext runs one attempt. False: nothing is ready that has a handler.
func (f *Fake) runNext() bool {
	f.lock.Lock()
	next, worker := f.pickLocked()
	if next == nil {
		f.lock.Unlock()
		return false
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	next.cancel = cancel
	delivery := f.leaseLocked(next, worker.Task(next.spec.Task))
	f.lock.Unlock()
	report := worker.Perform(ctx, delivery, func(report *pb.Report) {
		f.lock.Lock()
		defer f.lock.Unlock()
		f.newsLocked(next, report)
	})
	cancel(nil)
	f.lock.Lock()
	defer f.lock.Unlock()
	f.reportLocked(next, worker.Task(next.spec.Task), report)
	return true
}

// pickLocked: the highest priority first, then in the order in which jobs became ready.
func (f *Fake) pickLocked() (*job, hook.Worker) {
	var best *job
	var by hook.Worker
	for _, candidate := range f.order {
		if candidate.state != pb.JobState_JOB_STATE_PENDING || f.queueLocked(candidate.spec.Queue).paused {
			continue
		}
		if best != nil && (best.priority() > candidate.priority() ||
			(best.priority() == candidate.priority() && best.ready < candidate.ready)) {
			continue
		}
		if worker := f.workerForLocked(candidate); worker != nil {
			best, by = candidate, worker
		}
	}
	return best, by
}

func (f *Fake) workerForLocked(j *job) hook.Worker {
	for _, worker := range f.workers {
		serves := slices.ContainsFunc(worker.Queues(), func(q *pb.WorkerQueue) bool { return q.Name == j.spec.Queue })
		if serves && worker.Task(j.spec.Task) != nil {
			return worker
		}
	}
	return nil
}

func (f *Fake) changedLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// await waits until look, called with the lock, says that it has seen enough. False: time or ctx ended first.
func (f *Fake) await(ctx context.Context, limit time.Duration, look func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		f.lock.Lock()
		seen, changed := look(), f.changed
		f.lock.Unlock()
		if seen {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
