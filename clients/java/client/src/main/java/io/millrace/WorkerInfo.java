// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;
import java.util.List;
import java.util.Map;

/**
 * An attached worker process.
 *
 * @param state ACTIVE, QUIET (takes no more jobs) or DISCONNECTED
 * @param transport nng, grpc, or empty while it is cut off
 */
public record WorkerInfo(
    String sessionId,
    String state,
    List<String> queues,
    List<String> tasks,
    int concurrency,
    int running,
    String hostname,
    int pid,
    Map<String, String> labels,
    String sdk,
    Instant registeredAt,
    Instant lastSeenAt,
    String transport) {}
