// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// BatchSpec is many jobs that are counted together. Items run as soon as they are there.
type BatchSpec struct {
	// ID is a UUID. Default: CreateBatch makes one.
	ID string
	// Description is for people.
	Description string
	// Defaults is what items leave unset; its payload must be nil. A task may be "" in items then.
	Defaults *JobSpec
	// OnSuccess is created once, in the moment the last member succeeds, if all did.
	OnSuccess *JobSpec
	// OnComplete is created once, in the moment the last member ends.
	OnComplete *JobSpec
	// Items at hand, as many as one likes. More can be added with BatchWriter.
	Items iter.Seq[*JobSpec]
	// Open: do not seal it after Items; more will come.
	Open bool
}

// Batch is a batch as it was when the server was asked.
type Batch struct {
	ID string
	// State: open, sealed, succeeded, failed or cancelled.
	State       State
	Description string
	// Total members so far, and how they stand.
	Total, Pending, Succeeded, Failed, Cancelled, Expired int
	// LastChunk is the number of the last chunk taken.
	LastChunk       int
	CreatedAt       time.Time
	FinishedAt      time.Time
	OnSuccessJobID  string
	OnCompleteJobID string
}

func batchOf(m *pb.Batch) *Batch {
	return &Batch{
		ID: m.GetId(), State: State(wireName(m.GetState().String(), "BATCH_STATE_")), Description: m.GetDescription(),
		Total: int(m.GetTotal()), Pending: int(m.GetPending()), Succeeded: int(m.GetSucceeded()), Failed: int(m.GetFailed()),
		Cancelled: int(m.GetCancelled()), Expired: int(m.GetExpired()), LastChunk: int(m.GetLastChunk()),
		CreatedAt: timeOf(m.GetCreatedAt()), FinishedAt: timeOf(m.GetFinishedAt()), OnSuccessJobID: m.GetOnSuccessJobId(),
		OnCompleteJobID: m.GetOnCompleteJobId(),
	}
}

func batchResult(m *pb.Batch, err error) (*Batch, error) {
	if err != nil {
		return nil, err
	}
	return batchOf(m), nil
}

// BatchItemError is why the server refused an item, because its id or unique key is taken for instance. It is not a member then.
type BatchItemError struct {
	// Item is its place among those that were added, from 0.
	Item int
	// Err is the refusal.
	Err error
}

// Error tells which and why.
func (e *BatchItemError) Error() string { return fmt.Sprintf("item %d: %v", e.Item, e.Err) }

// Unwrap gives the refusal.
func (e *BatchItemError) Unwrap() error { return e.Err }

// CreateBatch creates a batch with its items, in chunks if they are many, and seals it unless spec says Open. When items were refused
// the batch comes with an error that joins a BatchItemError for each (errors.As finds the first, Unwrap() []error has all): those are
// not members, all others are. On any other error sending the same spec again, with an ID, goes on where it ended.
func (c *Client) CreateBatch(ctx context.Context, spec BatchSpec) (*Batch, error) {
	request, err := c.batchRequest(spec)
	if err != nil {
		return nil, err
	}
	items := spec.Items
	if items == nil {
		items = func(func(*JobSpec) bool) {}
	}
	next, stop := iter.Pull(items)
	defer stop()
	writer := &BatchWriter{client: c, ctx: ctx, hasDefaults: spec.Defaults != nil, isNamed: spec.ID != ""}
	var held *pb.JobSpec
	for held == nil {
		item, more := next()
		if !more {
			break
		}
		if held, err = writer.gather(item); err != nil {
			return nil, err
		}
	}
	request.Items, request.Seal = writer.chunk.jobs, held == nil && !spec.Open
	response, err := invoke(ctx, c, c.batches.CreateBatch, request)
	var refused []error
	if err == nil {
		refused, err = writer.taken(response.GetOutcomes(), response.GetExisting())
	}
	if err != nil {
		writer.end(err)
		return nil, err
	}
	writer.batch = batchOf(response.GetBatch())
	writer.number = 2
	if held == nil {
		return writer.batch, errors.Join(refused...)
	}
	writer.chunk.add(held, writer.added-1)
	for item, more := next(); more; item, more = next() {
		more, err := writer.add(item)
		refused = append(refused, more...)
		if err != nil {
			writer.end(err)
			return writer.batch, errors.Join(append(refused, err)...)
		}
	}
	batch, more, err := writer.finish(!spec.Open)
	refused = append(refused, more...)
	return batch, errors.Join(append(refused, err)...)
}

