// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/** Calls over the one shared channel: every one has a deadline, and every failure is one of ours. */
final class Rpc {
  final ManagedChannel channel;
  private final Duration timeout;

  Rpc(ManagedChannel channel, Duration timeout) {
    this.channel = channel;
    this.timeout = timeout;
  }

  /** Time for a call beyond what the server itself may wait. */
  Duration timeout() {
    return timeout;
  }

  <Q, R> CompletableFuture<R> call(MethodDescriptor<Q, R> method, Q request, Errors.About about) {
    return call(method, request, timeout, about);
  }

  <Q, R> CompletableFuture<R> call(MethodDescriptor<Q, R> method, Q request, Duration deadline, Errors.About about) {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(deadline.toMillis(), TimeUnit.MILLISECONDS);
    ClientCall<Q, R> call = channel.newCall(method, options);
    CompletableFuture<R> future = new CompletableFuture<>();
    ClientCalls.asyncUnaryCall(call, request, new Answer<R>(future, about));
    future.whenComplete(
        (answer, failure) -> {
          if (future.isCancelled()) {
            call.cancel("the caller has left", null);
          }
        });
    return future;
  }

  /** Sends one message on a bidirectional stream and takes its one answer. */
  <Q, R> CompletableFuture<R> callStream(MethodDescriptor<Q, R> method, Q request, Errors.About about) {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(timeout.toMillis(), TimeUnit.MILLISECONDS);
    CompletableFuture<R> future = new CompletableFuture<>();
    StreamObserver<Q> requests = ClientCalls.asyncBidiStreamingCall(channel.newCall(method, options), new Answer<R>(future, about));
    requests.onNext(request);
    requests.onCompleted();
    return future;
  }

  /** The first message is the answer. */
  private final class Answer<R> implements StreamObserver<R> {
    private final CompletableFuture<R> future;
    private final Errors.About about;

    Answer(CompletableFuture<R> future, Errors.About about) {
      this.future = future;
      this.about = about;
    }

    @Override
    public void onNext(R value) {
      future.complete(value);
    }

    @Override
    public void onError(Throwable failure) {
      MillraceException known = Errors.from(failure, about);
      boolean isClosed = channel.isShutdown() && known instanceof UnavailableException;
      future.completeExceptionally(isClosed ? Errors.closed() : known);
    }

    @Override
    public void onCompleted() {
      future.completeExceptionally(Errors.unavailable("the server ended the call without an answer"));
    }
  }

  /** Blocks for an answer. An interrupt cancels the call. */
  static <T> T await(CompletableFuture<T> future) {
    try {
      return future.get();
    } catch (ExecutionException failure) {
      MillraceException known = Errors.from(failure, Errors.About.OTHER);
      known.addSuppressed(new CallSite());
      throw known;
    } catch (InterruptedException interrupted) {
      future.cancel(true);
      Thread.currentThread().interrupt();
      throw new MillraceException(
          new MillraceException.Details(ErrorCode.CANCELLED, "interrupted while waiting for the server").cause(interrupted));
    }
  }

  /** Tells in a stack trace who waited: the exception itself was made on another thread. */
  private static final class CallSite extends RuntimeException {
    private static final long serialVersionUID = 1L;

    CallSite() {
      super("waited for here");
    }
  }
}
