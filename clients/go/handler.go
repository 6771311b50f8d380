// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Handler does the work of a task. What it returns is stored as the job's result: NewPayload tells how. A job is delivered at least
// once, so a handler must bear being run again. The context ends when the job is cancelled, its time is over, or the worker stops;
// context.Cause tells which. Returning its error then confirms that the work has stopped.
//
// An error is a failed attempt, and the job's policy decides about another one, unless it wraps Permanent, RetryLater or Snooze. A
// panic is a failed attempt too.
type Handler interface {
	Handle(ctx context.Context, delivery *Delivery) (result any, err error)
}

// HandlerFunc is a Handler that is a function.
type HandlerFunc func(ctx context.Context, delivery *Delivery) (result any, err error)

// Handle calls the function.
func (f HandlerFunc) Handle(ctx context.Context, delivery *Delivery) (any, error) {
	return f(ctx, delivery)
}

// Middleware wraps every handler of a worker.
type Middleware func(Handler) Handler

// Typed makes a Handler of a function that takes the decoded payload. A payload that does not fit fails for good. DeliveryFrom gives
// such a function what else there is.
func Typed[In, Out any](f func(ctx context.Context, in In) (Out, error)) Handler {
	return HandlerFunc(func(ctx context.Context, delivery *Delivery) (any, error) {
		var in In
		if err := delivery.Decode(&in); err != nil {
			return nil, Permanent(err)
		}
		return f(ctx, in)
	})
}

// TypedNoResult is Typed for functions without a result.
func TypedNoResult[In any](f func(ctx context.Context, in In) error) Handler {
	return Typed(func(ctx context.Context, in In) (any, error) { return nil, f(ctx, in) })
}

// Why a handler's context has ended: what context.Cause tells. The fifth cause, context.DeadlineExceeded, says that the attempt's or
// the job's time is over.
var (
	// ErrCancelRequested: somebody cancelled the job.
	ErrCancelRequested = errors.New("the job was cancelled")
	// ErrTerminated: somebody cancelled the job by force. A handler that does not return within the worker's terminate grace ends
	// its process.
	ErrTerminated = errors.New("the job was terminated")
	// ErrLost: the delivery is no longer this worker's: its time was over, or it was given to another worker. What the handler
	// returns is not reported.
	ErrLost = errors.New("the delivery was lost")
	// ErrShutdown: the worker stops, and its grace is over. The job is given back and runs elsewhere.
	ErrShutdown = errors.New("the worker stops")
)

// PermanentError says that there is no use in another attempt.
type PermanentError struct{ Err error }

// Permanent makes a failure final: no further attempt, whatever the policy says.
func Permanent(err error) error { return &PermanentError{Err: err} }

// Error is the error's text.
func (e *PermanentError) Error() string { return textOf(e.Err, "failed permanently") }

// Unwrap gives the error.
func (e *PermanentError) Unwrap() error { return e.Err }

// RetryLaterError is a failure that says when to try again.
type RetryLaterError struct {
	Err   error
	After time.Duration
}

// RetryLater fails the attempt, and has the next one, if any are left, after this delay instead of the policy's.
func RetryLater(after time.Duration, err error) error {
	return &RetryLaterError{Err: err, After: after}
}

// Error is the error's text.
func (e *RetryLaterError) Error() string {
	return textOf(e.Err, fmt.Sprintf("to be tried again after %s", e.After))
}

// Unwrap gives the error.
func (e *RetryLaterError) Unwrap() error { return e.Err }

// SnoozeError asks to be called again later.
type SnoozeError struct{ After time.Duration }

// Snooze asks to be called again after this delay. It is no failure and uses up no attempt.
func Snooze(after time.Duration) error { return &SnoozeError{After: after} }

// Error tells the delay.
func (e *SnoozeError) Error() string { return fmt.Sprintf("snoozed for %s", e.After) }

func textOf(err error, otherwise string) string {
	if err == nil {
		return otherwise
	}
	return err.Error()
}
