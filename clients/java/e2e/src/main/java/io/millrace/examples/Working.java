// SPDX-License-Identifier: Apache-2.0
package io.millrace.examples;

import io.millrace.Client;
import io.millrace.PermanentException;
import io.millrace.RetryLaterException;
import io.millrace.RetryPolicy;
import io.millrace.TaskOptions;
import io.millrace.Worker;
import io.millrace.WorkerBuilder;
import java.time.Duration;
import java.util.Map;

/** A worker process. */
public final class Working {
  private Working() {}

  /** The payload of send_email. */
  public record Email(String to, String subject) {}

  /** Runs until SIGTERM. */
  public static void main(String[] arguments) {
    try (Client client = Client.connect()) {
      handlers(Worker.builder(client)).build().run();
    }
  }

  /** The handlers, so that tests can have them too. */
  public static WorkerBuilder handlers(WorkerBuilder worker) {
    return worker
        .queue("default", 5)
        .queue("emails", 1)
        .concurrency(20)
        .handle("send_email", Email.class, retries(), (email, job) -> {
          if (!email.to().contains("@")) {
            throw new PermanentException("'" + email.to() + "' is not an address"); // no use to try again
          }
          if (job.attempt() == 1 && email.subject().equals("busy")) {
            throw new RetryLaterException(Duration.ofMillis(100), "the mail server is busy");
          }
          job.log("sent to " + email.to());
          return Map.of("sent", true);
        })
        .handle("charge_card", job -> Map.of("receipt", "r-" + job.kwargs().get("order")))
        .handle("ship", job -> Map.of("shipped", job.previousResult(Map.class).get("receipt")))
        .handle("export", job -> {
          for (int page = 1; page <= 10; page++) {
            job.throwIfCancelled();
            job.progress(page / 10.0, "page " + page);
          }
          return null;
        })
        .handle("send_newsletter", job -> null)
        .handle("report_newsletter", job -> null)
        .middleware((job, next) -> {
          MDC.put("job", job.jobId()); // such as your logger's
          try {
            return next.handle(job);
          } finally {
            MDC.remove("job");
          }
        });
  }

  private static TaskOptions retries() {
    return TaskOptions.create()
        .retryPolicy(RetryPolicy.builder().maxAttempts(5).exponential(Duration.ofSeconds(2), 3).build())
        .attemptTimeout(Duration.ofMinutes(1));
  }
}
