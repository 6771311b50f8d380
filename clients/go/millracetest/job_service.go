// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const (
	defaultWait     = 30 * time.Second
	defaultPageSize = 100
)

var validName = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

// fault makes an error as the server does. reason, subject and field may be "".
func fault(code codes.Code, reason, subject, field, format string, arguments ...any) error {
	result := status.New(code, fmt.Sprintf(format, arguments...))
	info := &errdetails.ErrorInfo{Domain: "millrace", Reason: reason}
	if subject != "" {
		info.Metadata = map[string]string{"subject": subject}
	}
	details := []protoadapt.MessageV1{info}
	if field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: result.Message()}}})
	}
	if detailed, err := result.WithDetails(details...); err == nil {
		result = detailed
	}
	return result.Err()
}

// checkSpec finds what the server would refuse at once. at is the spec's path.
func checkSpec(spec *pb.JobSpec, at string) error {
	if spec == nil {
		return fault(codes.InvalidArgument, "", "", at, "%s is required", at)
	}
	if !validName.MatchString(spec.Task) {
		return fault(codes.InvalidArgument, "", "", at+".task", "%s.task: %q is not a name", at, spec.Task)
	}
	if spec.Queue != "" && !validName.MatchString(spec.Queue) {
		return fault(codes.InvalidArgument, "", "", at+".queue", "%s.queue: %q is not a name", at, spec.Queue)
	}
	if spec.Id != "" && uuid.Validate(spec.Id) != nil {
		return fault(codes.InvalidArgument, "", "", at+".id", "%s.id: %q is not a UUID", at, spec.Id)
	}
	return nil
}

// createLocked creates a job, or finds the one that is there.
func (f *Fake) createLocked(spec *pb.JobSpec, at string, blocked bool) (*job, bool, error) {
	if err := checkSpec(spec, at); err != nil {
		return nil, false, err
	}
	spec = proto.CloneOf(spec)
	if spec.Id == "" {
		spec.Id = uuid.Must(uuid.NewV7()).String()
	}
	if old := f.jobs[spec.Id]; old != nil {
		if proto.Equal(old.sent, spec) {
			return old, true, nil
		}
		return nil, false, fault(codes.AlreadyExists, "JOB_EXISTS", spec.Id, at+".id", "the id %s is in use with other content", spec.Id)
	}
	queue := spec.Queue
	if queue == "" {
		queue = "default"
	}
	if holder := f.holderLocked(queue, spec.UniqueKey); holder != nil {
		if spec.UniqueKey.Rule == pb.UniqueRule_UNIQUE_RULE_RETURN_EXISTING {
			return holder, true, nil
		}
		return nil, false, fault(codes.AlreadyExists, "UNIQUE_KEY_TAKEN", holder.spec.Id, at+".unique_key.key",
			"job %s of queue %q holds the unique key %q", holder.spec.Id, queue, spec.UniqueKey.Key)
	}
	if limit := f.queueLocked(queue).settings.GetMaxLength().GetValue(); limit > 0 && f.lengthLocked(queue) >= limit {
		return nil, false, fault(codes.ResourceExhausted, "QUEUE_FULL", queue, at+".queue", "queue %q is full: max_length is %d", queue, limit)
	}
	return f.addLocked(spec, blocked), false, nil
}

func (f *Fake) holderLocked(queue string, key *pb.UniqueKey) *job {
	if key == nil {
		return nil
	}
	for _, j := range f.order {
		held := j.spec.UniqueKey
		if j.spec.Queue != queue || held.GetKey() != key.Key {
			continue
		}
		holds := !ended(j.state)
		switch held.Scope {
		case pb.UniqueScope_UNIQUE_SCOPE_WHILE_WAITING:
			holds = holds && j.state != pb.JobState_JOB_STATE_RUNNING
		case pb.UniqueScope_UNIQUE_SCOPE_PERIOD:
			holds = f.now.Before(j.created.Add(held.Period.AsDuration()))
		}
		if holds {
			return j
		}
	}
	return nil
}

func (f *Fake) jobLocked(id string) (*job, error) {
	if j := f.jobs[id]; j != nil {
		return j, nil
	}
	return nil, fault(codes.NotFound, "", id, "", "there is no job %s", id)
}

type jobService struct {
	pb.UnimplementedJobServiceServer
	fake *Fake
}

func (s *jobService) CreateJob(_ context.Context, r *pb.CreateJobRequest) (*pb.CreateJobResponse, error) {
	s.fake.lock.Lock()
	j, existing, err := s.fake.createLocked(r.GetJob(), "job", false)
	s.fake.lock.Unlock()
	if err != nil {
		return nil, err
	}
	s.fake.settle()
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	return &pb.CreateJobResponse{Job: s.fake.show(j, false), Existing: existing}, nil
}

