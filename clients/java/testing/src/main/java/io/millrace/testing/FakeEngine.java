// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.millrace.proto.v1.Failed;
import io.millrace.proto.v1.JobError;
import io.millrace.proto.v1.JobFilter;
import io.millrace.proto.v1.JobSpec;
import io.millrace.proto.v1.JobState;
import io.millrace.proto.v1.Report;
import io.millrace.proto.v1.UniqueRule;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** The fake's jobs and clock. Every method holds the one lock; who waits for a change waits on it. */
final class FakeEngine {
  private static final Pattern NAME = Pattern.compile("[A-Za-z0-9._:/-]{1,128}");
  private static final Comparator<FakeJob> ORDER =
      Comparator.<FakeJob>comparingInt(job -> -job.priority().getNumber()).thenComparingLong(job -> job.sequence);

  private final Map<String, FakeJob> jobs = new LinkedHashMap<>();
  private final List<Consumer<FakeJob>> endings = new ArrayList<>();
  private Instant now;
  private long sequence;

  FakeEngine(Instant start) {
    now = start;
  }

  /** Called, with the lock, whenever a job has ended. */
  synchronized void onEnd(Consumer<FakeJob> listener) {
    endings.add(listener);
  }

  synchronized Instant now() {
    return now;
  }

  static StatusRuntimeException invalid(String message) {
    return Status.INVALID_ARGUMENT.withDescription(message).asRuntimeException();
  }

  /** What a create made or met. */
  record Made(FakeJob job, boolean existing) {}

  synchronized Made create(JobSpec asked) {
    if (!NAME.matcher(asked.getTask()).matches()) {
      throw invalid("'" + asked.getTask() + "' is not a task's name");
    }
    JobSpec spec = asked.getId().isEmpty() ? asked.toBuilder().setId(UUID.randomUUID().toString()).build() : asked;
    FakeJob existing = jobs.get(spec.getId());
    if (existing != null && existing.spec.equals(spec)) {
      return new Made(existing, true);
    } else if (existing != null) {
      throw Status.ALREADY_EXISTS.withDescription("job " + spec.getId() + " exists with other content").asRuntimeException();
    }
    Optional<FakeJob> holder = holder(spec);
    if (holder.isPresent() && spec.getUniqueKey().getRule() == UniqueRule.UNIQUE_RULE_RETURN_EXISTING) {
      return new Made(holder.get(), true);
    } else if (holder.isPresent()) {
      String message = "job " + holder.get().id() + " holds the unique key '" + spec.getUniqueKey().getKey() + "'";
      throw Status.ALREADY_EXISTS.withDescription(message).asRuntimeException();
    }
    FakeJob job = new FakeJob(spec, now);
    job.sequence = ++sequence;
    jobs.put(job.id(), job);
    start(job);
    return new Made(job, false);
  }

  /** With the lock. Its own delay counts from now. */
  void start(FakeJob job) {
    if (job.spec.hasRunAt()) {
      job.runAt = FakeJob.time(job.spec.getRunAt());
    } else if (job.spec.hasDelay()) {
      job.runAt = now.plus(FakeJob.span(job.spec.getDelay()));
    }
    if (job.spec.hasExpiresAt()) {
      job.expiresAt = FakeJob.time(job.spec.getExpiresAt());
    } else if (job.spec.hasExpiresIn()) {
      job.expiresAt = now.plus(FakeJob.span(job.spec.getExpiresIn()));
    }
    job.state = job.runAt.isAfter(now) ? JobState.JOB_STATE_SCHEDULED : JobState.JOB_STATE_PENDING;
    notifyAll();
  }

  private Optional<FakeJob> holder(JobSpec spec) {
    if (!spec.hasUniqueKey()) {
      return Optional.empty();
    }
    String queue = new FakeJob(spec, now).queue();
    return jobs.values().stream()
        .filter(job -> job.spec.getUniqueKey().getKey().equals(spec.getUniqueKey().getKey()) && job.queue().equals(queue))
        .filter(job -> holdsKey(job))
        .findFirst();
  }

  private boolean holdsKey(FakeJob job) {
    return switch (job.spec.getUniqueKey().getScope()) {
      case UNIQUE_SCOPE_WHILE_WAITING -> job.waits();
      case UNIQUE_SCOPE_PERIOD -> job.createdAt.plus(FakeJob.span(job.spec.getUniqueKey().getPeriod())).isAfter(now);
      default -> !job.hasEnded();
    };
  }

  synchronized FakeJob get(String id) {
    FakeJob job = jobs.get(id);
    if (job == null) {
      throw Status.NOT_FOUND.withDescription("there is no job " + id).asRuntimeException();
    }
    return job;
  }

  synchronized List<FakeJob> find(JobFilter filter) {
    return jobs.values().stream().filter(job -> matches(job, filter)).toList();
  }

  private static boolean matches(FakeJob job, JobFilter filter) {
    return (filter.getQueuesCount() == 0 || filter.getQueuesList().contains(job.queue()))
        && (filter.getTasksCount() == 0 || filter.getTasksList().contains(job.spec.getTask()))
        && (filter.getStatesCount() == 0 || filter.getStatesList().contains(job.state))
        && (filter.getPrioritiesCount() == 0 || filter.getPrioritiesList().contains(job.priority()))
        && (filter.getIdsCount() == 0 || filter.getIdsList().contains(job.id()))
        && job.spec.getLabelsMap().entrySet().containsAll(filter.getLabelsMap().entrySet())
        && (filter.getBatchId().isEmpty() || filter.getBatchId().equals(job.batchId))
        && (filter.getChainId().isEmpty() || filter.getChainId().equals(job.chainId))
        && (filter.getScheduleName().isEmpty() || filter.getScheduleName().equals(job.scheduleName));
  }

