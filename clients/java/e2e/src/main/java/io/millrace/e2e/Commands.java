// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.millrace.Client;
import io.millrace.ClientBuilder;
import io.millrace.Created;
import io.millrace.Handler;
import io.millrace.Job;
import io.millrace.JobChange;
import io.millrace.JobFilter;
import io.millrace.JobSpec;
import io.millrace.JobStream;
import io.millrace.JobWatch;
import io.millrace.MillraceException;
import io.millrace.Outcome;
import io.millrace.Schedules;
import io.millrace.TaskOptions;
import io.millrace.Transport;
import io.millrace.Worker;
import io.millrace.WorkerBuilder;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;

/** One method for each command. */
final class Commands {
  private static final System.Logger LOG = System.getLogger(Commands.class.getName());

  private final Transport transport;
  private final Consumer<ObjectNode> events;
  private final ClientBuilder options = Client.builder();
  private Client client;
  private Worker worker;

  Commands(Transport transport, Consumer<ObjectNode> events) {
    this.transport = transport;
    this.events = events;
  }

  private synchronized Client client() {
    if (client == null) {
      client = options.build();
    }
    return client;
  }

  JsonNode run(JsonNode command) throws Exception {
    String name = command.path("command").asText();
    if (name.startsWith("chain_")) {
      return chain(name, command);
    } else if (name.startsWith("batch_")) {
      return batch(name, command);
    } else if (name.startsWith("schedule")) {
      return schedule(name, command);
    } else if (name.startsWith("queue_")) {
      return queue(name, command);
    } else if (name.startsWith("worker_")) {
      return worker(name, command);
    }
    return job(name, command);
  }

  private static UnsupportedOperationException unknown(String name) {
    return new UnsupportedOperationException("there is no command '" + name + "'");
  }

  private static String id(JsonNode command) {
    return command.path("id").asText();
  }

  private static Duration timeout(JsonNode command) {
    return command.hasNonNull("timeout") ? Specs.seconds(command.get("timeout")) : null;
  }

  // ---- jobs ----

  private JsonNode job(String name, JsonNode command) throws Exception {
    return switch (name) {
      case "open" -> open(command);
      case "create" -> {
        Created created = client().create(Specs.job(command));
        yield Answers.object().put("id", created.id()).put("existing", created.existing());
      }
      case "create_many" -> Answers.outcomes(createMany(command.path("mode").asText(), Specs.jobs(command.path("jobs"))));
      case "get" -> {
        boolean withLog = command.path("log").asBoolean();
        Job got = withLog ? client().getWithLog(id(command)) : client().get(id(command));
        yield withLog ? Answers.withLog(Answers.job(got, true), got) : Answers.job(got, true);
      }
      case "wait" -> Answers.job(client().waitFor(id(command), timeout(command)), true);
      case "watch" -> watch(command);
      case "list" -> {
        ObjectNode page = Answers.object();
        ArrayNode jobs = page.putArray("jobs");
        client().list(Specs.filter(command)).forEach(one -> jobs.add(Answers.job(one, false)));
        yield page;
      }
      case "cancel" -> {
        boolean terminate = command.path("terminate").asBoolean();
        String reason = command.path("reason").asText();
        yield Answers.object().put("accepted", client().cancelAsync(id(command), terminate, reason).join());
      }
      case "retry" -> Answers.job(client().retry(id(command)), false);
      default -> throw unknown(name);
    };
  }

  private synchronized JsonNode open(JsonNode command) {
    command.path("routes").fields().forEachRemaining(rule -> options.route(rule.getKey(), rule.getValue().asText()));
    if (command.path("codec").asText().equals("reverse")) {
      options.codec(new ReverseCodec());
    }
    return Answers.object();
  }

  private List<Outcome> createMany(String mode, List<JobSpec> jobs) {
    if (mode.equals("bulk")) {
      return client().createAll(jobs);
    }
    List<CompletableFuture<Created>> futures = new ArrayList<>();
    if (mode.equals("stream")) {
      try (JobStream stream = client().createStream()) {
        jobs.forEach(job -> futures.add(stream.create(job)));
      }
    } else {
      jobs.forEach(job -> futures.add(client().createAsync(job)));
    }
    return futures.stream().map(Commands::outcome).toList();
  }

