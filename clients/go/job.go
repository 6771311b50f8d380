// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"strings"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// State is where a job, chain or batch is in its life.
type State string

// States of a job; docs/jobs.md has the diagram. Chains are running, succeeded, failed or cancelled; batches open, sealed,
// succeeded, failed or cancelled.
const (
	StateScheduled State = "scheduled"
	StatePending   State = "pending"
	StateRunning   State = "running"
	StateRetrying  State = "retrying"
	StateBlocked   State = "blocked"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCancelled State = "cancelled"
	StateExpired   State = "expired"
	StateOpen      State = "open"
	StateSealed    State = "sealed"
)

// IsTerminal reports whether it has ended.
func (s State) IsTerminal() bool {
	return s == StateSucceeded || s == StateFailed || s == StateCancelled || s == StateExpired
}

// WaitingReason tells why a job that has not ended does not run.
type WaitingReason string

// The reasons; docs/jobs.md tells what to do about each.
const (
	WaitingNoWorkerForQueue WaitingReason = "no_worker_for_queue"
	WaitingNoWorkerForTask  WaitingReason = "no_worker_for_task"
	WaitingQueuePaused      WaitingReason = "queue_paused"
	WaitingQueueLimit       WaitingReason = "queue_limit"
	WaitingRateLimited      WaitingReason = "rate_limited"
	WaitingConcurrencyKey   WaitingReason = "concurrency_key"
	WaitingBlocked          WaitingReason = "blocked"
	WaitingScheduled        WaitingReason = "scheduled"
	WaitingNoFreeSlot       WaitingReason = "no_free_slot"
)

// Job is a job as it was when the server was asked.
type Job struct {
	ID       string
	Task     string
	Queue    string
	Priority Priority
	State    State
	// WaitingReason is "" for a job that runs, has ended, or takes the next free slot.
	WaitingReason WaitingReason
	// CancelRequested: it runs and was asked to stop.
	CancelRequested bool
	// Generation is 1, and one more for each retry of the ended job.
	Generation int
	// Attempts that count against MaxAttempts, in this generation.
	Attempts    int
	MaxAttempts int
	// Deliveries counts how often it was handed to a worker, ever.
	Deliveries int
	// LostCount counts sessions or deliveries lost with it; the third ends it.
	LostCount int

	CreatedAt  time.Time
	RunAt      time.Time // when it may start, or be tried again
	ExpiresAt  time.Time // zero: never
	Deadline   time.Time // when its total time-out passes; zero: never
	StartedAt  time.Time // start of the running or last attempt
	FinishedAt time.Time

	// Progress is there only while it runs.
	Progress *Progress
	// Payload and Result are empty where the call does not fetch them: in lists, unless WithFullView is given.
	Payload Payload
	Result  Payload
	// ResultOmittedReason tells why there is no result although the handler returned one.
	ResultOmittedReason string
	// Error tells why it failed, was cancelled or expired; while retrying, why the last attempt failed.
	Error *JobError
	// History is the last 10 deliveries, oldest first; not in lists.
	History []Attempt
	Labels  map[string]string

	UniqueKey      string
	ConcurrencyKey string
	ChainID        string
	ChainIndex     int
	BatchID        string
	ScheduleName   string
	// SessionID of the worker that runs it or ran it last.
	SessionID string
}

// Progress is what the handler says of how far it is.
type Progress struct {
	Fraction float64 // 0 to 1
	Message  string
}

// JobError tells why an attempt or a job failed.
type JobError struct {
	// Type of the error, or one that the server gives: TIMEOUT, DEADLINE, WORKER_LOST, UNKNOWN_TASK, CHAIN_STEP_FAILED, PURGED …
	Type    string
	Message string
	Trace   string
	// Fingerprint is the same for the same fault.
	Fingerprint string
}

