// SPDX-License-Identifier: Apache-2.0
package io.millrace.examples;

import static org.assertj.core.api.Assertions.assertThat;

import io.millrace.Chain;
import io.millrace.Created;
import io.millrace.Job;
import io.millrace.JobState;
import io.millrace.testing.FakeMillrace;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The examples do what the README says, and the README shows the examples. */
@Timeout(120)
final class TestingTest {
  @Test
  void aTestOfAnApplication() {
    try (FakeMillrace fake = FakeMillrace.create()) {
      fake.worker(worker -> worker.queue("emails").handle("send_reminder", job -> "sent to " + job.kwargs().get("user")));
      new Producing(fake.client()).delayed("u1");
      fake.assertCount("send_reminder", JobState.SCHEDULED, 1);
      fake.advance(Duration.ofDays(3));
      assertThat(fake.assertCreated("send_reminder").result(String.class)).isEqualTo("sent to u1");
    }
  }

  @Test
  void theWorkerOfTheExample() {
    try (FakeMillrace fake = FakeMillrace.at(Instant.parse("2026-01-02T12:00:00Z"))) {
      fake.worker(worker -> Working.handlers(worker).queue("reports").handle("*", job -> null)).runAtOnce();
      Producing producing = new Producing(fake.client());
      assertThat(producing.simple().result(Map.class)).isEqualTo(Map.of("sent", true));
      Created nowhere = fake.client().create("send_email", new Working.Email("nowhere", "x"));
      Job failed = fake.client().get(nowhere.id());
      assertThat(failed.state()).isEqualTo(JobState.FAILED);
      Created busy = fake.client().create("send_email", new Working.Email("a@example.org", "busy"));
      assertThat(fake.client().get(busy.id()).state()).isEqualTo(JobState.RETRYING);
      fake.advance(Duration.ofSeconds(1));
      assertThat(fake.client().get(busy.id()).state()).isEqualTo(JobState.SUCCEEDED);
      Chain chain = producing.chained("7");
      assertThat(fake.client().chains().get(chain.id()).result(Map.class)).isEqualTo(Map.of("shipped", "r-7"));
      assertThat(producing.batched(Stream.of("a", "b", "c")).refused()).isEmpty();
      fake.assertCreated("report_newsletter");
      producing.scheduled();
      fake.advance(Duration.ofDays(7));
      assertThat(fake.jobs("daily_report")).hasSize(5); // the working days
    }
  }

  @Test
  void theReadmeShowsTheExamples() throws IOException {
    StringBuilder sources = new StringBuilder();
    for (Path folder : new Path[] {Path.of("src/main/java/io/millrace/examples"), Path.of("src/test/java/io/millrace/examples")}) {
      try (Stream<Path> files = Files.list(folder)) {
        for (Path file : files.toList()) {
          sources.append(Files.readString(file));
        }
      }
    }
    String readme = Files.readString(Path.of("../README.md"));
    // The program before that is run as it stands, by ReadmeIT.
    Matcher block = Pattern.compile("(?s)```java\n(.*?)```").matcher(readme.substring(readme.indexOf("## Five levels of jobs")));
    int count = 0;
    while (block.find()) {
      assertThat(sources.toString()).contains(block.group(1));
      count++;
    }
    assertThat(count).isGreaterThan(6);
  }
}
