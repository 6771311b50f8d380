// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import io.millrace.Client;
import io.millrace.JobSpec;
import io.millrace.JobState;
import io.millrace.JobStream;
import io.millrace.Transport;
import io.millrace.Worker;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * How fast this client creates and runs jobs: {@code bench.sh [seconds for each figure]}. The server is that of MILLRACE_ADDRESS; use a
 * fresh one.
 */
public final class Bench {
  private static final int DEPTH = 64;
  private static final int BULK = 1000;
  private static final int CONCURRENCY = 100;
  private static final int PREFETCH = 400;
  private static final JobSpec JOB = JobSpec.builder("noop").queue("bench").kwarg("to", "a@example.org").kwarg("n", 1).build();

  /** Kept, or its level would be forgotten with it. */
  private static final Logger LOGGER = Logger.getLogger("io.millrace");

  private final long nanos;

  private Bench(double seconds) {
    nanos = (long) (seconds * 1e9);
  }

  /** Prints one figure a line. */
  public static void main(String[] arguments) throws Exception {
    LOGGER.setLevel(Level.SEVERE); // a line per job would be the slowest part
    Bench bench = new Bench(arguments.length > 0 ? Double.parseDouble(arguments[0]) : 5);
    try (Client unary = Client.builder().coalescing(false).build();
        Client coalescing = Client.connect()) {
      bench.unary("warm-up", unary, 8);
      bench.unary("create, unary, depth 1", unary, 1);
      bench.unary("create, unary, depth " + DEPTH, unary, DEPTH);
      bench.unary("create, coalesced, depth " + DEPTH, coalescing, DEPTH);
      bench.unary("create, coalesced, depth " + BULK, coalescing, BULK);
      bench.bulk(unary);
      bench.stream(unary);
      bench.work(unary, Transport.NNG);
      bench.work(unary, Transport.GRPC);
    }
  }

  private void report(String what, long count, long began) {
    double seconds = (System.nanoTime() - began) / 1e9;
    System.out.println(String.format(Locale.ROOT, "%-60s %10.0f jobs/s  (%d in %.1f s)", what, count / seconds, count, seconds));
  }

  private void unary(String what, Client client, int depth) throws InterruptedException {
    Semaphore slots = new Semaphore(depth);
    AtomicLong done = new AtomicLong();
    long began = System.nanoTime();
    while (System.nanoTime() - began < nanos) {
      slots.acquire();
      client.createAsync(JOB).whenComplete(
          (created, failure) -> {
            if (failure == null) {
              done.incrementAndGet();
            }
            slots.release();
          });
    }
    slots.acquire(depth);
    report(what, done.get(), began);
  }

  private void bulk(Client client) {
    List<JobSpec> jobs = Collections.nCopies(BULK, JOB);
    long count = 0;
    long began = System.nanoTime();
    while (System.nanoTime() - began < nanos) {
      count += client.createAll(jobs).stream().filter(outcome -> outcome.isOk()).count();
    }
    report("create, bulk of " + BULK, count, began);
  }

  private void stream(Client client) {
    AtomicLong done = new AtomicLong();
    long began = System.nanoTime();
    try (JobStream stream = client.createStream()) {
      while (System.nanoTime() - began < nanos) {
        stream.create(JOB).thenRun(done::incrementAndGet);
      }
    }
    report("create, stream", done.get(), began);
  }

  /** What the figures before have created is there to be run. */
  private void work(Client client, Transport transport) throws InterruptedException {
    AtomicLong done = new AtomicLong();
    try (Worker worker =
        Worker.builder(client)
            .queue("bench")
            .concurrency(CONCURRENCY)
            .prefetch(PREFETCH)
            .transport(transport)
            .handle(
                "noop",
                job -> {
                  done.incrementAndGet();
                  return null;
                })
            .build()) {
      worker.start();
      while (done.get() < BULK && client.queues().get("bench").pending() > 0) {
        Thread.sleep(10);
      }
      long before = done.get();
      long began = System.nanoTime();
      while (System.nanoTime() - began < nanos && client.queues().get("bench").count(JobState.PENDING) > 0) {
        Thread.sleep(50);
      }
      String settings = transport + ", concurrency " + CONCURRENCY + ", prefetch " + PREFETCH;
      report("no-op jobs of one worker process, " + settings, done.get() - before, began);
    }
  }
}
