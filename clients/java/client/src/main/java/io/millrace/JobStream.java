// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.CallOptions;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ClientResponseObserver;
import io.millrace.proto.v1.CreateJobsStreamRequest;
import io.millrace.proto.v1.CreateJobsStreamResponse;
import io.millrace.proto.v1.JobServiceGrpc;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.IntFunction;
import java.util.stream.IntStream;

/**
 * The fastest way in: jobs flow to the server in messages of up to 1,000, several of them under way at a time. {@link #create}
 * blocks while too many are unanswered. A broken stream is opened anew, and what had no answer is sent again.
 *
 * <p>One thread, or several, may create; {@link #close} waits for the last answers.
 */
public final class JobStream implements AutoCloseable {
  private static final int MESSAGES_IN_FLIGHT = 4;
  private static final int WAITING_MAX = 4 * Coalescer.JOBS_MAX;
  private static final int TRIES = 6;
  private static final long FIRST_BACKOFF_MS = 100;

  private record Item(io.millrace.proto.v1.JobSpec spec, CompletableFuture<Created> future) {}

  /** Answers that are being told: what follows upon a future may block, so it is never done under the lock or on gRPC's thread. */
  private record Answered(List<Item> items, IntFunction<Outcome> outcomes) {
    /** Afterwards all of them are told, even those that other threads have begun with. */
    void tell() {
      new Telling(items.size(), this::tell).run();
      IntStream.range(0, items.size()).forEach(this::tell);
    }

    /** Does nothing where it has been done. */
    private void tell(int number) {
      CompletableFuture<Created> future = items.get(number).future;
      if (future.isDone()) {
        return;
      }
      Outcome outcome = outcomes.apply(number);
      outcome
          .error()
          .ifPresentOrElse(future::completeExceptionally, () -> future.complete(new Created(outcome.id(), outcome.existing())));
    }
  }

  private final Rpc rpc;
  private final SpecWriter specs;
  private final Telemetry telemetry;
  private final Deque<Item> waiting = new ArrayDeque<>();
  private final Deque<List<Item>> inFlight = new ArrayDeque<>();
  private final Set<Answered> untold = Collections.newSetFromMap(new IdentityHashMap<>());
  private Connection connection;
  private int failures;
  private boolean isClosed;
  private boolean isWatched;

  /** System.nanoTime(): since then there is something in flight, and the server has answered nothing. */
  private long silentSince;

  JobStream(Rpc rpc, SpecWriter specs, Telemetry telemetry) {
    this.rpc = rpc;
    this.specs = specs;
    this.telemetry = telemetry;
  }

  /** Creates a job; the future tells when it is durable. Blocks while the server is behind. */
  public CompletableFuture<Created> create(JobSpec spec) {
    Telemetry.Creation creation = telemetry.creating(spec.task, specs.queueOf(spec), 1);
    Item item;
    try {
      item = new Item(specs.job(spec, creation), new CompletableFuture<>());
    } catch (MillraceException refused) {
      creation.end(refused);
      return CompletableFuture.failedFuture(refused);
    }
    item.future.whenComplete((created, failure) -> creation.end(failure));
    synchronized (this) {
      if (isClosed) {
        throw new IllegalStateException("the stream is closed");
      }
      try {
        await(() -> waiting.size() < WAITING_MAX);
        waiting.add(item);
        flush();
      } catch (InterruptedException interrupted) {
        item.future.completeExceptionally(isInterrupted(interrupted));
      }
    }
    return item.future;
  }

  /** Waits until all jobs have been answered. */
  @Override
  public void close() {
    List<Answered> last;
    synchronized (this) {
      isClosed = true;
      try {
        await(() -> waiting.isEmpty() && inFlight.isEmpty());
      } catch (InterruptedException interrupted) {
        failAll(isInterrupted(interrupted));
      }
      if (connection != null) {
        connection.requests.onCompleted();
        connection = null;
      }
      last = List.copyOf(untold);
    }
    last.forEach(Answered::tell);
  }

  /** With the lock. It is what is in flight that is waited for, and {@link #watch} sees to it that it does not last for ever. */
  private void await(BooleanSupplier condition) throws InterruptedException {
    while (!condition.getAsBoolean()) {
      wait();
    }
  }

  private static MillraceException isInterrupted(InterruptedException interrupted) {
    Thread.currentThread().interrupt();
    return new MillraceException(new MillraceException.Details(ErrorCode.CANCELLED, "interrupted").cause(interrupted));
  }

  /** With the lock. While something is in flight there is one check to come: a server that does not answer for so long fails all. */
  private void watch() {
    if (isWatched || inFlight.isEmpty()) {
      return;
    }
    isWatched = true;
    long left = silentSince + rpc.timeout().toNanos() - System.nanoTime();
    CompletableFuture.delayedExecutor(Math.max(0, left), TimeUnit.NANOSECONDS, Threads.FOLLOWERS).execute(this::check);
  }

