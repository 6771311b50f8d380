// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	// The longest wait that the server takes is 10 minutes; a shorter one notices sooner that a connection is dead.
	waitSliceMax = time.Minute
	// What a call may take on top of the time-out that the server was told.
	waitSlack       = 10 * time.Second
	waitRetryDelay  = 100 * time.Millisecond
	waitRetryDelays = 5
)

// Get tells how a job stands, with payload, result and history. ErrJobNotFound if there is none.
func (c *Client) Get(ctx context.Context, id string) (*Job, error) {
	response, err := invokeJob(ctx, c, c.jobs.GetJob, &pb.GetJobRequest{Id: id})
	if err != nil {
		return nil, err
	}
	return c.jobOf(response.GetJob())
}

// GetWithLog is Get, and the job's log, oldest line first.
func (c *Client) GetWithLog(ctx context.Context, id string) (*Job, []LogLine, error) {
	response, err := invokeJob(ctx, c, c.jobs.GetJob, &pb.GetJobRequest{Id: id, WithLog: true})
	if err != nil {
		return nil, nil, err
	}
	job, err := c.jobOf(response.GetJob())
	var lines []LogLine
	for _, line := range response.GetLog() {
		lines = append(lines, LogLine{Time: time.UnixMilli(line.TimeUnixMs).UTC(), Text: line.Text, Delivery: int(line.Delivery)})
	}
	return job, lines, err
}

// Wait waits until the job has ended, and returns it however it ended: Job.Err tells about that. It waits as long as ctx allows,
// through restarts of the server too. When ctx's deadline passes first, the error is ErrWaitTimeout, and the job, if it was seen at
// all, is returned as it was at last.
func (c *Client) Wait(ctx context.Context, id string) (*Job, error) {
	var job *Job
	err := c.waitInSlices(ctx, func(ctx context.Context, slice time.Duration) (bool, error) {
		response, err := c.jobs.WaitJob(ctx, &pb.WaitJobRequest{Id: id, Timeout: durationpb.New(slice)})
		if err != nil {
			return false, callError(err, true)
		}
		job, err = c.jobOf(response.GetJob())
		return err == nil && job.IsTerminal(), err
	})
	if errors.Is(err, ErrWaitTimeout) {
		timeout := &WaitTimeoutError{ID: id, State: "not known"}
		if job != nil {
			timeout.State, timeout.Reason = string(job.State), job.WaitingReason
		}
		err = timeout
	}
	return job, err
}

// waitInSlices asks until what is waited for has ended, ctx is over, or there is an error that another try can't help.
func (c *Client) waitInSlices(ctx context.Context, ask func(context.Context, time.Duration) (ended bool, err error)) error {
	for try := 0; ; {
		slice := waitSliceMax
		end, limited := ctx.Deadline()
		if limited {
			slice = min(slice, time.Until(end))
		}
		ended, err := c.waitOnce(ctx, max(slice, 0), ask)
		switch {
		case err == nil && ended:
			return nil
		case err == nil:
			try = 0
		case ctx.Err() == nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		if limited && !time.Now().Before(end) {
			return ErrWaitTimeout
		}
		if ctx.Err() != nil {
			return callError(ctx.Err(), true)
		}
		if err != nil {
			if !pause(ctx, waitRetryDelay<<min(try, waitRetryDelays)) {
				continue // the next round tells why
			}
			try++
		}
	}
}

// waitOnce makes one call. Its own deadline is a little behind ctx's, so that at the end the server still answers with the state.
func (c *Client) waitOnce(ctx context.Context, slice time.Duration, ask func(context.Context, time.Duration) (bool, error)) (bool, error) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), slice+waitSlack)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cancel()
		}
	})
	defer stop()
	return ask(call, slice)
}

