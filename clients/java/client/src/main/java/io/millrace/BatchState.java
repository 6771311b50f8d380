// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** How a batch stands. */
public enum BatchState {
  /** Takes items; its members run. */
  OPEN,
  /** Takes no more items; some member has not ended. */
  SEALED,
  /** Ended: all members succeeded. */
  SUCCEEDED,
  /** Ended: some member did not succeed. */
  FAILED,
  /** Ended: it was cancelled. */
  CANCELLED,
  /** Of a later version of the server. */
  UNKNOWN
}
