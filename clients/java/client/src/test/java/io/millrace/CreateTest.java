// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Creates that share calls. */
@Timeout(120)
final class CreateTest {
  private StandIn server;
  private Client client;

  @BeforeEach
  void start() throws Exception {
    server = new StandIn();
    client = server.client().build();
  }

  @AfterEach
  void stop() {
    server.close();
    client.close();
  }

  /** A create that the server has and does not answer before its gate opens. */
  private CompletableFuture<Created> hold(Client by) throws InterruptedException {
    int before = server.calls.size();
    server.gate = new CompletableFuture<>();
    CompletableFuture<Created> first = by.createAsync(JobSpec.of("first"));
    await(() -> server.calls.size() > before);
    return first;
  }

  private static <T> T get(CompletableFuture<T> future) throws Exception {
    return future.get(60, TimeUnit.SECONDS);
  }

  private static void await(BooleanSupplier condition) throws InterruptedException {
    while (!condition.getAsBoolean()) { // until the test's time is over
      Thread.sleep(5);
    }
  }

  @Test
  void aJobThatCantBeWrittenCostsTheOthersNothing() throws Exception {
    CompletableFuture<Created> first = hold(client);
    CompletableFuture<Created> good = client.createAsync(JobSpec.of("good"));
    CompletableFuture<Created> bad = client.createAsync(JobSpec.builder("bad").label("k", "a\0b").build());
    server.gate.complete(null);
    assertThat(get(first).id()).isNotEmpty();
    assertThat(get(good).id()).isNotEmpty();
    assertThatThrownBy(() -> get(bad))
        .cause()
        .isInstanceOfSatisfying(InvalidArgumentException.class, refused -> assertThat(refused.field()).isEqualTo("labels"));

    List<JobSpec> jobs =
        List.of(JobSpec.of("t\0"), JobSpec.of("a"), JobSpec.of("nan", Map.of("x", Double.NaN)), JobSpec.of("b"), JobSpec.of("c\0"));
    List<Outcome> outcomes = client.createAll(jobs);
    assertThat(outcomes).extracting(Outcome::isOk).containsExactly(false, true, false, true, false);
    assertThat(server.calls).last().isEqualTo(List.of("a", "b"));
    assertThat(outcomes.get(2).error().orElseThrow()).isInstanceOf(InvalidArgumentException.class);
  }

  @Test
  void anAnswerWithTooFewOrTooManyOutcomesFailsTheCreatesOfItsCall() throws Exception {
    var created = server.outcomes;
    for (int surplus : List.of(-1, 1)) {
      server.outcomes = jobs -> Collections.nCopies(jobs.size() == 1 ? 1 : jobs.size() + surplus, created.apply(jobs).get(0));
      CompletableFuture<Created> first = hold(client);
      List<CompletableFuture<Created>> others = List.of(client.createAsync(JobSpec.of("a")), client.createAsync(JobSpec.of("b")));
      server.gate.complete(null);
      get(first);
      assertThat(others)
          .allSatisfy(other -> assertThatThrownBy(() -> get(other)).cause().hasMessageContaining("outcomes for 2 jobs"));
      assertThat(client.createAll(List.of(JobSpec.of("a"), JobSpec.of("b"))))
          .allSatisfy(outcome -> assertThat(outcome.error().orElseThrow().code()).isEqualTo(ErrorCode.INTERNAL));
    }
  }

  @Test
  void theTimeOutCountsFromTheCreateAndWhatIsLateOrLeftIsNotSent() throws Exception {
    try (Client hasty = server.client().callTimeout(Duration.ofSeconds(3)).build()) {
      CompletableFuture<Created> first = hold(hasty);
      CompletableFuture<Created> left = hasty.createAsync(JobSpec.of("left"));
      // No call has room for both, and the one's ends after the other's time.
      CompletableFuture<Created> second = hasty.createAsync(JobSpec.of("second", "x".repeat(2_000_000)));
      CompletableFuture<Created> late = hasty.createAsync(JobSpec.of("late", "x".repeat(2_000_000)));
      assertThat(left.cancel(true)).isTrue();
      CompletableFuture<Void> opened = server.gate;
      server.gate = new CompletableFuture<>();
      opened.complete(null);
      get(first);
      await(() -> server.calls.size() == 2);
      assertThatThrownBy(() -> get(second)).hasCauseInstanceOf(DeadlineExceededException.class);
      assertThatThrownBy(() -> get(late)).hasCauseInstanceOf(DeadlineExceededException.class);
      server.gate.complete(null);
      get(hasty.createAsync(JobSpec.of("next")));
      assertThat(server.calls).containsExactly(List.of("first"), List.of("second"), List.of("next"));
    }
  }

