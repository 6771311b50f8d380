// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Labels;
import io.millrace.proto.v1.UpdateJobRequest;
import java.time.Instant;
import java.util.Map;

/** Changes to a waiting job; what is not set stays. */
public final class JobUpdate {
  private final UpdateJobRequest.Builder message = UpdateJobRequest.newBuilder();

  /** Changes nothing yet. */
  public static JobUpdate create() {
    return new JobUpdate();
  }

  /** Another priority. */
  public JobUpdate priority(Priority value) {
    message.setPriority(Convert.toPriority(value));
    return this;
  }

  /** Another time to start; one in the past is now. */
  public JobUpdate runAt(Instant time) {
    message.setRunAt(Convert.toTimestamp(time));
    return this;
  }

  /** Expires then, if it has not started. */
  public JobUpdate expiresAt(Instant time) {
    message.setExpiresAt(Convert.toTimestamp(time));
    return this;
  }

  /** Must have ended by then. */
  public JobUpdate deadline(Instant time) {
    message.setDeadline(Convert.toTimestamp(time));
    return this;
  }

  /** Another policy. */
  public JobUpdate retryPolicy(RetryPolicy policy) {
    message.setRetryPolicy(Convert.toRetryPolicy(policy));
    return this;
  }

  /** These labels instead of those that it has. */
  public JobUpdate labels(Map<String, String> labels) {
    message.setLabels(Labels.newBuilder().putAllLabels(labels));
    return this;
  }

  UpdateJobRequest request(String id) {
    return message.setId(id).build();
  }
}
