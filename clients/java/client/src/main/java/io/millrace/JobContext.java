// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** What a handler is told of its job, and what it may say. Valid while the handler runs; may be used from any thread. */
public interface JobContext {
  /** The job's UUID: the same in all attempts, so a good key for idempotence. */
  String jobId();

  /** Number of this delivery; it rises each time and is never used again. */
  int delivery();

  /** The task's name. */
  String task();

  /** Where the job waited. */
  String queue();

  /** How urgent it is. */
  Priority priority();

  /** This attempt's number, from 1. */
  int attempt();

  /** The effective limit. */
  int maxAttempts();

  /** When the job was created. */
  Instant createdAt();

  /** When this attempt must have ended: its time-out or the job's deadline, whichever is first. */
  Optional<Instant> deadline();

  /** The job's labels. */
  Map<String, String> labels();

  /** The chain it is a step of. */
  Optional<String> chainId();

  /** The batch it is a member of. */
  Optional<String> batchId();

  /** W3C trace context of the producer; empty if there is none. */
  String traceparent();

  /** W3C trace state of the producer; empty if there is none. */
  String tracestate();

  /** What the producer gave. */
  Payload payload();

  /** What the producer gave, read as that type; null if nothing. */
  <T> T payload(Class<T> type);

  /** Positional arguments. */
  List<Object> args();

  /** Keyword arguments. */
  Map<String, Object> kwargs();

  /** Result of the chain step before, if the job asked for it. */
  Payload previousResult();

  /** Result of the chain step before, read as that type; null if there is none. */
  <T> T previousResult(Class<T> type);

  /** Tells how far it is: a fraction from 0 to 1, and words. */
  void progress(double fraction, String message);

  /** Writes a line to the job's log. */
  void log(String line);

  /**
   * Somebody wants the handler to stop: the job was cancelled or its time is over, the worker has lost it, or the worker's grace has
   * ended. A terminate also interrupts the handler's thread.
   */
  boolean isCancelled();

  /** {@link JobCancelledException} if {@link #isCancelled()}. */
  void throwIfCancelled();

  /** Sleeps, but not through a cancel: then {@link JobCancelledException}. */
  void sleep(Duration duration) throws InterruptedException;

  /** Calls this once when somebody wants the handler to stop (at once, if it is so already): to close what it blocks on. */
  void onCancel(Runnable action);
}
