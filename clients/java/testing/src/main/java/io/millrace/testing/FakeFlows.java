// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import io.grpc.BindableService;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.AddBatchItemsRequest;
import io.millrace.proto.v1.AddBatchItemsResponse;
import io.millrace.proto.v1.Batch;
import io.millrace.proto.v1.BatchServiceGrpc;
import io.millrace.proto.v1.BatchState;
import io.millrace.proto.v1.Chain;
import io.millrace.proto.v1.ChainServiceGrpc;
import io.millrace.proto.v1.ChainState;
import io.millrace.proto.v1.CreateBatchRequest;
import io.millrace.proto.v1.CreateBatchResponse;
import io.millrace.proto.v1.CreateChainRequest;
import io.millrace.proto.v1.CreateChainResponse;
import io.millrace.proto.v1.CreateOutcome;
import io.millrace.proto.v1.GetBatchRequest;
import io.millrace.proto.v1.GetBatchResponse;
import io.millrace.proto.v1.GetChainRequest;
import io.millrace.proto.v1.GetChainResponse;
import io.millrace.proto.v1.JobSpec;
import io.millrace.proto.v1.JobState;
import io.millrace.proto.v1.SealBatchRequest;
import io.millrace.proto.v1.SealBatchResponse;
import io.millrace.proto.v1.WaitBatchRequest;
import io.millrace.proto.v1.WaitBatchResponse;
import io.millrace.proto.v1.WaitChainRequest;
import io.millrace.proto.v1.WaitChainResponse;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Chains and batches of the fake. */
final class FakeFlows {
  private final FakeEngine engine;
  private final FakeJobs jobs;
  private final Runnable created;
  private final Map<String, FakeChain> chains = new HashMap<>();
  private final Map<String, FakeBatch> batches = new HashMap<>();

  FakeFlows(FakeEngine engine, FakeJobs jobs, Runnable created) {
    this.engine = engine;
    this.jobs = jobs;
    this.created = created;
    engine.onEnd(this::ended);
  }

  private static final class FakeChain {
    CreateChainRequest request;
    List<FakeJob> steps = new ArrayList<>();
    String onFailureJob = "";

    Chain message() {
      Chain.Builder chain = Chain.newBuilder().setId(request.getId()).setState(ChainState.CHAIN_STATE_RUNNING);
      steps.forEach(step -> chain.addJobIds(step.id()));
      int succeeded = (int) steps.stream().filter(step -> step.state == JobState.JOB_STATE_SUCCEEDED).count();
      chain.setSucceeded(succeeded).setCurrentStep(Math.min(succeeded, steps.size() - 1)).setOnFailureJobId(onFailureJob);
      if (succeeded == steps.size()) {
        chain.setState(ChainState.CHAIN_STATE_SUCCEEDED);
        FakeJob last = steps.get(steps.size() - 1);
        if (last.result != null) {
          chain.setResult(last.result);
        }
      } else if (steps.get(succeeded).hasEnded()) {
        FakeJob culprit = steps.get(succeeded);
        boolean isCancelled = culprit.state == JobState.JOB_STATE_CANCELLED;
        chain.setState(isCancelled ? ChainState.CHAIN_STATE_CANCELLED : ChainState.CHAIN_STATE_FAILED);
        if (culprit.error != null) {
          chain.setError(culprit.error);
        }
      }
      return chain.build();
    }

    boolean hasEnded() {
      return message().getState() != ChainState.CHAIN_STATE_RUNNING;
    }
  }

  private static final class FakeBatch {
    CreateBatchRequest request;
    List<FakeJob> members = new ArrayList<>();
    int chunk;
    boolean sealed;
    boolean completed;
    String onSuccessJob = "";
    String onCompleteJob = "";

    int count(JobState state) {
      return (int) members.stream().filter(member -> member.state == state).count();
    }

    boolean isComplete() {
      return sealed && members.stream().allMatch(FakeJob::hasEnded);
    }

