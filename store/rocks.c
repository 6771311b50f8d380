/* SPDX-License-Identifier: Apache-2.0 */
/* rocks.c: the store in RocksDB, one column family each. The only file that sees RocksDB's header.
 *
 * Durability. Writes go to the log without a sync; rocksdb_flush_wal(db, 1) syncs all logs that are not yet, oldest first. Synced
 * writes are never mixed in, and the log is never flushed by hand (older versions lost or damaged logs that way; >= 7.7 is
 * required).
 *
 * Recovery takes the log up to the first damage ("point in time"): anything stricter refuses the torn tail of every real crash.
 * But it also opens happily when synced writes are gone. Therefore the file DURABLE (durable.h) holds the sequence number that
 * the last sync covered, and open refuses a store that recovers less. RocksDB numbers each put and delete; that is what the
 * message counts. */
#include "store/backend.h"
#include "store/durable.h"
#include "store/kept.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <rocksdb/c.h>

#define DEFAULT_CACHE_BYTES ((uint64_t)64 << 20)
#define DEFAULT_MEMTABLE_BYTES ((uint64_t)128 << 20)
#define DEFAULT_LOG_BYTES ((uint64_t)256 << 20)
#define OPEN_FILES_MAX 256
#define BACKGROUND_JOBS 2
#define INFO_LOG_BYTES ((size_t)4 << 20)
#define INFO_LOGS_KEPT 4
#define BLOOM_BITS 10.0
/* A memtable of one family; all of them together are bounded by memtable_bytes. */
#define FAMILY_MEMTABLE_BYTES ((size_t)64 << 20)
#define ARENA_BLOCK_BYTES ((size_t)128 << 10)
/* Compact a file in which this many of so many neighbouring entries are deletes. */
#define DELETES_WINDOW 16384
#define DELETES_TRIGGER 8192
#define GETS_AT_ONCE 64
/* A write batch larger than this is given back after the write. */
#define BATCH_KEPT_BYTES ((size_t)4 << 20)

struct rocks {
  struct store base;
  rocksdb_t *db;
  rocksdb_cache_t *cache;
  rocksdb_column_family_handle_t *families[FAMILIES];
  rocksdb_column_family_handle_t *default_family; /* RocksDB insists on it; empty */
  rocksdb_readoptions_t *read_latest;
  rocksdb_writeoptions_t *write_options;
  rocksdb_writebatch_t *batch; /* the writer's, used again */
  char *directory;
  int durable_file; /* -1: read only */
};

struct snapshot {
  const rocksdb_snapshot_t *snapshot;
  rocksdb_readoptions_t *read_options;
};

static struct rocks *rocks_of(struct store *store) {
  return (struct rocks *)store;
}

/* Takes RocksDB's message. */
static enum status rocks_error(struct error *error, const char *doing, char *message) {
  enum status status = g_str_has_prefix(message, "Corruption") ? STATUS_DATA_LOSS : STATUS_UNAVAILABLE;
  error_set(error, status, NULL, "RocksDB could not %s: %s", doing, message);
  rocksdb_free(message);
  return status;
}

/* ---- reading ---- */

/* Up to GETS_AT_ONCE gets of one family: a third cheaper than one by one. */
static enum status get_run(struct rocks *rocks, rocksdb_readoptions_t *options, struct store_get *gets, size_t count,
                           struct error *error) {
  const char *keys[GETS_AT_ONCE];
  size_t key_lengths[GETS_AT_ONCE];
  rocksdb_pinnableslice_t *values[GETS_AT_ONCE];
  char *messages[GETS_AT_ONCE];
  g_assert(count > 0 && count <= GETS_AT_ONCE);
  for (size_t i = 0; i < count; i++) {
    keys[i] = gets[i].key.data;
    key_lengths[i] = gets[i].key.length;
  }
  rocksdb_batched_multi_get_cf(rocks->db, options, rocks->families[gets[0].family], count, keys, key_lengths, values, messages,
                               false);
  enum status status = STATUS_OK;
  for (size_t i = 0; i < count; i++) {
    if (messages[i] != NULL) {
      status = rocks_error(error, "read", messages[i]);
    } else if (values[i] != NULL) {
      size_t length = 0;
      const char *value = rocksdb_pinnableslice_value(values[i], &length);
      get_found(&gets[i], g_bytes_new_with_free_func(value, length, (GDestroyNotify)rocksdb_pinnableslice_destroy, values[i]));
    }
  }
  return status;
}

