// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.AddBatchItemsRequest;
import io.millrace.proto.v1.BatchServiceGrpc;
import io.millrace.proto.v1.CancelBatchRequest;
import io.millrace.proto.v1.CreateBatchRequest;
import io.millrace.proto.v1.CreateOutcome;
import io.millrace.proto.v1.GetBatchRequest;
import io.millrace.proto.v1.ListBatchesRequest;
import io.millrace.proto.v1.SealBatchRequest;
import io.millrace.proto.v1.WaitBatchRequest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import java.util.stream.Stream;

/** Batches: see {@link Client#batches()}. */
public final class Batches {
  private static final int PAGE_SIZE = 500;
  private static final int CHUNK_MAX = 1000;

  private final Rpc rpc;
  private final SpecWriter specs;
  private final Telemetry telemetry;

  Batches(Rpc rpc, SpecWriter specs, Telemetry telemetry) {
    this.rpc = rpc;
    this.specs = specs;
    this.telemetry = telemetry;
  }

  /**
   * What became of a submission.
   *
   * @param batch as it was after the last chunk
   * @param refused items that are no members, each with its number and the reason
   */
  public record Submission(Batch batch, List<Refused> refused) {}

  /**
   * An item that is no member of its batch.
   *
   * @param number its place among all items, from 0: first those of the spec, then those that followed
   * @param id the job's id
   * @param error the reason
   */
  public record Refused(int number, String id, MillraceException error) {}

  /** Creates a batch; its {@link Batch#refused} tells of items that are no members. */
  public Batch create(BatchSpec spec) {
    return Rpc.await(createAsync(spec));
  }

  /** Creates a batch. */
  public CompletableFuture<Batch> createAsync(BatchSpec spec) {
    return traced(spec.defaults == null ? "" : spec.defaults.task, spec.items.size(), creation -> send(request(spec, creation)));
  }

  private CompletableFuture<Batch> send(CreateBatchRequest request) {
    return rpc.call(
        BatchServiceGrpc.getCreateBatchMethod(),
        request,
        Errors.About.OTHER,
        answer -> {
              List<Outcome> outcomes = outcomes(request.getItemsList(), answer.getOutcomesList(), answer.getExisting());
              return new Batch(answer.getBatch(), refused(0, outcomes));
            });
  }

  /** Of a chunk; none, if it was taken before: the server does not keep them. */
  private static List<Outcome> outcomes(
      List<io.millrace.proto.v1.JobSpec> items, List<CreateOutcome> answered, boolean wasTakenBefore) {
    return wasTakenBefore ? List.of() : Coalescer.outcomes(items, answered);
  }

  private static List<Refused> refused(int first, List<Outcome> outcomes) {
    List<Refused> refused = new ArrayList<>();
    for (int i = 0; i < outcomes.size(); i++) {
      Outcome outcome = outcomes.get(i);
      int number = first + i;
      outcome.error().ifPresent(error -> refused.add(new Refused(number, outcome.id(), error)));
    }
    return refused;
  }

  /** A create within a span; what can't be written fails the future. */
  private <T> CompletableFuture<T> traced(String task, int jobs, Function<Telemetry.Creation, CompletableFuture<T>> create) {
    Telemetry.Creation creation = telemetry.creating(task, "", jobs);
    CompletableFuture<T> call;
    try {
      call = create.apply(creation);
    } catch (MillraceException refused) {
      call = CompletableFuture.failedFuture(refused);
    }
    return Rpc.traced(call, creation);
  }

  private CreateBatchRequest request(BatchSpec spec, Telemetry.Creation creation) {
    var request = CreateBatchRequest.newBuilder().setId(Ids.orMake(spec.id)).setDescription(spec.description).setSeal(spec.seal);
    if (spec.defaults != null) {
      request.setDefaults(specs.template(spec.defaults));
    }
    if (spec.onSuccess != null) {
      request.setOnSuccess(specs.template(spec.onSuccess));
    }
    if (spec.onComplete != null) {
      request.setOnComplete(specs.template(spec.onComplete));
    }
    spec.items.forEach(item -> request.addItems(specs.member(spec.id, item, spec.defaults, creation)));
    return request.build();
  }

  /**
   * Adds a chunk of up to 1,000 items; chunks are numbered 1, 2, … over the batch's life. A chunk whose number was taken before changes
   * nothing, and is answered without outcomes, which the server does not keep: who needs the ids gives the items ids, or lists the
   * batch's jobs.
   */
  public List<Outcome> add(String id, int chunk, List<JobSpec> items, boolean last) {
    return Rpc.await(addAsync(id, chunk, items, last));
  }

  /** Adds a chunk. */
  public CompletableFuture<List<Outcome>> addAsync(String id, int chunk, List<JobSpec> items, boolean last) {
    String task = items.isEmpty() ? "" : items.get(0).task;
    return traced(
        task,
        items.size(),
        creation -> send(id, chunk, items.stream().map(item -> specs.member(null, item, null, creation)).toList(), last));
  }

