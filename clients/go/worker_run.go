// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// execute runs a delivery's handler, in a goroutine of its own.
func (w *Worker) execute(ctx context.Context, run *run) {
	delivery := run.delivery
	run.started = time.Now()
	delivery.news = func(report *pb.Report) { w.state.news(run, report) }
	// Quick jobs need no report of their start: the final one tells it too.
	announce := time.AfterFunc(startedAfter, func() {
		started := timestamppb.New(run.started)
		delivery.say(&pb.Report{Event: &pb.Report_Started{Started: &pb.Started{StartedAt: started}}})
	})
	end := delivery.deadline(run.started)
	var overrun *time.Timer
	if !end.IsZero() {
		// The server watches the time; this is for when it can't be reached.
		overrun = time.AfterFunc(time.Until(end)+deadlineSlack, func() { run.stop(context.DeadlineExceeded) })
	}
	var result verdict
	// Deferred, because a handler may end its goroutine.
	defer func() {
		announce.Stop()
		if overrun != nil {
			overrun.Stop()
		}
		if !w.state.finished(run, result) {
			result.outcome = "lost"
		}
		run.stop(nil)
		w.logAttempt(run, result)
	}()
	w.perform(&handlerContext{Context: ctx, delivery: delivery, end: end}, delivery, run.started, run.session.limits, &result)
}

// logAttempt writes the one line that each attempt gets.
func (w *Worker) logAttempt(run *run, result verdict) {
	level := slog.LevelInfo
	if result.outcome == "failed" || result.outcome == "lost" || result.outcome == "unknown_task" {
		level = slog.LevelWarn
	}
	logger := w.options.logger
	if !logger.Enabled(context.Background(), level) {
		return
	}
	attributes := []slog.Attr{
		slog.String("job", run.delivery.JobID), slog.String("task", run.delivery.Task), slog.Int("attempt", run.delivery.Attempt),
		slog.Duration("duration", time.Since(run.started).Round(time.Microsecond)), slog.String("outcome", result.outcome),
	}
	if result.err != nil {
		attributes = append(attributes, slog.String("error", result.report.GetFailed().GetError().GetMessage()))
	}
	if reason := result.report.GetSucceeded().GetResultOmittedReason(); reason != "" {
		attributes = append(attributes, slog.String("result_omitted", reason))
	}
	logger.LogAttrs(context.Background(), level, "attempt", attributes...)
}
