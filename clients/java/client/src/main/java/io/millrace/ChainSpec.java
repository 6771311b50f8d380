// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.ArrayList;
import java.util.List;

/** Jobs that run one after the other, each when the one before has succeeded. */
public final class ChainSpec {
  final String id;
  final List<JobSpec> steps;
  final JobSpec onFailure;

  private ChainSpec(Builder builder) {
    id = builder.id;
    steps = List.copyOf(builder.steps);
    onFailure = builder.onFailure;
  }

  /** These steps. */
  public static ChainSpec of(JobSpec... steps) {
    return builder().steps(List.of(steps)).build();
  }

  /** A chain to fill. */
  public static Builder builder() {
    return new Builder();
  }

  /** Fills a {@link ChainSpec}. */
  public static final class Builder {
    private String id;
    private final List<JobSpec> steps = new ArrayList<>();
    private JobSpec onFailure;

    private Builder() {}

    /** A UUID of your own. Default: one is made. */
    public Builder id(String value) {
      id = value;
      return this;
    }

    /** One step more. Its delay counts from the success of the step before. */
    public Builder step(JobSpec spec) {
      steps.add(spec);
      return this;
    }

    /** Steps more; 1,000 at most. */
    public Builder steps(List<JobSpec> specs) {
      steps.addAll(specs);
      return this;
    }

    /** Created once, if a step ends otherwise than by success: the place for cleaning up. */
    public Builder onFailure(JobSpec spec) {
      onFailure = spec;
      return this;
    }

    /** The spec. */
    public ChainSpec build() {
      return new ChainSpec(this);
    }
  }
}
