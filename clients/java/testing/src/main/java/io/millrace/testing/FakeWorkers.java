// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import com.google.protobuf.Duration;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.AttachRequest;
import io.millrace.proto.v1.AttachResponse;
import io.millrace.proto.v1.Deliveries;
import io.millrace.proto.v1.DeregisterRequest;
import io.millrace.proto.v1.DeregisterResponse;
import io.millrace.proto.v1.QuietWorkerRequest;
import io.millrace.proto.v1.QuietWorkerResponse;
import io.millrace.proto.v1.RegisterRequest;
import io.millrace.proto.v1.RegisterResponse;
import io.millrace.proto.v1.Reports;
import io.millrace.proto.v1.WorkerQueue;
import io.millrace.proto.v1.WorkerServiceGrpc;
import io.millrace.proto.v1.WorkerTask;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/** The fake's side of real workers: they register and attach, and get one job after the other. */
final class FakeWorkers extends WorkerServiceGrpc.WorkerServiceImplBase {
  private static final java.time.Duration ATTACH_PATIENCE = java.time.Duration.ofSeconds(30);

  private final FakeEngine engine;
  private final java.time.Duration handlerPatience;
  private final Map<String, Session> sessions = new LinkedHashMap<>();

  FakeWorkers(FakeEngine engine, java.time.Duration handlerPatience) {
    this.engine = engine;
    this.handlerPatience = handlerPatience;
  }

  /** One attached worker. Guarded by the engine's lock. */
  private static final class Session {
    final RegisterRequest registered;
    StreamObserver<AttachResponse> stream;
    long deliverySeq;
    long lastReport;

    Session(RegisterRequest registered) {
      this.registered = registered;
    }

    boolean serves(FakeJob job) {
      return stream != null
          && registered.getQueuesList().stream().map(WorkerQueue::getName).anyMatch(job.queue()::equals)
          && task(job).isPresent();
    }

    Optional<WorkerTask> task(FakeJob job) {
      return registered.getTasksList().stream()
          .filter(task -> task.getName().equals("*") || task.getName().equals(job.spec.getTask()))
          .findFirst();
    }
  }

  boolean canRun(FakeJob job) {
    return sessions.values().stream().anyMatch(session -> session.serves(job));
  }

  /** Waits until so many workers are attached. */
  void awaitAttached(int count) {
    if (!engine.await(() -> sessions.values().stream().filter(session -> session.stream != null).count() >= count, ATTACH_PATIENCE)) {
      throw new IllegalStateException("the worker has not attached to the fake");
    }
  }

  /** Runs the job that goes first, and waits until its handler has ended. False: there is none. */
  boolean runNext() {
    FakeJob job;
    int delivery;
    synchronized (engine) {
      Optional<FakeJob> ready = engine.nextReady(this::canRun);
      if (ready.isEmpty()) {
        return false;
      }
      job = ready.get();
      Session session = sessions.values().stream().filter(one -> one.serves(job)).findFirst().orElseThrow();
      session.task(job).ifPresent(task -> job.declared = task.getRetryPolicy());
      engine.lease(job);
      delivery = job.deliveries;
      send(session, Deliveries.newBuilder().setDeliverySeq(++session.deliverySeq).addDeliveries(job.delivery()));
    }
    if (!engine.await(() -> job.deliveries != delivery || job.state != io.millrace.proto.v1.JobState.JOB_STATE_RUNNING, handlerPatience)) {
      throw new IllegalStateException("the handler of '" + job.spec.getTask() + "' has not ended within " + handlerPatience);
    }
    return true;
  }

  private static void send(Session session, Deliveries.Builder message) {
    session.stream.onNext(AttachResponse.newBuilder().setDeliveries(message).build());
  }

  @Override
  public void register(RegisterRequest request, StreamObserver<RegisterResponse> answer) {
    String id = UUID.randomUUID().toString();
    synchronized (engine) {
      sessions.put(id, new Session(request));
    }
    answer.onNext(
        RegisterResponse.newBuilder()
            .setSessionId(id)
            .setSessionToken(id)
            .setHeartbeatInterval(Duration.newBuilder().setSeconds(3600))
            .setSilenceTimeout(Duration.newBuilder().setSeconds(7200)) // nothing is said while no job runs
            .build());
    answer.onCompleted();
  }

  @Override
  public StreamObserver<AttachRequest> attach(StreamObserver<AttachResponse> answers) {
    return new StreamObserver<>() {
      private Session session;

      @Override
      public void onNext(AttachRequest message) {
        synchronized (engine) {
          if (message.hasHello()) {
            session = sessions.get(message.getHello().getSessionId());
            if (session == null) {
              answers.onError(Status.NOT_FOUND.asRuntimeException());
              return;
            }
            session.stream = answers;
            engine.notifyAll();
          } else {
            take(session, message.getReports());
          }
        }
      }

      @Override
      public void onError(Throwable failure) {
        onCompleted();
      }

      @Override
      public void onCompleted() {
        synchronized (engine) {
          if (session != null) {
            session.stream = null;
          }
        }
      }
    };
  }

  private void take(Session session, Reports reports) {
    if (reports.getReportSeq() > session.lastReport) {
      session.lastReport = reports.getReportSeq();
      reports.getReportsList().forEach(engine::report);
      send(session, Deliveries.newBuilder().setAcceptedReportSeq(session.lastReport));
    }
  }

  @Override
  public void quietWorker(QuietWorkerRequest request, StreamObserver<QuietWorkerResponse> answer) {
    answer.onNext(QuietWorkerResponse.getDefaultInstance());
    answer.onCompleted();
  }

  @Override
  public void deregister(DeregisterRequest request, StreamObserver<DeregisterResponse> answer) {
    synchronized (engine) {
      sessions.remove(request.getSessionId());
    }
    answer.onNext(DeregisterResponse.getDefaultInstance());
    answer.onCompleted();
  }
}
