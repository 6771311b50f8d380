// SPDX-License-Identifier: Apache-2.0
package io.millrace;

/**
 * Changes payloads and results on their way to the server and back, such as to encrypt or compress them. Producers and workers need
 * the same one. Give what you write a content type of your own, and leave alone what does not have it.
 */
public interface Codec {
  /** What the server is to store. */
  Payload encode(Payload payload);

  /** What was given to {@link #encode}. */
  Payload decode(Payload stored);
}
