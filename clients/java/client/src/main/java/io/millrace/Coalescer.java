// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.CreateJobRequest;
import io.millrace.proto.v1.CreateJobsRequest;
import io.millrace.proto.v1.CreateOutcome;
import io.millrace.proto.v1.JobServiceGrpc;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Sends creates one call at a time: what comes while a call is in flight waits, and goes out together as the next one. A single
 * create is not slower for it, and many at a time share the server's write to disk.
 */
final class Coalescer {
  /** By the protocol. */
  static final int JOBS_MAX = 1000;

  /** Below the server's limit of 4 MiB, with room for what surrounds the specs. */
  static final int BYTES_MAX = 3 << 20;

  private static final int WAITING_MAX = 100_000;

  private record Waiting(io.millrace.proto.v1.JobSpec spec, CompletableFuture<Created> future, long end) {
    boolean isLate(long now) {
      return end - now <= 0;
    }
  }

  private final Rpc rpc;
  private final Deque<Waiting> waiting = new ArrayDeque<>();
  private List<Waiting> inFlight = List.of();
  private boolean isWatched;

  Coalescer(Rpc rpc) {
    this.rpc = rpc;
  }

  /** The time-out counts from here, however long the create waits. One that was cancelled before its call is not sent. */
  CompletableFuture<Created> create(io.millrace.proto.v1.JobSpec spec) {
    CompletableFuture<Created> future = new CompletableFuture<>();
    List<Waiting> group;
    synchronized (this) {
      if (waiting.size() >= WAITING_MAX) {
        throw new ResourceExhaustedException(
            new MillraceException.Details(
                ErrorCode.RESOURCE_EXHAUSTED, WAITING_MAX + " creates are waiting to be sent; wait for some of them to be answered"));
      }
      waiting.add(new Waiting(spec, future, System.nanoTime() + rpc.timeout().toNanos()));
      watch();
      if (!inFlight.isEmpty()) {
        return future;
      }
      group = takeGroup();
    }
    send(group);
    return future;
  }

  private void sendNext() {
    expire();
    List<Waiting> group;
    synchronized (this) {
      group = takeGroup();
    }
    send(group);
  }

  private void send(List<Waiting> group) {
    if (group.isEmpty()) {
      return;
    }
    if (group.size() == 1) {
      single(rpc, group.get(0).spec)
          .whenComplete(
              (created, failure) -> {
                sendNext();
                settle(group.get(0).future, created, failure);
              });
      return;
    }
    bulk(rpc, group.stream().map(Waiting::spec).toList())
        .whenComplete(
            (outcomes, failure) -> {
              sendNext();
              new Telling(
                      group.size(),
                      i -> {
                        Outcome outcome = failure == null ? outcomes.get(i) : null;
                        settle(
                            group.get(i).future,
                            outcome == null ? null : new Created(outcome.id(), outcome.existing()),
                            outcome == null ? Errors.again(failure) : outcome.error().orElse(null));
                      })
                  .run();
            });
  }

  private static void settle(CompletableFuture<Created> future, Created created, Throwable failure) {
    if (failure == null) {
      future.complete(created);
    } else {
      future.completeExceptionally(Errors.unwrap(failure));
    }
  }

  /** With the lock. What nobody waits for any more stays out. */
  private List<Waiting> takeGroup() {
    List<Waiting> group = new ArrayList<>();
    int bytes = 0;
    while (!waiting.isEmpty() && group.size() < JOBS_MAX) {
      int next = waiting.peek().spec.getSerializedSize();
      if (!group.isEmpty() && bytes + next > BYTES_MAX) {
        break;
      }
      Waiting one = waiting.remove();
      if (!one.future.isDone()) {
        bytes += next;
        group.add(one);
      }
    }
    inFlight = group;
    return group;
  }