  private synchronized void check() {
    isWatched = false;
    if (!inFlight.isEmpty() && System.nanoTime() - silentSince >= rpc.timeout().toNanos()) {
      String message = "the server has not answered for " + rpc.timeout().toMillis() + " ms";
      failAll(new DeadlineExceededException(new MillraceException.Details(ErrorCode.DEADLINE_EXCEEDED, message)));
    }
    watch();
  }

  /** With the lock. */
  private void flush() {
    while (!waiting.isEmpty() && inFlight.size() < MESSAGES_IN_FLIGHT) {
      List<Item> message = new ArrayList<>();
      int bytes = 0;
      while (!waiting.isEmpty() && message.size() < Coalescer.JOBS_MAX) {
        bytes += waiting.peek().spec.getSerializedSize();
        if (!message.isEmpty() && bytes > Coalescer.BYTES_MAX) {
          break;
        }
        Item item = waiting.remove();
        if (!item.future.isDone()) { // else its caller has left
          message.add(item);
        }
      }
      if (message.isEmpty()) {
        continue;
      }
      if (inFlight.isEmpty()) {
        silentSince = System.nanoTime();
      }
      inFlight.add(message);
      watch();
      if (connection == null) {
        connect();
      } else {
        connection.send(message);
      }
    }
  }

  /** With the lock. Whatever is in flight goes out, again or for the first time. */
  private void connect() {
    connection = new Connection();
    connection.open();
    inFlight.forEach(connection::send);
  }

  private synchronized void answered(Connection from, CreateJobsStreamResponse response) {
    if (from != connection || inFlight.isEmpty()) {
      return;
    }
    failures = 0;
    silentSince = System.nanoTime();
    List<Item> message = inFlight.remove();
    List<Outcome> outcomes = Coalescer.outcomes(message.stream().map(Item::spec).toList(), response.getOutcomesList());
    tell(new Answered(message, outcomes::get));
    flush();
    notifyAll();
  }

  /** With the lock. */
  private void tell(Answered answered) {
    untold.add(answered);
    CompletableFuture.runAsync(answered::tell, Threads.FOLLOWERS)
        .whenComplete(
            (nothing, failure) -> {
              synchronized (this) {
                untold.remove(answered);
              }
            });
  }

  private synchronized void broken(Connection from, MillraceException failure) {
    if (from != connection) {
      return;
    }
    connection = null;
    if (inFlight.isEmpty()) {
      return;
    }
    if (!(failure instanceof UnavailableException) || ++failures >= TRIES) {
      failAll(failure);
      return;
    }
    long backoff = FIRST_BACKOFF_MS << failures;
    CompletableFuture.delayedExecutor(backoff, TimeUnit.MILLISECONDS, Threads.FOLLOWERS).execute(this::connectAgain);
  }

  private synchronized void connectAgain() {
    if (connection == null && !inFlight.isEmpty()) {
      connect();
    }
  }

  /** With the lock. */
  private void failAll(MillraceException failure) {
    if (connection != null) {
      connection.requests.cancel(failure.getMessage(), failure);
      connection = null;
    }
    List<Item> failed = new ArrayList<>();
    inFlight.forEach(failed::addAll);
    inFlight.clear();
    failed.addAll(waiting);
    waiting.clear();
    tell(new Answered(failed, i -> new Outcome(failed.get(i).spec.getId(), false, Optional.of(Errors.again(failure)))));
    failures = 0;
    notifyAll();
  }

  /** One gRPC stream. */
  private final class Connection implements ClientResponseObserver<CreateJobsStreamRequest, CreateJobsStreamResponse> {
    private ClientCallStreamObserver<CreateJobsStreamRequest> requests;

    void open() {
      ClientCalls.asyncBidiStreamingCall(rpc.channel.newCall(JobServiceGrpc.getCreateJobsStreamMethod(), CallOptions.DEFAULT), this);
    }

    void send(List<Item> message) {
      var request = CreateJobsStreamRequest.newBuilder();
      message.forEach(item -> request.addJobs(item.spec));
      requests.onNext(request.build());
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<CreateJobsStreamRequest> stream) {
      requests = stream;
    }

    @Override
    public void onNext(CreateJobsStreamResponse response) {
      answered(this, response);
    }

    @Override
    public void onError(Throwable failure) {
      broken(this, Errors.from(failure, Errors.About.JOB));
    }

    @Override
    public void onCompleted() {
      broken(this, Errors.unavailable("the server ended the stream"));
    }
  }
}