static enum status rocks_get_many(struct store *store, void *view, struct store_get *gets, size_t count, struct error *error) {
  struct rocks *rocks = rocks_of(store);
  struct snapshot *snapshot = view;
  rocksdb_readoptions_t *options = snapshot == NULL ? rocks->read_latest : snapshot->read_options;
  enum status status = STATUS_OK;
  for (size_t start = 0; start < count && status == STATUS_OK;) {
    size_t end = start + 1;
    while (end < count && end - start < GETS_AT_ONCE && gets[end].family == gets[start].family) {
      end++;
    }
    status = get_run(rocks, options, &gets[start], end - start, error);
    start = end;
  }
  return status;
}

static void iterate(rocksdb_iterator_t *iterator, bool backwards, struct rows_builder *rows) {
  if (backwards) {
    rocksdb_iter_seek_to_last(iterator);
  } else {
    rocksdb_iter_seek_to_first(iterator);
  }
  bool wanted = true;
  while (wanted && rocksdb_iter_valid(iterator)) {
    struct slice key;
    struct slice value;
    key.data = rocksdb_iter_key(iterator, &key.length);
    value.data = rocksdb_iter_value(iterator, &value.length);
    wanted = rows_add(rows, key, value);
    if (wanted && backwards) {
      rocksdb_iter_prev(iterator);
    } else if (wanted) {
      rocksdb_iter_next(iterator);
    }
  }
}

/* The bounds do the seeking: with them set, first and last mean those of the range, and no tombstones outside it are walked. */
static enum status rocks_scan(struct store *store, void *view, const struct store_range *range, struct rows_builder *rows,
                              struct error *error) {
  struct rocks *rocks = rocks_of(store);
  struct snapshot *snapshot = view;
  rocksdb_readoptions_t *options = rocksdb_readoptions_create();
  if (snapshot != NULL) {
    rocksdb_readoptions_set_snapshot(options, snapshot->snapshot);
  }
  if (range->from.length > 0) {
    rocksdb_readoptions_set_iterate_lower_bound(options, range->from.data, range->from.length);
  }
  if (range->until.length > 0) {
    rocksdb_readoptions_set_iterate_upper_bound(options, range->until.data, range->until.length);
  }
  rocksdb_iterator_t *iterator = rocksdb_create_iterator_cf(rocks->db, options, rocks->families[range->family]);
  iterate(iterator, range->backwards, rows);
  char *message = NULL;
  rocksdb_iter_get_error(iterator, &message);
  rocksdb_iter_destroy(iterator);
  rocksdb_readoptions_destroy(options);
  return message == NULL ? STATUS_OK : rocks_error(error, "scan", message);
}

/* ---- writing ---- */

static enum status rocks_write(struct store *store, const struct store_batch *batch, struct error *error) {
  struct rocks *rocks = rocks_of(store);
  g_assert(rocks->durable_file >= 0); /* not opened read-only */
  struct change change;
  for (size_t position = 0; batch_next(batch, &position, &change);) {
    rocksdb_column_family_handle_t *family = rocks->families[change.family];
    if (change.is_delete) {
      rocksdb_writebatch_delete_cf(rocks->batch, family, change.key.data, change.key.length);
    } else {
      rocksdb_writebatch_put_cf(rocks->batch, family, change.key.data, change.key.length, change.value.data, change.value.length);
    }
  }
  char *message = NULL;
  rocksdb_write(rocks->db, rocks->write_options, rocks->batch, &message);
  if (store_batch_bytes(batch) > BATCH_KEPT_BYTES) {
    rocksdb_writebatch_destroy(rocks->batch);
    rocks->batch = rocksdb_writebatch_create();
  } else {
    rocksdb_writebatch_clear(rocks->batch);
  }
  return message == NULL ? STATUS_OK : rocks_error(error, "write", message);
}

