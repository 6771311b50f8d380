// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import static org.assertj.core.api.Assertions.assertThat;

import io.millrace.proto.v1.Failed;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.junit.jupiter.api.Test;

final class FailuresTest {
  /** An exception as bad as a user's can be. */
  private static final class Broken extends RuntimeException {
    private static final long serialVersionUID = 1L;

    @Override
    public String getMessage() {
      throw new IllegalStateException("no message");
    }
  }

  @Test
  void anExceptionTellsItsTypeMessageAndTrace() {
    Failed failed = Failures.of(new IllegalStateException("no stock"), 16384).build();
    assertThat(failed.getError().getType()).isEqualTo("java.lang.IllegalStateException");
    assertThat(failed.getError().getMessage()).isEqualTo("no stock");
    assertThat(failed.getError().getTrace()).contains("at io.millrace.FailuresTest.");
    assertThat(failed.getPermanent()).isFalse();
    assertThat(failed.hasRetryAfter()).isFalse();
  }

  @Test
  void adviceIsTakenAndTheCauseIsTold() {
    Failed permanent = Failures.of(new PermanentException("give up", new IllegalStateException("no such user")), 16384).build();
    assertThat(permanent.getPermanent()).isTrue();
    assertThat(permanent.getError().getMessage()).isEqualTo("no such user");
    Failed later = Failures.of(new RetryLaterException(Duration.ofMillis(1500), "busy"), 16384).build();
    assertThat(Convert.fromDuration(later.getRetryAfter())).isEqualTo(Duration.ofMillis(1500));
    assertThat(later.getError().getMessage()).isEqualTo("busy");
  }

  @Test
  void anExceptionThatThrowsIsAFailureAllTheSame() {
    assertThat(Failures.of(new Broken(), 16384).getError().getMessage()).contains("no message");
  }

  @Test
  void textIsCutAtAWholeCharacter() {
    String cut = Failures.cut("é".repeat(1000), 101);
    assertThat(cut.getBytes(StandardCharsets.UTF_8)).hasSize(100);
    assertThat(cut).doesNotContain("\ufffd");
    assertThat(Failures.cut("short", 100)).isEqualTo("short");
  }
}
