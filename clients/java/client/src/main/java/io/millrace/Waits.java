// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Waiting for an end, over as many calls as it takes: the server answers each after a while, and may be away for a while. */
final class Waits {
  private static final Duration SLICE = Duration.ofSeconds(30);
  private static final long AGAIN_MS = 200;
  private static final Duration FOREVER = Duration.ofDays(36_500);

  /** What one call answered. */
  record Answer<T>(T value, boolean timedOut) {}

  private final String what;
  private final Duration timeout;
  private final long end;

  private Waits(String what, Duration timeout) {
    this.what = what;
    this.timeout = timeout;
    this.end = System.nanoTime() + timeout.toNanos();
  }

  /**
   * Waits; {@link WaitTimeoutException} when the time is over.
   *
   * @param timeout null: as long as it takes
   * @param ask one call that lets the server wait for the given time
   */
  static <T> CompletableFuture<T> until(String what, Duration timeout, Function<Duration, CompletableFuture<Answer<T>>> ask) {
    CompletableFuture<T> result = new CompletableFuture<>();
    new Waits(what, timeout == null ? FOREVER : timeout).step(ask, result);
    return result;
  }

  private <T> void step(Function<Duration, CompletableFuture<Answer<T>>> ask, CompletableFuture<T> result) {
    Duration left = Duration.ofNanos(Math.max(0, end - System.nanoTime()));
    CompletableFuture<Answer<T>> call = ask.apply(left.compareTo(SLICE) < 0 ? left : SLICE);
    result.whenComplete((value, failure) -> call.cancel(true));
    call.whenComplete(
        (answer, failure) -> {
          if (result.isDone()) {
            return;
          }
          boolean isOver = System.nanoTime() - end >= 0;
          if (failure != null && (isOver || !canPass(failure))) {
            result.completeExceptionally(failure);
          } else if (failure != null) {
            CompletableFuture.delayedExecutor(AGAIN_MS, TimeUnit.MILLISECONDS).execute(() -> step(ask, result));
          } else if (!answer.timedOut()) {
            result.complete(answer.value());
          } else if (isOver) {
            result.completeExceptionally(new WaitTimeoutException(what, timeout));
          } else {
            step(ask, result);
          }
        });
  }

  /** The server is away, perhaps for a restart: a wait goes on when it is back. */
  private static boolean canPass(Throwable failure) {
    Throwable cause = Errors.unwrap(failure);
    return cause instanceof UnavailableException || cause instanceof DeadlineExceededException;
  }
}
