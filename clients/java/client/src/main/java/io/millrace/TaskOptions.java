// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;

/** What a worker declares for a task: it holds for jobs that set nothing themselves. */
public final class TaskOptions {
  RetryPolicy retryPolicy;
  Duration attemptTimeout;

  /** Declares nothing yet. */
  public static TaskOptions create() {
    return new TaskOptions();
  }

  /** How often and how soon failed jobs are tried again. */
  public TaskOptions retryPolicy(RetryPolicy value) {
    retryPolicy = value;
    return this;
  }

  /** How long one attempt may take; zero: no limit. */
  public TaskOptions attemptTimeout(Duration value) {
    attemptTimeout = value;
    return this;
  }
}
