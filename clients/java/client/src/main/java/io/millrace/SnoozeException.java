// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.Objects;

/** Thrown by a handler: nothing to do yet, call again after this delay. It is no failure and uses up no attempt. */
public final class SnoozeException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Duration delay;

  /** Until the next call. */
  public SnoozeException(Duration delay) {
    super("call again after " + delay, null, false, false); // nobody looks at its trace
    this.delay = Objects.requireNonNull(delay);
  }

  /** Until the next call. */
  public Duration delay() {
    return delay;
  }
}
