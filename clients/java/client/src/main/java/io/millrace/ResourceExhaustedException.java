// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** A limit is reached; for a full queue see {@link QueueFullException}. */
public class ResourceExhaustedException extends MillraceException {
  private static final long serialVersionUID = 1L;

  ResourceExhaustedException(Details details) {
    super(details);
  }
}