static enum status rocks_sync(struct store *store, struct error *error) {
  struct rocks *rocks = rocks_of(store);
  g_assert(rocks->durable_file >= 0);
  uint64_t covered = rocksdb_get_latest_sequence_number(rocks->db); /* before: what is written meanwhile may not be covered */
  char *message = NULL;
  rocksdb_flush_wal(rocks->db, 1, &message);
  if (message != NULL) {
    return rocks_error(error, "sync its log", message);
  }
  return durable_write(rocks->durable_file, covered, error);
}

/* ---- views and the rest ---- */

static void *rocks_snapshot_open(struct store *store) {
  struct rocks *rocks = rocks_of(store);
  struct snapshot *snapshot = g_new0(struct snapshot, 1);
  snapshot->snapshot = rocksdb_create_snapshot(rocks->db);
  snapshot->read_options = rocksdb_readoptions_create();
  rocksdb_readoptions_set_snapshot(snapshot->read_options, snapshot->snapshot);
  return snapshot;
}

static void rocks_snapshot_close(struct store *store, void *data) {
  struct rocks *rocks = rocks_of(store);
  struct snapshot *snapshot = data;
  rocksdb_readoptions_destroy(snapshot->read_options);
  rocksdb_release_snapshot(rocks->db, snapshot->snapshot);
  g_free(snapshot);
}

static enum status rocks_checkpoint(struct store *store, const char *directory, struct error *error) {
  struct rocks *rocks = rocks_of(store);
  if (access(directory, F_OK) == 0) {
    return error_set(error, STATUS_ALREADY_EXISTS, "directory", "%s exists already; a checkpoint makes its directory.",
                     directory);
  }
  uint64_t covered = rocksdb_get_latest_sequence_number(rocks->db);
  char *message = NULL;
  rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(rocks->db, &message);
  if (message != NULL) {
    return rocks_error(error, "start a checkpoint", message);
  }
  rocksdb_checkpoint_create(checkpoint, directory, 0, &message); /* 0: flush the memtables rather than copy the log */
  rocksdb_checkpoint_object_destroy(checkpoint);
  if (message != NULL) {
    return rocks_error(error, "make the checkpoint", message);
  }
  int file = -1;
  enum status status = durable_open(directory, covered, &file, error);
  durable_close(file);
  return status;
}

/* Beside the automatic ones, so that writes do not pile up behind it. */
static void rocks_compact(struct store *store, enum family family, struct slice from, struct slice until) {
  struct rocks *rocks = rocks_of(store);
  rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
  rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
  rocksdb_compact_range_cf_opt(rocks->db, rocks->families[family], options, from.length == 0 ? NULL : from.data, from.length,
                               until.length == 0 ? NULL : until.data, until.length);
  rocksdb_compactoptions_destroy(options);
}

static void rocks_compact_stop(struct store *store) {
  rocksdb_disable_manual_compaction(rocks_of(store)->db);
}

/* What the files occupy: sparse and preallocated parts counted as they are. */
static void measure_files(const char *path, struct store_statistics *statistics) {
  GDir *directory = g_dir_open(path, 0, NULL);
  if (directory == NULL) {
    return;
  }
  for (const char *name = g_dir_read_name(directory); name != NULL; name = g_dir_read_name(directory)) {
    g_autofree char *file = g_build_filename(path, name, NULL);
    struct stat about;
    if (stat(file, &about) == 0 && S_ISREG(about.st_mode)) {
      uint64_t bytes = (uint64_t)about.st_blocks * 512;
      statistics->disk_bytes += bytes;
      statistics->table_bytes += g_str_has_suffix(name, ".sst") ? bytes : 0;
      statistics->log_bytes += g_str_has_suffix(name, ".log") ? bytes : 0;
    }
  }
  g_dir_close(directory);
}

