/* SPDX-License-Identifier: Apache-2.0 */
/* What only the store on disk can show: crashes, damage to its files, locks, read-only opening, checkpoints. */
#include "fixture.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCHES 500
#define CRASHES 5

static int setup(void **state) {
  *state = directory_new();
  return 0;
}

static int teardown(void **state) {
  directory_remove(*state);
  return 0;
}

/* ---- a process that writes ---- */

static void child_check(enum status status, const struct error *error) {
  if (status != STATUS_OK) {
    fprintf(stderr, "writer: %s\n", error->message);
    _exit(1);
  }
}

/* Writes batches of two puts from number `from` on, syncs each and tells the number on standard output; up to `until`, then
 * waits. */
static void child_run(const char *directory, uint32_t from, uint32_t until) {
  struct store_options options = {.directory = directory, .create_if_missing = true};
  struct store *store = NULL;
  struct error error = {0};
  child_check(store_open_rocks(&options, &store, &error), &error);
  struct store_batch *batch = store_batch_new();
  for (uint32_t i = from; i < until; i++) {
    char key[16];
    snprintf(key, sizeof key, "%08u", i);
    store_batch_clear(batch);
    put(batch, FAMILY_JOBS, key, "a value of some length, so that the log has something to hold");
    put(batch, FAMILY_READY_NORMAL, key, "");
    uint64_t ticket = 0;
    child_check(store_write(store, batch, &ticket, &error), &error);
    child_check(store_sync(store, ticket, &error), &error);
    if (write(STDOUT_FILENO, &i, sizeof i) != (ssize_t)sizeof i) {
      _exit(1);
    }
  }
  for (;;) {
    pause();
  }
}

struct child {
  pid_t process;
  int pipe;
};

