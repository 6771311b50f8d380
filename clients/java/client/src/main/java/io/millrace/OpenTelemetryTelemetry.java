// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapGetter;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Spans by OpenTelemetry: {@code create TASK} around each create and {@code run TASK} around each attempt. The run is a trace of its
 * own, linked to the create: a job may run days later, or many times. Needs {@code io.opentelemetry:opentelemetry-api} on the class
 * path.
 */
public final class OpenTelemetryTelemetry implements Telemetry {
  private static final AttributeKey<String> SYSTEM = AttributeKey.stringKey("messaging.system");
  private static final AttributeKey<String> QUEUE = AttributeKey.stringKey("messaging.destination.name");
  private static final AttributeKey<Long> COUNT = AttributeKey.longKey("messaging.batch.message_count");
  private static final AttributeKey<String> JOB = AttributeKey.stringKey("messaging.message.id");
  private static final AttributeKey<Long> ATTEMPT = AttributeKey.longKey("millrace.job.attempt");
  private static final AttributeKey<String> OUTCOME = AttributeKey.stringKey("millrace.job.outcome");
  private static final String NAME = "millrace";

  private final Tracer tracer;

  /** Spans go where this says. */
  public OpenTelemetryTelemetry(OpenTelemetry openTelemetry) {
    tracer = openTelemetry.getTracer("io.millrace", Version.TEXT);
  }

  @Override
  public Creation creating(String task, String queue, int jobs) {
    SpanBuilder builder = tracer.spanBuilder("create " + task).setSpanKind(SpanKind.PRODUCER).setAttribute(SYSTEM, NAME);
    if (!queue.isEmpty()) {
      builder.setAttribute(QUEUE, queue);
    }
    if (jobs > 1) {
      builder.setAttribute(COUNT, (long) jobs);
    }
    Span span = builder.startSpan();
    Map<String, String> carrier = new HashMap<>();
    W3CTraceContextPropagator.getInstance().inject(Context.current().with(span), carrier, Map::put);
    return new SpanCreation(span, carrier.getOrDefault("traceparent", ""), carrier.getOrDefault("tracestate", ""));
  }

  private record SpanCreation(Span span, String traceparent, String tracestate) implements Creation {
    @Override
    public void end(Throwable failure) {
      fail(span, failure);
      span.end();
    }
  }

  @Override
  @SuppressWarnings("MustBeClosedChecker") // Run.end closes it, on the same thread
  public Run running(JobContext job) {
    Context producer = W3CTraceContextPropagator.getInstance().extract(Context.root(), job, TraceOfJob.INSTANCE);
    SpanBuilder builder = tracer.spanBuilder("run " + job.task()).setNoParent().setSpanKind(SpanKind.CONSUMER);
    builder.setAttribute(SYSTEM, NAME).setAttribute(QUEUE, job.queue()).setAttribute(JOB, job.jobId());
    builder.setAttribute(ATTEMPT, (long) job.attempt());
    if (Span.fromContext(producer).getSpanContext().isValid()) {
      builder.addLink(Span.fromContext(producer).getSpanContext());
    }
    Span span = builder.startSpan();
    return new SpanRun(span, span.makeCurrent());
  }

  private record SpanRun(Span span, Scope scope) implements Run {
    @Override
    public void end(String outcome, Throwable failure) {
      scope.close();
      span.setAttribute(OUTCOME, outcome);
      fail(span, failure);
      span.end();
    }
  }

  private static void fail(Span span, Throwable failure) {
    if (failure != null) {
      span.recordException(failure);
      span.setStatus(StatusCode.ERROR);
    }
  }

  /** The trace context that the job carries. */
  private enum TraceOfJob implements TextMapGetter<JobContext> {
    INSTANCE;

    @Override
    public Iterable<String> keys(JobContext job) {
      return List.of("traceparent", "tracestate");
    }

    @Override
    public String get(JobContext job, String key) {
      String value = key.equals("traceparent") ? job.traceparent() : key.equals("tracestate") ? job.tracestate() : "";
      return value.isEmpty() ? null : value;
    }
  }
}
