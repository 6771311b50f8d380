// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.millrace.BatchSpec;
import io.millrace.BatchState;
import io.millrace.Chain;
import io.millrace.ChainSpec;
import io.millrace.ChainState;
import io.millrace.Created;
import io.millrace.InvalidArgumentException;
import io.millrace.Job;
import io.millrace.JobExistsException;
import io.millrace.JobSpec;
import io.millrace.JobState;
import io.millrace.PermanentException;
import io.millrace.RetryPolicy;
import io.millrace.ScheduleSpec;
import io.millrace.SnoozeException;
import io.millrace.TaskOptions;
import io.millrace.UniqueKey;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
final class FakeMillraceTest {
  private static final Instant START = Instant.parse("2026-01-31T12:00:00Z");

  private final FakeMillrace fake = FakeMillrace.at(START);

  @AfterEach
  void close() {
    fake.close();
  }

  @Test
  void jobsRunOnDemandInOrder() {
    List<Object> order = new ArrayList<>();
    fake.worker(worker -> worker.handle("work", Integer.class, (number, job) -> order.add(number)));
    fake.client().create("work", 1);
    fake.client().create("work", 2);
    fake.client().create(JobSpec.builder("work").payload(3).priority(io.millrace.Priority.HIGH).build());
    Created unhandled = fake.client().create("unknown", null);
    assertThat(order).isEmpty();
    assertThat(fake.runAll()).isEqualTo(3);
    assertThat(order).containsExactly(3, 1, 2);
    assertThat(fake.client().get(unhandled.id()).state()).isEqualTo(JobState.PENDING);
  }

  @Test
  void jobsRunAtOnceAndMayCreateOthers() {
    fake.runAtOnce()
        .worker(
            worker ->
                worker
                    .handle("outer", job -> fake.client().create("inner", Map.of("from", job.jobId())).id())
                    .handle("inner", job -> job.kwargs().get("from")));
    Created outer = fake.client().create("outer", null);
    Job inner = fake.assertCreated("inner");
    assertThat(inner.state()).isEqualTo(JobState.SUCCEEDED);
    assertThat(inner.result(String.class)).isEqualTo(outer.id());
    assertThat(fake.client().get(outer.id()).result(String.class)).isEqualTo(inner.id());
  }

  @Test
  void delaysWaitForTheClock() {
    fake.worker(worker -> worker.handle("remind", job -> "done"));
    Created created = fake.client().create(JobSpec.builder("remind").delay(Duration.ofDays(3)).build());
    fake.advance(Duration.ofDays(2));
    assertThat(fake.client().get(created.id()).state()).isEqualTo(JobState.SCHEDULED);
    fake.advance(Duration.ofDays(1));
    assertThat(fake.client().get(created.id()).state()).isEqualTo(JobState.SUCCEEDED);
    assertThat(fake.now()).isEqualTo(START.plus(Duration.ofDays(3)));
    assertThat(fake.client().get(created.id()).finishedAt()).contains(START.plus(Duration.ofDays(3)));
  }

  @Test
  void failuresAreTriedAgainAsThePolicySays() {
    List<Instant> runs = new ArrayList<>();
    RetryPolicy retries = RetryPolicy.builder().maxAttempts(3).exponential(Duration.ofSeconds(10), 3).build();
    TaskOptions policy = TaskOptions.create().retryPolicy(retries);
    fake.worker(
        worker ->
            worker
                .handle(
                    "flaky",
                    policy,
                    job -> {
                      runs.add(fake.now());
                      throw new IllegalStateException("attempt " + job.attempt());
                    })
                .handle("hopeless", job -> { throw new PermanentException("never"); }));
    Created created = fake.client().create("flaky", null);
    Created hopeless = fake.client().create("hopeless", null);
    fake.advance(Duration.ofHours(1));
    assertThat(runs).containsExactly(START, START.plusSeconds(10), START.plusSeconds(40));
    Job job = fake.client().get(created.id());
    assertThat(job.state()).isEqualTo(JobState.FAILED);
    assertThat(job.error().orElseThrow().message()).isEqualTo("attempt 3");
    assertThat(fake.client().get(hopeless.id()).attempts()).isEqualTo(1);
    fake.assertCount("flaky", JobState.FAILED, 1);
    assertThat(fake.client().retry(created.id()).state()).isEqualTo(JobState.PENDING);
  }

  @Test
  void aSnoozeUsesUpNoAttempt() {
    fake.worker(
        worker ->
            worker.handle(
                "poll",
                job -> {
                  if (fake.now().isBefore(START.plusSeconds(60))) {
                    throw new SnoozeException(Duration.ofSeconds(20));
                  }
                  return job.attempt();
                }));
    Created created = fake.client().create("poll", null);
    fake.advance(Duration.ofMinutes(2));
    assertThat(fake.client().get(created.id()).result(Integer.class)).isEqualTo(1);
    assertThat(fake.client().get(created.id()).deliveries()).isEqualTo(4);
  }

