// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// judged runs a handler as a worker would, and returns its final report.
func judged(t *testing.T, ctx context.Context, handler HandlerFunc) *pb.Report {
	t.Helper()
	worker := unattached(t)
	worker.Handle("task", handler)
	return hooked{worker}.Perform(ctx, &pb.Delivery{JobId: "id", Task: "task"}, func(*pb.Report) {})
}

// unattached makes a worker without a server.
func unattached(t *testing.T, options ...ClientOption) *Worker {
	t.Helper()
	client, err := NewClient(append([]ClientOption{WithAddress("127.0.0.1:1")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return NewWorker(client, WithLogger(slog.New(slog.DiscardHandler)))
}

// rude has methods that panic.
type rude struct{ text string }

func (r *rude) Error() string { return r.text }

func (rude) MarshalJSON() ([]byte, error) { panic("no JSON") }

type rudeCodec struct{}

func (rudeCodec) Encode(Payload) (Payload, error) { panic("no encoding") }

func (rudeCodec) Decode(Payload) (Payload, error) { panic("no decoding") }

func TestOutcomes(t *testing.T) {
	asked := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		return ctx
	}
	returning := func(value any, err error) HandlerFunc {
		return func(context.Context, *Delivery) (any, error) { return value, err }
	}
	obeying := HandlerFunc(func(ctx context.Context, _ *Delivery) (any, error) { return nil, fmt.Errorf("stopped: %w", ctx.Err()) })
	wrapped := fmt.Errorf("reading: %w", &fs.PathError{Op: "open", Path: "/x", Err: errors.New("gone")})
	panicked := func(r *pb.Report) bool {
		e := r.GetFailed().GetError()
		return strings.HasPrefix(e.GetType(), "panic: ") && strings.Contains(e.Trace, ".go:")
	}
	for name, test := range map[string]struct {
		ctx     context.Context
		handler HandlerFunc
		check   func(*pb.Report) bool
	}{
		"result":       {nil, returning(map[string]int{"a": 1}, nil), func(r *pb.Report) bool { return r.GetSucceeded().GetResult().GetJson() == `{"a":1}` }},
		"no result":    {nil, returning(nil, nil), func(r *pb.Report) bool { return r.GetSucceeded() != nil && r.GetSucceeded().Result == nil }},
		"bad result":   {nil, returning(func() {}, nil), func(r *pb.Report) bool { return r.GetSucceeded().GetResultOmittedReason() != "" }},
		"big result":   {nil, returning(strings.Repeat("x", 2<<20), nil), func(r *pb.Report) bool { return strings.Contains(r.GetSucceeded().GetResultOmittedReason(), "limit") }},
		"type":         {nil, returning(nil, wrapped), func(r *pb.Report) bool { return r.GetFailed().Error.Type == "fs.PathError" && !r.GetFailed().Permanent }},
		"permanent":    {nil, returning(nil, fmt.Errorf("so: %w", Permanent(wrapped))), func(r *pb.Report) bool { return r.GetFailed().Permanent && r.GetFailed().Error.Type == "fs.PathError" }},
		"later":        {nil, returning(nil, RetryLater(time.Minute, wrapped)), func(r *pb.Report) bool { return r.GetFailed().RetryAfter.AsDuration() == time.Minute }},
		"later, plain": {nil, returning(nil, RetryLater(time.Minute, nil)), func(r *pb.Report) bool { return r.GetFailed().Error.Message != "" }},
		"snooze":       {nil, returning(nil, Snooze(time.Hour)), func(r *pb.Report) bool { return r.GetSnoozed().GetDelay().AsDuration() == time.Hour }},
		"not utf-8":    {nil, returning(nil, errors.New("a\xffb")), func(r *pb.Report) bool { return r.GetFailed().Error.Message == "a\uFFFDb" }},
		"panic": {nil, func(context.Context, *Delivery) (any, error) { panic(wrapped) }, func(r *pb.Report) bool {
			e := r.GetFailed().GetError()
			return e.GetType() == "panic: fs.PathError" && strings.Contains(e.Trace, "worker_test.go") && !strings.Contains(e.Trace, "0x")
		}},
		"nil error":           {nil, returning(nil, (*rude)(nil)), panicked},
		"wrapped nil error":   {nil, returning(nil, Permanent((*rude)(nil))), panicked},
		"nil snooze":          {nil, returning(nil, (*SnoozeError)(nil)), panicked},
		"panic of nil error":  {nil, func(context.Context, *Delivery) (any, error) { panic((*rude)(nil)) }, panicked},
		"cancelled nil error": {asked(ErrCancelRequested), returning(nil, (*rude)(nil)), func(r *pb.Report) bool { return panicked(r) && r.GetFailed().GetCancelled() }},
		"rude result": {nil, returning([]rude{{}}, nil), func(r *pb.Report) bool {
			return strings.Contains(r.GetSucceeded().GetResultOmittedReason(), "panic: no JSON")
		}},
		"cancelled":    {asked(ErrCancelRequested), obeying, func(r *pb.Report) bool { return r.GetFailed().GetCancelled() }},
		"terminated":   {asked(ErrTerminated), obeying, func(r *pb.Report) bool { return r.GetFailed().GetCancelled() }},
		"done, though": {asked(ErrCancelRequested), returning(1, nil), func(r *pb.Report) bool { return r.GetSucceeded() != nil }},
		"shut down": {asked(ErrShutdown), obeying, func(r *pb.Report) bool {
			return r.GetReleased().GetReason() == pb.ReleaseReason_RELEASE_REASON_STOPPING
		}},
		"fails, though":  {asked(ErrShutdown), returning(nil, wrapped), func(r *pb.Report) bool { return r.GetFailed() != nil }},
		"time is over":   {asked(context.DeadlineExceeded), obeying, func(r *pb.Report) bool { return r.GetFailed().GetError().GetType() == "TIMEOUT" }},
		"plain deadline": {nil, returning(nil, context.DeadlineExceeded), func(r *pb.Report) bool { return r.GetFailed() != nil && !r.GetFailed().Cancelled }},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := test.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			if report := judged(t, ctx, test.handler); !test.check(report) {
				t.Fatalf("the report is %v", report)
			}
		})
	}
}

