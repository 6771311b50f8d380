/* SPDX-License-Identifier: Apache-2.0 */
/* faulty.c: see faulty.h. Before each write it reads what the batch will change and keeps the way back; a sync throws the ways
 * back away that it covers, a crash goes them, newest first. So it needs nothing of the inner store but its door. */
#include "store/faulty.h"

#include "store/backend.h"

struct undo {
  uint64_t ticket; /* of the inner store */
  struct store_batch *batch;
};

struct faulty {
  struct store base;
  struct store *inner;
  atomic_uint countdown[FAULTS]; /* 1: the next call fails; 0: none */
  pthread_mutex_t lock;          /* of undo: the writer's and the syncer's */
  GQueue undo;                   /* of batches not synced, oldest first */
};

static struct faulty *faulty_of(struct store *store) {
  return (struct faulty *)store;
}

/* True for the call that shall fail. */
static bool fault_due(struct faulty *faulty, enum fault fault) {
  unsigned left = atomic_load(&faulty->countdown[fault]);
  while (left > 0 && !atomic_compare_exchange_weak(&faulty->countdown[fault], &left, left - 1)) {
  }
  return left == 1;
}

static enum status fault_error(struct error *error, const char *what) {
  return error_set(error, STATUS_UNAVAILABLE, NULL, "A fault was asked for in %s.", what);
}

static void undo_free(void *data) {
  struct undo *undo = data;
  store_batch_free(undo->batch);
  g_free(undo);
}

/* ---- reading ---- */

static enum status faulty_get_many(struct store *store, void *snapshot, struct store_get *gets, size_t count,
                                   struct error *error) {
  struct faulty *faulty = faulty_of(store);
  if (fault_due(faulty, FAULT_GET)) {
    return fault_error(error, "get_many");
  }
  return store_get_many(faulty->inner, snapshot, gets, count, error);
}

static enum status faulty_scan(struct store *store, void *snapshot, const struct store_range *range, struct rows_builder *rows,
                               struct error *error) {
  struct faulty *faulty = faulty_of(store);
  if (fault_due(faulty, FAULT_SCAN)) {
    return fault_error(error, "scan");
  }
  struct store_rows inner;
  enum status status = store_scan(faulty->inner, snapshot, range, &inner, error);
  if (status != STATUS_OK) {
    return status;
  }
  for (size_t i = 0; i < inner.count; i++) {
    rows_add(rows, inner.rows[i].key, inner.rows[i].value);
  }
  store_rows_release(&inner);
  return STATUS_OK;
}

/* ---- writing ---- */

/* The batch that takes `batch` back. */
static enum status undo_prepare(struct faulty *faulty, const struct store_batch *batch, struct store_batch **out_undo,
                                struct error *error) {
  size_t count = store_batch_count(batch);
  struct store_get *gets = g_new0(struct store_get, count);
  struct change change;
  size_t position = 0;
  for (size_t i = 0; batch_next(batch, &position, &change); i++) {
    gets[i].family = change.family;
    gets[i].key = change.key;
  }
  enum status status = store_get_many(faulty->inner, NULL, gets, count, error);
  if (status == STATUS_OK) {
    struct store_batch *undo = store_batch_new();
    for (size_t i = 0; i < count; i++) {
      if (gets[i].value.data == NULL) {
        store_batch_delete(undo, gets[i].family, gets[i].key);
      } else {
        store_batch_put(undo, gets[i].family, gets[i].key, gets[i].value);
      }
    }
    store_gets_release(gets, count);
    *out_undo = undo;
  }
  g_free(gets);
  return status;
}

static enum status faulty_write(struct store *store, const struct store_batch *batch, struct error *error) {
  struct faulty *faulty = faulty_of(store);
  if (fault_due(faulty, FAULT_WRITE)) {
    return fault_error(error, "write");
  }
  struct undo *undo = g_new0(struct undo, 1);
  enum status status = undo_prepare(faulty, batch, &undo->batch, error);
  if (status == STATUS_OK) {
    status = store_write(faulty->inner, batch, &undo->ticket, error);
  }
  if (status != STATUS_OK) {
    undo_free(undo);
    return status;
  }
  pthread_mutex_lock(&faulty->lock);
  g_queue_push_tail(&faulty->undo, undo);
  pthread_mutex_unlock(&faulty->lock);
  return fault_due(faulty, FAULT_WRITE_APPLIED) ? fault_error(error, "write, after it was applied") : STATUS_OK;
}

