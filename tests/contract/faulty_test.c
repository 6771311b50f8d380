/* SPDX-License-Identifier: Apache-2.0 */
/* What happens when calls fail at the N-th time, and after a crash; over memory and over RocksDB. */
#include "fixture.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#define CALLS 12

static enum status try_put(struct store *store, const char *key, uint64_t *out_ticket, struct error *error) {
  struct store_batch *batch = store_batch_new();
  put(batch, FAMILY_JOBS, key, "1");
  enum status status = store_write(store, batch, out_ticket, error);
  store_batch_free(batch);
  return status;
}

static enum status try_get(struct store *store, struct error *error) {
  struct store_get get = {.family = FAMILY_JOBS, .key = text("a")};
  enum status status = store_get_many(store, NULL, &get, 1, error);
  if (status == STATUS_OK) {
    store_gets_release(&get, 1);
  }
  return status;
}

static enum status try_scan(struct store *store, struct error *error) {
  struct store_rows rows = {0};
  enum status status = store_scan(store, NULL, &(struct store_range){.family = FAMILY_JOBS, .limit = 5}, &rows, error);
  store_rows_release(&rows);
  return status;
}

static void assert_failed(struct store *store) {
  struct error error = {0};
  uint64_t ticket = 0;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(try_put(store, "z", &ticket, &error), STATUS_UNAVAILABLE);
    assert_int_equal(error.status, STATUS_UNAVAILABLE);
    assert_int_equal(store_sync(store, 1, &error), STATUS_UNAVAILABLE);
    assert_int_equal(try_get(store, &error), STATUS_UNAVAILABLE);
    assert_int_equal(try_scan(store, &error), STATUS_UNAVAILABLE);
    assert_int_equal(store_checkpoint(store, "nowhere", &error), STATUS_UNAVAILABLE);
    assert_non_null(strstr(error.message, "failed"));
  }
  assert_int_equal(ticket, 0);
}

static void test_failed_read_harms_nothing(void **state) {
  (void)state;
  for (unsigned call = 1; call <= CALLS; call++) {
    struct store *inner = store_open_memory();
    struct store *store = store_open_faulty(inner);
    struct error error = {0};
    write_put(store, FAMILY_JOBS, "a", "1");
    store_faulty_fail(store, FAULT_GET, call);
    store_faulty_fail(store, FAULT_SCAN, call);
    for (unsigned i = 1; i <= CALLS + 1; i++) {
      assert_int_equal(try_get(store, &error), i == call ? STATUS_UNAVAILABLE : STATUS_OK);
      assert_int_equal(try_scan(store, &error), i == call ? STATUS_UNAVAILABLE : STATUS_OK);
    }
    write_put(store, FAMILY_JOBS, "b", "1");
    store_close(store);
    store_close(inner);
  }
}

static void test_failed_write_fails_the_store(void **state) {
  (void)state;
  for (unsigned call = 1; call <= CALLS; call++) {
    for (int applied = 0; applied < 2; applied++) {
      struct store *inner = store_open_memory();
      struct store *store = store_open_faulty(inner);
      struct error error = {0};
      store_faulty_fail(store, applied ? FAULT_WRITE_APPLIED : FAULT_WRITE, call);
      uint64_t ticket = 0;
      char key[8];
      for (unsigned i = 1; i < call; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_ok(try_put(store, key, &ticket, &error), error);
        assert_int_equal(ticket, i);
      }
      assert_int_equal(try_put(store, "last", &ticket, &error), STATUS_UNAVAILABLE);
      assert_int_equal(ticket, call - 1);
      assert_failed(store);
      store_close(store);
      store = store_open_faulty(inner); /* open again: it works, and the batch is there or not */
      assert_value(store, NULL, FAMILY_JOBS, "last", applied ? "1" : NULL);
      assert_ok(try_put(store, "again", &ticket, &error), error);
      store_close(store);
      store_close(inner);
    }
  }
}

