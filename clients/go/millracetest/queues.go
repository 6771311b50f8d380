// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

type queue struct {
	settings *pb.QueueSettings
	paused   bool
}

func (f *Fake) queueLocked(name string) *queue {
	if f.queues[name] == nil {
		f.queues[name] = &queue{settings: &pb.QueueSettings{}}
	}
	return f.queues[name]
}

// lengthLocked counts the jobs that have not ended.
func (f *Fake) lengthLocked(name string) (length uint64) {
	for _, j := range f.order {
		if j.spec.Queue == name && !ended(j.state) {
			length++
		}
	}
	return length
}

func (f *Fake) showQueueLocked(name string) *pb.Queue {
	counts := &pb.QueueCounts{}
	at := map[pb.JobState]*uint64{
		pb.JobState_JOB_STATE_PENDING: &counts.Pending, pb.JobState_JOB_STATE_SCHEDULED: &counts.Scheduled,
		pb.JobState_JOB_STATE_RETRYING: &counts.Retrying, pb.JobState_JOB_STATE_BLOCKED: &counts.Blocked,
		pb.JobState_JOB_STATE_RUNNING: &counts.Running, pb.JobState_JOB_STATE_SUCCEEDED: &counts.Succeeded,
		pb.JobState_JOB_STATE_FAILED: &counts.Failed, pb.JobState_JOB_STATE_CANCELLED: &counts.Cancelled,
		pb.JobState_JOB_STATE_EXPIRED: &counts.Expired,
	}
	for _, j := range f.order {
		if j.spec.Queue == name {
			*at[j.state]++
		}
	}
	workers := uint32(0)
	for _, worker := range f.workers {
		if slices.ContainsFunc(worker.Queues(), func(q *pb.WorkerQueue) bool { return q.Name == name }) {
			workers++
		}
	}
	q := f.queueLocked(name)
	return &pb.Queue{Name: name, Settings: proto.CloneOf(q.settings), Paused: q.paused, Counts: counts, Workers: workers}
}

type queueService struct {
	pb.UnimplementedQueueServiceServer
	fake *Fake
}

// change does something to a queue and shows it.
func (s *queueService) change(name string, do func(*queue)) *pb.Queue {
	s.fake.lock.Lock()
	do(s.fake.queueLocked(name))
	shown := s.fake.showQueueLocked(name)
	s.fake.lock.Unlock()
	s.fake.settle()
	return shown
}

func (s *queueService) GetQueue(_ context.Context, r *pb.GetQueueRequest) (*pb.GetQueueResponse, error) {
	return &pb.GetQueueResponse{Queue: s.change(r.GetName(), func(*queue) {})}, nil
}

func (s *queueService) ListQueues(_ context.Context, r *pb.ListQueuesRequest) (*pb.ListQueuesResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	for _, j := range s.fake.order {
		s.fake.queueLocked(j.spec.Queue)
	}
	var found []*pb.Queue
	for _, name := range slices.Sorted(maps.Keys(s.fake.queues)) {
		found = append(found, s.fake.showQueueLocked(name))
	}
	part, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	return &pb.ListQueuesResponse{Queues: part, NextPageToken: next}, err
}

func (s *queueService) UpdateQueue(_ context.Context, r *pb.UpdateQueueRequest) (*pb.UpdateQueueResponse, error) {
	shown := s.change(r.GetName(), func(q *queue) { proto.Merge(q.settings, r.GetSettings()) })
	return &pb.UpdateQueueResponse{Queue: shown}, nil
}

func (s *queueService) PauseQueue(_ context.Context, r *pb.PauseQueueRequest) (*pb.PauseQueueResponse, error) {
	return &pb.PauseQueueResponse{Queue: s.change(r.GetName(), func(q *queue) { q.paused = true })}, nil
}

func (s *queueService) ResumeQueue(_ context.Context, r *pb.ResumeQueueRequest) (*pb.ResumeQueueResponse, error) {
	return &pb.ResumeQueueResponse{Queue: s.change(r.GetName(), func(q *queue) { q.paused = false })}, nil
}

func (s *queueService) PurgeQueue(_ context.Context, r *pb.PurgeQueueRequest) (*pb.PurgeQueueResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	result := &pb.PurgeQueueResponse{}
	for _, j := range slices.Clone(s.fake.order) {
		if j.spec.Queue == r.GetName() && j.state == pb.JobState_JOB_STATE_PENDING {
			s.fake.endLocked(j, pb.JobState_JOB_STATE_CANCELLED, &pb.JobError{Type: "PURGED", Message: "the queue was purged"})
			result.Purged++
		}
	}
	return result, nil
}

func (s *queueService) DeleteQueue(_ context.Context, r *pb.DeleteQueueRequest) (*pb.DeleteQueueResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	if shown := s.fake.showQueueLocked(r.GetName()); s.fake.lengthLocked(r.GetName()) > 0 || shown.Workers > 0 {
		return nil, fault(codes.FailedPrecondition, "", r.GetName(), "", "queue %q has jobs or workers", r.GetName())
	}
	delete(s.fake.queues, r.GetName())
	return &pb.DeleteQueueResponse{}, nil
}

type adminService struct {
	pb.UnimplementedAdminServiceServer
	fake *Fake
}

func (s *adminService) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	return &pb.GetServerInfoResponse{
		Version: "millracetest", Durability: pb.Durability_DURABILITY_NONE, StoreBackend: "memory", Now: timestamppb.New(s.fake.Now()),
	}, nil
}
