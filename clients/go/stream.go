// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	chunksUnderWayMax = 4
	streamTries       = 5
	streamBackoff     = 100 * time.Millisecond
)

// CreateStream creates the jobs of a sequence over one stream, the fastest way in, and yields their outcomes in order. What the
// sequence has ready goes out together; a slow one sends job by job. A stream that breaks is opened anew, and what was not
// answered is sent again, which makes no second job. If that does not help the last pair carries the error, and what had been
// sent without an answer may have been created or not. The sequence runs in a goroutine of its own, and is asked
// for at most one more element after the loop was left.
func (c *Client) CreateStream(ctx context.Context, specs iter.Seq[*JobSpec]) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		s := &createStream{client: c, source: make(chan *JobSpec, jobsPerCallMax)}
		go func() {
			defer close(s.source)
			for spec := range specs {
				select {
				case s.source <- spec:
				case <-ctx.Done():
					return
				}
			}
		}()
		err := s.run(ctx, func(outcome Outcome) bool { return yield(outcome, nil) })
		cancel()
		if err != nil && !errors.Is(err, errLeft) {
			yield(Outcome{}, callError(err, true))
		}
	}
}

// errLeft: the caller's loop has ended early.
var errLeft = errors.New("the caller has left")

// createStream is one run of CreateStream. What was sent and not answered stays in underWay, over all streams that it takes.
type createStream struct {
	client   *Client
	source   chan *JobSpec
	ended    bool // source is drained
	held     *streamItem
	count    int
	underWay []*streamChunk
}

type streamItem struct {
	message *pb.JobSpec
	outcome Outcome
	end     func(error)
}

// streamChunk is one message; its items include those that were refused before sending.
type streamChunk struct {
	chunk chunk
	items []*streamItem
	first int
}

func (s *createStream) run(ctx context.Context, yield func(Outcome) bool) error {
	for try := 0; ; {
		answered, err := s.once(ctx, yield)
		if err == nil || errors.Is(err, errLeft) || ctx.Err() != nil {
			return err
		}
		if answered {
			try = 0
		}
		if try++; try >= streamTries || !errors.Is(callError(err, true), ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(streamBackoff << try):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type jobStream = grpc.BidiStreamingClient[pb.CreateJobsStreamRequest, pb.CreateJobsStreamResponse]

// once works over one stream until the source is drained and everything answered, or until it breaks.
func (s *createStream) once(ctx context.Context, yield func(Outcome) bool) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A stream has no deadline as a whole, but each answer has.
	watchdog := time.AfterFunc(s.client.options.timeout, func() { cancel(context.DeadlineExceeded) })
	defer watchdog.Stop()
	stream, err := s.client.jobs.CreateJobsStream(ctx)
	if err != nil {
		return false, err
	}
	for _, chunk := range s.underWay {
		if err := sendChunk(stream, chunk); err != nil {
			return false, streamFault(ctx, stream, err)
		}
	}
	for {
		for !s.ended && len(s.underWay) < chunksUnderWayMax {
			watchdog.Stop()
			chunk := s.next(ctx, len(s.underWay) == 0)
			watchdog.Reset(s.client.options.timeout)
			if chunk == nil {
				break
			}
			s.underWay = append(s.underWay, chunk)
			if err := sendChunk(stream, chunk); err != nil {
				return answered, streamFault(ctx, stream, err)
			}
		}
		if ctx.Err() != nil {
			return answered, context.Cause(ctx)
		}
		if len(s.underWay) == 0 {
			return answered, stream.CloseSend()
		}
		if err := s.receive(stream); err != nil {
			return answered, streamFault(ctx, stream, err)
		}
		answered = true
		watchdog.Stop() // the caller may take its time
		if !s.deliver(yield) {
			return answered, errLeft
		}
		watchdog.Reset(s.client.options.timeout)
	}
}

// next gathers what the source has; with wait it waits for the first item. nil: nothing (yet).
func (s *createStream) next(ctx context.Context, wait bool) *streamChunk {
	result := &streamChunk{first: s.count}
	for len(result.items) < jobsPerCallMax {
		item := s.held
		s.held = nil
		if item == nil {
			item = s.take(ctx, wait && len(result.items) == 0)
		}
		if item == nil {
			break
		}
		if item.message != nil {
			if !result.chunk.fits(item.message) {
				s.held = item
				break
			}
			result.chunk.add(item.message, len(result.items))
		}
		result.items = append(result.items, item)
		s.count++
	}
	if len(result.items) == 0 {
		return nil
	}
	return result
}

func (s *createStream) take(ctx context.Context, wait bool) *streamItem {
	var spec *JobSpec
	var more bool
	if wait {
		select {
		case spec, more = <-s.source:
		case <-ctx.Done():
			return nil
		}
	} else {
		select {
		case spec, more = <-s.source:
		default:
			return nil
		}
	}
	if !more {
		s.ended = true
		return nil
	}
	item := &streamItem{outcome: Outcome{Created: Created{ID: spec.ID()}}}
	spec, item.end = s.client.traced(ctx, spec)
	item.message, item.outcome.Err = s.client.outgoing(spec)
	return item
}

func sendChunk(stream jobStream, chunk *streamChunk) error {
	if len(chunk.chunk.jobs) == 0 {
		return nil
	}
	return stream.Send(&pb.CreateJobsStreamRequest{Jobs: chunk.chunk.jobs})
}

// receive takes the answer to the oldest chunk.
func (s *createStream) receive(stream jobStream) error {
	oldest := s.underWay[0]
	if len(oldest.chunk.jobs) == 0 {
		return nil
	}
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := checkCount(response.GetOutcomes(), len(oldest.chunk.jobs)); err != nil {
		return err
	}
	for i, outcome := range response.GetOutcomes() {
		at := oldest.chunk.places[i]
		oldest.items[at].outcome = outcomeOf(outcome, i, fmt.Sprintf("jobs[%d]", oldest.first+at), oldest.chunk.jobs[i].Id)
	}
	return nil
}

// deliver hands the oldest chunk's outcomes to the caller.
func (s *createStream) deliver(yield func(Outcome) bool) bool {
	oldest := s.underWay[0]
	s.underWay = s.underWay[1:]
	for _, item := range oldest.items {
		item.end(item.outcome.Err)
		if !yield(item.outcome) {
			return false
		}
	}
	return true
}

// streamFault tells why a stream broke: Send says only io.EOF, and a cancelled context not why.
func streamFault(ctx context.Context, stream jobStream, err error) error {
	if errors.Is(err, io.EOF) {
		if _, told := stream.Recv(); told != nil {
			err = told
		}
	}
	if errors.Is(err, io.EOF) {
		return &Error{Kind: ErrUnavailable, Message: "the server has ended the stream"}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
