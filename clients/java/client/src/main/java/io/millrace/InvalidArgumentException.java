// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** An argument is missing, malformed or beyond its limit; {@link #field()} names it. */
public final class InvalidArgumentException extends MillraceException {
  private static final long serialVersionUID = 1L;

  InvalidArgumentException(Details details) {
    super(details);
  }
}
