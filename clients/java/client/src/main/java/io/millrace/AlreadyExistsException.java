// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The id of a chain or batch, or the name of a schedule, is taken; for jobs see {@link JobExistsException}. */
public class AlreadyExistsException extends MillraceException {
  private static final long serialVersionUID = 1L;

  AlreadyExistsException(Details details) {
    super(details);
  }
}
