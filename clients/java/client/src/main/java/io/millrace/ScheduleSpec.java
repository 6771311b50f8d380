// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.ScheduleTiming;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.util.Objects;

/** A job that is made again and again. The name is the schedule's key. */
public final class ScheduleSpec {
  /** What happens at a time when the job made before has not ended. */
  public enum Overlap {
    /** No job this time. */
    SKIP,
    /** One more as soon as the one before has ended; further ones are skipped. */
    QUEUE_ONE,
    /** A job every time. */
    ALLOW
  }

  final String name;
  final ScheduleTiming timing;
  final JobSpec job;
  final Overlap overlap;
  final Duration catchUpWindow;
  final String description;

  private ScheduleSpec(Builder builder) {
    name = builder.name;
    timing = builder.timing.build();
    job = builder.job;
    overlap = builder.overlap;
    catchUpWindow = builder.catchUpWindow;
    description = builder.description;
  }

  /** By cron expression: five fields, optional seconds in front, or {@code @daily} and its like. */
  public static Builder cron(String name, String expression, JobSpec job) {
    Builder builder = new Builder(name, job);
    builder.timing.setCron(expression);
    return builder;
  }

  /** Every so long. */
  public static Builder every(String name, Duration interval, JobSpec job) {
    Builder builder = new Builder(name, job);
    builder.timing.setInterval(Convert.toDuration(interval));
    return builder;
  }

  /** The schedule's key. */
  public String name() {
    return name;
  }

  /** Fills a {@link ScheduleSpec}. */
  public static final class Builder {
    private final String name;
    private final JobSpec job;
    private final ScheduleTiming.Builder timing = ScheduleTiming.newBuilder();
    private Overlap overlap;
    private Duration catchUpWindow;
    private String description = "";

    private Builder(String name, JobSpec job) {
      this.name = Objects.requireNonNull(name);
      this.job = Objects.requireNonNull(job);
    }

    /** The zone in which the cron expression is meant. Default UTC. */
    public Builder zone(ZoneId zone) {
      return zone(zone.getId());
    }

    /** The zone by its IANA name. */
    public Builder zone(String name) {
      timing.setTimeZone(name);
      return this;
    }

    /** No job before. */
    public Builder startAt(Instant time) {
      timing.setStartAt(Convert.toTimestamp(time));
      return this;
    }

    /** No job at or after. */
    public Builder endAt(Instant time) {
      timing.setEndAt(Convert.toTimestamp(time));
      return this;
    }

    /** Each job is put off by a random part of this. */
    public Builder jitter(Duration value) {
      timing.setJitter(Convert.toDuration(value));
      return this;
    }

    /** Default SKIP. */
    public Builder overlap(Overlap value) {
      overlap = value;
      return this;
    }

    /** A time that was missed is made up for if it is not older than this; zero: never. Default: always. */
    public Builder catchUpWindow(Duration value) {
      catchUpWindow = value;
      return this;
    }

    /** For people. */
    public Builder description(String value) {
      description = value;
      return this;
    }

    /** The spec. */
    public ScheduleSpec build() {
      return new ScheduleSpec(this);
    }
  }
}
