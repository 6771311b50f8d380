// SPDX-License-Identifier: Apache-2.0

package millracetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/millracetest"
)

type email struct {
	To string `json:"to"`
}

// app is an application under test: what it was asked to send.
type app struct {
	fake   *millracetest.Fake
	client *millrace.Client
	worker *millrace.Worker
	sent   []string
	fails  int // the next so many sends
}

func newApp(t *testing.T, options ...millracetest.Option) *app {
	a := &app{fake: millracetest.New(t, options...)}
	a.client = a.fake.Client()
	a.worker = millrace.NewWorker(a.client, millrace.WithQueues("default", "mail"))
	a.worker.Handle("send_email", millrace.Typed(a.send))
	a.worker.HandleFunc("count", func(_ context.Context, d *millrace.Delivery) (any, error) {
		var before int
		err := d.DecodePreviousResult(&before)
		return before + 1, err
	})
	return a
}

func (a *app) send(_ context.Context, in email) (map[string]string, error) {
	if a.fails > 0 {
		a.fails--
		return nil, errors.New("the mail server is away")
	}
	a.sent = append(a.sent, in.To)
	return map[string]string{"to": in.To}, nil
}

func (a *app) create(t *testing.T, task string, payload any, options ...millrace.JobOption) string {
	t.Helper()
	created, err := a.client.Create(t.Context(), task, payload, options...)
	if err != nil {
		t.Fatal(err)
	}
	return created.ID
}

func (a *app) requireState(t *testing.T, id string, want millrace.State) *millrace.Job {
	t.Helper()
	job, err := a.client.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if job.State != want {
		t.Fatalf("the job is %s, should be %s (%+v)", job.State, want, job.Error)
	}
	return job
}

func TestJobsRunAtOnce(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	id := a.create(t, "send_email", email{To: "a@example.org"})
	job := a.requireState(t, id, millrace.StateSucceeded)
	var result email
	if err := job.DecodeResult(&result); err != nil || result.To != "a@example.org" {
		t.Fatalf("the result is %+v (%v)", result, err)
	}
	if waited, err := a.client.Wait(t.Context(), id); err != nil || waited.State != millrace.StateSucceeded {
		t.Fatalf("waited for %+v (%v)", waited, err)
	}
	a.fake.RequireCreated(t, "send_email", millracetest.WithPayload(email{To: "a@example.org"}), millracetest.InQueue("default"))
	a.fake.RequireNotCreated(t, "send_email", millracetest.InQueue("mail"))
	a.fake.RequireCount(t, 1, "send_email")
}

func TestUnknownTasksStayPending(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	job := a.requireState(t, a.create(t, "resize", nil), millrace.StatePending)
	if job.WaitingReason != millrace.WaitingNoWorkerForTask {
		t.Fatalf("it waits because of %q", job.WaitingReason)
	}
}

func TestOnDemand(t *testing.T) {
	a := newApp(t, millracetest.OnDemand())
	a.fake.Serve(a.worker)
	low := a.create(t, "send_email", email{To: "low"}, millrace.WithPriority(millrace.PriorityLow))
	a.create(t, "send_email", email{To: "high"}, millrace.WithPriority(millrace.PriorityHigh))
	a.requireState(t, low, millrace.StatePending)
	if ran := a.fake.RunPending(); ran != 2 {
		t.Fatalf("%d attempts ran", ran)
	}
	if !slices.Equal(a.sent, []string{"high", "low"}) {
		t.Fatalf("sent in the order %v", a.sent)
	}
}

func TestDelayAndExpiry(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	later := a.create(t, "send_email", email{To: "later"}, millrace.WithDelay(72*time.Hour))
	never := a.create(t, "resize", nil, millrace.WithExpiresIn(time.Hour))
	a.fake.RequireCreated(t, "send_email", millracetest.RunningAt(a.fake.Now().Add(72*time.Hour)))
	a.fake.Advance(72*time.Hour - time.Second)
	a.requireState(t, later, millrace.StateScheduled)
	a.requireState(t, never, millrace.StateExpired)
	a.fake.Advance(time.Second)
	a.requireState(t, later, millrace.StateSucceeded)
}