/* This program again, as "rocks_test write DIRECTORY FROM UNTIL": RocksDB's threads do not survive a bare fork. */
static struct child child_start(const char *directory, uint32_t from, uint32_t until) {
  char from_text[16];
  char until_text[16];
  snprintf(from_text, sizeof from_text, "%u", from);
  snprintf(until_text, sizeof until_text, "%u", until);
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
  pid_t process = fork();
  assert_true(process >= 0);
  if (process == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl("/proc/self/exe", "rocks_test", "write", directory, from_text, until_text, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  return (struct child){process, ends[0]};
}

/* Reads what it tells until it has told `number`. */
static void child_await(const struct child *child, uint32_t number) {
  uint32_t told = 0;
  do {
    assert_int_equal(read(child->pipe, &told, sizeof told), sizeof told);
  } while (told < number);
}

/* kill -9; answers how many batches it had acknowledged: one more than the last number told, at least `count`. */
static uint32_t child_kill(struct child *child, uint32_t count) {
  kill(child->process, SIGKILL);
  int status = 0;
  assert_int_equal(waitpid(child->process, &status, 0), child->process);
  assert_true(WIFSIGNALED(status));
  uint32_t told = 0;
  while (read(child->pipe, &told, sizeof told) == (ssize_t)sizeof told) {
    count = told + 1;
  }
  close(child->pipe);
  return count;
}

/* BATCHES synced batches, and the process that made them killed. */
static void fill_and_kill(const char *directory) {
  struct child child = child_start(directory, 0, BATCHES);
  child_await(&child, BATCHES - 1);
  child_kill(&child, BATCHES);
}

static void test_kill_loses_nothing_synced(void **state) {
  const char *directory = *state;
  uint32_t acknowledged = 0;
  for (int crash = 1; crash <= CRASHES; crash++) {
    struct child child = child_start(directory, acknowledged, UINT32_MAX);
    uint32_t awaited = acknowledged + (uint32_t)crash * 37;
    child_await(&child, awaited);
    acknowledged = child_kill(&child, awaited + 1);
    struct store *store = rocks_open(directory);
    size_t found = count_rows(store, FAMILY_JOBS);
    assert_true(found >= acknowledged && found <= acknowledged + 1); /* one may have been written and not told */
    assert_int_equal(count_rows(store, FAMILY_READY_NORMAL), found);
    store_close(store);
    acknowledged = (uint32_t)found;
  }
}

/* ---- damage ---- */

/* The newest log of the database, or the oldest. */
static char *find_log(const char *directory, bool want_newest) {
  GDir *files = g_dir_open(directory, 0, NULL);
  assert_non_null(files);
  char *found = NULL;
  for (const char *name = g_dir_read_name(files); name != NULL; name = g_dir_read_name(files)) {
    if (g_str_has_suffix(name, ".log") && (found == NULL || (strcmp(name, found) > 0) == want_newest)) {
      g_free(found);
      found = g_strdup(name);
    }
  }
  g_dir_close(files);
  assert_non_null(found);
  char *path = g_build_filename(directory, found, NULL);
  g_free(found);
  return path;
}

static void flip_bit(const char *path) {
  int file = open(path, O_RDWR | O_CLOEXEC);
  struct stat about;
  assert_int_equal(fstat(file, &about), 0);
  unsigned char byte = 0;
  assert_int_equal(pread(file, &byte, 1, about.st_size / 2), 1);
  byte ^= 0x10;
  assert_int_equal(pwrite(file, &byte, 1, about.st_size / 2), 1);
  close(file);
}

static void halve(const char *path) {
  struct stat about;
  assert_int_equal(stat(path, &about), 0);
  assert_int_equal(truncate(path, about.st_size / 2), 0);
}

static void remove_file(const char *path) {
  assert_int_equal(g_remove(path), 0);
}

static enum status try_open(const char *directory, bool accept_loss, bool read_only, struct store **out_store,
                            struct error *error) {
  struct store_options options = {
      .directory = directory, .create_if_missing = true, .accept_loss = accept_loss, .read_only = read_only};
  return store_open_rocks(&options, out_store, error);
}

static uint64_t assert_refused(const char *directory, bool read_only, const char *reason) {
  struct store *store = NULL;
  struct error error = {0};
  assert_int_equal(try_open(directory, false, read_only, &store, &error), STATUS_DATA_LOSS);
  assert_null(store);
  assert_string_equal(error.reason, reason);
  assert_non_null(strstr(error.message, "millrace repair --accept-loss"));
  uint64_t missing = strtoull(error.subject, NULL, 10);
  if (missing > 0) {
    assert_non_null(strstr(error.message, error.subject));
  }
  return missing;
}

/* Damages the last log of a store with BATCHES synced batches: refused, naming the number, until the loss is accepted. */
static void damage_log(const char *directory, void (*damage)(const char *path)) {
  fill_and_kill(directory);
  g_autofree char *path = find_log(directory, true);
  damage(path);
  uint64_t missing = assert_refused(directory, true, "WRITES_MISSING");
  assert_true(missing > 0 && missing <= (uint64_t)2 * BATCHES);
  assert_int_equal(assert_refused(directory, false, "WRITES_MISSING"), missing);
  assert_int_equal(assert_refused(directory, false, "WRITES_MISSING"), missing); /* still: nothing was forgotten */
  struct store *store = NULL;
  struct error error = {0};
  assert_ok(try_open(directory, true, false, &store, &error), error);
  assert_int_equal(count_rows(store, FAMILY_JOBS), BATCHES - missing / 2);
  assert_int_equal(count_rows(store, FAMILY_READY_NORMAL), BATCHES - missing / 2);
  assert_ok(store_sync(store, write_put(store, FAMILY_META, "after", "1"), &error), error);
  store_close(store);
  store = rocks_open(directory); /* accepted once is enough */
  assert_value(store, NULL, FAMILY_META, "after", "1");
  store_close(store);
}

static void test_flipped_bit_is_noticed(void **state) {
  damage_log(*state, flip_bit);
}

/* What lies behind the damage outlives the open that was refused for it. */
static void test_a_refused_store_is_kept_as_it_was(void **state) {
  const char *directory = *state;
  fill_and_kill(directory);
  g_autofree char *path = find_log(directory, true);
  g_autofree char *kept = g_build_filename(directory, "before-recovery", NULL);
  flip_bit(path);
  assert_refused(directory, true, "WRITES_MISSING");
  assert_int_not_equal(access(kept, F_OK), 0); /* reading changes nothing */
  for (int i = 0; i < 2; i++) {
    struct store *refused = NULL;
    struct error error = {0};
    assert_int_equal(try_open(directory, false, false, &refused, &error), STATUS_DATA_LOSS);
    assert_non_null(strstr(error.message, kept));
  }
  char *elsewhere = g_strconcat(directory, "-elsewhere", NULL);
  assert_int_equal(rename(kept, elsewhere), 0);
  g_autofree char *log = find_log(elsewhere, true);
  flip_bit(log); /* the disk reads better today */
  struct store *store = rocks_open(elsewhere);
  assert_int_equal(count_rows(store, FAMILY_JOBS), BATCHES);
  store_close(store);
  directory_remove(elsewhere);
}

static void assert_nothing_kept(const char *directory) {
  g_autofree char *kept = g_build_filename(directory, "before-recovery", NULL);
  assert_int_not_equal(access(kept, F_OK), 0);
}

static void test_nothing_is_kept_of_a_store_that_opens(void **state) {
  const char *directory = *state;
  fill_and_kill(directory);
  struct store *store = rocks_open(directory);
  assert_nothing_kept(directory);
  struct store *second = NULL;
  struct error error = {0};
  assert_int_equal(try_open(directory, false, false, &second, &error), STATUS_FAILED_PRECONDITION); /* in use */
  assert_nothing_kept(directory);
  assert_ok(store_sync(store, write_put(store, FAMILY_META, "a", "1"), &error), error);
  store_close(store);
  g_autofree char *path = find_log(directory, true);
  remove_file(path);
  assert_refused(directory, false, "WRITES_MISSING");
  assert_ok(try_open(directory, true, false, &store, &error), error);
  assert_nothing_kept(directory);
  store_close(store);
}

static void test_truncated_log_is_noticed(void **state) {
  damage_log(*state, halve);
}

static void test_deleted_log_is_noticed(void **state) {
  damage_log(*state, remove_file);
}

static void test_torn_tail_is_no_loss(void **state) {
  const char *directory = *state;
  fill_and_kill(directory);
  g_autofree char *path = find_log(directory, true);
  int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  assert_int_equal(write(file, "half a record", 13), 13);
  close(file);
  struct store *store = rocks_open(directory);
  assert_int_equal(count_rows(store, FAMILY_JOBS), BATCHES);
  store_close(store);
}

/* One memtable full, so that the first log, which alone holds a small row of another family, is followed by another. Not two: at
 * the limit of all memtables together RocksDB would write out the small row's, and nothing would need the first log any more. */
static void fill_logs(const char *directory) {
  struct store *store = rocks_open(directory);
  struct error error = {0};
  char *value = g_malloc0((size_t)2 << 20);
  struct store_batch *batch = store_batch_new();
  write_put(store, FAMILY_META, "in the first log", "1");
  for (int i = 0; i < 40; i++) {
    char key[8];
    snprintf(key, sizeof key, "%d", i);
    store_batch_clear(batch);
    store_batch_put(batch, FAMILY_SPECS, text(key), (struct slice){value, (size_t)2 << 20});
    assert_ok(store_sync(store, write_batch(store, batch), &error), error);
  }
  store_batch_free(batch);
  g_free(value);
  store_close(store);
}

static void damage_older_log(const char *directory, void (*damage)(const char *path)) {
  fill_logs(directory);
  g_autofree char *oldest = find_log(directory, false);
  g_autofree char *newest = find_log(directory, true);
  assert_string_not_equal(oldest, newest);
  damage(oldest);
  assert_refused(directory, true, "LOG_MISSING");
  assert_refused(directory, false, "LOG_MISSING");
  struct store *store = NULL;
  struct error error = {0};
  assert_ok(try_open(directory, true, false, &store, &error), error);
  assert_value(store, NULL, FAMILY_META, "in the first log", NULL);
  store_close(store);
  store_close(rocks_open(directory));
}

static void test_deleted_older_log_is_noticed(void **state) {
  damage_older_log(*state, remove_file);
}

static void empty_file(const char *path) {
  assert_int_equal(truncate(path, 0), 0);
}

static void test_emptied_older_log_is_noticed(void **state) {
  damage_older_log(*state, empty_file);
}

static void test_damaged_or_missing_mark_is_noticed(void **state) {
  const char *directory = *state;
  g_autofree char *path = g_build_filename(directory, "DURABLE", NULL);
  void (*const damages[])(const char *) = {flip_bit, halve, remove_file};
  for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
    struct store *store = rocks_open(directory);
    struct error error = {0};
    assert_ok(store_sync(store, write_put(store, FAMILY_META, "a", "1"), &error), error);
    store_close(store);
    damages[i](path);
    assert_refused(directory, true, "DURABLE_MISSING");
    assert_refused(directory, false, "DURABLE_MISSING");
    assert_ok(try_open(directory, true, false, &store, &error), error);
    assert_value(store, NULL, FAMILY_META, "a", "1");
    store_close(store);
  }
  store_close(rocks_open(directory));
}

/* A link to itself can't be opened, as a file of somebody else can't, which a test that runs as root would open. */
static void test_what_cannot_be_opened_is_not_lost(void **state) {
  const char *directory = *state;
  const char *const names[] = {"DURABLE", "CURRENT"};
  struct store *store = rocks_open(directory);
  struct error error = {0};
  assert_ok(store_sync(store, write_put(store, FAMILY_META, "a", "1"), &error), error);
  store_close(store);
  for (size_t i = 0; i < 2 * G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(directory, names[i / 2], NULL);
    g_autofree char *aside = g_strconcat(path, ".aside", NULL);
    assert_int_equal(g_rename(path, aside), 0);
    assert_int_equal(symlink(names[i / 2], path), 0);
    assert_int_equal(try_open(directory, i % 2 != 0, false, &store, &error), STATUS_UNAVAILABLE);
    assert_non_null(strstr(error.message, path));
    assert_null(strstr(error.message, "accept-loss"));
    assert_int_equal(g_rename(aside, path), 0);
  }
  store = rocks_open(directory);
  assert_value(store, NULL, FAMILY_META, "a", "1");
  store_close(store);
}

static void test_a_first_start_on_a_full_disk_damages_nothing(void **state) {
  const char *directory = *state;
  struct store *store = NULL;
  struct error error = {0};
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max}), 0);
  enum status status = try_open(directory, false, false, &store, &error);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(status, STATUS_UNAVAILABLE);
  store_close(rocks_open(directory)); /* there is room again */
}

