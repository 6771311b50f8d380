// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.ArrayList;
import java.util.List;

/** Many jobs with one progress, one end and callbacks. */
public final class BatchSpec {
  final String id;
  final String description;
  final JobSpec defaults;
  final JobSpec onSuccess;
  final JobSpec onComplete;
  final List<JobSpec> items;
  final boolean seal;

  private BatchSpec(Builder builder) {
    id = builder.id;
    description = builder.description;
    defaults = builder.defaults;
    onSuccess = builder.onSuccess;
    onComplete = builder.onComplete;
    items = List.copyOf(builder.items);
    seal = builder.seal;
  }

  /** A batch to fill. */
  public static Builder builder() {
    return new Builder();
  }

  /** Fills a {@link BatchSpec}. */
  public static final class Builder {
    private String id;
    private String description = "";
    private JobSpec defaults;
    private JobSpec onSuccess;
    private JobSpec onComplete;
    private final List<JobSpec> items = new ArrayList<>();
    private boolean seal;

    private Builder() {}

    /** A UUID of your own. Default: one is made. */
    public Builder id(String value) {
      id = value;
      return this;
    }

    /** For people. */
    public Builder description(String value) {
      description = value;
      return this;
    }

    /** What items leave unset: task, queue, priority, policies, labels; no payload. See {@link JobSpec#defaults()}. */
    public Builder defaults(JobSpec spec) {
      defaults = spec;
      return this;
    }

    /** Created once, when the last member has ended, if all succeeded. */
    public Builder onSuccess(JobSpec spec) {
      onSuccess = spec;
      return this;
    }

    /** Created once, when the last member has ended. */
    public Builder onComplete(JobSpec spec) {
      onComplete = spec;
      return this;
    }

    /** First items, 1,000 at most; for more see {@link Batches#submit}. */
    public Builder items(List<JobSpec> specs) {
      items.addAll(specs);
      return this;
    }

    /** These items are all. */
    public Builder seal() {
      seal = true;
      return this;
    }

    /** The spec. */
    public BatchSpec build() {
      return new BatchSpec(this);
    }
  }
}