func TestRetriesFollowThePolicy(t *testing.T) {
	a := newApp(t)
	a.fails = 2
	a.fake.Serve(a.worker)
	policy := millrace.RetryPolicy{MaxAttempts: 3, Backoff: millrace.BackoffLinear, Initial: time.Minute}
	id := a.create(t, "send_email", email{To: "a"}, millrace.WithRetry(policy))
	job := a.requireState(t, id, millrace.StateRetrying)
	if job.Error.Message != "the mail server is away" || !job.RunAt.Equal(a.fake.Now().Add(time.Minute)) {
		t.Fatalf("retrying at %v because of %+v", job.RunAt, job.Error)
	}
	a.fake.Advance(time.Minute)
	a.requireState(t, id, millrace.StateRetrying)
	a.fake.Advance(2 * time.Minute)
	if job := a.requireState(t, id, millrace.StateSucceeded); job.Attempts != 3 || len(job.History) != 3 {
		t.Fatalf("%d attempts, history %+v", job.Attempts, job.History)
	}
}

func TestDeadLetterAndRetry(t *testing.T) {
	a := newApp(t)
	a.fails = 1
	a.fake.Serve(a.worker)
	id := a.create(t, "send_email", email{To: "a"}, millrace.WithMaxAttempts(1))
	var failed *millrace.JobFailedError
	if err := a.requireState(t, id, millrace.StateFailed).Err(); !errors.As(err, &failed) {
		t.Fatalf("Err tells %v", err)
	}
	if _, err := a.client.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if job := a.requireState(t, id, millrace.StateSucceeded); job.Generation != 2 {
		t.Fatalf("generation %d", job.Generation)
	}
}

func TestChain(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	chain, err := a.client.Chain(t.Context(), millrace.NewJob("count", nil), millrace.NewJob("count", nil, millrace.WithPreviousResult()))
	if err != nil {
		t.Fatal(err)
	}
	var result int
	if err := chain.Result.Decode(&result); err != nil || result != 2 || chain.State != millrace.StateSucceeded {
		t.Fatalf("the chain is %s with %d (%v)", chain.State, result, err)
	}
	a.fails = 1
	failing, err := a.client.CreateChain(t.Context(), millrace.ChainSpec{
		Steps:     []*millrace.JobSpec{millrace.NewJob("send_email", email{}, millrace.WithMaxAttempts(1)), millrace.NewJob("count", nil)},
		OnFailure: millrace.NewJob("alarm", nil),
	})
	if err != nil || failing.State != millrace.StateFailed || failing.Error.Message != "the mail server is away" {
		t.Fatalf("the chain is %+v (%v)", failing, err)
	}
	a.requireState(t, failing.JobIDs[1], millrace.StateCancelled)
	a.fake.RequireCreated(t, "alarm")
}

func TestBatchInChunks(t *testing.T) {
	a := newApp(t, millracetest.OnDemand())
	a.fake.Serve(a.worker)
	const count = 2500
	batch, err := a.client.CreateBatch(t.Context(), millrace.BatchSpec{
		Defaults: millrace.NewJob("count", nil, millrace.WithPriority(millrace.PriorityLow)),
		Items: func(yield func(*millrace.JobSpec) bool) {
			for i := range count {
				if !yield(millrace.NewJob("count", i)) {
					return
				}
			}
		},
		OnComplete: millrace.NewJob("summary", nil),
	})
	if err != nil || batch.Total != count || batch.State != millrace.StateSealed || batch.LastChunk != 3 {
		t.Fatalf("the batch is %+v (%v)", batch, err)
	}
	a.fake.RunPending()
	ended, err := a.client.WaitBatch(t.Context(), batch.ID)
	if err != nil || ended.State != millrace.StateSucceeded || ended.Succeeded != count {
		t.Fatalf("the batch is %+v (%v)", ended, err)
	}
	a.fake.RequireCount(t, 1, "summary")
	a.fake.RequireCount(t, count, "count", millracetest.WithPriority(millrace.PriorityLow))
}

