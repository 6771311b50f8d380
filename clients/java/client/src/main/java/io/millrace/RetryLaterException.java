// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.Objects;

/** Thrown by a handler: the attempt has failed, and the next one is to be after this delay, whatever the policy says. */
public class RetryLaterException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Duration delay;

  /** With words for people. */
  public RetryLaterException(Duration delay, String message) {
    this(delay, message, null);
  }

  /** Because of something, which the job's error then tells instead. */
  public RetryLaterException(Duration delay, String message, Throwable cause) {
    super(message, cause);
    this.delay = Objects.requireNonNull(delay);
  }

  /** Until the next attempt. */
  public Duration delay() {
    return delay;
  }
}
