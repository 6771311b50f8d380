// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/millrace/millrace/clients/go"
)

var errUnsupported = errors.New("the agent does not know this command")

// seconds is a duration on the wire.
type seconds float64

func (s seconds) duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// command has the fields of all commands.
type command struct {
	Number  int    `json:"number"`
	Command string `json:"command"`
	jobSpec
	Mode           string            `json:"mode"`
	Jobs           []*jobSpec        `json:"jobs"`
	Log            bool              `json:"log"`
	Timeout        *seconds          `json:"timeout"`
	Until          millrace.State    `json:"until"`
	Queues         json.RawMessage   `json:"queues"` // names, or name → weight
	TasksOrPolicy  json.RawMessage   `json:"tasks"`  // names, or task → policy
	States         []millrace.State  `json:"states"`
	IDs            []string          `json:"ids"`
	BatchID        string            `json:"batch_id"`
	ChainID        string            `json:"chain_id"`
	Terminate      bool              `json:"terminate"`
	Reason         string            `json:"reason"`
	Steps          []*jobSpec        `json:"steps"`
	OnFailure      *jobSpec          `json:"on_failure"`
	OnSuccess      *jobSpec          `json:"on_success"`
	OnComplete     *jobSpec          `json:"on_complete"`
	Defaults       *jobSpec          `json:"defaults"`
	Items          []*jobSpec        `json:"items"`
	Seal           bool              `json:"seal"`
	Last           bool              `json:"last"`
	Chunk          int               `json:"chunk"`
	Owner          string            `json:"owner"`
	Prune          bool              `json:"prune"`
	Schedules      []*scheduleSpec   `json:"schedules"`
	After          time.Time         `json:"after"`
	Count          int               `json:"count"`
	Handlers       []string          `json:"handlers"`
	StopGrace      *seconds          `json:"stop_grace"`
	TerminateGrace *seconds          `json:"terminate_grace"`
	Middleware     bool              `json:"middleware"`
	Routes         map[string]string `json:"routes"`
	Codec          string            `json:"codec"`
	scheduleFields
}

type payload struct {
	JSON    json.RawMessage `json:"json"`
	Data    []byte          `json:"data"`
	Special string          `json:"special"`
}

// value is the payload as an application has it.
func (p *payload) value() (any, error) {
	switch {
	case p == nil:
		return nil, nil
	case p.Special == "nan":
		return map[string]any{"value": math.NaN()}, nil
	case p.Special == "infinity":
		return map[string]any{"value": math.Inf(1)}, nil
	case p.JSON != nil:
		decoder := json.NewDecoder(bytes.NewReader(p.JSON))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if value == nil {
			return json.RawMessage("null"), nil // nil would be no payload at all
		}
		return value, nil
	}
	return p.Data, nil
}

func payloadOut(p millrace.Payload) any {
	switch {
	case p.JSON != nil:
		var value any
		if err := p.Decode(&value); err != nil {
			return map[string]any{"json": err.Error()}
		}
		return map[string]any{"json": value}
	case p.Data != nil:
		return map[string]any{"data": p.Data}
	}
	return nil
}

type retry struct {
	MaxAttempts int       `json:"max_attempts"`
	Backoff     string    `json:"backoff"`
	Initial     seconds   `json:"initial"`
	Multiplier  float64   `json:"multiplier"`
	Max         seconds   `json:"max"`
	Jitter      *float64  `json:"jitter"`
	Delays      []seconds `json:"delays"`
}

func (r *retry) policy() millrace.RetryPolicy {
	kinds := map[string]millrace.Backoff{
		"exponential": millrace.BackoffExponential, "linear": millrace.BackoffLinear, "constant": millrace.BackoffConstant,
		"list": millrace.BackoffList,
	}
	result := millrace.RetryPolicy{
		MaxAttempts: r.MaxAttempts, Backoff: kinds[r.Backoff], Initial: r.Initial.duration(), Multiplier: r.Multiplier, Max: r.Max.duration(),
	}
	if r.Jitter != nil {
		if result.Jitter = *r.Jitter; result.Jitter == 0 {
			result.Jitter = millrace.NoJitter
		}
	}
	for _, delay := range r.Delays {
		result.Delays = append(result.Delays, delay.duration())
	}
	return result
}

