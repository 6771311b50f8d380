/* SPDX-License-Identifier: Apache-2.0 */
/* store.c: what all backends share: tickets, the failed state, views, batches and rows.
 *
 *   open ──write or sync fails──► failed (for good; only close leaves it)
 *
 * Tickets count the batches since open. A sync covers each batch whose write returned before the sync began, so remembering the
 * last ticket at that moment is all the book-keeping there is. */
#include "store/backend.h"

#include <stdio.h>
#include <string.h>

/* A batch buffer larger than this is given back when cleared. */
#define BATCH_KEPT_BYTES ((size_t)4 << 20)
#define ROWS_CHUNK_BYTES 4096

const char *const family_names[FAMILIES] = {
    [FAMILY_READY_LOW] = "ready_low",
    [FAMILY_READY_NORMAL] = "ready_normal",
    [FAMILY_READY_HIGH] = "ready_high",
    [FAMILY_READY_CRITICAL] = "ready_critical",
    [FAMILY_JOBS] = "jobs",
    [FAMILY_SPECS] = "specs",
    [FAMILY_RESULTS] = "results",
    [FAMILY_LEASES] = "leases",
    [FAMILY_TIMERS] = "timers",
    [FAMILY_PARKED] = "parked",
    [FAMILY_DEAD] = "dead",
    [FAMILY_FINISHED] = "finished",
    [FAMILY_LOGS] = "logs",
    [FAMILY_SCHEDULES] = "schedules",
    [FAMILY_CHAINS] = "chains",
    [FAMILY_BATCHES] = "batches",
    [FAMILY_QUEUES] = "queues",
    [FAMILY_SESSIONS] = "sessions",
    [FAMILY_UNIQUE] = "unique",
    [FAMILY_LABELS] = "labels",
    [FAMILY_META] = "meta",
};

/* ---- the store itself ---- */

void store_init(struct store *store, const struct backend *backend) {
  store->backend = backend;
  atomic_init(&store->last_ticket, 0);
  atomic_init(&store->synced_ticket, 0);
  atomic_init(&store->failed, false);
  pthread_mutex_init(&store->failure_lock, NULL);
}

void store_fini(struct store *store) {
  pthread_mutex_destroy(&store->failure_lock);
}

void store_fail(struct store *store, const char *why) {
  pthread_mutex_lock(&store->failure_lock);
  if (!atomic_load(&store->failed)) {
    snprintf(store->failure, sizeof store->failure, "%s", why);
    atomic_store(&store->failed, true);
  }
  pthread_mutex_unlock(&store->failure_lock);
}

static enum status store_usable(struct store *store, struct error *error) {
  if (!atomic_load(&store->failed)) {
    return STATUS_OK;
  }
  pthread_mutex_lock(&store->failure_lock);
  enum status status =
      error_set(error, STATUS_UNAVAILABLE, NULL, "The store has failed and must be opened again: %s", store->failure);
  pthread_mutex_unlock(&store->failure_lock);
  return status;
}

void store_close(struct store *store) {
  if (store != NULL) {
    store->backend->close(store);
  }
}

/* ---- batches: one buffer of records, each a header followed by key and value ---- */

struct record_header {
  uint8_t family;
  uint8_t is_delete;
  uint32_t key_length;
  uint32_t value_length;
};

struct store_batch {
  GByteArray *bytes;
  size_t count;
};

struct store_batch *store_batch_new(void) {
  struct store_batch *batch = g_new0(struct store_batch, 1);
  batch->bytes = g_byte_array_new();
  return batch;
}

void store_batch_free(struct store_batch *batch) {
  if (batch != NULL) {
    g_byte_array_unref(batch->bytes);
    g_free(batch);
  }
}

void store_batch_clear(struct store_batch *batch) {
  if (batch->bytes->len > BATCH_KEPT_BYTES) {
    g_byte_array_unref(batch->bytes);
    batch->bytes = g_byte_array_new();
  } else {
    g_byte_array_set_size(batch->bytes, 0);
  }
  batch->count = 0;
}

