// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

final class IdsTest {
  @Test
  void idsAreOfVersion7AndRise() {
    long before = Instant.now().toEpochMilli();
    List<String> ids = Stream.generate(Ids::make).limit(10_000).toList();
    assertThat(ids).isSorted().doesNotHaveDuplicates();
    assertThat(ids).allMatch(id -> UUID.fromString(id).version() == 7 && UUID.fromString(id).variant() == 2);
    assertThat(UUID.fromString(ids.get(0)).getMostSignificantBits() >>> 16).isBetween(before, before + 60_000);
  }

  @Test
  void idsOfAFlowWithAnIdAreLeftToFollowFromIt() {
    SpecWriter writer = new SpecWriter(new Encoding(Json.mapper(), null), new Routes(Map.of()));
    JobSpec open = JobSpec.of("t");
    JobSpec named = JobSpec.builder("t").id(Ids.make()).build();
    assertThat(writer.member("flow", open, null, NoTelemetry.INSTANCE).getId()).isEmpty();
    assertThat(writer.member("flow", named, null, NoTelemetry.INSTANCE).getId()).isEqualTo(named.id);
    assertThat(writer.member(null, open, null, NoTelemetry.INSTANCE).getId()).isNotEmpty();
  }
}
