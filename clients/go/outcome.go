// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	errorTypeBytesMax    = 256
	errorMessageBytesMax = 4 << 10
	traceBytesMax        = 16 << 10
	logLineBytesMax      = 4 << 10
)

// limits are what the server told to keep to.
type limits struct {
	resultBytesMax  int
	reportsBytesMax int
	lineBytesMax    int
	traceBytesMax   int
	fragmentBytes   int
}

func limitsOf(m *pb.WorkerLimits) limits {
	pick := func(told uint32, otherwise int) int {
		if told == 0 {
			return otherwise
		}
		return int(told)
	}
	return limits{
		resultBytesMax: pick(m.GetResultBytesMax(), resultBytesMax), reportsBytesMax: pick(m.GetReportsBytesMax(), 1<<20),
		lineBytesMax: pick(m.GetLogLineBytesMax(), logLineBytesMax), traceBytesMax: pick(m.GetTraceBytesMax(), traceBytesMax),
		fragmentBytes: pick(m.GetFragmentBytesMax(), 64<<10),
	}
}

// panicError is a panic as an error.
type panicError struct {
	value any
	cause error // the value, if it is an error that may be asked
	trace string
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (e *panicError) Unwrap() error { return e.cause }

// errGoexit: the handler ended its goroutine.
var errGoexit = errors.New("the handler called runtime.Goexit")

// verdict is how an attempt ended: the last word to the server, and to the log.
type verdict struct {
	report  *pb.Report
	outcome string // succeeded, failed, snoozed, released, cancelled, lost
	err     error
}

// perform runs the handler of a delivery to its end, whatever that is; also when it ends its goroutine, result is set.
func (w *Worker) perform(ctx context.Context, delivery *Delivery, started time.Time, l limits, result *verdict) {
	handler := w.handlerOf(delivery.Task)
	if handler == nil {
		*result = verdict{report: released(pb.ReleaseReason_RELEASE_REASON_UNKNOWN_TASK), outcome: "unknown_task"}
		return
	}
	endSpan := func(error) {}
	var value any
	err := errGoexit
	defer func() {
		if recovered := recover(); recovered != nil {
			cause, _ := recovered.(error)
			err = &panicError{value: recovered, cause: cause, trace: panicTrace()}
		}
		*result = w.judge(ctx, value, err, l)
		result.report.StartedAt = timestamppb.New(started)
		endSpan(result.err)
	}()
	fault := delivery.decodeRaw(w.client)
	if tracer := w.client.options.tracer; tracer != nil {
		ctx, endSpan = tracer.Run(ctx, delivery)
	}
	if fault != nil {
		err = Permanent(fault)
		return
	}
	value, err = handler.Handle(ctx, delivery)
}

// judge makes a report of what the handler returned. An error whose methods panic is the panic.
func (w *Worker) judge(ctx context.Context, value any, err error, l limits) (result verdict) {
	defer func() {
		if recovered := recover(); recovered != nil {
			// It has no cause: what has just panicked is not asked again.
			result = w.weigh(ctx, value, &panicError{value: recovered, trace: panicTrace()}, l)
		}
	}()
	return w.weigh(ctx, value, err, l)
}

func (w *Worker) weigh(ctx context.Context, value any, err error, l limits) verdict {
	cause := context.Cause(ctx)
	stopped := err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cause))
	var snooze *SnoozeError
	switch {
	case err == nil:
		return verdict{report: w.succeeded(value, l), outcome: "succeeded"}
	case cause == ErrCancelRequested || cause == ErrTerminated:
		report := failed(err, l)
		report.GetFailed().Cancelled = true
		return verdict{report: report, outcome: "cancelled", err: err}
	case cause == ErrShutdown && stopped:
		return verdict{report: released(pb.ReleaseReason_RELEASE_REASON_STOPPING), outcome: "released"}
	case cause == context.DeadlineExceeded && stopped:
		report := failed(err, l)
		report.GetFailed().Error.Type = "TIMEOUT"
		return verdict{report: report, outcome: "failed", err: err}
	case errors.As(err, &snooze):
		delay := durationpb.New(max(snooze.After, 0))
		return verdict{report: &pb.Report{Event: &pb.Report_Snoozed{Snoozed: &pb.Snoozed{Delay: delay}}}, outcome: "snoozed"}
	}
	return verdict{report: failed(err, l), outcome: "failed", err: err}
}

