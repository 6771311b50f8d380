// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.ManagedChannel;
import io.millrace.proto.v1.CancelJobRequest;
import io.millrace.proto.v1.CancelJobsRequest;
import io.millrace.proto.v1.DeleteJobRequest;
import io.millrace.proto.v1.GetJobRequest;
import io.millrace.proto.v1.JobServiceGrpc;
import io.millrace.proto.v1.ListJobsRequest;
import io.millrace.proto.v1.RetryJobRequest;
import io.millrace.proto.v1.RetryJobsRequest;
import io.millrace.proto.v1.View;
import io.millrace.proto.v1.WaitJobRequest;
import io.millrace.proto.v1.WatchJobsRequest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;

/**
 * Hands work to Millrace and tells what became of it. One client is one connection that all threads share; make one and keep it.
 *
 * <p>Each call has a blocking form and one that answers with a {@link CompletableFuture}; both fail with a {@link
 * MillraceException}. Every create carries an id, so that a call that was sent twice makes one job.
 */
public final class Client implements AutoCloseable {
  private static final long CLOSE_SECONDS = 5;
  private static final int PAGE_SIZE = 500;

  private final ClientBuilder.Connection connection;
  private final Rpc rpc;
  private final Encoding encoding;
  private final SpecWriter specs;
  private final Telemetry telemetry;
  private final Coalescer coalescer;

  Client(ClientBuilder builder) {
    connection = builder.connect();
    rpc = new Rpc(connection.channel(), builder.callTimeout);
    encoding = new Encoding(builder.mapper, builder.codec);
    specs = new SpecWriter(encoding, new Routes(builder.routes));
    telemetry = builder.telemetry;
    coalescer = builder.coalescing ? new Coalescer(rpc) : null;
  }

  /** A client as MILLRACE_ADDRESS and what else {@link ClientBuilder} names say; without them, for a server on this machine. */
  public static Client connect() {
    return builder().build();
  }

  /** A client for that server: {@code host:port}, or {@code unix:/path}. */
  public static Client connect(String address) {
    return builder().address(address).build();
  }

  /** A client to configure. */
  public static ClientBuilder builder() {
    return new ClientBuilder();
  }

  /** Creates a job. */
  public Created create(JobSpec spec) {
    return Rpc.await(createAsync(spec));
  }

  /** Creates a job with that task and payload. */
  public Created create(String task, Object payload) {
    return create(JobSpec.of(task, payload));
  }

  /** Creates a job. Cancelled while it waits for a call under way to end, it is not sent. */
  public CompletableFuture<Created> createAsync(JobSpec spec) {
    Telemetry.Creation creation = telemetry.creating(spec.task, specs.queueOf(spec), 1);
    try {
      io.millrace.proto.v1.JobSpec message = specs.job(spec, creation);
      return Rpc.traced(coalescer == null ? Coalescer.single(rpc, message) : coalescer.create(message), creation);
    } catch (MillraceException refused) {
      creation.end(refused);
      return CompletableFuture.failedFuture(refused);
    }
  }

  /**
   * Creates many jobs in as few calls as possible; the outcomes are in the order of the specs. A job that can't be written has an
   * outcome that says so, and the others are sent.
   */
  public List<Outcome> createAll(Collection<JobSpec> jobs) {
    return Rpc.await(createAllAsync(jobs));
  }

  /** Creates many jobs; if a call fails as a whole, so does the future, and all may be sent again if they have ids. */
  public CompletableFuture<List<Outcome>> createAllAsync(Collection<JobSpec> jobs) {
    if (jobs.isEmpty()) {
      return CompletableFuture.completedFuture(List.of());
    }
    JobSpec first = jobs.iterator().next();
    Telemetry.Creation creation = telemetry.creating(first.task, specs.queueOf(first), jobs.size());
    List<io.millrace.proto.v1.JobSpec> messages = new ArrayList<>(jobs.size());
    Map<Integer, Outcome> refused = new HashMap<>();
    for (JobSpec job : jobs) {
      try {
        messages.add(specs.job(job, creation));
      } catch (MillraceException failure) {
        Outcome outcome = new Outcome(job.id == null ? "" : job.id, false, Optional.of(failure));
        refused.put(messages.size() + refused.size(), outcome);
      }
    }
    CompletableFuture<List<Outcome>> result = new CompletableFuture<>();
    sendAll(
        Coalescer.groups(messages, Coalescer.JOBS_MAX).iterator(),
        new ArrayList<>(jobs.size()),
        result,
        outcomes -> inOrder(outcomes.iterator(), refused, jobs.size()));
    return Rpc.traced(result, creation);
  }

