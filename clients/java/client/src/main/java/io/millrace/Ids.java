// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;

/** Ids of jobs, chains and batches. */
final class Ids {
  private Ids() {}

  /** A UUID of version 7: time in milliseconds, then chance, so that neighbours in time are neighbours in the store. */
  static String make() {
    ThreadLocalRandom random = ThreadLocalRandom.current();
    long high = System.currentTimeMillis() << 16 | 0x7000 | random.nextInt(0x1000);
    long low = random.nextLong() >>> 2 | Long.MIN_VALUE;
    return new UUID(high, low).toString();
  }

  static String orMake(String id) {
    return id == null || id.isEmpty() ? make() : id;
  }
}
