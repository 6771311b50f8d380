// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.CancelJobRequest;
import io.millrace.proto.v1.CancelJobResponse;
import io.millrace.proto.v1.CancelJobsRequest;
import io.millrace.proto.v1.CancelJobsResponse;
import io.millrace.proto.v1.CreateJobRequest;
import io.millrace.proto.v1.CreateJobResponse;
import io.millrace.proto.v1.CreateJobsRequest;
import io.millrace.proto.v1.CreateJobsResponse;
import io.millrace.proto.v1.CreateJobsStreamRequest;
import io.millrace.proto.v1.CreateJobsStreamResponse;
import io.millrace.proto.v1.CreateOutcome;
import io.millrace.proto.v1.GetJobRequest;
import io.millrace.proto.v1.GetJobResponse;
import io.millrace.proto.v1.JobServiceGrpc;
import io.millrace.proto.v1.JobSpec;
import io.millrace.proto.v1.ListJobsRequest;
import io.millrace.proto.v1.ListJobsResponse;
import io.millrace.proto.v1.RetryJobRequest;
import io.millrace.proto.v1.RetryJobResponse;
import io.millrace.proto.v1.View;
import io.millrace.proto.v1.WaitJobRequest;
import io.millrace.proto.v1.WaitJobResponse;
import java.util.List;
import java.util.function.Consumer;

/** JobService of the fake. What it lacks answers UNIMPLEMENTED. */
final class FakeJobs extends JobServiceGrpc.JobServiceImplBase {
  private final FakeEngine engine;
  private final Runnable created;

  /**
   * Serves an engine.
   *
   * @param created called, without a lock, before a create is answered
   */
  FakeJobs(FakeEngine engine, Runnable created) {
    this.engine = engine;
    this.created = created;
  }

  @Override
  public void createJob(CreateJobRequest request, StreamObserver<CreateJobResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          FakeEngine.Made made = engine.create(request.getJob());
          created.run();
          return CreateJobResponse.newBuilder().setJob(made.job().message(View.VIEW_BASIC)).setExisting(made.existing()).build();
        });
  }

  @Override
  public void createJobs(CreateJobsRequest request, StreamObserver<CreateJobsResponse> answer) {
    Answering.answer(answer, () -> CreateJobsResponse.newBuilder().addAllOutcomes(createAll(request.getJobsList(), job -> {})).build());
  }

  @Override
  public StreamObserver<CreateJobsStreamRequest> createJobsStream(StreamObserver<CreateJobsStreamResponse> answers) {
    return Answering.answerEach(
        answers, request -> CreateJobsStreamResponse.newBuilder().addAllOutcomes(createAll(request.getJobsList(), job -> {})).build());
  }

  /** Creates, each with an outcome of its own. */
  List<CreateOutcome> createAll(List<JobSpec> specs, Consumer<FakeJob> made) {
    List<CreateOutcome> outcomes = specs.stream().map(spec -> outcome(spec, made)).toList();
    created.run();
    return outcomes;
  }

  private CreateOutcome outcome(JobSpec spec, Consumer<FakeJob> each) {
    try {
      FakeEngine.Made made = engine.create(spec);
      if (!made.existing()) {
        each.accept(made.job());
      }
      return CreateOutcome.newBuilder().setId(made.job().id()).setExisting(made.existing()).build();
    } catch (StatusRuntimeException refused) {
      String message = String.valueOf(refused.getStatus().getDescription());
      Status.Builder error = Status.newBuilder().setCode(refused.getStatus().getCode().value()).setMessage(message);
      if (refused.getStatus().getCode() == io.grpc.Status.Code.INVALID_ARGUMENT) {
        BadRequest.FieldViolation field = BadRequest.FieldViolation.newBuilder().setField("task").build();
        error.addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(field).build()));
      }
      return CreateOutcome.newBuilder().setId(spec.getId()).setError(error).build();
    }
  }

  @Override
  public void getJob(GetJobRequest request, StreamObserver<GetJobResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            FakeJob job = engine.get(request.getId());
            GetJobResponse.Builder response = GetJobResponse.newBuilder().setJob(job.message(request.getView()));
            return request.getWithLog() ? response.addAllLog(job.log).build() : response.build();
          }
        });
  }

  @Override
  public void waitJob(WaitJobRequest request, StreamObserver<WaitJobResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          FakeJob job = engine.get(request.getId());
          boolean hasEnded = engine.await(job::hasEnded, FakeJob.span(request.getTimeout()));
          synchronized (engine) {
            return WaitJobResponse.newBuilder().setJob(job.message(request.getView())).setTimedOut(!hasEnded).build();
          }
        });
  }

  @Override
  public void listJobs(ListJobsRequest request, StreamObserver<ListJobsResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          View view = request.getView() == View.VIEW_FULL ? View.VIEW_FULL : View.VIEW_BASIC;
          synchronized (engine) {
            return ListJobsResponse.newBuilder()
                .addAllJobs(engine.find(request.getFilter()).stream().map(job -> job.message(view)).toList())
                .build();
          }
        });
  }

  @Override
  public void cancelJob(CancelJobRequest request, StreamObserver<CancelJobResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            FakeJob job = engine.get(request.getId());
            boolean accepted = engine.cancel(job, request.getReason());
            return CancelJobResponse.newBuilder().setAccepted(accepted).setJob(job.message(View.VIEW_BASIC)).build();
          }
        });
  }

  @Override
  public void cancelJobs(CancelJobsRequest request, StreamObserver<CancelJobsResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            long cancelled = engine.find(request.getFilter()).stream().filter(job -> engine.cancel(job, request.getReason())).count();
            return CancelJobsResponse.newBuilder().setCancelled((int) cancelled).build();
          }
        });
  }

  @Override
  public void retryJob(RetryJobRequest request, StreamObserver<RetryJobResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            FakeJob job = engine.get(request.getId());
            engine.retry(job);
            return RetryJobResponse.newBuilder().setJob(job.message(View.VIEW_BASIC)).build();
          }
        });
  }
}
