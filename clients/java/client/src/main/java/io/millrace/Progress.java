// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** What a running handler says of its progress: a fraction from 0 to 1, and words. */
public record Progress(double fraction, String message) {}