static enum status faulty_sync(struct store *store, struct error *error) {
  struct faulty *faulty = faulty_of(store);
  if (fault_due(faulty, FAULT_SYNC)) {
    return fault_error(error, "sync");
  }
  if (fault_due(faulty, FAULT_SYNC_LOST)) {
    return STATUS_OK;
  }
  pthread_mutex_lock(&faulty->lock);
  const struct undo *newest = g_queue_peek_tail(&faulty->undo);
  uint64_t ticket = newest == NULL ? 0 : newest->ticket;
  pthread_mutex_unlock(&faulty->lock);
  enum status status = store_sync(faulty->inner, ticket, error);
  if (status != STATUS_OK) {
    return status;
  }
  pthread_mutex_lock(&faulty->lock);
  struct undo *undo = g_queue_peek_head(&faulty->undo);
  while (undo != NULL && undo->ticket <= ticket) {
    undo_free(g_queue_pop_head(&faulty->undo));
    undo = g_queue_peek_head(&faulty->undo);
  }
  pthread_mutex_unlock(&faulty->lock);
  return fault_due(faulty, FAULT_SYNC_APPLIED) ? fault_error(error, "sync, after it was done") : STATUS_OK;
}

/* ---- the rest passes through ---- */

static void *faulty_snapshot_open(struct store *store) {
  return store_view_open(faulty_of(store)->inner);
}

static void faulty_snapshot_close(struct store *store, void *snapshot) {
  (void)store;
  store_view_unref(snapshot);
}

static enum status faulty_checkpoint(struct store *store, const char *directory, struct error *error) {
  struct faulty *faulty = faulty_of(store);
  if (fault_due(faulty, FAULT_CHECKPOINT)) {
    return fault_error(error, "checkpoint");
  }
  return store_checkpoint(faulty->inner, directory, error);
}

static void faulty_compact(struct store *store, enum family family, struct slice from, struct slice until) {
  store_compact(faulty_of(store)->inner, family, from, until);
}

static void faulty_compact_stop(struct store *store) {
  store_compact_stop(faulty_of(store)->inner);
}

static void faulty_statistics(struct store *store, struct store_statistics *statistics) {
  store_statistics(faulty_of(store)->inner, statistics);
}

static void faulty_close(struct store *store) {
  struct faulty *faulty = faulty_of(store);
  g_queue_clear_full(&faulty->undo, undo_free);
  pthread_mutex_destroy(&faulty->lock);
  store_fini(&faulty->base);
  g_free(faulty);
}

static const struct backend faulty_backend = {
    .name = "faulty",
    .get_many = faulty_get_many,
    .scan = faulty_scan,
    .write = faulty_write,
    .sync = faulty_sync,
    .snapshot_open = faulty_snapshot_open,
    .snapshot_close = faulty_snapshot_close,
    .checkpoint = faulty_checkpoint,
    .compact = faulty_compact,
    .compact_stop = faulty_compact_stop,
    .statistics = faulty_statistics,
    .close = faulty_close,
};

struct store *store_open_faulty(struct store *inner) {
  struct faulty *faulty = g_new0(struct faulty, 1);
  store_init(&faulty->base, &faulty_backend);
  faulty->inner = inner;
  pthread_mutex_init(&faulty->lock, NULL);
  g_queue_init(&faulty->undo);
  return &faulty->base;
}

void store_faulty_fail(struct store *store, enum fault fault, unsigned call) {
  g_assert(store->backend == &faulty_backend);
  atomic_store(&faulty_of(store)->countdown[fault], call);
}

void store_faulty_crash(struct store *store, size_t batches_kept) {
  g_assert(store->backend == &faulty_backend);
  struct faulty *faulty = faulty_of(store);
  struct error error;
  uint64_t ticket = 0;
  while (g_queue_get_length(&faulty->undo) > batches_kept) {
    struct undo *undo = g_queue_pop_tail(&faulty->undo);
    enum status status = store_write(faulty->inner, undo->batch, &ticket, &error);
    g_assert(status == STATUS_OK); /* a test's inner store does not fail */
    undo_free(undo);
  }
  g_queue_clear_full(&faulty->undo, undo_free);
  store_fail(store, "A crash was asked for.");
}
