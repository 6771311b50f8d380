// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.Optional;

/**
 * What became of one create among many.
 *
 * @param id the job's id
 * @param existing it was there already
 * @param error why there is no such job; empty: there is
 */
public record Outcome(String id, boolean existing, Optional<MillraceException> error) {
  /** The job is there. */
  public boolean isOk() {
    return error.isEmpty();
  }
}
