// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** What was waited for had not ended in time; it goes on. */
public final class WaitTimeoutException extends MillraceException {
  private static final long serialVersionUID = 1L;

  WaitTimeoutException(String what, java.time.Duration timeout) {
    super(new Details(ErrorCode.DEADLINE_EXCEEDED, what + " has not ended within " + timeout.toMillis() / 1000.0 + " s"));
  }
}
