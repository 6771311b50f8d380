// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** At most {@code limit} jobs of a queue with this key run at a time. */
public record ConcurrencyKey(String key, int limit) {}
