// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.List;

/**
 * How often and how soon a failed job is tried again. What is not set follows, field by field, from the worker's declaration for the
 * task, the queue, and the server's default (4 attempts, exponential from 1 s, at most 1 h, varied by 10 %).
 */
public final class RetryPolicy {
  /** How the delay grows. */
  public enum Backoff {
    EXPONENTIAL,
    LINEAR,
    CONSTANT,
    LIST
  }

  final int maxAttempts;
  final Backoff backoff;
  final Duration initial;
  final double multiplier;
  final Duration max;
  final Double jitter;
  final List<Duration> delays;

  private RetryPolicy(Builder builder) {
    maxAttempts = builder.maxAttempts;
    backoff = builder.backoff;
    initial = builder.initial;
    multiplier = builder.multiplier;
    max = builder.max;
    jitter = builder.jitter;
    delays = List.copyOf(builder.delays);
  }

  /** An empty policy to fill. */
  public static Builder builder() {
    return new Builder();
  }

  /** So many attempts in all, the rest by default. */
  public static RetryPolicy attempts(int maxAttempts) {
    return builder().maxAttempts(maxAttempts).build();
  }

  /** One attempt, no second one. */
  public static RetryPolicy never() {
    return attempts(1);
  }

  /** Fills a {@link RetryPolicy}. */
  public static final class Builder {
    private int maxAttempts;
    private Backoff backoff;
    private Duration initial;
    private double multiplier;
    private Duration max;
    private Double jitter;
    private List<Duration> delays = List.of();

    private Builder() {}

    /** Attempts in all, 1 to 1,000. */
    public Builder maxAttempts(int value) {
      maxAttempts = value;
      return this;
    }

    /** The first delay, multiplied after each attempt. */
    public Builder exponential(Duration first, double factor) {
      backoff = Backoff.EXPONENTIAL;
      initial = first;
      multiplier = factor;
      return this;
    }

    /** The first delay times the number of the attempt. */
    public Builder linear(Duration step) {
      backoff = Backoff.LINEAR;
      initial = step;
      return this;
    }

    /** Always the same delay. */
    public Builder constant(Duration delay) {
      backoff = Backoff.CONSTANT;
      initial = delay;
      return this;
    }

    /** These delays, the last one again and again. */
    public Builder delays(Duration... values) {
      backoff = Backoff.LIST;
      delays = List.of(values);
      return this;
    }

    /** The kind alone, with delays by default. */
    public Builder backoff(Backoff value) {
      backoff = value;
      return this;
    }

    /** The first delay alone. */
    public Builder initial(Duration value) {
      initial = value;
      return this;
    }

    /** The growth factor alone. */
    public Builder multiplier(double value) {
      multiplier = value;
      return this;
    }

    /** No delay is longer. */
    public Builder max(Duration value) {
      max = value;
      return this;
    }

    /** Each delay is varied by up to this fraction either way; 0 for none. */
    public Builder jitter(double fraction) {
      jitter = fraction;
      return this;
    }

    /** The policy. */
    public RetryPolicy build() {
      return new RetryPolicy(this);
    }
  }
}
