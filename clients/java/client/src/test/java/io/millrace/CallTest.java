// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Calls that one of the two sides has left. */
@Timeout(120)
final class CallTest {
  private static final String ID = "00000000-0000-4000-8000-000000000001";

  /** An empty frame of settings, the first thing that a client of HTTP/2 wants to hear. */
  private static final byte[] SETTINGS = {0, 0, 0, 4, 0, 0, 0, 0, 0};

  private static void await(BooleanSupplier condition) throws InterruptedException {
    while (!condition.getAsBoolean()) { // until the test's time is over
      Thread.sleep(5);
    }
  }

  /** None of these calls would end by itself within the test's time. */
  @Test
  void whoLeavesAWaitLeavesItsCall() throws Exception {
    try (StandIn server = new StandIn();
        Client client = server.client().callTimeout(Duration.ofMinutes(10)).build()) {
      CompletableFuture<Job> cancelled = client.waitForAsync(ID, null);
      await(() -> server.waits.get() == 1);
      cancelled.cancel(true);
      await(() -> server.left.get() == 1);

      CompletableFuture<Job> late = client.waitForAsync(ID, null).orTimeout(500, TimeUnit.MILLISECONDS);
      assertThatThrownBy(late::join).hasCauseInstanceOf(TimeoutException.class);
      await(() -> server.left.get() == server.waits.get());

      Thread waiter =
          new Thread(() -> assertThatThrownBy(() -> client.waitFor(ID, null)).isInstanceOf(MillraceException.class));
      int before = server.waits.get();
      waiter.start();
      await(() -> server.waits.get() > before);
      waiter.interrupt();
      await(() -> server.left.get() == server.waits.get());
      waiter.join();
    }
  }

  @Test
  void whoLeavesABulkOfCreatesLeavesItsCallAndSendsNoMore() throws Exception {
    try (StandIn server = new StandIn();
        Client client = server.client().callTimeout(Duration.ofMinutes(10)).build()) {
      server.gate = new CompletableFuture<>();
      CompletableFuture<List<Outcome>> all = client.createAllAsync(Collections.nCopies(1001, JobSpec.of("t")));
      await(() -> server.calls.size() == 1);
      all.cancel(true);
      await(() -> server.left.get() == 1);
      server.gate.complete(null);
      client.create(JobSpec.of("next"));
      assertThat(server.calls).hasSize(2).last().isEqualTo(List.of("next"));
    }
  }

  /** As behind a path that is dead: nothing comes back, not even that the connection is closed. */
  @Test
  void aWatchEndsWhenItsServerIsSilent() throws Exception {
    try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        Client client = Client.builder().address("127.0.0.1:" + listener.getLocalPort()).build();
        JobWatch watch = client.watch(JobFilter.queue("q"));
        Socket server = listener.accept()) {
      listener.close(); // it can't connect again
      server.getOutputStream().write(SETTINGS);
      assertThatThrownBy(watch::hasNext).isInstanceOf(UnavailableException.class);
    }
  }

  /** Its calls fail at once. */
  private static ManagedChannel impatient(int port) {
    return ManagedChannelBuilder.forAddress("127.0.0.1", port).usePlaintext().disableRetry().build();
  }

  /** By itself gRPC would need more than the test's time for so many tries to connect. */
  @Test
  void aCallThatFailsLetsTheNextFindAServerThatIsBack() throws Exception {
    AtomicInteger connections = new AtomicInteger();
    try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        Client client = Client.builder().channel(impatient(listener.getLocalPort())).build()) {
      Thread server =
          new Thread(
              () -> {
                try {
                  while (true) {
                    listener.accept().close();
                    connections.incrementAndGet();
                  }
                } catch (IOException closed) {
                  return;
                }
              });
      server.start();
      for (int call = 1; call <= 11; call++) {
        assertThatThrownBy(() -> client.get(ID)).isInstanceOf(UnavailableException.class);
        int tries = call;
        await(() -> connections.get() >= tries);
      }
    }
  }
}
