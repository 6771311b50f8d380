// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** No spans. */
enum NoTelemetry implements Telemetry, Telemetry.Creation, Telemetry.Run {
  INSTANCE;

  @Override
  public Creation creating(String task, String queue, int jobs) {
    return this;
  }

  @Override
  public Run running(JobContext job) {
    return this;
  }

  @Override
  public String traceparent() {
    return "";
  }

  @Override
  public String tracestate() {
    return "";
  }

  @Override
  public void end(Throwable failure) {}

  @Override
  public void end(String outcome, Throwable failure) {}
}
