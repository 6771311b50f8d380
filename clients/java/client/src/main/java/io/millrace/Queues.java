// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.DeleteQueueRequest;
import io.millrace.proto.v1.GetQueueRequest;
import io.millrace.proto.v1.ListQueuesRequest;
import io.millrace.proto.v1.PauseQueueRequest;
import io.millrace.proto.v1.PurgeQueueRequest;
import io.millrace.proto.v1.QueueServiceGrpc;
import io.millrace.proto.v1.ResumeQueueRequest;
import io.millrace.proto.v1.UpdateQueueRequest;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/** Queues: see {@link Client#queues()}. */
public final class Queues {
  private static final int PAGE_SIZE = 500;

  private final Rpc rpc;

  Queues(Rpc rpc) {
    this.rpc = rpc;
  }

  /** One queue with its counts. */
  public Queue get(String name) {
    return Rpc.await(getAsync(name));
  }

  /** One queue with its counts. */
  public CompletableFuture<Queue> getAsync(String name) {
    return rpc.call(
        QueueServiceGrpc.getGetQueueMethod(),
        GetQueueRequest.newBuilder().setName(name).build(),
        Errors.About.OTHER,
        answer -> new Queue(answer.getQueue()));
  }

  /** All queues, page by page as the stream is read. */
  public Stream<Queue> list() {
    return Pages.stream(
        token -> {
          ListQueuesRequest request = ListQueuesRequest.newBuilder().setPageSize(PAGE_SIZE).setPageToken(token).build();
          var page = Rpc.await(rpc.call(QueueServiceGrpc.getListQueuesMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getQueuesList().stream().map(Queue::new).toList(), page.getNextPageToken());
        });
  }

  /** Changes settings. */
  public Queue update(String name, QueueSettings settings) {
    UpdateQueueRequest request = UpdateQueueRequest.newBuilder().setName(name).setSettings(settings.message()).build();
    return new Queue(Rpc.await(rpc.call(QueueServiceGrpc.getUpdateQueueMethod(), request, Errors.About.OTHER)).getQueue());
  }

  /** No more deliveries until resumed; creates are taken. */
  public Queue pause(String name) {
    PauseQueueRequest request = PauseQueueRequest.newBuilder().setName(name).build();
    return new Queue(Rpc.await(rpc.call(QueueServiceGrpc.getPauseQueueMethod(), request, Errors.About.OTHER)).getQueue());
  }

  /** Deliveries go on. */
  public Queue resume(String name) {
    ResumeQueueRequest request = ResumeQueueRequest.newBuilder().setName(name).build();
    return new Queue(Rpc.await(rpc.call(QueueServiceGrpc.getResumeQueueMethod(), request, Errors.About.OTHER)).getQueue());
  }

  /** Cancels every job that is pending now; tells how many. */
  public long purge(String name) {
    return Rpc.await(purgeAsync(name));
  }

  /** Cancels every job that is pending now; tells how many. */
  public CompletableFuture<Long> purgeAsync(String name) {
    return rpc.call(
        QueueServiceGrpc.getPurgeQueueMethod(),
        PurgeQueueRequest.newBuilder().setName(name).build(),
        Errors.About.OTHER,
        answer -> answer.getPurged());
  }

  /** Forgets an empty queue. */
  public void delete(String name) {
    DeleteQueueRequest request = DeleteQueueRequest.newBuilder().setName(name).build();
    Rpc.await(rpc.call(QueueServiceGrpc.getDeleteQueueMethod(), request, Errors.About.OTHER));
  }
}