static void batch_append(struct store_batch *batch, enum family family, bool is_delete, struct slice key, struct slice value) {
  g_assert((unsigned)family < FAMILIES && key.length > 0 && key.length <= UINT32_MAX && value.length <= UINT32_MAX);
  struct record_header header = {.family = (uint8_t)family,
                                 .is_delete = is_delete,
                                 .key_length = (uint32_t)key.length,
                                 .value_length = (uint32_t)value.length};
  guint start = batch->bytes->len;
  size_t end = start + sizeof header + key.length + value.length;
  g_assert(end <= G_MAXUINT / 2); /* of GByteArray */
  g_byte_array_set_size(batch->bytes, (guint)end);
  uint8_t *to = batch->bytes->data + start;
  memcpy(to, &header, sizeof header);
  memcpy(to + sizeof header, key.data, key.length);
  if (value.length > 0) {
    memcpy(to + sizeof header + key.length, value.data, value.length);
  }
  batch->count++;
}

void store_batch_put(struct store_batch *batch, enum family family, struct slice key, struct slice value) {
  batch_append(batch, family, false, key, value);
}

void store_batch_delete(struct store_batch *batch, enum family family, struct slice key) {
  batch_append(batch, family, true, key, (struct slice){0});
}

size_t store_batch_count(const struct store_batch *batch) {
  return batch->count;
}

size_t store_batch_bytes(const struct store_batch *batch) {
  return batch->bytes->len;
}

bool batch_next(const struct store_batch *batch, size_t *position, struct change *out_change) {
  if (*position >= batch->bytes->len) {
    return false;
  }
  const uint8_t *at = batch->bytes->data + *position;
  struct record_header header;
  memcpy(&header, at, sizeof header);
  at += sizeof header;
  *out_change = (struct change){.family = (enum family)header.family,
                                .is_delete = header.is_delete != 0,
                                .key = {at, header.key_length},
                                .value = {at + header.key_length, header.value_length}};
  *position += sizeof header + header.key_length + header.value_length;
  return true;
}

/* ---- reading ---- */

struct store_view {
  struct store *store;
  void *snapshot;
  atomic_uint references;
};

void get_found(struct store_get *get, GBytes *owner) {
  get->value.data = g_bytes_get_data(owner, &get->value.length);
  if (get->value.data == NULL) {
    get->value.data = ""; /* empty is not absent */
  }
  get->owner = owner;
}

enum status store_get_many(struct store *store, struct store_view *view, struct store_get *gets, size_t count,
                           struct error *error) {
  g_assert(view == NULL || view->store == store);
  enum status status = store_usable(store, error);
  if (status != STATUS_OK) {
    return status;
  }
  for (size_t i = 0; i < count; i++) {
    gets[i].value = (struct slice){0};
    gets[i].owner = NULL;
  }
  status = store->backend->get_many(store, view == NULL ? NULL : view->snapshot, gets, count, error);
  if (status != STATUS_OK) {
    store_gets_release(gets, count);
  }
  return status;
}

void store_gets_release(struct store_get *gets, size_t count) {
  for (size_t i = 0; i < count; i++) {
    g_bytes_unref(gets[i].owner);
    gets[i].value = (struct slice){0};
    gets[i].owner = NULL;
  }
}

struct rows_builder {
  GArray *rows; /* of struct store_row */
  GStringChunk *bytes;
  size_t limit;
};

static struct slice slice_copy(GStringChunk *chunk, struct slice from) {
  const char *data = from.length == 0 ? "" : g_string_chunk_insert_len(chunk, from.data, (gssize)from.length);
  return (struct slice){data, from.length};
}

bool rows_add(struct rows_builder *builder, struct slice key, struct slice value) {
  struct store_row row = {slice_copy(builder->bytes, key), slice_copy(builder->bytes, value)};
  g_array_append_val(builder->rows, row);
  return builder->rows->len < builder->limit;
}

