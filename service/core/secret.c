/* SPDX-License-Identifier: Apache-2.0 */
#include "core/secret.h"

#include <glib.h>
#include <string.h>

void secret_hash(const char *text, size_t length, uint8_t out_hash[static SECRET_HASH_BYTES]) {
  GChecksum *checksum = g_checksum_new(G_CHECKSUM_SHA256);
  gsize bytes = SECRET_HASH_BYTES;
  g_checksum_update(checksum, (const guchar *)text, (gssize)length);
  g_checksum_get_digest(checksum, out_hash, &bytes);
  g_checksum_free(checksum);
}

bool secret_equal(const uint8_t a[static SECRET_HASH_BYTES], const uint8_t b[static SECRET_HASH_BYTES]) {
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < SECRET_HASH_BYTES; i++)
    difference |= a[i] ^ b[i];
  return difference == 0;
}

unsigned secret_key_hash(const void *hash) {
  unsigned start; /* as random as the rest */
  memcpy(&start, hash, sizeof start);
  return start;
}

int secret_key_equal(const void *a, const void *b) {
  return secret_equal(a, b);
}