  @Test
  void whatIsTooLateExpires() {
    Created created = fake.client().create(JobSpec.builder("late").expiresIn(Duration.ofMinutes(1)).build());
    fake.advance(Duration.ofMinutes(2));
    assertThat(fake.client().get(created.id()).state()).isEqualTo(JobState.EXPIRED);
  }

  @Test
  void chainsHandTheirResultsOn() {
    fake.worker(
        worker ->
            worker
                .handle("add", job -> (job.previousResult(Integer.class) == null ? 0 : job.previousResult(Integer.class)) + 1)
                .handle("break", job -> { throw new PermanentException("no"); })
                .handle("clean", job -> "clean"));
    JobSpec add = JobSpec.builder("add").wantsPreviousResult().build();
    Chain chain = fake.client().chains().create(ChainSpec.of(add, add, add));
    fake.runAll();
    assertThat(fake.client().chains().waitFor(chain.id(), Duration.ofSeconds(5)).result(Integer.class)).isEqualTo(3);
    ChainSpec hopeless = ChainSpec.builder().step(JobSpec.of("break")).step(add).onFailure(JobSpec.of("clean")).build();
    Chain broken = fake.client().chains().create(hopeless);
    fake.runAll();
    assertThat(fake.client().chains().get(broken.id()).state()).isEqualTo(ChainState.FAILED);
    assertThat(fake.client().get(broken.jobIds().get(1)).state()).isEqualTo(JobState.CANCELLED);
    assertThat(fake.assertCreated("clean").state()).isEqualTo(JobState.SUCCEEDED);
  }

  @Test
  void batchesCountTheirMembersAndCallBack() {
    fake.worker(worker -> worker.handle("mail", job -> null).handle("summary", job -> null));
    BatchSpec spec = BatchSpec.builder().defaults(JobSpec.builder("mail").build()).onComplete(JobSpec.of("summary")).build();
    var items = IntStream.range(0, 25).mapToObj(i -> JobSpec.defaults().payload(Map.of("n", i)).build()).iterator();
    var done = fake.client().batches().submit(spec, items, 10);
    fake.runAll();
    assertThat(fake.client().batches().get(done.batch().id()).state()).isEqualTo(BatchState.SUCCEEDED);
    assertThat(fake.client().batches().get(done.batch().id()).succeeded()).isEqualTo(25);
    fake.assertCreated("summary");
    fake.assertCount("mail", JobState.SUCCEEDED, 25);
  }

  @Test
  void schedulesMakeJobsAsTheClockMoves() {
    fake.worker(worker -> worker.handle("report", job -> null).handle("tick", job -> null));
    ScheduleSpec nightly = ScheduleSpec.cron("nightly", "0 3 * * *", JobSpec.of("report")).zone("Europe/Berlin").build();
    ScheduleSpec ticks = ScheduleSpec.every("tick", Duration.ofHours(6), JobSpec.of("tick")).build();
    fake.client().schedules().declare("app", List.of(nightly, ticks), true);
    fake.advance(Duration.ofDays(2));
    fake.assertCount("report", JobState.SUCCEEDED, 2);
    fake.assertCount("tick", JobState.SUCCEEDED, 8);
    assertThat(fake.jobs("report").get(0).createdAt()).isEqualTo(Instant.parse("2026-02-01T02:00:00Z"));
    fake.client().schedules().pause("nightly");
    fake.advance(Duration.ofDays(2));
    fake.assertCount("report", JobState.SUCCEEDED, 2);
  }

  @Test
  void uniqueKeysAndIdsAreKept() {
    JobSpec unique = JobSpec.builder("index").uniqueKey(UniqueKey.of("all")).build();
    Created first = fake.client().create(unique);
    assertThatThrownBy(() -> fake.client().create(unique)).isInstanceOf(JobExistsException.class);
    JobSpec again = JobSpec.builder("index").uniqueKey(UniqueKey.of("all").orReturnExisting()).build();
    assertThat(fake.client().create(again)).isEqualTo(new Created(first.id(), true));
    assertThatThrownBy(() -> fake.client().create(JobSpec.of("no spaces"))).isInstanceOf(InvalidArgumentException.class);
    assertThat(fake.client().cancel(first.id())).isTrue();
    assertThat(fake.client().create(unique).existing()).isFalse();
    assertThat(fake.client().queues().purge("default")).isEqualTo(1);
  }

  @Test
  void assertionsTellWhatWasCreated() {
    fake.client().create("send_email", Map.of("to", "a@example.org"));
    fake.assertNotCreated("send_sms");
    Job job = fake.assertCreated("send_email", one -> "a@example.org".equals(one.payload(Map.class).get("to")));
    assertThat(job.state()).isEqualTo(JobState.PENDING);
    assertThatThrownBy(() -> fake.assertCreated("send_sms")).isInstanceOf(AssertionError.class).hasMessageContaining("send_email");
    assertThatThrownBy(() -> fake.assertNotCreated("send_email")).isInstanceOf(AssertionError.class);
  }
}
