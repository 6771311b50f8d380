// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.millrace.Batch;
import io.millrace.Chain;
import io.millrace.Job;
import io.millrace.JobError;
import io.millrace.JobExistsException;
import io.millrace.JobNotFoundException;
import io.millrace.JobState;
import io.millrace.LogLine;
import io.millrace.MillraceException;
import io.millrace.Outcome;
import io.millrace.Payload;
import io.millrace.Queue;
import io.millrace.QueueFullException;
import io.millrace.Schedule;
import io.millrace.WaitTimeoutException;
import io.millrace.WaitingReason;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.TimeoutException;

/** What the client answered, in the words of the protocol of agents. */
final class Answers {
  static final ObjectMapper PLAIN = new ObjectMapper();

  private Answers() {}

  static ObjectNode object() {
    return PLAIN.createObjectNode();
  }

  static String word(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }

  private static void put(ObjectNode to, String name, Optional<?> value) {
    value.ifPresent(some -> to.put(name, some instanceof Instant time ? time.toString() : String.valueOf(some)));
  }

  static ObjectNode job(Job job, boolean isFull) {
    ObjectNode node = object();
    node.put("id", job.id()).put("task", job.task()).put("queue", job.queue()).put("priority", job.priority().value());
    node.put("state", word(job.state())).put("cancel_requested", job.cancelRequested()).put("generation", job.generation());
    if (job.waitingReason() != WaitingReason.NONE) {
      node.put("waiting_reason", word(job.waitingReason()));
    }
    node.put("attempts", job.attempts()).put("max_attempts", job.maxAttempts()).put("deliveries", job.deliveries());
    put(node, "run_at", job.runAt());
    put(node, "started_at", job.startedAt());
    put(node, "finished_at", job.finishedAt());
    job.progress().ifPresent(progress -> node.put("progress", progress.fraction()).put("progress_message", progress.message()));
    if (isFull) {
      payload(node, "payload", job.payload());
      payload(node, "result", job.result());
    }
    put(node, "result_omitted_reason", job.resultOmittedReason());
    error(node, job.error());
    node.set("labels", PLAIN.valueToTree(job.labels()));
    put(node, "chain_id", job.chainId());
    put(node, "batch_id", job.batchId());
    put(node, "schedule_name", job.scheduleName());
    return node;
  }

  static ObjectNode withLog(ObjectNode node, Job job) {
    node.set("log", PLAIN.valueToTree(job.log().stream().map(LogLine::text).toList()));
    return node;
  }

  private static void payload(ObjectNode to, String name, Payload payload) {
    ObjectNode node = object();
    if (payload.isJson()) {
      node.set("json", read(payload.json().orElseThrow()));
    } else if (!payload.isEmpty()) {
      node.put("data", payload.data().orElseThrow());
    } else {
      return;
    }
    to.set(name, node);
  }

  static JsonNode read(String json) {
    try {
      return PLAIN.readTree(json);
    } catch (java.io.IOException failure) {
      throw new IllegalArgumentException(failure);
    }
  }

  private static void error(ObjectNode to, Optional<JobError> error) {
    error.ifPresent(
        some ->
            to.putObject("error")
                .put("type", some.type())
                .put("message", some.message())
                .put("trace", some.trace())
                .put("fingerprint", some.fingerprint()));
  }

  static ObjectNode chain(Chain chain) {
    ObjectNode node = object().put("id", chain.id()).put("state", word(chain.state()));
    node.set("job_ids", PLAIN.valueToTree(chain.jobIds()));
    node.put("succeeded", chain.succeeded()).put("current_step", chain.currentStep());
    error(node, chain.error());
    put(node, "on_failure_job_id", chain.onFailureJobId());
    payload(node, "result", chain.result());
    return node;
  }

  static ObjectNode batch(Batch batch) {
    ObjectNode node = object().put("id", batch.id()).put("state", word(batch.state())).put("total", batch.total());
    node.put("pending", batch.pending()).put("succeeded", batch.succeeded()).put("failed", batch.failed());
    node.put("cancelled", batch.cancelled()).put("expired", batch.expired());
    put(node, "on_success_job_id", batch.onSuccessJobId());
    put(node, "on_complete_job_id", batch.onCompleteJobId());
    return node;
  }

  static ObjectNode schedule(Schedule schedule) {
    ObjectNode node = object().put("name", schedule.name());
    put(node, "cron", schedule.cron());
    schedule.interval().ifPresent(interval -> node.put("interval", secondsOf(interval)));
    node.put("time_zone", schedule.timeZone()).put("owner", schedule.owner()).put("paused", schedule.paused());
    put(node, "next_run_at", schedule.nextRunAt());
    put(node, "last_run_at", schedule.lastRunAt());
    put(node, "last_job_id", schedule.lastJobId());
    return node.put("runs", schedule.runs()).put("task", schedule.task()).put("queue", schedule.queue());
  }

  private static double secondsOf(Duration duration) {
    return duration.toMillis() / 1000.0;
  }

  static ObjectNode queue(Queue queue) {
    ObjectNode node = object().put("name", queue.name()).put("paused", queue.paused()).put("workers", queue.workers());
    ObjectNode counts = node.putObject("counts");
    for (JobState state : JobState.values()) {
      if (state != JobState.UNKNOWN) {
        counts.put(word(state), queue.count(state));
      }
    }
    return node;
  }

  static ObjectNode outcomes(List<Outcome> outcomes) {
    ObjectNode node = object();
    ArrayNode list = node.putArray("outcomes");
    for (Outcome outcome : outcomes) {
      ObjectNode one = list.addObject().put("id", outcome.id()).put("existing", outcome.existing());
      outcome.error().ifPresent(failure -> one.set("error", error(failure)));
    }
    return node;
  }

  static ObjectNode error(Throwable failure) {
    ObjectNode node = object().put("message", String.valueOf(failure.getMessage()));
    if (failure instanceof TimeoutException) {
      return node.put("kind", "wait_timeout");
    }
    if (!(failure instanceof MillraceException refused)) {
      return node.put("kind", "internal").put("message", failure.toString());
    }
    node.put("kind", kind(refused));
    if (!refused.field().isEmpty()) {
      node.put("field", refused.field());
    }
    if (refused instanceof JobExistsException exists) {
      node.put("job_id", exists.jobId());
    }
    return node;
  }

  private static String kind(MillraceException failure) {
    if (failure instanceof JobNotFoundException) {
      return "job_not_found";
    } else if (failure instanceof JobExistsException) {
      return "job_exists";
    } else if (failure instanceof QueueFullException) {
      return "queue_full";
    } else if (failure instanceof WaitTimeoutException) {
      return "wait_timeout";
    }
    return word(failure.code());
  }
}
