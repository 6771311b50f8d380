/* SPDX-License-Identifier: Apache-2.0 */
/* id.h: UUIDs as 16 bytes (RFC 9562). Any UUID is taken unchanged; those that Millrace makes are version 7 with the shard number
 * in rand_a. Pure: time and randomness come in. */
#ifndef MILLRACE_CORE_ID_H
#define MILLRACE_CORE_ID_H

#include <stdbool.h>
#include <stdint.h>

enum { ID_BYTES = 16, ID_TEXT_BYTES = 37 /* with the closing NUL */ };

struct id {
  uint8_t bytes[ID_BYTES];
};

/* Reads the canonical text form, upper or lower case. False: not a UUID; *out_id is untouched. */
bool id_parse(const char *text, struct id *out_id);
/* Writes the lower-case canonical form. */
void id_format(const struct id *id, char out_text[static ID_TEXT_BYTES]);
/* Version 7: 48 bits of time, 12 bits of shard, 62 bits of randomness taken from `random`. */
struct id id_make_v7(int64_t now_ms, uint16_t shard, uint64_t random);
/* Version 8, derived: the same base, purpose and number always give the same id (a schedule's job at a nominal time, a callback).
 */
struct id id_derive(const struct id *base, const char *purpose, uint64_t number);
/* The all-zero id stands for "none". */
bool id_is_zero(const struct id *id);
bool id_equal(const struct id *a, const struct id *b);
int id_compare(const struct id *a, const struct id *b);
/* For GHashTable, keys being pointers to struct id. */
unsigned int id_hash(const void *id);
int id_equal_pointers(const void *a, const void *b);

#endif
