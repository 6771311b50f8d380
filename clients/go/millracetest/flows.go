// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// ---- chains ----

type chain struct {
	id        string
	sent      *pb.CreateChainRequest
	steps     []*job
	created   time.Time
	finished  time.Time
	state     pb.ChainState
	onFailure *job
}

// stepEndedLocked lets the next step start, or cancels the rest.
func (f *Fake) stepEndedLocked(j *job) {
	c := j.chain
	if j.state == pb.JobState_JOB_STATE_SUCCEEDED {
		if j.index+1 < len(c.steps) {
			next := c.steps[j.index+1]
			next.previous = j.result
			f.startLocked(next)
		} else {
			c.state, c.finished = pb.ChainState_CHAIN_STATE_SUCCEEDED, f.now
		}
		return
	}
	if c.state != pb.ChainState_CHAIN_STATE_RUNNING {
		return
	}
	c.state, c.finished = pb.ChainState_CHAIN_STATE_FAILED, f.now
	if j.state == pb.JobState_JOB_STATE_CANCELLED {
		c.state = pb.ChainState_CHAIN_STATE_CANCELLED
	}
	for _, step := range c.steps[j.index+1:] {
		step.state, step.finished = pb.JobState_JOB_STATE_CANCELLED, f.now
		step.err = &pb.JobError{Type: "CHAIN_STEP_FAILED", Message: fmt.Sprintf("step %d did not succeed", j.index)}
	}
	if c.sent.OnFailure != nil && c.onFailure == nil {
		spec := withID(c.sent.OnFailure)
		c.onFailure = f.addLocked(spec, false)
		c.onFailure.previous = errorJSON(j.err)
	}
}

// stepRetriedLocked unblocks the steps that were cancelled because of it.
func (f *Fake) stepRetriedLocked(j *job) {
	j.chain.state, j.chain.finished = pb.ChainState_CHAIN_STATE_RUNNING, time.Time{}
	for _, step := range j.chain.steps[j.index+1:] {
		step.state, step.err, step.finished = pb.JobState_JOB_STATE_BLOCKED, nil, time.Time{}
	}
}

func withID(spec *pb.JobSpec) *pb.JobSpec {
	result := proto.CloneOf(spec)
	result.Id = uuid.Must(uuid.NewV7()).String()
	return result
}

func (f *Fake) showChain(c *chain, full bool) *pb.Chain {
	m := &pb.Chain{Id: c.id, State: c.state, CreatedAt: timestamppb.New(c.created), FinishedAt: stamp(c.finished)}
	for i, step := range c.steps {
		m.JobIds = append(m.JobIds, step.spec.Id)
		switch {
		case step.state == pb.JobState_JOB_STATE_SUCCEEDED:
			m.Succeeded++
			m.CurrentStep = uint32(min(i+1, len(c.steps)-1))
		case ended(step.state) && m.Error == nil && step.err.GetType() != "CHAIN_STEP_FAILED":
			m.Error, m.CurrentStep = step.err, uint32(i)
		}
	}
	if c.onFailure != nil {
		m.OnFailureJobId = c.onFailure.spec.Id
	}
	if full && c.state == pb.ChainState_CHAIN_STATE_SUCCEEDED {
		m.Result = c.steps[len(c.steps)-1].result
	}
	return proto.CloneOf(m)
}

type chainService struct {
	pb.UnimplementedChainServiceServer
	fake *Fake
}

func (f *Fake) chainLocked(id string) (*chain, error) {
	if c := f.chains[id]; c != nil {
		return c, nil
	}
	return nil, fault(codes.NotFound, "", id, "", "there is no chain %s", id)
}

