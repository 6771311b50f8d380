// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.millrace.proto.v1.RegisterResponse;
import io.millrace.proto.v1.WorkerLimits;
import java.time.Duration;

/** A session: what the server answered to Register. */
record Registration(
    String id,
    String token,
    String url,
    String jobsPath,
    String reportsPath,
    Duration heartbeat,
    Duration silence,
    int resultBytesMax,
    int reportsBytesMax,
    int fragmentBytes,
    int logLineBytesMax,
    int traceBytesMax) {

  /**
   * Reads the answer.
   *
   * @param before the session that it may resume; null: none
   * @param dialled the host that the client dialled
   * @param url where to join, if the user knows better; null: where the server says
   */
  static Registration of(RegisterResponse answer, Registration before, String dialled, String url) {
    WorkerLimits limits = answer.getLimits();
    String host = answer.getHost().isEmpty() ? dialled : answer.getHost();
    String scheme = answer.getScheme().isEmpty() ? "ws" : answer.getScheme();
    return new Registration(
        answer.getSessionId(),
        answer.getSessionToken().isEmpty() && before != null ? before.token : answer.getSessionToken(),
        url != null ? url : scheme + "://" + host + ":" + answer.getPort(),
        answer.getJobsPath(),
        answer.getReportsPath(),
        orElse(answer.getHeartbeatInterval(), 5),
        orElse(answer.getSilenceTimeout(), 15),
        orElse(limits.getResultBytesMax(), 1 << 20),
        orElse(limits.getReportsBytesMax(), 1 << 20),
        orElse(limits.getFragmentBytesMax(), 64 << 10),
        orElse(limits.getLogLineBytesMax(), 4 << 10),
        orElse(limits.getTraceBytesMax(), 16 << 10));
  }

  private static int orElse(int value, int fallback) {
    return value > 0 ? value : fallback;
  }

  private static Duration orElse(com.google.protobuf.Duration value, int fallbackSeconds) {
    Duration given = Convert.fromDuration(value);
    return given.isZero() ? Duration.ofSeconds(fallbackSeconds) : given;
  }
}
