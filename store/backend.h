/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h: what a backend of the store implements. store.c does what they share: tickets, the failed state, views and their
 * references, batches, rows. Only the files of the door include this.
 *
 * A backend's struct begins with its struct store, filled by store_init. Its functions are called under the rules of store.h (one
 * writer, one syncer, readers at any time) and never after a failure, save statistics, snapshot_close and close. */
#ifndef MILLRACE_STORE_BACKEND_H
#define MILLRACE_STORE_BACKEND_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

#include "store/store.h"

struct rows_builder;

struct backend {
  const char *name;
  /* `snapshot` is what snapshot_open gave, or NULL for the latest writes. Sets value and owner (see get_found) of the keys that
   * exist; all are absent before. On error the caller releases those already found. */
  enum status (*get_many)(struct store *store, void *snapshot, struct store_get *gets, size_t count, struct error *error);
  enum status (*scan)(struct store *store, void *snapshot, const struct store_range *range, struct rows_builder *rows,
                      struct error *error);
  /* An error of these two fails the store. sync makes durable every write that has returned before it is called. */
  enum status (*write)(struct store *store, const struct store_batch *batch, struct error *error);
  enum status (*sync)(struct store *store, struct error *error);
  void *(*snapshot_open)(struct store *store);
  void (*snapshot_close)(struct store *store, void *snapshot);
  enum status (*checkpoint)(struct store *store, const char *directory, struct error *error);      /* NULL: no such capability */
  void (*compact)(struct store *store, enum family family, struct slice from, struct slice until); /* NULL: nothing to do */
  void (*compact_stop)(struct store *store);                                                       /* NULL with `compact` */
  void (*statistics)(struct store *store, struct store_statistics *statistics); /* fills what it knows; NULL: nothing */
  void (*close)(struct store *store);                                           /* frees the struct too, after store_fini */
};

struct store {
  const struct backend *backend;
  atomic_uint_least64_t last_ticket;
  atomic_uint_least64_t synced_ticket;
  atomic_bool failed;
  pthread_mutex_t failure_lock; /* pthread, not GLib: ThreadSanitizer does not see a GMutex */
  char failure[320];            /* what failed first */
};

void store_init(struct store *store, const struct backend *backend);
void store_fini(struct store *store);
/* Makes the store failed: each later call answers STATUS_UNAVAILABLE with the first `why`. */
void store_fail(struct store *store, const char *why);

/* Marks `get` as found. Takes `owner`, which keeps the bytes of the value alive. */
void get_found(struct store_get *get, GBytes *owner);

/* Copies a row; false: the limit is reached and the row was the last one wanted. */
bool rows_add(struct rows_builder *rows, struct slice key, struct slice value);

/* One put or delete of a batch; borrowed from it. */
struct change {
  enum family family;
  bool is_delete;
  struct slice key;
  struct slice value;
};
/* Walks a batch in order: *position starts at 0; false at the end. */
bool batch_next(const struct store_batch *batch, size_t *position, struct change *out_change);

#endif
