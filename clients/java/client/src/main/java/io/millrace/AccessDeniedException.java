// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The token is missing or wrong ({@code UNAUTHENTICATED}), or its role does not reach ({@code PERMISSION_DENIED}). */
public final class AccessDeniedException extends MillraceException {
  private static final long serialVersionUID = 1L;

  AccessDeniedException(Details details) {
    super(details);
  }
}
