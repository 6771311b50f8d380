// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// stubServer answers creates: with an outcome less for a job "forgotten", and one more for a job "doubled".
type stubServer struct {
	pb.UnimplementedJobServiceServer
	pb.UnimplementedBatchServiceServer
	held  chan struct{} // while open, CreateJobs is not answered
	lock  sync.Mutex
	sizes []int // jobs of each call
}

func (s *stubServer) outcomes(jobs []*pb.JobSpec) []*pb.CreateOutcome {
	s.lock.Lock()
	s.sizes = append(s.sizes, len(jobs))
	s.lock.Unlock()
	if s.held != nil {
		<-s.held
	}
	var result []*pb.CreateOutcome
	for _, job := range jobs {
		outcome := &pb.CreateOutcome{Id: job.Id}
		switch job.Task {
		case "forgotten":
		case "doubled":
			result = append(result, outcome, outcome)
		default:
			result = append(result, outcome)
		}
	}
	return result
}

func (s *stubServer) calls() []int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.sizes)
}

func (s *stubServer) CreateJob(_ context.Context, request *pb.CreateJobRequest) (*pb.CreateJobResponse, error) {
	s.outcomes([]*pb.JobSpec{request.Job})
	return &pb.CreateJobResponse{Job: &pb.Job{Id: request.Job.Id}}, nil
}

func (s *stubServer) CreateJobs(_ context.Context, request *pb.CreateJobsRequest) (*pb.CreateJobsResponse, error) {
	return &pb.CreateJobsResponse{Outcomes: s.outcomes(request.Jobs)}, nil
}

func (s *stubServer) CreateJobsStream(stream grpc.BidiStreamingServer[pb.CreateJobsStreamRequest, pb.CreateJobsStreamResponse]) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(&pb.CreateJobsStreamResponse{Outcomes: s.outcomes(request.Jobs)}); err != nil {
			return err
		}
	}
}

func (s *stubServer) CreateBatch(_ context.Context, request *pb.CreateBatchRequest) (*pb.CreateBatchResponse, error) {
	return &pb.CreateBatchResponse{Batch: &pb.Batch{Id: request.Id}, Outcomes: s.outcomes(request.Items)}, nil
}

// clientOf makes a client of the server, which it starts.
func clientOf(t *testing.T, stub *stubServer) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterJobServiceServer(server, stub)
	pb.RegisterBatchServiceServer(server, stub)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := NewClient(WithAddress(listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// What is created while a call is under way goes out as one call.
func TestCreatesAreCoalesced(t *testing.T) {
	stub := &stubServer{held: make(chan struct{})}
	client := clientOf(t, stub)
	var all sync.WaitGroup
	create := func() {
		all.Add(1)
		go func() {
			defer all.Done()
			spec := NewJob("x", nil)
			if created, err := client.CreateJob(t.Context(), spec); err != nil || created.ID != spec.ID() {
				t.Errorf("%+v (%v)", created, err)
			}
		}()
	}
	create()
	await(t, "no call has come", func() bool { return len(stub.calls()) == 1 })
	for range 50 {
		create()
	}
	await(t, "not all of them wait", func() bool {
		client.coalescer.lock.Lock()
		defer client.coalescer.lock.Unlock()
		return len(client.coalescer.waiting) == 50
	})
	close(stub.held)
	all.Wait()
	if calls := stub.calls(); !slices.Equal(calls, []int{1, 50}) {
		t.Fatalf("the calls had %v jobs", calls)
	}
}

// An answer about more or fewer jobs than were sent says of none that it was created.
func TestAnswersThatDoNotFitTheJobs(t *testing.T) {
	stub := &stubServer{}
	client := clientOf(t, stub)
	for _, last := range []string{"forgotten", "doubled"} {
		specs := []*JobSpec{NewJob("x", 1), NewJob("x", 2), NewJob(last, 3)}
		check := func(way string, err error) {
			t.Helper()
			if !errors.Is(err, ErrInternal) || !strings.Contains(err.Error(), "outcomes for") {
				t.Errorf("%s, %s: %v", way, last, err)
			}
		}
		outcomes, err := client.CreateMany(t.Context(), specs...)
		check("CreateMany", err)
		for _, outcome := range outcomes {
			check("CreateMany", outcome.Err)
		}
		for outcome, err := range client.CreateStream(t.Context(), slices.Values(specs[2:])) {
			check("CreateStream", errors.Join(outcome.Err, err))
		}
		_, err = client.CreateJob(t.Context(), specs[2])
		check("CreateJob", err)
		_, err = client.CreateBatch(t.Context(), BatchSpec{Items: slices.Values(specs)})
		check("CreateBatch", err)
	}
}

// A character that the server can't store is a fault of its job alone.
func TestNULIsRefusedForItsJobAlone(t *testing.T) {
	client := clientOf(t, &stubServer{})
	bad := map[string]*JobSpec{
		"job.task":                 NewJob("a\x00b", nil),
		"job.id":                   NewJob("x", nil, WithID("\x00")),
		"job.queue":                NewJob("x", nil, WithQueue("q\x00")),
		"job.unique_key.key":       NewJob("x", nil, WithUniqueKey(UniqueKey{Key: "k\x00"})),
		"job.concurrency_key.key":  NewJob("x", nil, WithConcurrencyKey("k\x00", 1)),
		"job.labels":               NewJob("x", nil, WithLabel("k", "v\x00")),
		"job.traceparent":          NewJob("x", nil, WithTraceContext("t\x00", "")),
		"job.payload.content_type": NewJob("x", Payload{Data: []byte{1}, ContentType: "c\x00"}),
	}
	for field, spec := range bad {
		outcomes, err := client.CreateMany(t.Context(), NewJob("x", 1), spec, NewJob("x", 2))
		var fault *Error
		if err != nil || outcomes[0].Err != nil || outcomes[2].Err != nil || !errors.As(outcomes[1].Err, &fault) ||
			fault.Kind != ErrInvalidArgument || fault.Field != field {
			t.Errorf("%s: %+v (%v)", field, outcomes, err)
		}
	}
}