type jobSpec struct {
	ID             string            `json:"id"`
	Task           string            `json:"task"`
	Queue          string            `json:"queue"`
	Priority       *int              `json:"priority"`
	Payload        *payload          `json:"payload"`
	Delay          *seconds          `json:"delay"`
	RunAt          *time.Time        `json:"run_at"`
	ExpiresIn      *seconds          `json:"expires_in"`
	ExpiresAt      *time.Time        `json:"expires_at"`
	TotalTimeout   *seconds          `json:"total_timeout"`
	AttemptTimeout *seconds          `json:"attempt_timeout"`
	Retry          *retry            `json:"retry"`
	Labels         map[string]string `json:"labels"`
	Unique         *struct {
		Key    string  `json:"key"`
		Scope  string  `json:"scope"`
		Period seconds `json:"period"`
		Rule   string  `json:"rule"`
	} `json:"unique"`
	Concurrency         json.RawMessage `json:"concurrency"` // of a job: key and limit; of a worker: a number
	Retention           *seconds        `json:"retention"`
	Traceparent         string          `json:"traceparent"`
	WantsPreviousResult bool            `json:"wants_previous_result"`
}

func (s *jobSpec) job() (*millrace.JobSpec, error) {
	if s == nil {
		return nil, nil
	}
	value, err := s.Payload.value()
	if err != nil {
		return nil, err
	}
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	return millrace.NewJob(s.Task, value, options...), nil
}

func (s *jobSpec) options() ([]millrace.JobOption, error) {
	options := []millrace.JobOption{millrace.WithLabels(s.Labels)}
	add := func(set bool, option func() millrace.JobOption) {
		if set {
			options = append(options, option())
		}
	}
	duration := func(set *seconds, option func(time.Duration) millrace.JobOption) {
		add(set != nil, func() millrace.JobOption { return option(set.duration()) })
	}
	add(s.ID != "", func() millrace.JobOption { return millrace.WithID(s.ID) })
	add(s.Queue != "", func() millrace.JobOption { return millrace.WithQueue(s.Queue) })
	add(s.Priority != nil, func() millrace.JobOption { return millrace.WithPriority(millrace.Priority(*s.Priority)) })
	add(s.RunAt != nil, func() millrace.JobOption { return millrace.WithRunAt(*s.RunAt) })
	add(s.ExpiresAt != nil, func() millrace.JobOption { return millrace.WithExpiresAt(*s.ExpiresAt) })
	add(s.Retry != nil, func() millrace.JobOption { return millrace.WithRetry(s.Retry.policy()) })
	add(s.Traceparent != "", func() millrace.JobOption { return millrace.WithTraceContext(s.Traceparent, "") })
	add(s.WantsPreviousResult, millrace.WithPreviousResult)
	duration(s.Delay, millrace.WithDelay)
	duration(s.ExpiresIn, millrace.WithExpiresIn)
	duration(s.TotalTimeout, millrace.WithTotalTimeout)
	duration(s.AttemptTimeout, func(d time.Duration) millrace.JobOption { return millrace.WithAttemptTimeout(d) })
	duration(s.Retention, millrace.WithRetention)
	if s.Unique != nil {
		scopes := map[string]millrace.UniqueScope{
			"while_waiting": millrace.UniqueWhileWaiting, "until_finished": millrace.UniqueUntilFinished, "period": millrace.UniquePeriod,
		}
		options = append(options, millrace.WithUniqueKey(millrace.UniqueKey{
			Key: s.Unique.Key, Scope: scopes[s.Unique.Scope], Period: s.Unique.Period.duration(),
			ReturnExisting: s.Unique.Rule == "return_existing",
		}))
	}
	if s.Concurrency != nil {
		key := struct {
			Key   string `json:"key"`
			Limit int    `json:"limit"`
		}{}
		if err := json.Unmarshal(s.Concurrency, &key); err != nil {
			return nil, err
		}
		options = append(options, millrace.WithConcurrencyKey(key.Key, key.Limit))
	}
	return options, nil
}

