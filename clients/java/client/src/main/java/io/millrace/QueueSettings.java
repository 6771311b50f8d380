// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.google.protobuf.DoubleValue;
import com.google.protobuf.UInt32Value;
import com.google.protobuf.UInt64Value;
import io.millrace.proto.v1.QueueMode;
import java.time.Duration;

/** Settings of a queue to change; what is not set stays. */
public final class QueueSettings {
  private final io.millrace.proto.v1.QueueSettings.Builder message = io.millrace.proto.v1.QueueSettings.newBuilder();

  /** Changes nothing yet. */
  public static QueueSettings create() {
    return new QueueSettings();
  }

  /** A higher priority always goes first: the default. */
  public QueueSettings strict() {
    message.setMode(QueueMode.QUEUE_MODE_STRICT);
    return this;
  }

  /** CRITICAL first; the rest share HIGH 6 : NORMAL 3 : LOW 1. */
  public QueueSettings weighted() {
    message.setMode(QueueMode.QUEUE_MODE_WEIGHTED);
    return this;
  }

  /** Creates beyond that many jobs are {@link QueueFullException}; 0: no limit. */
  public QueueSettings maxLength(long jobs) {
    message.setMaxLength(UInt64Value.of(jobs));
    return this;
  }

  /** So many run at a time; 0: no limit. */
  public QueueSettings maxRunning(int jobs) {
    message.setMaxRunning(UInt32Value.of(jobs));
    return this;
  }

  /** So many start a second, and so many at once when it was quiet; a rate of 0: no limit. */
  public QueueSettings rate(double perSecond, int burst) {
    message.setRatePerSecond(DoubleValue.of(perSecond));
    if (burst > 0) {
      message.setRateBurst(UInt32Value.of(burst));
    }
    return this;
  }

  /** For jobs that set none and whose worker declares none. */
  public QueueSettings retryPolicy(RetryPolicy policy) {
    message.setRetryPolicy(Convert.toRetryPolicy(policy));
    return this;
  }

  /** Likewise; zero: none. */
  public QueueSettings attemptTimeout(Duration value) {
    message.setAttemptTimeout(Convert.toDuration(value));
    return this;
  }

  /** How long ended jobs are kept: those that failed, and all others. */
  public QueueSettings retention(Duration others, Duration failed) {
    message.setRetention(Convert.toDuration(others)).setRetentionFailed(Convert.toDuration(failed));
    return this;
  }

  /** At most so many succeeded, cancelled and expired jobs are kept. */
  public QueueSettings retentionCount(int jobs) {
    message.setRetentionCount(UInt32Value.of(jobs));
    return this;
  }

  io.millrace.proto.v1.QueueSettings message() {
    return message.build();
  }
}
