// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.millrace.Batch;
import io.millrace.BatchSpec;
import io.millrace.BatchState;
import io.millrace.Batches;
import io.millrace.Client;
import io.millrace.Created;
import io.millrace.InvalidArgumentException;
import io.millrace.Job;
import io.millrace.JobExistsException;
import io.millrace.JobFilter;
import io.millrace.JobNotFoundException;
import io.millrace.JobSpec;
import io.millrace.JobState;
import io.millrace.JobStream;
import io.millrace.JobUpdate;
import io.millrace.Outcome;
import io.millrace.Priority;
import io.millrace.QueueFullException;
import io.millrace.QueueSettings;
import io.millrace.ScheduleSpec;
import io.millrace.Schedules;
import io.millrace.UnavailableException;
import io.millrace.UniqueKey;
import io.millrace.WaitTimeoutException;
import io.millrace.WaitingReason;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(180)
final class ClientIT {
  @TempDir static Path directory;
  private static Server server;
  private static Client client;

  /** A queue that no other test uses. */
  private final String queue = "q-" + UUID.randomUUID();

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

  private JobSpec.Builder spec() {
    return JobSpec.builder("send_email").queue(queue);
  }

  @Test
  void aJobIsAsItWasAskedFor() {
    Map<String, Object> payload = Map.of("to", "a@example.org", "n", Long.MAX_VALUE);
    Created created = client.create(spec().priority(Priority.HIGH).payload(payload).label("k", "v").delay(Duration.ofHours(1)).build());
    Job job = client.get(created.id());
    assertThat(created.existing()).isFalse();
    assertThat(job.state()).isEqualTo(JobState.SCHEDULED);
    assertThat(job.priority()).isEqualTo(Priority.HIGH);
    assertThat(job.payload(Object.class)).isEqualTo(payload);
    assertThat(job.labels()).containsEntry("k", "v");
    assertThat(job.waitingReason()).isEqualTo(WaitingReason.SCHEDULED);
    Job updated = client.update(created.id(), JobUpdate.create().priority(Priority.LOW));
    assertThat(updated.priority()).isEqualTo(Priority.LOW);
    assertThat(client.cancel(created.id())).isTrue();
    assertThat(client.cancel(created.id())).isFalse();
    client.delete(created.id());
    assertThatThrownBy(() -> client.get(created.id())).isInstanceOf(JobNotFoundException.class);
  }

  @Test
  void errorsTellWhatIsWrong() {
    assertThatThrownBy(() -> client.create(JobSpec.of("no spaces")))
        .isInstanceOfSatisfying(InvalidArgumentException.class, failure -> assertThat(failure.field()).isEqualTo("task"));
    Created holder = client.create(spec().uniqueKey(UniqueKey.of("one")).build());
    assertThatThrownBy(() -> client.create(spec().uniqueKey(UniqueKey.of("one")).build()))
        .isInstanceOfSatisfying(JobExistsException.class, failure -> assertThat(failure.jobId()).isEqualTo(holder.id()));
    assertThat(client.create(spec().uniqueKey(UniqueKey.of("one").orReturnExisting()).build())).isEqualTo(new Created(holder.id(), true));
    client.queues().update(queue, QueueSettings.create().maxLength(1));
    assertThatThrownBy(() -> client.create(spec().build()))
        .isInstanceOfSatisfying(QueueFullException.class, failure -> assertThat(failure.queue()).isEqualTo(queue));
    assertThatThrownBy(() -> client.waitFor(holder.id(), Duration.ofMillis(50))).isInstanceOf(WaitTimeoutException.class);
    String nobody = UUID.randomUUID().toString();
    assertThatThrownBy(() -> client.waitForAsync(nobody, null).join()).hasCauseInstanceOf(JobNotFoundException.class);
  }

  @Test
  void aServerThatIsNotThereIsUnavailable() {
    try (Client nowhere = Client.builder().address("127.0.0.1:1").callTimeout(Duration.ofSeconds(20)).build()) {
      assertThatThrownBy(() -> nowhere.create(JobSpec.of("t"))).isInstanceOf(UnavailableException.class);
    }
  }

  @Test
  void manyCreatesAtATimeShareCallsAndEachHasItsOwnOutcome() throws Exception {
    long requestsBefore = server.metric("millrace_requests_total");
    List<CompletableFuture<Created>> futures = new ArrayList<>();
    for (int i = 0; i < 2000; i++) {
      futures.add(client.createAsync(i == 1000 ? JobSpec.builder("no spaces").queue(queue).build() : spec().payload(i).build()));
    }
    for (int i = 0; i < 2000; i++) {
      CompletableFuture<Created> future = futures.get(i);
      if (i == 1000) {
        assertThatThrownBy(future::join)
            .cause()
            .isInstanceOfSatisfying(InvalidArgumentException.class, failure -> assertThat(failure.field()).isEqualTo("task"));
      } else {
        assertThat(future.join().existing()).isFalse();
      }
    }
    assertThat(server.metric("millrace_requests_total") - requestsBefore).isBetween(2L, 500L);
    assertThat(client.queues().get(queue).pending()).isEqualTo(1999);
    assertThat(client.list(JobFilter.queue(queue)).map(Job::id).distinct().count()).isEqualTo(1999);
    assertThat(client.queues().purge(queue)).isEqualTo(1999);
  }

