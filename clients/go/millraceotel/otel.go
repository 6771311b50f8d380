// SPDX-License-Identifier: Apache-2.0

// Package millraceotel makes OpenTelemetry spans for creates and attempts, and links them: the attempt's span is a child of the
// create's, however much later and wherever it runs.
//
//	client, err := millrace.NewClient(millrace.WithTracer(millraceotel.New()))
//
// A worker uses the tracer of its client. It is a module of its own, so that those who do not trace do not depend on OpenTelemetry.
package millraceotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace/millrace/clients/go"
)

const scope = "github.com/millrace/millrace/clients/go/millraceotel"

// Attributes of the spans, by the conventions for messaging.
const (
	keySystem    = attribute.Key("messaging.system")
	keyOperation = attribute.Key("messaging.operation.type")
	keyQueue     = attribute.Key("messaging.destination.name")
	keyJob       = attribute.Key("messaging.message.id")
	keyTask      = attribute.Key("millrace.task")
	keyAttempt   = attribute.Key("millrace.attempt")
)

type tracer struct {
	spans trace.Tracer
	// The wire has W3C trace context and nothing else, whatever propagator the application uses for itself.
	context propagation.TraceContext
}

// Option sets what is not the default.
type Option func(*trace.TracerProvider)

// WithTracerProvider makes spans with this provider. Default: the global one.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(p *trace.TracerProvider) { *p = provider }
}

// New makes a tracer for millrace.WithTracer.
func New(options ...Option) millrace.Tracer {
	provider := otel.GetTracerProvider()
	for _, option := range options {
		option(&provider)
	}
	return &tracer{spans: provider.Tracer(scope, trace.WithInstrumentationVersion(millrace.Version()))}
}

// Create opens the span of a create.
func (t *tracer) Create(ctx context.Context, spec *millrace.JobSpec) (traceparent, tracestate string, end func(error)) {
	ctx, span := t.spans.Start(ctx, "create "+spec.Task(), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		keySystem.String("millrace"), keyOperation.String("create"), keyJob.String(spec.ID()), keyTask.String(spec.Task()),
	))
	carrier := propagation.MapCarrier{}
	t.context.Inject(ctx, carrier)
	return carrier.Get("traceparent"), carrier.Get("tracestate"), func(err error) { finish(span, err) }
}

// Run opens the span of an attempt, as a child of the create's.
func (t *tracer) Run(ctx context.Context, delivery *millrace.Delivery) (context.Context, func(error)) {
	carrier := propagation.MapCarrier{"traceparent": delivery.Traceparent, "tracestate": delivery.Tracestate}
	ctx = t.context.Extract(ctx, carrier)
	ctx, span := t.spans.Start(ctx, "run "+delivery.Task, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		keySystem.String("millrace"), keyOperation.String("process"), keyQueue.String(delivery.Queue), keyJob.String(delivery.JobID),
		keyTask.String(delivery.Task), keyAttempt.Int(delivery.Attempt),
	))
	return ctx, func(err error) { finish(span, err) }
}

func finish(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
		var detail *millrace.Error
		if errors.As(err, &detail) && detail.Reason != "" {
			span.SetAttributes(attribute.String("error.type", detail.Reason))
		}
	}
	span.End()
}