func (f *Fake) createChainLocked(r *pb.CreateChainRequest) (*chain, bool, error) {
	if old := f.chains[r.GetId()]; old != nil {
		if proto.Equal(old.sent, r) {
			return old, true, nil
		}
		return nil, false, fault(codes.AlreadyExists, "CHAIN_EXISTS", r.GetId(), "id", "the chain %s exists with other content", r.GetId())
	}
	if len(r.GetSteps()) == 0 {
		return nil, false, fault(codes.InvalidArgument, "", "", "steps", "steps: a chain has 1 to 1,000 steps")
	}
	for i, spec := range r.GetSteps() {
		at := fmt.Sprintf("steps[%d]", i)
		if err := checkSpec(spec, at); err != nil {
			return nil, false, err
		}
		if f.jobs[spec.Id] != nil {
			return nil, false, fault(codes.AlreadyExists, "JOB_EXISTS", spec.Id, at+".id", "the id %s is in use", spec.Id)
		}
	}
	c := &chain{id: r.GetId(), sent: r, created: f.now, state: pb.ChainState_CHAIN_STATE_RUNNING}
	for i, spec := range r.GetSteps() {
		step := f.addLocked(spec, i > 0)
		step.chain, step.index = c, i
		c.steps = append(c.steps, step)
	}
	f.chains[c.id] = c
	return c, false, nil
}

func (s *chainService) CreateChain(_ context.Context, r *pb.CreateChainRequest) (*pb.CreateChainResponse, error) {
	s.fake.lock.Lock()
	c, existing, err := s.fake.createChainLocked(r)
	s.fake.lock.Unlock()
	if err != nil {
		return nil, err
	}
	s.fake.settle()
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	return &pb.CreateChainResponse{Chain: s.fake.showChain(c, true), Existing: existing}, nil
}

func (s *chainService) GetChain(_ context.Context, r *pb.GetChainRequest) (*pb.GetChainResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	c, err := s.fake.chainLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.GetChainResponse{Chain: s.fake.showChain(c, true)}, nil
}

func (s *chainService) WaitChain(ctx context.Context, r *pb.WaitChainRequest) (*pb.WaitChainResponse, error) {
	result := &pb.WaitChainResponse{}
	var fault error
	seen := s.fake.await(ctx, r.GetTimeout().AsDuration(), func() bool {
		c, err := s.fake.chainLocked(r.GetId())
		if fault = err; err != nil {
			return true
		}
		result.Chain = s.fake.showChain(c, true)
		return c.state != pb.ChainState_CHAIN_STATE_RUNNING
	})
	result.TimedOut = !seen
	return result, fault
}

func (s *chainService) ListChains(_ context.Context, r *pb.ListChainsRequest) (*pb.ListChainsResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	var found []*pb.Chain
	for _, id := range sorted(s.fake.chains) {
		found = append(found, s.fake.showChain(s.fake.chains[id], false))
	}
	part, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	return &pb.ListChainsResponse{Chains: part, NextPageToken: next}, err
}

func (s *chainService) CancelChain(_ context.Context, r *pb.CancelChainRequest) (*pb.CancelChainResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	c, err := s.fake.chainLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	accepted := c.state == pb.ChainState_CHAIN_STATE_RUNNING
	for _, step := range c.steps {
		if !ended(step.state) {
			s.fake.cancelLocked(step, r.GetTerminate(), r.GetReason())
			break // which cancels those behind it
		}
	}
	return &pb.CancelChainResponse{Chain: s.fake.showChain(c, true), Accepted: accepted}, nil
}

// ---- batches ----

type batch struct {
	sent    *pb.CreateBatchRequest
	message *pb.Batch
	members []*job
	sealed  bool
}

func (b *batch) ended() bool { return b.message.State >= pb.BatchState_BATCH_STATE_SUCCEEDED }

