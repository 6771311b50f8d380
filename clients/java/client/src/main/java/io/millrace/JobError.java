// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/**
 * Why a job or an attempt failed.
 *
 * @param type the exception's class, or one that the server gives, such as TIMEOUT or WORKER_LOST
 * @param message for people
 * @param trace stack trace, may be empty
 * @param fingerprint the same fault has the same one: to group by
 */
public record JobError(String type, String message, String trace, String fingerprint) {}
