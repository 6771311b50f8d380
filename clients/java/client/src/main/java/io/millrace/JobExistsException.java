// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** The id is in use with other content, or the unique key is taken, or the job was removed less than ten minutes after its creation. */
public final class JobExistsException extends AlreadyExistsException {
  private static final long serialVersionUID = 1L;

  JobExistsException(Details details) {
    super(details);
  }

  /** The job that is there: the one with that id, or the one that holds the unique key. */
  public String jobId() {
    return subject();
  }
}
