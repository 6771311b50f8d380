// SPDX-License-Identifier: Apache-2.0
package io.millrace.e2e;

import io.millrace.Codec;
import io.millrace.Payload;
import java.nio.charset.StandardCharsets;

/** A codec that anybody can check: the bytes turned round, behind a byte that tells whether they were JSON. */
final class ReverseCodec implements Codec {
  private static final String TYPE = "application/vnd.millrace.test.reversed";

  @Override
  public Payload encode(Payload payload) {
    String kind = (payload.isJson() ? "json:" : "data:") + payload.contentType() + "\n";
    byte[] head = kind.getBytes(StandardCharsets.UTF_8);
    byte[] body = payload.json().map(text -> text.getBytes(StandardCharsets.UTF_8)).orElseGet(() -> payload.data().orElseThrow());
    byte[] all = new byte[head.length + body.length];
    System.arraycopy(head, 0, all, 0, head.length);
    System.arraycopy(body, 0, all, head.length, body.length);
    return Payload.data(reversed(all), TYPE);
  }

  @Override
  public Payload decode(Payload stored) {
    if (!stored.contentType().equals(TYPE)) {
      return stored;
    }
    byte[] all = reversed(stored.data().orElseThrow());
    int end = 0;
    while (all[end] != '\n') {
      end++;
    }
    String kind = new String(all, 0, end, StandardCharsets.UTF_8);
    byte[] body = java.util.Arrays.copyOfRange(all, end + 1, all.length);
    String contentType = kind.substring(5);
    return kind.startsWith("json:")
        ? Payload.json(new String(body, StandardCharsets.UTF_8), contentType)
        : Payload.data(body, contentType);
  }

  private static byte[] reversed(byte[] bytes) {
    byte[] turned = new byte[bytes.length];
    for (int i = 0; i < bytes.length; i++) {
      turned[i] = bytes[bytes.length - 1 - i];
    }
    return turned;
  }
}
