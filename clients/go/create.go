// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	jobsPerCallMax  = 1000
	bytesPerCallMax = 3 << 20 // of the server's 4 MiB a request
)

// Created is the answer to a create.
type Created struct {
	// ID of the job. It is set even beside an error, so that a create whose outcome is unknown (ErrUnavailable, a deadline) can be
	// sent again with WithID and makes no second job.
	ID string
	// Existing: it was there already.
	Existing bool
}

// Outcome is the answer to one create among many.
type Outcome struct {
	Created
	// Err is nil if the job was created, or was there.
	Err error
}

// Create creates a job for the handler named task. When it returns without an error, the job is on the server's disk. What many
// goroutines create while a call is under way goes out together as the next call.
func (c *Client) Create(ctx context.Context, task string, payload any, options ...JobOption) (Created, error) {
	return c.CreateJob(ctx, NewJob(task, payload, options...))
}

// CreateJob is Create for a spec.
func (c *Client) CreateJob(ctx context.Context, spec *JobSpec) (created Created, err error) {
	spec, end := c.traced(ctx, spec)
	defer func() { end(err) }()
	created.ID = spec.ID()
	message, err := c.outgoing(spec)
	if err != nil {
		return created, err
	}
	if c.options.coalescing {
		ctx, cancel := c.deadline(ctx)
		defer cancel()
		outcome := c.coalescer.create(ctx, message)
		if outcome.ID == "" {
			outcome.ID = spec.ID()
		}
		return outcome.Created, outcome.Err
	}
	response, err := invokeJob(ctx, c, c.jobs.CreateJob, &pb.CreateJobRequest{Job: message})
	if err != nil {
		return created, err
	}
	return Created{ID: response.GetJob().GetId(), Existing: response.GetExisting()}, nil
}

// CreateMany creates jobs in as few calls as possible, and tells the outcome of each in the order of specs. The error tells that a
// whole call failed; the outcomes of the jobs that it carried, and of those behind them, then carry it too.
func (c *Client) CreateMany(ctx context.Context, specs ...*JobSpec) ([]Outcome, error) {
	outcomes := make([]Outcome, len(specs))
	ends := make([]func(error), len(specs))
	var chunk chunk
	var fault error
	flush := func() {
		if fault == nil {
			fault = c.createChunk(ctx, &chunk, outcomes)
		}
		for _, at := range chunk.places {
			if fault != nil && outcomes[at].Err == nil && !outcomes[at].Existing {
				outcomes[at].Err = fault
			}
		}
		chunk.reset()
	}
	for i, spec := range specs {
		spec, ends[i] = c.traced(ctx, spec)
		outcomes[i].ID = spec.ID()
		message, err := c.outgoing(spec)
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		if !chunk.fits(message) {
			flush()
		}
		chunk.add(message, i)
	}
	flush()
	for i, end := range ends {
		end(outcomes[i].Err)
	}
	return outcomes, fault
}

func (c *Client) createChunk(ctx context.Context, chunk *chunk, outcomes []Outcome) error {
	if len(chunk.jobs) == 0 {
		return nil
	}
	response, err := invokeJob(ctx, c, c.jobs.CreateJobs, &pb.CreateJobsRequest{Jobs: chunk.jobs})
	if err != nil {
		return err
	}
	if err := checkCount(response.GetOutcomes(), len(chunk.jobs)); err != nil {
		return err
	}
	for i, outcome := range response.GetOutcomes() {
		at := chunk.places[i]
		outcomes[at] = outcomeOf(outcome, i, fmt.Sprintf("jobs[%d]", at), chunk.jobs[i].Id)
	}
	return nil
}

// checkCount refuses an answer that is about more or fewer jobs than were sent: nobody knows then what became of which.
func checkCount(outcomes []*pb.CreateOutcome, jobs int) error {
	if len(outcomes) == jobs {
		return nil
	}
	return &Error{Kind: ErrInternal, Message: fmt.Sprintf("the server's answer has %d outcomes for %d jobs", len(outcomes), jobs)}
}