  private CompletableFuture<List<Outcome>> send(String id, int chunk, List<io.millrace.proto.v1.JobSpec> items, boolean last) {
    var request = AddBatchItemsRequest.newBuilder().setBatchId(id).setChunk(chunk).addAllItems(items).setLast(last).build();
    return rpc.callStream(
        BatchServiceGrpc.getAddBatchItemsMethod(),
        request,
        Errors.About.OTHER,
        answer -> outcomes(items, answer.getOutcomesList(), answer.getRepeatedChunk()));
  }

  /**
   * Creates a batch and fills it with as many items as there are, chunk by chunk, then seals it. Members start at once. Items can
   * come from a database cursor: no more than a chunk is in memory.
   */
  public Submission submit(BatchSpec spec, Iterator<JobSpec> items, int chunkSize) {
    if (chunkSize < 1 || chunkSize > CHUNK_MAX) {
      throw Errors.invalid("chunk_size", "a chunk has 1 to " + CHUNK_MAX + " items, not " + chunkSize);
    }
    Telemetry.Creation creation = telemetry.creating(spec.defaults == null ? "" : spec.defaults.task, "", 1);
    try {
      Submission submission = fill(spec, items, chunkSize, creation);
      creation.end(null);
      return submission;
    } catch (RuntimeException failure) {
      creation.end(failure);
      throw failure;
    }
  }

  private Submission fill(BatchSpec spec, Iterator<JobSpec> items, int chunkSize, Telemetry.Creation creation) {
    Batch created = create(spec);
    String id = created.id();
    int chunk = spec.items.isEmpty() ? 0 : 1;
    int number = spec.items.size();
    List<Refused> refused = new ArrayList<>(created.refused());
    List<io.millrace.proto.v1.JobSpec> messages = new ArrayList<>();
    while (items.hasNext()) {
      messages.add(specs.member(spec.id, items.next(), spec.defaults, creation));
      if (messages.size() == chunkSize || !items.hasNext()) {
        for (List<io.millrace.proto.v1.JobSpec> group : Coalescer.groups(messages, chunkSize)) {
          refused.addAll(refused(number, Rpc.await(send(id, ++chunk, group, false))));
          number += group.size();
        }
        messages.clear();
      }
    }
    return new Submission(seal(id), refused);
  }

  /** No more items: the batch ends when its members have. */
  public Batch seal(String id) {
    return Rpc.await(sealAsync(id));
  }

  /** No more items. */
  public CompletableFuture<Batch> sealAsync(String id) {
    return rpc.call(
        BatchServiceGrpc.getSealBatchMethod(),
        SealBatchRequest.newBuilder().setId(id).build(),
        Errors.About.OTHER,
        answer -> new Batch(answer.getBatch()));
  }

  /** One batch. */
  public Batch get(String id) {
    return Rpc.await(getAsync(id));
  }

  /** One batch. */
  public CompletableFuture<Batch> getAsync(String id) {
    return rpc.call(
        BatchServiceGrpc.getGetBatchMethod(),
        GetBatchRequest.newBuilder().setId(id).build(),
        Errors.About.OTHER,
        answer -> new Batch(answer.getBatch()));
  }

  /** Waits until the batch has ended, however it ended. */
  public Batch waitFor(String id, Duration timeout) {
    return Rpc.await(waitForAsync(id, timeout));
  }

  /** Waits until the batch has ended; a null time-out: as long as it takes. */
  public CompletableFuture<Batch> waitForAsync(String id, Duration timeout) {
    return Waits.until(
        "batch " + id,
        timeout,
        slice -> {
          WaitBatchRequest request = WaitBatchRequest.newBuilder().setId(id).setTimeout(Convert.toDuration(slice)).build();
          return rpc.call(
              BatchServiceGrpc.getWaitBatchMethod(),
              request,
              slice.plus(rpc.timeout()),
              Errors.About.OTHER,
              answer -> new Waits.Answer<>(new Batch(answer.getBatch()), answer.getTimedOut()));
        });
  }

  /** All batches, page by page as the stream is read. */
  public Stream<Batch> list() {
    return Pages.stream(
        token -> {
          ListBatchesRequest request = ListBatchesRequest.newBuilder().setPageSize(PAGE_SIZE).setPageToken(token).build();
          var page = Rpc.await(rpc.call(BatchServiceGrpc.getListBatchesMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getBatchesList().stream().map(Batch::new).toList(), page.getNextPageToken());
        });
  }

  /** Seals the batch and cancels the members that have not ended. */
  public Batch cancel(String id) {
    return Rpc.await(cancelAsync(id, false, ""));
  }

  /** Seals the batch and cancels the members that have not ended, running ones by force if need be. */
  public CompletableFuture<Batch> cancelAsync(String id, boolean terminate, String reason) {
    CancelBatchRequest request = CancelBatchRequest.newBuilder().setId(id).setTerminate(terminate).setReason(reason).build();
    return rpc.call(BatchServiceGrpc.getCancelBatchMethod(), request, Errors.About.OTHER, answer -> new Batch(answer.getBatch()));
  }
}