func (c *Client) batchRequest(spec BatchSpec) (*pb.CreateBatchRequest, error) {
	result := &pb.CreateBatchRequest{Id: spec.ID, Description: spec.Description}
	if result.Id == "" {
		result.Id = newID()
	}
	for _, part := range []struct {
		name string
		spec *JobSpec
		to   **pb.JobSpec
	}{
		{"defaults", spec.Defaults, &result.Defaults},
		{"on success", spec.OnSuccess, &result.OnSuccess},
		{"on complete", spec.OnComplete, &result.OnComplete},
	} {
		var err error
		if *part.to, err = c.template(part.spec); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return result, nil
}

// BatchWriter adds items to a batch in chunks: it gathers up to 1,000 for each, and may be used by one goroutine at a time. A chunk
// that was not answered, because the connection broke, is sent again under its number, which adds nothing twice. After an error of a
// call a new writer, for what GetBatch answers, goes on behind the last chunk that the batch has.
type BatchWriter struct {
	client      *Client
	ctx         context.Context
	batch       *Batch
	hasDefaults bool
	isNamed     bool // the batch's id is the caller's
	chunk       chunk
	number      int
	added       int
	ends        []func(error)
	broken      error // a call failed: nothing goes on
}

// WriteBatch makes a writer for an open batch, which goes on after the last chunk that the batch has.
func (c *Client) WriteBatch(ctx context.Context, batch *Batch) *BatchWriter {
	return &BatchWriter{client: c, ctx: ctx, batch: batch, number: batch.LastChunk + 1}
}

// Add adds one item. An error may be about items added before, as items travel in chunks: a BatchItemError for each that the server
// refused, which keeps no other item from being added.
func (w *BatchWriter) Add(item *JobSpec) error {
	refused, err := w.add(item)
	return errors.Join(append(refused, err)...)
}

// add keeps apart what was refused, and what stops the writer.
func (w *BatchWriter) add(item *JobSpec) (refused []error, err error) {
	held, err := w.gather(item)
	if err != nil || held == nil {
		return nil, err
	}
	if refused, err = w.send(false); err == nil {
		w.chunk.add(held, w.added-1)
	}
	return refused, err
}

// gather puts an item into the chunk, or returns it because it does not fit any more; it counts as added either way.
func (w *BatchWriter) gather(item *JobSpec) (held *pb.JobSpec, err error) {
	if w.broken != nil {
		return nil, w.broken
	}
	item, end := w.client.traced(w.ctx, item)
	message, err := w.client.outgoingIn(w.isNamed, item)
	if err != nil {
		end(err)
		return nil, err
	}
	if w.hasDefaults && !item.queueIsGiven {
		message.Queue = ""
	}
	w.added++
	w.ends = append(w.ends, end)
	if !w.chunk.fits(message) {
		return message, nil
	}
	w.chunk.add(message, w.added-1)
	return nil, nil
}

// taken takes note that the chunk was taken, and returns the refusals of items. A chunk that was taken before has no outcomes.
func (w *BatchWriter) taken(outcomes []*pb.CreateOutcome, before bool) (refused []error, err error) {
	if !before {
		if err := checkCount(outcomes, len(w.chunk.jobs)); err != nil {
			return nil, err
		}
	}
	for i, outcome := range outcomes {
		err := outcomeError(outcome.GetError(), i, fmt.Sprintf("items[%d]", w.chunk.places[i]))
		w.ends[i](err)
		if err != nil {
			refused = append(refused, &BatchItemError{Item: w.chunk.places[i], Err: err})
		}
	}
	for _, end := range w.ends[len(outcomes):len(w.chunk.jobs)] {
		end(nil)
	}
	w.ends = w.ends[len(w.chunk.jobs):]
	w.number++
	w.chunk.reset()
	return refused, nil
}

// end closes the spans of what is not sent any more.
func (w *BatchWriter) end(err error) {
	for _, end := range w.ends {
		end(err)
	}
	w.ends = nil
}

// Flush sends what was gathered and tells how the batch stands. Its error is like that of Add.
func (w *BatchWriter) Flush() (*Batch, error) {
	batch, refused, err := w.finish(false)
	return batch, errors.Join(append(refused, err)...)
}

// Seal sends what was gathered: no more items will come, and the batch ends when its members have. Its error is like that of Add.
func (w *BatchWriter) Seal() (*Batch, error) {
	batch, refused, err := w.finish(true)
	return batch, errors.Join(append(refused, err)...)
}

func (w *BatchWriter) finish(seal bool) (batch *Batch, refused []error, err error) {
	if len(w.chunk.jobs) == 0 && seal {
		batch, err = w.client.SealBatch(w.ctx, w.batch.ID)
		return batch, nil, err
	}
	if len(w.chunk.jobs) > 0 {
		if refused, err = w.send(seal); err != nil {
			return w.batch, nil, err
		}
	}
	batch, err = w.client.GetBatch(w.ctx, w.batch.ID)
	return batch, refused, err
}

func (w *BatchWriter) send(last bool) (refused []error, err error) {
	if w.broken != nil {
		return nil, w.broken
	}
	request := &pb.AddBatchItemsRequest{BatchId: w.batch.ID, Chunk: uint32(w.number), Items: w.chunk.jobs, Last: last}
	response, err := w.client.addChunk(w.ctx, request)
	if err == nil {
		refused, err = w.taken(response.GetOutcomes(), response.GetRepeatedChunk())
	}
	if err != nil {
		w.broken = err
		w.end(err)
	}
	return refused, err
}

// AddBatchItems adds one chunk under a number of the caller's (1, 2, … without a gap over the batch's life), and tells the outcome of
// each item. A chunk whose number was taken before changes nothing, and is answered without outcomes, which the server does not keep:
// who needs the ids gives the items ids, or lists the batch's jobs. last seals the batch. BatchWriter counts by itself.
func (c *Client) AddBatchItems(ctx context.Context, id string, number int, last bool, items ...*JobSpec) ([]Outcome, error) {
	request := &pb.AddBatchItemsRequest{BatchId: id, Chunk: uint32(max(number, 0)), Last: last}
	var fault error
	outcomes := make([]Outcome, len(items))
	for i, item := range items {
		item, end := c.traced(ctx, item)
		defer func() { end(errors.Join(fault, outcomes[i].Err)) }()
		var message *pb.JobSpec
		if message, fault = c.outgoing(item); fault != nil {
			return nil, fmt.Errorf("item %d: %w", i, fault)
		}
		request.Items = append(request.Items, message)
	}
	var response *pb.AddBatchItemsResponse
	response, fault = c.addChunk(ctx, request)
	if fault != nil {
		return nil, fault
	}
	if response.GetRepeatedChunk() {
		return nil, nil
	}
	if fault = checkCount(response.GetOutcomes(), len(items)); fault != nil {
		return nil, fault
	}
	for i, outcome := range response.GetOutcomes() {
		outcomes[i] = outcomeOf(outcome, i, fmt.Sprintf("items[%d]", i), request.Items[i].Id)
	}
	return outcomes, nil
}

// addChunk sends one chunk over a stream of its own: the number makes sending again safe.
func (c *Client) addChunk(ctx context.Context, request *pb.AddBatchItemsRequest) (*pb.AddBatchItemsResponse, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	for try := 1; ; try++ {
		response, err := c.addChunkOnce(ctx, request)
		if err == nil || try == streamTries || !errors.Is(err, ErrUnavailable) {
			return response, err
		}
		if !pause(ctx, streamBackoff<<try) {
			return nil, err
		}
	}
}

func (c *Client) addChunkOnce(ctx context.Context, request *pb.AddBatchItemsRequest) (*pb.AddBatchItemsResponse, error) {
	stream, err := c.batches.AddBatchItems(ctx)
	if err != nil {
		return nil, callError(err, false)
	}
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, callError(err, false)
	}
	response, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, &Error{Kind: ErrUnavailable, Message: "the server has ended the stream without an answer"}
	}
	if err != nil {
		return nil, callError(err, false)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, callError(err, false)
	}
	_, _ = stream.Recv() // lets the stream end in good order; the answer is there already
	return response, nil
}

