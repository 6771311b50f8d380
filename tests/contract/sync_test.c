/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the promise of store_sync true whatever RocksDB's version does: this program stands between it and the C library, and
 * checks after each sync that every byte written to a log before is covered by a successful fdatasync or fsync of that log. A log
 * that was deleted meanwhile (its content lies in synced tables) does not count.
 *
 * The logs are kept tiny, so that they change all the time. */
#include "fixture.h"

#include <dlfcn.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOGS_MAX 4096
#define BATCHES 3000
#define DISK_TAKES_US 1000                              /* long enough for the writer to change logs in the middle of a sync */
#define DELETED_WITHIN_US ((gint64)60 * G_USEC_PER_SEC) /* an unlink waits long on a disk that has much to do */

struct log {
  char path[PATH_MAX];
  uint64_t written;
  uint64_t synced;
};

/* Plain memory under one lock: nothing here may call what it stands between. */
static struct {
  pthread_mutex_t lock;
  struct log logs[LOGS_MAX];
  size_t count;
  size_t syncs;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The log behind a descriptor, NULL for other files. Call with the lock held. */
static struct log *log_of(int file) {
  char link[32];
  char path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 4 || memcmp(path + length - 4, ".log", 4) != 0) {
    return NULL;
  }
  path[length] = '\0';
  for (size_t i = watch.count; i > 0; i--) {
    if (strcmp(watch.logs[i - 1].path, path) == 0) {
      return &watch.logs[i - 1];
    }
  }
  if (watch.count == LOGS_MAX) {
    abort();
  }
  struct log *log = &watch.logs[watch.count++];
  memcpy(log->path, path, (size_t)length + 1);
  return log;
}

static void count_written(int file, ssize_t length) {
  if (length > 0) {
    pthread_mutex_lock(&watch.lock);
    struct log *log = log_of(file);
    if (log != NULL) {
      log->written += (uint64_t)length;
    }
    pthread_mutex_unlock(&watch.lock);
  }
}

static int watched_sync(int file, const char *name) {
  int (*real)(int) = __extension__(int (*)(int)) dlsym(RTLD_NEXT, name);
  pthread_mutex_lock(&watch.lock);
  const struct log *log = log_of(file);
  ptrdiff_t index = log == NULL ? -1 : log - watch.logs;
  uint64_t covered = log == NULL ? 0 : log->written; /* what is written while it runs may not be covered */
  pthread_mutex_unlock(&watch.lock);
  if (index >= 0) {
    g_usleep(DISK_TAKES_US);
  }
  int result = real(file);
  if (result == 0 && index >= 0) {
    pthread_mutex_lock(&watch.lock);
    watch.logs[index].synced = MAX(watch.logs[index].synced, covered);
    watch.syncs++;
    pthread_mutex_unlock(&watch.lock);
  }
  return result;
}

