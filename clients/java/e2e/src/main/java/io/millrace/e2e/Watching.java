// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import io.millrace.Client;
import io.millrace.JobChange;
import io.millrace.JobFilter;
import io.millrace.JobWatch;
import io.millrace.UnavailableException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;

/** Watches one job until it is in a state; begins again when the server was away. */
final class Watching {
  private static final long AGAIN_MS = 100;

  private final Client client;
  private final String id;
  private final String until;
  private final Duration timeout;
  private final long end;
  private final List<String> states = new ArrayList<>();

  Watching(Client client, String id, String until, Duration timeout) {
    this.client = client;
    this.id = id;
    this.until = until;
    this.timeout = timeout == null ? Duration.ofDays(1) : timeout;
    this.end = System.nanoTime() + this.timeout.toNanos();
  }

  List<String> run(Consumer<String> seen) throws InterruptedException, TimeoutException {
    while (System.nanoTime() - end < 0) {
      try {
        if (watch(seen)) {
          return states;
        }
      } catch (UnavailableException away) {
        Thread.sleep(AGAIN_MS);
      }
    }
    throw new TimeoutException("job " + id + " was not " + until + " within " + timeout + "; seen: " + states);
  }

  private boolean watch(Consumer<String> seen) {
    try (JobWatch watch = client.watch(JobFilter.ids(id))) {
      CompletableFuture.delayedExecutor(end - System.nanoTime(), TimeUnit.NANOSECONDS).execute(watch::close);
      while (watch.hasNext()) {
        JobChange change = watch.next();
        if (change.kind() != JobChange.Kind.STATE) {
          continue;
        }
        String state = Answers.word(change.job().orElseThrow().state());
        if (states.isEmpty() || !states.get(states.size() - 1).equals(state)) {
          states.add(state);
          seen.accept(state);
        }
        if (state.equals(until)) {
          return true;
        }
      }
      return false;
    }
  }
}
