// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

final class RoutesTest {
  @Test
  void theFirstRuleThatMatchesDecides() {
    Map<String, String> rules = new LinkedHashMap<>();
    rules.put("fraud_check", "urgent");
    rules.put("fraud_*", "fraud");
    rules.put("a.b?", "letters");
    Routes routes = new Routes(rules);
    assertThat(routes.queueOf("fraud_check")).isEqualTo("urgent");
    assertThat(routes.queueOf("fraud_score")).isEqualTo("fraud");
    assertThat(routes.queueOf("a.bc")).isEqualTo("letters");
    assertThat(routes.queueOf("axbc")).isEmpty();
    assertThat(routes.queueOf("not_fraud_check")).isEmpty();
  }

  @Test
  void aQueueNamedInTheSpecOrInTheBatchsDefaultsIsNotRouted() {
    SpecWriter writer = new SpecWriter(new Encoding(Json.mapper(), null), new Routes(Map.of("*", "routed")));
    JobSpec plain = JobSpec.of("t");
    JobSpec named = JobSpec.builder("t").queue("own").build();
    assertThat(writer.job(plain, NoTelemetry.INSTANCE).getQueue()).isEqualTo("routed");
    assertThat(writer.job(named, NoTelemetry.INSTANCE).getQueue()).isEqualTo("own");
    assertThat(writer.member(null, plain, JobSpec.defaults().queue("batch").build(), NoTelemetry.INSTANCE).getQueue()).isEmpty();
    assertThat(writer.member(null, plain, JobSpec.defaults().build(), NoTelemetry.INSTANCE).getQueue()).isEqualTo("routed");
  }
}
