// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import io.millrace.proto.v1.Delivery;
import io.millrace.proto.v1.LogLine;
import io.millrace.proto.v1.LogLines;
import io.millrace.proto.v1.Report;
import io.millrace.proto.v1.Reports;
import org.junit.jupiter.api.Test;

final class OutboxTest {
  private static final int BYTES_MAX = 1 << 20;

  private final Outbox outbox = new Outbox();

  private static Execution execution(String id) {
    return new Execution(null, null, Delivery.newBuilder().setJobId(id).setDelivery(1).build());
  }

  private static Report report(String id) {
    return Report.newBuilder().setJobId(id).setDelivery(1).build();
  }

  @Test
  void whatGathersGoesOutTogetherAndIsNumberedWithoutAGap() {
    outbox.addFinal(report("a"), execution("a"), BYTES_MAX);
    outbox.addFinal(report("b"), execution("b"), BYTES_MAX);
    Reports first = outbox.next(false);
    outbox.addFinal(report("c"), execution("c"), BYTES_MAX);
    Reports second = outbox.next(false);
    assertThat(first.getReportSeq()).isEqualTo(1);
    assertThat(first.getReportsCount()).isEqualTo(2);
    assertThat(second.getReportSeq()).isEqualTo(2);
    assertThat(outbox.next(false)).isNull();
  }

  @Test
  void whatWasNotAcceptedIsSentAgainWithItsOldNumberBeforeAnythingNew() {
    Execution first = execution("a");
    outbox.addFinal(report("a"), first, BYTES_MAX);
    outbox.next(false);
    outbox.addFinal(report("b"), execution("b"), BYTES_MAX);
    Reports second = outbox.next(false);
    assertThat(outbox.accepted(1)).containsExactly(first);
    outbox.addFinal(report("c"), execution("c"), BYTES_MAX);
    outbox.restart();
    assertThat(outbox.next(false)).isEqualTo(second);
    assertThat(outbox.next(false).getReportSeq()).isEqualTo(3);
    assertThat(outbox.isEmpty()).isFalse();
    assertThat(outbox.accepted(3)).hasSize(2);
    assertThat(outbox.isEmpty()).isTrue();
  }

  @Test
  void aMessageHasAtMostAThousandReportsAndAMebibyte() {
    for (int i = 0; i < 1001; i++) {
      outbox.add(report("job"), BYTES_MAX);
    }
    assertThat(outbox.next(false).getReportsCount()).isEqualTo(1000);
    assertThat(outbox.next(false).getReportsCount()).isEqualTo(1);
    for (int i = 0; i < 3; i++) {
      outbox.add(report("x".repeat(400_000)), BYTES_MAX);
    }
    assertThat(outbox.next(false).getReportsCount()).isEqualTo(2);
    assertThat(outbox.next(false).getReportsCount()).isEqualTo(1);
  }

  @Test
  void logLinesThatNobodyAcceptsDoNotFillTheMemory() {
    Report line = report("job").toBuilder().setLog(LogLines.newBuilder().addLines(LogLine.newBuilder().setText("x".repeat(4000)))).build();
    for (int i = 0; i < 10_000; i++) {
      outbox.addNews(line, BYTES_MAX);
    }
    int sent = 0;
    for (Reports message = outbox.next(false); message != null; message = outbox.next(false)) {
      sent += message.getReportsCount();
    }
    assertThat(sent).isBetween(1000, 3000);
  }
}
