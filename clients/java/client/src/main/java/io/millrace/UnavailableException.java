// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The server could not be reached, or is starting or stopping. The call may be repeated with the same id. */
public final class UnavailableException extends MillraceException {
  private static final long serialVersionUID = 1L;

  UnavailableException(Details details) {
    super(details);
  }
}
