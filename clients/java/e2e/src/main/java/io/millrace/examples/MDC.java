// SPDX-License-Identifier: Apache-2.0
package io.millrace.examples;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Stands for the diagnostic context of a logging library. */
final class MDC {
  private static final Map<String, String> VALUES = new ConcurrentHashMap<>();

  private MDC() {}

  static void put(String key, String value) {
    VALUES.put(key + Thread.currentThread().getId(), value);
  }

  static void remove(String key) {
    VALUES.remove(key + Thread.currentThread().getId());
  }
}
