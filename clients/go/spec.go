// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"cmp"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// JobSpec is a job as a producer asks for it. Make it with NewJob; it does not change afterwards, and may be used by many
// goroutines and sent again and again: its id makes sure that this is one job.
type JobSpec struct {
	message *pb.JobSpec
	payload Payload
	// idIsGiven: by the caller. Templates (of schedules, callbacks) take no id, so one that was made here is dropped.
	idIsGiven    bool
	queueIsGiven bool
	err          error
}

// JobOption sets what is not the default of a job.
type JobOption interface{ applyJob(*JobSpec) }

type jobOption func(*JobSpec)

func (o jobOption) applyJob(s *JobSpec) { o(s) }

// NewJob describes a job for the handler named task; NewPayload tells what becomes of payload. What is wrong with the payload is
// reported by the call that sends the spec, and by Err.
func NewJob(task string, payload any, options ...JobOption) *JobSpec {
	spec := &JobSpec{message: &pb.JobSpec{Task: task}}
	for _, option := range options {
		option.applyJob(spec)
	}
	if spec.message.Id == "" {
		spec.message.Id = newID()
	}
	spec.payload, spec.err = NewPayload(payload)
	if spec.err == nil {
		spec.err = spec.check()
	}
	return spec
}

// newID makes a UUID of version 7: sorted by time, as the server makes them.
func newID() string {
	return uuid.Must(uuid.NewV7()).String()
}

// ID is the job's id: given by WithID, or made by NewJob. In a chain or batch whose id is given, the ids that are not follow from it
// instead, so that the same flow sent again is the same: Chain.JobIDs tells those of a chain.
func (s *JobSpec) ID() string { return s.message.Id }

// Task is the handler's name.
func (s *JobSpec) Task() string { return s.message.Task }

// Err is what is wrong with the spec, as far as that can be told without the server.
func (s *JobSpec) Err() error { return s.err }

// check finds what would spoil a whole call, in which others may travel too.
func (s *JobSpec) check() error {
	if size := s.payload.size(); size > payloadBytesMax {
		return invalid("job.payload", "the payload has %d bytes; the limit is %d", size, payloadBytesMax)
	}
	m := s.message
	for _, text := range [...]struct{ field, value string }{
		{"job.task", m.Task}, {"job.id", m.Id}, {"job.queue", m.Queue}, {"job.payload.content_type", s.payload.ContentType},
		{"job.unique_key.key", m.UniqueKey.GetKey()}, {"job.concurrency_key.key", m.ConcurrencyKey.GetKey()},
		{"job.traceparent", m.Traceparent}, {"job.tracestate", m.Tracestate},
	} {
		if fault := textFault(text.value); fault != "" {
			return invalid(text.field, "%s %s", text.field, fault)
		}
	}
	for key, value := range m.Labels {
		if fault := cmp.Or(textFault(key), textFault(value)); fault != "" {
			return invalid("job.labels", "job.labels: the label %q %s", key, fault)
		}
	}
	return nil
}

// textFault is what keeps a text from travelling; "": nothing.
func textFault(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "is not valid UTF-8"
	case strings.ContainsRune(text, 0):
		return "contains a NUL character"
	}
	return ""
}

// WithID names the job: a UUID, such as the id of an outbox row. Creating it again answers with the job that is there.
func WithID(id string) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Id, s.idIsGiven = id, true })
}

// WithQueue says where the job waits. Default: what the client's routes say, else "default".
func WithQueue(queue string) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Queue, s.queueIsGiven = queue, true })
}

// WithPriority says how urgent it is. Default: PriorityNormal.
func WithPriority(p Priority) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Priority = p.proto() })
}

// WithDelay starts it no sooner than so long after the create; a chain step: after the step before succeeded.
func WithDelay(delay time.Duration) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Start = &pb.JobSpec_Delay{Delay: durationpb.New(delay)} })
}

// WithRunAt starts it no sooner than at this time; a time in the past is now.
func WithRunAt(t time.Time) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Start = &pb.JobSpec_RunAt{RunAt: timeProto(t)} })
}

// WithExpiresIn lets it expire if it has not started so long after the create.
func WithExpiresIn(d time.Duration) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Expiry = &pb.JobSpec_ExpiresIn{ExpiresIn: durationpb.New(d)} })
}

// WithExpiresAt lets it expire if it has not started by then.
func WithExpiresAt(t time.Time) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Expiry = &pb.JobSpec_ExpiresAt{ExpiresAt: timeProto(t)} })
}

// WithTotalTimeout limits the job from create to end, all attempts and waits included.
func WithTotalTimeout(d time.Duration) JobOption {
	return jobOption(func(s *JobSpec) { s.message.TotalTimeout = durationpb.New(d) })
}

// WithRetention says how long the job is kept once it has ended. Default: the queue's.
func WithRetention(d time.Duration) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Retention = durationpb.New(d) })
}

// WithUniqueKey keeps a second job with this key out of the queue.
func WithUniqueKey(key UniqueKey) JobOption {
	return jobOption(func(s *JobSpec) { s.message.UniqueKey = key.proto() })
}

// WithConcurrencyKey lets at most limit jobs with this key run at a time in the queue; the others wait aside.
func WithConcurrencyKey(key string, limit int) JobOption {
	return jobOption(func(s *JobSpec) {
		s.message.ConcurrencyKey = &pb.ConcurrencyKey{Key: key, Limit: uint32(max(limit, 0))}
	})
}

