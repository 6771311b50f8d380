// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.millrace.Handler;
import io.millrace.JobContext;
import io.millrace.Payload;
import io.millrace.PermanentException;
import io.millrace.RetryLaterException;
import io.millrace.SnoozeException;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;

/** The handlers that the scenarios expect of every worker. */
final class StandardHandlers {
  /** As by kill -9. */
  private static final int CRASHED = 137;

  private StandardHandlers() {}

  static Map<String, Handler> all() {
    Map<String, Handler> all = new LinkedHashMap<>();
    all.put("echo", StandardHandlers::echo);
    all.put("bytes", StandardHandlers::bytes);
    all.put("fail", job -> { throw new Boom(message(job, "it broke")); });
    all.put("panic", job -> { throw new StackOverflowError(message(job, "")); });
    all.put("permanent", job -> { throw new PermanentException(message(job, "never again")); });
    all.put("retry_later", StandardHandlers::retryLater);
    all.put("snooze", StandardHandlers::snooze);
    all.put("flaky", StandardHandlers::flaky);
    all.put("sleep", StandardHandlers::sleep);
    all.put("hang", StandardHandlers::hang);
    all.put("busy", StandardHandlers::busy);
    all.put("progress", StandardHandlers::progress);
    all.put("log", StandardHandlers::log);
    all.put("previous", StandardHandlers::previous);
    all.put("big_result", job -> "x".repeat(payload(job).path("length").asInt()));
    all.put("bad_result", job -> Map.of("value", Double.NaN));
    all.put("crash", StandardHandlers::crash);
    all.put("context", StandardHandlers::context);
    return all;
  }

  private static JsonNode payload(JobContext job) {
    JsonNode node = job.payload(JsonNode.class);
    return node == null ? Answers.object() : node;
  }

  private static String message(JobContext job, String fallback) {
    return payload(job).path("message").asText(fallback);
  }

  private static Map<String, Integer> attempt(JobContext job) {
    return Map.of("attempt", job.attempt());
  }

  private static Object echo(JobContext job) {
    Payload payload = job.payload();
    return payload.isJson() ? job.payload(JsonNode.class) : payload.data().orElse(null);
  }

  private static Object bytes(JobContext job) {
    return job.payload().data().orElseThrow(() -> new Boom("the payload is not bytes"));
  }

  private static Object retryLater(JobContext job) {
    if (job.attempt() == 1) {
      throw new RetryLaterException(Specs.seconds(payload(job).path("delay")), message(job, "busy"));
    }
    return attempt(job);
  }

  private static Object snooze(JobContext job) {
    if (Instant.now().isBefore(Specs.time(payload(job).path("until")))) {
      throw new SnoozeException(Specs.seconds(payload(job).path("delay")));
    }
    return attempt(job);
  }

  private static Object flaky(JobContext job) {
    if (job.attempt() < payload(job).path("until").asInt()) {
      throw new Boom(message(job, "it broke"));
    }
    return attempt(job);
  }

  private static Object sleep(JobContext job) throws InterruptedException {
    job.sleep(Specs.seconds(payload(job).path("seconds")));
    return Map.of("slept", payload(job).path("seconds"));
  }

  /** Deaf: to interrupts, too. */
  private static Object hang(JobContext job) {
    long end = System.nanoTime() + Specs.seconds(payload(job).path("seconds")).toNanos();
    while (System.nanoTime() - end < 0) {
      LockSupport.parkNanos(end - System.nanoTime());
      Thread.interrupted(); // an interrupt would end the next nap at once
    }
    return Map.of("hung", payload(job).path("seconds"));
  }

  private static Object busy(JobContext job) {
    long end = System.nanoTime() + Specs.seconds(payload(job).path("seconds")).toNanos();
    while (System.nanoTime() - end < 0) {
      Thread.onSpinWait();
    }
    return Map.of("busy", payload(job).path("seconds"));
  }

  private static Object progress(JobContext job) throws InterruptedException {
    job.progress(payload(job).path("fraction").asDouble(), message(job, ""));
    return sleep(job);
  }

  private static Object log(JobContext job) {
    JsonNode lines = payload(job).path("lines");
    lines.forEach(line -> job.log(line.asText()));
    return Map.of("lines", lines.size());
  }

  private static Object previous(JobContext job) {
    ObjectNode node = Answers.object();
    node.set("previous", job.previousResult(JsonNode.class));
    return node;
  }

  private static Object crash(JobContext job) {
    Runtime.getRuntime().halt(CRASHED);
    return job;
  }

  private static Object context(JobContext job) {
    Map<String, Object> seen = new LinkedHashMap<>();
    seen.put("job_id", job.jobId());
    seen.put("task", job.task());
    seen.put("queue", job.queue());
    seen.put("attempt", job.attempt());
    seen.put("max_attempts", job.maxAttempts());
    seen.put("priority", job.priority().value());
    seen.put("labels", job.labels());
    seen.put("deadline", job.deadline().orElse(null));
    seen.put("traceparent", job.traceparent());
    seen.put("chain_id", job.chainId().orElse(null));
    seen.put("batch_id", job.batchId().orElse(null));
    return seen;
  }
}