ssize_t write(int file, const void *data, size_t length) {
  ssize_t (*real)(int, const void *, size_t) = __extension__(ssize_t(*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
  ssize_t result = real(file, data, length);
  count_written(file, result);
  return result;
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  ssize_t (*real)(int, const struct iovec *, int) =
      __extension__(ssize_t(*)(int, const struct iovec *, int)) dlsym(RTLD_NEXT, "writev");
  ssize_t result = real(file, parts, count);
  count_written(file, result);
  return result;
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
  ssize_t (*real)(int, const void *, size_t, off64_t) =
      __extension__(ssize_t(*)(int, const void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pwrite64");
  ssize_t result = real(file, data, length, offset);
  count_written(file, result);
  return result;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
  return pwrite64(file, data, length, offset);
}

int fdatasync(int file) {
  return watched_sync(file, "fdatasync");
}

int fsync(int file) {
  return watched_sync(file, "fsync");
}

/* ---- the test ---- */

struct run {
  struct store *store;
  atomic_uint_least64_t written;
  atomic_bool done;
  pthread_mutex_t writing; /* held during a write; held by the syncer to pause the writer */
  size_t suspected;        /* logs that a sync passed over, deleted soon after */
  size_t missed;           /* logs that a sync left behind */
  size_t checks;
};

/* The log, if it is still there, lacks bytes that stood in it at `before`. */
static bool log_is_behind(size_t index, uint64_t before) {
  pthread_mutex_lock(&watch.lock);
  bool behind = watch.logs[index].synced < before && access(watch.logs[index].path, F_OK) == 0;
  pthread_mutex_unlock(&watch.lock);
  return behind;
}

/* A log passed over is right only if RocksDB was done with it, its content being in synced tables, and had but to delete it. It
 * does so even while nothing is written; a log that holds something it does not delete. */
static bool log_goes_away(size_t index, uint64_t before) {
  gint64 deadline_us = g_get_monotonic_time() + DELETED_WITHIN_US;
  while (log_is_behind(index, before)) {
    if (g_get_monotonic_time() > deadline_us) {
      return false;
    }
    g_usleep(1000);
  }
  return true;
}

static void check_logs(struct run *run, const uint64_t *before, size_t count) {
  for (size_t i = 0; i < count && run->missed == 0; i++) {
    if (log_is_behind(i, before[i])) {
      run->suspected++;
      pthread_mutex_lock(&run->writing);
      run->missed += !log_goes_away(i, before[i]);
      pthread_mutex_unlock(&run->writing);
    }
  }
}

static void *syncer_run(void *data) {
  struct run *run = data;
  static uint64_t before[LOGS_MAX];
  struct error error;
  uint64_t synced = 0;
  bool last = false;
  while (!last && run->missed == 0) {
    last = atomic_load(&run->done);
    uint64_t ticket = atomic_load(&run->written);
    if (ticket == synced) {
      continue;
    }
    /* Bytes of batches beyond the ticket may be among these; the sync covers whatever was written before it, so they count. */
    pthread_mutex_lock(&watch.lock);
    size_t count = watch.count;
    for (size_t i = 0; i < count; i++) {
      before[i] = watch.logs[i].written;
    }
    pthread_mutex_unlock(&watch.lock);
    if (store_sync(run->store, ticket, &error) != STATUS_OK) {
      run->missed++;
      return NULL;
    }
    check_logs(run, before, count);
    run->checks++;
    synced = ticket;
  }
  return NULL;
}

static void write_batches(struct run *run) {
  struct store_batch *batch = store_batch_new();
  char value[600];
  memset(value, 'x', sizeof value);
  for (uint32_t i = 0; i < BATCHES; i++) {
    store_batch_clear(batch);
    for (uint32_t j = 0; j < 5; j++) {
      char key[32];
      snprintf(key, sizeof key, "%08u-%u", i, j);
      store_batch_put(batch, (enum family)((i + j) % FAMILIES), text(key), (struct slice){value, sizeof value});
    }
    pthread_mutex_lock(&run->writing);
    atomic_store(&run->written, write_batch(run->store, batch));
    pthread_mutex_unlock(&run->writing);
  }
  store_batch_free(batch);
}

static void test_sync_covers_every_byte_of_every_log(void **state) {
  (void)state;
  char *directory = directory_new();
  struct store_options options = {.directory = directory,
                                  .create_if_missing = true,
                                  .memtable_bytes = (uint64_t)1 << 20,
                                  .log_bytes_max = (uint64_t)256 << 10};
  static struct run run = {.writing = PTHREAD_MUTEX_INITIALIZER};
  struct error error = {0};
  assert_ok(store_open_rocks(&options, &run.store, &error), error);
  pthread_t syncer;
  assert_int_equal(pthread_create(&syncer, NULL, syncer_run, &run), 0);
  write_batches(&run);
  atomic_store(&run.done, true);
  pthread_join(syncer, NULL);
  store_close(run.store);
  print_message("%zu syncs checked, %zu logs, %zu log syncs, %zu suspected\n", run.checks, watch.count, watch.syncs,
                run.suspected);
  assert_true(watch.count > 3); /* it did watch, and logs did change */
  assert_true(run.checks > 0 && watch.syncs > 0);
  assert_int_equal(run.missed, 0);
  directory_remove(directory);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sync_covers_every_byte_of_every_log)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
