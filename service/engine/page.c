/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/page.h"

#include <string.h>

#include "engine/turn.h"

char *page_token(struct arena *arena, struct slice last_key) {
  gchar *text = g_base64_encode(last_key.data, last_key.length);
  char *copy = arena_strdup(arena, text);
  g_free(text);
  return copy;
}

bool page_start(const char *token, struct key *out_from, struct error *error) {
  out_from->length = 0;
  if (!*token)
    return true;
  gsize length = 0;
  guchar *bytes = g_base64_decode(token, &length);
  gchar *again = bytes ? g_base64_encode(bytes, length) : NULL;
  bool ours = again && strcmp(again, token) == 0 && length > 0 && length < KEY_BYTES_MAX;
  if (ours) {
    memcpy(out_from->bytes, bytes, length);
    out_from->bytes[length] = 0;
    out_from->length = length + 1;
  } else {
    error_set(error, STATUS_INVALID_ARGUMENT, "page_token", "the page token is none of this list; start without one");
  }
  g_free(again);
  g_free(bytes);
  return ours;
}

bool page_rows(struct turn *turn, struct request *request, enum family family, const char *token, uint32_t asked,
               struct store_rows *out_rows) {
  struct key from;
  struct error error;
  if (!page_start(token, &from, &error)) {
    reply_error(turn, request, &error);
    return false;
  }
  struct store_range range = {.family = family, .from = key_slice(&from), .limit = page_size(asked)};
  if (turn_scan(turn, &range, out_rows))
    return true;
  reply_failure(turn, request, STATUS_UNAVAILABLE, NULL, "the store can't be read; the server is stopping");
  return false;
}

char *page_next(struct turn *turn, const struct store_rows *rows, size_t used, uint32_t asked) {
  bool more = used > 0 && (used < rows->count || rows->count == page_size(asked));
  return more ? page_token(turn->arena, rows->rows[used - 1].key) : (char *)protobuf_c_empty_string;
}
