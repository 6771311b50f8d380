/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: the door to durable storage: ordered families of keys, atomic batches, snapshots. It knows nothing of jobs.
 *
 * Writing: one thread calls store_write; the batch is applied at once and its ticket (rising from 1) made durable by store_sync,
 * which any one other thread may call at the same time. The writer sees its own writes. Views are consistent and do not change.
 * A failed write or sync is ambiguous: the store becomes failed, each later call answers STATUS_UNAVAILABLE, and the process
 * stops and opens it again.
 *
 * Threads: get_many, scan, view_open and view_close from any; write from one at a time; sync from one at a time; checkpoint from
 * any, beside them.
 * Errors: STATUS_UNAVAILABLE (failed, or the disk did), STATUS_DATA_LOSS (at open: writes known to be durable are missing; or
 * corruption), STATUS_FAILED_PRECONDITION (at open: another process has it, or its format is another), STATUS_UNIMPLEMENTED (no
 * such capability). */
#ifndef MILLRACE_STORE_STORE_H
#define MILLRACE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* The families; docs/storage.md tells their keys. Numbers are positions, names what RocksDB calls them. */
enum family {
  FAMILY_READY_LOW,
  FAMILY_READY_NORMAL,
  FAMILY_READY_HIGH,
  FAMILY_READY_CRITICAL,
  FAMILY_JOBS,
  FAMILY_SPECS,
  FAMILY_RESULTS,
  FAMILY_LEASES,
  FAMILY_TIMERS,
  FAMILY_PARKED,
  FAMILY_DEAD,
  FAMILY_FINISHED,
  FAMILY_LOGS,
  FAMILY_SCHEDULES,
  FAMILY_CHAINS,
  FAMILY_BATCHES,
  FAMILY_QUEUES,
  FAMILY_SESSIONS,
  FAMILY_UNIQUE,
  FAMILY_LABELS,
  FAMILY_META,
  FAMILIES
};
extern const char *const family_names[FAMILIES];

struct store;      /* an open store */
struct store_view; /* a snapshot, reference counted */

/* Borrowed or owned bytes, as each function says. */
struct slice {
  const void *data;
  size_t length;
};

/* ---- batches: puts and deletes, applied all together, in order ---- */
struct store_batch;
struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *batch); /* NULL is fine */
void store_batch_clear(struct store_batch *batch);
/* Both copy key and value. */
void store_batch_put(struct store_batch *batch, enum family family, struct slice key, struct slice value);
void store_batch_delete(struct store_batch *batch, enum family family, struct slice key);
size_t store_batch_count(const struct store_batch *batch);
size_t store_batch_bytes(const struct store_batch *batch);

/* ---- reading ---- */
struct store_get {
  enum family family;
  struct slice key;
  struct slice value; /* out: valid until store_gets_release; data NULL: not there (an empty value has data != NULL) */
  void *owner;        /* private */
};
/* Reads `count` keys at once, from `view` or, when NULL, from the latest writes. On error nothing needs releasing. */
enum status store_get_many(struct store *store, struct store_view *view, struct store_get *gets, size_t count,
                           struct error *error) STATUS_CHECK;
void store_gets_release(struct store_get *gets, size_t count);

struct store_range {
  enum family family;
  struct slice from;  /* first key; empty: from the start */
  struct slice until; /* first key not wanted any more; empty: to the end */
  bool backwards;     /* from the last key below `until` down to `from` */
  size_t limit;       /* rows at most; > 0 */
};
struct store_row {
  struct slice key;
  struct slice value;
};
/* Rows copied out; nothing is held between calls. */
struct store_rows {
  struct store_row *rows;
  size_t count;
  void *memory; /* private */
};
enum status store_scan(struct store *store, struct store_view *view, const struct store_range *range, struct store_rows *out_rows,
                       struct error *error) STATUS_CHECK;
void store_rows_release(struct store_rows *rows);

/* ---- writing ---- */
enum status store_write(struct store *store, const struct store_batch *batch, uint64_t *out_ticket,
                        struct error *error) STATUS_CHECK;
/* Returns when all batches up to `ticket` are durable. */
enum status store_sync(struct store *store, uint64_t ticket, struct error *error) STATUS_CHECK;

/* ---- views ---- */
struct store_view *store_view_open(struct store *store); /* of all writes so far; one reference */
struct store_view *store_view_ref(struct store_view *view);
void store_view_unref(struct store_view *view); /* NULL is fine; must not outlive the store */

/* ---- the rest ---- */
/* A consistent copy in `directory`, which must not exist: of all writes that have returned, and perhaps of some that come
 * meanwhile. Optional capability. */
enum status store_checkpoint(struct store *store, const char *directory, struct error *error) STATUS_CHECK;
/* Gives back the space of deleted rows of [from, until), which may take long; others read and write meanwhile. Optional: may do
 * nothing. Any thread. */
void store_compact(struct store *store, enum family family, struct slice from, struct slice until);
/* Makes those at work, and all to come, return soon. Any thread. */
void store_compact_stop(struct store *store);

struct store_statistics {
  const char *backend; /* "rocksdb", "memory", ... */
  uint64_t last_ticket;
  uint64_t synced_ticket;
  uint64_t disk_bytes;               /* all files; 0: unknown */
  uint64_t table_bytes;              /* of them */
  uint64_t log_bytes;                /* of them: what recovery reads again */
  uint64_t disk_free_bytes;          /* of the file system; UINT64_MAX: unknown */
  uint64_t memory_bytes;             /* memtables and caches; 0: unknown */
  uint64_t compaction_pending_bytes; /* estimate; 0: none, or unknown */
  bool write_stalled;
};
void store_statistics(struct store *store, struct store_statistics *out_statistics);
void store_close(struct store *store); /* NULL is fine. No sync: what was not synced may be lost. */

/* ---- opening ---- */
struct store_options {
  const char *directory;
  bool create_if_missing;
  bool accept_loss;        /* repair: take what is there although durable writes are missing */
  bool read_only;          /* check: changes nothing on disk */
  uint64_t cache_bytes;    /* 0: 64 MiB */
  uint64_t memtable_bytes; /* all families together; 0: 128 MiB */
  uint64_t log_bytes_max;  /* 0: 256 MiB */
};
/* RocksDB. STATUS_NOT_FOUND: nothing there, and not to be made. STATUS_DATA_LOSS tells of `millrace repair --accept-loss`; its
 * reason is WRITES_MISSING (its subject is how many puts and deletes), LOG_MISSING or DURABLE_MISSING (nobody knows how many). */
enum status store_open_rocks(const struct store_options *options, struct store **out_store, struct error *error) STATUS_CHECK;
/* In memory, for tests: lost at close. */
struct store *store_open_memory(void);

#endif
