// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/millrace/millrace/clients/go"
	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	defaultMaxAttempts = 4
	historyMax         = 10
)

// job is a job of the fake.
type job struct {
	spec       *pb.JobSpec
	sent       *pb.JobSpec // as it came, to tell a repeat from other content
	state      pb.JobState
	ready      int // order among the pending
	generation uint32
	attempts   uint32
	deliveries uint32
	created    time.Time
	runAt      time.Time
	expiresAt  time.Time
	deadline   time.Time
	started    time.Time
	finished   time.Time
	progress   *pb.Progress
	result     *pb.Payload
	omitted    string
	err        *pb.JobError
	history    []*pb.Attempt
	log        []*pb.LogLine
	asked      bool // to stop
	cancel     context.CancelCauseFunc
	policy     *pb.RetryPolicy
	chain      *chain
	index      int
	batch      *batch
	schedule   string
	previous   *pb.Payload
}

func ended(state pb.JobState) bool { return state >= pb.JobState_JOB_STATE_SUCCEEDED }

func (j *job) priority() pb.JobPriority {
	if j.spec.Priority == 0 {
		return pb.JobPriority_JOB_PRIORITY_NORMAL
	}
	return j.spec.Priority
}

// addLocked makes a job of a checked spec. blocked: a chain step whose turn has not come.
func (f *Fake) addLocked(spec *pb.JobSpec, blocked bool) *job {
	f.sequence++
	j := &job{sent: spec, spec: proto.CloneOf(spec), generation: 1, created: f.now, ready: f.sequence}
	if j.spec.Queue == "" {
		j.spec.Queue = "default"
	}
	switch expiry := spec.Expiry.(type) {
	case *pb.JobSpec_ExpiresAt:
		j.expiresAt = expiry.ExpiresAt.AsTime()
	case *pb.JobSpec_ExpiresIn:
		j.expiresAt = f.now.Add(expiry.ExpiresIn.AsDuration())
	}
	if spec.TotalTimeout != nil {
		j.deadline = f.now.Add(spec.TotalTimeout.AsDuration())
	}
	j.state = pb.JobState_JOB_STATE_BLOCKED
	if !blocked {
		f.startLocked(j)
	}
	f.jobs[spec.Id] = j
	f.order = append(f.order, j)
	f.changedLocked()
	return j
}

// startLocked lets a new job, or a chain step whose turn has come, wait for its time.
func (f *Fake) startLocked(j *job) {
	j.runAt = f.now
	switch start := j.spec.Start.(type) {
	case *pb.JobSpec_RunAt:
		j.runAt = start.RunAt.AsTime()
	case *pb.JobSpec_Delay:
		j.runAt = f.now.Add(start.Delay.AsDuration())
	}
	if j.runAt.After(f.now) {
		j.state = pb.JobState_JOB_STATE_SCHEDULED
	} else {
		f.readyLocked(j)
	}
}

func (f *Fake) readyLocked(j *job) {
	f.sequence++
	j.ready = f.sequence
	j.state = pb.JobState_JOB_STATE_PENDING
}

// nextDueLocked is the next time at which something happens by itself.
func (f *Fake) nextDueLocked() (next time.Time, due bool) {
	take := func(t time.Time) {
		if !t.IsZero() && (!due || t.Before(next)) {
			next, due = t, true
		}
	}
	for _, j := range f.order {
		if j.waits() {
			take(j.runAt)
		}
		if !ended(j.state) && j.state != pb.JobState_JOB_STATE_RUNNING {
			take(j.deadline)
			if j.deliveries == 0 {
				take(j.expiresAt)
			}
		}
	}
	for _, s := range f.schedules {
		if !s.message.Paused {
			take(s.next)
		}
	}
	return next, due
}

// waits: for its time.
func (j *job) waits() bool {
	return j.state == pb.JobState_JOB_STATE_SCHEDULED || j.state == pb.JobState_JOB_STATE_RETRYING
}

// fireLocked does what is due now.
func (f *Fake) fireLocked() {
	for _, j := range f.order {
		waiting := !ended(j.state) && j.state != pb.JobState_JOB_STATE_RUNNING
		expired := j.deliveries == 0 && !j.expiresAt.IsZero() && !j.expiresAt.After(f.now)
		late := !j.deadline.IsZero() && !j.deadline.After(f.now)
		switch {
		case waiting && (expired || late):
			f.endLocked(j, pb.JobState_JOB_STATE_EXPIRED, &pb.JobError{Type: "EXPIRED", Message: "the job did not start in time"})
		case j.waits() && !j.runAt.After(f.now):
			f.readyLocked(j)
		}
	}
	for _, s := range f.schedules {
		f.fireScheduleLocked(s)
	}
	f.changedLocked()
}

// ---- an attempt ----

