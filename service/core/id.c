/* SPDX-License-Identifier: Apache-2.0 */
#include "core/id.h"

#include <string.h>
#include <xxhash.h>

static const char hex_digits[] = "0123456789abcdef";

/* 0..15, or 16 for what is no hexadecimal digit. */
static unsigned hex_value(char c) {
  if (c >= '0' && c <= '9')
    return (unsigned)(c - '0');
  if (c >= 'a' && c <= 'f')
    return (unsigned)(c - 'a') + 10;
  if (c >= 'A' && c <= 'F')
    return (unsigned)(c - 'A') + 10;
  return 16;
}

/* Is byte i of a UUID written after a hyphen? */
static bool hyphen_before(int i) {
  return i == 4 || i == 6 || i == 8 || i == 10;
}

bool id_parse(const char *text, struct id *out_id) {
  struct id id;
  for (int i = 0; i < ID_BYTES; i++) {
    if (hyphen_before(i) && *text++ != '-')
      return false;
    unsigned high = hex_value(text[0]);
    if (high > 15) /* also at the closing NUL: the next one is not read */
      return false;
    unsigned low = hex_value(text[1]);
    if (low > 15)
      return false;
    id.bytes[i] = (uint8_t)(high << 4 | low);
    text += 2;
  }
  if (*text != '\0')
    return false;
  *out_id = id;
  return true;
}

void id_format(const struct id *id, char out_text[static ID_TEXT_BYTES]) {
  for (int i = 0; i < ID_BYTES; i++) {
    if (hyphen_before(i))
      *out_text++ = '-';
    *out_text++ = hex_digits[id->bytes[i] >> 4];
    *out_text++ = hex_digits[id->bytes[i] & 15];
  }
  *out_text = '\0';
}

static void put_u64(uint8_t *out, uint64_t value) {
  for (int i = 0; i < 8; i++)
    out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static void set_version(struct id *id, unsigned version) {
  id->bytes[6] = (uint8_t)((id->bytes[6] & 0x0F) | version << 4);
  id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3F) | 0x80);
}

struct id id_make_v7(int64_t now_ms, uint16_t shard, uint64_t random) {
  struct id id;
  for (int i = 0; i < 6; i++)
    id.bytes[i] = (uint8_t)((uint64_t)now_ms >> (40 - 8 * i));
  id.bytes[6] = (uint8_t)(shard >> 8);
  id.bytes[7] = (uint8_t)shard;
  put_u64(id.bytes + 8, random);
  set_version(&id, 7);
  return id;
}

struct id id_derive(const struct id *base, const char *purpose, uint64_t number) {
  struct {
    struct id base;
    XXH64_canonical_t purpose;
    uint8_t number[8];
  } input = {.base = *base};
  XXH64_canonicalFromHash(&input.purpose, XXH3_64bits(purpose, strlen(purpose)));
  put_u64(input.number, number);
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits(&input, sizeof input));
  struct id id;
  memcpy(id.bytes, hash.digest, ID_BYTES);
  set_version(&id, 8);
  return id;
}

bool id_is_zero(const struct id *id) {
  static const struct id zero;
  return id_equal(id, &zero);
}

bool id_equal(const struct id *a, const struct id *b) {
  return memcmp(a->bytes, b->bytes, ID_BYTES) == 0;
}

int id_compare(const struct id *a, const struct id *b) {
  return memcmp(a->bytes, b->bytes, ID_BYTES);
}

unsigned int id_hash(const void *id) {
  return (unsigned int)XXH3_64bits(id, ID_BYTES);
}

int id_equal_pointers(const void *a, const void *b) {
  return id_equal(a, b);
}
