// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Timing says when a schedule makes jobs: by Cron or by Interval.
type Timing struct {
	// Cron: five fields, optional seconds in front, names, lists, ranges, steps; @hourly @daily @weekly @monthly @yearly.
	Cron string
	// Interval: from StartAt (default: creation), every so long; 1 s to 366 days.
	Interval time.Duration
	// TimeZone is an IANA name, for Cron. Default: UTC.
	TimeZone string
	// StartAt: no job before.
	StartAt time.Time
	// EndAt: no job at or after.
	EndAt time.Time
	// Jitter puts each job off by a random part of this, up to 1 h.
	Jitter time.Duration
}

// Overlap says what happens at a time when the job made before has not ended.
type Overlap int

// The rules.
const (
	// OverlapSkip: no job this time. The default.
	OverlapSkip Overlap = iota
	// OverlapQueueOne: one more is made as soon as the one before has ended.
	OverlapQueueOne
	// OverlapAllow: a job every time.
	OverlapAllow
)

// ScheduleSpec is a recurring job as an application declares it.
type ScheduleSpec struct {
	// Name is its key.
	Name string
	Timing
	// Job is what is created each time: NewJob without id, start and unique key.
	Job *JobSpec
	// Overlap: what if the job before has not ended.
	Overlap Overlap
	// CatchUp: a time that was missed (server down, paused) is made up for, once and for the latest only, if it is not older than
	// this. nil: without limit; zero: never.
	CatchUp *time.Duration
	// Description is for people.
	Description string
}

// Schedule is a schedule as it was when the server was asked.
type Schedule struct {
	Name string
	Timing
	// Task and Queue of the jobs that it makes.
	Task        string
	Queue       string
	Overlap     Overlap
	Description string
	// Owner declared it with DeclareSchedules.
	Owner        string
	Paused       bool
	NextRunAt    time.Time // zero: none
	LastRunAt    time.Time
	LastJobID    string
	LastLateness time.Duration
	CreatedAt    time.Time
	Runs         int64 // jobs made so far
	Skipped      int64 // times skipped because of overlap
}

// Declared tells what DeclareSchedules did.
type Declared struct {
	Created, Updated, Unchanged, Deleted int
}

func (t Timing) proto() (*pb.ScheduleTiming, error) {
	result := &pb.ScheduleTiming{
		TimeZone: t.TimeZone, StartAt: timeProto(t.StartAt), EndAt: timeProto(t.EndAt), Jitter: durationProto(t.Jitter),
	}
	switch {
	case t.Cron != "" && t.Interval != 0:
		return nil, invalid("timing", "timing: a schedule has Cron or Interval, not both")
	case t.Interval != 0:
		result.When = &pb.ScheduleTiming_Interval{Interval: durationpb.New(t.Interval)}
	default:
		result.When = &pb.ScheduleTiming_Cron{Cron: t.Cron}
	}
	return result, nil
}

func timingOf(m *pb.ScheduleTiming) Timing {
	return Timing{
		Cron: m.GetCron(), Interval: m.GetInterval().AsDuration(), TimeZone: m.GetTimeZone(), StartAt: timeOf(m.GetStartAt()),
		EndAt: timeOf(m.GetEndAt()), Jitter: m.GetJitter().AsDuration(),
	}
}

func (c *Client) scheduleSpec(spec ScheduleSpec) (*pb.ScheduleSpec, error) {
	if spec.Job == nil {
		return nil, invalid("schedule.job", "schedule.job: schedule %q says not which job to make", spec.Name)
	}
	timing, err := spec.Timing.proto()
	if err != nil {
		return nil, err
	}
	job, err := c.template(spec.Job)
	if err != nil {
		return nil, err
	}
	result := &pb.ScheduleSpec{
		Name: spec.Name, Timing: timing, Job: job, Overlap: pb.ScheduleOverlap(spec.Overlap + 1), Description: spec.Description,
	}
	if spec.CatchUp != nil {
		result.CatchUpWindow = durationpb.New(*spec.CatchUp)
	}
	return result, nil
}

func scheduleOf(m *pb.Schedule) *Schedule {
	spec := m.GetSpec()
	return &Schedule{
		Name: spec.GetName(), Timing: timingOf(spec.GetTiming()), Task: spec.GetJob().GetTask(), Queue: spec.GetJob().GetQueue(),
		Overlap: Overlap(max(spec.GetOverlap(), 1) - 1), Description: spec.GetDescription(), Owner: m.GetOwner(), Paused: m.GetPaused(),
		NextRunAt: timeOf(m.GetNextRunAt()), LastRunAt: timeOf(m.GetLastRunAt()), LastJobID: m.GetLastJobId(),
		LastLateness: m.GetLastLateness().AsDuration(), CreatedAt: timeOf(m.GetCreatedAt()), Runs: int64(m.GetRuns()),
		Skipped: int64(m.GetSkipped()),
	}
}