// WithLabel adds a label.
func WithLabel(key, value string) JobOption { return WithLabels(map[string]string{key: value}) }

// WithLabels adds labels: at most 16, keys up to 64 bytes and values up to 256.
func WithLabels(labels map[string]string) JobOption {
	return jobOption(func(s *JobSpec) {
		if s.message.Labels == nil {
			s.message.Labels = make(map[string]string, len(labels))
		}
		maps.Copy(s.message.Labels, labels)
	})
}

// WithTraceContext stores a W3C trace context, which the worker gets. A Tracer of the client does this by itself.
func WithTraceContext(traceparent, tracestate string) JobOption {
	return jobOption(func(s *JobSpec) { s.message.Traceparent, s.message.Tracestate = traceparent, tracestate })
}

// WithPreviousResult hands a chain step the result of the step before, and an on-failure job the error of the failed step.
func WithPreviousResult() JobOption {
	return jobOption(func(s *JobSpec) { s.message.WantsPreviousResult = true })
}

// PolicyOption is for a job, and for a task that a worker handles; the job's wins.
type PolicyOption interface {
	JobOption
	TaskOption
}

type retryOption struct{ policy RetryPolicy }

func (o retryOption) applyJob(s *JobSpec)       { s.message.RetryPolicy = o.policy.proto() }
func (o retryOption) applyTask(t *taskSettings) { t.message.RetryPolicy = o.policy.proto() }

// WithRetry sets the retry policy.
func WithRetry(policy RetryPolicy) PolicyOption { return retryOption{policy} }

// WithMaxAttempts is WithRetry with nothing but MaxAttempts.
func WithMaxAttempts(n int) PolicyOption { return retryOption{RetryPolicy{MaxAttempts: n}} }

type attemptTimeoutOption time.Duration

func (o attemptTimeoutOption) applyJob(s *JobSpec) {
	s.message.AttemptTimeout = durationpb.New(time.Duration(o))
}
func (o attemptTimeoutOption) applyTask(t *taskSettings) {
	t.message.AttemptTimeout = durationpb.New(time.Duration(o))
}

// WithAttemptTimeout limits one attempt, from its start; 0: no limit. Server's default: 30 min.
func WithAttemptTimeout(d time.Duration) PolicyOption { return attemptTimeoutOption(d) }

// ---- on its way out ----

// outgoing makes the message that is sent: routed, and with the payload as the codec wants it.
func (c *Client) outgoing(s *JobSpec) (*pb.JobSpec, error) {
	if s.err != nil {
		return nil, s.err
	}
	payload, err := c.encode(s.payload)
	if err != nil {
		return nil, err
	}
	result := copySpec(s.message)
	result.Payload = payload.proto()
	if !s.queueIsGiven {
		result.Queue = c.route(result.Task)
	}
	return result, nil
}

// outgoingIn does the same for a job of a chain or batch.
func (c *Client) outgoingIn(flowIsNamed bool, s *JobSpec) (*pb.JobSpec, error) {
	message, err := c.outgoing(s)
	if err == nil && flowIsNamed && !s.idIsGiven {
		message.Id = ""
	}
	return message, err
}

// copySpec copies what is set: messages are not to be copied as values, and proto.Clone is slow on the way of every job.
func copySpec(m *pb.JobSpec) *pb.JobSpec {
	return &pb.JobSpec{
		Id: m.Id, Task: m.Task, Queue: m.Queue, Priority: m.Priority, Start: m.Start, Expiry: m.Expiry, TotalTimeout: m.TotalTimeout,
		AttemptTimeout: m.AttemptTimeout, RetryPolicy: m.RetryPolicy, Labels: m.Labels, UniqueKey: m.UniqueKey,
		ConcurrencyKey: m.ConcurrencyKey, Retention: m.Retention, Traceparent: m.Traceparent, Tracestate: m.Tracestate,
		WantsPreviousResult: m.WantsPreviousResult,
	}
}

// withTrace is the spec with a trace context; the original stays as it is.
func (s *JobSpec) withTrace(traceparent, tracestate string) *JobSpec {
	result := *s
	result.message = copySpec(s.message)
	result.message.Traceparent, result.message.Tracestate = traceparent, tracestate
	return &result
}

// template is outgoing for what is not a job yet: schedules, callbacks.
func (c *Client) template(s *JobSpec) (*pb.JobSpec, error) {
	if s == nil {
		return nil, nil
	}
	result, err := c.outgoing(s)
	if err == nil && !s.idIsGiven {
		result.Id = ""
	}
	return result, err
}

func (c *Client) encode(p Payload) (Payload, error) {
	if c.options.codec == nil || p.IsEmpty() {
		return p, nil
	}
	encoded, err := c.options.codec.Encode(p)
	if err != nil {
		return p, &Error{Kind: ErrInvalidArgument, Field: "payload", Message: "the codec cannot encode the payload: " + err.Error(), cause: err}
	}
	return encoded, checkPayload(encoded)
}

func (c *Client) decode(message *pb.Payload) (Payload, error) {
	p := payloadOf(message)
	if c.options.codec == nil || p.IsEmpty() {
		return p, nil
	}
	decoded, err := c.options.codec.Decode(p)
	if err != nil {
		return p, &Error{Kind: ErrInvalidArgument, Field: "payload", Message: "the codec cannot decode the payload: " + err.Error(), cause: err}
	}
	return decoded, nil
}
