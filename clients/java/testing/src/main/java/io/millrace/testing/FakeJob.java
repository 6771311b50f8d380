// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import io.millrace.proto.v1.Delivery;
import io.millrace.proto.v1.Job;
import io.millrace.proto.v1.JobError;
import io.millrace.proto.v1.JobPriority;
import io.millrace.proto.v1.JobSpec;
import io.millrace.proto.v1.JobState;
import io.millrace.proto.v1.LogLine;
import io.millrace.proto.v1.Payload;
import io.millrace.proto.v1.Progress;
import io.millrace.proto.v1.RetryPolicy;
import io.millrace.proto.v1.View;
import io.millrace.proto.v1.WaitingReason;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;

/** A job of the fake. Guarded by the engine. */
final class FakeJob {
  private static final int MAX_ATTEMPTS = 4;
  private static final java.time.Duration FIRST_DELAY = java.time.Duration.ofSeconds(1);
  private static final java.time.Duration LONGEST_DELAY = java.time.Duration.ofHours(1);

  final JobSpec spec;
  final Instant createdAt;
  JobState state = JobState.JOB_STATE_PENDING;
  long sequence;
  Instant runAt;
  Instant expiresAt;
  Instant startedAt;
  Instant finishedAt;
  int attempts;
  int deliveries;
  int generation = 1;
  boolean cancelRequested;
  boolean wasStarted;
  Payload result;
  String omitted = "";
  JobError error;
  Progress progress;
  final List<LogLine> log = new ArrayList<>();
  String chainId = "";
  int chainIndex;
  String batchId = "";
  String scheduleName = "";
  Payload previousResult;
  RetryPolicy declared = RetryPolicy.getDefaultInstance();

  FakeJob(JobSpec spec, Instant now) {
    this.spec = spec;
    this.createdAt = now;
    this.runAt = now;
  }

  String id() {
    return spec.getId();
  }

  String queue() {
    return spec.getQueue().isEmpty() ? "default" : spec.getQueue();
  }

  JobPriority priority() {
    return spec.getPriority() == JobPriority.JOB_PRIORITY_UNSPECIFIED ? JobPriority.JOB_PRIORITY_NORMAL : spec.getPriority();
  }

  boolean hasEnded() {
    return state.getNumber() >= JobState.JOB_STATE_SUCCEEDED_VALUE;
  }

  boolean waits() {
    return !hasEnded() && state != JobState.JOB_STATE_RUNNING;
  }

  int maxAttempts() {
    int own = spec.getRetryPolicy().getMaxAttempts();
    int worker = declared.getMaxAttempts();
    return own > 0 ? own : worker > 0 ? worker : MAX_ATTEMPTS;
  }

  /** The delay after the attempts so far, without jitter: a test wants to know it. */
  java.time.Duration backoff() {
    RetryPolicy policy = spec.hasRetryPolicy() ? spec.getRetryPolicy() : declared;
    java.time.Duration initial = policy.hasInitial() ? span(policy.getInitial()) : FIRST_DELAY;
    double multiplier = policy.getMultiplier() > 0 ? policy.getMultiplier() : 2;
    java.time.Duration longest = policy.hasMax() ? span(policy.getMax()) : LONGEST_DELAY;
    java.time.Duration delay =
        switch (policy.getKind()) {
          case BACKOFF_KIND_LINEAR -> initial.multipliedBy(attempts);
          case BACKOFF_KIND_CONSTANT -> initial;
          case BACKOFF_KIND_LIST -> span(policy.getDelays(Math.min(attempts, policy.getDelaysCount()) - 1));
          default -> java.time.Duration.ofNanos((long) (initial.toNanos() * Math.pow(multiplier, attempts - 1)));
        };
    return delay.compareTo(longest) > 0 ? longest : delay;
  }

  Delivery delivery() {
    Delivery.Builder delivery = Delivery.newBuilder().setJobId(id()).setDelivery(deliveries).setTask(spec.getTask()).setQueue(queue());
    delivery.setPriority(priority()).setPayload(spec.getPayload()).setAttempt(attempts + 1).setMaxAttempts(maxAttempts());
    delivery.setCreatedAt(stamp(createdAt)).setTraceparent(spec.getTraceparent()).setTracestate(spec.getTracestate());
    if (previousResult != null && spec.getWantsPreviousResult()) {
      delivery.setPreviousResult(previousResult);
    }
    return delivery.putAllLabels(spec.getLabelsMap()).setChainId(chainId).setBatchId(batchId).build();
  }

  Job message(View view) {
    Job.Builder job = Job.newBuilder().setId(id()).setTask(spec.getTask()).setQueue(queue()).setPriority(priority()).setState(state);
    job.setCancelRequested(cancelRequested).setGeneration(generation).setAttempts(attempts).setMaxAttempts(maxAttempts());
    job.setDeliveries(deliveries).setCreatedAt(stamp(createdAt)).setRunAt(stamp(runAt)).setResultOmittedReason(omitted);
    job.putAllLabels(spec.getLabelsMap()).setUniqueKey(spec.getUniqueKey().getKey()).setConcurrencyKey(spec.getConcurrencyKey().getKey());
    job.setChainId(chainId).setChainIndex(chainIndex).setBatchId(batchId).setScheduleName(scheduleName);
    if (state == JobState.JOB_STATE_SCHEDULED) {
      job.setWaitingReason(WaitingReason.WAITING_REASON_SCHEDULED);
    } else if (state == JobState.JOB_STATE_BLOCKED) {
      job.setWaitingReason(WaitingReason.WAITING_REASON_BLOCKED);
    }
    if (expiresAt != null) {
      job.setExpiresAt(stamp(expiresAt));
    }
    if (startedAt != null) {
      job.setStartedAt(stamp(startedAt));
    }
    if (finishedAt != null) {
      job.setFinishedAt(stamp(finishedAt));
    }
    if (progress != null && state == JobState.JOB_STATE_RUNNING) {
      job.setProgress(progress);
    }
    if (error != null) {
      job.setError(error);
    }
    if (view != View.VIEW_BASIC) {
      job.setPayload(spec.getPayload());
      if (result != null) {
        job.setResult(result);
      }
    }
    return job.build();
  }

  static Timestamp stamp(Instant time) {
    return Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()).build();
  }

  static Instant time(Timestamp stamp) {
    return Instant.ofEpochSecond(stamp.getSeconds(), stamp.getNanos());
  }

  static java.time.Duration span(Duration duration) {
    return java.time.Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }
}
