// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Priority says how urgent a job is. CRITICAL jobs take the next free slot, whatever else waits.
type Priority int

// The priorities.
const (
	PriorityLow      Priority = 0
	PriorityNormal   Priority = 5
	PriorityHigh     Priority = 8
	PriorityCritical Priority = 10
)

// On the wire LOW is 1, as 0 stands for the default.
func (p Priority) proto() pb.JobPriority {
	if p == PriorityLow {
		return pb.JobPriority_JOB_PRIORITY_LOW
	}
	return pb.JobPriority(p)
}

func priorityOf(message pb.JobPriority) Priority {
	if message == pb.JobPriority_JOB_PRIORITY_LOW {
		return PriorityLow
	}
	return Priority(message)
}

// Backoff says how the delay before the next attempt grows.
type Backoff int

// The kinds of back-off.
const (
	// BackoffDefault is exponential, unless worker or queue say otherwise.
	BackoffDefault Backoff = iota
	// BackoffExponential: Initial × Multiplier^(attempt-1).
	BackoffExponential
	// BackoffLinear: Initial × attempt.
	BackoffLinear
	// BackoffConstant: Initial, always.
	BackoffConstant
	// BackoffList: Delays[attempt-1]; the last one repeats.
	BackoffList
)

// RetryPolicy says how often and how soon a failed job is tried again. Unset fields come from the first that sets them: the job,
// the worker's declaration for the task, the queue, the server.
type RetryPolicy struct {
	// MaxAttempts counts the first one too. Server's default: 4.
	MaxAttempts int
	// Backoff is how the delay grows.
	Backoff Backoff
	// Initial is the delay before the second attempt. Server's default: 1 s.
	Initial time.Duration
	// Multiplier of BackoffExponential. Server's default: 2.
	Multiplier float64
	// Max: no delay is longer. Server's default: 1 h.
	Max time.Duration
	// Jitter varies each delay by up to this fraction either way; NoJitter for none. Server's default: 0.1.
	Jitter float64
	// Delays of BackoffList.
	Delays []time.Duration
}

// NoJitter as RetryPolicy.Jitter: delays are exact.
const NoJitter = -1

func (p *RetryPolicy) proto() *pb.RetryPolicy {
	if p == nil {
		return nil
	}
	result := &pb.RetryPolicy{
		MaxAttempts: uint32(max(p.MaxAttempts, 0)),
		Kind:        pb.BackoffKind(p.Backoff),
		Initial:     durationProto(p.Initial),
		Multiplier:  p.Multiplier,
		Max:         durationProto(p.Max),
	}
	if p.Jitter != 0 {
		result.Jitter = wrapperspb.Double(max(p.Jitter, 0))
	}
	for _, delay := range p.Delays {
		result.Delays = append(result.Delays, durationpb.New(delay))
	}
	return result
}

// UniqueScope says how long a unique key holds.
type UniqueScope int

// The scopes.
const (
	// UniqueUntilFinished: until the job ends. The default.
	UniqueUntilFinished UniqueScope = iota
	// UniqueWhileWaiting: until the job starts.
	UniqueWhileWaiting
	// UniquePeriod: for UniqueKey.Period after creation, whatever becomes of the job.
	UniquePeriod
)

// UniqueKey keeps a second job with the same key out of the queue.
type UniqueKey struct {
	// Key is 1 to 256 bytes.
	Key string
	// Scope: until when it holds.
	Scope UniqueScope
	// Period of UniquePeriod.
	Period time.Duration
	// ReturnExisting: a create whose key is taken answers with the holder (Created.Existing) instead of ErrJobExists.
	ReturnExisting bool
}

func (k *UniqueKey) proto() *pb.UniqueKey {
	if k == nil {
		return nil
	}
	scopes := map[UniqueScope]pb.UniqueScope{
		UniqueUntilFinished: pb.UniqueScope_UNIQUE_SCOPE_UNTIL_FINISHED,
		UniqueWhileWaiting:  pb.UniqueScope_UNIQUE_SCOPE_WHILE_WAITING,
		UniquePeriod:        pb.UniqueScope_UNIQUE_SCOPE_PERIOD,
	}
	result := &pb.UniqueKey{Key: k.Key, Scope: scopes[k.Scope], Period: durationProto(k.Period)}
	if k.ReturnExisting {
		result.Rule = pb.UniqueRule_UNIQUE_RULE_RETURN_EXISTING
	}
	return result
}

// ---- times on the wire: the zero value is "unset" ----

func durationProto(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func timeProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeOf(message *timestamppb.Timestamp) time.Time {
	if message == nil {
		return time.Time{}
	}
	return message.AsTime()
}

func retryOf(m *pb.RetryPolicy) *RetryPolicy {
	if m == nil {
		return nil
	}
	result := &RetryPolicy{
		MaxAttempts: int(m.MaxAttempts), Backoff: Backoff(m.Kind), Initial: m.Initial.AsDuration(), Multiplier: m.Multiplier,
		Max: m.Max.AsDuration(), Jitter: m.Jitter.GetValue(),
	}
	if m.Jitter != nil && m.Jitter.Value == 0 {
		result.Jitter = NoJitter
	}
	for _, delay := range m.Delays {
		result.Delays = append(result.Delays, delay.AsDuration())
	}
	return result
}
