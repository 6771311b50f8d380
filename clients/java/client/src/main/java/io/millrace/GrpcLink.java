// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.CallOptions;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ClientResponseObserver;
import io.millrace.proto.v1.AttachHello;
import io.millrace.proto.v1.AttachRequest;
import io.millrace.proto.v1.AttachResponse;
import io.millrace.proto.v1.Reports;
import io.millrace.proto.v1.WorkerServiceGrpc;
import java.util.concurrent.atomic.AtomicBoolean;

/** Deliveries and reports over one gRPC stream, for those who want a single port. */
final class GrpcLink implements Link, ClientResponseObserver<AttachRequest, AttachResponse> {
  private final Events events;
  private final AtomicBoolean awaitsReady = new AtomicBoolean();
  private ClientCallStreamObserver<AttachRequest> requests;

  private GrpcLink(Events events) {
    this.events = events;
  }

  static GrpcLink open(Rpc rpc, Registration registration, Events events) {
    GrpcLink link = new GrpcLink(events);
    ClientCalls.asyncBidiStreamingCall(rpc.channel.newCall(WorkerServiceGrpc.getAttachMethod(), CallOptions.DEFAULT), link);
    AttachHello hello = AttachHello.newBuilder().setSessionId(registration.id()).setSessionToken(registration.token()).build();
    link.requests.onNext(AttachRequest.newBuilder().setHello(hello).build());
    return link;
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<AttachRequest> stream) {
    requests = stream;
    stream.setOnReadyHandler(this::ready);
  }

  private void ready() {
    if (awaitsReady.compareAndSet(true, false)) {
      events.sent();
    }
  }

  @Override
  public boolean send(Reports message) {
    requests.onNext(AttachRequest.newBuilder().setReports(message).build());
    if (requests.isReady()) {
      return true;
    }
    awaitsReady.set(true);
    // It may have become ready in between, and then nobody would tell again.
    return requests.isReady() && awaitsReady.compareAndSet(true, false);
  }

  @Override
  public void close() {
    requests.cancel("the worker has left", null);
  }

  @Override
  public void onNext(AttachResponse response) {
    events.received(response.getDeliveries());
  }

  @Override
  public void onError(Throwable failure) {
    events.broken(Errors.from(failure, Errors.About.OTHER).getMessage());
  }

  @Override
  public void onCompleted() {
    events.broken("the server ended the stream");
  }
}
