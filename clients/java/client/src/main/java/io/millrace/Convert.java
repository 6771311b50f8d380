// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import java.time.Instant;
import java.util.Optional;

/** Values of ours and of the protocol, one into the other. */
final class Convert {
  private Convert() {}

  static Timestamp toTimestamp(Instant time) {
    return Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()).build();
  }

  static Instant fromTimestamp(Timestamp time) {
    return Instant.ofEpochSecond(time.getSeconds(), time.getNanos());
  }

  static Optional<Instant> time(boolean has, Timestamp time) {
    return has ? Optional.of(fromTimestamp(time)) : Optional.empty();
  }

  static Duration toDuration(java.time.Duration span) {
    long seconds = span.getSeconds();
    int nanos = span.getNano();
    if (seconds < 0 && nanos > 0) { // protobuf wants both of one sign
      seconds++;
      nanos -= 1_000_000_000;
    }
    return Duration.newBuilder().setSeconds(seconds).setNanos(nanos).build();
  }

  static java.time.Duration fromDuration(Duration span) {
    return java.time.Duration.ofSeconds(span.getSeconds(), span.getNanos());
  }

  static Optional<String> text(String value) {
    return value.isEmpty() ? Optional.empty() : Optional.of(value);
  }

  /** The constant of the same name, without the prefix that protobuf wants; the fallback for one that is not known. */
  static <E extends Enum<E>> E constant(Class<E> type, String prefix, Enum<?> from, E fallback) {
    String name = from.name();
    if (name.startsWith(prefix)) {
      String bare = name.substring(prefix.length());
      for (E candidate : type.getEnumConstants()) {
        if (candidate.name().equals(bare)) {
          return candidate;
        }
      }
    }
    return fallback;
  }

  static io.millrace.proto.v1.Payload toPayload(Payload payload) {
    var message = io.millrace.proto.v1.Payload.newBuilder().setContentType(payload.contentType());
    if (payload.isJson()) {
      message.setJson(payload.rawJson());
    } else if (!payload.isEmpty()) {
      message.setData(ByteString.copyFrom(payload.rawData()));
    }
    return message.build();
  }

  static Payload fromPayload(io.millrace.proto.v1.Payload message) {
    return switch (message.getContentCase()) {
      case JSON -> Payload.json(message.getJson(), message.getContentType());
      case DATA -> Payload.data(message.getData().toByteArray(), message.getContentType());
      case CONTENT_NOT_SET -> Payload.empty();
    };
  }

  static io.millrace.proto.v1.JobPriority toPriority(Priority priority) {
    return io.millrace.proto.v1.JobPriority.valueOf("JOB_PRIORITY_" + priority.name());
  }

  static Priority fromPriority(io.millrace.proto.v1.JobPriority priority) {
    return constant(Priority.class, "JOB_PRIORITY_", priority, Priority.NORMAL);
  }

  static JobState fromState(io.millrace.proto.v1.JobState state) {
    return constant(JobState.class, "JOB_STATE_", state, JobState.UNKNOWN);
  }

  static Optional<JobError> fromError(boolean has, io.millrace.proto.v1.JobError error) {
    return has
        ? Optional.of(new JobError(error.getType(), error.getMessage(), error.getTrace(), error.getFingerprint()))
        : Optional.empty();
  }

  static io.millrace.proto.v1.RetryPolicy toRetryPolicy(RetryPolicy policy) {
    var message = io.millrace.proto.v1.RetryPolicy.newBuilder().setMaxAttempts(policy.maxAttempts).setMultiplier(policy.multiplier);
    if (policy.backoff != null) {
      message.setKind(io.millrace.proto.v1.BackoffKind.valueOf("BACKOFF_KIND_" + policy.backoff.name()));
    }
    if (policy.initial != null) {
      message.setInitial(toDuration(policy.initial));
    }
    if (policy.max != null) {
      message.setMax(toDuration(policy.max));
    }
    if (policy.jitter != null) {
      message.setJitter(com.google.protobuf.DoubleValue.of(policy.jitter));
    }
    policy.delays.forEach(delay -> message.addDelays(toDuration(delay)));
    return message.build();
  }

  static RetryPolicy fromRetryPolicy(io.millrace.proto.v1.RetryPolicy message) {
    RetryPolicy.Builder policy = RetryPolicy.builder();
    policy.maxAttempts(message.getMaxAttempts()).multiplier(message.getMultiplier());
    policy.backoff(constant(RetryPolicy.Backoff.class, "BACKOFF_KIND_", message.getKind(), null));
    if (message.getDelaysCount() > 0) {
      policy.delays(message.getDelaysList().stream().map(Convert::fromDuration).toArray(java.time.Duration[]::new));
    }
    if (message.hasInitial()) {
      policy.initial(fromDuration(message.getInitial()));
    }
    if (message.hasMax()) {
      policy.max(fromDuration(message.getMax()));
    }
    if (message.hasJitter()) {
      policy.jitter(message.getJitter().getValue());
    }
    return policy.build();
  }

  static io.millrace.proto.v1.UniqueKey toUniqueKey(UniqueKey unique) {
    var message =
        io.millrace.proto.v1.UniqueKey.newBuilder()
            .setKey(unique.key)
            .setScope(io.millrace.proto.v1.UniqueScope.valueOf("UNIQUE_SCOPE_" + unique.scope.name()))
            .setRule(io.millrace.proto.v1.UniqueRule.valueOf("UNIQUE_RULE_" + unique.rule.name()));
    if (unique.period != null) {
      message.setPeriod(toDuration(unique.period));
    }
    return message.build();
  }
}
