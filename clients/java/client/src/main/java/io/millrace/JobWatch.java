// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.millrace.proto.v1.JobServiceGrpc;
import io.millrace.proto.v1.WatchJobsRequest;
import io.millrace.proto.v1.WatchJobsResponse;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;

/**
 * A running watch. {@link #hasNext} blocks until something happens; {@link #close}, from any thread, ends it. If the server goes
 * away, {@link UnavailableException}: to watch again is to start over.
 */
public final class JobWatch implements Iterator<JobChange>, AutoCloseable {
  private final Context.CancellableContext context = Context.current().withCancellation();
  private final Encoding encoding;
  private final Iterator<WatchJobsResponse> responses;
  private volatile boolean isClosed;

  JobWatch(Rpc rpc, WatchJobsRequest request, Encoding encoding) {
    this.encoding = encoding;
    Context before = context.attach();
    try {
      responses = ClientCalls.blockingServerStreamingCall(rpc.channel, JobServiceGrpc.getWatchJobsMethod(), CallOptions.DEFAULT, request);
    } finally {
      context.detach(before);
    }
  }

  @Override
  public boolean hasNext() {
    try {
      return responses.hasNext();
    } catch (StatusRuntimeException failure) {
      if (isClosed) {
        return false;
      }
      throw Errors.from(failure, Errors.About.OTHER);
    }
  }

  @Override
  public JobChange next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    WatchJobsResponse response = responses.next();
    if (!response.hasJob()) {
      return new JobChange(JobChange.Kind.INITIAL_DONE, Optional.empty());
    }
    return new JobChange(
        response.getDeleted() ? JobChange.Kind.DELETED : JobChange.Kind.STATE, Optional.of(new Job(response.getJob(), encoding)));
  }

  @Override
  public void close() {
    isClosed = true;
    context.cancel(null);
  }
}