static void test_missing_database_is_noticed(void **state) {
  const char *directory = *state;
  struct store *store = rocks_open(directory);
  struct error error = {0};
  for (int i = 0; i < 7; i++) {
    assert_ok(store_sync(store, write_put(store, FAMILY_META, "a", "1"), &error), error);
  }
  store_close(store);
  g_autofree char *current = g_build_filename(directory, "CURRENT", NULL);
  remove_file(current);
  assert_int_equal(assert_refused(directory, false, "WRITES_MISSING"), 7);
  assert_false(g_file_test(current, G_FILE_TEST_EXISTS));
}

/* ---- opening ---- */

static void test_nothing_there(void **state) {
  g_autofree char *directory = g_build_filename(*state, "not", "yet", NULL);
  struct store_options options = {.directory = directory};
  struct store *store = NULL;
  struct error error = {0};
  assert_int_equal(store_open_rocks(&options, &store, &error), STATUS_NOT_FOUND);
  options.create_if_missing = true;
  options.read_only = true;
  assert_int_equal(store_open_rocks(&options, &store, &error), STATUS_NOT_FOUND);
  assert_false(g_file_test(directory, G_FILE_TEST_EXISTS));
  store_close(rocks_open(directory)); /* makes the directories */
  assert_true(g_file_test(directory, G_FILE_TEST_IS_DIR));
}

