// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/** A chain as it was when the server answered. */
public final class Chain {
  private final io.millrace.proto.v1.Chain message;
  private final Encoding encoding;

  Chain(io.millrace.proto.v1.Chain message, Encoding encoding) {
    this.message = message;
    this.encoding = encoding;
  }

  /** UUID. */
  public String id() {
    return message.getId();
  }

  /** How it stands. */
  public ChainState state() {
    return Convert.constant(ChainState.class, "CHAIN_STATE_", message.getState(), ChainState.UNKNOWN);
  }

  /** The steps' jobs, in order. */
  public List<String> jobIds() {
    return List.copyOf(message.getJobIdsList());
  }

  /** The last step's job: its result is the chain's. */
  public String lastJobId() {
    return message.getJobIds(message.getJobIdsCount() - 1);
  }

  /** Steps that have succeeded. */
  public int succeeded() {
    return message.getSucceeded();
  }

  /** The step at work, or the one that failed, from 0. */
  public int currentStep() {
    return message.getCurrentStep();
  }

  /** Why it failed. */
  public Optional<JobError> error() {
    return Convert.fromError(message.hasError(), message.getError());
  }

  /** The job that was created because it failed. */
  public Optional<String> onFailureJobId() {
    return Convert.text(message.getOnFailureJobId());
  }

  /** When it was created. */
  public Instant createdAt() {
    return Convert.fromTimestamp(message.getCreatedAt());
  }

  /** When it ended. */
  public Optional<Instant> finishedAt() {
    return Convert.time(message.hasFinishedAt(), message.getFinishedAt());
  }

  /** What the last step returned, once it has succeeded. */
  public Payload result() {
    return encoding.decode(Convert.fromPayload(message.getResult()));
  }

  /** What the last step returned, read as that type. */
  public <T> T result(Class<T> type) {
    return encoding.read(result(), type);
  }

  @Override
  public String toString() {
    return "chain " + id() + " (" + state() + ", " + succeeded() + " of " + message.getJobIdsCount() + ")";
  }
}
