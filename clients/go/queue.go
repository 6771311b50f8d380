// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Counts of jobs by state. The last four are those that are kept.
type Counts struct {
	Pending, Scheduled, Retrying, Blocked, Running int64
	Succeeded, Failed, Cancelled, Expired          int64
}

// Queue is a queue as it was when the server was asked.
type Queue struct {
	Name     string
	Settings QueueSettings
	Paused   bool
	Counts   Counts
	// OldestReadyAt: since when the oldest ready job has been ready; zero: there is none.
	OldestReadyAt time.Time
	// Workers that serve it.
	Workers           int
	CreatedPerSecond  float64
	FinishedPerSecond float64
}

// QueueMode says how a queue's priorities share its workers.
type QueueMode int

// The modes.
const (
	// QueueStrict: a higher priority always goes first. The default.
	QueueStrict QueueMode = 1
	// QueueWeighted: CRITICAL first; the rest share HIGH 6 : NORMAL 3 : LOW 1.
	QueueWeighted QueueMode = 2
)

// QueueSettings is what can be set; in UpdateQueue what is nil or zero stays as it is.
type QueueSettings struct {
	Mode QueueMode
	// MaxLength: creates beyond so many jobs that have not ended are ErrQueueFull. 0: no limit.
	MaxLength *int64
	// MaxRunning at a time. 0: no limit.
	MaxRunning *int
	// RatePerSecond of deliveries. 0: no limit.
	RatePerSecond *float64
	// RateBurst: how many deliveries may come at once when the queue was quiet.
	RateBurst *int
	// Retry and AttemptTimeout for jobs that set none and whose worker declares none.
	Retry          *RetryPolicy
	AttemptTimeout *time.Duration
	// Retention of succeeded, cancelled and expired jobs, and of failed ones.
	Retention       *time.Duration
	RetentionFailed *time.Duration
	RetentionCount  *int
}

func (s QueueSettings) proto() *pb.QueueSettings {
	result := &pb.QueueSettings{
		Mode: pb.QueueMode(s.Mode), RetryPolicy: s.Retry.proto(), AttemptTimeout: optionalDuration(s.AttemptTimeout),
		Retention: optionalDuration(s.Retention), RetentionFailed: optionalDuration(s.RetentionFailed),
	}
	if s.MaxLength != nil {
		result.MaxLength = wrapperspb.UInt64(uint64(max(*s.MaxLength, 0)))
	}
	if s.MaxRunning != nil {
		result.MaxRunning = wrapperspb.UInt32(uint32(max(*s.MaxRunning, 0)))
	}
	if s.RatePerSecond != nil {
		result.RatePerSecond = wrapperspb.Double(*s.RatePerSecond)
	}
	if s.RateBurst != nil {
		result.RateBurst = wrapperspb.UInt32(uint32(max(*s.RateBurst, 0)))
	}
	if s.RetentionCount != nil {
		result.RetentionCount = wrapperspb.UInt32(uint32(max(*s.RetentionCount, 0)))
	}
	return result
}

func optionalDuration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

func durationOf(m *durationpb.Duration) *time.Duration {
	if m == nil {
		return nil
	}
	d := m.AsDuration()
	return &d
}

func settingsOf(m *pb.QueueSettings) QueueSettings {
	result := QueueSettings{
		Mode: QueueMode(m.GetMode()), Retry: retryOf(m.GetRetryPolicy()), AttemptTimeout: durationOf(m.GetAttemptTimeout()),
		Retention: durationOf(m.GetRetention()), RetentionFailed: durationOf(m.GetRetentionFailed()),
	}
	if m.GetMaxLength() != nil {
		result.MaxLength = ptr(int64(m.MaxLength.Value))
	}
	if m.GetMaxRunning() != nil {
		result.MaxRunning = ptr(int(m.MaxRunning.Value))
	}
	if m.GetRatePerSecond() != nil {
		result.RatePerSecond = ptr(m.RatePerSecond.Value)
	}
	if m.GetRateBurst() != nil {
		result.RateBurst = ptr(int(m.RateBurst.Value))
	}
	if m.GetRetentionCount() != nil {
		result.RetentionCount = ptr(int(m.RetentionCount.Value))
	}
	return result
}

func ptr[T any](v T) *T { return &v }

func queueOf(m *pb.Queue) *Queue {
	n := m.GetCounts()
	return &Queue{
		Name: m.GetName(), Settings: settingsOf(m.GetSettings()), Paused: m.GetPaused(), OldestReadyAt: timeOf(m.GetOldestReadyAt()),
		Workers: int(m.GetWorkers()), CreatedPerSecond: m.GetCreatedPerSecond(), FinishedPerSecond: m.GetFinishedPerSecond(),
		Counts: Counts{
			Pending: int64(n.GetPending()), Scheduled: int64(n.GetScheduled()), Retrying: int64(n.GetRetrying()),
			Blocked: int64(n.GetBlocked()), Running: int64(n.GetRunning()), Succeeded: int64(n.GetSucceeded()),
			Failed: int64(n.GetFailed()), Cancelled: int64(n.GetCancelled()), Expired: int64(n.GetExpired()),
		},
	}
}

func queueResult(m *pb.Queue, err error) (*Queue, error) {
	if err != nil {
		return nil, err
	}
	return queueOf(m), nil
}