func released(reason pb.ReleaseReason) *pb.Report {
	return &pb.Report{Event: &pb.Report_Released{Released: &pb.Released{Reason: reason}}}
}

// succeeded never fails: the work is done, and a result that can't travel must not undo that.
func (w *Worker) succeeded(value any, l limits) *pb.Report {
	payload, omitted := w.resultOf(value, l)
	message := &pb.Succeeded{ResultOmittedReason: cut(omitted, 256)}
	if omitted == "" {
		payload.ContentType = valid(payload.ContentType)
		message.Result = payload.proto()
	}
	return &pb.Report{Event: &pb.Report_Succeeded{Succeeded: message}}
}

// resultOf encodes what a handler returned; omitted says why it can't travel.
func (w *Worker) resultOf(value any, l limits) (payload Payload, omitted string) {
	defer func() {
		if recovered := recover(); recovered != nil {
			omitted = fmt.Sprintf("the result cannot be encoded: panic: %v", recovered)
		}
	}()
	payload, err := NewPayload(value)
	if err == nil {
		payload, err = w.client.encode(payload)
	}
	switch size := payload.size(); {
	case err != nil:
		return Payload{}, strings.ReplaceAll(strings.TrimPrefix(err.Error(), "millrace: "), "payload", "result")
	case size > l.resultBytesMax:
		return Payload{}, fmt.Sprintf("the result has %d bytes; the limit is %d", size, l.resultBytesMax)
	}
	return payload, ""
}

func failed(err error, l limits) *pb.Report {
	kind, trace := describe(err)
	message := &pb.Failed{Error: &pb.JobError{
		Type: cut(kind, errorTypeBytesMax), Message: cut(err.Error(), errorMessageBytesMax), Trace: cut(trace, l.traceBytesMax),
	}}
	var permanent *PermanentError
	var later *RetryLaterError
	message.Permanent = errors.As(err, &permanent)
	if errors.As(err, &later) {
		message.RetryAfter = durationpb.New(max(later.After, 0))
	}
	return &pb.Report{Event: &pb.Report_Failed{Failed: message}}
}

// describe tells an error's type and its trace. The server makes the fingerprint of both.
func describe(err error) (kind, trace string) {
	var fault *panicError
	if errors.As(err, &fault) {
		if fault.cause != nil {
			return "panic: " + typeName(fault.cause), fault.trace
		}
		return fmt.Sprintf("panic: %T", fault.value), fault.trace
	}
	// Errors that carry a stack show it this way, by the convention of the libraries that make them.
	if text := fmt.Sprintf("%+v", err); strings.Contains(text, "\n") && text != err.Error() {
		trace = text
	}
	return typeName(err), trace
}

// typeName is the type of the first error in the chain that is not there merely to wrap another.
func typeName(err error) string {
	for {
		name := strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
		wrapper := strings.HasPrefix(name, "fmt.wrap") || name == "errors.joinError" || name == "millrace.PermanentError" ||
			name == "millrace.RetryLaterError"
		var inner error
		switch wrapping := err.(type) {
		case interface{ Unwrap() error }:
			inner = wrapping.Unwrap()
		case interface{ Unwrap() []error }:
			if all := wrapping.Unwrap(); len(all) > 0 {
				inner = all[0]
			}
		}
		if !wrapper || inner == nil {
			return name
		}
		err = inner
	}
}

// panicTrace is the stack below the panic, innermost function first. Unlike debug.Stack it has no arguments: they are addresses,
// which would make each panic look like another fault.
func panicTrace() string {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(1, counters[:])])
	var trace strings.Builder
	panicking := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime && frame.Function != "" {
			fmt.Fprintf(&trace, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			return trace.String()
		}
	}
}