// memberEndedLocked counts anew, and ends the batch with its last member.
func (f *Fake) memberEndedLocked(b *batch) {
	if b.ended() {
		return
	}
	m := b.message
	m.Total, m.Pending, m.Succeeded, m.Failed, m.Cancelled, m.Expired = uint32(len(b.members)), 0, 0, 0, 0, 0
	for _, member := range b.members {
		switch member.state {
		case pb.JobState_JOB_STATE_SUCCEEDED:
			m.Succeeded++
		case pb.JobState_JOB_STATE_FAILED:
			m.Failed++
		case pb.JobState_JOB_STATE_CANCELLED:
			m.Cancelled++
		case pb.JobState_JOB_STATE_EXPIRED:
			m.Expired++
		default:
			m.Pending++
		}
	}
	if !b.sealed || m.Pending > 0 {
		return
	}
	m.State, m.FinishedAt = pb.BatchState_BATCH_STATE_FAILED, timestamppb.New(f.now)
	if m.Succeeded == m.Total {
		m.State = pb.BatchState_BATCH_STATE_SUCCEEDED
		if b.sent.OnSuccess != nil {
			m.OnSuccessJobId = f.addLocked(withID(b.sent.OnSuccess), false).spec.Id
		}
	}
	if b.sent.OnComplete != nil {
		m.OnCompleteJobId = f.addLocked(withID(b.sent.OnComplete), false).spec.Id
	}
	f.changedLocked()
}

// memberLocked adds an item. Defaults fill in what it leaves unset.
func (f *Fake) memberLocked(b *batch, item *pb.JobSpec, at string) (*job, bool, error) {
	spec := &pb.JobSpec{}
	if b.sent.Defaults != nil {
		spec = proto.CloneOf(b.sent.Defaults)
	}
	proto.Merge(spec, item)
	j, existing, err := f.createLocked(spec, at, false)
	if err == nil && existing && j.batch != b {
		err = fault(codes.AlreadyExists, "JOB_EXISTS", j.spec.Id, at+".id", "the job %s is not of this batch", j.spec.Id)
	}
	if err == nil && !existing {
		j.batch = b
		b.members = append(b.members, j)
	}
	return j, existing, err
}

func (f *Fake) sealLocked(b *batch) {
	if b.sealed {
		return
	}
	b.sealed = true
	b.message.State = pb.BatchState_BATCH_STATE_SEALED
	f.memberEndedLocked(b)
	f.changedLocked()
}

type batchService struct {
	pb.UnimplementedBatchServiceServer
	fake *Fake
}

func (f *Fake) batchLocked(id string) (*batch, error) {
	if b := f.batches[id]; b != nil {
		return b, nil
	}
	return nil, fault(codes.NotFound, "", id, "", "there is no batch %s", id)
}

func (s *batchService) CreateBatch(_ context.Context, r *pb.CreateBatchRequest) (*pb.CreateBatchResponse, error) {
	f := s.fake
	f.lock.Lock()
	if old := f.batches[r.GetId()]; old != nil {
		defer f.lock.Unlock()
		if !proto.Equal(old.sent, r) {
			return nil, fault(codes.AlreadyExists, "BATCH_EXISTS", r.GetId(), "id", "the batch %s exists with other content", r.GetId())
		}
		return &pb.CreateBatchResponse{Batch: proto.CloneOf(old.message), Existing: true}, nil
	}
	b := &batch{sent: r, message: &pb.Batch{
		Id: r.GetId(), State: pb.BatchState_BATCH_STATE_OPEN, Description: r.GetDescription(), CreatedAt: timestamppb.New(f.now),
	}}
	f.batches[r.GetId()] = b
	f.lock.Unlock()
	outcomes := s.add(b, r.GetItems(), 1, r.GetSeal())
	f.lock.Lock()
	defer f.lock.Unlock()
	return &pb.CreateBatchResponse{Batch: proto.CloneOf(b.message), Outcomes: outcomes}, nil
}

