// SPDX-License-Identifier: Apache-2.0
package io.millrace.examples;

import io.millrace.BatchSpec;
import io.millrace.Batches;
import io.millrace.Chain;
import io.millrace.ChainSpec;
import io.millrace.Client;
import io.millrace.Created;
import io.millrace.Job;
import io.millrace.JobSpec;
import io.millrace.Priority;
import io.millrace.ScheduleSpec;
import io.millrace.UniqueKey;
import java.time.Duration;
import java.time.ZoneId;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** The five levels, from the producer's side. */
public final class Producing {
  private final Client client;

  /** Uses that client. */
  public Producing(Client client) {
    this.client = client;
  }

  /** Level 1: soon. */
  public Job simple() {
    Created created = client.create("send_email", Map.of("to", "a@example.org", "subject", "Welcome"));
    Job job = client.waitFor(created.id(), Duration.ofSeconds(30));
    System.out.println(job.state() + " " + job.result(Map.class));
    return job;
  }

  /** Level 2: later, and otherwise. */
  public Created delayed(String userId) {
    return client.create(
        JobSpec.builder("send_reminder")
            .payload(Map.of("user", userId))
            .queue("emails")
            .priority(Priority.LOW)
            .delay(Duration.ofDays(3))
            .uniqueKey(UniqueKey.of("reminder:" + userId).orReturnExisting())
            .build());
  }

  /** Level 3: again and again. */
  public void scheduled() {
    JobSpec report = JobSpec.builder("daily_report").queue("reports").build();
    JobSpec cleanUp = JobSpec.of("clean_up");
    client.schedules()
        .declare(
            "my-application",
            List.of(
                ScheduleSpec.cron("daily-report", "0 6 * * MON-FRI", report).zone(ZoneId.of("Europe/Berlin")).build(),
                ScheduleSpec.every("clean-up", Duration.ofHours(1), cleanUp).build()),
            true); // what the application no longer declares is deleted
  }

  /** Level 4: one after the other. */
  public Chain chained(String order) {
    return client.chains()
        .create(
            ChainSpec.builder()
                .step(JobSpec.of("charge_card", Map.of("order", order)))
                .step(JobSpec.builder("ship").payload(Map.of("order", order)).wantsPreviousResult().build())
                .onFailure(JobSpec.of("release_stock", Map.of("order", order)))
                .build());
  }

  /** Level 5: many, counted together. */
  public Batches.Submission batched(Stream<String> recipients) {
    BatchSpec newsletter =
        BatchSpec.builder()
            .description("newsletter of May")
            .defaults(JobSpec.builder("send_newsletter").priority(Priority.LOW).build())
            .onComplete(JobSpec.of("report_newsletter"))
            .build();
    return client.batches()
        .submit(newsletter, recipients.map(to -> JobSpec.defaults().kwarg("to", to).build()).iterator(), 1000);
  }
}
