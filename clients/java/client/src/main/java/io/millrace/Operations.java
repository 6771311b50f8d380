// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.AdminServiceGrpc;
import io.millrace.proto.v1.CheckpointRequest;
import io.millrace.proto.v1.GetServerInfoRequest;
import io.millrace.proto.v1.ListWorkersRequest;
import io.millrace.proto.v1.QuietWorkerRequest;
import io.millrace.proto.v1.WorkerQueue;
import io.millrace.proto.v1.WorkerServiceGrpc;
import java.util.List;
import java.util.stream.Stream;

/** Attached workers, and the server itself: see {@link Client#operations()}. */
public final class Operations {
  private static final int PAGE_SIZE = 500;

  private final Rpc rpc;

  Operations(Rpc rpc) {
    this.rpc = rpc;
  }

  /** Version, durability, what it holds. */
  public ServerInfo serverInfo() {
    GetServerInfoRequest request = GetServerInfoRequest.getDefaultInstance();
    var info = Rpc.await(rpc.call(AdminServiceGrpc.getGetServerInfoMethod(), request, Errors.About.OTHER));
    return new ServerInfo(
        info.getVersion(),
        info.getDurability().name().replace("DURABILITY_", ""),
        Convert.fromTimestamp(info.getStartedAt()),
        Convert.fromTimestamp(info.getNow()),
        info.getJobsWaiting(),
        info.getJobsRunning());
  }

  /** A consistent copy of the store, in a new directory of that name on the server; answers its path. */
  public String checkpoint(String name) {
    CheckpointRequest request = CheckpointRequest.newBuilder().setName(name).build();
    return Rpc.await(rpc.call(AdminServiceGrpc.getCheckpointMethod(), request, Errors.About.OTHER)).getPath();
  }

  /** All attached workers. */
  public Stream<WorkerInfo> workers() {
    return Pages.stream(
        token -> {
          ListWorkersRequest request = ListWorkersRequest.newBuilder().setPageSize(PAGE_SIZE).setPageToken(token).build();
          var page = Rpc.await(rpc.call(WorkerServiceGrpc.getListWorkersMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getWorkersList().stream().map(Operations::worker).toList(), page.getNextPageToken());
        });
  }

  private static WorkerInfo worker(io.millrace.proto.v1.Worker worker) {
    return new WorkerInfo(
        worker.getSessionId(),
        worker.getState().name().replace("WORKER_STATE_", ""),
        worker.getQueuesList().stream().map(WorkerQueue::getName).toList(),
        List.copyOf(worker.getTasksList()),
        worker.getConcurrency(),
        worker.getRunning(),
        worker.getHostname(),
        worker.getPid(),
        worker.getLabelsMap(),
        worker.getSdk(),
        Convert.fromTimestamp(worker.getRegisteredAt()),
        Convert.fromTimestamp(worker.getLastSeenAt()),
        worker.getTransport());
  }

  /** A worker gets no more jobs; with {@code drain} it ends when it has finished what it holds. */
  public void quietWorker(String sessionId, boolean drain) {
    QuietWorkerRequest request = QuietWorkerRequest.newBuilder().setSessionId(sessionId).setDrain(drain).build();
    Rpc.await(rpc.call(WorkerServiceGrpc.getQuietWorkerMethod(), request, Errors.About.OTHER));
  }
}
