// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.millrace.Client;
import io.millrace.InvalidArgumentException;
import io.millrace.Job;
import io.millrace.JobContext;
import io.millrace.JobSpec;
import io.millrace.JobState;
import io.millrace.LogLine;
import io.millrace.Transport;
import io.millrace.Worker;
import io.millrace.WorkerBuilder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What only a program can see from inside; the scenarios cover the rest. */
@Timeout(180)
final class WorkerIT {
  private static final Duration SOON = Duration.ofSeconds(60);

  @TempDir static Path directory;
  private static Server server;
  private static Client client;

  private final String queue = "q-" + UUID.randomUUID();

  /** A payload as a class. */
  public record Order(long number, List<String> items) {}

  @BeforeAll
  static void start() throws Exception {
    server = new Server(directory).start();
    client = Client.connect(server.address());
  }

  @AfterAll
  static void stop() throws Exception {
    if (client != null) {
      client.close();
    }
    if (server != null) {
      server.close();
    }
  }

  private WorkerBuilder worker(Transport transport) {
    return Worker.builder(client).queue(queue).transport(transport);
  }

  private String create(String task, Object payload) {
    return client.create(JobSpec.builder(task).queue(queue).payload(payload).build()).id();
  }

  @ParameterizedTest
  @EnumSource
  void payloadsAndResultsAreObjects(Transport transport) {
    WorkerBuilder builder = worker(transport).handle("ship", Order.class, (order, job) -> new Order(order.number() + 1, order.items()));
    try (Worker worker = builder.build()) {
      worker.start();
      Job job = client.waitFor(create("ship", new Order(Long.MAX_VALUE - 1, List.of("ü"))), SOON);
      assertThat(job.result(Order.class)).isEqualTo(new Order(Long.MAX_VALUE, List.of("ü")));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void middlewareStandsAroundEveryHandler(Transport transport) {
    List<String> order = new ArrayList<>();
    WorkerBuilder builder =
        worker(transport)
            .middleware(
                (job, next) -> {
                  order.add("outer");
                  return "<" + next.handle(job) + ">";
                })
            .middleware(
                (job, next) -> {
                  order.add("inner");
                  return next.handle(job) + "!";
                })
            .handle("greet", job -> "hello " + job.kwargs().get("name"));
    try (Worker worker = builder.build()) {
      worker.start();
      assertThat(client.waitFor(create("greet", Map.of("name", "you")), SOON).result(String.class)).isEqualTo("<hello you!>");
      assertThat(order).containsExactly("outer", "inner");
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aCancelReachesTheHandlerAndIsConfirmedWhenItHasStopped(Transport transport) throws Exception {
    CountDownLatch started = new CountDownLatch(1);
    CountDownLatch told = new CountDownLatch(1);
    CountDownLatch mayStop = new CountDownLatch(1);
    WorkerBuilder builder =
        worker(transport)
            .handle(
                "long",
                job -> {
                  job.onCancel(told::countDown);
                  started.countDown();
                  mayStop.await();
                  job.throwIfCancelled();
                  return "not cancelled";
                });
    try (Worker worker = builder.build()) {
      worker.start();
      String id = create("long", null);
      assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
      assertThat(client.cancel(id)).isTrue();
      assertThat(told.await(60, TimeUnit.SECONDS)).isTrue();
      assertThat(client.get(id).state()).isEqualTo(JobState.RUNNING);
      mayStop.countDown();
      assertThat(client.waitFor(id, SOON).state()).isEqualTo(JobState.CANCELLED);
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aTerminateInterrupts(Transport transport) throws Exception {
    CountDownLatch started = new CountDownLatch(1);
    WorkerBuilder builder =
        worker(transport)
            .handle(
                "long",
                job -> {
                  started.countDown();
                  Thread.sleep(Duration.ofMinutes(10).toMillis());
                  return null;
                })
            .handle("quick", job -> Thread.currentThread().isInterrupted());
    try (Worker worker = builder.build()) {
      worker.start();
      String id = create("long", null);
      assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
      client.terminate(id);
      assertThat(client.waitFor(id, SOON).state()).isEqualTo(JobState.CANCELLED);
      assertThat(client.waitFor(create("quick", null), SOON).result(Boolean.class)).isFalse();
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aStopGivesBackWhatHasNotEnded(Transport transport) throws Exception {
    CountDownLatch started = new CountDownLatch(1);
    Worker worker =
        worker(transport)
            .stopGrace(Duration.ofMillis(100))
            .handle(
                "long",
                job -> {
                  started.countDown();
                  job.sleep(Duration.ofMinutes(10));
                  return null;
                })
            .build()
            .start();
    String id = create("long", null);
    assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
    worker.close();
    Job job = client.get(id);
    assertThat(job.state()).isEqualTo(JobState.PENDING);
    assertThat(job.attempts()).isZero();
    assertThat(worker.stopped()).isCompleted();
    client.cancel(id);
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aStopConfirmsNoCancelOfAJobWhoseHandlerStillRuns(Transport transport) throws Exception {
    Path folder = java.nio.file.Files.createTempDirectory(directory, "own");
    try (Server own = new Server(folder, "--reconnect-grace", "100s", "--session-timeout", "100s").start();
        Client there = Client.connect(own.address())) {
      CountDownLatch started = new CountDownLatch(2);
      CountDownLatch told = new CountDownLatch(1);
      CountDownLatch mayStop = new CountDownLatch(1);
      WorkerBuilder builder =
          Worker.builder(there)
              .queue(queue, 1)
              .transport(transport)
              .stopGrace(Duration.ofMillis(100))
              .handle(
                  "deaf",
                  job -> {
                    job.onCancel(told::countDown);
                    started.countDown();
                    while (mayStop.getCount() > 0) {
                      Thread.interrupted();
                      LockSupport.parkNanos(1_000_000);
                    }
                    return null;
                  });
      Worker worker = builder.build().start();
      try {
        String cancelled = there.create(JobSpec.builder("deaf").queue(queue).build()).id();
        String other = there.create(JobSpec.builder("deaf").queue(queue).build()).id();
        assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
        there.cancel(cancelled);
        assertThat(told.await(60, TimeUnit.SECONDS)).isTrue();
        worker.close();
        assertThat(there.get(cancelled).state()).isEqualTo(JobState.RUNNING);
        assertThat(there.get(other).state()).isEqualTo(JobState.PENDING);
      } finally {
        mayStop.countDown();
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aTerminateThatIsNotObeyedEndsTheProcessAndGivesBackTheOthers(Transport transport) throws Exception {
    List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java"));
    command.addAll(List.of("-cp", System.getProperty("java.class.path"), DeafWorker.class.getName()));
    command.addAll(List.of(server.address(), queue, transport.name()));
    Process process = new ProcessBuilder(command).inheritIO().start();
    try {
      List<String> ids = List.of(create("deaf", null), create("deaf", null), create("deaf", null));
      for (String id : ids) {
        while (client.get(id).progress().isEmpty()) { // until the test's time is over
          Thread.sleep(20);
        }
      }
      client.cancel(ids.get(0));
      client.terminate(ids.get(1));
      assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
      assertThat(process.exitValue()).isEqualTo(75);
      Job other = client.get(ids.get(2));
      assertThat(List.of(other.state(), other.attempts(), other.lostCount())).isEqualTo(List.of(JobState.PENDING, 0, 0));
      for (String id : ids.subList(0, 2)) {
        Job stopped = client.waitFor(id, SOON);
        assertThat(List.of(stopped.state(), stopped.lostCount())).isEqualTo(List.of(JobState.CANCELLED, 1));
      }
      client.cancel(ids.get(2));
    } finally {
      process.destroyForcibly();
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aDrainEndsTheWorkerWhenItsJobsHave(Transport transport) throws Exception {
    CountDownLatch started = new CountDownLatch(1);
    CountDownLatch mayEnd = new CountDownLatch(1);
    WorkerBuilder builder =
        worker(transport)
            .label("drain", queue)
            .handle(
                "work",
                job -> {
                  started.countDown();
                  mayEnd.await();
                  return "done";
                });
    try (Worker worker = builder.build()) {
      worker.start();
      String id = create("work", null);
      assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
      client.operations().workers().filter(one -> queue.equals(one.labels().get("drain"))).forEach(
          one -> client.operations().quietWorker(one.sessionId(), true));
      mayEnd.countDown();
      worker.stopped().get(60, TimeUnit.SECONDS);
      assertThat(client.waitFor(id, SOON).result(String.class)).isEqualTo("done");
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void aJobThatRunsWhileTheServerIsKilledRunsOnce(Transport transport) throws Exception {
    try (Server own = new Server(java.nio.file.Files.createTempDirectory(directory, "own")).start();
        Client there = Client.connect(own.address())) {
      AtomicInteger runs = new AtomicInteger();
      CountDownLatch started = new CountDownLatch(1);
      CountDownLatch mayEnd = new CountDownLatch(1);
      WorkerBuilder builder =
          Worker.builder(there)
              .queue(queue)
              .transport(transport)
              .handle(
                  "work",
                  job -> {
                    runs.incrementAndGet();
                    started.countDown();
                    mayEnd.await();
                    return runs.get();
                  });
      try (Worker worker = builder.build()) {
        worker.start();
        String id = there.create(JobSpec.builder("work").queue(queue).build()).id();
        CompletableFuture<Job> ended = there.waitForAsync(id, SOON);
        assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
        own.restart();
        mayEnd.countDown();
        assertThat(ended.get(90, TimeUnit.SECONDS).result(Integer.class)).isEqualTo(1);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG", "GRPC"})
  void thousandsOfJobsOfManySizesAllEnd(Transport transport) throws Exception {
    AtomicInteger runs = new AtomicInteger();
    WorkerBuilder builder =
        worker(transport)
            .concurrency(50)
            .prefetch(100)
            .handle(
                "work",
                job -> {
                  runs.incrementAndGet();
                  job.log("a line");
                  return "x".repeat(job.payload(Integer.class));
                });
    try (Worker worker = builder.build()) {
      worker.start();
      List<JobSpec> jobs = new ArrayList<>();
      for (int i = 0; i < 2000; i++) {
        jobs.add(JobSpec.builder("work").queue(queue).payload(i % 100 == 0 ? 300_000 : i % 50).build());
      }
      String last = null;
      for (var outcome : client.createAll(jobs)) {
        last = outcome.id();
      }
      client.waitFor(last, SOON);
      long end = System.nanoTime() + SOON.toNanos();
      while (client.queues().get(queue).count(JobState.SUCCEEDED) < 2000 && System.nanoTime() - end < 0) {
        Thread.sleep(50);
      }
      assertThat(client.queues().get(queue).count(JobState.SUCCEEDED)).isEqualTo(2000);
      assertThat(runs).hasValue(2000);
      assertThat(client.getWithLog(last).log()).extracting(LogLine::text).containsExactly("a line");
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"NNG"})
  void eachAttemptIsOneLineOfTheLog(Transport transport) {
    List<String> lines = new ArrayList<>();
    Logger logger = Logger.getLogger("io.millrace.Worker");
    Handler collector =
        new Handler() {
          @Override
          public synchronized void publish(LogRecord line) {
            lines.add(line.getMessage());
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        };
    logger.addHandler(collector);
    try (Worker worker = worker(transport).handle("good", JobContext::jobId).build()) {
      worker.start();
      String id = create("good", null);
      client.waitFor(id, SOON);
      assertThat(lines.stream().filter(line -> line.contains(id)))
          .singleElement()
          .asString()
          .matches("job=" + id + " task=good attempt=1 duration_ms=[0-9.E-]+ outcome=succeeded");
    } finally {
      logger.removeHandler(collector);
    }
  }

  @ParameterizedTest
  @EnumSource
  void aWorkerThatTheServerRefusesSaysWhy(Transport transport) {
    try (Worker worker = Worker.builder(client).queue("no spaces").transport(transport).handle("t", job -> null).build()) {
      assertThatThrownBy(worker::run)
          .isInstanceOfSatisfying(InvalidArgumentException.class, refused -> assertThat(refused.field()).contains("queues[0].name"));
    }
  }
}
