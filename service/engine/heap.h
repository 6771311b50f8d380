/* SPDX-License-Identifier: Apache-2.0 */
/* heap.h: a binary min-heap of objects that know their place in it, so that any of them can be moved or taken out in O(log n).
 * GLib has no such container. The heap borrows its objects; an object is in at most one heap per node. Threads: one at a time. */
#ifndef MILLRACE_ENGINE_HEAP_H
#define MILLRACE_ENGINE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in the object. Zeroed: in no heap. Smaller keys come first, equal ones in any order. */
struct heap_node {
  uint64_t key;
  size_t place; /* index + 1; 0: in no heap */
};

struct heap {
  struct heap_node **nodes;
  size_t count;
  size_t capacity;
};

/* Puts the node in, or moves it when its key has changed. */
void heap_set(struct heap *heap, struct heap_node *node, uint64_t key);
/* Takes the node out; harmless when it is not in. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* The node with the smallest key; NULL: empty. */
struct heap_node *heap_first(const struct heap *heap);
/* Frees the array, not the objects. */
void heap_release(struct heap *heap);

static inline bool heap_holds(const struct heap_node *node) {
  return node->place != 0;
}

/* The object that a node is embedded in. */
#define HEAP_OBJECT(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
