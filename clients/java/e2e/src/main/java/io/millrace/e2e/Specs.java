// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.millrace.BatchSpec;
import io.millrace.ChainSpec;
import io.millrace.JobFilter;
import io.millrace.JobSpec;
import io.millrace.JobState;
import io.millrace.Priority;
import io.millrace.RetryPolicy;
import io.millrace.ScheduleSpec;
import io.millrace.UniqueKey;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Function;

/** What commands bring, as an application would write it. */
final class Specs {
  private static final ObjectMapper PLAIN = new ObjectMapper();

  private Specs() {}

  static Duration seconds(JsonNode node) {
    return Duration.ofNanos(Math.round(node.asDouble() * 1e9));
  }

  static Instant time(JsonNode node) {
    return Instant.parse(node.asText());
  }

  private static <T> void set(JsonNode from, String name, Function<JsonNode, T> read, Consumer<T> write) {
    if (from.hasNonNull(name)) {
      write.accept(read.apply(from.get(name)));
    }
  }

  static List<String> texts(JsonNode list) {
    List<String> texts = new ArrayList<>();
    list.forEach(one -> texts.add(one.asText()));
    return texts;
  }

  static Map<String, String> map(JsonNode object) {
    return PLAIN.convertValue(object, PLAIN.getTypeFactory().constructMapType(Map.class, String.class, String.class));
  }

  /** A map, a list, a string, bytes, … */
  static Object payload(JsonNode node) {
    if (node.has("data")) {
      try {
        return node.get("data").binaryValue();
      } catch (IOException failure) {
        throw new IllegalArgumentException(failure);
      }
    }
    if (node.has("special")) {
      return Map.of("value", node.get("special").asText().equals("nan") ? Double.NaN : Double.POSITIVE_INFINITY);
    }
    return PLAIN.convertValue(node.get("json"), Object.class);
  }

  static JobSpec job(JsonNode node) {
    JobSpec.Builder job = node.hasNonNull("task") ? JobSpec.builder(node.get("task").asText()) : JobSpec.defaults();
    set(node, "id", JsonNode::asText, job::id);
    set(node, "queue", JsonNode::asText, job::queue);
    set(node, "priority", number -> Priority.of(number.asInt()), job::priority);
    set(node, "payload", Specs::payload, job::payload);
    set(node, "delay", Specs::seconds, job::delay);
    set(node, "run_at", Specs::time, job::runAt);
    set(node, "expires_in", Specs::seconds, job::expiresIn);
    set(node, "expires_at", Specs::time, job::expiresAt);
    set(node, "total_timeout", Specs::seconds, job::totalTimeout);
    set(node, "attempt_timeout", Specs::seconds, job::attemptTimeout);
    set(node, "retry", Specs::retry, job::retryPolicy);
    set(node, "labels", Specs::map, job::labels);
    set(node, "unique", Specs::unique, job::uniqueKey);
    set(node, "retention", Specs::seconds, job::retention);
    set(node, "traceparent", JsonNode::asText, parent -> job.trace(parent, ""));
    set(node, "concurrency", one -> one, one -> job.concurrencyKey(one.get("key").asText(), one.path("limit").asInt(1)));
    set(node, "wants_previous_result", JsonNode::asBoolean, wants -> wantPrevious(job, wants));
    return job.build();
  }

  private static void wantPrevious(JobSpec.Builder job, boolean wants) {
    if (wants) {
      job.wantsPreviousResult();
    }
  }

  static List<JobSpec> jobs(JsonNode list) {
    List<JobSpec> jobs = new ArrayList<>();
    list.forEach(one -> jobs.add(job(one)));
    return jobs;
  }

  static RetryPolicy retry(JsonNode node) {
    RetryPolicy.Builder policy = RetryPolicy.builder();
    set(node, "max_attempts", JsonNode::asInt, policy::maxAttempts);
    if (node.hasNonNull("delays")) {
      List<Duration> delays = new ArrayList<>();
      node.get("delays").forEach(one -> delays.add(seconds(one)));
      policy.delays(delays.toArray(new Duration[0]));
    }
    set(node, "backoff", kind -> RetryPolicy.Backoff.valueOf(kind.asText().toUpperCase(Locale.ROOT)), policy::backoff);
    set(node, "initial", Specs::seconds, policy::initial);
    set(node, "multiplier", JsonNode::asDouble, policy::multiplier);
    set(node, "max", Specs::seconds, policy::max);
    set(node, "jitter", JsonNode::asDouble, policy::jitter);
    return policy.build();
  }

  private static UniqueKey unique(JsonNode node) {
    UniqueKey key = UniqueKey.of(node.get("key").asText());
    String scope = node.path("scope").asText("until_finished");
    if (scope.equals("while_waiting")) {
      key = key.whileWaiting();
    } else if (scope.equals("period")) {
      key = key.forPeriod(seconds(node.get("period")));
    }
    return node.path("rule").asText("reject").equals("return_existing") ? key.orReturnExisting() : key;
  }

  static JobFilter filter(JsonNode node) {
    JobFilter.Builder filter = JobFilter.builder();
    set(node, "queues", Specs::texts, names -> filter.queues(names.toArray(new String[0])));
    set(node, "tasks", Specs::texts, names -> filter.tasks(names.toArray(new String[0])));
    set(
        node,
        "states",
        Specs::texts,
        names -> names.forEach(name -> filter.states(JobState.valueOf(name.toUpperCase(Locale.ROOT)))));
    set(node, "ids", Specs::texts, filter::ids);
    set(node, "labels", Specs::map, filter::labels);
    set(node, "batch_id", JsonNode::asText, filter::batch);
    set(node, "chain_id", JsonNode::asText, filter::chain);
    return filter.build();
  }

  static ChainSpec chain(JsonNode node) {
    ChainSpec.Builder chain = ChainSpec.builder().steps(jobs(node.path("steps")));
    set(node, "id", JsonNode::asText, chain::id);
    set(node, "on_failure", Specs::job, chain::onFailure);
    return chain.build();
  }

  static BatchSpec batch(JsonNode node) {
    BatchSpec.Builder batch = BatchSpec.builder().items(jobs(node.path("items")));
    set(node, "id", JsonNode::asText, batch::id);
    set(node, "description", JsonNode::asText, batch::description);
    set(node, "defaults", Specs::job, batch::defaults);
    set(node, "on_success", Specs::job, batch::onSuccess);
    set(node, "on_complete", Specs::job, batch::onComplete);
    if (node.path("seal").asBoolean()) {
      batch.seal();
    }
    return batch.build();
  }

  static ScheduleSpec schedule(JsonNode node) {
    JobSpec job = job(node.path("job"));
    String name = node.path("name").asText();
    ScheduleSpec.Builder schedule =
        node.hasNonNull("interval")
            ? ScheduleSpec.every(name, seconds(node.get("interval")), job)
            : ScheduleSpec.cron(name, node.path("cron").asText(), job);
    set(node, "time_zone", JsonNode::asText, zone -> schedule.zone(zone));
    set(node, "start_at", Specs::time, schedule::startAt);
    set(node, "end_at", Specs::time, schedule::endAt);
    set(node, "overlap", kind -> ScheduleSpec.Overlap.valueOf(kind.asText().toUpperCase(Locale.ROOT)), schedule::overlap);
    set(node, "catch_up_window", Specs::seconds, schedule::catchUpWindow);
    set(node, "description", JsonNode::asText, schedule::description);
    return schedule.build();
  }
}
