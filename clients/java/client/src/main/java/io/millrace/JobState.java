// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Where a job is in its life; docs/jobs.md has the diagram. */
public enum JobState {
  /** Waits for its time. */
  SCHEDULED,
  /** Ready; waits for a free slot of a worker. */
  PENDING,
  /** Handed to a worker. */
  RUNNING,
  /** Failed or was lost, and waits for its back-off to end. */
  RETRYING,
  /** A chain step whose predecessor has not succeeded yet. */
  BLOCKED,
  /** Ended: its handler succeeded. */
  SUCCEEDED,
  /** Ended: failed for good, a dead letter. */
  FAILED,
  /** Ended: cancelled. */
  CANCELLED,
  /** Ended: did not start in time. */
  EXPIRED,
  /** Of a later version of the server. */
  UNKNOWN;

  /** The job has ended. */
  public boolean isTerminal() {
    return this == SUCCEEDED || this == FAILED || this == CANCELLED || this == EXPIRED;
  }
}
