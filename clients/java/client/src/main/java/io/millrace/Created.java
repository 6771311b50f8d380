// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/** A job that is there: created by this call, or existing, as the same create had been sent before. */
public record Created(String id, boolean existing) {}
