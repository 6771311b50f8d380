// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.CancelChainRequest;
import io.millrace.proto.v1.ChainServiceGrpc;
import io.millrace.proto.v1.CreateChainRequest;
import io.millrace.proto.v1.GetChainRequest;
import io.millrace.proto.v1.ListChainsRequest;
import io.millrace.proto.v1.WaitChainRequest;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/** Chains: see {@link Client#chains()}. */
public final class Chains {
  private static final int PAGE_SIZE = 500;

  private final Rpc rpc;
  private final SpecWriter specs;
  private final Encoding encoding;
  private final Telemetry telemetry;

  Chains(Rpc rpc, SpecWriter specs, Encoding encoding, Telemetry telemetry) {
    this.rpc = rpc;
    this.specs = specs;
    this.encoding = encoding;
    this.telemetry = telemetry;
  }

  /** Creates a chain. */
  public Chain create(ChainSpec spec) {
    return Rpc.await(createAsync(spec));
  }

  /** Creates a chain. */
  public CompletableFuture<Chain> createAsync(ChainSpec spec) {
    CreateChainRequest.Builder request = CreateChainRequest.newBuilder().setId(Ids.orMake(spec.id));
    Telemetry.Creation creation = telemetry.creating(spec.steps.isEmpty() ? "" : spec.steps.get(0).task, "", spec.steps.size());
    try {
      spec.steps.forEach(step -> request.addSteps(specs.member(spec.id, step, null, creation)));
      if (spec.onFailure != null) {
        request.setOnFailure(specs.template(spec.onFailure));
      }
    } catch (MillraceException refused) {
      creation.end(refused);
      return CompletableFuture.failedFuture(refused);
    }
    CompletableFuture<Chain> call =
        rpc.call(
            ChainServiceGrpc.getCreateChainMethod(),
            request.build(),
            Errors.About.OTHER,
            answer -> new Chain(answer.getChain(), encoding));
    return Rpc.traced(call, creation);
  }

  /** One chain. */
  public Chain get(String id) {
    return Rpc.await(getAsync(id));
  }

  /** One chain. */
  public CompletableFuture<Chain> getAsync(String id) {
    return rpc.call(
        ChainServiceGrpc.getGetChainMethod(),
        GetChainRequest.newBuilder().setId(id).build(),
        Errors.About.OTHER,
        answer -> new Chain(answer.getChain(), encoding));
  }

  /** Waits until the chain has ended, however it ended. */
  public Chain waitFor(String id, Duration timeout) {
    return Rpc.await(waitForAsync(id, timeout));
  }

  /** Waits until the chain has ended; a null time-out: as long as it takes. */
  public CompletableFuture<Chain> waitForAsync(String id, Duration timeout) {
    return Waits.until(
        "chain " + id,
        timeout,
        slice -> {
          WaitChainRequest request = WaitChainRequest.newBuilder().setId(id).setTimeout(Convert.toDuration(slice)).build();
          return rpc.call(
              ChainServiceGrpc.getWaitChainMethod(),
              request,
              slice.plus(rpc.timeout()),
              Errors.About.OTHER,
              answer -> new Waits.Answer<>(new Chain(answer.getChain(), encoding), answer.getTimedOut()));
        });
  }

  /** All chains, page by page as the stream is read. */
  public Stream<Chain> list() {
    return Pages.stream(
        token -> {
          ListChainsRequest request = ListChainsRequest.newBuilder().setPageSize(PAGE_SIZE).setPageToken(token).build();
          var page = Rpc.await(rpc.call(ChainServiceGrpc.getListChainsMethod(), request, Errors.About.OTHER));
          return new Pages.Page<>(page.getChainsList().stream().map(one -> new Chain(one, encoding)).toList(), page.getNextPageToken());
        });
  }

  /** Cancels the steps that have not ended. */
  public Chain cancel(String id) {
    return Rpc.await(cancelAsync(id, false, ""));
  }

  /** Cancels the steps that have not ended, the running one by force if need be. */
  public CompletableFuture<Chain> cancelAsync(String id, boolean terminate, String reason) {
    CancelChainRequest request = CancelChainRequest.newBuilder().setId(id).setTerminate(terminate).setReason(reason).build();
    return rpc.call(ChainServiceGrpc.getCancelChainMethod(), request, Errors.About.OTHER, answer -> new Chain(answer.getChain(), encoding));
  }
}