// Queue tells how a queue stands. A queue that is not in use has zeros.
func (c *Client) Queue(ctx context.Context, name string) (*Queue, error) {
	response, err := invoke(ctx, c, c.queues.GetQueue, &pb.GetQueueRequest{Name: name})
	return queueResult(response.GetQueue(), err)
}

// Queues yields all queues, by name.
func (c *Client) Queues(ctx context.Context) iter.Seq2[*Queue, error] {
	return pages(func(token string) ([]*Queue, string, error) {
		response, err := invoke(ctx, c, c.queues.ListQueues, &pb.ListQueuesRequest{PageToken: token})
		var result []*Queue
		for _, message := range response.GetQueues() {
			result = append(result, queueOf(message))
		}
		return result, response.GetNextPageToken(), err
	})
}

// UpdateQueue changes settings.
func (c *Client) UpdateQueue(ctx context.Context, name string, settings QueueSettings) (*Queue, error) {
	response, err := invoke(ctx, c, c.queues.UpdateQueue, &pb.UpdateQueueRequest{Name: name, Settings: settings.proto()})
	return queueResult(response.GetQueue(), err)
}

// PauseQueue stops deliveries until ResumeQueue; jobs can still be created.
func (c *Client) PauseQueue(ctx context.Context, name string) (*Queue, error) {
	response, err := invoke(ctx, c, c.queues.PauseQueue, &pb.PauseQueueRequest{Name: name})
	return queueResult(response.GetQueue(), err)
}

// ResumeQueue lets deliveries go on.
func (c *Client) ResumeQueue(ctx context.Context, name string) (*Queue, error) {
	response, err := invoke(ctx, c, c.queues.ResumeQueue, &pb.ResumeQueueRequest{Name: name})
	return queueResult(response.GetQueue(), err)
}

// PurgeQueue cancels every job that is pending, and tells how many.
func (c *Client) PurgeQueue(ctx context.Context, name string) (purged int64, err error) {
	response, err := invoke(ctx, c, c.queues.PurgeQueue, &pb.PurgeQueueRequest{Name: name})
	return int64(response.GetPurged()), err
}

// DeleteQueue forgets an empty queue. ErrFailedPrecondition while it has jobs or workers.
func (c *Client) DeleteQueue(ctx context.Context, name string) error {
	_, err := invoke(ctx, c, c.queues.DeleteQueue, &pb.DeleteQueueRequest{Name: name})
	return err
}

// WorkerInfo is an attached worker process as the server sees it.
type WorkerInfo struct {
	SessionID string
	// State: active, quiet or disconnected.
	State       string
	Queues      map[string]int // name → weight
	Tasks       []string
	Concurrency int
	// Running deliveries.
	Running      int
	Hostname     string
	PID          int
	Labels       map[string]string
	SDK          string
	RegisteredAt time.Time
	LastSeenAt   time.Time
	// Transport: nng, grpc or "".
	Transport string
}

// Workers yields all attached workers, or only those that serve a queue if it is not "".
func (c *Client) Workers(ctx context.Context, queue string) iter.Seq2[*WorkerInfo, error] {
	return pages(func(token string) ([]*WorkerInfo, string, error) {
		response, err := invoke(ctx, c, c.workers.ListWorkers, &pb.ListWorkersRequest{Queue: queue, PageToken: token})
		var result []*WorkerInfo
		for _, m := range response.GetWorkers() {
			info := &WorkerInfo{
				SessionID: m.SessionId, State: wireName(m.State.String(), "WORKER_STATE_"), Queues: map[string]int{}, Tasks: m.Tasks,
				Concurrency: int(m.Concurrency), Running: int(m.Running), Hostname: m.Hostname, PID: int(m.Pid), Labels: m.Labels,
				SDK: m.Sdk, RegisteredAt: timeOf(m.RegisteredAt), LastSeenAt: timeOf(m.LastSeenAt), Transport: m.Transport,
			}
			for _, queue := range m.Queues {
				info.Queues[queue.Name] = int(queue.Weight)
			}
			result = append(result, info)
		}
		return result, response.GetNextPageToken(), err
	})
}

// ServerInfo tells about the server itself.
type ServerInfo struct {
	Version string
	// Durability: sync, interval or none.
	Durability string
	StartedAt  time.Time
	// Now is the server's clock.
	Now time.Time
}

// ServerInfo asks the server about itself. It is a good first call: it shows that the server is there.
func (c *Client) ServerInfo(ctx context.Context) (*ServerInfo, error) {
	m, err := invoke(ctx, c, c.admin.GetServerInfo, &pb.GetServerInfoRequest{})
	if err != nil {
		return nil, err
	}
	return &ServerInfo{
		Version: m.Version, Durability: wireName(m.Durability.String(), "DURABILITY_"), StartedAt: timeOf(m.StartedAt), Now: timeOf(m.Now),
	}, nil
}

// QuietWorker lets a worker get no more jobs; with drain it ends when it has finished what it holds.
func (c *Client) QuietWorker(ctx context.Context, sessionID string, drain bool) error {
	_, err := invoke(ctx, c, c.workers.QuietWorker, &pb.QuietWorkerRequest{SessionId: sessionID, Drain: drain})
	return err
}
