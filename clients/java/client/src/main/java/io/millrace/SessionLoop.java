// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.DeregisterRequest;
import io.millrace.proto.v1.QuietWorkerRequest;
import io.millrace.proto.v1.RegisterRequest;
import io.millrace.proto.v1.RegisterResponse;
import io.millrace.proto.v1.WorkerServiceGrpc;
import java.net.http.HttpClient;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A worker's session, on a thread of its own, so that no handler can hold up its heartbeats.
 *
 * <pre>
 *   register ──► dial ──► serve ──► (broken, silent) ──► dial …      refused, or broken twice in 10 s: register to resume;
 *      ▲                    │                                        NOT_FOUND: all that was held is lost, a new session
 *      └── server away: back off, for ever            stop, drain: finish, give back, deregister
 *                                                     (server away: only as long as there is something to report)
 * </pre>
 */
final class SessionLoop {
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(10);
  private static final Duration TWICE_WITHIN = Duration.ofSeconds(10);
  private static final Duration HANDLERS_RETURN = Duration.ofSeconds(3);

  /** For the last reports to be accepted, after the grace. */
  private static final Duration GOODBYE = Duration.ofSeconds(5);

  private static final Duration GIVE_BACK = Duration.ofSeconds(3);
  private static final long BACKOFF_FIRST_MS = 200;
  private static final long BACKOFF_LAST_MS = 3000;
  private static final int BACKOFF_DOUBLINGS = 4;
  private static final int REFUSALS_BEFORE_GRPC = 2;
  private static final Duration LOOK_WHILE_ENDING = Duration.ofMillis(50);
  private static final System.Logger LOG = System.getLogger(Worker.class.getName());

  private final Rpc rpc;
  private final WorkerCore core;
  private final RegisterRequest request;
  private final ClientBuilder.Connection connection;
  private final String url;
  private final Transport transport;
  private final Duration stopGrace;
  private final HttpClient http;

  private volatile boolean isStopping;
  private long graceEnd;
  private boolean begun;
  private boolean graceIsOver;
  private long goodbyeEnd;
  private int refusals;
  private long brokenAt = Long.MIN_VALUE;
  private boolean overGrpc;