  /** With the lock. One timer at a time, for the create that was asked for first and is not late yet. */
  private void watch() {
    if (isWatched) {
      return;
    }
    long now = System.nanoTime();
    Waiting first = inFlight.stream().filter(one -> !one.future.isDone() && !one.isLate(now)).findFirst().orElse(waiting.peek());
    if (first == null) {
      return;
    }
    isWatched = true;
    CompletableFuture.delayedExecutor(Math.max(0, first.end - now), TimeUnit.NANOSECONDS, Threads.FOLLOWERS)
        .execute(
            () -> {
              synchronized (this) {
                isWatched = false;
              }
              expire();
            });
  }

  /** Fails what has waited too long, be it sent or not. */
  private void expire() {
    List<Waiting> late = new ArrayList<>();
    synchronized (this) {
      long now = System.nanoTime();
      inFlight.stream().filter(one -> one.isLate(now) && !one.future.isDone()).forEach(late::add);
      while (!waiting.isEmpty() && waiting.peek().isLate(now)) {
        late.add(waiting.remove());
      }
      watch();
    }
    if (!late.isEmpty()) { // on other threads: the next call must not wait for what follows upon it
      Threads.FOLLOWERS.execute(new Telling(late.size(), i -> late.get(i).future.completeExceptionally(isLate())));
    }
  }

  private DeadlineExceededException isLate() {
    String message = "the create had no answer within " + rpc.timeout().toMillis() + " ms";
    return new DeadlineExceededException(new MillraceException.Details(ErrorCode.DEADLINE_EXCEEDED, message));
  }

  /** One create, one call. */
  static CompletableFuture<Created> single(Rpc rpc, io.millrace.proto.v1.JobSpec spec) {
    return rpc.call(
        JobServiceGrpc.getCreateJobMethod(),
        CreateJobRequest.newBuilder().setJob(spec).build(),
        Errors.About.JOB,
        answer -> new Created(answer.getJob().getId(), answer.getExisting()));
  }

  /** Many creates, one call: at most {@link #JOBS_MAX} of {@link #BYTES_MAX} together. */
  static CompletableFuture<List<Outcome>> bulk(Rpc rpc, List<io.millrace.proto.v1.JobSpec> specs) {
    CreateJobsRequest request = CreateJobsRequest.newBuilder().addAllJobs(specs).build();
    return rpc.call(JobServiceGrpc.getCreateJobsMethod(), request, Errors.About.JOB, answer -> outcomes(specs, answer.getOutcomesList()));
  }

  /** As many as there are specs: if the server answered another number, nobody knows whose each is, and all have failed. */
  static List<Outcome> outcomes(List<io.millrace.proto.v1.JobSpec> specs, List<CreateOutcome> answered) {
    if (answered.size() == specs.size()) {
      return answered.stream().map(Coalescer::outcome).toList();
    }
    String message = "the server's answer has " + answered.size() + " outcomes for " + specs.size() + " jobs";
    return specs.stream()
        .map(spec -> new Outcome(spec.getId(), false, Optional.of(Errors.internal(message))))
        .toList();
  }

  static Outcome outcome(CreateOutcome outcome) {
    return new Outcome(
        outcome.getId(),
        outcome.getExisting(),
        outcome.hasError() ? Optional.of(Errors.from(outcome.getError())) : Optional.empty());
  }

  /** Cuts a list into calls that the server takes. */
  static List<List<io.millrace.proto.v1.JobSpec>> groups(List<io.millrace.proto.v1.JobSpec> specs, int countMax) {
    List<List<io.millrace.proto.v1.JobSpec>> groups = new ArrayList<>();
    List<io.millrace.proto.v1.JobSpec> group = new ArrayList<>();
    int bytes = 0;
    for (io.millrace.proto.v1.JobSpec spec : specs) {
      int size = spec.getSerializedSize();
      if (!group.isEmpty() && (group.size() == countMax || bytes + size > BYTES_MAX)) {
        groups.add(group);
        group = new ArrayList<>();
        bytes = 0;
      }
      group.add(spec);
      bytes += size;
    }
    if (!group.isEmpty()) {
      groups.add(group);
    }
    return groups;
  }
}
