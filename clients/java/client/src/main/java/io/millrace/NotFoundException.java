// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** There is no such chain, batch, schedule, session; for jobs see {@link JobNotFoundException}. */
public class NotFoundException extends MillraceException {
  private static final long serialVersionUID = 1L;

  NotFoundException(Details details) {
    super(details);
  }
}