static uint64_t rocks_memory_bytes(struct rocks *rocks) {
  rocksdb_memory_consumers_t *consumers = rocksdb_memory_consumers_create();
  rocksdb_memory_consumers_add_db(consumers, rocks->db);
  rocksdb_memory_consumers_add_cache(consumers, rocks->cache);
  char *message = NULL;
  uint64_t bytes = 0;
  rocksdb_memory_usage_t *usage = rocksdb_approximate_memory_usage_create(consumers, &message);
  if (message != NULL) {
    rocksdb_free(message);
  } else {
    bytes = rocksdb_approximate_memory_usage_get_mem_table_total(usage) +
            rocksdb_approximate_memory_usage_get_mem_table_readers_total(usage) +
            rocksdb_approximate_memory_usage_get_cache_total(usage);
    rocksdb_approximate_memory_usage_destroy(usage);
  }
  rocksdb_memory_consumers_destroy(consumers);
  return bytes;
}

static void rocks_statistics(struct store *store, struct store_statistics *statistics) {
  struct rocks *rocks = rocks_of(store);
  measure_files(rocks->directory, statistics);
  struct statvfs about;
  if (statvfs(rocks->directory, &about) == 0) {
    statistics->disk_free_bytes = (uint64_t)about.f_bavail * about.f_frsize;
  }
  statistics->memory_bytes = rocks_memory_bytes(rocks);
  uint64_t stopped = 0;
  uint64_t delayed = 0;
  rocksdb_property_int(rocks->db, "rocksdb.is-write-stopped", &stopped);
  rocksdb_property_int(rocks->db, "rocksdb.actual-delayed-write-rate", &delayed);
  for (size_t i = 0; i < FAMILIES; i++) {
    uint64_t bytes = 0;
    rocksdb_property_int_cf(rocks->db, rocks->families[i], "rocksdb.estimate-pending-compaction-bytes", &bytes);
    statistics->compaction_pending_bytes += bytes;
  }
  statistics->write_stalled = stopped != 0 || delayed != 0;
}

/* Also of a half-opened store. */
static void rocks_close(struct store *store) {
  struct rocks *rocks = rocks_of(store);
  durable_close(rocks->durable_file);
  if (rocks->db != NULL) {
    for (size_t i = 0; i < FAMILIES; i++) {
      rocksdb_column_family_handle_destroy(rocks->families[i]);
    }
    rocksdb_column_family_handle_destroy(rocks->default_family);
    rocksdb_close(rocks->db);
  }
  rocksdb_readoptions_destroy(rocks->read_latest);
  rocksdb_writeoptions_destroy(rocks->write_options);
  rocksdb_writebatch_destroy(rocks->batch);
  rocksdb_cache_destroy(rocks->cache);
  g_free(rocks->directory);
  store_fini(&rocks->base);
  g_free(rocks);
}

static const struct backend rocks_backend = {
    .name = "rocksdb",
    .get_many = rocks_get_many,
    .scan = rocks_scan,
    .write = rocks_write,
    .sync = rocks_sync,
    .snapshot_open = rocks_snapshot_open,
    .snapshot_close = rocks_snapshot_close,
    .checkpoint = rocks_checkpoint,
    .compact = rocks_compact,
    .compact_stop = rocks_compact_stop,
    .statistics = rocks_statistics,
    .close = rocks_close,
};

/* ---- opening ---- */

