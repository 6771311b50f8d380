// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** How a chain stands. */
public enum ChainState {
  /** Some step has not ended. */
  RUNNING,
  /** All steps succeeded. */
  SUCCEEDED,
  /** A step failed or expired. */
  FAILED,
  /** A step, or the chain, was cancelled. */
  CANCELLED,
  /** Of a later version of the server. */
  UNKNOWN
}
