/* SPDX-License-Identifier: Apache-2.0 */
#include "box.h"

#include <glib.h>
#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "millrace.h"

enum { FIRST_BYTES = 2 * 1024, BLOCK_BYTES = 32 * 1024 };

struct block {
  struct block *next;
  alignas(max_align_t) uint8_t data[];
};

/* Blocks form a list, the newest first; `left` bytes at `position` are free. */
struct box {
  struct block *block;
  uint8_t *position;
  size_t left;
  int references;
  ProtobufCAllocator allocator;
  alignas(max_align_t) uint8_t first[FIRST_BYTES];
};

struct lid {
  alignas(max_align_t) struct box *box;
};

static void *take(struct box *box, size_t bytes) {
  const size_t unit = alignof(max_align_t);
  size_t rounded = (bytes + unit - 1) / unit * unit;
  if (rounded <= box->left) {
    void *piece = box->position;
    box->position += rounded;
    box->left -= rounded;
    return piece;
  }
  size_t size = rounded > BLOCK_BYTES / 4 ? rounded : BLOCK_BYTES;
  struct block *block = g_malloc(sizeof *block + size);
  block->next = box->block;
  box->block = block;
  if (size > rounded) {
    box->position = block->data + rounded;
    box->left = size - rounded;
  }
  return block->data;
}

static void *allocate(void *data, size_t bytes) {
  return take(data, bytes ? bytes : 1);
}

static void ignore(void *data, void *pointer) {
  (void)data;
  (void)pointer;
}

struct box *box_new(void) {
  struct box *box = g_malloc(sizeof *box);
  box->block = NULL;
  box->position = box->first;
  box->left = sizeof box->first;
  box->references = 1;
  box->allocator = (ProtobufCAllocator){.alloc = allocate, .free = ignore, .allocator_data = box};
  return box;
}

struct box *box_ref(struct box *box) {
  g_atomic_int_inc(&box->references);
  return box;
}

void box_unref(struct box *box) {
  if (!box || !g_atomic_int_dec_and_test(&box->references))
    return;
  for (struct block *block = box->block; block;) {
    struct block *next = block->next;
    g_free(block);
    block = next;
  }
  g_free(box);
}

void *box_alloc(struct box *box, size_t bytes) {
  return memset(take(box, bytes), 0, bytes);
}

char *box_strdup(struct box *box, const char *text) {
  size_t bytes = strlen(text) + 1;
  return memcpy(take(box, bytes), text, bytes);
}

void *box_lid(struct box *box, size_t bytes) {
  struct lid *lid = box_alloc(box, sizeof *lid + bytes);
  lid->box = box;
  return lid + 1;
}

void *box_unpack(struct box *box, const ProtobufCMessageDescriptor *type, const void *bytes, size_t length) {
  return protobuf_c_message_unpack(type, &box->allocator, length, bytes);
}

void millrace_free(void *object) {
  if (object)
    box_unref(((struct lid *)object - 1)->box);
}
