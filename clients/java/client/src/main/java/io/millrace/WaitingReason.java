// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Why a job that has not ended is not running. */
public enum WaitingReason {
  /** It runs or has ended, or takes the next free slot. */
  NONE,
  NO_WORKER_FOR_QUEUE,
  NO_WORKER_FOR_TASK,
  QUEUE_PAUSED,
  QUEUE_LIMIT,
  RATE_LIMITED,
  CONCURRENCY_KEY,
  BLOCKED,
  SCHEDULED,
  NO_FREE_SLOT,
  /** Of a later version of the server. */
  UNKNOWN
}
