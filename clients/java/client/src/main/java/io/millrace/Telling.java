// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntConsumer;

/**
 * Futures that are told, one by one, what became of them. What follows upon a future is the program's code and may block, even for one
 * of those behind it: when none has been told for a moment and some are left, another thread goes on with them.
 */
final class Telling implements Runnable {
  private static final long MOMENT_MS = 5;

  private final int count;
  private final IntConsumer tell;
  private final AtomicInteger next = new AtomicInteger();

  /**
   * What is to be told.
   *
   * @param tell tells the future of that number
   */
  Telling(int count, IntConsumer tell) {
    this.count = count;
    this.tell = tell;
  }

  @Override
  public void run() {
    int first = next.get();
    if (count - first > 1) {
      look(first + 1);
    }
    for (int number = next.getAndIncrement(); number < count; number = next.getAndIncrement()) {
      tell.accept(number);
    }
  }

  private void look(int seen) {
    CompletableFuture.delayedExecutor(MOMENT_MS, TimeUnit.MILLISECONDS, Runnable::run).execute(() -> help(seen));
  }

  /** Another thread for each moment would be far too many where what follows takes its time. */
  private void help(int seen) {
    int now = next.get();
    if (now >= count) {
      return;
    }
    if (now == seen) {
      Threads.FOLLOWERS.execute(this);
    } else {
      look(now);
    }
  }
}