enum status store_scan(struct store *store, struct store_view *view, const struct store_range *range, struct store_rows *out_rows,
                       struct error *error) {
  g_assert(range->limit > 0 && (view == NULL || view->store == store));
  enum status status = store_usable(store, error);
  if (status != STATUS_OK) {
    return status;
  }
  struct rows_builder builder = {.rows = g_array_new(FALSE, FALSE, sizeof(struct store_row)),
                                 .bytes = g_string_chunk_new(ROWS_CHUNK_BYTES),
                                 .limit = range->limit};
  status = store->backend->scan(store, view == NULL ? NULL : view->snapshot, range, &builder, error);
  if (status != STATUS_OK) {
    g_array_free(builder.rows, TRUE);
    g_string_chunk_free(builder.bytes);
    return status;
  }
  out_rows->count = builder.rows->len;
  out_rows->rows = (struct store_row *)(void *)g_array_free(builder.rows, FALSE);
  out_rows->memory = builder.bytes;
  return STATUS_OK;
}

void store_rows_release(struct store_rows *rows) {
  g_free(rows->rows);
  if (rows->memory != NULL) {
    g_string_chunk_free(rows->memory);
  }
  *rows = (struct store_rows){0};
}

/* ---- writing ---- */

enum status store_write(struct store *store, const struct store_batch *batch, uint64_t *out_ticket, struct error *error) {
  struct error local = {.status = STATUS_OK};
  error = error == NULL ? &local : error;
  enum status status = store_usable(store, error);
  if (status != STATUS_OK) {
    return status;
  }
  status = store->backend->write(store, batch, error);
  if (status != STATUS_OK) {
    store_fail(store, error->message);
    return status;
  }
  *out_ticket = atomic_fetch_add(&store->last_ticket, 1) + 1;
  return STATUS_OK;
}

enum status store_sync(struct store *store, uint64_t ticket, struct error *error) {
  struct error local = {.status = STATUS_OK};
  error = error == NULL ? &local : error;
  enum status status = store_usable(store, error);
  if (status != STATUS_OK || atomic_load(&store->synced_ticket) >= ticket) {
    return status;
  }
  uint64_t covered = atomic_load(&store->last_ticket);
  g_assert(ticket <= covered);
  status = store->backend->sync(store, error);
  if (status != STATUS_OK) {
    store_fail(store, error->message);
    return status;
  }
  atomic_store(&store->synced_ticket, covered);
  return STATUS_OK;
}

/* ---- views ---- */

struct store_view *store_view_open(struct store *store) {
  struct store_view *view = g_new0(struct store_view, 1);
  view->store = store;
  view->snapshot = store->backend->snapshot_open(store);
  atomic_init(&view->references, 1);
  return view;
}

struct store_view *store_view_ref(struct store_view *view) {
  atomic_fetch_add(&view->references, 1);
  return view;
}

void store_view_unref(struct store_view *view) {
  if (view != NULL && atomic_fetch_sub(&view->references, 1) == 1) {
    view->store->backend->snapshot_close(view->store, view->snapshot);
    g_free(view);
  }
}

/* ---- the rest ---- */

enum status store_checkpoint(struct store *store, const char *directory, struct error *error) {
  enum status status = store_usable(store, error);
  if (status != STATUS_OK) {
    return status;
  }
  if (store->backend->checkpoint == NULL) {
    return error_set(error, STATUS_UNIMPLEMENTED, NULL, "The %s store has no checkpoints.", store->backend->name);
  }
  return store->backend->checkpoint(store, directory, error);
}

void store_compact(struct store *store, enum family family, struct slice from, struct slice until) {
  if (store->backend->compact != NULL && !atomic_load(&store->failed)) {
    store->backend->compact(store, family, from, until);
  }
}

void store_compact_stop(struct store *store) {
  if (store->backend->compact_stop != NULL) {
    store->backend->compact_stop(store);
  }
}

void store_statistics(struct store *store, struct store_statistics *out_statistics) {
  struct store_statistics statistics = {.disk_free_bytes = UINT64_MAX};
  if (store->backend->statistics != NULL) {
    store->backend->statistics(store, &statistics);
  }
  statistics.backend = store->backend->name;
  /* In this order: a reader never sees more synced than written. */
  statistics.synced_ticket = atomic_load(&store->synced_ticket);
  statistics.last_ticket = atomic_load(&store->last_ticket);
  *out_statistics = statistics;
}