func TestSchedules(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	daily := millrace.ScheduleSpec{
		Name: "report", Timing: millrace.Timing{Cron: "0 9 * * *", TimeZone: "Europe/Berlin"}, Job: millrace.NewJob("count", nil),
	}
	hourly := millrace.ScheduleSpec{Name: "tidy", Timing: millrace.Timing{Interval: time.Hour}, Job: millrace.NewJob("count", nil)}
	declared, err := a.client.DeclareSchedules(t.Context(), "app", true, daily, hourly)
	if err != nil || declared.Created != 2 {
		t.Fatalf("declared %+v (%v)", declared, err)
	}
	schedule, err := a.client.GetSchedule(t.Context(), "report")
	if want := time.Date(2030, 1, 1, 8, 0, 0, 0, time.UTC); err != nil || !schedule.NextRunAt.Equal(want) {
		t.Fatalf("the next run is %v (%v)", schedule.NextRunAt, err)
	}
	declared, err = a.client.DeclareSchedules(t.Context(), "app", true, daily)
	if err != nil || declared.Unchanged != 1 || declared.Deleted != 1 {
		t.Fatalf("declared %+v (%v)", declared, err)
	}
	a.fake.Advance(48 * time.Hour)
	a.fake.RequireCount(t, 2, "count", millracetest.InState(millrace.StateSucceeded))
}