static void test_failed_sync_fails_the_store(void **state) {
  (void)state;
  for (unsigned call = 1; call <= CALLS; call++) {
    for (int applied = 0; applied < 2; applied++) {
      struct store *inner = store_open_memory();
      struct store *store = store_open_faulty(inner);
      struct error error = {0};
      store_faulty_fail(store, applied ? FAULT_SYNC_APPLIED : FAULT_SYNC, call);
      char key[8];
      for (unsigned i = 1; i < call; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_ok(store_sync(store, write_put(store, FAMILY_JOBS, key, "1"), &error), error);
      }
      uint64_t ticket = write_put(store, FAMILY_JOBS, "last", "1");
      assert_int_equal(store_sync(store, ticket, &error), STATUS_UNAVAILABLE);
      assert_failed(store);
      struct store_statistics statistics;
      store_statistics(store, &statistics);
      assert_int_equal(statistics.synced_ticket, call - 1);
      store_faulty_crash(store, 0);
      store_close(store);
      assert_int_equal(count_rows(inner, FAMILY_JOBS), applied ? call : call - 1);
      store_close(inner);
    }
  }
}

/* Writes "a" synced, then three batches that are not; crashes keeping some; checks. */
static void crash_over(struct store *inner, size_t kept) {
  struct store *store = store_open_faulty(inner);
  struct error error = {0};
  write_put(store, FAMILY_JOBS, "a", "old");
  write_put(store, FAMILY_JOBS, "b", "old");
  assert_ok(store_sync(store, 2, &error), error);
  write_put(store, FAMILY_JOBS, "a", "new");
  struct store_batch *batch = store_batch_new();
  store_batch_delete(batch, FAMILY_JOBS, text("b"));
  put(batch, FAMILY_JOBS, "c", "1");
  put(batch, FAMILY_JOBS, "c", "2");
  write_batch(store, batch);
  store_batch_free(batch);
  write_put(store, FAMILY_JOBS, "d", "");
  store_faulty_crash(store, kept);
  assert_failed(store);
  store_close(store);
  store = store_open_faulty(inner);
  assert_value(store, NULL, FAMILY_JOBS, "a", kept >= 1 ? "new" : "old");
  assert_value(store, NULL, FAMILY_JOBS, "b", kept >= 2 ? NULL : "old");
  assert_value(store, NULL, FAMILY_JOBS, "c", kept >= 2 ? "2" : NULL);
  assert_value(store, NULL, FAMILY_JOBS, "d", kept >= 3 ? "" : NULL);
  assert_int_equal(write_put(store, FAMILY_JOBS, "e", "1"), 1); /* tickets start anew */
  store_close(store);
}

static void test_crash_forgets_what_was_not_synced(void **state) {
  (void)state;
  for (size_t kept = 0; kept <= 4; kept++) {
    struct store *inner = store_open_memory();
    crash_over(inner, kept);
    store_close(inner);
    char *directory = directory_new();
    inner = rocks_open(directory);
    crash_over(inner, kept);
    store_close(inner);
    directory_remove(directory);
  }
}

static void test_lost_sync_keeps_nothing(void **state) {
  (void)state;
  struct store *inner = store_open_memory();
  struct store *store = store_open_faulty(inner);
  struct error error = {0};
  assert_ok(store_sync(store, write_put(store, FAMILY_JOBS, "a", "1"), &error), error);
  store_faulty_fail(store, FAULT_SYNC_LOST, 1);
  assert_ok(store_sync(store, write_put(store, FAMILY_JOBS, "b", "1"), &error), error);
  store_faulty_crash(store, 0);
  store_close(store);
  assert_int_equal(count_rows(inner, FAMILY_JOBS), 1);
  store_close(inner);
}

static void test_failed_checkpoint_harms_nothing(void **state) {
  (void)state;
  struct store *inner = store_open_memory();
  struct store *store = store_open_faulty(inner);
  struct error error = {0};
  store_faulty_fail(store, FAULT_CHECKPOINT, 1);
  assert_int_equal(store_checkpoint(store, "nowhere", &error), STATUS_UNAVAILABLE);
  assert_int_equal(store_checkpoint(store, "nowhere", &error), STATUS_UNIMPLEMENTED); /* memory has none */
  write_put(store, FAMILY_JOBS, "a", "1");
  store_close(store);
  store_close(inner);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_failed_read_harms_nothing),   cmocka_unit_test(test_failed_write_fails_the_store),
      cmocka_unit_test(test_failed_sync_fails_the_store), cmocka_unit_test(test_crash_forgets_what_was_not_synced),
      cmocka_unit_test(test_lost_sync_keeps_nothing),     cmocka_unit_test(test_failed_checkpoint_harms_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