// pause sleeps, but not longer than ctx lasts. False: ctx is over.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Filter says which jobs. All conditions must hold; within a list any.
type Filter struct {
	IDs              []string
	Queues           []string
	Tasks            []string
	States           []State
	Priorities       []Priority
	Labels           map[string]string
	BatchID          string
	ChainID          string
	ScheduleName     string
	CreatedAfter     time.Time
	CreatedBefore    time.Time
	ErrorFingerprint string
}

func (f Filter) proto() (*pb.JobFilter, error) {
	result := &pb.JobFilter{
		Ids: f.IDs, Queues: f.Queues, Tasks: f.Tasks, Labels: f.Labels, BatchId: f.BatchID, ChainId: f.ChainID,
		ScheduleName: f.ScheduleName, CreatedAfter: timeProto(f.CreatedAfter), CreatedBefore: timeProto(f.CreatedBefore),
		ErrorFingerprint: f.ErrorFingerprint,
	}
	for _, state := range f.States {
		value, err := stateProto(state)
		if err != nil {
			return nil, err
		}
		result.States = append(result.States, value)
	}
	for _, priority := range f.Priorities {
		result.Priorities = append(result.Priorities, priority.proto())
	}
	return result, nil
}

// pages walks through a list whose pages are fetched as they are needed. An error is the last thing yielded.
func pages[T any](fetch func(token string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			items, next, err := fetch(token)
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

// List yields the jobs that match, in the order of the server's keys, without payloads and results.
func (c *Client) List(ctx context.Context, filter Filter) iter.Seq2[*Job, error] {
	return c.list(ctx, filter, pb.View_VIEW_BASIC)
}

// ListFull is List with payloads, results and history.
func (c *Client) ListFull(ctx context.Context, filter Filter) iter.Seq2[*Job, error] {
	return c.list(ctx, filter, pb.View_VIEW_FULL)
}

func (c *Client) list(ctx context.Context, filter Filter, view pb.View) iter.Seq2[*Job, error] {
	return pages(func(token string) ([]*Job, string, error) {
		condition, err := filter.proto()
		if err != nil {
			return nil, "", err
		}
		response, err := invoke(ctx, c, c.jobs.ListJobs, &pb.ListJobsRequest{Filter: condition, PageToken: token, View: view, PageSize: 1000})
		if err != nil {
			return nil, "", err
		}
		jobs := make([]*Job, len(response.GetJobs()))
		for i, message := range response.GetJobs() {
			if jobs[i], err = c.jobOf(message); err != nil {
				return jobs[:i], "", err
			}
		}
		return jobs, response.GetNextPageToken(), nil
	})
}

// Event is what Watch tells.
type Event struct {
	// Job as it is now, without payload and result; nil in the event InitialDone.
	Job *Job
	// InitialDone: the state of every match has been told; changes follow.
	InitialDone bool
	// Deleted: the job was removed.
	Deleted bool
}

// Watch yields the state of every match, then InitialDone, then every change in order, until ctx is over or the loop is left. A
// reader that is too slow gets ErrResourceExhausted. To go on after an error is to start over. Of all calls this alone has no
// deadline but ctx's.
func (c *Client) Watch(ctx context.Context, filter Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		condition, err := filter.proto()
		if err != nil {
			yield(Event{}, err)
			return
		}
		stream, err := c.jobs.WatchJobs(ctx, &pb.WatchJobsRequest{Filter: condition})
		for err == nil {
			var message *pb.WatchJobsResponse
			if message, err = stream.Recv(); err != nil {
				break
			}
			event := Event{InitialDone: message.GetInitialDone(), Deleted: message.GetDeleted()}
			if message.GetJob() != nil {
				if event.Job, err = c.jobOf(message.GetJob()); err != nil {
					break
				}
			}
			if !yield(event, nil) {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			err = &Error{Kind: ErrUnavailable, Message: "the server has ended the watch"}
		}
		yield(Event{}, callError(err, true))
	}
}

// CancelOption says how to cancel.
type CancelOption func(*cancelOptions)

type cancelOptions struct {
	terminate bool
	reason    string
}

// Terminate stops by force a handler that does not stop by itself: it has a grace, then its worker process ends.
func Terminate() CancelOption { return func(o *cancelOptions) { o.terminate = true } }

// Reason is kept as the error's message.
func Reason(text string) CancelOption { return func(o *cancelOptions) { o.reason = text } }

func cancelling(options []CancelOption) cancelOptions {
	var result cancelOptions
	for _, option := range options {
		option(&result)
	}
	return result
}

// Cancel ends a waiting job at once and asks a running one to stop. False: it had ended already.
func (c *Client) Cancel(ctx context.Context, id string, options ...CancelOption) (accepted bool, err error) {
	o := cancelling(options)
	response, err := invokeJob(ctx, c, c.jobs.CancelJob, &pb.CancelJobRequest{Id: id, Terminate: o.terminate, Reason: o.reason})
	return response.GetAccepted(), err
}

// CancelMatching cancels all jobs that match, and tells how many. An empty filter is refused.
func (c *Client) CancelMatching(ctx context.Context, filter Filter, options ...CancelOption) (int, error) {
	o := cancelling(options)
	condition, err := filter.proto()
	if err != nil {
		return 0, err
	}
	for total := 0; ; {
		response, err := invokeJob(ctx, c, c.jobs.CancelJobs,
			&pb.CancelJobsRequest{Filter: condition, Terminate: o.terminate, Reason: o.reason})
		total += int(response.GetCancelled())
		if err != nil || !response.GetMore() {
			return total, err
		}
	}
}

// Retry starts an ended job that did not succeed anew, as the next generation.
func (c *Client) Retry(ctx context.Context, id string) (*Job, error) {
	response, err := invokeJob(ctx, c, c.jobs.RetryJob, &pb.RetryJobRequest{Id: id})
	if err != nil {
		return nil, err
	}
	return c.jobOf(response.GetJob())
}

// RetryMatching retries all jobs that match (by default only failed ones), and tells how many, and how many could not be because
// their unique key is taken. An empty filter is refused.
func (c *Client) RetryMatching(ctx context.Context, filter Filter) (retried, refused int, err error) {
	condition, err := filter.proto()
	if err != nil {
		return 0, 0, err
	}
	for {
		response, err := invokeJob(ctx, c, c.jobs.RetryJobs, &pb.RetryJobsRequest{Filter: condition})
		retried += int(response.GetRetried())
		refused += int(response.GetRefused())
		if err != nil || !response.GetMore() {
			return retried, refused, err
		}
	}
}

// Change is what Update changes of a waiting job; nil and zero values stay as they are.
type Change struct {
	Priority  *Priority
	RunAt     time.Time
	ExpiresAt time.Time
	Deadline  time.Time
	Retry     *RetryPolicy
	// Labels replaces all labels, if not nil.
	Labels map[string]string
}

// Update changes a waiting job. ErrFailedPrecondition if it runs or has ended.
func (c *Client) Update(ctx context.Context, id string, change Change) (*Job, error) {
	request := &pb.UpdateJobRequest{
		Id: id, RunAt: timeProto(change.RunAt), ExpiresAt: timeProto(change.ExpiresAt), Deadline: timeProto(change.Deadline),
		RetryPolicy: change.Retry.proto(),
	}
	if change.Priority != nil {
		request.Priority = change.Priority.proto()
	}
	if change.Labels != nil {
		request.Labels = &pb.Labels{Labels: change.Labels}
	}
	response, err := invokeJob(ctx, c, c.jobs.UpdateJob, request)
	if err != nil {
		return nil, err
	}
	return c.jobOf(response.GetJob())
}

// Delete removes an ended job. ErrFailedPrecondition if it has not ended.
func (c *Client) Delete(ctx context.Context, id string) error {
	_, err := invokeJob(ctx, c, c.jobs.DeleteJob, &pb.DeleteJobRequest{Id: id})
	return err
}