// Attempt is one past delivery.
type Attempt struct {
	Delivery   int
	SessionID  string
	StartedAt  time.Time
	FinishedAt time.Time
	// Outcome: succeeded, failed, snoozed, released, lost, timed_out, cancelled or unknown_task.
	Outcome string
	Error   *JobError
}

// LogLine is a line of a job's log.
type LogLine struct {
	Time     time.Time
	Text     string
	Delivery int
}

// IsTerminal reports whether the job has ended.
func (j *Job) IsTerminal() bool { return j.State.IsTerminal() }

// Err is nil for a job that succeeded or has not ended, else a *JobFailedError.
func (j *Job) Err() error {
	if !j.State.IsTerminal() || j.State == StateSucceeded {
		return nil
	}
	return &JobFailedError{Job: j}
}

// DecodeResult stores the result in v, if there is one.
func (j *Job) DecodeResult(v any) error { return j.Result.Decode(v) }

// wireName makes "no_free_slot" of WAITING_REASON_NO_FREE_SLOT; what is unspecified becomes "".
func wireName(name, prefix string) string {
	name = strings.ToLower(strings.TrimPrefix(name, prefix))
	if name == "unspecified" {
		return ""
	}
	return name
}

func stateOf(state pb.JobState) State { return State(wireName(state.String(), "JOB_STATE_")) }

func stateProto(state State) (pb.JobState, error) {
	value, known := pb.JobState_value["JOB_STATE_"+strings.ToUpper(string(state))]
	if !known {
		return 0, invalid("filter.states", "filter.states: %q is not a state of a job", state)
	}
	return pb.JobState(value), nil
}

func jobErrorOf(message *pb.JobError) *JobError {
	if message == nil {
		return nil
	}
	return &JobError{Type: message.Type, Message: message.Message, Trace: message.Trace, Fingerprint: message.Fingerprint}
}

func (c *Client) jobOf(m *pb.Job) (*Job, error) {
	if m == nil {
		return nil, &Error{Kind: ErrInternal, Message: "the server's answer has no job"}
	}
	job := &Job{
		ID: m.Id, Task: m.Task, Queue: m.Queue, Priority: priorityOf(m.Priority), State: stateOf(m.State),
		WaitingReason:   WaitingReason(wireName(m.WaitingReason.String(), "WAITING_REASON_")),
		CancelRequested: m.CancelRequested, Generation: int(m.Generation), Attempts: int(m.Attempts), MaxAttempts: int(m.MaxAttempts),
		Deliveries: int(m.Deliveries), LostCount: int(m.LostCount), CreatedAt: timeOf(m.CreatedAt), RunAt: timeOf(m.RunAt),
		ExpiresAt: timeOf(m.ExpiresAt), Deadline: timeOf(m.Deadline), StartedAt: timeOf(m.StartedAt), FinishedAt: timeOf(m.FinishedAt),
		ResultOmittedReason: m.ResultOmittedReason, Error: jobErrorOf(m.Error), Labels: m.Labels, UniqueKey: m.UniqueKey,
		ConcurrencyKey: m.ConcurrencyKey, ChainID: m.ChainId, ChainIndex: int(m.ChainIndex), BatchID: m.BatchId,
		ScheduleName: m.ScheduleName, SessionID: m.SessionId,
	}
	if m.Progress != nil {
		job.Progress = &Progress{Fraction: m.Progress.Fraction, Message: m.Progress.Message}
	}
	for _, a := range m.History {
		job.History = append(job.History, Attempt{
			Delivery: int(a.Delivery), SessionID: a.SessionId, StartedAt: timeOf(a.StartedAt), FinishedAt: timeOf(a.FinishedAt),
			Outcome: wireName(a.Outcome.String(), "ATTEMPT_OUTCOME_"), Error: jobErrorOf(a.Error),
		})
	}
	var err error
	if job.Payload, err = c.decode(m.Payload); err != nil {
		return nil, err
	}
	if job.Result, err = c.decode(m.Result); err != nil {
		return nil, err
	}
	return job, nil
}
