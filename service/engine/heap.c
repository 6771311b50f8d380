/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/heap.h"

#include <glib.h>

static void place(struct heap *heap, size_t index, struct heap_node *node) {
  heap->nodes[index] = node;
  node->place = index + 1;
}

static void sift_up(struct heap *heap, size_t index, struct heap_node *node) {
  while (index > 0) {
    size_t parent = (index - 1) / 2;
    if (heap->nodes[parent]->key <= node->key)
      break;
    place(heap, index, heap->nodes[parent]);
    index = parent;
  }
  place(heap, index, node);
}

static void sift_down(struct heap *heap, size_t index, struct heap_node *node) {
  for (;;) {
    size_t child = 2 * index + 1;
    if (child >= heap->count)
      break;
    if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key)
      child++;
    if (heap->nodes[child]->key >= node->key)
      break;
    place(heap, index, heap->nodes[child]);
    index = child;
  }
  place(heap, index, node);
}

void heap_set(struct heap *heap, struct heap_node *node, uint64_t key) {
  uint64_t before = node->key;
  node->key = key;
  if (node->place == 0) {
    if (heap->count == heap->capacity) {
      heap->capacity = heap->capacity ? 2 * heap->capacity : 16;
      heap->nodes = g_renew(struct heap_node *, heap->nodes, heap->capacity);
    }
    sift_up(heap, heap->count++, node);
  } else if (key < before) {
    sift_up(heap, node->place - 1, node);
  } else {
    sift_down(heap, node->place - 1, node);
  }
}

void heap_remove(struct heap *heap, struct heap_node *node) {
  if (node->place == 0)
    return;
  size_t index = node->place - 1;
  g_assert(index < heap->count && heap->nodes[index] == node);
  node->place = 0;
  struct heap_node *last = heap->nodes[--heap->count];
  if (last == node)
    return;
  if (index > 0 && heap->nodes[(index - 1) / 2]->key > last->key)
    sift_up(heap, index, last);
  else
    sift_down(heap, index, last);
}

struct heap_node *heap_first(const struct heap *heap) {
  return heap->count ? heap->nodes[0] : NULL;
}

void heap_release(struct heap *heap) {
  g_free(heap->nodes);
  *heap = (struct heap){0};
}
