// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Duration;
import java.util.Objects;

/** At most one job of a queue holds a unique key. */
public final class UniqueKey {
  /** How long a job holds its key. */
  public enum Scope {
    /** Until it starts. */
    WHILE_WAITING,
    /** Until it ends. */
    UNTIL_FINISHED,
    /** For a period after its creation. */
    PERIOD
  }

  /** What becomes of a create whose key is taken. */
  public enum Rule {
    /** {@link JobExistsException}, naming the holder. */
    REJECT,
    /** The holder, as existing. */
    RETURN_EXISTING
  }

  final String key;
  final Scope scope;
  final Rule rule;
  final Duration period;

  private UniqueKey(String key, Scope scope, Rule rule, Duration period) {
    this.key = Objects.requireNonNull(key);
    this.scope = scope;
    this.rule = rule;
    this.period = period;
  }

  /** Held until the job ends; another create is refused. */
  public static UniqueKey of(String key) {
    return new UniqueKey(key, Scope.UNTIL_FINISHED, Rule.REJECT, null);
  }

  /** Held until the job starts. */
  public UniqueKey whileWaiting() {
    return new UniqueKey(key, Scope.WHILE_WAITING, rule, null);
  }

  /** Held for so long after the create, whatever becomes of the job. */
  public UniqueKey forPeriod(Duration value) {
    return new UniqueKey(key, Scope.PERIOD, rule, value);
  }

  /** Another create answers with the job that holds the key. */
  public UniqueKey orReturnExisting() {
    return new UniqueKey(key, scope, Rule.RETURN_EXISTING, period);
  }
}
