// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Objects;
import java.util.Optional;

/** What is handed to a handler, or what it returned: JSON text, or bytes, or nothing. Immutable. */
public final class Payload {
  /** Positional and keyword arguments in one: {@code {"args": [], "kwargs": {}}}. */
  public static final String CALL = "application/vnd.millrace.call+json";

  private static final Payload EMPTY = new Payload("", null, null);

  private final String contentType;
  private final String json;
  private final byte[] data;

  private Payload(String contentType, String json, byte[] data) {
    this.contentType = contentType;
    this.json = json;
    this.data = data;
  }

  /** Nothing at all. */
  public static Payload empty() {
    return EMPTY;
  }

  /** JSON text, kept as it is. */
  public static Payload json(String text) {
    return json(text, "");
  }

  /** JSON text of another media type than application/json. */
  public static Payload json(String text, String contentType) {
    return new Payload(Objects.requireNonNull(contentType), Objects.requireNonNull(text), null);
  }

  /** Bytes, kept as they are. */
  public static Payload data(byte[] bytes) {
    return data(bytes, "");
  }

  /** Bytes of another media type than application/octet-stream. */
  public static Payload data(byte[] bytes, String contentType) {
    return new Payload(Objects.requireNonNull(contentType), null, bytes.clone());
  }

  /** Media type; empty: application/json for JSON, application/octet-stream for bytes. */
  public String contentType() {
    return contentType;
  }

  /** The JSON text, if that is what it is. */
  public Optional<String> json() {
    return Optional.ofNullable(json);
  }

  /** A copy of the bytes, if that is what it is. */
  public Optional<byte[]> data() {
    return Optional.ofNullable(data).map(byte[]::clone);
  }

  /** Neither JSON nor bytes. */
  public boolean isEmpty() {
    return json == null && data == null;
  }

  /** It is JSON. */
  public boolean isJson() {
    return json != null;
  }

  /** How many bytes its content has. */
  public int size() {
    return data != null ? data.length : json == null ? 0 : json.getBytes(StandardCharsets.UTF_8).length;
  }

  byte[] rawData() {
    return data;
  }

  String rawJson() {
    return json;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Payload that
        && contentType.equals(that.contentType)
        && Objects.equals(json, that.json)
        && Arrays.equals(data, that.data);
  }

  @Override
  public int hashCode() {
    return Objects.hash(contentType, json, Arrays.hashCode(data));
  }

  @Override
  public String toString() {
    return isEmpty() ? "empty" : (isJson() ? "JSON" : "data") + " of " + size() + " bytes"; // never the content: it may be secret
  }
}
