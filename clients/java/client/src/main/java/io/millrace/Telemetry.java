// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/**
 * Spans for what the client creates and the worker runs, linked through the trace context that is stored with the job. {@link
 * OpenTelemetryTelemetry} is the usual one.
 */
public interface Telemetry {
  /** A create begins. */
  Creation creating(String task, String queue, int jobs);

  /** A handler begins, on the thread that runs it. */
  Run running(JobContext job);

  /** A create under way. */
  interface Creation {
    /** W3C trace context to store with the job; empty for none. */
    String traceparent();

    /** W3C trace state to store with the job; empty for none. */
    String tracestate();

    /** The create has ended; null: well. */
    void end(Throwable failure);
  }

  /** A handler under way. */
  interface Run {
    /** The handler has ended, on the same thread; null: without an exception. */
    void end(String outcome, Throwable failure);
  }

  /** No spans. */
  static Telemetry none() {
    return NoTelemetry.INSTANCE;
  }
}