  SessionLoop(Client client, WorkerCore core, WorkerBuilder builder) {
    this.rpc = client.rpc();
    this.core = core;
    this.connection = client.connection();
    this.request = builder.request();
    this.url = builder.url;
    this.transport = builder.transport;
    this.stopGrace = builder.stopGrace;
    this.overGrpc = builder.transport == Transport.GRPC;
    HttpClient.Builder web = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1);
    this.http = connection.tls() == null ? web.build() : web.sslContext(connection.tls()).build();
  }

  /** From any thread: begins to stop. */
  void stop() {
    isStopping = true;
    core.wake();
  }

  /** Serves until it is stopped or drained. {@link MillraceException}: the server refused the worker. */
  void run() throws InterruptedException {
    boolean mustRegister = true;
    while (true) {
      if (mustRegister && !register()) {
        break;
      }
      if (!dial()) {
        mustRegister = true;
        if (backOff(Math.min(BACKOFF_FIRST_MS << Math.min(refusals - 1, BACKOFF_DOUBLINGS), BACKOFF_LAST_MS))) {
          break;
        }
        continue;
      }
      boolean hasEnded = serve();
      core.hangUp();
      if (hasEnded) {
        break;
      }
      long now = System.nanoTime();
      mustRegister = brokenAt != Long.MIN_VALUE && now - brokenAt < TWICE_WITHIN.toNanos();
      brokenAt = now;
      if (mustRegister && backOff(BACKOFF_FIRST_MS)) {
        break;
      }
    }
    deregister();
    LOG.log(System.Logger.Level.INFO, "stopped");
  }

  // ---- registering ----

  /** Tries until the worker is registered (true) or has ended (false). */
  private boolean register() throws InterruptedException {
    long backoff = BACKOFF_FIRST_MS;
    while (!lookAfterEnding()) {
      try {
        registerOnce();
        return true;
      } catch (NotFoundException gone) {
        LOG.log(System.Logger.Level.WARNING, "the session is gone: its jobs run elsewhere, those here are told to stop");
        core.orphanAll();
        continue;
      } catch (MillraceException failure) {
        if (isRefusal(failure)) {
          throw failure;
        }
        LOG.log(System.Logger.Level.WARNING, "cannot register, trying again in {0} ms: {1}", backoff, failure.getMessage());
      }
      if (backOff(backoff + ThreadLocalRandom.current().nextLong(backoff / 4))) {
        return false;
      }
      backoff = Math.min(2 * backoff, BACKOFF_LAST_MS);
    }
    return false;
  }

  private void registerOnce() {
    Registration before = core.registration();
    RegisterRequest.Builder asked = request.toBuilder();
    if (before != null) {
      asked.setResumeSessionId(before.id()).setResumeSessionToken(before.token());
    }
    RegisterResponse answer =
        Rpc.await(rpc.call(WorkerServiceGrpc.getRegisterMethod(), asked.build(), registerTimeout(), Errors.About.OTHER));
    if (before != null && !answer.getResumed()) {
      core.orphanAll();
    }
    Registration registration = Registration.of(answer, before, connection.host(), url);
    core.registered(registration);
    LOG.log(System.Logger.Level.INFO, "{0} session={1}", answer.getResumed() ? "resumed" : "registered", registration.id());
  }

  /** No longer than to the next thing that a worker that stops has to do. */
  private Duration registerTimeout() {
    if (!begun) {
      return CALL_TIMEOUT;
    }
    long now = System.nanoTime();
    long left = (goodbyeEnd == 0 ? graceEnd : goodbyeEnd) - now;
    return Duration.ofNanos(Math.max(1_000_000, Math.min(left, CALL_TIMEOUT.toNanos())));
  }

  private static boolean isRefusal(MillraceException failure) {
    return switch (failure.code()) {
      case INVALID_ARGUMENT, PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED, FAILED_PRECONDITION -> true;
      default -> false;
    };
  }

  /** Before the next try to connect. True: the worker has ended meanwhile. */
  private boolean backOff(long ms) throws InterruptedException {
    long end = System.nanoTime() + Duration.ofMillis(ms).toNanos();
    while (!lookAfterEnding()) {
      long left = end - System.nanoTime();
      if (left <= 0) {
        return false;
      }
      sleep(Duration.ofNanos(left));
    }
    return true;
  }

  private void sleep(Duration atMost) throws InterruptedException {
    boolean isEnding = isStopping || core.isDraining();
    core.sleep(isEnding && atMost.compareTo(LOOK_WHILE_ENDING) > 0 ? LOOK_WHILE_ENDING : atMost);
  }

  // ---- a connection ----

  private boolean dial() {
    Link.Events events = core.prepareLink();
    Registration registration = core.registration();
    try {
      core.joined(overGrpc ? GrpcLink.open(rpc, registration, events) : NngLink.open(http, registration, events));
      LOG.log(System.Logger.Level.INFO, "joined session={0} transport={1}", registration.id(), overGrpc ? "grpc" : "nng");
      refusals = 0;
      if (begun) { // it may have been away when it was told to send no more
        var unused = goQuiet(CALL_TIMEOUT);
      }
      return true;
    } catch (UnavailableException failure) {
      LOG.log(System.Logger.Level.WARNING, failure.getMessage());
      if (++refusals >= REFUSALS_BEFORE_GRPC && transport == Transport.AUTO && !overGrpc) {
        LOG.log(System.Logger.Level.WARNING, "going on over gRPC");
        overGrpc = true;
      }
      return false;
    }
  }

  /** Works over the link until it breaks (false) or the worker has ended (true). */
  private boolean serve() throws InterruptedException {
    Registration registration = core.registration();
    long heartbeat = registration.heartbeat().toNanos();
    long next = System.nanoTime() + heartbeat;
    while (true) {
      if (lookAfterEnding()) {
        return true;
      }
      long now = System.nanoTime();
      if (now - next >= 0) {
        core.heartbeatIsDue();
        next = now + heartbeat;
      }
      if (core.isBroken(registration.silence())) {
        return false;
      }
      sleep(Duration.ofNanos(Math.max(1, next - now)));
    }
  }

  // ---- stopping ----

  /** True: all is done. */
  private boolean lookAfterEnding() throws InterruptedException {
    if (!isStopping && !core.isDraining()) {
      return false;
    }
    long now = System.nanoTime();
    if (isStopping && !begun) {
      begun = true;
      graceEnd = now + stopGrace.toNanos();
      beginStop();
    }
    boolean isIdle = core.isIdle();
    if (isIdle && core.isReported()) {
      return true;
    }
    if (begun && !isIdle && !graceIsOver && now - graceEnd >= 0) {
      endGrace();
      graceIsOver = true;
      isIdle = true;
    }
    if ((isIdle && begun) || graceIsOver) {
      now = System.nanoTime();
      if (goodbyeEnd == 0) {
        goodbyeEnd = now + Math.max(0, graceEnd - now) + GOODBYE.toNanos(); // what ended early has the rest of the grace, too
      }
      return now - goodbyeEnd >= 0;
    }
    return false;
  }

  /** From now on nothing is started; the server is asked not to send any more. */
  private void beginStop() {
    LOG.log(System.Logger.Level.INFO, "stopping: {0} running", core.running());
    var unused = goQuiet(CALL_TIMEOUT);
    core.beginReleasing();
  }

  private CompletableFuture<?> goQuiet(Duration timeout) {
    Registration registration = core.registration();
    if (registration == null) {
      return CompletableFuture.completedFuture(null);
    }
    QuietWorkerRequest quiet = QuietWorkerRequest.newBuilder().setSessionId(registration.id()).build();
    return rpc.call(WorkerServiceGrpc.getQuietWorkerMethod(), quiet, timeout, Errors.About.OTHER);
  }

  /**
   * A stop at once, because the process ends for a handler that does not: gives back all that is not to be cancelled, and waits a
   * little for the server to take it. From any thread that may wait.
   */
  void giveBack() {
    long end = System.nanoTime() + GIVE_BACK.toNanos();
    CompletableFuture<?> quiet = goQuiet(GIVE_BACK.dividedBy(2));
    core.beginReleasing();
    // What is given back before the server is quiet would come again. If it can't be reached, the rest is of no use either.
    quiet.handle((answer, failure) -> null).join();
    core.stopRunning();
    core.releaseRunning();
    core.awaitReported(end);
  }

  /** Tells what still runs to stop, waits for it a little, and gives back what does not. */
  private void endGrace() throws InterruptedException {
    core.stopRunning();
    long end = System.nanoTime() + HANDLERS_RETURN.toNanos();
    while (!core.isIdle() && System.nanoTime() - end < 0) {
      core.sleep(LOOK_WHILE_ENDING);
    }
    core.releaseRunning();
  }

  private void deregister() {
    Registration registration = core.registration();
    // To deregister would say that all has stopped, and that what was not accepted is lost.
    if (registration == null || core.mustNotConfirm() || !core.isReported()) {
      return;
    }
    DeregisterRequest goodbye =
        DeregisterRequest.newBuilder().setSessionId(registration.id()).setSessionToken(registration.token()).build();
    try {
      Rpc.await(rpc.call(WorkerServiceGrpc.getDeregisterMethod(), goodbye, GOODBYE, Errors.About.OTHER));
    } catch (MillraceException failure) {
      LOG.log(System.Logger.Level.DEBUG, "cannot say goodbye; the session ends by itself: {0}", failure.getMessage());
    }
  }
}
