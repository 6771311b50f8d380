// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/**
 * Does the work of a task. What it returns is the job's result: null for none, a {@link Payload}, bytes, or a value that becomes JSON.
 * An exception is a failed attempt, tried again as the job's policy says; {@link PermanentException}, {@link RetryLaterException} and
 * {@link SnoozeException} say it otherwise. A job is delivered at least once: a handler must bear being run again.
 */
@FunctionalInterface
public interface Handler {
  /** Runs one attempt. */
  Object handle(JobContext job) throws Exception;

  /** A handler that gets its payload read as that type. */
  @FunctionalInterface
  interface Typed<T> {
    /** Runs one attempt. */
    Object handle(T payload, JobContext job) throws Exception;
  }
}
