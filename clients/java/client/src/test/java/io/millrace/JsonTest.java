// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** The rules of docs/json.md. */
final class JsonTest {
  private final Encoding encoding = new Encoding(Json.mapper(), null);

  /** What an application sends. */
  public record Order(long number, BigDecimal price, Instant at, Optional<String> note) {}

  static Stream<Arguments> forms() {
    return Stream.of(
        arguments(true, "true"),
        arguments(Long.MAX_VALUE, "9223372036854775807"),
        arguments(Long.MIN_VALUE, "-9223372036854775808"),
        arguments(new BigInteger("18446744073709551615"), "18446744073709551615"),
        arguments(0.1, "0.1"),
        arguments("Ünï 漢 🚀 \" \\ \n", "\"Ünï 漢 🚀 \\\" \\\\ \\n\""),
        arguments(List.of(1, List.of(2)), "[1,[2]]"),
        arguments(Instant.parse("2026-01-31T12:00:00.250Z"), "\"2026-01-31T12:00:00.250Z\""),
        arguments(OffsetDateTime.of(2026, 1, 31, 12, 0, 0, 0, ZoneOffset.ofHours(2)), "\"2026-01-31T12:00:00+02:00\""),
        arguments(LocalDate.of(2026, 1, 31), "\"2026-01-31\""),
        arguments(new UUID(0, 7), "\"00000000-0000-0000-0000-000000000007\""),
        arguments(new BigDecimal("1.10"), "\"1.10\""),
        arguments(Priority.HIGH, "\"HIGH\""),
        arguments(Map.of(Priority.HIGH, 1), "{\"HIGH\":1}"),
        arguments(
            new Order(1, new BigDecimal("9.90"), Instant.EPOCH, Optional.empty()),
            "{\"number\":1,\"price\":\"9.90\",\"at\":\"1970-01-01T00:00:00Z\",\"note\":null}"));
  }

  @ParameterizedTest
  @MethodSource("forms")
  void valuesHaveOneForm(Object value, String text) throws Encoding.Refused {
    assertThat(encoding.encode(value).json()).contains(text);
  }

  static Stream<Arguments> refused() {
    return Stream.of(
        arguments(Map.of("a", List.of(1, Double.NaN)), ".a[1]"),
        arguments(List.of(Float.POSITIVE_INFINITY), "[0]"),
        arguments(Map.of("a", new double[] {1, Double.NaN}), ".a"),
        arguments(Map.of("n", BigInteger.ONE.shiftLeft(64)), ".n"),
        arguments(Map.of("n", BigInteger.valueOf(Long.MIN_VALUE).subtract(BigInteger.ONE)), ".n"),
        arguments(Map.of("raw", new byte[] {1}), ".raw"),
        arguments(Map.of("when", LocalDateTime.of(2026, 1, 1, 0, 0)), ".when"),
        arguments(Map.of("span", Duration.ofDays(1)), ".span"),
        arguments(Map.of("by", Map.of(1, "number as key")), ".by.1"),
        arguments("\ud800", ""));
  }

  @ParameterizedTest
  @MethodSource("refused")
  void whatHasNoFormIsRefusedNamingThePath(Object value, String path) {
    assertThatThrownBy(() -> encoding.encode(value))
        .isInstanceOfSatisfying(Encoding.Refused.class, refusal -> assertThat(refusal.path()).isEqualTo(path));
  }

  @Test
  void depthHasALimit() throws Encoding.Refused {
    List<Object> deepest = nested(64);
    assertThat(encoding.encode(deepest).json()).contains("[".repeat(64) + "]".repeat(64));
    assertThatThrownBy(() -> encoding.encode(nested(65))).isInstanceOf(Encoding.Refused.class).hasMessageContaining("nesting");
  }

  private static List<Object> nested(int depth) {
    List<Object> value = new ArrayList<>();
    for (int i = 1; i < depth; i++) {
      value = new ArrayList<>(List.of(value));
    }
    return value;
  }

  @Test
  void bytesTravelAsAWholePayload() throws Encoding.Refused {
    Payload payload = encoding.encode(new byte[] {0, (byte) 0xff});
    assertThat(payload.isJson()).isFalse();
    assertThat(encoding.read(payload, byte[].class)).containsExactly(0, 0xff);
    assertThatThrownBy(() -> encoding.read(payload, String.class)).isInstanceOf(InvalidArgumentException.class);
  }

  @Test
  void argumentsOfBothKindsTravelTogether() throws Encoding.Refused {
    Payload both = encoding.encode(JobSpec.builder("t").args(1, "a").kwarg("to", "b").build().payload);
    assertThat(both.contentType()).isEqualTo(Payload.CALL);
    assertThat(encoding.args(both)).isEqualTo(List.of(1, "a"));
    assertThat(encoding.kwargs(both)).isEqualTo(Map.of("to", "b"));
    assertThat(encoding.args(Payload.json("[1]"))).isEqualTo(List.of(1));
    assertThat(encoding.kwargs(Payload.json("[1]"))).isEmpty();
    assertThat(encoding.kwargs(Payload.json("{\"n\":9223372036854775807}"))).isEqualTo(Map.of("n", Long.MAX_VALUE));
    assertThat(encoding.args(Payload.empty())).isEmpty();
  }
}