// createAll creates jobs one by one: add says how, and then, if not nil, follows before any of them runs.
func (f *Fake) createAll(specs []*pb.JobSpec, add func(i int, spec *pb.JobSpec) (*job, bool, error), then func()) []*pb.CreateOutcome {
	f.lock.Lock()
	outcomes := make([]*pb.CreateOutcome, len(specs))
	for i, spec := range specs {
		j, existing, err := add(i, spec)
		outcomes[i] = &pb.CreateOutcome{Id: spec.GetId(), Existing: existing}
		if err != nil {
			outcomes[i].Error = status.Convert(err).Proto()
		} else {
			outcomes[i].Id = j.spec.Id
		}
	}
	if then != nil {
		then()
	}
	f.lock.Unlock()
	f.settle()
	return outcomes
}

func (s *jobService) create(specs []*pb.JobSpec) []*pb.CreateOutcome {
	return s.fake.createAll(specs, func(i int, spec *pb.JobSpec) (*job, bool, error) {
		return s.fake.createLocked(spec, fmt.Sprintf("jobs[%d]", i), false)
	}, nil)
}

func (s *jobService) CreateJobs(_ context.Context, r *pb.CreateJobsRequest) (*pb.CreateJobsResponse, error) {
	return &pb.CreateJobsResponse{Outcomes: s.create(r.GetJobs())}, nil
}

func (s *jobService) CreateJobsStream(stream grpc.BidiStreamingServer[pb.CreateJobsStreamRequest, pb.CreateJobsStreamResponse]) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.CreateJobsStreamResponse{Outcomes: s.create(r.GetJobs())}); err != nil {
			return err
		}
	}
}

func (s *jobService) GetJob(_ context.Context, r *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	j, err := s.fake.jobLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	result := &pb.GetJobResponse{Job: s.fake.show(j, r.GetView() != pb.View_VIEW_BASIC)}
	if r.GetWithLog() {
		result.Log = slices.Clone(j.log)
	}
	return result, nil
}

func (s *jobService) WaitJob(ctx context.Context, r *pb.WaitJobRequest) (*pb.WaitJobResponse, error) {
	limit := defaultWait
	if r.GetTimeout() != nil {
		limit = r.GetTimeout().AsDuration()
	}
	result := &pb.WaitJobResponse{}
	var fault error
	seen := s.fake.await(ctx, limit, func() bool {
		j, err := s.fake.jobLocked(r.GetId())
		if fault = err; err != nil {
			return true
		}
		result.Job = s.fake.show(j, r.GetView() != pb.View_VIEW_BASIC)
		return ended(j.state)
	})
	result.TimedOut = !seen
	return result, fault
}

