/* SPDX-License-Identifier: Apache-2.0 */
#include "core/json.h"

#include <glib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "core/limits.h"
#include "core/text.h"

/* The parser's nesting, and room for its few small allocations, so that a check costs no malloc. */
struct check {
  unsigned depth;
  size_t used;
  _Alignas(max_align_t) char room[2048];
};

/* Each piece is preceded by its size, which growing needs. */
union piece {
  size_t bytes;
  max_align_t alignment;
};

static void *room_alloc(void *context, size_t bytes) {
  struct check *check = context;
  size_t unit = sizeof(union piece);
  size_t whole = unit + (bytes + unit - 1) / unit * unit;
  union piece *piece;
  if (whole <= sizeof check->room - check->used) {
    piece = (union piece *)(void *)(check->room + check->used);
    check->used += whole;
  } else {
    piece = g_malloc(whole);
  }
  piece->bytes = bytes;
  return piece + 1;
}

static void room_free(void *context, void *pointer) {
  struct check *check = context;
  char *piece = pointer ? (char *)((union piece *)pointer - 1) : NULL;
  if (piece && (piece < check->room || piece >= check->room + sizeof check->room))
    g_free(piece);
}

static void *room_realloc(void *context, void *pointer, size_t bytes) {
  void *grown = room_alloc(context, bytes);
  if (pointer) {
    memcpy(grown, pointer, MIN(((union piece *)pointer - 1)->bytes, bytes));
    room_free(context, pointer);
  }
  return grown;
}

static int open_level(void *context) {
  struct check *check = context;
  return ++check->depth <= JSON_DEPTH_MAX;
}

static int close_level(void *context) {
  struct check *check = context;
  check->depth--;
  return 1;
}

enum status json_check(const char *text, size_t length, struct error *error) {
  static const yajl_callbacks callbacks = {
      .yajl_start_map = open_level,
      .yajl_end_map = close_level,
      .yajl_start_array = open_level,
      .yajl_end_array = close_level,
  };
  if (!text_is_utf8(text, length))
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "the text is not valid UTF-8");
  struct check check;
  check.depth = 0;
  check.used = 0;
  yajl_alloc_funcs functions = {.malloc = room_alloc, .realloc = room_realloc, .free = room_free, .ctx = &check};
  yajl_handle parser = yajl_alloc(&callbacks, &functions, &check);
  yajl_config(parser, yajl_dont_validate_strings, 1); /* done above, and faster */
  const unsigned char *bytes = (const unsigned char *)text;
  yajl_status outcome = yajl_parse(parser, bytes, length);
  if (outcome == yajl_status_ok)
    outcome = yajl_complete_parse(parser);
  enum status status = STATUS_OK;
  if (outcome == yajl_status_client_canceled) {
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "JSON is nested deeper than %d levels", JSON_DEPTH_MAX);
  } else if (outcome != yajl_status_ok) {
    size_t at = yajl_get_bytes_consumed(parser);
    unsigned char *why = yajl_get_error(parser, 0, bytes, length);
    g_strchomp((char *)why);
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "not well-formed JSON, near byte %zu of %zu: %s", at, length,
                       (char *)why);
    yajl_free_error(parser, why);
  }
  yajl_free(parser);
  return status;
}
