// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

/** The ordinary way in which a standard handler fails. */
public final class Boom extends RuntimeException {
  private static final long serialVersionUID = 1L;

  Boom(String message) {
    super(message);
  }
}