func jobsOf(specs []*jobSpec) ([]*millrace.JobSpec, error) {
	result := make([]*millrace.JobSpec, len(specs))
	for i, spec := range specs {
		var err error
		if result[i], err = spec.job(); err != nil {
			return nil, err
		}
	}
	return result, nil
}

type scheduleFields struct {
	Name          string    `json:"name"`
	Cron          string    `json:"cron"`
	Interval      *seconds  `json:"interval"`
	TimeZone      string    `json:"time_zone"`
	StartAt       time.Time `json:"start_at"`
	EndAt         time.Time `json:"end_at"`
	Overlap       string    `json:"overlap"`
	CatchUpWindow *seconds  `json:"catch_up_window"`
	Description   string    `json:"description"`
	Job           *jobSpec  `json:"job"`
}

type scheduleSpec struct{ scheduleFields }

func (s *scheduleFields) timing() millrace.Timing {
	result := millrace.Timing{Cron: s.Cron, TimeZone: s.TimeZone, StartAt: s.StartAt, EndAt: s.EndAt}
	if s.Interval != nil {
		result.Interval = s.Interval.duration()
	}
	return result
}

func (s *scheduleFields) spec() (millrace.ScheduleSpec, error) {
	job, err := s.Job.job()
	overlaps := map[string]millrace.Overlap{"queue_one": millrace.OverlapQueueOne, "allow": millrace.OverlapAllow}
	result := millrace.ScheduleSpec{Name: s.Name, Timing: s.timing(), Job: job, Overlap: overlaps[s.Overlap], Description: s.Description}
	if s.CatchUpWindow != nil {
		window := s.CatchUpWindow.duration()
		result.CatchUp = &window
	}
	return result, err
}

// ---- answers ----

