// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/clients/go"
)

// Boom is how the standard handlers fail.
type Boom struct{ message string }

// Error is the message told.
func (b Boom) Error() string { return b.message }

// input has the fields of all payloads.
type input struct {
	Message  string   `json:"message"`
	Delay    seconds  `json:"delay"`
	Until    any      `json:"until"`
	Seconds  seconds  `json:"seconds"`
	Fraction float64  `json:"fraction"`
	Lines    []string `json:"lines"`
	Length   int      `json:"length"`
}

func (in input) boom(otherwise string) error {
	if in.Message != "" {
		otherwise = in.Message
	}
	return Boom{otherwise}
}

type object = map[string]any

var handlers = map[string]millrace.Handler{
	"echo":        millrace.HandlerFunc(echo),
	"bytes":       millrace.HandlerFunc(echoBytes),
	"fail":        millrace.TypedNoResult(func(_ context.Context, in input) error { return in.boom("it broke") }),
	"panic":       millrace.TypedNoResult(func(_ context.Context, in input) error { panic(in.boom("it broke")) }),
	"permanent":   millrace.TypedNoResult(func(_ context.Context, in input) error { return millrace.Permanent(in.boom("never again")) }),
	"retry_later": millrace.Typed(retryLater),
	"snooze":      millrace.Typed(snooze),
	"flaky":       millrace.Typed(flaky),
	"sleep":       millrace.Typed(sleep),
	"hang":        millrace.Typed(hang),
	"busy":        millrace.Typed(busy),
	"progress":    millrace.Typed(progress),
	"log":         millrace.Typed(writeLog),
	"previous":    millrace.HandlerFunc(previous),
	"big_result":  millrace.Typed(func(_ context.Context, in input) (string, error) { return strings.Repeat("x", in.Length), nil }),
	"bad_result":  millrace.Typed(func(context.Context, input) (object, error) { return object{"value": math.NaN()}, nil }),
	"crash":       millrace.HandlerFunc(crash),
	"context":     millrace.HandlerFunc(tellContext),
}

func echo(_ context.Context, d *millrace.Delivery) (any, error) {
	if d.Payload.Data != nil {
		return d.Payload.Data, nil
	}
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if value == nil && d.Payload.JSON != nil {
		return d.Payload, nil // null is a value, too
	}
	return value, nil
}

func echoBytes(_ context.Context, d *millrace.Delivery) (any, error) {
	if d.Payload.Data == nil {
		return nil, Boom{"the payload is not bytes"}
	}
	return d.Payload.Data, nil
}

func attempt(ctx context.Context) object {
	return object{"attempt": millrace.DeliveryFrom(ctx).Attempt}
}

func retryLater(ctx context.Context, in input) (object, error) {
	if millrace.DeliveryFrom(ctx).Attempt == 1 {
		return nil, millrace.RetryLater(in.Delay.duration(), in.boom("busy"))
	}
	return attempt(ctx), nil
}

func snooze(ctx context.Context, in input) (object, error) {
	text, _ := in.Until.(string)
	until, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, millrace.Permanent(err)
	}
	if time.Now().Before(until) {
		return nil, millrace.Snooze(in.Delay.duration())
	}
	return attempt(ctx), nil
}

func flaky(ctx context.Context, in input) (object, error) {
	until, ok := in.Until.(interface{ Int64() (int64, error) })
	if !ok {
		return nil, millrace.Permanent(errors.New("until is not a number"))
	}
	number, err := until.Int64()
	if err != nil {
		return nil, millrace.Permanent(err)
	}
	if int64(millrace.DeliveryFrom(ctx).Attempt) < number {
		return nil, in.boom("it broke")
	}
	return attempt(ctx), nil
}

func sleep(ctx context.Context, in input) (object, error) {
	select {
	case <-time.After(in.Seconds.duration()):
		return object{"slept": in.Seconds}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func hang(_ context.Context, in input) (object, error) {
	time.Sleep(in.Seconds.duration())
	return object{"hung": in.Seconds}, nil
}

func busy(_ context.Context, in input) (object, error) {
	x := 1.0
	for end := time.Now().Add(in.Seconds.duration()); time.Now().Before(end); {
		for range 1_000_000 {
			x = math.Sqrt(x + 1)
		}
	}
	return object{"busy": in.Seconds, "x": x}, nil
}

func progress(ctx context.Context, in input) (object, error) {
	millrace.DeliveryFrom(ctx).Progress(in.Fraction, in.Message)
	return sleep(ctx, in)
}

func writeLog(ctx context.Context, in input) (object, error) {
	for _, line := range in.Lines {
		millrace.DeliveryFrom(ctx).Log(line)
	}
	return object{"lines": len(in.Lines)}, nil
}

func previous(_ context.Context, d *millrace.Delivery) (any, error) {
	var value any
	err := d.DecodePreviousResult(&value)
	return object{"previous": value}, err
}

func crash(context.Context, *millrace.Delivery) (any, error) {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return nil, err
	}
	select {}
}

func tellContext(ctx context.Context, d *millrace.Delivery) (any, error) {
	end, _ := ctx.Deadline()
	return object{
		"job_id": d.JobID, "task": d.Task, "queue": d.Queue, "attempt": d.Attempt, "max_attempts": d.MaxAttempts,
		"priority": int(d.Priority), "labels": d.Labels, "deadline": timeOut(end), "traceparent": d.Traceparent, "chain_id": d.ChainID,
		"batch_id": d.BatchID,
	}, nil
}
