/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c: the store in memory, for tests: a tree per family whose entries are chains of versions.
 *
 * A write puts a new version before the older ones; a snapshot is a sequence number and reads the newest version not above it. A
 * version that was superseded stays as long as a snapshot may need it: the queue `garbage` holds, in order of time, which entries
 * have one, and is worked off when the oldest snapshot goes. Everything happens under one read-write lock. Sync has nothing to
 * do: faulty.c, laid over this store, forgets what was not synced. */
#include "store/backend.h"

#include <stdio.h>
#include <string.h>

struct version {
  uint64_t sequence;
  GBytes *value; /* NULL: deleted */
  struct version *older;
};

struct entry {
  struct version *newest;
};

struct garbage {
  uint64_t sequence; /* of the version that superseded another */
  enum family family;
  GBytes *key;
};

struct snapshot {
  uint64_t sequence;
  GList *link; /* in memory.snapshots */
};

struct memory {
  struct store base;
  pthread_rwlock_t lock;     /* of all below */
  GTree *families[FAMILIES]; /* GBytes -> struct entry */
  uint64_t sequence;         /* of the last batch */
  GQueue snapshots;          /* oldest first */
  GQueue garbage;            /* oldest first */
};

static struct memory *memory_of(struct store *store) {
  return (struct memory *)store;
}

static void version_free_chain(struct version *version) {
  while (version != NULL) {
    struct version *older = version->older;
    g_bytes_unref(version->value);
    g_free(version);
    version = older;
  }
}

static void entry_free(void *data) {
  struct entry *entry = data;
  version_free_chain(entry->newest);
  g_free(entry);
}

static int key_compare(const void *a, const void *b, void *unused) {
  (void)unused;
  return g_bytes_compare(a, b);
}

static void key_free(void *key) {
  g_bytes_unref(key);
}

static void garbage_free(void *data) {
  struct garbage *garbage = data;
  g_bytes_unref(garbage->key);
  g_free(garbage);
}

/* The version that a reader at `sequence` sees; NULL: none, or deleted. */
static GBytes *entry_value_at(const struct entry *entry, uint64_t sequence) {
  const struct version *version = entry->newest;
  while (version != NULL && version->sequence > sequence) {
    version = version->older;
  }
  return version == NULL ? NULL : version->value;
}

static uint64_t snapshot_sequence(const struct memory *memory, const struct snapshot *snapshot) {
  return snapshot == NULL ? memory->sequence : snapshot->sequence;
}

/* ---- reading ---- */

static enum status memory_get_many(struct store *store, void *snapshot, struct store_get *gets, size_t count,
                                   struct error *error) {
  (void)error;
  struct memory *memory = memory_of(store);
  pthread_rwlock_rdlock(&memory->lock);
  uint64_t sequence = snapshot_sequence(memory, snapshot);
  for (size_t i = 0; i < count; i++) {
    GBytes *key = g_bytes_new_static(gets[i].key.data, gets[i].key.length);
    struct entry *entry = g_tree_lookup(memory->families[gets[i].family], key);
    g_bytes_unref(key);
    GBytes *value = entry == NULL ? NULL : entry_value_at(entry, sequence);
    if (value != NULL) {
      get_found(&gets[i], g_bytes_ref(value));
    }
  }
  pthread_rwlock_unlock(&memory->lock);
  return STATUS_OK;
}

/* The first node not below `key`; an empty key is below all. NULL: none. */
static GTreeNode *node_not_below(GTree *tree, struct slice key) {
  if (key.length == 0) {
    return g_tree_node_first(tree);
  }
  GBytes *bytes = g_bytes_new_static(key.data, key.length);
  GTreeNode *node = g_tree_lower_bound(tree, bytes);
  g_bytes_unref(bytes);
  return node;
}

static struct slice slice_of(GBytes *bytes) {
  struct slice slice;
  slice.data = g_bytes_get_data(bytes, &slice.length);
  return slice;
}