  private static Outcome outcome(CompletableFuture<Created> future) {
    try {
      Created created = future.join();
      return new Outcome(created.id(), created.existing(), Optional.empty());
    } catch (CompletionException failure) {
      if (failure.getCause() instanceof MillraceException refused) {
        return new Outcome("", false, Optional.of(refused));
      }
      throw failure;
    }
  }

  private JsonNode watch(JsonNode command) throws TimeoutException {
    String until = command.path("until").asText();
    Duration timeout = timeout(command);
    List<String> states = new ArrayList<>();
    try (JobWatch watch = client().watch(JobFilter.ids(id(command)))) {
      if (timeout != null) {
        CompletableFuture.delayedExecutor(timeout.toNanos(), TimeUnit.NANOSECONDS).execute(watch::close);
      }
      while (watch.hasNext()) {
        JobChange change = watch.next();
        String state = change.job().map(job -> Answers.word(job.state())).orElse("");
        if (state.isEmpty() || (!states.isEmpty() && states.get(states.size() - 1).equals(state))) {
          continue;
        }
        states.add(state);
        ObjectNode event = Answers.object();
        event.set("number", command.get("number"));
        events.accept(event.put("event", "state").put("state", state));
        if (state.equals(until)) {
          ObjectNode answer = Answers.object();
          answer.set("states", Answers.PLAIN.valueToTree(states));
          return answer;
        }
      }
    }
    throw new TimeoutException(until + " was not seen within " + timeout + "; seen: " + states);
  }

  // ---- flows ----

  private JsonNode chain(String name, JsonNode command) {
    return switch (name) {
      case "chain_create" -> Answers.chain(client().chains().create(Specs.chain(command)));
      case "chain_get" -> Answers.chain(client().chains().get(id(command)));
      case "chain_wait" -> Answers.chain(client().chains().waitFor(id(command), timeout(command)));
      case "chain_cancel" -> {
        boolean terminate = command.path("terminate").asBoolean();
        yield Answers.chain(client().chains().cancelAsync(id(command), terminate, command.path("reason").asText()).join());
      }
      default -> throw unknown(name);
    };
  }

  private JsonNode batch(String name, JsonNode command) {
    return switch (name) {
      case "batch_create" -> Answers.batch(client().batches().create(Specs.batch(command)));
      case "batch_add" -> {
        int chunk = command.path("chunk").asInt();
        boolean isLast = command.path("last").asBoolean();
        yield Answers.outcomes(client().batches().add(id(command), chunk, Specs.jobs(command.path("items")), isLast));
      }
      case "batch_seal" -> Answers.batch(client().batches().seal(id(command)));
      case "batch_get" -> Answers.batch(client().batches().get(id(command)));
      case "batch_wait" -> Answers.batch(client().batches().waitFor(id(command), timeout(command)));
      case "batch_cancel" -> {
        boolean terminate = command.path("terminate").asBoolean();
        yield Answers.batch(client().batches().cancelAsync(id(command), terminate, command.path("reason").asText()).join());
      }
      default -> throw unknown(name);
    };
  }

  // ---- schedules, queues ----

  private JsonNode schedule(String name, JsonNode command) {
    Schedules schedules = client().schedules();
    String key = command.path("name").asText();
    return switch (name) {
      case "schedule_create" -> Answers.schedule(schedules.create(Specs.schedule(command)));
      case "schedules_declare" -> {
        var specs = new ArrayList<io.millrace.ScheduleSpec>();
        command.path("schedules").forEach(one -> specs.add(Specs.schedule(one)));
        var declared = schedules.declare(command.path("owner").asText(), specs, command.path("prune").asBoolean());
        yield Answers.PLAIN.valueToTree(declared);
      }
      case "schedule_get" -> Answers.schedule(schedules.get(key));
      case "schedule_pause" -> Answers.schedule(schedules.pause(key));
      case "schedule_resume" -> Answers.schedule(schedules.resume(key));
      case "schedule_list" -> {
        ObjectNode page = Answers.object();
        ArrayNode list = page.putArray("schedules");
        schedules.list(command.path("owner").asText()).forEach(one -> list.add(Answers.schedule(one)));
        yield page;
      }
      case "schedule_delete" -> {
        schedules.delete(key);
        yield Answers.object();
      }
      case "schedule_run" -> Answers.object().put("job_id", schedules.run(key));
      case "schedule_preview" -> preview(schedules, command);
      default -> throw unknown(name);
    };
  }