  // ---- time ----

  /** When something is due next, if anything is. */
  synchronized Optional<Instant> nextDue() {
    return jobs.values().stream()
        .flatMap(job -> isTimed(job) ? java.util.stream.Stream.of(job.runAt) : java.util.stream.Stream.empty())
        .min(Comparator.naturalOrder());
  }

  private static boolean isTimed(FakeJob job) {
    return job.state == JobState.JOB_STATE_SCHEDULED || job.state == JobState.JOB_STATE_RETRYING;
  }

  /** The clock goes to that time: what is due becomes ready, what is too late expires. */
  synchronized void goTo(Instant time) {
    now = time.isAfter(now) ? time : now;
    for (FakeJob job : List.copyOf(jobs.values())) {
      if (job.waits() && !job.wasStarted && job.expiresAt != null && !job.expiresAt.isAfter(now)) {
        end(job, JobState.JOB_STATE_EXPIRED);
      } else if (isTimed(job) && !job.runAt.isAfter(now)) {
        job.state = JobState.JOB_STATE_PENDING;
      }
    }
    notifyAll();
  }

  /** The job that goes first among those that can be run. */
  synchronized Optional<FakeJob> nextReady(java.util.function.Predicate<FakeJob> canRun) {
    return jobs.values().stream().filter(job -> job.state == JobState.JOB_STATE_PENDING).filter(canRun).min(ORDER);
  }

  // ---- what happens to a job ----

  synchronized void lease(FakeJob job) {
    job.state = JobState.JOB_STATE_RUNNING;
    job.deliveries++;
    job.startedAt = now;
    job.wasStarted = true;
    notifyAll();
  }

  synchronized void report(Report report) {
    FakeJob job = jobs.get(report.getJobId());
    if (job == null || job.state != JobState.JOB_STATE_RUNNING || job.deliveries != report.getDelivery()) {
      return;
    }
    switch (report.getEventCase()) {
      case PROGRESS -> job.progress = report.getProgress();
      case LOG -> job.log.addAll(report.getLog().getLinesList());
      case SUCCEEDED -> {
        job.attempts++;
        job.result = report.getSucceeded().hasResult() ? report.getSucceeded().getResult() : null;
        job.omitted = report.getSucceeded().getResultOmittedReason();
        job.error = null;
        end(job, JobState.JOB_STATE_SUCCEEDED);
      }
      case FAILED -> failed(job, report.getFailed());
      case SNOOZED -> later(job, JobState.JOB_STATE_SCHEDULED, FakeJob.span(report.getSnoozed().getDelay()));
      case RELEASED -> later(job, JobState.JOB_STATE_SCHEDULED, Duration.ofSeconds(5));
      default -> job.startedAt = now;
    }
    notifyAll();
  }

  private void failed(FakeJob job, Failed failed) {
    job.attempts++;
    job.error = failed.getError();
    int limit = failed.getMaxAttempts() > 0 ? failed.getMaxAttempts() : job.maxAttempts();
    if (job.cancelRequested || failed.getCancelled()) {
      end(job, JobState.JOB_STATE_CANCELLED);
    } else if (failed.getPermanent() || job.attempts >= limit) {
      end(job, JobState.JOB_STATE_FAILED);
    } else {
      later(job, JobState.JOB_STATE_RETRYING, failed.hasRetryAfter() ? FakeJob.span(failed.getRetryAfter()) : job.backoff());
    }
  }

  private void later(FakeJob job, JobState state, Duration delay) {
    if (job.cancelRequested) {
      end(job, JobState.JOB_STATE_CANCELLED);
      return;
    }
    job.state = state;
    job.runAt = now.plus(delay);
    if (delay.isZero()) {
      job.state = JobState.JOB_STATE_PENDING;
    }
  }

  /** True: it had not ended. */
  synchronized boolean cancel(FakeJob job, String reason) {
    if (job.hasEnded()) {
      return false;
    }
    if (job.state == JobState.JOB_STATE_RUNNING) {
      job.cancelRequested = true;
    } else {
      job.error = JobError.newBuilder().setType("CANCELLED").setMessage(reason.isEmpty() ? "cancelled by a caller" : reason).build();
      end(job, JobState.JOB_STATE_CANCELLED);
    }
    notifyAll();
    return true;
  }

  synchronized void retry(FakeJob job) {
    if (!job.hasEnded() || job.state == JobState.JOB_STATE_SUCCEEDED) {
      throw Status.FAILED_PRECONDITION.withDescription("job " + job.id() + " is " + job.state).asRuntimeException();
    }
    job.generation++;
    job.attempts = 0;
    job.expiresAt = null;
    job.finishedAt = null;
    job.cancelRequested = false;
    job.state = JobState.JOB_STATE_PENDING;
    notifyAll();
  }

  private void end(FakeJob job, JobState state) {
    job.state = state;
    job.finishedAt = now;
    List.copyOf(endings).forEach(listener -> listener.accept(job));
    notifyAll();
  }

  /** Waits, in real time, for a change that makes the condition true. False: the time is over. */
  synchronized boolean await(BooleanSupplier condition, Duration atMost) {
    long end = System.nanoTime() + atMost.toNanos();
    while (!condition.getAsBoolean()) {
      long left = end - System.nanoTime();
      if (left <= 0) {
        return false;
      }
      try {
        java.util.concurrent.TimeUnit.NANOSECONDS.timedWait(this, left);
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        return false;
      }
    }
    return true;
  }
}