func TestScheduleOverlap(t *testing.T) {
	for overlap, want := range map[millrace.Overlap]int{millrace.OverlapSkip: 1, millrace.OverlapQueueOne: 2, millrace.OverlapAllow: 3} {
		a := newApp(t, millracetest.OnDemand())
		a.fake.Serve(a.worker)
		spec := millrace.ScheduleSpec{
			Name: "tidy", Timing: millrace.Timing{Interval: time.Hour}, Job: millrace.NewJob("count", nil), Overlap: overlap,
		}
		if _, err := a.client.CreateSchedule(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		a.fake.Advance(3 * time.Hour)
		if ran := a.fake.RunPending(); ran != want {
			t.Errorf("overlap %d: %d jobs ran, should be %d", overlap, ran, want)
		}
	}
}

func TestCancelUniqueKeyAndQueues(t *testing.T) {
	a := newApp(t, millracetest.OnDemand())
	key := millrace.WithUniqueKey(millrace.UniqueKey{Key: "reindex"})
	first := a.create(t, "count", nil, key)
	_, err := a.client.Create(t.Context(), "count", nil, key)
	var taken *millrace.Error
	if !errors.Is(err, millrace.ErrJobExists) || !errors.As(err, &taken) || taken.Subject != first {
		t.Fatalf("a taken key gives %v", err)
	}
	if accepted, err := a.client.Cancel(t.Context(), first, millrace.Reason("not needed")); err != nil || !accepted {
		t.Fatalf("cancel: %v, %v", accepted, err)
	}
	if job := a.requireState(t, first, millrace.StateCancelled); job.Error.Message != "not needed" {
		t.Fatalf("the error is %+v", job.Error)
	}
	second := a.create(t, "count", nil, key)
	queue, err := a.client.Queue(t.Context(), "default")
	if err != nil || queue.Counts.Pending != 1 || queue.Counts.Cancelled != 1 {
		t.Fatalf("the queue is %+v (%v)", queue, err)
	}
	if purged, err := a.client.PurgeQueue(t.Context(), "default"); err != nil || purged != 1 {
		t.Fatalf("purged %d (%v)", purged, err)
	}
	a.requireState(t, second, millrace.StateCancelled)
	limit := int64(1)
	if _, err := a.client.UpdateQueue(t.Context(), "mail", millrace.QueueSettings{MaxLength: &limit}); err != nil {
		t.Fatal(err)
	}
	a.create(t, "send_email", email{}, millrace.WithQueue("mail"))
	_, err = a.client.Create(t.Context(), "send_email", email{}, millrace.WithQueue("mail"))
	if !errors.Is(err, millrace.ErrQueueFull) {
		t.Fatalf("a full queue gives %v", err)
	}
}

func TestAHandlerCanCreateJobs(t *testing.T) {
	a := newApp(t)
	a.worker.Handle("sign_up", millrace.TypedNoResult(func(ctx context.Context, in email) error {
		_, err := a.client.Create(ctx, "send_email", in)
		return err
	}))
	a.fake.Serve(a.worker)
	a.create(t, "sign_up", email{To: "new@example.org"})
	a.fake.RequireCreated(t, "send_email", millracetest.InState(millrace.StateSucceeded))
}

func TestSnoozeAndPanic(t *testing.T) {
	a := newApp(t)
	calls := 0
	a.worker.HandleFunc("poll", func(context.Context, *millrace.Delivery) (any, error) {
		if calls++; calls < 3 {
			return nil, millrace.Snooze(time.Minute)
		}
		return calls, nil
	})
	a.worker.HandleFunc("bad", func(context.Context, *millrace.Delivery) (any, error) {
		var nothing map[string]int
		for _, key := range []string{"x"} {
			nothing[key] = 1 //lint:ignore SA5000 this panic is the test
		}
		return nil, nil
	})
	a.fake.Serve(a.worker)
	id := a.create(t, "poll", nil)
	a.fake.Advance(2 * time.Minute)
	if job := a.requireState(t, id, millrace.StateSucceeded); job.Attempts != 1 || job.Deliveries != 3 {
		t.Fatalf("%d attempts, %d deliveries", job.Attempts, job.Deliveries)
	}
	job := a.requireState(t, a.create(t, "bad", nil, millrace.WithMaxAttempts(1)), millrace.StateFailed)
	if !strings.HasPrefix(job.Error.Type, "panic: runtime.") || !strings.Contains(job.Error.Message, "nil map") {
		t.Fatalf("the error is %+v", job.Error)
	}
	if first, _, _ := strings.Cut(job.Error.Trace, "\n"); !strings.HasPrefix(first, "github.com/millrace/millrace/clients/go/millracetest_test.TestSnoozeAndPanic.") {
		t.Fatalf("the trace does not begin with the handler: %s", job.Error.Trace)
	}
}

func TestAllModesOfCreate(t *testing.T) {
	a := newApp(t)
	a.fake.Serve(a.worker)
	specs := []*millrace.JobSpec{millrace.NewJob("count", 1), millrace.NewJob("", 2), millrace.NewJob("count", 3)}
	outcomes, err := a.client.CreateMany(t.Context(), specs...)
	if err != nil || outcomes[0].Err != nil || outcomes[2].Err != nil {
		t.Fatalf("outcomes %+v (%v)", outcomes, err)
	}
	var bad *millrace.Error
	if !errors.As(outcomes[1].Err, &bad) || bad.Field != "jobs[1].task" {
		t.Fatalf("the bad one says %v", outcomes[1].Err)
	}
	i := 0
	for outcome, err := range a.client.CreateStream(t.Context(), slices.Values(specs)) {
		if err != nil {
			t.Fatal(err)
		}
		if outcome.ID != specs[i].ID() || (i != 1) != (outcome.Err == nil && outcome.Existing) {
			t.Fatalf("outcome %d is %+v", i, outcome)
		}
		i++
	}
	if i != len(specs) {
		t.Fatalf("%d outcomes", i)
	}
}
