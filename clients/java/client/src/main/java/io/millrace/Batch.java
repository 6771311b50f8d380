// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/** A batch as it was when the server answered. */
public final class Batch {
  private final io.millrace.proto.v1.Batch message;
  private final List<Batches.Refused> refused;

  Batch(io.millrace.proto.v1.Batch message) {
    this(message, List.of());
  }

  Batch(io.millrace.proto.v1.Batch message, List<Batches.Refused> refused) {
    this.message = message;
    this.refused = List.copyOf(refused);
  }

  /** UUID. */
  public String id() {
    return message.getId();
  }

  /** How it stands. */
  public BatchState state() {
    return Convert.constant(BatchState.class, "BATCH_STATE_", message.getState(), BatchState.UNKNOWN);
  }

  /** For people. */
  public String description() {
    return message.getDescription();
  }

  /** Members so far. */
  public int total() {
    return message.getTotal();
  }

  /** Members that have not ended. */
  public int pending() {
    return message.getPending();
  }

  /** Members that succeeded. */
  public int succeeded() {
    return message.getSucceeded();
  }

  /** Members that failed. */
  public int failed() {
    return message.getFailed();
  }

  /** Members that were cancelled. */
  public int cancelled() {
    return message.getCancelled();
  }

  /** Members that expired. */
  public int expired() {
    return message.getExpired();
  }

  /** The last chunk that was taken. */
  public int lastChunk() {
    return message.getLastChunk();
  }

  /** When it was created. */
  public Instant createdAt() {
    return Convert.fromTimestamp(message.getCreatedAt());
  }

  /** When it ended. */
  public Optional<Instant> finishedAt() {
    return Convert.time(message.hasFinishedAt(), message.getFinishedAt());
  }

  /** The job that was created because all members succeeded. */
  public Optional<String> onSuccessJobId() {
    return Convert.text(message.getOnSuccessJobId());
  }

  /** The job that was created because the batch ended. */
  public Optional<String> onCompleteJobId() {
    return Convert.text(message.getOnCompleteJobId());
  }

  /** Of the create that this answers: items that are no members. Empty in all other answers, and when the batch was there already. */
  public List<Batches.Refused> refused() {
    return refused;
  }

  @Override
  public String toString() {
    return "batch " + id() + " (" + state() + ", " + pending() + " of " + total() + " to go)";
  }
}
