// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.Objects;
import java.util.Optional;

/**
 * A call that was refused or failed: the root of the family. The message is a sentence that a person can act on; {@link #code()}
 * is for programs. Subclasses stand for the cases that programs usually tell apart.
 */
public class MillraceException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final ErrorCode code;
  private final String field;
  private final String reason;
  private final String subject;
  private final Duration retryAfter;

  /** What a subclass passes on. */
  static final class Details {
    final ErrorCode code;
    final String message;
    String field = "";
    String reason = "";
    String subject = "";
    Duration retryAfter;
    Throwable cause;

    Details(ErrorCode code, String message) {
      this.code = Objects.requireNonNull(code);
      this.message = message;
    }

    Details field(String value) {
      field = value;
      return this;
    }

    Details cause(Throwable value) {
      cause = value;
      return this;
    }
  }

  MillraceException(Details details) {
    super(details.message, details.cause);
    code = details.code;
    field = details.field;
    reason = details.reason;
    subject = details.subject;
    retryAfter = details.retryAfter;
  }

  /** The kind of failure. */
  public ErrorCode code() {
    return code;
  }

  /** Path of the argument at fault, such as {@code task} or {@code retry_policy.max_attempts}; empty if it is none. */
  public String field() {
    return field;
  }

  /** The server's constant for this case, such as {@code UNIQUE_KEY_TAKEN}; empty if it gave none. */
  public String reason() {
    return reason;
  }

  /** What the case is about, such as the id of the job that holds a unique key; empty if it is nothing. */
  public String subject() {
    return subject;
  }

  /** When trying again can help, if the server knows. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}
