// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Report;
import io.millrace.proto.v1.Reports;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/**
 * Reports on their way: gathered into numbered messages, kept until the server says that they are durable, sent again with their old
 * numbers on a new connection. What comes while a message is being sent goes out together as the next one.
 *
 * <p>Guarded by the lock of {@link WorkerCore}.
 */
final class Outbox {
  private static final int REPORTS_MAX = 1000;
  private static final int NEWS_BYTES_MAX = 8 << 20;
  private static final int REPORT_OVERHEAD = 8;

  /** Reports that go out as one message. */
  private static final class Chunk {
    final List<Report> reports = new ArrayList<>();
    final List<Execution> finals = new ArrayList<>();
    long seq;
    int bytes;
    int newsBytes;

    Reports message() {
      return Reports.newBuilder().setReportSeq(seq).addAllReports(reports).build();
    }
  }

  private final Deque<Chunk> full = new ArrayDeque<>();
  private final Deque<Chunk> unaccepted = new ArrayDeque<>();
  private final Deque<Chunk> again = new ArrayDeque<>();
  private Chunk filling = new Chunk();
  private long seq;
  private int newsBytes;

  /** A report that ends a delivery: it is held until this has been accepted. */
  void addFinal(Report report, Execution execution, int bytesMax) {
    append(report, bytesMax).finals.add(execution);
  }

  /** The start of a handler. */
  void add(Report report, int bytesMax) {
    append(report, bytesMax);
  }

  /** Progress, a log line. Dropped when too many are unaccepted: a handler must not fill the memory. */
  void addNews(Report report, int bytesMax) {
    int bytes = report.getSerializedSize();
    if (newsBytes + bytes <= NEWS_BYTES_MAX) {
      newsBytes += bytes;
      append(report, bytesMax).newsBytes += bytes;
    }
  }

  private Chunk append(Report report, int bytesMax) {
    int bytes = report.getSerializedSize() + REPORT_OVERHEAD;
    if (!filling.reports.isEmpty() && (filling.reports.size() == REPORTS_MAX || filling.bytes + bytes > bytesMax)) {
      full.add(filling);
      filling = new Chunk();
    }
    filling.reports.add(report);
    filling.bytes += bytes;
    return filling;
  }

  /** The next message, or null. With {@code patient}, what has only begun to gather stays. */
  Reports next(boolean patient) {
    if (!again.isEmpty()) {
      return again.remove().message();
    }
    Chunk chunk = full.poll();
    if (chunk == null && !filling.reports.isEmpty() && !patient) {
      chunk = filling;
      filling = new Chunk();
    }
    if (chunk == null) {
      return null;
    }
    chunk.seq = ++seq;
    unaccepted.add(chunk);
    return chunk.message();
  }

  /** Reports that wait to be sent for the first time. */
  int gathered() {
    return filling.reports.size();
  }

  /** Up to this number all is durable. Answers the deliveries that have ended with it. */
  List<Execution> accepted(long upTo) {
    List<Execution> ended = new ArrayList<>();
    while (!unaccepted.isEmpty() && unaccepted.peek().seq <= upTo) {
      Chunk chunk = unaccepted.remove();
      newsBytes -= chunk.newsBytes;
      ended.addAll(chunk.finals);
    }
    while (!again.isEmpty() && again.peek().seq <= upTo) {
      again.remove();
    }
    return ended;
  }

  /** On a new connection: what was not accepted goes out again. */
  void restart() {
    again.clear();
    again.addAll(unaccepted);
  }

  /** The session is gone, and the reports with it. */
  void forget() {
    full.clear();
    unaccepted.clear();
    again.clear();
    filling = new Chunk();
    seq = 0;
    newsBytes = 0;
  }

  boolean isEmpty() {
    return filling.reports.isEmpty() && full.isEmpty() && unaccepted.isEmpty();
  }
}
