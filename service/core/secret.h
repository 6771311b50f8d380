/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h: tokens are known by their SHA-256 only. Ours have 256 random bits, so a plain hash can't be turned back by guessing.
 * Threads: any. */
#ifndef MILLRACE_CORE_SECRET_H
#define MILLRACE_CORE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SECRET_HASH_BYTES = 32 };

void secret_hash(const char *text, size_t length, uint8_t out_hash[static SECRET_HASH_BYTES]);
/* Takes the same time whatever the difference. */
bool secret_equal(const uint8_t a[static SECRET_HASH_BYTES], const uint8_t b[static SECRET_HASH_BYTES]);

/* The same for GHashTable; keys are hashes. */
unsigned secret_key_hash(const void *hash);
int secret_key_equal(const void *a, const void *b);

#endif
