/* SPDX-License-Identifier: Apache-2.0 */
#include "core/arena.h"

#include <glib.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK_BYTES = 16 * 1024 };

/* Blocks form a list, the newest first; only the newest one has room. A big piece gets a block of its own behind it. */
struct block {
  struct block *next;
  size_t bytes;
  alignas(max_align_t) uint8_t data[];
};

struct arena {
  struct block *block;
  size_t position; /* in the newest block */
  size_t used;
  size_t bytes_max;
  ProtobufCAllocator protobuf;
};

static struct block *block_new(size_t bytes, struct block *next) {
  struct block *block = g_malloc(sizeof *block + bytes);
  block->next = next;
  block->bytes = bytes;
  return block;
}

static void *protobuf_alloc(void *data, size_t bytes) {
  return arena_alloc(data, bytes);
}

static void protobuf_free(void *data, void *pointer) {
  (void)data;
  (void)pointer;
}

struct arena *arena_new(size_t bytes_max) {
  struct arena *arena = g_new0(struct arena, 1);
  arena->bytes_max = bytes_max ? bytes_max : SIZE_MAX;
  arena->protobuf = (ProtobufCAllocator){.alloc = protobuf_alloc, .free = protobuf_free, .allocator_data = arena};
  return arena;
}

static void free_blocks(struct block *block) {
  while (block) {
    struct block *next = block->next;
    g_free(block);
    block = next;
  }
}

void arena_free(struct arena *arena) {
  if (!arena)
    return;
  free_blocks(arena->block);
  g_free(arena);
}

void arena_reset(struct arena *arena) {
  if (arena->block) {
    free_blocks(arena->block->next);
    arena->block->next = NULL;
  }
  arena->position = 0;
  arena->used = 0;
}

void *arena_alloc(struct arena *arena, size_t bytes) {
  /* One byte at least: an empty piece must not look like a refusal. */
  const size_t unit = alignof(max_align_t);
  if (bytes > SIZE_MAX / 2)
    return NULL;
  size_t rounded = ((bytes ? bytes : 1) + unit - 1) / unit * unit;
  if (rounded > arena->bytes_max - arena->used)
    return NULL;
  arena->used += rounded;
  struct block *block = arena->block;
  if (block && rounded <= block->bytes - arena->position) {
    void *piece = block->data + arena->position;
    arena->position += rounded;
    return piece;
  }
  if (block && rounded > BLOCK_BYTES / 4) {
    block->next = block_new(rounded, block->next);
    return block->next->data;
  }
  arena->block = block_new(MAX(rounded, (size_t)BLOCK_BYTES), block);
  arena->position = rounded;
  return arena->block->data;
}

void *arena_zalloc(struct arena *arena, size_t bytes) {
  void *piece = arena_alloc(arena, bytes);
  if (piece)
    memset(piece, 0, bytes);
  return piece;
}

void *arena_memdup(struct arena *arena, const void *bytes, size_t length) {
  void *copy = arena_alloc(arena, length);
  if (copy && length > 0)
    memcpy(copy, bytes, length);
  return copy;
}

char *arena_strdup(struct arena *arena, const char *text) {
  return arena_memdup(arena, text, strlen(text) + 1);
}

char *arena_printf(struct arena *arena, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *text = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  char *copy = arena_strdup(arena, text);
  g_free(text);
  return copy;
}

size_t arena_used(const struct arena *arena) {
  return arena->used;
}

ProtobufCAllocator *arena_protobuf(struct arena *arena) {
  return &arena->protobuf;
}