/* How a family is used decides its options. */
enum usage {
  USAGE_POINT = 1, /* looked up by whole key, often in vain: a filter pays */
  USAGE_QUEUE = 2, /* taken from the head: deletes gather in front and are worth an early compaction */
};
static const unsigned family_usage[FAMILIES] = {
    [FAMILY_READY_LOW] = USAGE_QUEUE,      [FAMILY_READY_NORMAL] = USAGE_QUEUE, [FAMILY_READY_HIGH] = USAGE_QUEUE,
    [FAMILY_READY_CRITICAL] = USAGE_QUEUE, [FAMILY_JOBS] = USAGE_POINT,         [FAMILY_SPECS] = USAGE_POINT,
    [FAMILY_RESULTS] = USAGE_POINT,        [FAMILY_LEASES] = USAGE_QUEUE,       [FAMILY_TIMERS] = USAGE_QUEUE,
    [FAMILY_PARKED] = USAGE_QUEUE,         [FAMILY_CHAINS] = USAGE_POINT,       [FAMILY_BATCHES] = USAGE_POINT,
    [FAMILY_DEAD] = USAGE_QUEUE,           [FAMILY_FINISHED] = USAGE_QUEUE,     [FAMILY_UNIQUE] = USAGE_POINT,
};

static rocksdb_options_t *family_options(const struct rocks *rocks, unsigned usage) {
  rocksdb_options_t *options = rocksdb_options_create();
  rocksdb_options_set_compression(options, rocksdb_lz4_compression);
  rocksdb_options_set_write_buffer_size(options, FAMILY_MEMTABLE_BYTES);
  rocksdb_options_set_arena_block_size(options, ARENA_BLOCK_BYTES);
  rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
  if (usage & USAGE_QUEUE) {
    rocksdb_options_add_compact_on_deletion_collector_factory(options, DELETES_WINDOW, DELETES_TRIGGER);
  }
  rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
  rocksdb_block_based_options_set_block_cache(table, rocks->cache);
  rocksdb_block_based_options_set_format_version(table, 5);
  /* In the cache, so that memory does not grow with the data. */
  rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
  rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
  rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
  if (usage & USAGE_POINT) {
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS)); /* takes it */
  }
  rocksdb_options_set_block_based_table_factory(options, table); /* copies */
  rocksdb_block_based_options_destroy(table);
  return options;
}

/* NULL with RocksDB's message when it does not know an option. */
static rocksdb_options_t *database_options(const struct store_options *wanted, char **out_message) {
  rocksdb_options_t *options = rocksdb_options_create();
  /* The manifest remembers each log but the newest: an older one that is gone would leave a gap without a short sequence number.
   * This option has no setter in C. */
  const char *tracking =
      wanted->accept_loss ? "track_and_verify_wals_in_manifest=false" : "track_and_verify_wals_in_manifest=true";
  rocksdb_get_options_from_string(options, tracking, options, out_message);
  if (*out_message != NULL) {
    rocksdb_options_destroy(options);
    return NULL;
  }
  rocksdb_options_set_create_if_missing(options, wanted->create_if_missing);
  rocksdb_options_set_create_missing_column_families(options, !wanted->read_only);
  rocksdb_options_set_wal_recovery_mode(options, rocksdb_point_in_time_recovery);
  rocksdb_options_set_db_write_buffer_size(options,
                                           wanted->memtable_bytes != 0 ? wanted->memtable_bytes : DEFAULT_MEMTABLE_BYTES);
  rocksdb_options_set_max_total_wal_size(options, wanted->log_bytes_max != 0 ? wanted->log_bytes_max : DEFAULT_LOG_BYTES);
  rocksdb_options_set_max_open_files(options, OPEN_FILES_MAX);
  rocksdb_options_set_max_background_jobs(options, BACKGROUND_JOBS);
  rocksdb_options_set_bytes_per_sync(options, (uint64_t)1 << 20);
  rocksdb_options_set_stats_dump_period_sec(options, 0);
  rocksdb_options_set_max_log_file_size(options, INFO_LOG_BYTES);
  rocksdb_options_set_keep_log_file_num(options, INFO_LOGS_KEPT);
  if (wanted->read_only) {
    rocksdb_options_set_db_log_dir(options, "/dev/null"); /* no place: RocksDB goes on without an information log */
  }
  return options;
}

