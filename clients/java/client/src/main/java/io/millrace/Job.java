// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A job as it was when the server answered. Payload, result and history are there only when asked for (get and wait do). */
public final class Job {
  private final io.millrace.proto.v1.Job message;
  private final List<io.millrace.proto.v1.LogLine> log;
  private final Encoding encoding;

  Job(io.millrace.proto.v1.Job message, Encoding encoding) {
    this(message, List.of(), encoding);
  }

  Job(io.millrace.proto.v1.Job message, List<io.millrace.proto.v1.LogLine> log, Encoding encoding) {
    this.message = message;
    this.log = log;
    this.encoding = encoding;
  }

  /** UUID. */
  public String id() {
    return message.getId();
  }

  /** The handler's name. */
  public String task() {
    return message.getTask();
  }

  /** Where it waits. */
  public String queue() {
    return message.getQueue();
  }

  /** How urgent it is. */
  public Priority priority() {
    return Convert.fromPriority(message.getPriority());
  }

  /** Where it is in its life. */
  public JobState state() {
    return Convert.fromState(message.getState());
  }

  /** Why it does not run yet. */
  public WaitingReason waitingReason() {
    return message.getWaitingReasonValue() == 0
        ? WaitingReason.NONE
        : Convert.constant(WaitingReason.class, "WAITING_REASON_", message.getWaitingReason(), WaitingReason.UNKNOWN);
  }

  /** It runs and was asked to stop. */
  public boolean cancelRequested() {
    return message.getCancelRequested();
  }

  /** 1, and one more for each retry of the ended job. */
  public int generation() {
    return message.getGeneration();
  }

  /** Attempts that count against {@link #maxAttempts()}, in this generation. */
  public int attempts() {
    return message.getAttempts();
  }

  /** The effective limit. */
  public int maxAttempts() {
    return message.getMaxAttempts();
  }

  /** How often it was handed to a worker. */
  public int deliveries() {
    return message.getDeliveries();
  }

  /** How often a worker was lost with it, in this generation. */
  public int lostCount() {
    return message.getLostCount();
  }

  /** When it was created. */
  public Instant createdAt() {
    return Convert.fromTimestamp(message.getCreatedAt());
  }

  /** When it may start, or be tried again. */
  public Optional<Instant> runAt() {
    return Convert.time(message.hasRunAt(), message.getRunAt());
  }

  /** When it expires, if it has not started by then. */
  public Optional<Instant> expiresAt() {
    return Convert.time(message.hasExpiresAt(), message.getExpiresAt());
  }

  /** When its total time-out passes. */
  public Optional<Instant> deadline() {
    return Convert.time(message.hasDeadline(), message.getDeadline());
  }

  /** Start of the running or last attempt. */
  public Optional<Instant> startedAt() {
    return Convert.time(message.hasStartedAt(), message.getStartedAt());
  }

  /** When it ended. */
  public Optional<Instant> finishedAt() {
    return Convert.time(message.hasFinishedAt(), message.getFinishedAt());
  }

  /** What its handler said last, while it runs. */
  public Optional<Progress> progress() {
    return message.hasProgress()
        ? Optional.of(new Progress(message.getProgress().getFraction(), message.getProgress().getMessage()))
        : Optional.empty();
  }

  /** What the producer gave. */
  public Payload payload() {
    return encoding.decode(Convert.fromPayload(message.getPayload()));
  }

  /** What the producer gave, read as that type. */
  public <T> T payload(Class<T> type) {
    return encoding.read(payload(), type);
  }

  /** What the handler returned; empty if nothing, or if the job has not succeeded. */
  public Payload result() {
    return encoding.decode(Convert.fromPayload(message.getResult()));
  }

  /** What the handler returned, read as that type; null if nothing. */
  public <T> T result(Class<T> type) {
    return encoding.read(result(), type);
  }

  /** Why there is no result although the handler returned one. */
  public Optional<String> resultOmittedReason() {
    return Convert.text(message.getResultOmittedReason());
  }

  /** Why it failed, was cancelled or expired, or why the last attempt failed. */
  public Optional<JobError> error() {
    return Convert.fromError(message.hasError(), message.getError());
  }

  /** The last ten deliveries, oldest first. */
  public List<Attempt> history() {
    return message.getHistoryList().stream().map(Job::attempt).toList();
  }

  private static Attempt attempt(io.millrace.proto.v1.Attempt attempt) {
    return new Attempt(
        attempt.getDelivery(),
        attempt.getSessionId(),
        Convert.time(attempt.hasStartedAt(), attempt.getStartedAt()),
        Convert.time(attempt.hasFinishedAt(), attempt.getFinishedAt()),
        Convert.constant(Attempt.Outcome.class, "ATTEMPT_OUTCOME_", attempt.getOutcome(), Attempt.Outcome.UNKNOWN),
        Convert.fromError(attempt.hasError(), attempt.getError()));
  }

  /** Its labels. */
  public Map<String, String> labels() {
    return message.getLabelsMap();
  }

  /** Its unique key. */
  public Optional<String> uniqueKey() {
    return Convert.text(message.getUniqueKey());
  }

  /** Its concurrency key. */
  public Optional<String> concurrencyKey() {
    return Convert.text(message.getConcurrencyKey());
  }

  /** The chain it is a step of. */
  public Optional<String> chainId() {
    return Convert.text(message.getChainId());
  }

  /** Its place in the chain, from 0. */
  public int chainIndex() {
    return message.getChainIndex();
  }

  /** The batch it is a member of. */
  public Optional<String> batchId() {
    return Convert.text(message.getBatchId());
  }

  /** The schedule that made it. */
  public Optional<String> scheduleName() {
    return Convert.text(message.getScheduleName());
  }

  /** The session that runs it or ran it last. */
  public Optional<String> sessionId() {
    return Convert.text(message.getSessionId());
  }

  /** Its log, oldest line first, if it was asked for. */
  public List<LogLine> log() {
    return log.stream().map(line -> new LogLine(Instant.ofEpochMilli(line.getTimeUnixMs()), line.getText(), line.getDelivery())).toList();
  }

  @Override
  public String toString() {
    return "job " + id() + " (" + task() + ", " + state() + ")";
  }
}