  /** One call after the other. Who leaves the result leaves the one under way, and those behind it are not sent. */
  private void sendAll(
      Iterator<List<io.millrace.proto.v1.JobSpec>> groups,
      List<Outcome> done,
      CompletableFuture<List<Outcome>> result,
      UnaryOperator<List<Outcome>> last) {
    if (!groups.hasNext()) {
      result.complete(last.apply(done));
      return;
    }
    CompletableFuture<List<Outcome>> call = Coalescer.bulk(rpc, groups.next());
    result.whenComplete((outcomes, failure) -> call.cancel(false));
    call.whenComplete(
        (outcomes, failure) -> {
          if (failure != null) {
            result.completeExceptionally(failure);
            return;
          }
          done.addAll(outcomes);
          sendAll(groups, done, result, last);
        });
  }

  /** What the server answered, and between it, by their place, the jobs that were not sent. */
  private static List<Outcome> inOrder(Iterator<Outcome> answered, Map<Integer, Outcome> refused, int count) {
    List<Outcome> outcomes = new ArrayList<>(count);
    for (int place = 0; place < count; place++) {
      outcomes.add(refused.containsKey(place) ? refused.get(place) : answered.next());
    }
    return outcomes;
  }

  /** Opens a stream of creates: for many jobs, the fastest way. */
  public JobStream createStream() {
    return new JobStream(rpc, specs, telemetry);
  }

  /** A job with payload, result and history. */
  public Job get(String id) {
    return Rpc.await(getAsync(id));
  }

  /** A job with payload, result and history. */
  public CompletableFuture<Job> getAsync(String id) {
    return get(id, false);
  }

  /** A job with its log, too. */
  public Job getWithLog(String id) {
    return Rpc.await(get(id, true));
  }

  private CompletableFuture<Job> get(String id, boolean withLog) {
    GetJobRequest request = GetJobRequest.newBuilder().setId(id).setWithLog(withLog).build();
    return rpc.call(
        JobServiceGrpc.getGetJobMethod(), request, Errors.About.JOB, answer -> new Job(answer.getJob(), answer.getLogList(), encoding));
  }

  /** Waits until the job has ended, however it ended; {@link WaitTimeoutException} when the time is over. */
  public Job waitFor(String id, Duration timeout) {
    return Rpc.await(waitForAsync(id, timeout));
  }

  /** Waits until the job has ended; a null time-out: as long as it takes. Goes on while the server is away. */
  public CompletableFuture<Job> waitForAsync(String id, Duration timeout) {
    return Waits.until(
        "job " + id,
        timeout,
        slice -> {
          WaitJobRequest request = WaitJobRequest.newBuilder().setId(id).setTimeout(Convert.toDuration(slice)).build();
          return rpc.call(
              JobServiceGrpc.getWaitJobMethod(),
              request,
              slice.plus(rpc.timeout()),
              Errors.About.JOB,
              answer -> new Waits.Answer<>(new Job(answer.getJob(), encoding), answer.getTimedOut()));
        });
  }

  /** Tells the state of each match, then every change, until it is closed. At least one condition is needed. */
  public JobWatch watch(JobFilter filter) {
    return new JobWatch(rpc, WatchJobsRequest.newBuilder().setFilter(filter.message()).build(), encoding);
  }

  /** All matches, page by page as the stream is read, without payloads and results. */
  public Stream<Job> list(JobFilter filter) {
    return list(filter, View.VIEW_BASIC);
  }

  /** All matches with payloads and results. */
  public Stream<Job> listFull(JobFilter filter) {
    return list(filter, View.VIEW_FULL);
  }