    boolean isSuccess() {
      return isComplete() && count(JobState.JOB_STATE_SUCCEEDED) == members.size();
    }

    Batch message() {
      BatchState state =
          !sealed
              ? BatchState.BATCH_STATE_OPEN
              : !isComplete()
                  ? BatchState.BATCH_STATE_SEALED
                  : isSuccess() ? BatchState.BATCH_STATE_SUCCEEDED : BatchState.BATCH_STATE_FAILED;
      return Batch.newBuilder()
          .setId(request.getId())
          .setState(state)
          .setDescription(request.getDescription())
          .setTotal(members.size())
          .setPending((int) members.stream().filter(member -> !member.hasEnded()).count())
          .setSucceeded(count(JobState.JOB_STATE_SUCCEEDED))
          .setFailed(count(JobState.JOB_STATE_FAILED))
          .setCancelled(count(JobState.JOB_STATE_CANCELLED))
          .setExpired(count(JobState.JOB_STATE_EXPIRED))
          .setLastChunk(chunk)
          .setOnSuccessJobId(onSuccessJob)
          .setOnCompleteJobId(onCompleteJob)
          .build();
    }
  }

  List<BindableService> services() {
    return List.of(new Chains(), new Batches());
  }

  /** With the engine's lock. */
  private void ended(FakeJob job) {
    if (!job.chainId.isEmpty()) {
      chainMoves(chains.get(job.chainId), job);
    }
    if (!job.batchId.isEmpty()) {
      batchMoves(batches.get(job.batchId));
    }
  }

  private void chainMoves(FakeChain chain, FakeJob job) {
    int next = job.chainIndex + 1;
    if (job.state == JobState.JOB_STATE_SUCCEEDED) {
      if (next < chain.steps.size() && chain.steps.get(next).state == JobState.JOB_STATE_BLOCKED) {
        FakeJob step = chain.steps.get(next);
        step.previousResult = job.result;
        step.runAt = engine.now();
        engine.start(step);
      }
      return;
    }
    if (chain.request.hasOnFailure() && chain.onFailureJob.isEmpty()) {
      chain.onFailureJob = engine.create(chain.request.getOnFailure()).job().id();
    }
    chain.steps.subList(next, chain.steps.size()).forEach(step -> engine.cancel(step, "the step before did not succeed"));
  }

  private void batchMoves(FakeBatch batch) {
    if (!batch.isComplete() || batch.completed) {
      return;
    }
    batch.completed = true;
    if (batch.request.hasOnSuccess() && batch.isSuccess()) {
      batch.onSuccessJob = engine.create(batch.request.getOnSuccess()).job().id();
    }
    if (batch.request.hasOnComplete()) {
      batch.onCompleteJob = engine.create(batch.request.getOnComplete()).job().id();
    }
  }

  private static <T> T known(Map<String, T> map, String id, String what) {
    T found = map.get(id);
    if (found == null) {
      throw Status.NOT_FOUND.withDescription("there is no " + what + " " + id).asRuntimeException();
    }
    return found;
  }

