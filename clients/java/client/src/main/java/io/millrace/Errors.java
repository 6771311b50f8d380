// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.regex.Pattern;

/** Turns what gRPC says into our family of exceptions. */
final class Errors {
  /** What the request puts around the caller's own object. */
  private static final Pattern AROUND = Pattern.compile("^(?:jobs\\[\\d+\\]|job)\\.(?=.)");

  /** What a call is about decides which "not found" it is. */
  enum About {
    JOB,
    OTHER
  }

  private Errors() {}

  static MillraceException from(Throwable failure, About about) {
    Throwable cause = unwrap(failure);
    if (cause instanceof MillraceException known) {
      return known;
    }
    if (cause instanceof CancellationException) {
      return new MillraceException(new MillraceException.Details(ErrorCode.CANCELLED, "the call was cancelled"));
    }
    Status status = Status.fromThrowable(cause);
    com.google.rpc.Status details = StatusProto.fromThrowable(cause);
    String message = status.getDescription() == null ? status.getCode() + " without a word" : status.getDescription();
    Status.Code code = status.getCode();
    if (code == Status.Code.UNKNOWN && cause instanceof StatusRuntimeException) {
      // The server never says so: it is how gRPC tells of a connection that broke in the middle of a call.
      code = Status.Code.UNAVAILABLE;
      message = "the connection to the server was lost: " + message;
    } else if (code == Status.Code.UNAVAILABLE && status.getCause() != null) {
      message += ": " + status.getCause().getMessage();
    }
    return build(code, message, details == null ? List.of() : details.getDetailsList(), about, cause);
  }

  /** The outcome of one item among many. */
  static MillraceException from(com.google.rpc.Status item) {
    return build(Status.fromCodeValue(item.getCode()).getCode(), item.getMessage(), item.getDetailsList(), About.JOB, null);
  }

  static Throwable unwrap(Throwable failure) {
    Throwable cause = failure;
    while ((cause instanceof CompletionException || cause instanceof ExecutionException) && cause.getCause() != null) {
      cause = cause.getCause();
    }
    return cause;
  }

  static InvalidArgumentException invalid(String field, String message) {
    return new InvalidArgumentException(new MillraceException.Details(ErrorCode.INVALID_ARGUMENT, message).field(field));
  }

  /** Our own side has ended: nothing comes of trying again. */
  static MillraceException closed() {
    return new MillraceException(new MillraceException.Details(ErrorCode.CANCELLED, "the client is closed"));
  }

  static UnavailableException unavailable(String message) {
    return new UnavailableException(new MillraceException.Details(ErrorCode.UNAVAILABLE, message));
  }

  /** The failure of a call about jobs, for one of several that wait for it: each adds to its own where it waited. */
  static MillraceException again(Throwable failure) {
    MillraceException shared = from(failure, About.JOB);
    var details = new MillraceException.Details(shared.code(), shared.getMessage()).field(shared.field()).cause(shared);
    details.reason = shared.reason();
    details.subject = shared.subject();
    details.retryAfter = shared.retryAfter().orElse(null);
    return choose(details, About.JOB);
  }

  static MillraceException internal(String message) {
    return new MillraceException(new MillraceException.Details(ErrorCode.INTERNAL, message));
  }

  private static MillraceException build(Status.Code code, String message, List<Any> anys, About about, Throwable cause) {
    var details = new MillraceException.Details(codeOf(code), message).cause(cause);
    for (Any any : anys) {
      try {
        add(details, any);
      } catch (InvalidProtocolBufferException broken) {
        details.cause(broken); // the code and the message stand for themselves
      }
    }
    details.field = AROUND.matcher(details.field).replaceFirst("");
    return choose(details, about);
  }

  private static void add(MillraceException.Details details, Any any) throws InvalidProtocolBufferException {
    if (any.is(BadRequest.class)) {
      BadRequest bad = any.unpack(BadRequest.class);
      details.field = bad.getFieldViolationsCount() > 0 ? bad.getFieldViolations(0).getField() : "";
    } else if (any.is(ErrorInfo.class)) {
      ErrorInfo info = any.unpack(ErrorInfo.class);
      details.reason = info.getReason();
      details.subject = info.getMetadataOrDefault("subject", "");
    } else if (any.is(RetryInfo.class)) {
      details.retryAfter = Convert.fromDuration(any.unpack(RetryInfo.class).getRetryDelay());
    }
  }

  private static MillraceException choose(MillraceException.Details details, About about) {
    return switch (details.code) {
      case INVALID_ARGUMENT -> new InvalidArgumentException(details);
      case NOT_FOUND -> about == About.JOB ? new JobNotFoundException(details) : new NotFoundException(details);
      case ALREADY_EXISTS -> about == About.JOB || isAboutJob(details.reason)
          ? new JobExistsException(details)
          : new AlreadyExistsException(details);
      case RESOURCE_EXHAUSTED -> details.reason.equals("QUEUE_FULL")
          ? new QueueFullException(details)
          : new ResourceExhaustedException(details);
      case FAILED_PRECONDITION -> new FailedPreconditionException(details);
      case UNAVAILABLE -> new UnavailableException(details);
      case DEADLINE_EXCEEDED -> new DeadlineExceededException(details);
      case UNAUTHENTICATED, PERMISSION_DENIED -> new AccessDeniedException(details);
      default -> new MillraceException(details);
    };
  }

  private static boolean isAboutJob(String reason) {
    return reason.startsWith("JOB_") || reason.equals("UNIQUE_KEY_TAKEN");
  }

  private static ErrorCode codeOf(Status.Code code) {
    return switch (code) {
      case OUT_OF_RANGE -> ErrorCode.INVALID_ARGUMENT;
      case ABORTED -> ErrorCode.UNAVAILABLE;
      case OK, UNKNOWN -> ErrorCode.INTERNAL;
      default -> ErrorCode.valueOf(code.name());
    };
  }
}
