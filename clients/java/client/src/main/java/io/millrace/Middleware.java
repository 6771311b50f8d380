// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Something around every handler: the one that was added first is outermost. */
@FunctionalInterface
public interface Middleware {
  /** Calls {@code next} and answers what it answered, or something else. */
  Object handle(JobContext job, Handler next) throws Exception;
}