func (s *batchService) add(b *batch, items []*pb.JobSpec, chunk uint32, seal bool) []*pb.CreateOutcome {
	return s.fake.createAll(items, func(i int, item *pb.JobSpec) (*job, bool, error) {
		return s.fake.memberLocked(b, item, fmt.Sprintf("items[%d]", i))
	}, func() {
		if len(items) > 0 {
			b.message.LastChunk = chunk
		}
		s.fake.memberEndedLocked(b)
		if seal {
			s.fake.sealLocked(b)
		}
	})
}

func (s *batchService) AddBatchItems(stream grpc.BidiStreamingServer[pb.AddBatchItemsRequest, pb.AddBatchItemsResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response, err := s.addChunk(r)
		if err != nil {
			return err
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (s *batchService) addChunk(r *pb.AddBatchItemsRequest) (*pb.AddBatchItemsResponse, error) {
	s.fake.lock.Lock()
	b, err := s.fake.batchLocked(r.GetBatchId())
	var expected uint32
	if err == nil {
		expected = b.message.LastChunk + 1
	}
	switch {
	case err != nil:
	case r.GetChunk() > expected:
		err = fault(codes.InvalidArgument, "", "", "chunk", "chunk: %d is expected", expected)
	case r.GetChunk() == expected && b.sealed:
		err = fault(codes.FailedPrecondition, "", b.message.Id, "", "the batch %s is sealed", b.message.Id)
	}
	s.fake.lock.Unlock()
	if err != nil {
		return nil, err
	}
	response := &pb.AddBatchItemsResponse{Chunk: r.GetChunk(), RepeatedChunk: r.GetChunk() < expected}
	if !response.RepeatedChunk {
		response.Outcomes = s.add(b, r.GetItems(), r.GetChunk(), r.GetLast())
	}
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	response.Total = b.message.Total
	return response, nil
}

func (s *batchService) SealBatch(_ context.Context, r *pb.SealBatchRequest) (*pb.SealBatchResponse, error) {
	s.fake.lock.Lock()
	b, err := s.fake.batchLocked(r.GetId())
	if err == nil {
		s.fake.sealLocked(b)
	}
	s.fake.lock.Unlock()
	if err != nil {
		return nil, err
	}
	s.fake.settle()
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	return &pb.SealBatchResponse{Batch: proto.CloneOf(b.message)}, nil
}

func (s *batchService) GetBatch(_ context.Context, r *pb.GetBatchRequest) (*pb.GetBatchResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	b, err := s.fake.batchLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.GetBatchResponse{Batch: proto.CloneOf(b.message)}, nil
}

func (s *batchService) WaitBatch(ctx context.Context, r *pb.WaitBatchRequest) (*pb.WaitBatchResponse, error) {
	result := &pb.WaitBatchResponse{}
	var fault error
	seen := s.fake.await(ctx, r.GetTimeout().AsDuration(), func() bool {
		b, err := s.fake.batchLocked(r.GetId())
		if fault = err; err != nil {
			return true
		}
		result.Batch = proto.CloneOf(b.message)
		return b.ended()
	})
	result.TimedOut = !seen
	return result, fault
}

func (s *batchService) ListBatches(_ context.Context, r *pb.ListBatchesRequest) (*pb.ListBatchesResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	var found []*pb.Batch
	for _, id := range sorted(s.fake.batches) {
		found = append(found, proto.CloneOf(s.fake.batches[id].message))
	}
	part, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	return &pb.ListBatchesResponse{Batches: part, NextPageToken: next}, err
}

func (s *batchService) CancelBatch(_ context.Context, r *pb.CancelBatchRequest) (*pb.CancelBatchResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	b, err := s.fake.batchLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	accepted := !b.ended()
	for _, member := range b.members {
		s.fake.cancelLocked(member, r.GetTerminate(), r.GetReason())
	}
	s.fake.sealLocked(b)
	if accepted && b.ended() {
		b.message.State = pb.BatchState_BATCH_STATE_CANCELLED
	}
	return &pb.CancelBatchResponse{Batch: proto.CloneOf(b.message), Accepted: accepted}, nil
}
