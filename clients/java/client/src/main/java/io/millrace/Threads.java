// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Threads of the client's own: none of them keeps the process from ending. */
final class Threads {
  private static final long IDLE_SECONDS = 60;

  /**
   * For what follows upon an answer. It is the program's code and may block, so there is a thread for each that does: the pool that
   * all of the program shares could be full of such. It is never shut down; its threads end when they are idle.
   */
  static final Executor FOLLOWERS = asManyAsNeeded("millrace-client");

  private Threads() {}

  static ExecutorService asManyAsNeeded(String name) {
    AtomicInteger number = new AtomicInteger();
    return new ThreadPoolExecutor(
        0,
        Integer.MAX_VALUE,
        IDLE_SECONDS,
        TimeUnit.SECONDS,
        new SynchronousQueue<>(),
        work -> daemon(name + "-" + number.incrementAndGet(), work));
  }

  static Thread daemon(String name, Runnable work) {
    Thread thread = new Thread(work, name);
    thread.setDaemon(true);
    return thread;
  }
}
