// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The object's state does not allow it. */
public final class FailedPreconditionException extends MillraceException {
  private static final long serialVersionUID = 1L;

  FailedPreconditionException(Details details) {
    super(details);
  }
}
