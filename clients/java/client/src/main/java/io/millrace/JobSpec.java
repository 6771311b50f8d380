// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * One piece of work as a producer asks for it. Only the task is required.
 *
 * <p>A spec without an id can be created many times, each time as a new job. With an id, creating it again is safe and makes no
 * second job.
 */
public final class JobSpec {
  private static final Payload JSON_NULL = Payload.json("null");

  final String id;
  final String task;
  final String queue;
  final Priority priority;
  final Object payload;
  final Instant runAt;
  final Duration delay;
  final Instant expiresAt;
  final Duration expiresIn;
  final Duration totalTimeout;
  final Duration attemptTimeout;
  final RetryPolicy retryPolicy;
  final Map<String, String> labels;
  final UniqueKey uniqueKey;
  final ConcurrencyKey concurrencyKey;
  final Duration retention;
  final boolean wantsPreviousResult;
  final String traceparent;
  final String tracestate;

  private JobSpec(Builder builder) {
    id = builder.id;
    task = builder.task;
    queue = builder.queue;
    priority = builder.priority;
    payload = builder.content();
    runAt = builder.runAt;
    delay = builder.delay;
    expiresAt = builder.expiresAt;
    expiresIn = builder.expiresIn;
    totalTimeout = builder.totalTimeout;
    attemptTimeout = builder.attemptTimeout;
    retryPolicy = builder.retryPolicy;
    labels = Map.copyOf(builder.labels);
    uniqueKey = builder.uniqueKey;
    concurrencyKey = builder.concurrencyKey;
    retention = builder.retention;
    wantsPreviousResult = builder.wantsPreviousResult;
    traceparent = builder.traceparent;
    tracestate = builder.tracestate;
  }

  /** A job of that task, everything else by default. */
  public static JobSpec of(String task) {
    return builder(task).build();
  }

  /** A job of that task with keyword arguments: an object that becomes a JSON object, or any other payload. */
  public static JobSpec of(String task, Object payload) {
    return builder(task).payload(payload).build();
  }

  /** A spec to fill. */
  public static Builder builder(String task) {
    return new Builder(task);
  }

  /** What a batch's items leave unset: a spec without a task, if they all name theirs. */
  public static Builder defaults() {
    return new Builder("");
  }

  /** The handler's name. */
  public String task() {
    return task;
  }

  /** Positional and keyword arguments at once. */
  record Call(List<Object> args, Map<String, Object> kwargs) {}

  /** Fills a {@link JobSpec}. */
  public static final class Builder {
    private final String task;
    private String id;
    private String queue;
    private Priority priority;
    private Object payload;
    private List<Object> args;
    private Map<String, Object> kwargs;
    private Instant runAt;
    private Duration delay;
    private Instant expiresAt;
    private Duration expiresIn;
    private Duration totalTimeout;
    private Duration attemptTimeout;
    private RetryPolicy retryPolicy;
    private final Map<String, String> labels = new LinkedHashMap<>();
    private UniqueKey uniqueKey;
    private ConcurrencyKey concurrencyKey;
    private Duration retention;
    private boolean wantsPreviousResult;
    private String traceparent;
    private String tracestate;

    private Builder(String task) {
      this.task = Objects.requireNonNull(task, "task");
    }

    /** A UUID of your own, such as that of an outbox row. Default: one is made for each create. */
    public Builder id(String value) {
      id = value;
      return this;
    }

    /** Where it waits. Default: by the client's routing rules, else {@code default}. */
    public Builder queue(String value) {
      queue = value;
      return this;
    }

    /** Default NORMAL. */
    public Builder priority(Priority value) {
      priority = value;
      return this;
    }

    /**
     * What the handler gets: a {@link Payload}, bytes, or a value that becomes JSON (null is JSON's null). An object or map is keyword
     * arguments.
     */
    public Builder payload(Object value) {
      payload = value == null ? JSON_NULL : value;
      return this;
    }

    /** Positional arguments. */
    public Builder args(Object... values) {
      args = new ArrayList<>(java.util.Arrays.asList(values));
      return this;
    }

    /** One keyword argument more. */
    public Builder kwarg(String name, Object value) {
      if (kwargs == null) {
        kwargs = new LinkedHashMap<>();
      }
      kwargs.put(name, value);
      return this;
    }

    /** Not before this time. */
    public Builder runAt(Instant value) {
      runAt = value;
      delay = null;
      return this;
    }

    /** So long after the create; a chain step: after the step before. */
    public Builder delay(Duration value) {
      delay = value;
      runAt = null;
      return this;
    }

    /** Not started by then: EXPIRED. */
    public Builder expiresAt(Instant value) {
      expiresAt = value;
      expiresIn = null;
      return this;
    }

    /** Not started so long after the create: EXPIRED. */
    public Builder expiresIn(Duration value) {
      expiresIn = value;
      expiresAt = null;
      return this;
    }

    /** From create to end, all attempts and waits included. */
    public Builder totalTimeout(Duration value) {
      totalTimeout = value;
      return this;
    }

    /** One attempt; zero: no limit. Default 30 min. */
    public Builder attemptTimeout(Duration value) {
      attemptTimeout = value;
      return this;
    }

    /** Retries. */
    public Builder retryPolicy(RetryPolicy value) {
      retryPolicy = value;
      return this;
    }

    /** One label more; at most 16. */
    public Builder label(String key, String value) {
      labels.put(key, value);
      return this;
    }

    /** Labels more. */
    public Builder labels(Map<String, String> values) {
      labels.putAll(values);
      return this;
    }

    /** At most one job of the queue holds this key. */
    public Builder uniqueKey(UniqueKey value) {
      uniqueKey = value;
      return this;
    }

    /** At most so many jobs of the queue with this key run at a time. */
    public Builder concurrencyKey(String key, int limit) {
      concurrencyKey = new ConcurrencyKey(key, limit);
      return this;
    }

    /** How long the job is kept once it has ended. Default: the queue's. */
    public Builder retention(Duration value) {
      retention = value;
      return this;
    }

    /** A chain step: hand the result of the step before to the handler. */
    public Builder wantsPreviousResult() {
      wantsPreviousResult = true;
      return this;
    }

    /** W3C trace context, for those who don't use the client's telemetry. */
    public Builder trace(String parent, String state) {
      traceparent = parent;
      tracestate = state;
      return this;
    }

    /** The spec. */
    public JobSpec build() {
      if (payload != null && (args != null || kwargs != null)) {
        throw Errors.invalid("payload", "a payload and arguments at once: choose one");
      }
      return new JobSpec(this);
    }

    private Object content() {
      if (args != null && kwargs != null) {
        return new Call(args, kwargs);
      }
      return args != null ? args : kwargs != null ? kwargs : payload;
    }
  }
}