  @Test
  void eachOfThoseThatShareAFailedCallHasAnExceptionOfItsOwn() throws Exception {
    server.outcomes =
        jobs -> {
          throw io.grpc.Status.PERMISSION_DENIED.asRuntimeException();
        };
    CompletableFuture<Created> first = hold(client);
    CompletableFuture<Created> one = client.createAsync(JobSpec.of("one"));
    CompletableFuture<Created> two = client.createAsync(JobSpec.of("two"));
    server.gate.complete(null);
    assertThatThrownBy(() -> get(first)).hasCauseInstanceOf(AccessDeniedException.class);
    assertThatThrownBy(() -> get(one)).hasCauseInstanceOf(AccessDeniedException.class);
    assertThatThrownBy(() -> get(two)).hasCauseInstanceOf(AccessDeniedException.class);
    assertThat(one.handle((created, failure) -> Errors.unwrap(failure)).join())
        .isNotSameAs(two.handle((created, failure) -> Errors.unwrap(failure)).join());
  }

  @Test
  void whatFollowsUponOneOfThoseThatShareACallMayWaitForTheOthers() throws Exception {
    CompletableFuture<Created> first = hold(client);
    CompletableFuture<Created> one = client.createAsync(JobSpec.of("one"));
    CompletableFuture<Created> two = client.createAsync(JobSpec.of("two"));
    CompletableFuture<String> follower = one.thenApply(created -> two.join().id());
    server.gate.complete(null);
    get(first);
    assertThat(get(follower)).isEqualTo(get(two).id());
    assertThat(server.calls).last().isEqualTo(List.of("one", "two"));
  }

