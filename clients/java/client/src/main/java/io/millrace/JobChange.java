// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.Optional;

/**
 * What a watch tells: the state of each match, then one {@code INITIAL_DONE}, then every change in order.
 *
 * @param job the job as it became; empty for INITIAL_DONE
 */
public record JobChange(Kind kind, Optional<Job> job) {
  /** What happened. */
  public enum Kind {
    /** This is the state that a match is in, or came into. */
    STATE,
    /** All that was there has been told. */
    INITIAL_DONE,
    /** The job was removed. */
    DELETED
  }
}