// scheduleResult is for the calls that answer with the schedule.
func scheduleResult(m *pb.Schedule, err error) (*Schedule, error) {
	if err != nil {
		return nil, err
	}
	return scheduleOf(m), nil
}

// CreateSchedule creates a schedule. The same name with the same content changes nothing; with other content it is
// ErrAlreadyExists. Applications that declare all their schedules when they start use DeclareSchedules.
func (c *Client) CreateSchedule(ctx context.Context, spec ScheduleSpec) (*Schedule, error) {
	message, err := c.scheduleSpec(spec)
	if err != nil {
		return nil, err
	}
	response, err := invoke(ctx, c, c.schedules.CreateSchedule, &pb.CreateScheduleRequest{Schedule: message})
	return scheduleResult(response.GetSchedule(), err)
}

// UpdateSchedule replaces the whole content of the schedule with spec's name; its past stays.
func (c *Client) UpdateSchedule(ctx context.Context, spec ScheduleSpec) (*Schedule, error) {
	message, err := c.scheduleSpec(spec)
	if err != nil {
		return nil, err
	}
	response, err := invoke(ctx, c, c.schedules.UpdateSchedule, &pb.UpdateScheduleRequest{Schedule: message})
	return scheduleResult(response.GetSchedule(), err)
}

// DeclareSchedules makes the schedules of owner (the application's name) be these: it creates and updates, and with prune deletes
// the owner's others. Called when an application starts, by however many processes.
func (c *Client) DeclareSchedules(ctx context.Context, owner string, prune bool, specs ...ScheduleSpec) (Declared, error) {
	request := &pb.DeclareSchedulesRequest{Owner: owner, Prune: prune}
	for i, spec := range specs {
		message, err := c.scheduleSpec(spec)
		if err != nil {
			return Declared{}, fmt.Errorf("schedule %d: %w", i, err)
		}
		request.Schedules = append(request.Schedules, message)
	}
	response, err := invoke(ctx, c, c.schedules.DeclareSchedules, request)
	return Declared{
		Created: int(response.GetCreated()), Updated: int(response.GetUpdated()), Unchanged: int(response.GetUnchanged()),
		Deleted: int(response.GetDeleted()),
	}, err
}

// GetSchedule tells how a schedule stands.
func (c *Client) GetSchedule(ctx context.Context, name string) (*Schedule, error) {
	response, err := invoke(ctx, c, c.schedules.GetSchedule, &pb.GetScheduleRequest{Name: name})
	return scheduleResult(response.GetSchedule(), err)
}

// Schedules yields all schedules by name, or only owner's if it is not "".
func (c *Client) Schedules(ctx context.Context, owner string) iter.Seq2[*Schedule, error] {
	return pages(func(token string) ([]*Schedule, string, error) {
		response, err := invoke(ctx, c, c.schedules.ListSchedules, &pb.ListSchedulesRequest{Owner: owner, PageToken: token})
		var result []*Schedule
		for _, message := range response.GetSchedules() {
			result = append(result, scheduleOf(message))
		}
		return result, response.GetNextPageToken(), err
	})
}

// DeleteSchedule removes a schedule; the jobs that it made stay.
func (c *Client) DeleteSchedule(ctx context.Context, name string) error {
	_, err := invoke(ctx, c, c.schedules.DeleteSchedule, &pb.DeleteScheduleRequest{Name: name})
	return err
}

// PauseSchedule lets it make no jobs until it is resumed.
func (c *Client) PauseSchedule(ctx context.Context, name string) (*Schedule, error) {
	response, err := invoke(ctx, c, c.schedules.PauseSchedule, &pb.PauseScheduleRequest{Name: name})
	return scheduleResult(response.GetSchedule(), err)
}

// ResumeSchedule lets it go on; what was missed meanwhile follows the catch-up window.
func (c *Client) ResumeSchedule(ctx context.Context, name string) (*Schedule, error) {
	response, err := invoke(ctx, c, c.schedules.ResumeSchedule, &pb.ResumeScheduleRequest{Name: name})
	return scheduleResult(response.GetSchedule(), err)
}

// RunSchedule makes a job now and returns its id; the times to come stay.
func (c *Client) RunSchedule(ctx context.Context, name string) (jobID string, err error) {
	response, err := invoke(ctx, c, c.schedules.RunSchedule, &pb.RunScheduleRequest{Name: name, JobId: newID()})
	return response.GetJobId(), err
}

// PreviewSchedule tells the next count times (1 to 100) after a time (zero: now), without creating anything.
func (c *Client) PreviewSchedule(ctx context.Context, timing Timing, after time.Time, count int) ([]time.Time, error) {
	message, err := timing.proto()
	if err != nil {
		return nil, err
	}
	request := &pb.PreviewScheduleRequest{Timing: message, Count: uint32(max(count, 0))}
	if !after.IsZero() {
		request.After = timestamppb.New(after)
	}
	response, err := invoke(ctx, c, c.schedules.PreviewSchedule, request)
	var times []time.Time
	for _, t := range response.GetTimes() {
		times = append(times, t.AsTime())
	}
	return times, err
}
