// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.Optional;

/** One past delivery of a job. The last ten are kept. */
public record Attempt(
    int delivery, String sessionId, Optional<Instant> startedAt, Optional<Instant> finishedAt, Outcome outcome, Optional<JobError> error) {

  /** How it ended. */
  public enum Outcome {
    SUCCEEDED,
    FAILED,
    SNOOZED,
    RELEASED,
    LOST,
    TIMED_OUT,
    CANCELLED,
    UNKNOWN_TASK,
    /** Of a later version of the server. */
    UNKNOWN
  }
}