func TestCodecThatPanics(t *testing.T) {
	worker := unattached(t, WithCodec(rudeCodec{}))
	worker.HandleFunc("*", func(context.Context, *Delivery) (any, error) { return 1, nil })
	full := &pb.Payload{Content: &pb.Payload_Json{Json: "1"}}
	for want, delivery := range map[string]*pb.Delivery{
		"panic: no decoding": {Task: "payload", Payload: full},
		"panic: no encoding": {Task: "result"},
	} {
		report := hooked{worker}.Perform(context.Background(), delivery, func(*pb.Report) {})
		if !strings.Contains(report.GetFailed().GetError().GetMessage()+report.GetSucceeded().GetResultOmittedReason(), want) {
			t.Errorf("the report is %v", report)
		}
	}
}

type slowCodec struct{ release chan struct{} }

func (c slowCodec) Encode(p Payload) (Payload, error) { return p, nil }

func (c slowCodec) Decode(p Payload) (Payload, error) {
	<-c.release
	return p, nil
}

// What a codec takes its time for must not hold up the heartbeats.
func TestSlowCodecHoldsUpNothing(t *testing.T) {
	release := make(chan struct{})
	worker := unattached(t, WithCodec(slowCodec{release}))
	worker.HandleFunc("*", func(context.Context, *Delivery) (any, error) { return nil, nil })
	state := &worker.state
	state.base = context.Background()
	state.registered(&pb.RegisterResponse{SessionId: "session"})
	sender := state.connected()
	taken := make(chan error, 1)
	go func() {
		payload := &pb.Payload{Content: &pb.Payload_Json{Json: "1"}}
		taken <- state.take(&pb.Deliveries{DeliverySeq: 1, Deliveries: []*pb.Delivery{{JobId: "job", Delivery: 1, Task: "task", Payload: payload}}})
	}()
	select {
	case err := <-taken:
		if held := sender.pick().GetHeartbeat().GetHeld(); err != nil || len(held) != 1 {
			t.Errorf("%d held (%v)", len(held), err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the delivery is not taken before it is decoded")
	}
	close(release)
	state.await(nil, 30*time.Second, state.isIdle)
	if !state.isIdle() {
		t.Error("the handler did not run")
	}
}

// A sender whose connection is gone may be slow to notice, and must leave what there is to the next one.
func TestSenderLeavesReportsToTheNext(t *testing.T) {
	state := &unattached(t).state
	state.registered(&pb.RegisterResponse{SessionId: "session"})
	first := state.connected()
	first.pick() // its heartbeat
	state.disconnected(first)
	second := state.connected()
	state.session.outbox.add(&pb.Report{JobId: "job"}, &run{})
	if message := first.pick(); message != nil {
		t.Errorf("the first took %v", message)
	}
	second.pick() // its heartbeat
	if message := second.pick(); len(message.GetReports()) != 1 {
		t.Errorf("the second took %v", message)
	}
}

func TestTypedRefusesForGood(t *testing.T) {
	handler := TypedNoResult(func(context.Context, struct{ N int }) error { return nil })
	_, err := handler.Handle(context.Background(), &Delivery{Payload: Payload{JSON: []byte(`{"n": "x"}`)}})
	var permanent *PermanentError
	if !errors.As(err, &permanent) || !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("the error is %v", err)
	}
}

func TestMiddlewareOrder(t *testing.T) {
	client, err := NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var order []string
	wrap := func(name string) Middleware {
		return func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, d *Delivery) (any, error) {
				order = append(order, name)
				return next.Handle(ctx, d)
			})
		}
	}
	worker := NewWorker(client, WithMiddleware(wrap("outer"), wrap("inner")))
	worker.HandleFunc("*", func(ctx context.Context, d *Delivery) (any, error) {
		if DeliveryFrom(ctx) != d {
			t.Error("the context does not know the delivery")
		}
		return nil, nil
	})
	hooked{worker}.Perform(context.Background(), &pb.Delivery{Task: "any"}, nil)
	if strings.Join(order, " ") != "outer inner" {
		t.Fatalf("the order is %v", order)
	}
}

