// SPDX-License-Identifier: Apache-2.0

package millrace

import "context"

// Tracer opens spans. The module millraceotel has one for OpenTelemetry.
type Tracer interface {
	// Create opens a span for the create of a job and tells the trace context to store with it. end is called once the outcome
	// is known.
	Create(ctx context.Context, spec *JobSpec) (traceparent, tracestate string, end func(error))
	// Run opens a span for an attempt, linked to the trace context stored with the job (Delivery.Traceparent), and returns the
	// context for the handler.
	Run(ctx context.Context, delivery *Delivery) (inner context.Context, end func(error))
}

// traced gives a spec the trace context of a new span, unless it has one.
func (c *Client) traced(ctx context.Context, spec *JobSpec) (*JobSpec, func(error)) {
	if c.options.tracer == nil || spec.err != nil || spec.message.Traceparent != "" {
		return spec, func(error) {}
	}
	traceparent, tracestate, end := c.options.tracer.Create(ctx, spec)
	if end == nil {
		end = func(error) {}
	}
	return spec.withTrace(traceparent, tracestate), end
}
