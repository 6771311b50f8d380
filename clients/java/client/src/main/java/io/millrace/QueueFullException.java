// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The queue has as many jobs as its {@code maxLength} allows; {@link #retryAfter()} says when to try again. */
public final class QueueFullException extends ResourceExhaustedException {
  private static final long serialVersionUID = 1L;

  QueueFullException(Details details) {
    super(details);
  }

  /** The queue. */
  public String queue() {
    return subject();
  }
}