  private Stream<Job> list(JobFilter filter, View view) {
    return Pages.stream(
        token -> {
          ListJobsRequest request =
              ListJobsRequest.newBuilder().setFilter(filter.message()).setPageSize(PAGE_SIZE).setPageToken(token).setView(view).build();
          var page = Rpc.await(rpc.call(JobServiceGrpc.getListJobsMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getJobsList().stream().map(job -> new Job(job, encoding)).toList(), page.getNextPageToken());
        });
  }

  /** Cancels a job: a waiting one at once, a running one is asked to stop. False: it had ended already. */
  public boolean cancel(String id) {
    return Rpc.await(cancelAsync(id, false, ""));
  }

  /** Cancels a job; a handler that does not stop by itself is stopped by force. */
  public boolean terminate(String id) {
    return Rpc.await(cancelAsync(id, true, ""));
  }

  /** Cancels a job, with a reason that its error tells. */
  public CompletableFuture<Boolean> cancelAsync(String id, boolean terminate, String reason) {
    CancelJobRequest request = CancelJobRequest.newBuilder().setId(id).setTerminate(terminate).setReason(reason).build();
    return rpc.call(JobServiceGrpc.getCancelJobMethod(), request, Errors.About.JOB, answer -> answer.getAccepted());
  }

  /** Cancels all matches; tells how many. */
  public long cancelAll(JobFilter filter, String reason) {
    CancelJobsRequest request = CancelJobsRequest.newBuilder().setFilter(filter.message()).setReason(reason).build();
    long cancelled = 0;
    while (true) {
      var answer = Rpc.await(rpc.call(JobServiceGrpc.getCancelJobsMethod(), request, Errors.About.OTHER));
      cancelled += answer.getCancelled();
      if (!answer.getMore()) {
        return cancelled;
      }
    }
  }

  /** Starts an ended job that did not succeed anew. */
  public Job retry(String id) {
    return Rpc.await(retryAsync(id));
  }

  /** Starts an ended job that did not succeed anew. */
  public CompletableFuture<Job> retryAsync(String id) {
    RetryJobRequest request = RetryJobRequest.newBuilder().setId(id).build();
    return rpc.call(JobServiceGrpc.getRetryJobMethod(), request, Errors.About.JOB, answer -> new Job(answer.getJob(), encoding));
  }

  /** Starts all matches anew (by default those that failed); tells how many. */
  public long retryAll(JobFilter filter) {
    RetryJobsRequest request = RetryJobsRequest.newBuilder().setFilter(filter.message()).build();
    long retried = 0;
    while (true) {
      var answer = Rpc.await(rpc.call(JobServiceGrpc.getRetryJobsMethod(), request, Errors.About.OTHER));
      retried += answer.getRetried();
      if (!answer.getMore()) {
        return retried;
      }
    }
  }

  /** Changes a waiting job. */
  public Job update(String id, JobUpdate update) {
    return Rpc.await(updateAsync(id, update));
  }

  /** Changes a waiting job. */
  public CompletableFuture<Job> updateAsync(String id, JobUpdate update) {
    return rpc.call(
        JobServiceGrpc.getUpdateJobMethod(), update.request(id), Errors.About.JOB, answer -> new Job(answer.getJob(), encoding));
  }

  /** Removes an ended job. */
  public void delete(String id) {
    Rpc.await(deleteAsync(id));
  }

  /** Removes an ended job. */
  public CompletableFuture<Void> deleteAsync(String id) {
    DeleteJobRequest request = DeleteJobRequest.newBuilder().setId(id).build();
    return rpc.call(JobServiceGrpc.getDeleteJobMethod(), request, Errors.About.JOB, answer -> null);
  }

  /** Jobs one after the other. */
  public Chains chains() {
    return new Chains(rpc, specs, encoding, telemetry);
  }

  /** Many jobs that are counted together. */
  public Batches batches() {
    return new Batches(rpc, specs, telemetry);
  }

  /** Jobs again and again. */
  public Schedules schedules() {
    return new Schedules(rpc, specs);
  }

  /** Counts, limits, pause, purge. */
  public Queues queues() {
    return new Queues(rpc);
  }

  /** Attached workers, and the server itself. */
  public Operations operations() {
    return new Operations(rpc);
  }

  Rpc rpc() {
    return rpc;
  }

  Encoding encoding() {
    return encoding;
  }

  Telemetry telemetry() {
    return telemetry;
  }

  ClientBuilder.Connection connection() {
    return connection;
  }

  /** Closes the connection; calls under way may end first. */
  @Override
  public void close() {
    ManagedChannel channel = connection.channel();
    channel.shutdown();
    try {
      if (!channel.awaitTermination(CLOSE_SECONDS, TimeUnit.SECONDS)) {
        channel.shutdownNow();
      }
    } catch (InterruptedException interrupted) {
      channel.shutdownNow();
      Thread.currentThread().interrupt();
    } finally {
      connection.afterwards().run();
    }
  }
}
