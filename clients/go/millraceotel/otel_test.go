// SPDX-License-Identifier: Apache-2.0

package millraceotel_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/millrace/millrace/clients/go"
	"github.com/millrace/millrace/clients/go/millraceotel"
	"github.com/millrace/millrace/clients/go/millracetest"
)

func TestSpansAreLinked(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	fake := millracetest.New(t)
	client := fake.Client(millrace.WithTracer(millraceotel.New(millraceotel.WithTracerProvider(provider))))
	worker := millrace.NewWorker(client)
	worker.HandleFunc("outer", func(ctx context.Context, d *millrace.Delivery) (any, error) {
		_, err := client.Create(ctx, "inner", nil)
		return nil, err
	})
	worker.HandleFunc("inner", func(context.Context, *millrace.Delivery) (any, error) { return nil, errors.New("broken") })
	fake.Serve(worker)

	ctx, request := provider.Tracer("test").Start(context.Background(), "request")
	if _, err := client.Create(ctx, "outer", nil); err != nil {
		t.Fatal(err)
	}
	request.End()

	byName := map[string]trace.ReadOnlySpan{}
	for _, span := range spans.Ended() {
		byName[span.Name()] = span
	}
	line := []string{"request", "create outer", "run outer", "create inner", "run inner"}
	for i, name := range line {
		span := byName[name]
		if span == nil {
			t.Fatalf("there is no span %q", name)
		}
		if i > 0 && span.Parent().SpanID() != byName[line[i-1]].SpanContext().SpanID() {
			t.Fatalf("%q is not a child of %q", name, line[i-1])
		}
		if span.SpanContext().TraceID() != request.SpanContext().TraceID() {
			t.Fatalf("%q is of another trace", name)
		}
	}
	if status := byName["run inner"].Status(); status.Code != codes.Error || status.Description != "broken" {
		t.Fatalf("the status is %+v", status)
	}
	if byName["run outer"].Status().Code == codes.Error {
		t.Fatal("the outer attempt is marked as failed")
	}
}

func TestEveryWayOfCreatingCarriesTheContext(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	fake := millracetest.New(t)
	client := fake.Client(millrace.WithTracer(millraceotel.New(millraceotel.WithTracerProvider(provider))))
	worker := millrace.NewWorker(client)
	carried := map[string]bool{}
	worker.HandleFunc("*", func(_ context.Context, d *millrace.Delivery) (any, error) {
		carried[d.Task] = d.Traceparent != ""
		return nil, nil
	})
	fake.Serve(worker)
	ctx := t.Context()
	_, bulk := client.CreateMany(ctx, millrace.NewJob("bulk", nil))
	_, chain := client.Chain(ctx, millrace.NewJob("chain", nil))
	_, batch := client.CreateBatch(ctx, millrace.BatchSpec{Items: slices.Values([]*millrace.JobSpec{millrace.NewJob("batch", nil)})})
	if err := errors.Join(bulk, chain, batch); err != nil {
		t.Fatal(err)
	}
	for _, err := range client.CreateStream(ctx, slices.Values([]*millrace.JobSpec{millrace.NewJob("stream", nil)})) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, task := range []string{"bulk", "chain", "batch", "stream"} {
		if !carried[task] {
			t.Errorf("%s carries no trace context", task)
		}
	}
	if len(spans.Started()) != len(spans.Ended()) {
		t.Errorf("%d spans were started, %d ended", len(spans.Started()), len(spans.Ended()))
	}
}