/* `missing`: how many writes; 0: nobody knows. */
static enum status refuse_loss(struct error *error, const char *directory, const char *what, const char *reason,
                               uint64_t missing) {
  char number[24] = "";
  if (missing > 0) {
    g_snprintf(number, sizeof number, "%" G_GUINT64_FORMAT, missing);
  }
  g_autofree char *kept = kept_find(directory);
  error_set(error, STATUS_DATA_LOSS, "directory",
            "The store in %s %s. Restore the whole directory from a copy, or go on with what is there: "
            "millrace repair --accept-loss %s%s%s",
            directory, what, directory, kept != NULL ? ". As it was before it was opened it is kept in " : "",
            kept != NULL ? kept : "");
  return error_reason(error, reason, number);
}

static enum status refuse_lock(struct error *error, const char *directory) {
  return error_set(error, STATUS_FAILED_PRECONDITION, "directory",
                   "The store in %s is in use by another process (its file LOCK is held); stop that one first.", directory);
}

/* RocksDB takes no lock when it only reads; what a running server changes meanwhile would look like damage. And no copy is to be
 * kept of a store that another process has open. */
static bool is_locked(const char *directory) {
  g_autofree char *path = g_build_filename(directory, "LOCK", NULL);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return false;
  }
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  bool locked = fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
  close(file);
  return locked;
}

/* Takes RocksDB's message. */
static enum status open_error(struct error *error, const char *directory, char *message) {
  enum status status;
  if (strstr(message, "lock hold by current process") != NULL || strstr(message, "While lock file") != NULL) {
    status = refuse_lock(error, directory);
  } else if (g_str_has_prefix(message, "Corruption") && strstr(message, "WAL") != NULL) {
    g_autofree char *what = g_strdup_printf("misses a log that was durable, or a part of it (%s)", message);
    status = refuse_loss(error, directory, what, "LOG_MISSING", 0);
  } else if (g_str_has_prefix(message, "Invalid argument")) {
    status = error_set(error, STATUS_FAILED_PRECONDITION, "directory", "The store in %s does not fit this version: %s", directory,
                       message);
  } else {
    return rocks_error(error, "open the store", message);
  }
  rocksdb_free(message);
  return status;
}

static enum status rocks_open_families(struct rocks *rocks, const struct store_options *wanted, struct error *error) {
  const char *names[FAMILIES + 1];
  const rocksdb_options_t *options[FAMILIES + 1];
  rocksdb_column_family_handle_t *handles[FAMILIES + 1];
  char *message = NULL;
  rocksdb_options_t *database = database_options(wanted, &message);
  if (database == NULL) {
    return open_error(error, rocks->directory, message);
  }
  rocksdb_options_t *by_usage[] = {family_options(rocks, 0), family_options(rocks, USAGE_POINT),
                                   family_options(rocks, USAGE_QUEUE)};
  for (size_t i = 0; i < FAMILIES; i++) {
    names[i] = family_names[i];
    options[i] = by_usage[family_usage[i]];
  }
  names[FAMILIES] = "default";
  options[FAMILIES] = by_usage[0];
  if (wanted->read_only) {
    rocks->db = rocksdb_open_for_read_only_column_families(database, rocks->directory, FAMILIES + 1, names, options, handles, 0,
                                                           &message);
  } else {
    rocks->db = rocksdb_open_column_families(database, rocks->directory, FAMILIES + 1, names, options, handles, &message);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(by_usage); i++) {
    rocksdb_options_destroy(by_usage[i]);
  }
  rocksdb_options_destroy(database);
  if (message != NULL) {
    return open_error(error, rocks->directory, message);
  }
  memcpy(rocks->families, handles, sizeof rocks->families);
  rocks->default_family = handles[FAMILIES];
  return STATUS_OK;
}

