// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Thrown by {@link JobContext#throwIfCancelled} and {@link JobContext#sleep}: let it pass, and it confirms that the handler stopped. */
public final class JobCancelledException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  JobCancelledException(String message) {
    super(message);
  }
}
