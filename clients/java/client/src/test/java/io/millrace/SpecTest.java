// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Map;
import java.util.UUID;
import org.junit.jupiter.api.Test;

final class SpecTest {
  private final SpecWriter writer = new SpecWriter(new Encoding(Json.mapper(), null), new Routes(Map.of()));

  @Test
  void everyCreateHasAnIdOfItsOwnUnlessTheSpecHasOne() {
    JobSpec plain = JobSpec.of("t");
    String first = writer.job(plain, NoTelemetry.INSTANCE).getId();
    String second = writer.job(plain, NoTelemetry.INSTANCE).getId();
    assertThat(first).isNotEqualTo(second);
    assertThat(UUID.fromString(first).version()).isEqualTo(7);
    assertThat(UUID.fromString(first).variant()).isEqualTo(2);
    JobSpec own = JobSpec.builder("t").id("0198c1de-0000-7000-8000-000000000001").build();
    assertThat(writer.job(own, NoTelemetry.INSTANCE).getId()).isEqualTo("0198c1de-0000-7000-8000-000000000001");
    assertThat(writer.template(plain).getId()).isEmpty();
  }

  @Test
  void aPayloadThatCantBeEncodedOrIsTooBigNamesTheField() {
    assertThatThrownBy(() -> writer.job(JobSpec.of("t", Map.of("x", Double.NaN)), NoTelemetry.INSTANCE))
        .isInstanceOfSatisfying(InvalidArgumentException.class, refused -> assertThat(refused.field()).isEqualTo("payload.x"));
    assertThatThrownBy(() -> writer.job(JobSpec.of("t", new byte[(2 << 20) + 1]), NoTelemetry.INSTANCE))
        .isInstanceOfSatisfying(InvalidArgumentException.class, refused -> assertThat(refused.field()).isEqualTo("payload"));
    assertThatThrownBy(() -> JobSpec.builder("t").payload(1).args(2).build()).isInstanceOf(InvalidArgumentException.class);
  }

  @Test
  void prioritiesAreNumbersForPeople() {
    assertThat(Priority.of(8)).isEqualTo(Priority.HIGH);
    assertThatThrownBy(() -> Priority.of(7)).isInstanceOf(InvalidArgumentException.class).hasMessageContaining("8 (HIGH)");
  }

  @Test
  void addressesThatAreNoneAreRefused() {
    assertThatThrownBy(() -> Client.builder().address("nonsense").build()).isInstanceOf(InvalidArgumentException.class);
  }
}
