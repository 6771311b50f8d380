// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Failed;
import io.millrace.proto.v1.Released;
import io.millrace.proto.v1.ReleaseReason;
import io.millrace.proto.v1.Report;
import io.millrace.proto.v1.Snoozed;
import io.millrace.proto.v1.Succeeded;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * The threads that run handlers. Quick handlers are best off with one thread that takes job after job; handlers that wait for
 * something need a thread each. So one thread is woken for new jobs, as many as there are jobs where handlers usually are slow, and
 * more when the queue is found standing still.
 */
final class HandlerPool {
  /** Jobs queued and none taken for so long: the threads are busy, more are needed. */
  static final Duration STALL = Duration.ofMillis(2);

  /** The exit code of a process that could not stop a handler otherwise. */
  private static final int EXIT_UNSTOPPABLE = 75;

  private static final long SLOW_NANOS = 200_000;
  private static final int AVERAGE_OVER = 16;
  private static final int REASON_BYTES = 256;
  private static final System.Logger LOG = System.getLogger(Worker.class.getName());

  private final WorkerCore core;
  private final Map<String, Handler> handlers;
  private final List<Middleware> middleware;
  private final Telemetry telemetry;
  private final int concurrency;
  private final Duration terminateGrace;
  private final ExecutorService threads;
  private volatile Runnable beforeHalt = () -> {};

  // Guarded by the core's lock.
  private int active;
  private long takenBefore;
  private long stalledSince = System.nanoTime();
  private long usualNanos = SLOW_NANOS;

  HandlerPool(WorkerCore core, WorkerBuilder builder, Telemetry telemetry) {
    this.core = core;
    this.handlers = Map.copyOf(builder.handlers);
    this.middleware = List.copyOf(builder.middleware);
    this.telemetry = telemetry;
    this.concurrency = builder.concurrency;
    this.terminateGrace = builder.terminateGrace;
    this.threads = Threads.asManyAsNeeded("millrace-handler"); // the server never hands out more than the concurrency
  }

  /** What to do before the process is ended because of a handler, in spite of the others. */
  void beforeHalt(Runnable action) {
    beforeHalt = action;
  }

  /** With the core's lock: how long a handler took. */
  void took(long nanos) {
    usualNanos += (nanos - usualNanos) / AVERAGE_OVER;
  }

  /** With the core's lock. */
  boolean isQuick() {
    return usualNanos < SLOW_NANOS;
  }

  /** With the core's lock: jobs have come. */
  void wake(int queued, int orphans) {
    more(isQuick() ? Math.min(1, queued) : queued, orphans);
  }

  /** With the core's lock. */
  void lookForStall(long taken, int queued, int orphans) {
    long now = System.nanoTime();
    if (taken != takenBefore || queued == 0) {
      takenBefore = taken;
      stalledSince = now;
    } else if (now - stalledSince >= STALL.toNanos()) {
      more(active + queued, orphans);
    }
  }

  /** With the core's lock. Handlers of a lost session may still be in; they don't count. */
  private void more(int wanted, int orphans) {
    while (active < Math.min(wanted, concurrency + orphans)) {
      active++;
      threads.execute(this::work);
    }
  }

  /** With the core's lock: a thread found nothing to do. */
  void freed() {
    active--;
  }

  void stop() {
    threads.shutdown();
  }

  private void work() {
    for (Execution execution = core.take(); execution != null; execution = core.take()) {
      long began = System.nanoTime();
      Report report = run(execution);
      long took = System.nanoTime() - began;
      core.returned(execution, report, took);
    }
  }

  /** How an attempt ended. */
  private record Ending(String outcome, Throwable failure, Report report) {}

  private Report run(Execution execution) {
    long began = System.nanoTime();
    Handler handler = handlers.getOrDefault(execution.task(), handlers.get("*"));
    if (handler == null) {
      Released released = Released.newBuilder().setReason(ReleaseReason.RELEASE_REASON_UNKNOWN_TASK).build();
      log(execution, new Ending("released (unknown task)", null, null), began);
      return execution.report().setReleased(released).build();
    }
    Telemetry.Run span = telemetry.running(execution);
    Ending ending = attempt(execution, handler);
    span.end(ending.outcome, ending.failure);
    log(execution, ending, began);
    return ending.report;
  }

