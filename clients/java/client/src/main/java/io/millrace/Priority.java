// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** How urgent a job is. A CRITICAL job takes the next free slot, whatever else waits. */
public enum Priority {
  /** Work that can wait. */
  LOW(0),
  /** The default. */
  NORMAL(5),
  /** What a person waits for. */
  HIGH(8),
  /** The next free slot, before everything else. */
  CRITICAL(10);

  private final int value;

  Priority(int value) {
    this.value = value;
  }

  /** 0, 5, 8 or 10. */
  public int value() {
    return value;
  }

  /** The priority of that number. */
  public static Priority of(int value) {
    for (Priority priority : values()) {
      if (priority.value == value) {
        return priority;
      }
    }
    throw Errors.invalid("priority", value + " is no priority; there are 0 (LOW), 5 (NORMAL), 8 (HIGH) and 10 (CRITICAL)");
  }
}