// SealBatch says that no more items will come.
func (c *Client) SealBatch(ctx context.Context, id string) (*Batch, error) {
	response, err := invoke(ctx, c, c.batches.SealBatch, &pb.SealBatchRequest{Id: id})
	return batchResult(response.GetBatch(), err)
}

// GetBatch tells how a batch stands.
func (c *Client) GetBatch(ctx context.Context, id string) (*Batch, error) {
	response, err := invoke(ctx, c, c.batches.GetBatch, &pb.GetBatchRequest{Id: id})
	return batchResult(response.GetBatch(), err)
}

// WaitBatch waits until the batch has ended, as Wait does for a job.
func (c *Client) WaitBatch(ctx context.Context, id string) (*Batch, error) {
	var batch *Batch
	err := c.waitInSlices(ctx, func(ctx context.Context, slice time.Duration) (bool, error) {
		response, err := c.batches.WaitBatch(ctx, &pb.WaitBatchRequest{Id: id, Timeout: durationpb.New(slice)})
		if err != nil {
			return false, callError(err, false)
		}
		batch = batchOf(response.GetBatch())
		return batch.State.IsTerminal(), nil
	})
	if errors.Is(err, ErrWaitTimeout) {
		timeout := &WaitTimeoutError{ID: id, State: "not known"}
		if batch != nil {
			timeout.State = string(batch.State)
		}
		err = timeout
	}
	return batch, err
}

// Batches yields all batches, by id.
func (c *Client) Batches(ctx context.Context) iter.Seq2[*Batch, error] {
	return pages(func(token string) ([]*Batch, string, error) {
		response, err := invoke(ctx, c, c.batches.ListBatches, &pb.ListBatchesRequest{PageToken: token})
		var result []*Batch
		for _, message := range response.GetBatches() {
			result = append(result, batchOf(message))
		}
		return result, response.GetNextPageToken(), err
	})
}

// CancelBatch seals the batch and cancels the members that have not ended. False: it had ended already.
func (c *Client) CancelBatch(ctx context.Context, id string, options ...CancelOption) (accepted bool, err error) {
	o := cancelling(options)
	response, err := invoke(ctx, c, c.batches.CancelBatch, &pb.CancelBatchRequest{Id: id, Terminate: o.terminate, Reason: o.reason})
	return response.GetAccepted(), err
}
