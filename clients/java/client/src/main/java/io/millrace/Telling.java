// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntConsumer;

/**
 * Futures that are told, one by one, what became of them. What follows upon a future is the program's code and may block, even for one
 * of those behind it: while any are left after a moment, another thread goes on with them.
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
    if (count - next.get() > 1) {
      CompletableFuture.delayedExecutor(MOMENT_MS, TimeUnit.MILLISECONDS, Runnable::run).execute(this::help);
    }
    for (int number = next.getAndIncrement(); number < count; number = next.getAndIncrement()) {
      tell.accept(number);
    }
  }

  private void help() {
    if (next.get() < count) {
      Threads.FOLLOWERS.execute(this);
    }
  }
}
