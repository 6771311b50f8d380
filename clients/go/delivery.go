// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Delivery is a job in a handler's hands.
type Delivery struct {
	JobID    string
	Task     string
	Queue    string
	Priority Priority
	Payload  Payload
	// Number of this handing-over; rises each time, and is never used again for the job.
	Number int
	// Attempt is 1 for the first one.
	Attempt     int
	MaxAttempts int
	// AttemptTimeout limits this attempt; 0: no limit. The context's deadline says when it, or the job's deadline, passes.
	AttemptTimeout time.Duration
	// Deadline is when the job's total time-out passes; zero: none.
	Deadline  time.Time
	CreatedAt time.Time
	// Traceparent and Tracestate are the producer's trace context.
	Traceparent string
	Tracestate  string
	// PreviousResult is the result of the chain step before, if the step asked for it (WithPreviousResult).
	PreviousResult Payload
	Labels         map[string]string
	ChainID        string
	BatchID        string

	// news takes reports that are not final.
	news func(*pb.Report)
	// raw is what came, until it is decoded in the handler's goroutine: a codec is the application's, and may be slow or panic.
	raw rawPayloads
	// lineBytesMax of a log line.
	lineBytesMax int
}

type rawPayloads struct{ payload, previousResult *pb.Payload }

// Decode stores the payload in v, as Payload.Decode.
func (d *Delivery) Decode(v any) error {
	return d.Payload.Decode(v)
}

// DecodePreviousResult stores the result of the chain step before in v, if there is one.
func (d *Delivery) DecodePreviousResult(v any) error { return d.PreviousResult.Decode(v) }

// Progress tells how far the handler is: a fraction from 0 to 1, and a few words.
func (d *Delivery) Progress(fraction float64, message string) {
	d.say(&pb.Report{Event: &pb.Report_Progress{Progress: &pb.Progress{Fraction: fraction, Message: valid(message)}}})
}

// Log adds to the job's log, of which the last 64 KiB are kept: a line for each line of text.
func (d *Delivery) Log(text string) {
	now := time.Now().UnixMilli()
	lines := &pb.LogLines{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		lines.Lines = append(lines.Lines, &pb.LogLine{TimeUnixMs: now, Text: cut(line, d.lineBytesMax)})
	}
	d.say(&pb.Report{Event: &pb.Report_Log{Log: lines}})
}

// Logf is Log with fmt.Sprintf.
func (d *Delivery) Logf(format string, arguments ...any) { d.Log(fmt.Sprintf(format, arguments...)) }

func (d *Delivery) say(report *pb.Report) {
	if d.news == nil {
		return
	}
	report.JobId, report.Delivery = d.JobID, uint32(d.Number)
	d.news(report)
}

// valid makes text fit for the wire.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// cut makes text valid and at most so many bytes long.
func cut(text string, bytesMax int) string {
	text = valid(text)
	if bytesMax <= 0 || len(text) <= bytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:bytesMax], "")
}

type deliveryKey struct{}

// DeliveryFrom gives a handler that was made with Typed what else there is about the job; nil outside of handlers.
func DeliveryFrom(ctx context.Context) *Delivery {
	delivery, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return delivery
}

// deliveryOf reads a delivery from the wire, all but what decodeRaw does.
func deliveryOf(m *pb.Delivery) *Delivery {
	return &Delivery{
		JobID: m.JobId, Task: m.Task, Queue: m.Queue, Priority: priorityOf(m.Priority), Number: int(m.Delivery), Attempt: int(m.Attempt),
		MaxAttempts: int(m.MaxAttempts), AttemptTimeout: m.AttemptTimeout.AsDuration(), Deadline: timeOf(m.Deadline),
		CreatedAt: timeOf(m.CreatedAt), Traceparent: m.Traceparent, Tracestate: m.Tracestate, Labels: m.Labels, ChainID: m.ChainId,
		BatchID: m.BatchId, raw: rawPayloads{m.Payload, m.PreviousResult},
	}
}

func (d *Delivery) decodeRaw(c *Client) (err error) {
	raw := d.raw
	d.raw = rawPayloads{}
	if d.Payload, err = c.decode(raw.payload); err == nil {
		d.PreviousResult, err = c.decode(raw.previousResult)
	}
	return err
}

// deadline is when the attempt, started at a time, must have ended; zero: never.
func (d *Delivery) deadline(started time.Time) time.Time {
	if d.AttemptTimeout <= 0 {
		return d.Deadline
	}
	end := started.Add(d.AttemptTimeout)
	if !d.Deadline.IsZero() && d.Deadline.Before(end) {
		end = d.Deadline
	}
	return end
}

// handlerContext is a handler's context: it tells the deadline, but ends when the worker says so. The server watches the time
// (and its LOST command ends the context), so that a handler that overran is told once, and by one clock.
type handlerContext struct {
	context.Context
	delivery *Delivery
	end      time.Time
}

func (c *handlerContext) Deadline() (time.Time, bool) { return c.end, !c.end.IsZero() }

func (c *handlerContext) Value(key any) any {
	if key == (deliveryKey{}) {
		return c.delivery
	}
	return c.Context.Value(key)
}
