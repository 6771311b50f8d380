// SPDX-License-Identifier: Apache-2.0

package millracetest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

const defaultPreview = 10

// schedule is a schedule of the fake. What the server does about clock changes and jitter is not played.
type schedule struct {
	message *pb.Schedule
	created time.Time
	next    time.Time // zero: none
	last    *job
	queued  bool // one more as soon as the last has ended
}

// nextAfter is the next time of a timing, later than t; zero: none.
func nextAfter(timing *pb.ScheduleTiming, created, t time.Time) (time.Time, error) {
	start := created
	if timing.GetStartAt() != nil {
		start = timing.GetStartAt().AsTime()
	}
	var next time.Time
	if interval := timing.GetInterval().AsDuration(); interval > 0 {
		next = start.Add(interval)
		if timing.GetStartAt() != nil {
			next = start
		}
		if !next.After(t) {
			next = next.Add((t.Sub(next)/interval + 1) * interval)
		}
	} else {
		parsed, err := parseCron(timing)
		if err != nil {
			return next, err
		}
		if timing.GetStartAt() != nil && start.After(t) {
			t = start.Add(-time.Nanosecond)
		}
		next = parsed.Next(t)
	}
	if timing.GetEndAt() != nil && !next.Before(timing.GetEndAt().AsTime()) {
		next = time.Time{}
	}
	return next, nil
}

