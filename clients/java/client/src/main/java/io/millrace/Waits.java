// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Waiting for an end, over as many calls as it takes: the server answers each after a while, and may be away for a while. */
final class Waits<T> {
  private static final Duration SLICE = Duration.ofSeconds(30);
  private static final long AGAIN_MS = 200;
  private static final Duration FOREVER = Duration.ofDays(36_500);

  /** What one call answered. */
  record Answer<T>(T value, boolean timedOut) {}

  private final String what;
  private final Duration timeout;
  private final Function<Duration, CompletableFuture<Answer<T>>> ask;
  private final CompletableFuture<T> result = new CompletableFuture<>();
  private final long end;

  /** The one under way: none before it is kept, since a wait can take days and an answer be large. */
  private volatile CompletableFuture<Answer<T>> call;

  private Waits(String what, Duration timeout, Function<Duration, CompletableFuture<Answer<T>>> ask) {
    this.what = what;
    this.timeout = timeout;
    this.ask = ask;
    this.end = System.nanoTime() + timeout.toNanos();
  }

  /**
   * Waits; {@link WaitTimeoutException} when the time is over.
   *
   * @param timeout null: as long as it takes
   * @param ask one call that lets the server wait for the given time
   */
  static <T> CompletableFuture<T> until(String what, Duration timeout, Function<Duration, CompletableFuture<Answer<T>>> ask) {
    Waits<T> wait = new Waits<>(what, timeout == null ? FOREVER : timeout, ask);
    wait.step();
    wait.result.whenComplete((value, failure) -> wait.call.cancel(true));
    return wait.result;
  }

  private void step() {
    if (result.isDone()) { // while it paused
      return;
    }
    Duration left = Duration.ofNanos(Math.max(0, end - System.nanoTime()));
    CompletableFuture<Answer<T>> next = ask.apply(left.compareTo(SLICE) < 0 ? left : SLICE);
    call = next;
    if (result.isDone()) { // meanwhile
      next.cancel(true);
    }
    next.whenComplete(
        (answer, failure) -> {
          if (result.isDone()) {
            return;
          }
          boolean isOver = System.nanoTime() - end >= 0;
          if (failure != null && (isOver || !canPass(failure))) {
            result.completeExceptionally(failure);
          } else if (failure != null) {
            CompletableFuture.delayedExecutor(AGAIN_MS, TimeUnit.MILLISECONDS, Threads.FOLLOWERS).execute(this::step);
          } else if (!answer.timedOut()) {
            result.complete(answer.value());
          } else if (isOver) {
            result.completeExceptionally(new WaitTimeoutException(what, timeout));
          } else {
            step();
          }
        });
  }

  /** The server is away, perhaps for a restart: a wait goes on when it is back. */
  private static boolean canPass(Throwable failure) {
    Throwable cause = Errors.unwrap(failure);
    return cause instanceof UnavailableException || cause instanceof DeadlineExceededException;
  }
}
