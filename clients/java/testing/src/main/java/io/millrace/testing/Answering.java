// SPDX-License-Identifier: Apache-2.0
package io.millrace.testing;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.util.function.Function;
import java.util.function.Supplier;

/** How the fake's services answer. */
final class Answering {
  private Answering() {}

  /** One answer, or the error that it threw. */
  static <R> void answer(StreamObserver<R> to, Supplier<R> work) {
    try {
      R answer = work.get();
      to.onNext(answer);
      to.onCompleted();
    } catch (StatusRuntimeException refused) {
      to.onError(refused);
    } catch (RuntimeException bug) {
      to.onError(Status.INTERNAL.withDescription(bug.toString()).withCause(bug).asRuntimeException());
    }
  }

  /** An answer to each message. */
  static <Q, R> StreamObserver<Q> answerEach(StreamObserver<R> to, Function<Q, R> work) {
    return new StreamObserver<>() {
      @Override
      public void onNext(Q message) {
        try {
          to.onNext(work.apply(message));
        } catch (StatusRuntimeException refused) {
          to.onError(refused);
        }
      }

      @Override
      public void onError(Throwable failure) {
        to.onCompleted();
      }

      @Override
      public void onCompleted() {
        to.onCompleted();
      }
    };
  }
}
