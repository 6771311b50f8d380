// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.time.Instant;

/** A line of a job's log. */
public record LogLine(Instant time, String text, int delivery) {}
