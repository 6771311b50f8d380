// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Calls that one of the two sides has left. */
@Timeout(120)
final class CallTest {
  private static final String ID = "00000000-0000-4000-8000-000000000001";

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
}
