// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Thrown by a handler: the job has failed for good, no further attempt. */
public class PermanentException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** With words for people. */
  public PermanentException(String message) {
    super(message);
  }

  /** Because of something, which the job's error then tells instead. */
  public PermanentException(String message, Throwable cause) {
    super(message, cause);
  }
}
