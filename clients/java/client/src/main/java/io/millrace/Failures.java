// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.Failed;
import io.millrace.proto.v1.JobError;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.StandardCharsets;

/** A handler's exception as the job's error. The server makes the fingerprint, of task, type and top frame, alike for all languages. */
final class Failures {
  private static final int TYPE_BYTES = 256;
  private static final int MESSAGE_BYTES = 4 << 10;

  private Failures() {}

  static Failed.Builder of(Throwable failure, int traceBytesMax) {
    boolean isWrapped = (failure instanceof PermanentException || failure instanceof RetryLaterException) && failure.getCause() != null;
    Throwable fault = isWrapped ? failure.getCause() : failure; // what people look for is what went wrong, not the advice
    JobError.Builder error = JobError.newBuilder().setType(cut(fault.getClass().getName(), TYPE_BYTES));
    error.setMessage(cut(message(fault), MESSAGE_BYTES)).setTrace(cut(trace(fault), traceBytesMax));
    Failed.Builder failed = Failed.newBuilder().setError(error);
    if (failure instanceof PermanentException) {
      failed.setPermanent(true);
    } else if (failure instanceof RetryLaterException later) {
      failed.setRetryAfter(Convert.toDuration(later.delay()));
    }
    return failed;
  }

  /** An exception of a user's own may throw from its own methods. */
  private static String message(Throwable failure) {
    try {
      return failure.getMessage() == null ? failure.getClass().getSimpleName() : failure.getMessage();
    } catch (RuntimeException broken) {
      return "its message can't be told: " + broken;
    }
  }

  private static String trace(Throwable failure) {
    StringWriter text = new StringWriter();
    try {
      failure.printStackTrace(new PrintWriter(text));
    } catch (RuntimeException broken) {
      return "its trace can't be told: " + broken;
    }
    return text.toString();
  }

  /** At most so many bytes of UTF-8, and no half character. */
  static String cut(String text, int bytesMax) {
    if (text.length() * 3L <= bytesMax) {
      return text;
    }
    ByteBuffer bytes = ByteBuffer.allocate(bytesMax);
    CharBuffer chars = CharBuffer.wrap(text);
    StandardCharsets.UTF_8
        .newEncoder()
        .onMalformedInput(java.nio.charset.CodingErrorAction.REPLACE)
        .onUnmappableCharacter(java.nio.charset.CodingErrorAction.REPLACE)
        .encode(chars, bytes, true);
    return new String(bytes.array(), 0, bytes.position(), StandardCharsets.UTF_8);
  }
}