func timeOut(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func errorOut(e *millrace.JobError) any {
	if e == nil {
		return nil
	}
	return map[string]any{"type": e.Type, "message": e.Message, "trace": e.Trace, "fingerprint": e.Fingerprint}
}

func jobOut(job *millrace.Job) map[string]any {
	result := map[string]any{
		"id": job.ID, "task": job.Task, "queue": job.Queue, "priority": int(job.Priority), "state": job.State,
		"cancel_requested": job.CancelRequested, "generation": job.Generation, "attempts": job.Attempts, "max_attempts": job.MaxAttempts,
		"deliveries": job.Deliveries, "run_at": timeOut(job.RunAt), "started_at": timeOut(job.StartedAt),
		"finished_at": timeOut(job.FinishedAt), "payload": payloadOut(job.Payload), "result": payloadOut(job.Result),
		"error": errorOut(job.Error), "labels": job.Labels,
	}
	for name, text := range map[string]string{
		"waiting_reason": string(job.WaitingReason), "result_omitted_reason": job.ResultOmittedReason, "chain_id": job.ChainID,
		"batch_id": job.BatchID, "schedule_name": job.ScheduleName,
	} {
		if text != "" {
			result[name] = text
		}
	}
	if job.Progress != nil {
		result["progress"], result["progress_message"] = job.Progress.Fraction, job.Progress.Message
	}
	return result
}

func chainOut(c *millrace.Chain) any {
	return map[string]any{
		"id": c.ID, "state": c.State, "job_ids": c.JobIDs, "succeeded": c.Succeeded, "current_step": c.CurrentStep,
		"error": errorOut(c.Error), "on_failure_job_id": c.OnFailureJobID, "result": payloadOut(c.Result),
	}
}

func batchOut(b *millrace.Batch) any {
	return map[string]any{
		"id": b.ID, "state": b.State, "total": b.Total, "pending": b.Pending, "succeeded": b.Succeeded, "failed": b.Failed,
		"cancelled": b.Cancelled, "expired": b.Expired, "on_success_job_id": b.OnSuccessJobID, "on_complete_job_id": b.OnCompleteJobID,
	}
}

func scheduleOut(s *millrace.Schedule) any {
	result := map[string]any{
		"name": s.Name, "time_zone": s.TimeZone, "owner": s.Owner, "paused": s.Paused, "next_run_at": timeOut(s.NextRunAt),
		"last_run_at": timeOut(s.LastRunAt), "last_job_id": s.LastJobID, "runs": s.Runs, "task": s.Task, "queue": s.Queue,
	}
	if s.Cron != "" {
		result["cron"] = s.Cron
	} else {
		result["interval"] = s.Interval.Seconds()
	}
	return result
}

func queueOut(q *millrace.Queue) any {
	n := q.Counts
	return map[string]any{"name": q.Name, "paused": q.Paused, "workers": q.Workers, "counts": map[string]int64{
		"pending": n.Pending, "scheduled": n.Scheduled, "retrying": n.Retrying, "blocked": n.Blocked, "running": n.Running,
		"succeeded": n.Succeeded, "failed": n.Failed, "cancelled": n.Cancelled, "expired": n.Expired,
	}}
}

func outcomeOut(o millrace.Outcome) any {
	result := map[string]any{"id": o.ID, "existing": o.Existing}
	if o.Err != nil {
		result["error"] = describeError(o.Err)
	}
	return result
}

func describeError(err error) map[string]any {
	kind := "internal"
	for _, known := range []struct {
		kind string
		err  error
	}{
		{"unsupported", errUnsupported}, {"job_not_found", millrace.ErrJobNotFound}, {"not_found", millrace.ErrNotFound},
		{"job_exists", millrace.ErrJobExists}, {"already_exists", millrace.ErrAlreadyExists},
		{"invalid_argument", millrace.ErrInvalidArgument}, {"queue_full", millrace.ErrQueueFull},
		{"resource_exhausted", millrace.ErrResourceExhausted}, {"failed_precondition", millrace.ErrFailedPrecondition},
		{"wait_timeout", millrace.ErrWaitTimeout}, {"unavailable", millrace.ErrUnavailable},
		{"deadline_exceeded", context.DeadlineExceeded}, {"unauthenticated", millrace.ErrUnauthenticated},
		{"permission_denied", millrace.ErrPermissionDenied},
	} {
		if errors.Is(err, known.err) {
			kind = known.kind
			break
		}
	}
	result := map[string]any{"kind": kind, "message": err.Error()}
	var detail *millrace.Error
	if errors.As(err, &detail) {
		if detail.Field != "" {
			result["field"] = detail.Field
		}
		if kind == "job_exists" && detail.Subject != "" {
			result["job_id"] = detail.Subject
		}
	}
	return result
}

// reverse is the codec "reverse": the bytes of the payload, last one first.
type reverse struct{}

const reversed = "+reversed"

func (reverse) Encode(p millrace.Payload) (millrace.Payload, error) {
	if p.JSON != nil {
		return millrace.Payload{ContentType: kindOr(p.ContentType, millrace.ContentTypeJSON) + reversed, Data: turn(p.JSON)}, nil
	}
	return millrace.Payload{ContentType: kindOr(p.ContentType, millrace.ContentTypeData) + reversed, Data: turn(p.Data)}, nil
}

func (reverse) Decode(p millrace.Payload) (millrace.Payload, error) {
	kind, ours := strings.CutSuffix(p.ContentType, reversed)
	switch {
	case !ours:
		return p, nil
	case strings.HasSuffix(kind, "json"):
		return millrace.Payload{ContentType: kind, JSON: turn(p.Data)}, nil
	}
	return millrace.Payload{ContentType: kind, Data: turn(p.Data)}, nil
}

func kindOr(kind, otherwise string) string {
	if kind == "" {
		return otherwise
	}
	return kind
}

func turn(text []byte) []byte {
	result := make([]byte, len(text))
	for i, b := range text {
		result[len(text)-1-i] = b
	}
	return result
}