func (f *Fake) leaseLocked(j *job, task *pb.WorkerTask) *pb.Delivery {
	j.state = pb.JobState_JOB_STATE_RUNNING
	j.deliveries++
	j.started = f.now
	j.policy = merge(j.spec.RetryPolicy, task.GetRetryPolicy())
	delivery := &pb.Delivery{
		JobId: j.spec.Id, Delivery: j.deliveries, Task: j.spec.Task, Queue: j.spec.Queue, Priority: j.priority(), Payload: j.spec.Payload,
		Attempt: j.attempts + 1, MaxAttempts: j.policy.MaxAttempts, CreatedAt: timestamppb.New(j.created),
		Traceparent: j.spec.Traceparent, Tracestate: j.spec.Tracestate, Labels: j.spec.Labels,
	}
	if j.spec.WantsPreviousResult {
		delivery.PreviousResult = j.previous
	}
	if j.chain != nil {
		delivery.ChainId = j.chain.id
	}
	if j.batch != nil {
		delivery.BatchId = j.batch.message.Id
	}
	f.changedLocked()
	return delivery
}

// merge takes the job's policy, field by field, before the worker's and the server's.
func merge(own, declared *pb.RetryPolicy) *pb.RetryPolicy {
	result := &pb.RetryPolicy{}
	for _, policy := range []*pb.RetryPolicy{own, declared} {
		if policy == nil {
			continue
		}
		// Merge overwrites with what is set, so the one that counts more comes last.
		merged := proto.CloneOf(policy)
		if len(result.Delays) > 0 {
			merged.Delays = nil
		}
		proto.Merge(merged, result)
		result = merged
	}
	if result.MaxAttempts == 0 {
		result.MaxAttempts = defaultMaxAttempts
	}
	return result
}

func (f *Fake) newsLocked(j *job, report *pb.Report) {
	if progress := report.GetProgress(); progress != nil {
		j.progress = progress
	}
	for _, line := range report.GetLog().GetLines() {
		line.Delivery = j.deliveries
		j.log = append(j.log, line)
	}
	f.changedLocked()
}

func (f *Fake) reportLocked(j *job, task *pb.WorkerTask, report *pb.Report) {
	attempt := &pb.Attempt{Delivery: j.deliveries, StartedAt: timestamppb.New(j.started), FinishedAt: timestamppb.New(f.now)}
	switch event := report.Event.(type) {
	case *pb.Report_Succeeded:
		attempt.Outcome = pb.AttemptOutcome_ATTEMPT_OUTCOME_SUCCEEDED
		j.attempts++
		j.result, j.omitted = event.Succeeded.Result, event.Succeeded.ResultOmittedReason
		f.endLocked(j, pb.JobState_JOB_STATE_SUCCEEDED, nil)
	case *pb.Report_Failed:
		attempt.Outcome, attempt.Error = pb.AttemptOutcome_ATTEMPT_OUTCOME_FAILED, event.Failed.Error
		f.failLocked(j, event.Failed)
	case *pb.Report_Snoozed:
		attempt.Outcome = pb.AttemptOutcome_ATTEMPT_OUTCOME_SNOOZED
		f.againLocked(j, pb.JobState_JOB_STATE_SCHEDULED, event.Snoozed.Delay.AsDuration())
	default: // the fake hands jobs only to workers that know their task, so this one gave it back
		attempt.Outcome = pb.AttemptOutcome_ATTEMPT_OUTCOME_RELEASED
		f.readyLocked(j)
	}
	if j.history = append(j.history, attempt); len(j.history) > historyMax {
		j.history = j.history[1:]
	}
	j.progress = nil
	f.changedLocked()
}

func (f *Fake) failLocked(j *job, failed *pb.Failed) {
	j.attempts++
	most := j.policy.MaxAttempts
	if failed.MaxAttempts > 0 {
		most = failed.MaxAttempts
	}
	delay := backoff(j.policy, int(j.attempts))
	if failed.RetryAfter != nil {
		delay = failed.RetryAfter.AsDuration()
	}
	switch {
	case j.asked:
		f.endLocked(j, pb.JobState_JOB_STATE_CANCELLED, &pb.JobError{Type: "CANCELLED", Message: "cancelled while it ran"})
	case failed.Permanent || j.attempts >= most:
		f.endLocked(j, pb.JobState_JOB_STATE_FAILED, failed.Error)
	default:
		j.err = failed.Error
		f.againLocked(j, pb.JobState_JOB_STATE_RETRYING, delay)
	}
}

func (f *Fake) againLocked(j *job, state pb.JobState, delay time.Duration) {
	if j.asked {
		f.endLocked(j, pb.JobState_JOB_STATE_CANCELLED, &pb.JobError{Type: "CANCELLED", Message: "cancelled while it ran"})
		return
	}
	j.state, j.runAt = state, f.now.Add(delay)
}

