// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** Job specs as the protocol has them: routed, encoded, with an id. */
final class SpecWriter {
  /** The most that the server takes. */
  private static final int PAYLOAD_BYTES_MAX = 2 << 20;

  private final Encoding encoding;
  private final Routes routes;

  SpecWriter(Encoding encoding, Routes routes) {
    this.encoding = encoding;
    this.routes = routes;
  }

  /** A job to create, with an id, so that it can be sent again. */
  io.millrace.proto.v1.JobSpec job(JobSpec spec, Telemetry.Creation creation) {
    var message = write(spec, queueOf(spec, null)).setId(text("id", Ids.orMake(spec.id)));
    trace(message, spec, creation);
    return message.build();
  }

  /**
   * A member of a chain or batch.
   *
   * @param flow the id that the caller gave to the chain or batch: ids that are left open then follow from it, by the server, so that
   *     the same flow sent again is the same; null: it has none
   * @param defaults of a batch, to which it may leave things; null: none
   */
  io.millrace.proto.v1.JobSpec member(String flow, JobSpec spec, JobSpec defaults, Telemetry.Creation creation) {
    String id = flow != null && spec.id == null ? "" : Ids.orMake(spec.id);
    var message = write(spec, queueOf(spec, defaults)).setId(text("id", id));
    trace(message, spec, creation);
    return message.build();
  }

  /** A template: of schedules, callbacks, a batch's defaults. It has no id. */
  io.millrace.proto.v1.JobSpec template(JobSpec spec) {
    var message = write(spec, queueOf(spec, null));
    if (spec.id != null) {
      message.setId(text("id", spec.id)); // the server says that it must not be there
    }
    trace(message, spec, NoTelemetry.INSTANCE);
    return message.build();
  }

  /** The queue that a spec goes to. */
  String queueOf(JobSpec spec) {
    return queueOf(spec, null);
  }

  private String queueOf(JobSpec spec, JobSpec defaults) {
    if (spec.queue != null) {
      return spec.queue;
    }
    if (defaults != null && defaults.queue != null) {
      return "";
    }
    return routes.queueOf(spec.task.isEmpty() && defaults != null ? defaults.task : spec.task);
  }

  private static void trace(io.millrace.proto.v1.JobSpec.Builder message, JobSpec spec, Telemetry.Creation creation) {
    if (spec.traceparent != null) {
      message.setTraceparent(text("traceparent", spec.traceparent));
      message.setTracestate(spec.tracestate == null ? "" : text("tracestate", spec.tracestate));
    } else {
      message.setTraceparent(creation.traceparent()).setTracestate(creation.tracestate());
    }
  }

  private io.millrace.proto.v1.JobSpec.Builder write(JobSpec spec, String queue) {
    var message = io.millrace.proto.v1.JobSpec.newBuilder();
    message.setTask(text("task", spec.task)).setQueue(text("queue", queue)).setWantsPreviousResult(spec.wantsPreviousResult);
    spec.labels.forEach((key, value) -> message.putLabels(text("labels", key), text("labels", value)));
    Payload payload = encode(spec.payload);
    if (!payload.isEmpty()) {
      message.setPayload(Convert.toPayload(payload));
    }
    if (spec.priority != null) {
      message.setPriority(Convert.toPriority(spec.priority));
    }
    times(message, spec);
    if (spec.retryPolicy != null) {
      message.setRetryPolicy(Convert.toRetryPolicy(spec.retryPolicy));
    }
    if (spec.uniqueKey != null) {
      text("unique_key.key", spec.uniqueKey.key);
      message.setUniqueKey(Convert.toUniqueKey(spec.uniqueKey));
    }
    if (spec.concurrencyKey != null) {
      var key = io.millrace.proto.v1.ConcurrencyKey.newBuilder().setKey(text("concurrency_key.key", spec.concurrencyKey.key()));
      message.setConcurrencyKey(key.setLimit(spec.concurrencyKey.limit()));
    }
    return message;
  }

  private static void times(io.millrace.proto.v1.JobSpec.Builder message, JobSpec spec) {
    if (spec.runAt != null) {
      message.setRunAt(Convert.toTimestamp(spec.runAt));
    } else if (spec.delay != null) {
      message.setDelay(Convert.toDuration(spec.delay));
    }
    if (spec.expiresAt != null) {
      message.setExpiresAt(Convert.toTimestamp(spec.expiresAt));
    } else if (spec.expiresIn != null) {
      message.setExpiresIn(Convert.toDuration(spec.expiresIn));
    }
    if (spec.totalTimeout != null) {
      message.setTotalTimeout(Convert.toDuration(spec.totalTimeout));
    }
    if (spec.attemptTimeout != null) {
      message.setAttemptTimeout(Convert.toDuration(spec.attemptTimeout));
    }
    if (spec.retention != null) {
      message.setRetention(Convert.toDuration(spec.retention));
    }
  }

  private Payload encode(Object value) {
    Payload payload;
    try {
      payload = encoding.encode(value);
    } catch (Encoding.Refused refused) {
      throw Errors.invalid("payload" + refused.path(), "the payload can't be encoded: " + refused.getMessage());
    }
    if (payload.size() > PAYLOAD_BYTES_MAX) {
      throw Errors.invalid("payload", "the payload has " + payload.size() + " bytes, the limit is " + PAYLOAD_BYTES_MAX);
    }
    if (payload.isJson()) {
      text("payload", payload.rawJson());
    }
    text("payload.content_type", payload.contentType());
    return payload;
  }

  /** The server refuses a whole call for one NUL in it: what has one must not get among the jobs of others. */
  private static String text(String field, String value) {
    if (value.indexOf('\0') >= 0) {
      throw Errors.invalid(field, field + " has a NUL character, which no text may have");
    }
    return value;
  }
}
