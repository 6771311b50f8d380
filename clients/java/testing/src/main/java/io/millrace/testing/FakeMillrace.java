// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.millrace.Client;
import io.millrace.ClientBuilder;
import io.millrace.Job;
import io.millrace.JobFilter;
import io.millrace.JobState;
import io.millrace.Transport;
import io.millrace.Worker;
import io.millrace.WorkerBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.function.UnaryOperator;

/**
 * Millrace in the test's own process: no network, no disk, and a clock that stands still until {@link #advance} moves it. The client
 * and the workers are the real ones, so what is tested is what the application does.
 *
 * <p>Jobs run on demand, by {@link #runAll} and {@link #advance}, one after the other and always in the same order; or, after {@link
 * #runAtOnce}, as soon as they are created. It knows jobs, retries, delays, expiry, unique keys, chains, batches, schedules with five
 * fields, queue counts and purge. It does not know limits, rates, concurrency keys, time-outs, watching and durability: those are the
 * real server's to test.
 */
public final class FakeMillrace implements AutoCloseable {
  private static final Duration HANDLER_PATIENCE = Duration.ofMinutes(5);
  private static final int CONCURRENCY = 100;

  private final FakeEngine engine;
  private final FakeWorkers attached;
  private final FakeSchedules schedules;
  private final Server server;
  private final Client client;
  private final List<Worker> workers = new ArrayList<>();
  private volatile boolean atOnce;

  private FakeMillrace(Instant start, UnaryOperator<ClientBuilder> options) {
    engine = new FakeEngine(start);
    attached = new FakeWorkers(engine, HANDLER_PATIENCE);
    schedules = new FakeSchedules(engine, this::created);
    FakeJobs jobs = new FakeJobs(engine, this::created);
    String name = "millrace-" + UUID.randomUUID();
    InProcessServerBuilder builder = InProcessServerBuilder.forName(name);
    builder.addService(jobs).addService(attached).addService(schedules).addService(new FakeQueues(engine));
    new FakeFlows(engine, jobs, this::created).services().forEach(builder::addService);
    try {
      server = builder.build().start();
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
    ManagedChannel channel = InProcessChannelBuilder.forName(name).build();
    // Without coalescing: a handler that creates a job at once must not wait behind the create that it runs in.
    client = options.apply(Client.builder()).channel(channel).coalescing(false).build();
  }

  /** A fake whose clock shows the present. */
  public static FakeMillrace create() {
    return at(Instant.now());
  }

  /** A fake whose clock shows that time. */
  public static FakeMillrace at(Instant start) {
    return at(start, options -> options);
  }

  /** A fake whose client has options of yours: routes, codec, mapper, telemetry. */
  public static FakeMillrace at(Instant start, UnaryOperator<ClientBuilder> options) {
    return new FakeMillrace(start, options);
  }

  /** The client to give to the application under test. */
  public Client client() {
    return client;
  }

  /** A worker with the application's handlers; it serves the queue {@code default} unless it names others. */
  public FakeMillrace worker(Consumer<WorkerBuilder> handlers) {
    WorkerBuilder builder = Worker.builder(client).transport(Transport.GRPC).concurrency(CONCURRENCY);
    handlers.accept(builder);
    workers.add(builder.build().start());
    attached.awaitAttached(workers.size());
    return this;
  }

  /** From now on jobs run as soon as they are created and due: the create answers when they have. */
  public FakeMillrace runAtOnce() {
    atOnce = true;
    return this;
  }

  private void created() {
    if (atOnce) {
      runAll();
    }
  }

  /** Runs all jobs that are due, and those that they create. Answers how many ran. Jobs without a handler stay pending. */
  public int runAll() {
    int count = 0;
    while (runNext()) {
      count++;
    }
    return count;
  }

  /** Runs the one job that goes first. False: there is none that is due and has a handler. */
  public boolean runNext() {
    return attached.runNext();
  }

  /** The time on the clock. */
  public Instant now() {
    return engine.now();
  }

  /** Moves the clock, stopping wherever a job or a schedule is due, and runs what is. */
  public FakeMillrace advance(Duration span) {
    Instant target = engine.now().plus(span);
    runAll();
    for (Optional<Instant> due = nextDue(); due.isPresent() && !due.get().isAfter(target); due = nextDue()) {
      engine.goTo(due.get());
      schedules.runDue();
      runAll();
    }
    engine.goTo(target);
    runAll();
    return this;
  }

  private Optional<Instant> nextDue() {
    Optional<Instant> job = engine.nextDue();
    Optional<Instant> schedule = schedules.nextDue();
    return job.isPresent() && (schedule.isEmpty() || job.get().isBefore(schedule.get())) ? job : schedule;
  }

  /** All jobs of a task that were created, with payloads and results, oldest first. */
  public List<Job> jobs(String task) {
    return client.listFull(JobFilter.builder().tasks(task).build()).toList();
  }

  /** AssertionError unless exactly one job of the task was created; answers it. */
  public Job assertCreated(String task) {
    return assertCreated(task, job -> true);
  }

  /** AssertionError unless exactly one job of the task that is like this was created; answers it. */
  public Job assertCreated(String task, Predicate<Job> like) {
    List<Job> all = jobs(task);
    List<Job> matches = all.stream().filter(like).toList();
    if (matches.size() != 1) {
      String found = matches.size() + "; of this task: " + all + "; of all: " + everything();
      throw new AssertionError("expected one job of task '" + task + "' like that, found " + found);
    }
    return matches.get(0);
  }

  /** AssertionError if a job of the task was created. */
  public void assertNotCreated(String task) {
    List<Job> all = jobs(task);
    if (!all.isEmpty()) {
      throw new AssertionError("expected no job of task '" + task + "', found " + all);
    }
  }

  /** AssertionError unless so many jobs of the task are in that state. */
  public void assertCount(String task, JobState state, int count) {
    List<Job> all = jobs(task);
    if (all.stream().filter(job -> job.state() == state).count() != count) {
      throw new AssertionError("expected " + count + " jobs of task '" + task + "' to be " + state + ", found " + all);
    }
  }

  private List<Job> everything() {
    return client.list(JobFilter.all()).toList();
  }

  /** Ends the workers and the fake. */
  @Override
  public void close() {
    workers.forEach(Worker::close);
    client.close();
    server.shutdownNow();
  }
}
