/* SPDX-License-Identifier: Apache-2.0 */
#include "core/text.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

bool text_is_utf8(const char *text, size_t length) {
  const uint64_t high_bits = UINT64_C(0x8080808080808080);
  size_t at = 0;
  for (; at + sizeof(uint64_t) <= length; at += sizeof(uint64_t)) {
    uint64_t word;
    memcpy(&word, text + at, sizeof word);
    if (word & high_bits)
      break;
  }
  return g_utf8_validate_len(text + at, length - at, NULL);
}

/* The longest prefix of at most `bytes_max` that does not end inside a character. */
static size_t cut(const char *text, size_t length, size_t bytes_max) {
  if (length <= bytes_max)
    return length;
  size_t end = bytes_max;
  while (end > 0 && bytes_max - end < 3 && ((unsigned char)text[end] & 0xC0) == 0x80)
    end--;
  return end;
}

const char *text_clean(struct arena *arena, const char *text, size_t bytes_max) {
  if (!text)
    return "";
  size_t length = strnlen(text, bytes_max + 1);
  size_t kept = cut(text, length, bytes_max);
  if (text_is_utf8(text, kept)) {
    if (kept == length)
      return text;
    char *copy = arena_alloc(arena, kept + 1);
    memcpy(copy, text, kept);
    copy[kept] = '\0';
    return copy;
  }
  char *valid = g_utf8_make_valid(text, (gssize)kept); /* may be longer: U+FFFD takes three bytes */
  valid[cut(valid, strlen(valid), bytes_max)] = '\0';
  char *copy = arena_strdup(arena, valid);
  g_free(valid);
  return copy;
}
