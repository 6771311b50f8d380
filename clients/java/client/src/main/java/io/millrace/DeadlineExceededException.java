// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The call's deadline passed; it may have been carried out. It may be repeated with the same id. */
public final class DeadlineExceededException extends MillraceException {
  private static final long serialVersionUID = 1L;

  DeadlineExceededException(Details details) {
    super(details);
  }
}
