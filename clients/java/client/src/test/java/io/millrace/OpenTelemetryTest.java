// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import io.millrace.proto.v1.Delivery;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.sdk.testing.junit5.OpenTelemetryExtension;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.data.StatusData;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

final class OpenTelemetryTest {
  @RegisterExtension static final OpenTelemetryExtension SDK = OpenTelemetryExtension.create();

  @Test
  void aRunIsLinkedToItsCreate() {
    Telemetry telemetry = new OpenTelemetryTelemetry(SDK.getOpenTelemetry());
    Telemetry.Creation creation = telemetry.creating("send_email", "emails", 1);
    creation.end(null);
    Delivery.Builder delivery = Delivery.newBuilder().setJobId("j").setTask("send_email").setQueue("emails").setAttempt(2);
    delivery.setTraceparent(creation.traceparent());
    Telemetry.Run run = telemetry.running(new Execution(null, null, delivery.build()));
    assertThat(Span.current().getSpanContext().isValid()).isTrue();
    run.end("failed", new IllegalStateException("no stock"));
    assertThat(Span.current().getSpanContext().isValid()).isFalse();

    List<SpanData> spans = SDK.getSpans();
    assertThat(spans).extracting(SpanData::getName).containsExactly("create send_email", "run send_email");
    assertThat(spans.get(1).getTraceId()).isNotEqualTo(spans.get(0).getTraceId());
    assertThat(spans.get(1).getLinks()).hasSize(1);
    assertThat(spans.get(1).getLinks().get(0).getSpanContext().getSpanId()).isEqualTo(spans.get(0).getSpanId());
    assertThat(spans.get(1).getStatus()).isEqualTo(StatusData.error());
    assertThat(creation.traceparent()).contains(spans.get(0).getTraceId());
  }
}
