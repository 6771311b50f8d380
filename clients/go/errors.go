// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What can go wrong, for errors.Is. Every error of a call matches the general one of its kind (such as ErrNotFound); where the
// object is a job, it matches ErrJobNotFound or ErrJobExists too.
var (
	// ErrInvalidArgument: a field is missing, malformed or beyond its limit; Error.Field names it.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrNotFound: there is no such object, or its retention has passed.
	ErrNotFound = errors.New("not found")
	// ErrJobNotFound: there is no such job.
	ErrJobNotFound = errors.New("job not found")
	// ErrAlreadyExists: the id or name is in use with other content.
	ErrAlreadyExists = errors.New("already exists")
	// ErrJobExists: the job's id or its unique key is taken; Error.Subject is the id of the job that has it.
	ErrJobExists = errors.New("job exists")
	// ErrFailedPrecondition: the object's state does not allow it.
	ErrFailedPrecondition = errors.New("failed precondition")
	// ErrResourceExhausted: a limit of the server is reached.
	ErrResourceExhausted = errors.New("resource exhausted")
	// ErrQueueFull: the queue holds as many jobs as its max_length allows.
	ErrQueueFull = errors.New("queue full")
	// ErrUnavailable: the server was not reached, starts or stops. The call may have been carried out.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnauthenticated: the token is missing or wrong.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPermissionDenied: the token's role does not reach.
	ErrPermissionDenied = errors.New("permission denied")
	// ErrUnimplemented: the server does not know the method: compare versions.
	ErrUnimplemented = errors.New("unimplemented")
	// ErrInternal: a fault in Millrace, or damage on its disk.
	ErrInternal = errors.New("internal error")
	// ErrWaitTimeout: what was waited for had not ended in time.
	ErrWaitTimeout = errors.New("wait timed out")
)

// Error is what the server (or a check before sending) says against a call.
type Error struct {
	// Kind is one of the Err… values above, context.DeadlineExceeded or context.Canceled.
	Kind error
	// Message is a sentence for a person.
	Message string
	// Reason is a constant such as QUEUE_FULL or UNIQUE_KEY_TAKEN, if there is one.
	Reason string
	// Subject is what Reason is about: the id of the job that holds the key, the name of the queue.
	Subject string
	// Field is the path of the field at fault, such as "job.labels", if one is.
	Field string
	// RetryAfter is when trying again may help; 0: not told.
	RetryAfter time.Duration

	specific error
	cause    error
}

// Error tells the message, and the field if the message does not.
func (e *Error) Error() string {
	text := "millrace: " + e.Message
	if e.Field != "" && !strings.Contains(e.Message, e.Field) {
		text += " (" + e.Field + ")"
	}
	return text
}

// Is makes errors.Is know the kinds.
func (e *Error) Is(target error) bool {
	return target == e.Kind || (e.specific != nil && target == e.specific)
}

// Unwrap gives what lies below, such as the error of an encoder.
func (e *Error) Unwrap() error { return e.cause }

func invalid(field, format string, arguments ...any) *Error {
	return &Error{Kind: ErrInvalidArgument, Field: field, Message: fmt.Sprintf(format, arguments...)}
}

var kinds = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalidArgument,
	codes.OutOfRange:         ErrInvalidArgument,
	codes.NotFound:           ErrNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.FailedPrecondition: ErrFailedPrecondition,
	codes.Aborted:            ErrFailedPrecondition,
	codes.ResourceExhausted:  ErrResourceExhausted,
	codes.Unavailable:        ErrUnavailable,
	codes.Unauthenticated:    ErrUnauthenticated,
	codes.PermissionDenied:   ErrPermissionDenied,
	codes.Unimplemented:      ErrUnimplemented,
	codes.DeadlineExceeded:   context.DeadlineExceeded,
	codes.Canceled:           context.Canceled,
}

// callError turns an error of gRPC into an *Error. aboutJob: the object of the call is a job.
func callError(err error, aboutJob bool) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = status.FromContextError(err).Err()
	}
	s, told := status.FromError(err)
	if !told {
		return &Error{Kind: ErrInternal, Message: err.Error(), cause: err}
	}
	if s.Code() == codes.Unknown {
		// The server never says so: it is how gRPC tells of a connection that broke in the middle of a call.
		s = status.New(codes.Unavailable, "the connection to the server was lost: "+s.Message())
	}
	return statusError(s, aboutJob)
}

// outcomeError does the same for one item among many: position i of the request, known to the caller as `as`.
func outcomeError(message *spb.Status, i int, as string) error {
	if message == nil {
		return nil
	}
	result := statusError(status.FromProto(message), true)
	for _, list := range []string{"jobs", "items"} {
		item := fmt.Sprintf("%s[%d]", list, i)
		if rest, found := strings.CutPrefix(result.Field, item); found && (rest == "" || rest[0] == '.') {
			result.Message = strings.ReplaceAll(result.Message, result.Field, as+rest)
			result.Field = as + rest
		}
	}
	return result
}

func statusError(s *status.Status, aboutJob bool) *Error {
	result := &Error{Kind: kinds[s.Code()], Message: s.Message()}
	if result.Kind == nil {
		result.Kind = ErrInternal
	}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			result.Reason = detail.GetReason()
			result.Subject = detail.GetMetadata()["subject"]
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				result.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			result.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	switch {
	case result.Reason == "QUEUE_FULL":
		result.specific = ErrQueueFull
	case result.Kind == ErrNotFound && aboutJob:
		result.specific = ErrJobNotFound
	case result.Kind == ErrAlreadyExists && aboutJob:
		result.specific = ErrJobExists
	}
	return result
}

// WaitTimeoutError says that what was waited for had not ended in time. errors.Is knows it as ErrWaitTimeout.
type WaitTimeoutError struct {
	// ID of the job, chain or batch.
	ID string
	// State it was in at last.
	State string
	// Reason why a job waits, if it does.
	Reason WaitingReason
}

// Error tells what was waited for.
func (e *WaitTimeoutError) Error() string {
	text := fmt.Sprintf("millrace: %s had not ended in time: it is %s", e.ID, e.State)
	if e.Reason != "" {
		text += " (" + string(e.Reason) + ")"
	}
	return text
}

// Is makes errors.Is(err, ErrWaitTimeout) true.
func (e *WaitTimeoutError) Is(target error) bool { return target == ErrWaitTimeout }

// Timeout makes it a time-out for those who ask as with net.Error.
func (e *WaitTimeoutError) Timeout() bool { return true }

// JobFailedError is what Job.Err returns for a job that ended otherwise than by success.
type JobFailedError struct {
	// Job is the job that did not succeed.
	Job *Job
}

// Error tells state, type and message.
func (e *JobFailedError) Error() string {
	text := fmt.Sprintf("millrace: job %s (%s) is %s", e.Job.ID, e.Job.Task, e.Job.State)
	if e.Job.Error != nil {
		text += ": " + e.Job.Error.Type
		if e.Job.Error.Message != "" {
			text += ": " + e.Job.Error.Message
		}
	}
	return text
}