func outcomeOf(message *pb.CreateOutcome, i int, as, id string) Outcome {
	if message.GetId() != "" {
		id = message.GetId()
	}
	return Outcome{Created: Created{ID: id, Existing: message.GetExisting()}, Err: outcomeError(message.GetError(), i, as)}
}

// chunk gathers jobs for one call.
type chunk struct {
	jobs   []*pb.JobSpec
	places []int
	bytes  int
}

func (k *chunk) fits(job *pb.JobSpec) bool {
	return len(k.jobs) == 0 || (len(k.jobs) < jobsPerCallMax && k.bytes+proto.Size(job) <= bytesPerCallMax)
}

func (k *chunk) add(job *pb.JobSpec, place int) {
	k.jobs = append(k.jobs, job)
	k.places = append(k.places, place)
	k.bytes += proto.Size(job)
}

func (k *chunk) reset() { *k = chunk{} }

// ---- coalescing ----

// coalescer sends what was given to it while a call was under way as one call.
type coalescer struct {
	send func([]*pendingCreate)

	lock    sync.Mutex
	waiting []*pendingCreate
	busy    bool
}

type pendingCreate struct {
	ctx     context.Context
	job     *pb.JobSpec
	outcome chan Outcome
}

func (q *coalescer) create(ctx context.Context, job *pb.JobSpec) Outcome {
	pending := &pendingCreate{ctx: ctx, job: job, outcome: make(chan Outcome, 1)}
	q.lock.Lock()
	q.waiting = append(q.waiting, pending)
	if !q.busy {
		q.busy = true
		go q.work()
	}
	q.lock.Unlock()
	select {
	case outcome := <-pending.outcome:
		return outcome
	case <-ctx.Done():
		return Outcome{Err: callError(ctx.Err(), true)}
	}
}

func (q *coalescer) work() {
	for {
		q.lock.Lock()
		batch := q.take()
		q.busy = len(batch) > 0
		q.lock.Unlock()
		if len(batch) == 0 {
			return
		}
		q.send(batch)
	}
}

// take removes the next callers' jobs, as many as fit into a call; those whose callers have left are not sent at all.
func (q *coalescer) take() []*pendingCreate {
	var batch []*pendingCreate
	bytes, taken := 0, 0
	for _, pending := range q.waiting {
		size := proto.Size(pending.job)
		if len(batch) == jobsPerCallMax || (len(batch) > 0 && bytes+size > bytesPerCallMax) {
			break
		}
		taken++
		if pending.ctx.Err() == nil {
			batch = append(batch, pending)
			bytes += size
		}
	}
	q.waiting = q.waiting[taken:]
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	return batch
}

// createTogether is what the coalescer sends with. The call belongs to no single caller: it lasts as long as one of them waits.
func (c *Client) createTogether(batch []*pendingCreate) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := cancelWhenAllLeft(batch, cancel)
	defer stop()
	request := &pb.CreateJobsRequest{Jobs: make([]*pb.JobSpec, len(batch))}
	for i, pending := range batch {
		request.Jobs[i] = pending.job
	}
	response, err := c.jobs.CreateJobs(ctx, request)
	if err == nil {
		err = checkCount(response.GetOutcomes(), len(batch))
	}
	for i, pending := range batch {
		if err != nil {
			pending.outcome <- Outcome{Err: callError(err, true)}
		} else {
			pending.outcome <- outcomeOf(response.GetOutcomes()[i], i, "job", pending.job.Id)
		}
	}
}

// cancelWhenAllLeft ends the call once nobody waits for it any more. Each caller has a deadline, so the call has one too.
func cancelWhenAllLeft(batch []*pendingCreate, cancel context.CancelFunc) (stop func()) {
	var lock sync.Mutex
	left := 0
	stops := make([]func() bool, len(batch))
	for i, pending := range batch {
		stops[i] = context.AfterFunc(pending.ctx, func() {
			lock.Lock()
			defer lock.Unlock()
			if left++; left == len(batch) {
				cancel()
			}
		})
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}
