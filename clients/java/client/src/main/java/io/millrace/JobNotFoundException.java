// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** There is no such job; it may have been removed after its retention. */
public final class JobNotFoundException extends NotFoundException {
  private static final long serialVersionUID = 1L;

  JobNotFoundException(Details details) {
    super(details);
  }
}