  private static JsonNode preview(Schedules schedules, JsonNode command) {
    Instant after = command.hasNonNull("after") ? Specs.time(command.get("after")) : null;
    int count = command.path("count").asInt();
    List<Instant> times =
        command.hasNonNull("interval")
            ? schedules.preview(Specs.seconds(command.get("interval")), after, count)
            : schedules.preview(command.path("cron").asText(), command.path("time_zone").asText(), after, count);
    ObjectNode answer = Answers.object();
    answer.set("times", Answers.PLAIN.valueToTree(times.stream().map(Instant::toString).toList()));
    return answer;
  }

  private JsonNode queue(String name, JsonNode command) {
    String key = command.path("name").asText();
    return switch (name) {
      case "queue_get" -> Answers.queue(client().queues().get(key));
      case "queue_pause" -> Answers.queue(client().queues().pause(key));
      case "queue_resume" -> Answers.queue(client().queues().resume(key));
      case "queue_purge" -> Answers.object().put("purged", client().queues().purge(key));
      default -> throw unknown(name);
    };
  }

  // ---- worker ----

  private JsonNode worker(String name, JsonNode command) {
    return switch (name) {
      case "worker_start" -> {
        start(command);
        yield Answers.object();
      }
      case "worker_stop" -> {
        stopWorker();
        yield Answers.object();
      }
      default -> throw unknown(name);
    };
  }

  private synchronized void start(JsonNode command) {
    WorkerBuilder builder = Worker.builder(client()).transport(transport);
    command.path("queues").fields().forEachRemaining(queue -> builder.queue(queue.getKey(), queue.getValue().asInt()));
    if (command.hasNonNull("concurrency")) {
      builder.concurrency(command.get("concurrency").asInt());
    }
    if (command.hasNonNull("stop_grace")) {
      builder.stopGrace(Specs.seconds(command.get("stop_grace")));
    }
    if (command.hasNonNull("terminate_grace")) {
      builder.terminateGrace(Specs.seconds(command.get("terminate_grace")));
    }
    if (command.path("middleware").asBoolean()) {
      builder.middleware(
          (job, next) -> {
            job.log("middleware: " + job.task());
            return next.handle(job);
          });
    }
    Map<String, Handler> handlers = StandardHandlers.all();
    if (command.hasNonNull("handlers")) {
      handlers.keySet().retainAll(Specs.texts(command.get("handlers")));
    }
    handlers.forEach((task, handler) -> builder.handle(task, taskOptions(command.path("tasks").path(task)), handler));
    worker = builder.build().start();
    var unused =
        worker
            .stopped()
            .whenComplete(
                (nothing, failure) -> {
                  if (failure != null) {
                    LOG.log(System.Logger.Level.ERROR, "the worker has ended: {0}", failure.getMessage());
                  }
                });
  }

  private static TaskOptions taskOptions(JsonNode node) {
    TaskOptions options = TaskOptions.create();
    if (node.hasNonNull("retry")) {
      options.retryPolicy(Specs.retry(node.get("retry")));
    }
    if (node.hasNonNull("attempt_timeout")) {
      options.attemptTimeout(Specs.seconds(node.get("attempt_timeout")));
    }
    return options;
  }

  void stopWorker() {
    Worker stopping;
    synchronized (this) {
      stopping = worker;
      worker = null;
    }
    if (stopping != null) {
      stopping.close();
    }
  }
}
