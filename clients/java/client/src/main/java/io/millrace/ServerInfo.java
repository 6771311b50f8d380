// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;

/** What a server says of itself. */
public record ServerInfo(String version, String durability, Instant startedAt, Instant now, long jobsWaiting, long jobsRunning) {}
