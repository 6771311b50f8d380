// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Delivery;
import io.millrace.proto.v1.LogLines;
import io.millrace.proto.v1.Report;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** One delivery in this worker: what the handler sees, and where it stands. */
final class Execution implements JobContext {
  private static final int PROGRESS_CHARS = 256;

  /** Why a handler is to stop, the strongest last. */
  enum Stop {
    SHUTDOWN,
    CANCEL,
    TERMINATE,
    LOST
  }

  /** Where it stands. */
  enum Phase {
    QUEUED,
    RUNNING,
    REPORTED
  }

  /** What names a delivery. */
  record Key(String jobId, int delivery) {}

  final Key key;
  final Delivery delivery;
  final Registration registration;
  private final WorkerCore core;
  private final CompletableFuture<Stop> stop = new CompletableFuture<>();

  // Guarded by the core's lock.
  Phase phase = Phase.QUEUED;
  Thread thread;
  boolean isOrphan;

  volatile Instant startedAt;
  private Payload payload;

  Execution(WorkerCore core, Registration registration, Delivery delivery) {
    this.core = core;
    this.registration = registration;
    this.delivery = delivery;
    this.key = new Key(delivery.getJobId(), delivery.getDelivery());
  }

  /** Asks the handler to stop. With the core's lock. */
  void requestStop(Stop why) {
    if (!stop.complete(why) && why.compareTo(stopRequested()) > 0) {
      stop.obtrudeValue(why);
    }
  }

  /** Null: nobody wants it to stop. */
  Stop stopRequested() {
    return stop.getNow(null);
  }

  Report.Builder report() {
    Report.Builder report = Report.newBuilder().setJobId(key.jobId).setDelivery(key.delivery);
    Instant started = startedAt;
    if (started != null) {
      report.setStartedAt(Convert.toTimestamp(started));
    }
    return report;
  }

  @Override
  public String jobId() {
    return key.jobId;
  }

  @Override
  public int delivery() {
    return key.delivery;
  }

  @Override
  public String task() {
    return delivery.getTask();
  }

  @Override
  public String queue() {
    return delivery.getQueue();
  }

  @Override
  public Priority priority() {
    return Convert.fromPriority(delivery.getPriority());
  }

  @Override
  public int attempt() {
    return delivery.getAttempt();
  }

  @Override
  public int maxAttempts() {
    return delivery.getMaxAttempts();
  }

  @Override
  public Instant createdAt() {
    return Convert.fromTimestamp(delivery.getCreatedAt());
  }

  @Override
  public Optional<Instant> deadline() {
    Optional<Instant> total = Convert.time(delivery.hasDeadline(), delivery.getDeadline());
    if (!delivery.hasAttemptTimeout() || startedAt == null) {
      return total;
    }
    Instant attempt = startedAt.plus(Convert.fromDuration(delivery.getAttemptTimeout()));
    return total.isPresent() && total.get().isBefore(attempt) ? total : Optional.of(attempt);
  }

  @Override
  public Map<String, String> labels() {
    return delivery.getLabelsMap();
  }

  @Override
  public Optional<String> chainId() {
    return Convert.text(delivery.getChainId());
  }

  @Override
  public Optional<String> batchId() {
    return Convert.text(delivery.getBatchId());
  }

  @Override
  public String traceparent() {
    return delivery.getTraceparent();
  }

  @Override
  public String tracestate() {
    return delivery.getTracestate();
  }

  @Override
  public synchronized Payload payload() {
    if (payload == null) {
      payload = core.encoding().decode(Convert.fromPayload(delivery.getPayload()));
    }
    return payload;
  }

  @Override
  public <T> T payload(Class<T> type) {
    return core.encoding().read(payload(), type);
  }

  @Override
  public List<Object> args() {
    return core.encoding().args(payload());
  }

  @Override
  public Map<String, Object> kwargs() {
    return core.encoding().kwargs(payload());
  }

  @Override
  public Payload previousResult() {
    return core.encoding().decode(Convert.fromPayload(delivery.getPreviousResult()));
  }

  @Override
  public <T> T previousResult(Class<T> type) {
    return core.encoding().read(previousResult(), type);
  }

  @Override
  public void progress(double fraction, String message) {
    double part = Double.isFinite(fraction) ? Math.min(1, Math.max(0, fraction)) : 0;
    String text = message == null ? "" : Failures.cut(message, PROGRESS_CHARS);
    core.news(this, report().setProgress(io.millrace.proto.v1.Progress.newBuilder().setFraction(part).setMessage(text)).build());
  }

  @Override
  public void log(String line) {
    var message =
        io.millrace.proto.v1.LogLine.newBuilder()
            .setTimeUnixMs(System.currentTimeMillis())
            .setText(Failures.cut(String.valueOf(line), registration.logLineBytesMax()));
    core.news(this, report().setLog(LogLines.newBuilder().addLines(message)).build());
  }

  @Override
  public boolean isCancelled() {
    return stop.isDone();
  }

  @Override
  public void throwIfCancelled() {
    if (stop.isDone()) {
      throw cancelled();
    }
  }

  private JobCancelledException cancelled() {
    return new JobCancelledException("the handler was asked to stop (" + stopRequested() + ")");
  }

  @Override
  public void sleep(Duration duration) throws InterruptedException {
    try {
      stop.get(duration.toNanos(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException over) {
      return;
    } catch (ExecutionException impossible) {
      throw new IllegalStateException(impossible);
    }
    throw cancelled();
  }

  @Override
  public void onCancel(Runnable action) {
    stop.thenRunAsync(action); // never on the thread that serves the session
  }
}