  @Test
  void bulkAnswersInOrder() {
    List<JobSpec> jobs = new ArrayList<>(IntStream.range(0, 2500).mapToObj(i -> spec().payload(i).build()).toList());
    jobs.add(7, JobSpec.builder("no spaces").queue(queue).build());
    List<Outcome> outcomes = client.createAll(jobs);
    assertThat(outcomes).hasSize(2501);
    assertThat(outcomes.get(7).error().orElseThrow()).isInstanceOf(InvalidArgumentException.class);
    assertThat(outcomes.stream().filter(Outcome::isOk)).hasSize(2500);
    assertThat(client.get(outcomes.get(2500).id()).payload(Integer.class)).isEqualTo(2499);
    assertThat(client.cancelAll(JobFilter.queue(queue), "not needed")).isEqualTo(2500);
  }

  @Test
  void aStreamSurvivesTheServersEnd() throws Exception {
    List<CompletableFuture<Created>> futures = new ArrayList<>();
    try (Server own = new Server(java.nio.file.Files.createTempDirectory(directory, "own")).start();
        Client there = Client.connect(own.address())) {
      try (JobStream stream = there.createStream()) {
        for (int i = 0; i < 6000; i++) {
          futures.add(stream.create(spec().payload(i).build()));
          if (i == 3000) {
            own.restart();
          }
        }
      }
      assertThat(futures).allSatisfy(future -> assertThat(future).isCompletedWithValueMatching(created -> !created.id().isEmpty()));
      assertThat(there.queues().get(queue).pending()).isEqualTo(6000);
    }
  }

  @Test
  void aBatchTakesAnyNumberOfItems() {
    JobSpec defaults = JobSpec.defaults().queue(queue).priority(Priority.LOW).build();
    BatchSpec spec = BatchSpec.builder().defaults(defaults).description("news").build();
    Batches.Submission done =
        client.batches().submit(spec, IntStream.range(0, 2345).mapToObj(i -> JobSpec.of("send_email", Map.of("n", i))).iterator(), 500);
    assertThat(done.refused()).isEmpty();
    assertThat(done.batch().state()).isEqualTo(BatchState.SEALED);
    assertThat(done.batch().total()).isEqualTo(2345);
    assertThat(client.list(JobFilter.builder().batch(done.batch().id()).build()))
        .hasSize(2345)
        .allMatch(job -> job.priority() == Priority.LOW);
    client.batches().cancel(done.batch().id());
    Batch ended = client.batches().waitFor(done.batch().id(), Duration.ofSeconds(60));
    assertThat(ended.cancelled()).isEqualTo(2345);
  }

  @Test
  void aBatchTellsWhichItemsAreNoMembers() {
    Created taken = client.create(spec().uniqueKey(UniqueKey.of("taken")).build());
    JobSpec bad = spec().uniqueKey(UniqueKey.of("taken")).build();
    JobSpec good = spec().build();
    BatchSpec first = BatchSpec.builder().items(List.of(good, bad, good)).build();
    Batches.Submission done = client.batches().submit(first, List.of(good, good, good, bad, good).iterator(), 2);
    assertThat(done.batch().total()).isEqualTo(6);
    assertThat(done.refused()).extracting(Batches.Refused::number).containsExactly(1, 6);
    assertThat(done.refused())
        .allSatisfy(
            refused ->
                assertThat(refused.error())
                    .isInstanceOfSatisfying(JobExistsException.class, failure -> assertThat(failure.jobId()).isEqualTo(taken.id())));
    Batch created = client.batches().create(BatchSpec.builder().items(List.of(bad, good)).seal().build());
    assertThat(created.refused()).extracting(Batches.Refused::number).containsExactly(0);
    assertThat(created.total()).isEqualTo(1);
  }

  @Test
  void schedulesAreDeclaredAtTheStart() {
    ScheduleSpec nightly = ScheduleSpec.cron("nightly-" + queue, "0 3 * * *", spec().build()).zone("Europe/Berlin").build();
    ScheduleSpec often = ScheduleSpec.every("often-" + queue, Duration.ofMinutes(5), spec().build()).build();
    Schedules schedules = client.schedules();
    assertThat(schedules.declare(queue, List.of(nightly, often), true)).isEqualTo(new Schedules.Declared(2, 0, 0, 0));
    assertThat(schedules.declare(queue, List.of(nightly), true)).isEqualTo(new Schedules.Declared(0, 0, 1, 1));
    assertThat(schedules.list(queue).map(io.millrace.Schedule::name)).containsExactly(nightly.name());
    assertThat(schedules.pause(nightly.name()).paused()).isTrue();
    assertThat(client.get(schedules.run(nightly.name())).scheduleName()).contains(nightly.name());
    assertThat(schedules.preview("0 3 * * *", "UTC", null, 3)).hasSize(3);
    schedules.delete(nightly.name());
    assertThatThrownBy(() -> schedules.get(nightly.name())).isInstanceOf(io.millrace.NotFoundException.class);
  }

  @Test
  void aUnixSocketServesToo() {
    try (Client local = Client.connect(server.unixAddress())) {
      Created created = local.create(spec().build());
      assertThat(client.get(created.id()).queue()).isEqualTo(queue);
    }
  }

  @Test
  void theServerTellsOfItself() {
    assertThat(client.operations().serverInfo().durability()).isEqualTo("SYNC");
    assertThat(client.operations().workers()).isEmpty();
  }
}
