// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.Optional;

/** A queue as it was when the server answered; one that is not in use has zeros. */
public final class Queue {
  private final io.millrace.proto.v1.Queue message;

  Queue(io.millrace.proto.v1.Queue message) {
    this.message = message;
  }

  /** Its key. */
  public String name() {
    return message.getName();
  }

  /** No deliveries. */
  public boolean paused() {
    return message.getPaused();
  }

  /** How many jobs it has in that state. */
  public long count(JobState state) {
    var counts = message.getCounts();
    return switch (state) {
      case PENDING -> counts.getPending();
      case SCHEDULED -> counts.getScheduled();
      case RETRYING -> counts.getRetrying();
      case BLOCKED -> counts.getBlocked();
      case RUNNING -> counts.getRunning();
      case SUCCEEDED -> counts.getSucceeded();
      case FAILED -> counts.getFailed();
      case CANCELLED -> counts.getCancelled();
      case EXPIRED -> counts.getExpired();
      case UNKNOWN -> 0;
    };
  }

  /** Jobs that wait for a free slot. */
  public long pending() {
    return count(JobState.PENDING);
  }

  /** How long the oldest of them has waited. */
  public Optional<Duration> oldestAge() {
    return message.hasOldestAge() ? Optional.of(Convert.fromDuration(message.getOldestAge())) : Optional.empty();
  }

  /** Attached workers that serve it. */
  public int workers() {
    return message.getWorkers();
  }

  /** Jobs created a second, over the last minute. */
  public double createdPerSecond() {
    return message.getCreatedPerSecond();
  }

  /** Jobs ended a second, over the last minute. */
  public double finishedPerSecond() {
    return message.getFinishedPerSecond();
  }

  @Override
  public String toString() {
    return "queue " + name() + " (" + pending() + " pending, " + count(JobState.RUNNING) + " running)";
  }
}