func (s *jobService) WatchJobs(r *pb.WatchJobsRequest, stream grpc.ServerStreamingServer[pb.WatchJobsResponse]) error {
	told := map[string]*pb.Job{}
	for first := true; ; first = false {
		var news []*pb.WatchJobsResponse
		more := s.fake.await(stream.Context(), time.Hour, func() bool {
			for _, j := range s.fake.order {
				now := s.fake.show(j, r.GetView() == pb.View_VIEW_FULL)
				if matches(r.GetFilter(), j) && !proto.Equal(told[now.Id], now) {
					told[now.Id] = now
					news = append(news, &pb.WatchJobsResponse{Job: now})
				}
			}
			return first || len(news) > 0
		})
		if !more {
			return stream.Context().Err()
		}
		if first {
			news = append(news, &pb.WatchJobsResponse{InitialDone: true})
		}
		for _, message := range news {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
	}
}

func in[T comparable](list []T, value T) bool { return len(list) == 0 || slices.Contains(list, value) }

func matches(f *pb.JobFilter, j *job) bool {
	for key, value := range f.GetLabels() {
		if j.spec.Labels[key] != value {
			return false
		}
	}
	return in(f.GetIds(), j.spec.Id) && in(f.GetQueues(), j.spec.Queue) && in(f.GetTasks(), j.spec.Task) && in(f.GetStates(), j.state) &&
		in(f.GetPriorities(), j.priority()) &&
		(f.GetBatchId() == "" || j.batch != nil && j.batch.message.Id == f.GetBatchId()) &&
		(f.GetChainId() == "" || j.chain != nil && j.chain.id == f.GetChainId()) &&
		(f.GetScheduleName() == "" || j.schedule == f.GetScheduleName()) &&
		(f.GetCreatedAfter() == nil || !j.created.Before(f.GetCreatedAfter().AsTime())) &&
		(f.GetCreatedBefore() == nil || j.created.Before(f.GetCreatedBefore().AsTime())) &&
		(f.GetErrorFingerprint() == "" || j.err.GetFingerprint() == f.GetErrorFingerprint())
}

// page cuts a list: the token is the position of its next item.
func page[T any](items []T, size uint32, token string) (part []T, next string, err error) {
	if size == 0 {
		size = defaultPageSize
	}
	start := 0
	if token != "" {
		if start, err = strconv.Atoi(token); err != nil || start < 0 || start > len(items) {
			return nil, "", fault(codes.InvalidArgument, "", "", "page_token", "page_token is not from the page before")
		}
	}
	end := min(start+int(size), len(items))
	if end < len(items) {
		next = strconv.Itoa(end)
	}
	return items[start:end], next, nil
}

func (s *jobService) ListJobs(_ context.Context, r *pb.ListJobsRequest) (*pb.ListJobsResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	var found []*pb.Job
	for _, j := range s.fake.order {
		if matches(r.GetFilter(), j) {
			found = append(found, s.fake.show(j, r.GetView() == pb.View_VIEW_FULL))
		}
	}
	part, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	return &pb.ListJobsResponse{Jobs: part, NextPageToken: next}, err
}

func (s *jobService) CancelJob(_ context.Context, r *pb.CancelJobRequest) (*pb.CancelJobResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	j, err := s.fake.jobLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	accepted := s.fake.cancelLocked(j, r.GetTerminate(), r.GetReason())
	return &pb.CancelJobResponse{Job: s.fake.show(j, false), Accepted: accepted}, nil
}

func (s *jobService) RetryJob(_ context.Context, r *pb.RetryJobRequest) (*pb.RetryJobResponse, error) {
	s.fake.lock.Lock()
	j, err := s.fake.jobLocked(r.GetId())
	if err == nil && !s.fake.retryLocked(j) {
		err = fault(codes.FailedPrecondition, "JOB_NOT_RETRYABLE", r.GetId(), "", "job %s has not ended, or has succeeded", r.GetId())
	}
	s.fake.lock.Unlock()
	if err != nil {
		return nil, err
	}
	s.fake.settle()
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	return &pb.RetryJobResponse{Job: s.fake.show(j, false)}, nil
}

func (s *jobService) UpdateJob(_ context.Context, r *pb.UpdateJobRequest) (*pb.UpdateJobResponse, error) {
	s.fake.lock.Lock()
	j, err := s.fake.jobLocked(r.GetId())
	if err == nil && (ended(j.state) || j.state == pb.JobState_JOB_STATE_RUNNING) {
		err = fault(codes.FailedPrecondition, "", r.GetId(), "", "job %s runs or has ended", r.GetId())
	}
	if err != nil {
		s.fake.lock.Unlock()
		return nil, err
	}
	if r.GetPriority() != 0 {
		j.spec.Priority = r.GetPriority()
	}
	if r.GetRunAt() != nil {
		if j.runAt = r.GetRunAt().AsTime(); j.runAt.After(s.fake.now) {
			j.state = pb.JobState_JOB_STATE_SCHEDULED
		} else if j.state == pb.JobState_JOB_STATE_SCHEDULED || j.state == pb.JobState_JOB_STATE_RETRYING {
			s.fake.readyLocked(j)
		}
	}
	if r.GetExpiresAt() != nil {
		j.expiresAt = r.GetExpiresAt().AsTime()
	}
	if r.GetDeadline() != nil {
		j.deadline = r.GetDeadline().AsTime()
	}
	if r.GetRetryPolicy() != nil {
		j.spec.RetryPolicy = r.GetRetryPolicy()
	}
	if r.GetLabels() != nil {
		j.spec.Labels = maps.Clone(r.GetLabels().GetLabels())
	}
	s.fake.changedLocked()
	shown := s.fake.show(j, false)
	s.fake.lock.Unlock()
	s.fake.settle()
	return &pb.UpdateJobResponse{Job: shown}, nil
}

func (s *jobService) DeleteJob(_ context.Context, r *pb.DeleteJobRequest) (*pb.DeleteJobResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	j, err := s.fake.jobLocked(r.GetId())
	if err != nil {
		return nil, err
	}
	if !ended(j.state) {
		return nil, fault(codes.FailedPrecondition, "", r.GetId(), "", "job %s has not ended", r.GetId())
	}
	delete(s.fake.jobs, r.GetId())
	s.fake.order = slices.DeleteFunc(s.fake.order, func(other *job) bool { return other == j })
	s.fake.changedLocked()
	return &pb.DeleteJobResponse{}, nil
}

func (s *jobService) CancelJobs(_ context.Context, r *pb.CancelJobsRequest) (*pb.CancelJobsResponse, error) {
	if err := needsCondition(r.GetFilter()); err != nil {
		return nil, err
	}
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	result := &pb.CancelJobsResponse{}
	for _, j := range slices.Clone(s.fake.order) {
		if matches(r.GetFilter(), j) && s.fake.cancelLocked(j, r.GetTerminate(), r.GetReason()) {
			result.Cancelled++
		}
	}
	return result, nil
}

func (s *jobService) RetryJobs(_ context.Context, r *pb.RetryJobsRequest) (*pb.RetryJobsResponse, error) {
	if err := needsCondition(r.GetFilter()); err != nil {
		return nil, err
	}
	filter := proto.CloneOf(r.GetFilter())
	if len(filter.States) == 0 {
		filter.States = []pb.JobState{pb.JobState_JOB_STATE_FAILED}
	}
	s.fake.lock.Lock()
	result := &pb.RetryJobsResponse{}
	for _, j := range s.fake.order {
		if matches(filter, j) && s.fake.retryLocked(j) {
			result.Retried++
		}
	}
	s.fake.lock.Unlock()
	s.fake.settle()
	return result, nil
}

func needsCondition(filter *pb.JobFilter) error {
	if proto.Size(filter) == 0 {
		return fault(codes.InvalidArgument, "", "", "filter", "filter: at least one condition is required")
	}
	return nil
}