func parseCron(timing *pb.ScheduleTiming) (cron.Schedule, error) {
	const field = "schedule.timing.cron"
	zone := cmp.Or(timing.GetTimeZone(), "UTC")
	if _, err := time.LoadLocation(zone); err != nil {
		return nil, fault(codes.InvalidArgument, "", "", "schedule.timing.time_zone", "schedule.timing.time_zone: %v", err)
	}
	fields := strings.Fields(timing.GetCron())
	for i, text := range fields {
		if i == len(fields)-1 && len(fields) > 1 {
			fields[i] = strings.ReplaceAll(text, "7", "0") // Sunday
		}
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	parsed, err := parser.Parse("CRON_TZ=" + zone + " " + strings.Join(fields, " "))
	if err != nil {
		return nil, fault(codes.InvalidArgument, "", "", field, "%s: %v", field, err)
	}
	return parsed, nil
}

func (f *Fake) fireScheduleLocked(s *schedule) {
	if s.message.Paused {
		return
	}
	due := !s.next.IsZero() && !s.next.After(f.now)
	busy := s.last != nil && !ended(s.last.state)
	overlap := s.message.Spec.Overlap
	switch {
	case !due:
		return
	case !busy || overlap == pb.ScheduleOverlap_SCHEDULE_OVERLAP_ALLOW:
		f.runScheduleLocked(s, "")
		s.message.LastRunAt = timestamppb.New(s.next)
	case overlap == pb.ScheduleOverlap_SCHEDULE_OVERLAP_QUEUE_ONE && !s.queued:
		s.queued = true
		s.message.LastRunAt = timestamppb.New(s.next)
	default:
		s.message.Skipped++
	}
	f.planLocked(s)
}

// scheduledEndedLocked makes the job that waited for the end of this one.
func (f *Fake) scheduledEndedLocked(j *job) {
	if s := f.schedules[j.schedule]; s != nil && s.queued && s.last == j {
		s.queued = false
		f.runScheduleLocked(s, "")
	}
}

// planLocked finds the next time. The timing was checked before.
func (f *Fake) planLocked(s *schedule) {
	next, err := nextAfter(s.message.Spec.Timing, s.created, f.now)
	if err != nil {
		next = time.Time{}
	}
	s.next, s.message.NextRunAt = next, stamp(next)
}

func (f *Fake) runScheduleLocked(s *schedule, id string) *job {
	spec := withID(s.message.Spec.Job)
	if id != "" {
		spec.Id = id
	}
	s.last = f.addLocked(spec, false)
	s.last.schedule = s.message.Spec.Name
	s.message.Runs++
	s.message.LastJobId = spec.Id
	return s.last
}

// setLocked creates a schedule or replaces the content of one.
func (f *Fake) setLocked(spec *pb.ScheduleSpec, owner string) (*schedule, error) {
	if !validName.MatchString(spec.GetName()) {
		return nil, fault(codes.InvalidArgument, "", "", "schedule.name", "schedule.name: %q is not a name", spec.GetName())
	}
	if err := checkSpec(spec.GetJob(), "schedule.job"); err != nil {
		return nil, err
	}
	if _, err := nextAfter(spec.GetTiming(), f.now, f.now); err != nil {
		return nil, err
	}
	s := f.schedules[spec.GetName()]
	if s == nil {
		s = &schedule{created: f.now, message: &pb.Schedule{CreatedAt: timestamppb.New(f.now), Owner: owner}}
		f.schedules[spec.GetName()] = s
	}
	s.message.Spec = proto.CloneOf(spec)
	f.planLocked(s)
	return s, nil
}

type scheduleService struct {
	pb.UnimplementedScheduleServiceServer
	fake *Fake
}

func (f *Fake) scheduleLocked(name string) (*schedule, error) {
	if s := f.schedules[name]; s != nil {
		return s, nil
	}
	return nil, fault(codes.NotFound, "", name, "", "there is no schedule %q", name)
}

// change does something to one schedule and shows it.
func (s *scheduleService) change(name string, do func(*schedule)) (*pb.Schedule, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	found, err := s.fake.scheduleLocked(name)
	if err != nil {
		return nil, err
	}
	do(found)
	return proto.CloneOf(found.message), nil
}

func (s *scheduleService) CreateSchedule(_ context.Context, r *pb.CreateScheduleRequest) (*pb.CreateScheduleResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	if old := s.fake.schedules[r.GetSchedule().GetName()]; old != nil {
		if !proto.Equal(old.message.Spec, r.GetSchedule()) {
			return nil, fault(codes.AlreadyExists, "SCHEDULE_EXISTS", r.GetSchedule().GetName(), "schedule.name",
				"the schedule %q exists with other content", r.GetSchedule().GetName())
		}
		return &pb.CreateScheduleResponse{Schedule: proto.CloneOf(old.message), Existing: true}, nil
	}
	made, err := s.fake.setLocked(r.GetSchedule(), "")
	if err != nil {
		return nil, err
	}
	return &pb.CreateScheduleResponse{Schedule: proto.CloneOf(made.message)}, nil
}

func (s *scheduleService) UpdateSchedule(_ context.Context, r *pb.UpdateScheduleRequest) (*pb.UpdateScheduleResponse, error) {
	var fault error
	shown, err := s.change(r.GetSchedule().GetName(), func(*schedule) { _, fault = s.fake.setLocked(r.GetSchedule(), "") })
	if err == nil {
		err = fault
	}
	return &pb.UpdateScheduleResponse{Schedule: shown}, err
}

func (s *scheduleService) DeclareSchedules(_ context.Context, r *pb.DeclareSchedulesRequest) (*pb.DeclareSchedulesResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	result := &pb.DeclareSchedulesResponse{}
	declared := map[string]bool{}
	for _, spec := range r.GetSchedules() {
		declared[spec.GetName()] = true
		old := s.fake.schedules[spec.GetName()]
		if old != nil && proto.Equal(old.message.Spec, spec) {
			result.Unchanged++
			continue
		}
		if _, err := s.fake.setLocked(spec, r.GetOwner()); err != nil {
			return nil, err
		}
		if old == nil {
			result.Created++
		} else {
			result.Updated++
		}
	}
	if r.GetPrune() {
		maps.DeleteFunc(s.fake.schedules, func(name string, old *schedule) bool {
			goes := old.message.Owner == r.GetOwner() && !declared[name]
			if goes {
				result.Deleted++
			}
			return goes
		})
	}
	return result, nil
}

func (s *scheduleService) GetSchedule(_ context.Context, r *pb.GetScheduleRequest) (*pb.GetScheduleResponse, error) {
	shown, err := s.change(r.GetName(), func(*schedule) {})
	return &pb.GetScheduleResponse{Schedule: shown}, err
}

func (s *scheduleService) ListSchedules(_ context.Context, r *pb.ListSchedulesRequest) (*pb.ListSchedulesResponse, error) {
	s.fake.lock.Lock()
	defer s.fake.lock.Unlock()
	var found []*pb.Schedule
	for _, name := range sorted(s.fake.schedules) {
		if m := s.fake.schedules[name].message; r.GetOwner() == "" || m.Owner == r.GetOwner() {
			found = append(found, proto.CloneOf(m))
		}
	}
	part, next, err := page(found, r.GetPageSize(), r.GetPageToken())
	return &pb.ListSchedulesResponse{Schedules: part, NextPageToken: next}, err
}

func (s *scheduleService) DeleteSchedule(_ context.Context, r *pb.DeleteScheduleRequest) (*pb.DeleteScheduleResponse, error) {
	_, err := s.change(r.GetName(), func(*schedule) { delete(s.fake.schedules, r.GetName()) })
	return &pb.DeleteScheduleResponse{}, err
}

func (s *scheduleService) PauseSchedule(_ context.Context, r *pb.PauseScheduleRequest) (*pb.PauseScheduleResponse, error) {
	shown, err := s.change(r.GetName(), func(found *schedule) { found.message.Paused = true })
	return &pb.PauseScheduleResponse{Schedule: shown}, err
}

func (s *scheduleService) ResumeSchedule(_ context.Context, r *pb.ResumeScheduleRequest) (*pb.ResumeScheduleResponse, error) {
	shown, err := s.change(r.GetName(), func(found *schedule) {
		found.message.Paused = false
		window := found.message.Spec.CatchUpWindow
		missed := !found.next.IsZero() && !found.next.After(s.fake.now)
		if missed && (window == nil || s.fake.now.Sub(found.next) <= window.AsDuration()) {
			s.fake.fireScheduleLocked(found)
		} else {
			s.fake.planLocked(found)
		}
	})
	s.fake.settle()
	return &pb.ResumeScheduleResponse{Schedule: shown}, err
}

func (s *scheduleService) RunSchedule(_ context.Context, r *pb.RunScheduleRequest) (*pb.RunScheduleResponse, error) {
	result := &pb.RunScheduleResponse{}
	_, err := s.change(r.GetName(), func(found *schedule) { result.JobId = s.fake.runScheduleLocked(found, r.GetJobId()).spec.Id })
	s.fake.settle()
	return result, err
}

func (s *scheduleService) PreviewSchedule(_ context.Context, r *pb.PreviewScheduleRequest) (*pb.PreviewScheduleResponse, error) {
	after := s.fake.Now()
	created := after
	if r.GetAfter() != nil {
		after = r.GetAfter().AsTime()
	}
	count := cmp.Or(int(r.GetCount()), defaultPreview)
	result := &pb.PreviewScheduleResponse{}
	for range count {
		next, err := nextAfter(r.GetTiming(), created, after)
		if err != nil {
			return nil, err
		}
		if next.IsZero() {
			break
		}
		result.Times = append(result.Times, timestamppb.New(next))
		after = next
	}
	return result, nil
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