  private final class Chains extends ChainServiceGrpc.ChainServiceImplBase {
    @Override
    public void createChain(CreateChainRequest request, StreamObserver<CreateChainResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            CreateChainResponse response;
            synchronized (engine) {
              boolean existing = chains.containsKey(request.getId());
              FakeChain chain = existing ? chains.get(request.getId()) : make(request);
              response = CreateChainResponse.newBuilder().setExisting(existing).setChain(chain.message()).build();
            }
            created.run();
            return response;
          });
    }

    private FakeChain make(CreateChainRequest request) {
      FakeChain chain = new FakeChain();
      chain.request = request;
      chains.put(request.getId(), chain);
      for (JobSpec spec : request.getStepsList()) {
        FakeJob step = engine.create(spec).job();
        step.chainId = request.getId();
        step.chainIndex = chain.steps.size();
        if (step.chainIndex > 0) {
          step.state = JobState.JOB_STATE_BLOCKED;
        }
        chain.steps.add(step);
      }
      return chain;
    }

    @Override
    public void getChain(GetChainRequest request, StreamObserver<GetChainResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            synchronized (engine) {
              return GetChainResponse.newBuilder().setChain(known(chains, request.getId(), "chain").message()).build();
            }
          });
    }

    @Override
    public void waitChain(WaitChainRequest request, StreamObserver<WaitChainResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            FakeChain chain = known(chains, request.getId(), "chain");
            boolean hasEnded = engine.await(chain::hasEnded, FakeJob.span(request.getTimeout()));
            synchronized (engine) {
              return WaitChainResponse.newBuilder().setChain(chain.message()).setTimedOut(!hasEnded).build();
            }
          });
    }
  }

  private final class Batches extends BatchServiceGrpc.BatchServiceImplBase {
    @Override
    public void createBatch(CreateBatchRequest request, StreamObserver<CreateBatchResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            FakeBatch batch = new FakeBatch();
            synchronized (engine) {
              batch.request = request;
              batches.put(request.getId(), batch);
            }
            CreateBatchResponse.Builder response = CreateBatchResponse.newBuilder();
            if (request.getItemsCount() > 0) {
              response.addAllOutcomes(add(batch, request.getItemsList()));
            }
            synchronized (engine) {
              seal(batch, request.getSeal());
              return response.setBatch(batch.message()).build();
            }
          });
    }

    private List<CreateOutcome> add(FakeBatch batch, List<JobSpec> items) {
      JobSpec defaults = batch.request.getDefaults();
      batch.chunk++;
      List<JobSpec> whole = items.stream().map(item -> defaults.toBuilder().mergeFrom(item).build()).toList();
      return jobs.createAll(
          whole,
          job -> {
            synchronized (engine) {
              job.batchId = batch.request.getId();
              batch.members.add(job);
            }
          });
    }

    private void seal(FakeBatch batch, boolean yes) {
      if (yes) {
        batch.sealed = true;
        batchMoves(batch);
        engine.notifyAll();
      }
    }

    @Override
    public StreamObserver<AddBatchItemsRequest> addBatchItems(StreamObserver<AddBatchItemsResponse> answers) {
      return Answering.answerEach(
          answers,
          request -> {
            FakeBatch batch = known(batches, request.getBatchId(), "batch");
            List<CreateOutcome> outcomes = add(batch, request.getItemsList());
            synchronized (engine) {
              seal(batch, request.getLast());
              AddBatchItemsResponse.Builder response = AddBatchItemsResponse.newBuilder().setChunk(request.getChunk());
              return response.addAllOutcomes(outcomes).setTotal(batch.members.size()).build();
            }
          });
    }

    @Override
    public void sealBatch(SealBatchRequest request, StreamObserver<SealBatchResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            synchronized (engine) {
              FakeBatch batch = known(batches, request.getId(), "batch");
              seal(batch, true);
              return SealBatchResponse.newBuilder().setBatch(batch.message()).build();
            }
          });
    }

    @Override
    public void getBatch(GetBatchRequest request, StreamObserver<GetBatchResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            synchronized (engine) {
              return GetBatchResponse.newBuilder().setBatch(known(batches, request.getId(), "batch").message()).build();
            }
          });
    }

    @Override
    public void waitBatch(WaitBatchRequest request, StreamObserver<WaitBatchResponse> answer) {
      Answering.answer(
          answer,
          () -> {
            FakeBatch batch = known(batches, request.getId(), "batch");
            boolean hasEnded = engine.await(batch::isComplete, FakeJob.span(request.getTimeout()));
            synchronized (engine) {
              return WaitBatchResponse.newBuilder().setBatch(batch.message()).setTimedOut(!hasEnded).build();
            }
          });
    }
  }
}