/* Before RocksDB touches anything: what the directory must recover (*out_durable), or why it must not be opened. */
static enum status check_directory(const struct store_options *wanted, uint64_t *out_durable, struct error *error) {
  bool exists = false;
  uint64_t durable = 0;
  enum durable_state state = DURABLE_ABSENT;
  enum status status = durable_find_database(wanted->directory, &exists, error);
  if (status == STATUS_OK) {
    status = durable_read(wanted->directory, &state, &durable, error);
  }
  if (status != STATUS_OK) {
    return status;
  }
  if (wanted->accept_loss && exists) {
    *out_durable = 0;
    return STATUS_OK;
  }
  if (state == DURABLE_DAMAGED || (state == DURABLE_ABSENT && exists)) {
    return refuse_loss(error, wanted->directory,
                       state == DURABLE_ABSENT ? "has lost its file DURABLE, so nothing tells whether writes are missing"
                                               : "has a damaged file DURABLE, so nothing tells whether writes are missing",
                       "DURABLE_MISSING", 0);
  }
  if (!exists && durable > 0) {
    g_autofree char *what =
        g_strdup_printf("has lost its database: all %" G_GUINT64_FORMAT " durable writes are missing", durable);
    return refuse_loss(error, wanted->directory, what, "WRITES_MISSING", durable);
  }
  if (!exists && (!wanted->create_if_missing || wanted->read_only)) {
    return error_set(error, STATUS_NOT_FOUND, "directory", "There is no store in %s.", wanted->directory);
  }
  *out_durable = durable;
  return STATUS_OK;
}

/* After recovery. */
static enum status check_recovered(const struct rocks *rocks, uint64_t durable, struct error *error) {
  uint64_t recovered = rocksdb_get_latest_sequence_number(rocks->db);
  if (recovered >= durable) {
    return STATUS_OK;
  }
  g_autofree char *what =
      g_strdup_printf("misses %" G_GUINT64_FORMAT " writes (puts and deletes) that were durable: number %" G_GUINT64_FORMAT
                      " was synced, the log ends at %" G_GUINT64_FORMAT,
                      durable - recovered, durable, recovered);
  return refuse_loss(error, rocks->directory, what, "WRITES_MISSING", durable - recovered);
}

static enum status rocks_open(struct rocks *rocks, const struct store_options *wanted, struct error *error) {
  if (is_locked(wanted->directory)) {
    return refuse_lock(error, wanted->directory);
  }
  uint64_t durable = 0;
  enum status status = check_directory(wanted, &durable, error);
  if (status != STATUS_OK) {
    return status;
  }
  bool kept = false;
  if (!wanted->read_only) {
    status = durable_prepare(wanted->directory, error);
    kept = status == STATUS_OK && kept_make(wanted->directory);
  }
  if (status == STATUS_OK) {
    status = rocks_open_families(rocks, wanted, error);
  }
  if (status == STATUS_OK) {
    status = check_recovered(rocks, durable, error);
  }
  if (!wanted->read_only && (status == STATUS_OK || (kept && status != STATUS_DATA_LOSS))) {
    kept_remove(wanted->directory);
  }
  if (status == STATUS_OK && !wanted->read_only) {
    /* Recovery has moved the log into synced tables. */
    status = durable_open(wanted->directory, rocksdb_get_latest_sequence_number(rocks->db), &rocks->durable_file, error);
  }
  return status;
}

enum status store_open_rocks(const struct store_options *options, struct store **out_store, struct error *error) {
  struct rocks *rocks = g_new0(struct rocks, 1);
  store_init(&rocks->base, &rocks_backend);
  rocks->directory = g_strdup(options->directory);
  rocks->durable_file = -1;
  rocks->cache = rocksdb_cache_create_lru(options->cache_bytes != 0 ? options->cache_bytes : DEFAULT_CACHE_BYTES);
  rocks->read_latest = rocksdb_readoptions_create();
  rocks->write_options = rocksdb_writeoptions_create();
  rocks->batch = rocksdb_writebatch_create();
  enum status status = rocks_open(rocks, options, error);
  if (status != STATUS_OK) {
    rocks_close(&rocks->base);
    return status;
  }
  *out_store = &rocks->base;
  return STATUS_OK;
}
