// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import io.millrace.Client;
import io.millrace.Transport;
import io.millrace.Worker;
import java.time.Duration;
import java.util.concurrent.locks.LockSupport;

/** A program whose handlers hear nothing. */
final class DeafWorker {
  private DeafWorker() {}

  /** Address, queue, transport. */
  public static void main(String[] arguments) {
    try (Client client = Client.connect(arguments[0])) {
      Worker.builder(client)
          .queue(arguments[1])
          .transport(Transport.valueOf(arguments[2]))
          .concurrency(3)
          .terminateGrace(Duration.ofMillis(100))
          .handle(
              "deaf",
              job -> {
                job.progress(0.5, "deaf");
                while (true) {
                  Thread.interrupted();
                  LockSupport.parkNanos(1_000_000);
                }
              })
          .build()
          .run();
    }
  }
}
