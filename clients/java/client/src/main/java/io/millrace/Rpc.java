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
import java.util.function.Function;

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

  <Q, A> CompletableFuture<A> call(MethodDescriptor<Q, A> method, Q request, Errors.About about) {
    return call(method, request, timeout, about);
  }

  <Q, A> CompletableFuture<A> call(MethodDescriptor<Q, A> method, Q request, Duration deadline, Errors.About about) {
    return call(method, request, deadline, about, Function.identity());
  }

  <Q, A, R> CompletableFuture<R> call(MethodDescriptor<Q, A> method, Q request, Errors.About about, Function<A, R> reader) {
    return call(method, request, timeout, about, reader);
  }

  /**
   * Who cancels the future, or completes it in another way, cancels the call: that is why the reader of its answer is told here. What
   * is made of the future later has no such way back.
   */
  <Q, A, R> CompletableFuture<R> call(
      MethodDescriptor<Q, A> method, Q request, Duration deadline, Errors.About about, Function<A, R> reader) {
    ClientCall<Q, A> call = newCall(method, deadline);
    Answer<A, R> answer = new Answer<>(call, about, reader);
    ClientCalls.asyncUnaryCall(call, request, answer);
    return answer.future;
  }

  /** Sends one message on a bidirectional stream and takes its one answer. */
  <Q, A, R> CompletableFuture<R> callStream(MethodDescriptor<Q, A> method, Q request, Errors.About about, Function<A, R> reader) {
    ClientCall<Q, A> call = newCall(method, timeout);
    Answer<A, R> answer = new Answer<>(call, about, reader);
    StreamObserver<Q> requests = ClientCalls.asyncBidiStreamingCall(call, answer);
    requests.onNext(request);
    requests.onCompleted();
    return answer.future;
  }

  private <Q, A> ClientCall<Q, A> newCall(MethodDescriptor<Q, A> method, Duration deadline) {
    return channel.newCall(method, CallOptions.DEFAULT.withDeadlineAfter(deadline.toMillis(), TimeUnit.MILLISECONDS));
  }

  /** The first message is the answer. */
  private final class Answer<A, R> implements StreamObserver<A> {
    final CompletableFuture<R> future = new CompletableFuture<>();
    private final Errors.About about;
    private final Function<A, R> reader;
    private volatile boolean isThere;

    Answer(ClientCall<?, A> call, Errors.About about, Function<A, R> reader) {
      this.about = about;
      this.reader = reader;
      future.whenComplete(
          (value, failure) -> {
            if (!isThere) {
              call.cancel("the caller has left", null);
            }
          });
    }

    @Override
    public void onNext(A answer) {
      isThere = true;
      try {
        future.complete(reader.apply(answer));
      } catch (RuntimeException unreadable) {
        future.completeExceptionally(unreadable);
      }
    }

    @Override
    public void onError(Throwable failure) {
      isThere = true;
      MillraceException known = Errors.from(failure, about);
      if (known instanceof UnavailableException) {
        // By itself gRPC would wait up to two minutes to connect again: a worker's session would be lost by then.
        channel.resetConnectBackoff();
      }
      boolean isClosed = channel.isShutdown() && known instanceof UnavailableException;
      future.completeExceptionally(isClosed ? Errors.closed() : known);
    }

    @Override
    public void onCompleted() {
      isThere = true;
      future.completeExceptionally(Errors.unavailable("the server ended the call without an answer"));
    }
  }

  /** The span of a create ends with the call, and who leaves the result leaves the call. */
  static <T> CompletableFuture<T> traced(CompletableFuture<T> call, Telemetry.Creation creation) {
    CompletableFuture<T> result =
        call.whenComplete((value, failure) -> creation.end(failure == null ? null : Errors.unwrap(failure)));
    result.whenComplete((value, failure) -> call.cancel(false));
    return result;
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