  /** A thousand times 20 ms: by five threads or so, as then something moves all the time. */
  @Test
  void whatFollowsAndTakesItsTimeHasFewThreads() throws Exception {
    CompletableFuture<Created> first = hold(client);
    Set<Thread> threads = ConcurrentHashMap.newKeySet();
    List<CompletableFuture<Void>> followers = new ArrayList<>();
    for (int i = 0; i < Coalescer.JOBS_MAX; i++) {
      followers.add(
          client
              .createAsync(JobSpec.of("t"))
              .thenAccept(
                  created -> {
                    threads.add(Thread.currentThread());
                    LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(20));
                  }));
    }
    server.gate.complete(null);
    get(first);
    for (CompletableFuture<Void> follower : followers) {
      get(follower);
    }
    assertThat(server.calls).hasSize(2);
    assertThat(threads).hasSizeLessThan(40);
  }

  @Test
  void whatFollowsUponOneThatIsLateMayWaitForTheOthers() throws Exception {
    try (Client hasty = server.client().callTimeout(Duration.ofSeconds(1)).build()) {
      CompletableFuture<Created> first = hold(hasty);
      CompletableFuture<Created> one = hasty.createAsync(JobSpec.of("one"));
      CompletableFuture<Created> two = hasty.createAsync(JobSpec.of("two"));
      CompletableFuture<Throwable> follower = one.handle((created, failure) -> two.handle((other, late) -> late).join());
      assertThatThrownBy(() -> get(first)).hasCauseInstanceOf(DeadlineExceededException.class);
      assertThatThrownBy(() -> get(two)).hasCauseInstanceOf(DeadlineExceededException.class);
      assertThat(Errors.unwrap(get(follower))).isInstanceOf(DeadlineExceededException.class);
      server.gate.complete(null);
    }
  }

  @Test
  void aStreamWhoseServerIsSilentFailsItsJobsAndGoesOn() throws Exception {
    try (Client hasty = server.client().callTimeout(Duration.ofSeconds(1)).build();
        JobStream stream = hasty.createStream()) {
      CompletableFuture<Void> closed = new CompletableFuture<>();
      server.gate = closed;
      CompletableFuture<Created> lost = stream.create(JobSpec.of("lost"));
      assertThatThrownBy(() -> get(lost)).hasCauseInstanceOf(DeadlineExceededException.class);
      server.gate = CompletableFuture.completedFuture(null);
      assertThat(get(stream.create(JobSpec.of("next"))).id()).isNotEmpty();
      closed.complete(null);
    }
  }

  @Test
  void anInterruptOfOneThatCreatesIsNoConcernOfTheOthersOnItsStream() throws Exception {
    server.gate = new CompletableFuture<>();
    try (JobStream stream = client.createStream()) {
      List<CompletableFuture<Created>> jobs = new ArrayList<>();
      Thread filler =
          new Thread(
              () -> {
                while (!Thread.currentThread().isInterrupted()) { // at some time there is no more room
                  jobs.add(stream.create(JobSpec.of("t")));
                }
              });
      filler.start();
      await(() -> filler.getState() == Thread.State.WAITING || filler.getState() == Thread.State.TIMED_WAITING);
      filler.interrupt();
      filler.join();
      server.gate.complete(null);
      CompletableFuture<Created> interrupted = jobs.remove(jobs.size() - 1);
      assertThatThrownBy(() -> get(interrupted)).cause().hasMessageContaining("interrupted");
      for (CompletableFuture<Created> job : jobs) {
        assertThat(get(job).id()).isNotEmpty();
      }
    }
  }

  @Test
  void whatFollowsUponAnAnswerOfAStreamMayCreate() throws Exception {
    server.gate = new CompletableFuture<>();
    List<CompletableFuture<Created>> followers = new ArrayList<>();
    try (JobStream stream = client.createStream()) {
      for (int i = 0; i < 4000; i++) {
        CompletableFuture<Created> job = stream.create(JobSpec.of("t"));
        followers.add(job.thenCompose(created -> stream.create(JobSpec.of("follower"))));
      }
      server.gate.complete(null);
      for (CompletableFuture<Created> follower : followers) {
        get(follower);
      }
    }
  }

  @Test
  void whatFollowsUponOneOfAStreamsMessageMayWaitForTheOthers() throws Exception {
    server.gate = new CompletableFuture<>();
    List<CompletableFuture<Created>> before = new ArrayList<>();
    try (JobStream stream = client.createStream()) {
      while (before.size() < 4) { // messages, of which no more are under way at a time: the next two creates share one
        before.add(stream.create(JobSpec.of("before")));
      }
      CompletableFuture<Created> one = stream.create(JobSpec.of("one"));
      CompletableFuture<Created> two = stream.create(JobSpec.of("two"));
      CompletableFuture<String> follower = one.thenApply(created -> two.join().id());
      server.gate.complete(null);
      assertThat(get(follower)).isEqualTo(get(two).id());
      assertThat(server.calls).last().isEqualTo(List.of("one", "two"));
    }
  }

  @Test
  void aStreamsAnswerWithTooFewOutcomesFailsItsJobsAndTheStreamGoesOn() throws Exception {
    var created = server.outcomes;
    server.outcomes = jobs -> List.of();
    try (JobStream stream = client.createStream()) {
      CompletableFuture<Created> job = stream.create(JobSpec.of("t"));
      assertThatThrownBy(() -> get(job)).cause().hasMessageContaining("0 outcomes for 1 jobs");
      server.outcomes = created;
      assertThat(get(stream.create(JobSpec.of("t"))).id()).isNotEmpty();
    }
  }

  /** It goes on while the server is away, but not without its client. */
  @Test
  void aWaitEndsWithItsClient() {
    server.close();
    CompletableFuture<Job> wait = client.waitForAsync("00000000-0000-4000-8000-000000000001", null);
    client.close();
    assertThatThrownBy(() -> get(wait)).cause().hasMessageContaining("the client is closed");
  }

  @Test
  void aWaitKeepsNoAnswersOfCallsBefore() {
    List<WeakReference<Object>> answers = new ArrayList<>();
    CompletableFuture<Object> never = new CompletableFuture<>();
    CompletableFuture<Object> wait =
        Waits.until(
            "job",
            null,
            slice -> {
              if (answers.size() == 3) {
                return never.thenApply(value -> new Waits.Answer<>(value, false));
              }
              Object value = new byte[1000];
              answers.add(new WeakReference<>(value));
              return CompletableFuture.completedFuture(new Waits.Answer<>(value, true));
            });
    while (answers.stream().anyMatch(answer -> answer.get() != null)) { // until the test's time is over
      System.gc();
    }
    never.complete("end");
    assertThat(wait.join()).isEqualTo("end");
  }
}