func TestOutboxKeepsUntilAccepted(t *testing.T) {
	o := outbox{bytesMax: 1 << 20}
	for i := range reportsPerMessage + 1 {
		o.add(&pb.Report{JobId: fmt.Sprint(i), Event: &pb.Report_Succeeded{Succeeded: &pb.Succeeded{}}}, &run{})
	}
	first, second := o.next(), o.next()
	if len(first.Reports) != reportsPerMessage || len(second.Reports) != 1 || first.ReportSeq != 1 || second.ReportSeq != 2 || o.next() != nil {
		t.Fatalf("messages of %d and %d reports, numbers %d and %d", len(first.Reports), len(second.Reports), first.ReportSeq, second.ReportSeq)
	}
	if ended := o.accepted(1); len(ended) != reportsPerMessage || o.isEmpty() {
		t.Fatalf("%d ended", len(ended))
	}
	if o.accepted(2); !o.isEmpty() {
		t.Fatal("something stays")
	}
	big := &pb.Report{Event: &pb.Report_Succeeded{Succeeded: &pb.Succeeded{Result: &pb.Payload{Content: &pb.Payload_Data{Data: make([]byte, 700<<10)}}}}}
	o.add(big, &run{})
	o.add(big, &run{})
	for range 2 {
		if count := len(o.next().Reports); count != 1 {
			t.Fatalf("%d big results went into one message", count)
		}
	}
	for o.addNews(big) {
	}
	if o.newsBytes > newsBytesMax {
		t.Fatalf("%d bytes of news", o.newsBytes)
	}
}
