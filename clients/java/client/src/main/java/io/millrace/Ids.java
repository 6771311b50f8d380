// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/** Ids of jobs, chains and batches. */
final class Ids {
  private static final int COUNTER_BITS = 12;

  /** Milliseconds, then a counter. */
  private static final AtomicLong LAST = new AtomicLong();

  private Ids() {}

  /**
   * A UUID of version 7: time in milliseconds, then a counter (RFC 9562, section 6.2, method 1), then chance. Ids rise within the
   * process, so that what is made together lies together in the store: jobs of random order cost the server a quarter more.
   */
  static String make() {
    long now = System.currentTimeMillis() << COUNTER_BITS;
    long time = LAST.updateAndGet(last -> Math.max(last + 1, now));
    long counter = time & ((1 << COUNTER_BITS) - 1);
    long high = time >>> COUNTER_BITS << 16 | 0x7000 | counter;
    long low = ThreadLocalRandom.current().nextLong() >>> 2 | Long.MIN_VALUE;
    return new UUID(high, low).toString();
  }

  static String orMake(String id) {
    return id == null || id.isEmpty() ? make() : id;
  }
}