static void test_two_processes_cannot_have_it(void **state) {
  const char *directory = *state;
  struct child child = child_start(directory, 0, 3);
  child_await(&child, 2);
  for (int read_only = 0; read_only < 2; read_only++) {
    struct store *store = NULL;
    struct error error = {0};
    assert_int_equal(try_open(directory, false, read_only != 0, &store, &error), STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, "in use by another process"));
  }
  child_kill(&child, 3);
  store_close(rocks_open(directory));
}

static int line_compare(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names, sizes and times of all files. */
static char *fingerprint(const char *directory) {
  GDir *files = g_dir_open(directory, 0, NULL);
  GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
  for (const char *name = g_dir_read_name(files); name != NULL; name = g_dir_read_name(files)) {
    g_autofree char *path = g_build_filename(directory, name, NULL);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    g_ptr_array_add(
        lines, g_strdup_printf("%s %ld %ld.%09ld", name, (long)about.st_size, (long)about.st_mtim.tv_sec, about.st_mtim.tv_nsec));
  }
  g_dir_close(files);
  g_ptr_array_sort(lines, line_compare);
  g_ptr_array_add(lines, NULL);
  char *all = g_strjoinv("\n", (char **)lines->pdata);
  g_ptr_array_unref(lines);
  return all;
}

static void test_read_only_changes_nothing(void **state) {
  const char *directory = *state;
  fill_and_kill(directory);
  g_autofree char *before = fingerprint(directory);
  struct store *store = NULL;
  struct error error = {0};
  assert_ok(try_open(directory, false, true, &store, &error), error);
  assert_int_equal(count_rows(store, FAMILY_JOBS), BATCHES);
  struct store_view *view = store_view_open(store);
  assert_value(store, view, FAMILY_READY_NORMAL, "00000007", "");
  store_view_unref(view);
  store_close(store);
  g_autofree char *after = fingerprint(directory);
  assert_string_equal(after, before);
}

/* ---- checkpoints, compaction, statistics ---- */

static void test_checkpoint_is_a_store(void **state) {
  g_autofree char *directory = g_build_filename(*state, "store", NULL);
  g_autofree char *copy = g_build_filename(*state, "copy", NULL);
  struct store *store = rocks_open(directory);
  struct error error = {0};
  write_put(store, FAMILY_JOBS, "a", "synced");
  assert_ok(store_sync(store, 1, &error), error);
  write_put(store, FAMILY_META, "b", "written");
  assert_ok(store_checkpoint(store, copy, &error), error);
  write_put(store, FAMILY_JOBS, "a", "later");
  assert_int_equal(store_checkpoint(store, copy, &error), STATUS_ALREADY_EXISTS);
  write_put(store, FAMILY_JOBS, "c", "works still");
  struct store *other = rocks_open(copy);
  assert_value(other, NULL, FAMILY_JOBS, "a", "synced");
  assert_value(other, NULL, FAMILY_META, "b", "written");
  assert_value(other, NULL, FAMILY_JOBS, "c", NULL);
  write_put(other, FAMILY_JOBS, "d", "1");
  store_close(other);
  assert_value(store, NULL, FAMILY_JOBS, "a", "later");
  assert_value(store, NULL, FAMILY_JOBS, "d", NULL);
  store_close(store);
}

static void test_lost_log_of_a_checkpoint_is_no_excuse(void **state) {
  g_autofree char *directory = g_build_filename(*state, "store", NULL);
  g_autofree char *copy = g_build_filename(*state, "copy", NULL);
  struct store *store = rocks_open(directory);
  struct error error = {0};
  for (int i = 0; i < 3; i++) {
    write_put(store, FAMILY_JOBS, "a", "1");
  }
  assert_ok(store_checkpoint(store, copy, &error), error);
  store_close(store);
  g_autofree char *current = g_build_filename(copy, "CURRENT", NULL);
  remove_file(current);
  assert_int_equal(assert_refused(copy, false, "WRITES_MISSING"), 3);
}

static void test_compaction_gives_space_back(void **state) {
  const char *directory = *state;
  struct store *store = rocks_open(directory);
  struct store_batch *batch = store_batch_new();
  char value[1024];
  GRand *random = g_rand_new_with_seed(1);
  for (int i = 0; i < 4000; i++) {
    for (size_t j = 0; j < sizeof value; j++) {
      value[j] = (char)g_rand_int(random);
    }
    char key[16];
    snprintf(key, sizeof key, "%08d", i);
    store_batch_put(batch, FAMILY_SPECS, text(key), (struct slice){value, sizeof value});
  }
  g_rand_free(random);
  write_batch(store, batch);
  store_compact(store, FAMILY_SPECS, (struct slice){0}, (struct slice){0});
  struct store_statistics full;
  store_statistics(store, &full);
  assert_string_equal(full.backend, "rocksdb");
  assert_true(full.disk_bytes > 4000000 && full.memory_bytes > 0 && full.disk_free_bytes != UINT64_MAX);
  store_batch_clear(batch);
  for (int i = 0; i < 4000; i++) {
    char key[16];
    snprintf(key, sizeof key, "%08d", i);
    store_batch_delete(batch, FAMILY_SPECS, text(key));
  }
  write_batch(store, batch);
  store_batch_free(batch);
  store_compact(store, FAMILY_SPECS, text("00000000"), text("99999999"));
  assert_int_equal(count_rows(store, FAMILY_SPECS), 0);
  store_close(store);
  store = rocks_open(directory); /* recovery leaves no old log */
  struct store_statistics empty;
  store_statistics(store, &empty);
  assert_true(empty.disk_bytes + 3500000 < full.disk_bytes);
  store_close(store);
}

int main(int argc, char **argv) {
  if (argc == 5 && strcmp(argv[1], "write") == 0) {
    child_run(argv[2], (uint32_t)strtoul(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10));
  }
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_kill_loses_nothing_synced),
      TEST(test_flipped_bit_is_noticed),
      TEST(test_a_refused_store_is_kept_as_it_was),
      TEST(test_nothing_is_kept_of_a_store_that_opens),
      TEST(test_truncated_log_is_noticed),
      TEST(test_deleted_log_is_noticed),
      TEST(test_deleted_older_log_is_noticed),
      TEST(test_emptied_older_log_is_noticed),
      TEST(test_torn_tail_is_no_loss),
      TEST(test_damaged_or_missing_mark_is_noticed),
      TEST(test_what_cannot_be_opened_is_not_lost),
      TEST(test_a_first_start_on_a_full_disk_damages_nothing),
      TEST(test_missing_database_is_noticed),
      TEST(test_nothing_there),
      TEST(test_two_processes_cannot_have_it),
      TEST(test_read_only_changes_nothing),
      TEST(test_checkpoint_is_a_store),
      TEST(test_lost_log_of_a_checkpoint_is_no_excuse),
      TEST(test_compaction_gives_space_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
