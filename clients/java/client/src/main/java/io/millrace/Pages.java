// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Spliterators;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** A list of the server as a lazy stream: the next page is fetched when it is needed. A page may be empty and not the last. */
final class Pages<T> implements Iterator<T> {
  /** One page. */
  record Page<T>(List<T> items, String nextToken) {}

  private final Function<String, Page<T>> fetch;
  private final Deque<T> items = new ArrayDeque<>();
  private String token = "";
  private boolean isLast;

  private Pages(Function<String, Page<T>> fetch) {
    this.fetch = fetch;
  }

  static <T> Stream<T> stream(Function<String, Page<T>> fetch) {
    return StreamSupport.stream(Spliterators.spliteratorUnknownSize(new Pages<>(fetch), 0), false);
  }

  @Override
  public boolean hasNext() {
    while (items.isEmpty() && !isLast) {
      Page<T> page = fetch.apply(token);
      items.addAll(page.items());
      token = page.nextToken();
      isLast = token.isEmpty();
    }
    return !items.isEmpty();
  }

  @Override
  public T next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    return items.remove();
  }
}
