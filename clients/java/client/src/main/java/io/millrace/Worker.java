// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.time.Duration;

/**
 * Runs jobs. Make one with {@link #builder}, then {@link #run} it (a program that is a worker) or {@link #start} it (a program that
 * does other things, too).
 *
 * <p>While the server is away the worker goes on with what it has and comes back by itself. SIGTERM stops a worker that runs by
 * {@link #run}: it takes nothing new, running jobs have their grace, and the rest is given back at no cost to those jobs.
 */
public final class Worker implements AutoCloseable {
  /** For handlers to return and for the last reports, after the grace. */
  private static final Duration AFTER_GRACE = Duration.ofSeconds(15);

  private final SessionLoop session;
  private final HandlerPool pool;
  private final Duration patience;
  private final CompletableFuture<Void> ended = new CompletableFuture<>();
  private Thread thread;

  Worker(Client client, WorkerBuilder builder) {
    WorkerCore core = new WorkerCore(client.encoding(), builder.concurrency);
    pool = new HandlerPool(core, builder, client.telemetry());
    core.pool(pool);
    session = new SessionLoop(client, core, builder);
    pool.beforeHalt(session::giveBack);
    patience = builder.stopGrace.plus(AFTER_GRACE);
  }

  /** A worker to configure. It uses the client's connection, mapper, codec and telemetry; the client must outlive it. */
  public static WorkerBuilder builder(Client client) {
    return new WorkerBuilder(client);
  }

  /** Starts it on threads of its own. */
  public synchronized Worker start() {
    if (thread != null) {
      throw new IllegalStateException("a worker is started once");
    }
    thread = new Thread(this::serve, "millrace-worker");
    thread.start();
    return this;
  }

  private void serve() {
    try {
      session.run();
      ended.complete(null);
    } catch (InterruptedException interrupted) {
      ended.completeExceptionally(interrupted);
    } catch (RuntimeException | Error failure) {
      ended.completeExceptionally(failure);
    } finally {
      pool.stop();
    }
  }

  /**
   * Starts it and blocks until it is stopped: by {@link #stop}, by SIGTERM or SIGINT, or because the server drains it. {@link
   * MillraceException}: the server refused it.
   */
  public void run() {
    Thread hook = new Thread(this::close, "millrace-stop");
    Runtime.getRuntime().addShutdownHook(hook);
    try {
      start();
      Rpc.await(ended);
    } finally {
      session.stop();
      removeHook(hook);
    }
  }

  private static void removeHook(Thread hook) {
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException exiting) {
      return; // it is at work
    }
  }

  /** Begins to stop: nothing new is taken, running jobs have their grace. */
  public void stop() {
    session.stop();
  }

  /** When it has stopped. Exceptionally: the server refused it. */
  public CompletableFuture<Void> stopped() {
    return ended.copy();
  }

  /**
   * Stops, and waits until it has. A handler that listens to neither cancel nor interrupt goes on in its thread all the same. If its
   * job was asked to cancel, the server does not hear of it any more, and calls it cancelled when the session has been silent for the
   * reconnect grace. That no job is cancelled while its code still runs therefore holds only if the process ends now, too, as one does
   * that is a worker and nothing else; a larger program in which it has to hold ends itself (75 tells a supervisor to start it again).
   */
  @Override
  public void close() {
    stop();
    synchronized (this) {
      if (thread == null) {
        return;
      }
    }
    try {
      ended.handle((nothing, failure) -> null).get(patience.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    } catch (TimeoutException | java.util.concurrent.ExecutionException late) {
      System.getLogger(Worker.class.getName()).log(System.Logger.Level.WARNING, "the worker did not stop in time");
    }
  }
}
