// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.CreateJobRequest;
import io.millrace.proto.v1.CreateJobResponse;
import io.millrace.proto.v1.CreateJobsRequest;
import io.millrace.proto.v1.CreateJobsResponse;
import io.millrace.proto.v1.CreateJobsStreamRequest;
import io.millrace.proto.v1.CreateJobsStreamResponse;
import io.millrace.proto.v1.CreateOutcome;
import io.millrace.proto.v1.Job;
import io.millrace.proto.v1.JobServiceGrpc;
import io.millrace.proto.v1.WaitJobRequest;
import io.millrace.proto.v1.WaitJobResponse;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;

/** A server that answers creates when and as a test wants it: what a real one does only when it is broken, or by chance. */
final class StandIn extends JobServiceGrpc.JobServiceImplBase implements AutoCloseable {
  /** The tasks of each call, or message of a stream, that has come. */
  final List<List<String>> calls = new CopyOnWriteArrayList<>();

  /** Answers wait for it. */
  volatile CompletableFuture<Void> gate = CompletableFuture.completedFuture(null);

  volatile Function<List<io.millrace.proto.v1.JobSpec>, List<CreateOutcome>> outcomes =
      jobs -> jobs.stream().map(job -> CreateOutcome.newBuilder().setId(job.getId()).build()).toList();

  /** Calls that wait for a job; they are never answered. */
  final AtomicInteger waits = new AtomicInteger();

  /** Those whose clients have left them. */
  final AtomicInteger left = new AtomicInteger();

  private final Server server;

  StandIn() throws IOException {
    server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create()).addService(this).build().start();
  }

  ClientBuilder client() {
    return Client.builder().address("127.0.0.1:" + server.getPort()).callTimeout(Duration.ofSeconds(60));
  }

  private void note(List<io.millrace.proto.v1.JobSpec> jobs) {
    calls.add(jobs.stream().map(io.millrace.proto.v1.JobSpec::getTask).toList());
  }

  @Override
  public void createJob(CreateJobRequest request, StreamObserver<CreateJobResponse> to) {
    note(List.of(request.getJob()));
    gate.thenRun(
        () -> {
          try {
            String id = outcomes.apply(List.of(request.getJob())).get(0).getId();
            to.onNext(CreateJobResponse.newBuilder().setJob(Job.newBuilder().setId(id)).build());
            to.onCompleted();
          } catch (StatusRuntimeException refused) {
            to.onError(refused);
          }
        });
  }

  @Override
  public void createJobs(CreateJobsRequest request, StreamObserver<CreateJobsResponse> to) {
    ((ServerCallStreamObserver<CreateJobsResponse>) to).setOnCancelHandler(left::incrementAndGet);
    note(request.getJobsList());
    gate.thenRun(
        () -> {
          try {
            to.onNext(CreateJobsResponse.newBuilder().addAllOutcomes(outcomes.apply(request.getJobsList())).build());
            to.onCompleted();
          } catch (StatusRuntimeException refused) {
            to.onError(refused);
          }
        });
  }

  @Override
  public StreamObserver<CreateJobsStreamRequest> createJobsStream(StreamObserver<CreateJobsStreamResponse> to) {
    return new StreamObserver<>() {
      private CompletableFuture<Void> before = CompletableFuture.completedFuture(null);

      @Override
      public void onNext(CreateJobsStreamRequest request) {
        note(request.getJobsList());
        CompletableFuture<Void> opened = gate;
        before =
            before
                .thenCompose(nothing -> opened)
                .thenRun(
                    () -> to.onNext(CreateJobsStreamResponse.newBuilder().addAllOutcomes(outcomes.apply(request.getJobsList())).build()));
      }

      @Override
      public void onError(Throwable failure) {}

      @Override
      public void onCompleted() {
        to.onCompleted();
      }
    };
  }

  @Override
  public void waitJob(WaitJobRequest request, StreamObserver<WaitJobResponse> to) {
    ((ServerCallStreamObserver<WaitJobResponse>) to).setOnCancelHandler(left::incrementAndGet);
    waits.incrementAndGet();
  }

  @Override
  public void close() {
    server.shutdownNow();
  }
}
