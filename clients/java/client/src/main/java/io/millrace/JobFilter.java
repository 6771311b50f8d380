// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/** Which jobs: all conditions must hold, within a list any. */
public final class JobFilter {
  private final io.millrace.proto.v1.JobFilter message;

  private JobFilter(io.millrace.proto.v1.JobFilter message) {
    this.message = message;
  }

  /** Every job. */
  public static JobFilter all() {
    return builder().build();
  }

  /** Jobs of a queue. */
  public static JobFilter queue(String name) {
    return builder().queues(name).build();
  }

  /** These jobs. */
  public static JobFilter ids(String... ids) {
    return builder().ids(List.of(ids)).build();
  }

  /** A filter to fill. */
  public static Builder builder() {
    return new Builder();
  }

  io.millrace.proto.v1.JobFilter message() {
    return message;
  }

  /** Fills a {@link JobFilter}. */
  public static final class Builder {
    private final io.millrace.proto.v1.JobFilter.Builder message = io.millrace.proto.v1.JobFilter.newBuilder();

    private Builder() {}

    /** In one of these queues, at most 16. */
    public Builder queues(String... names) {
      message.addAllQueues(List.of(names));
      return this;
    }

    /** Of one of these tasks, at most 16. */
    public Builder tasks(String... names) {
      message.addAllTasks(List.of(names));
      return this;
    }

    /** In one of these states. */
    public Builder states(JobState... states) {
      for (JobState state : states) {
        message.addStates(io.millrace.proto.v1.JobState.valueOf("JOB_STATE_" + state.name()));
      }
      return this;
    }

    /** Of one of these priorities. */
    public Builder priorities(Priority... priorities) {
      for (Priority priority : priorities) {
        message.addPriorities(Convert.toPriority(priority));
      }
      return this;
    }

    /** With all of these labels, at most 4. */
    public Builder labels(Map<String, String> labels) {
      message.putAllLabels(labels);
      return this;
    }

    /** With this label. */
    public Builder label(String key, String value) {
      message.putLabels(key, value);
      return this;
    }

    /** Members of this batch. */
    public Builder batch(String id) {
      message.setBatchId(id);
      return this;
    }

    /** Steps of this chain. */
    public Builder chain(String id) {
      message.setChainId(id);
      return this;
    }

    /** Jobs of this schedule. */
    public Builder schedule(String name) {
      message.setScheduleName(name);
      return this;
    }

    /** These jobs, at most 1,000. */
    public Builder ids(Collection<String> ids) {
      message.addAllIds(ids);
      return this;
    }

    /** Created at or after. */
    public Builder createdAfter(Instant time) {
      message.setCreatedAfter(Convert.toTimestamp(time));
      return this;
    }

    /** Created before. */
    public Builder createdBefore(Instant time) {
      message.setCreatedBefore(Convert.toTimestamp(time));
      return this;
    }

    /** Failed with this fault. */
    public Builder errorFingerprint(String fingerprint) {
      message.setErrorFingerprint(fingerprint);
      return this;
    }

    /** The filter. */
    public JobFilter build() {
      return new JobFilter(message.build());
    }
  }
}
