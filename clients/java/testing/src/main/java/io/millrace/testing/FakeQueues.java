// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.GetQueueRequest;
import io.millrace.proto.v1.GetQueueResponse;
import io.millrace.proto.v1.JobFilter;
import io.millrace.proto.v1.JobState;
import io.millrace.proto.v1.PurgeQueueRequest;
import io.millrace.proto.v1.PurgeQueueResponse;
import io.millrace.proto.v1.Queue;
import io.millrace.proto.v1.QueueCounts;
import io.millrace.proto.v1.QueueServiceGrpc;

/** Counts and purge of the fake. */
final class FakeQueues extends QueueServiceGrpc.QueueServiceImplBase {
  private final FakeEngine engine;

  FakeQueues(FakeEngine engine) {
    this.engine = engine;
  }

  private long count(String queue, JobState state) {
    return engine.find(JobFilter.newBuilder().addQueues(queue).addStates(state).build()).size();
  }

  @Override
  public void getQueue(GetQueueRequest request, StreamObserver<GetQueueResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          String name = request.getName();
          synchronized (engine) {
            QueueCounts.Builder counts = QueueCounts.newBuilder().setPending(count(name, JobState.JOB_STATE_PENDING));
            counts.setScheduled(count(name, JobState.JOB_STATE_SCHEDULED)).setRetrying(count(name, JobState.JOB_STATE_RETRYING));
            counts.setBlocked(count(name, JobState.JOB_STATE_BLOCKED)).setRunning(count(name, JobState.JOB_STATE_RUNNING));
            counts.setSucceeded(count(name, JobState.JOB_STATE_SUCCEEDED)).setFailed(count(name, JobState.JOB_STATE_FAILED));
            counts.setCancelled(count(name, JobState.JOB_STATE_CANCELLED)).setExpired(count(name, JobState.JOB_STATE_EXPIRED));
            return GetQueueResponse.newBuilder().setQueue(Queue.newBuilder().setName(name).setCounts(counts)).build();
          }
        });
  }

  @Override
  public void purgeQueue(PurgeQueueRequest request, StreamObserver<PurgeQueueResponse> answer) {
    Answering.answer(
        answer,
        () -> {
          synchronized (engine) {
            JobFilter pending = JobFilter.newBuilder().addQueues(request.getName()).addStates(JobState.JOB_STATE_PENDING).build();
            long purged = engine.find(pending).stream().filter(job -> engine.cancel(job, "the queue was purged")).count();
            return PurgeQueueResponse.newBuilder().setPurged(purged).build();
          }
        });
  }
}