static int slice_compare(struct slice a, struct slice b) {
  size_t length = MIN(a.length, b.length);
  int order = length == 0 ? 0 : memcmp(a.data, b.data, length);
  return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static bool range_contains(const struct store_range *range, struct slice key) {
  return slice_compare(key, range->from) >= 0 && (range->until.length == 0 || slice_compare(key, range->until) < 0);
}

static GTreeNode *range_start(GTree *tree, const struct store_range *range) {
  if (!range->backwards) {
    return node_not_below(tree, range->from);
  }
  GTreeNode *end = range->until.length == 0 ? NULL : node_not_below(tree, range->until);
  return end == NULL ? g_tree_node_last(tree) : g_tree_node_previous(end);
}

static enum status memory_scan(struct store *store, void *snapshot, const struct store_range *range, struct rows_builder *rows,
                               struct error *error) {
  (void)error;
  struct memory *memory = memory_of(store);
  pthread_rwlock_rdlock(&memory->lock);
  uint64_t sequence = snapshot_sequence(memory, snapshot);
  GTreeNode *node = range_start(memory->families[range->family], range);
  bool wanted = true;
  while (wanted && node != NULL) {
    struct slice key = slice_of(g_tree_node_key(node));
    if (!range_contains(range, key)) {
      break;
    }
    GBytes *value = entry_value_at(g_tree_node_value(node), sequence);
    if (value != NULL) {
      wanted = rows_add(rows, key, slice_of(value));
    }
    node = range->backwards ? g_tree_node_previous(node) : g_tree_node_next(node);
  }
  pthread_rwlock_unlock(&memory->lock);
  return STATUS_OK;
}

/* ---- writing ---- */

/* Drops the versions of one entry that no reader at `oldest` or later can see, and the entry with its last one. */
static void entry_prune(GTree *tree, GBytes *key, uint64_t oldest) {
  struct entry *entry = g_tree_lookup(tree, key);
  if (entry == NULL) {
    return;
  }
  struct version *seen = entry->newest;
  while (seen->sequence > oldest && seen->older != NULL) {
    seen = seen->older;
  }
  if (seen->sequence > oldest) {
    return;
  }
  version_free_chain(seen->older);
  seen->older = NULL;
  if (seen == entry->newest && seen->value == NULL) {
    g_tree_remove(tree, key);
  }
}

/* Call with the lock held for writing. */
static void memory_collect(struct memory *memory) {
  const struct snapshot *first = g_queue_peek_head(&memory->snapshots);
  uint64_t oldest = snapshot_sequence(memory, first);
  struct garbage *garbage = g_queue_peek_head(&memory->garbage);
  while (garbage != NULL && garbage->sequence <= oldest) {
    entry_prune(memory->families[garbage->family], garbage->key, oldest);
    garbage_free(g_queue_pop_head(&memory->garbage));
    garbage = g_queue_peek_head(&memory->garbage);
  }
}

static void memory_apply(struct memory *memory, const struct change *change, uint64_t sequence) {
  GTree *tree = memory->families[change->family];
  GBytes *key = g_bytes_new(change->key.data, change->key.length);
  struct entry *entry = g_tree_lookup(tree, key);
  if (entry == NULL && change->is_delete) {
    g_bytes_unref(key);
    return;
  }
  struct version *version = g_new0(struct version, 1);
  version->sequence = sequence;
  version->value = change->is_delete ? NULL : g_bytes_new(change->value.data, change->value.length);
  if (entry == NULL) {
    entry = g_new0(struct entry, 1);
    g_tree_insert(tree, g_bytes_ref(key), entry);
  } else {
    struct garbage *garbage = g_new0(struct garbage, 1);
    *garbage = (struct garbage){sequence, change->family, g_bytes_ref(key)};
    g_queue_push_tail(&memory->garbage, garbage);
  }
  version->older = entry->newest;
  entry->newest = version;
  g_bytes_unref(key);
}

static enum status memory_write(struct store *store, const struct store_batch *batch, struct error *error) {
  (void)error;
  struct memory *memory = memory_of(store);
  pthread_rwlock_wrlock(&memory->lock);
  memory->sequence++;
  struct change change;
  for (size_t position = 0; batch_next(batch, &position, &change);) {
    memory_apply(memory, &change, memory->sequence);
  }
  memory_collect(memory);
  pthread_rwlock_unlock(&memory->lock);
  return STATUS_OK;
}

static enum status memory_sync(struct store *store, struct error *error) {
  (void)store;
  (void)error;
  return STATUS_OK;
}

/* ---- snapshots, life ---- */

static void *memory_snapshot_open(struct store *store) {
  struct memory *memory = memory_of(store);
  struct snapshot *snapshot = g_new0(struct snapshot, 1);
  pthread_rwlock_wrlock(&memory->lock);
  snapshot->sequence = memory->sequence;
  g_queue_push_tail(&memory->snapshots, snapshot);
  snapshot->link = g_queue_peek_tail_link(&memory->snapshots);
  pthread_rwlock_unlock(&memory->lock);
  return snapshot;
}

static void memory_snapshot_close(struct store *store, void *data) {
  struct memory *memory = memory_of(store);
  struct snapshot *snapshot = data;
  pthread_rwlock_wrlock(&memory->lock);
  g_queue_delete_link(&memory->snapshots, snapshot->link);
  memory_collect(memory);
  pthread_rwlock_unlock(&memory->lock);
  g_free(snapshot);
}

static void memory_close(struct store *store) {
  struct memory *memory = memory_of(store);
  g_assert(g_queue_is_empty(&memory->snapshots)); /* a view outlives its store */
  g_queue_clear_full(&memory->garbage, garbage_free);
  for (size_t i = 0; i < FAMILIES; i++) {
    g_tree_unref(memory->families[i]);
  }
  pthread_rwlock_destroy(&memory->lock);
  store_fini(&memory->base);
  g_free(memory);
}

static const struct backend memory_backend = {
    .name = "memory",
    .get_many = memory_get_many,
    .scan = memory_scan,
    .write = memory_write,
    .sync = memory_sync,
    .snapshot_open = memory_snapshot_open,
    .snapshot_close = memory_snapshot_close,
    .close = memory_close,
};

struct store *store_open_memory(void) {
  struct memory *memory = g_new0(struct memory, 1);
  store_init(&memory->base, &memory_backend);
  pthread_rwlock_init(&memory->lock, NULL);
  for (size_t i = 0; i < FAMILIES; i++) {
    memory->families[i] = g_tree_new_full(key_compare, NULL, key_free, entry_free);
  }
  g_queue_init(&memory->snapshots);
  g_queue_init(&memory->garbage);
  return &memory->base;
}