// backoff is the delay after an attempt, without jitter: a test wants it exact.
func backoff(policy *pb.RetryPolicy, attempt int) time.Duration {
	initial, multiplier, most := time.Second, 2.0, time.Hour
	if policy.Initial != nil {
		initial = policy.Initial.AsDuration()
	}
	if policy.Multiplier != 0 {
		multiplier = policy.Multiplier
	}
	if policy.Max != nil {
		most = policy.Max.AsDuration()
	}
	delay := float64(initial)
	switch policy.Kind {
	case pb.BackoffKind_BACKOFF_KIND_LINEAR:
		delay *= float64(attempt)
	case pb.BackoffKind_BACKOFF_KIND_CONSTANT:
	case pb.BackoffKind_BACKOFF_KIND_LIST:
		if len(policy.Delays) > 0 {
			delay = float64(policy.Delays[min(attempt, len(policy.Delays))-1].AsDuration())
		}
	default:
		delay *= math.Pow(multiplier, float64(attempt-1))
	}
	return time.Duration(min(delay, float64(most)))
}

// ---- the end ----

func (f *Fake) endLocked(j *job, state pb.JobState, err *pb.JobError) {
	j.state, j.err, j.finished = state, err, f.now
	if j.chain != nil {
		f.stepEndedLocked(j)
	}
	if j.batch != nil {
		f.memberEndedLocked(j.batch)
	}
	if j.schedule != "" {
		f.scheduledEndedLocked(j)
	}
	f.changedLocked()
}

// cancelLocked is false for a job that had ended.
func (f *Fake) cancelLocked(j *job, terminate bool, reason string) bool {
	if ended(j.state) {
		return false
	}
	if j.state == pb.JobState_JOB_STATE_RUNNING {
		j.asked = true
		cause := millrace.ErrCancelRequested
		if terminate {
			cause = millrace.ErrTerminated
		}
		j.cancel(cause)
		return true
	}
	f.endLocked(j, pb.JobState_JOB_STATE_CANCELLED, &pb.JobError{Type: "CANCELLED", Message: reason})
	return true
}

// retryLocked is false for a job that can't start anew.
func (f *Fake) retryLocked(j *job) bool {
	if !ended(j.state) || j.state == pb.JobState_JOB_STATE_SUCCEEDED {
		return false
	}
	j.generation++
	j.attempts, j.asked, j.err, j.expiresAt, j.finished = 0, false, nil, time.Time{}, time.Time{}
	if j.spec.TotalTimeout != nil {
		j.deadline = f.now.Add(j.spec.TotalTimeout.AsDuration())
	}
	j.runAt = f.now
	f.readyLocked(j)
	if j.chain != nil {
		f.stepRetriedLocked(j)
	}
	f.changedLocked()
	return true
}

// errorJSON is what an on-failure job gets as its previous result.
func errorJSON(err *pb.JobError) *pb.Payload {
	text, fault := json.Marshal(map[string]string{"type": err.GetType(), "message": err.GetMessage()})
	if fault != nil {
		panic(fault) // two strings
	}
	return &pb.Payload{Content: &pb.Payload_Json{Json: string(text)}}
}

// show is the job as the API tells it.
func (f *Fake) show(j *job, full bool) *pb.Job {
	m := &pb.Job{
		Id: j.spec.Id, Task: j.spec.Task, Queue: j.spec.Queue, Priority: j.priority(), State: j.state, CancelRequested: j.asked && !ended(j.state),
		Generation: j.generation, Attempts: j.attempts, MaxAttempts: merge(j.spec.RetryPolicy, j.policy).MaxAttempts,
		Deliveries: j.deliveries, CreatedAt: timestamppb.New(j.created), RunAt: stamp(j.runAt), ExpiresAt: stamp(j.expiresAt),
		Deadline: stamp(j.deadline), StartedAt: stamp(j.started), FinishedAt: stamp(j.finished), Progress: j.progress,
		ResultOmittedReason: j.omitted, Error: j.err, Labels: j.spec.Labels, UniqueKey: j.spec.UniqueKey.GetKey(),
		ConcurrencyKey: j.spec.ConcurrencyKey.GetKey(), ScheduleName: j.schedule,
	}
	if full {
		m.Payload, m.Result, m.History = j.spec.Payload, j.result, j.history
	}
	if j.chain != nil {
		m.ChainId, m.ChainIndex = j.chain.id, uint32(j.index)
	}
	if j.batch != nil {
		m.BatchId = j.batch.message.Id
	}
	switch {
	case j.state == pb.JobState_JOB_STATE_BLOCKED:
		m.WaitingReason = pb.WaitingReason_WAITING_REASON_BLOCKED
	case j.waits():
		m.WaitingReason = pb.WaitingReason_WAITING_REASON_SCHEDULED
	case j.state == pb.JobState_JOB_STATE_PENDING && f.queueLocked(j.spec.Queue).paused:
		m.WaitingReason = pb.WaitingReason_WAITING_REASON_QUEUE_PAUSED
	case j.state == pb.JobState_JOB_STATE_PENDING && f.workerForLocked(j) == nil:
		m.WaitingReason = pb.WaitingReason_WAITING_REASON_NO_WORKER_FOR_TASK
	}
	// A copy: the caller marshals it without the lock.
	return proto.CloneOf(m)
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
