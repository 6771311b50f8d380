// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.stub.StreamObserver;
import io.millrace.proto.v1.AttachRequest;
import io.millrace.proto.v1.AttachResponse;
import io.millrace.proto.v1.Deliveries;
import io.millrace.proto.v1.Delivery;
import io.millrace.proto.v1.RegisterRequest;
import io.millrace.proto.v1.RegisterResponse;
import io.millrace.proto.v1.WorkerServiceGrpc;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Workers and a server that behaves as a real one does only by chance. */
@Timeout(120)
final class WorkerTest {
  /** Registers everybody; the first connection gets a job and lasts until it is told to break, all others break at once. */
  private static final class Breaking extends WorkerServiceGrpc.WorkerServiceImplBase {
    final AtomicInteger connections = new AtomicInteger();
    private volatile StreamObserver<AttachResponse> first;

    void breakFirst() {
      first.onCompleted();
    }

    @Override
    public void register(RegisterRequest request, StreamObserver<RegisterResponse> answer) {
      boolean isResumed = !request.getResumeSessionId().isEmpty();
      answer.onNext(RegisterResponse.newBuilder().setSessionId("s").setSessionToken("s").setResumed(isResumed).build());
      answer.onCompleted();
    }

    @Override
    public StreamObserver<AttachRequest> attach(StreamObserver<AttachResponse> to) {
      if (connections.incrementAndGet() == 1) {
        first = to;
        Delivery delivery = Delivery.newBuilder().setJobId("j").setDelivery(1).setTask("t").build();
        Deliveries deliveries = Deliveries.newBuilder().setDeliverySeq(1).addDeliveries(delivery).build();
        to.onNext(AttachResponse.newBuilder().setDeliveries(deliveries).build());
      } else {
        to.onCompleted();
      }
      return new StreamObserver<>() {
        @Override
        public void onNext(AttachRequest request) {}

        @Override
        public void onError(Throwable failure) {}

        @Override
        public void onCompleted() {}
      };
    }
  }

  @Test
  void aWorkerThatStopsWaitsBetweenConnectionsThatBreakAtOnce() throws Exception {
    Breaking service = new Breaking();
    Server server = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create()).addService(service).build().start();
    CountDownLatch started = new CountDownLatch(1);
    CountDownLatch graceIsOver = new CountDownLatch(1);
    try (Client client = Client.builder().address("127.0.0.1:" + server.getPort()).build();
        Worker worker =
            Worker.builder(client)
                .queue("q")
                .transport(Transport.GRPC)
                .stopGrace(Duration.ofSeconds(2))
                .handle(
                    "t",
                    job -> {
                      started.countDown();
                      try {
                        job.sleep(Duration.ofMinutes(10));
                      } finally {
                        graceIsOver.countDown();
                      }
                      return null;
                    })
                .build()
                .start()) {
      assertThat(started.await(60, TimeUnit.SECONDS)).isTrue();
      worker.stop();
      service.breakFirst();
      assertThat(graceIsOver.await(60, TimeUnit.SECONDS)).isTrue();
      assertThat(service.connections.get()).isBetween(2, 30);
      server.shutdownNow();
    } finally {
      server.shutdownNow();
    }
  }
}