  private Ending attempt(Execution execution, Handler handler) {
    try {
      return succeeded(execution, around(handler, 0).handle(execution));
    } catch (SnoozeException snooze) {
      Snoozed snoozed = Snoozed.newBuilder().setDelay(Convert.toDuration(snooze.delay())).build();
      return new Ending("snoozed", null, execution.report().setSnoozed(snoozed).build());
    } catch (Throwable failure) { // whatever comes out of a handler is a failed attempt, an Error too
      return failed(execution, failure);
    }
  }

  private Handler around(Handler handler, int index) {
    if (index == middleware.size()) {
      return handler;
    }
    Handler inner = around(handler, index + 1);
    return job -> middleware.get(index).handle(job, inner);
  }

  private Ending succeeded(Execution execution, Object value) {
    Succeeded.Builder succeeded = Succeeded.newBuilder();
    String outcome = "succeeded";
    try {
      Payload result = core.encoding().encode(value);
      int limit = execution.registration.resultBytesMax();
      if (result.size() > limit) {
        throw new Encoding.Refused("", "the result has " + result.size() + " bytes, at most " + limit + " are kept", null);
      }
      if (!result.isEmpty()) {
        succeeded.setResult(Convert.toPayload(result));
      }
    } catch (Encoding.Refused refused) {
      succeeded.setResultOmittedReason(Failures.cut(refused.getMessage(), REASON_BYTES));
      outcome = "succeeded (result left out: " + refused.getMessage() + ")";
    }
    return new Ending(outcome, null, execution.report().setSucceeded(succeeded).build());
  }

  private static Ending failed(Execution execution, Throwable failure) {
    Execution.Stop stop = execution.stopRequested();
    if (stop == Execution.Stop.SHUTDOWN && isStop(failure)) {
      Released released = Released.newBuilder().setReason(ReleaseReason.RELEASE_REASON_STOPPING).build();
      return new Ending("released", null, execution.report().setReleased(released).build());
    }
    Failed.Builder failed = Failures.of(failure, execution.registration.traceBytesMax());
    failed.setCancelled(stop == Execution.Stop.CANCEL || stop == Execution.Stop.TERMINATE);
    String outcome = stop == null || stop == Execution.Stop.SHUTDOWN ? "failed" : "stopped";
    return new Ending(outcome, failure, execution.report().setFailed(failed).build());
  }

  /** The handler stopped because it was asked to. */
  private static boolean isStop(Throwable failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      if (cause instanceof JobCancelledException
          || cause instanceof InterruptedException
          || cause instanceof java.nio.channels.ClosedByInterruptException) {
        return true;
      }
    }
    return false;
  }

  /** One line per attempt. */
  private static void log(Execution execution, Ending ending, long began) {
    System.Logger.Level level = ending.failure == null ? System.Logger.Level.INFO : System.Logger.Level.WARNING;
    if (LOG.isLoggable(level)) {
      double ms = Math.round((System.nanoTime() - began) / 1e3) / 1e3;
      String line =
          "job=" + execution.jobId() + " task=" + execution.task() + " attempt=" + execution.attempt() + " duration_ms=" + ms
              + " outcome=" + ending.outcome + (ending.failure == null ? "" : " error=\"" + firstLine(ending.failure) + "\"");
      LOG.log(level, line);
    }
  }

  private static String firstLine(Throwable failure) {
    try {
      return String.valueOf(failure).lines().findFirst().orElse("");
    } catch (RuntimeException broken) {
      return failure.getClass().getName();
    }
  }

  /**
   * A handler that must stop has the grace to do so. Afterwards only the end of the process stops it, and nothing else may confirm
   * that it has stopped. This waits on a thread of its own: whatever else runs here may be what blocks.
   */
  void watchTermination(Execution execution) {
    CompletableFuture.delayedExecutor(
            terminateGrace.toMillis(), TimeUnit.MILLISECONDS, work -> Threads.daemon("millrace-terminate", work).start())
        .execute(
            () -> {
              if (core.isStillIn(execution)) {
                halt(execution);
              }
            });
  }

  private void halt(Execution execution) {
    try {
      LOG.log(
          System.Logger.Level.ERROR,
          "job={0} task={1} was terminated and does not stop: the process ends with exit code {2}",
          execution.jobId(),
          execution.task(),
          EXIT_UNSTOPPABLE);
      beforeHalt.run();
    } finally {
      Runtime.getRuntime().halt(EXIT_UNSTOPPABLE);
    }
  }
}
