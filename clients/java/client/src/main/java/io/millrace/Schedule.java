// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.time.Instant;
import java.util.Optional;

/** A schedule as it was when the server answered. */
public final class Schedule {
  private final io.millrace.proto.v1.Schedule message;

  Schedule(io.millrace.proto.v1.Schedule message) {
    this.message = message;
  }

  /** Its key. */
  public String name() {
    return message.getSpec().getName();
  }

  /** The cron expression, if it goes by one. */
  public Optional<String> cron() {
    return Convert.text(message.getSpec().getTiming().getCron());
  }

  /** The interval, if it goes by one. */
  public Optional<Duration> interval() {
    var timing = message.getSpec().getTiming();
    return timing.hasInterval() ? Optional.of(Convert.fromDuration(timing.getInterval())) : Optional.empty();
  }

  /** Zone of the cron expression; empty: UTC. */
  public String timeZone() {
    return message.getSpec().getTiming().getTimeZone();
  }

  /** The task of its jobs. */
  public String task() {
    return message.getSpec().getJob().getTask();
  }

  /** The queue of its jobs; empty: default. */
  public String queue() {
    return message.getSpec().getJob().getQueue();
  }

  /** For people. */
  public String description() {
    return message.getSpec().getDescription();
  }

  /** Who declared it; empty: it was created singly. */
  public String owner() {
    return message.getOwner();
  }

  /** It makes no jobs. */
  public boolean paused() {
    return message.getPaused();
  }

  /** The time to come. */
  public Optional<Instant> nextRunAt() {
    return Convert.time(message.hasNextRunAt(), message.getNextRunAt());
  }

  /** The last time that made a job. */
  public Optional<Instant> lastRunAt() {
    return Convert.time(message.hasLastRunAt(), message.getLastRunAt());
  }

  /** The job of that time. */
  public Optional<String> lastJobId() {
    return Convert.text(message.getLastJobId());
  }

  /** How late that job was made. */
  public Optional<Duration> lastLateness() {
    return message.hasLastLateness() ? Optional.of(Convert.fromDuration(message.getLastLateness())) : Optional.empty();
  }

  /** When it was created. */
  public Instant createdAt() {
    return Convert.fromTimestamp(message.getCreatedAt());
  }

  /** Jobs made so far. */
  public long runs() {
    return message.getRuns();
  }

  /** Times skipped because of overlap. */
  public long skipped() {
    return message.getSkipped();
  }

  @Override
  public String toString() {
    return "schedule " + name() + " (" + cron().orElseGet(() -> "every " + interval().orElse(Duration.ZERO)) + ")";
  }
}
