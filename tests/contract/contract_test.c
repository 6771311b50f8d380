/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of store.h, the same for every backend: contract_test rocks|memory|faulty. */
#include "fixture.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define BIG_BYTES ((size_t)2 << 20)
#define ROUNDS 400

struct fixture {
  struct store *store;
  struct store *inner; /* faulty: what lies below */
  char *directory;     /* rocks */
};

static const char *backend;

static int setup(void **state) {
  struct fixture *fixture = g_new0(struct fixture, 1);
  if (strcmp(backend, "rocks") == 0) {
    fixture->directory = directory_new();
    fixture->store = rocks_open(fixture->directory);
  } else if (strcmp(backend, "memory") == 0) {
    fixture->store = store_open_memory();
  } else {
    fixture->inner = store_open_memory();
    fixture->store = store_open_faulty(fixture->inner);
  }
  *state = fixture;
  return 0;
}

static int teardown(void **state) {
  struct fixture *fixture = *state;
  store_close(fixture->store);
  store_close(fixture->inner);
  directory_remove(fixture->directory);
  g_free(fixture);
  return 0;
}

static struct store *store_of(void **state) {
  return ((struct fixture *)*state)->store;
}

static void assert_keys(struct store *store, struct store_view *view, const struct store_range *range, const char *expected) {
  g_autofree char *keys =
      read_keys(store, view, range->family, range->from.data, range->until.data, range->backwards, range->limit);
  assert_string_equal(keys, expected);
}

/* ---- writing and reading ---- */

static void test_writer_sees_its_writes_in_order(void **state) {
  struct store *store = store_of(state);
  struct store_batch *batch = store_batch_new();
  put(batch, FAMILY_JOBS, "a", "1");
  put(batch, FAMILY_JOBS, "a", "2");
  put(batch, FAMILY_JOBS, "b", "1");
  store_batch_delete(batch, FAMILY_JOBS, text("b"));
  store_batch_delete(batch, FAMILY_JOBS, text("c"));
  put(batch, FAMILY_JOBS, "c", "3");
  assert_int_equal(store_batch_count(batch), 6);
  assert_true(store_batch_bytes(batch) > 0);
  write_batch(store, batch);
  assert_value(store, NULL, FAMILY_JOBS, "a", "2");
  assert_value(store, NULL, FAMILY_JOBS, "b", NULL);
  assert_value(store, NULL, FAMILY_JOBS, "c", "3");
  store_batch_clear(batch);
  assert_int_equal(store_batch_count(batch), 0);
  store_batch_delete(batch, FAMILY_JOBS, text("a"));
  write_batch(store, batch);
  assert_value(store, NULL, FAMILY_JOBS, "a", NULL);
  assert_value(store, NULL, FAMILY_JOBS, "c", "3");
  store_batch_free(batch);
  store_batch_free(NULL);
}

static void test_families_are_apart(void **state) {
  struct store *store = store_of(state);
  struct store_batch *batch = store_batch_new();
  for (int family = 0; family < FAMILIES; family++) {
    put(batch, (enum family)family, "key", family_names[family]);
  }
  write_batch(store, batch);
  store_batch_free(batch);
  struct store_get gets[FAMILIES];
  memset(gets, 0, sizeof gets);
  for (int family = 0; family < FAMILIES; family++) {
    gets[family].family = (enum family)family;
    gets[family].key = text("key");
  }
  struct error error = {0};
  assert_ok(store_get_many(store, NULL, gets, FAMILIES, &error), error);
  for (int family = 0; family < FAMILIES; family++) {
    assert_int_equal(gets[family].value.length, strlen(family_names[family]));
    assert_memory_equal(gets[family].value.data, family_names[family], gets[family].value.length);
  }
  store_gets_release(gets, FAMILIES);
}

static void test_many_gets_found_and_absent(void **state) {
  struct store *store = store_of(state);
  enum { COUNT = 300 };
  char keys[COUNT][16];
  struct store_get gets[COUNT];
  memset(gets, 0, sizeof gets);
  struct store_batch *batch = store_batch_new();
  for (int i = 0; i < COUNT; i++) {
    snprintf(keys[i], sizeof keys[i], "key-%03d", (i * 7) % COUNT);
    gets[i].family = i % 50 < 40 ? FAMILY_JOBS : FAMILY_META;
    gets[i].key = text(keys[i]);
    if (i % 3 != 0) {
      store_batch_put(batch, gets[i].family, gets[i].key, gets[i].key);
    }
  }
  write_batch(store, batch);
  store_batch_free(batch);
  struct error error = {0};
  assert_ok(store_get_many(store, NULL, gets, COUNT, &error), error);
  for (int i = 0; i < COUNT; i++) {
    if (i % 3 == 0) {
      assert_null(gets[i].value.data);
    } else {
      assert_int_equal(gets[i].value.length, strlen(keys[i]));
      assert_memory_equal(gets[i].value.data, keys[i], strlen(keys[i]));
    }
  }
  store_gets_release(gets, COUNT);
  assert_ok(store_get_many(store, NULL, NULL, 0, &error), error);
}

static void test_empty_is_not_absent(void **state) {
  struct store *store = store_of(state);
  write_put(store, FAMILY_UNIQUE, "empty", "");
  assert_value(store, NULL, FAMILY_UNIQUE, "empty", "");
  assert_value(store, NULL, FAMILY_UNIQUE, "absent", NULL);
  assert_keys(store, NULL, &(struct store_range){.family = FAMILY_UNIQUE, .limit = 10}, "empty");
}

static void test_bytes_are_bytes(void **state) {
  struct store *store = store_of(state);
  const struct slice keys[] = {{"\0", 1}, {"\0\0", 2}, {"a\0b", 3}, {"\x7f", 1}, {"\xff", 1}, {"\xff\xff", 2}};
  struct store_batch *batch = store_batch_new();
  for (size_t i = G_N_ELEMENTS(keys); i > 0; i--) {
    store_batch_put(batch, FAMILY_TIMERS, keys[i - 1], keys[i - 1]);
  }
  write_batch(store, batch);
  store_batch_free(batch);
  struct store_range range = {.family = FAMILY_TIMERS, .limit = 100};
  struct store_rows rows = {0};
  struct error error = {0};
  assert_ok(store_scan(store, NULL, &range, &rows, &error), error);
  assert_int_equal(rows.count, G_N_ELEMENTS(keys));
  for (size_t i = 0; i < rows.count; i++) {
    assert_int_equal(rows.rows[i].key.length, keys[i].length);
    assert_memory_equal(rows.rows[i].key.data, keys[i].data, keys[i].length);
    assert_memory_equal(rows.rows[i].value.data, keys[i].data, keys[i].length);
  }
  store_rows_release(&rows);
}

static void test_big_values(void **state) {
  struct store *store = store_of(state);
  char *value = g_malloc(BIG_BYTES);
  for (size_t i = 0; i < BIG_BYTES; i++) {
    value[i] = (char)(i * 31 + i / 4096);
  }
  struct store_batch *batch = store_batch_new();
  for (int i = 0; i < 4; i++) { /* more than a batch keeps */
    char key[8];
    snprintf(key, sizeof key, "big%d", i);
    store_batch_put(batch, FAMILY_SPECS, text(key), (struct slice){value, BIG_BYTES});
  }
  write_batch(store, batch);
  store_batch_clear(batch);
  put(batch, FAMILY_SPECS, "small", "1");
  uint64_t ticket = write_batch(store, batch);
  store_batch_free(batch);
  struct error error = {0};
  assert_ok(store_sync(store, ticket, &error), error);
  struct store_get get = {.family = FAMILY_SPECS, .key = text("big3")};
  assert_ok(store_get_many(store, NULL, &get, 1, &error), error);
  assert_int_equal(get.value.length, BIG_BYTES);
  assert_memory_equal(get.value.data, value, BIG_BYTES);
  store_gets_release(&get, 1);
  struct store_range range = {.family = FAMILY_SPECS, .limit = 2};
  struct store_rows rows = {0};
  assert_ok(store_scan(store, NULL, &range, &rows, &error), error);
  assert_int_equal(rows.count, 2);
  assert_memory_equal(rows.rows[1].value.data, value, BIG_BYTES);
  store_rows_release(&rows);
  assert_value(store, NULL, FAMILY_SPECS, "small", "1");
  g_free(value);
}

/* ---- ranges ---- */

static void test_ranges(void **state) {
  struct store *store = store_of(state);
  for (char key[2] = "z"; key[0] >= 'a'; key[0] = (char)(key[0] - 2)) { /* z x v … b */
    write_put(store, FAMILY_READY_LOW, key, "1");
  }
  const struct {
    const char *from;
    const char *until;
    bool backwards;
    size_t limit;
    const char *expected;
  } cases[] = {
      {NULL, NULL, false, 100, "b d f h j l n p r t v x z"},
      {NULL, NULL, true, 100, "z x v t r p n l j h f d b"},
      {NULL, NULL, false, 3, "b d f"},
      {NULL, NULL, true, 3, "z x v"},
      {"f", "l", false, 100, "f h j"},
      {"f", "l", true, 100, "j h f"},
      {"e", "k", false, 100, "f h j"},
      {"e", "k", true, 100, "j h f"},
      {"f", "l", false, 2, "f h"},
      {"f", "l", true, 1, "j"},
      {"x", NULL, false, 100, "x z"},
      {"y", NULL, true, 100, "z"},
      {NULL, "d", false, 100, "b"},
      {NULL, "e", true, 100, "d b"},
      {"zz", NULL, false, 100, ""},
      {"zz", NULL, true, 100, ""},
      {NULL, "b", false, 100, ""},
      {NULL, "b", true, 100, ""},
      {"f", "f", false, 100, ""},
      {"g", "h", true, 100, ""},
      {"n", "c", false, 100, ""},
      {"n", "c", true, 100, ""},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *keys =
        read_keys(store, NULL, FAMILY_READY_LOW, cases[i].from, cases[i].until, cases[i].backwards, cases[i].limit);
    assert_string_equal(keys, cases[i].expected);
  }
  write_delete(store, FAMILY_READY_LOW, "b");
  write_delete(store, FAMILY_READY_LOW, "z");
  assert_keys(store, NULL, &(struct store_range){.family = FAMILY_READY_LOW, .limit = 1}, "d");
  assert_keys(store, NULL, &(struct store_range){.family = FAMILY_READY_LOW, .backwards = true, .limit = 1}, "x");
  assert_keys(store, NULL, &(struct store_range){.family = FAMILY_READY_HIGH, .limit = 1}, "");
}

static void test_released_rows_are_empty(void **state) {
  struct store *store = store_of(state);
  struct store_rows rows = {0};
  struct error error = {0};
  assert_ok(store_scan(store, NULL, &(struct store_range){.family = FAMILY_META, .limit = 1}, &rows, &error), error);
  assert_int_equal(rows.count, 0);
  store_rows_release(&rows);
  store_rows_release(&rows);
}

/* ---- views ---- */

static void test_views_do_not_change(void **state) {
  struct store *store = store_of(state);
  struct store_view *before = store_view_open(store);
  write_put(store, FAMILY_JOBS, "a", "1");
  write_put(store, FAMILY_JOBS, "b", "1");
  struct store_view *first = store_view_open(store);
  write_put(store, FAMILY_JOBS, "a", "2");
  write_delete(store, FAMILY_JOBS, "b");
  write_put(store, FAMILY_JOBS, "c", "2");
  struct store_view *second = store_view_open(store);
  write_put(store, FAMILY_JOBS, "b", "3");
  write_delete(store, FAMILY_JOBS, "a");
  store_compact(store, FAMILY_JOBS, (struct slice){0}, (struct slice){0});
  for (int pass = 0; pass < 2; pass++) {
    const struct store_range all = {.family = FAMILY_JOBS, .limit = 10};
    assert_keys(store, before, &all, "");
    assert_keys(store, first, &all, "a b");
    assert_keys(store, second, &all, "a c");
    assert_keys(store, NULL, &all, "b c");
    assert_value(store, before, FAMILY_JOBS, "a", NULL);
    assert_value(store, first, FAMILY_JOBS, "a", "1");
    assert_value(store, second, FAMILY_JOBS, "a", "2");
    assert_value(store, second, FAMILY_JOBS, "b", NULL);
    assert_value(store, NULL, FAMILY_JOBS, "b", "3");
    assert_value(store, NULL, FAMILY_JOBS, "a", NULL);
    write_put(store, FAMILY_META, "later", "1"); /* a backend may clean up here */
  }
  store_view_unref(store_view_ref(first));
  store_view_unref(before);
  assert_value(store, first, FAMILY_JOBS, "a", "1");
  store_view_unref(second);
  assert_value(store, first, FAMILY_JOBS, "b", "1");
  store_view_unref(first);
  store_view_unref(NULL);
  assert_value(store, NULL, FAMILY_JOBS, "b", "3");
}

/* The same random changes to the store and to plain arrays, with views in between that are compared at the end. */
static void test_random_changes_against_a_model(void **state) {
  struct store *store = store_of(state);
  enum { KEYS = 40, VIEWS = 20 };
  int model[KEYS] = {0}; /* 0: absent */
  struct store_view *views[VIEWS];
  int expected[VIEWS][KEYS];
  GRand *random = g_rand_new_with_seed(4711);
  struct store_batch *batch = store_batch_new();
  for (int round = 0; round < ROUNDS; round++) {
    store_batch_clear(batch);
    for (int change = 0; change < 8; change++) {
      int key = g_rand_int_range(random, 0, KEYS);
      char name[8];
      char value[16];
      snprintf(name, sizeof name, "%02d", key);
      snprintf(value, sizeof value, "%d", round * 8 + change + 1);
      if (g_rand_boolean(random)) {
        put(batch, FAMILY_JOBS, name, value);
        model[key] = round * 8 + change + 1;
      } else {
        store_batch_delete(batch, FAMILY_JOBS, text(name));
        model[key] = 0;
      }
    }
    write_batch(store, batch);
    if (round >= VIEWS) {
      store_view_unref(views[round % VIEWS]);
    }
    views[round % VIEWS] = store_view_open(store);
    memcpy(expected[round % VIEWS], model, sizeof model);
  }
  for (int view = 0; view < VIEWS; view++) {
    for (int key = 0; key < KEYS; key++) {
      char name[8];
      char value[16];
      snprintf(name, sizeof name, "%02d", key);
      snprintf(value, sizeof value, "%d", expected[view][key]);
      assert_value(store, views[view], FAMILY_JOBS, name, expected[view][key] == 0 ? NULL : value);
    }
    store_view_unref(views[view]);
  }
  store_batch_free(batch);
  g_rand_free(random);
}

/* ---- tickets ---- */

static void test_tickets_rise_and_sync_covers(void **state) {
  struct store *store = store_of(state);
  struct store_statistics statistics;
  store_statistics(store, &statistics);
  assert_int_equal(statistics.last_ticket, 0);
  for (uint64_t i = 1; i <= 5; i++) {
    assert_int_equal(write_put(store, FAMILY_META, "a", "1"), i);
  }
  struct error error = {0};
  assert_ok(store_sync(store, 3, &error), error);
  store_statistics(store, &statistics);
  assert_int_equal(statistics.last_ticket, 5);
  assert_true(statistics.synced_ticket >= 3);
  assert_ok(store_sync(store, 2, &error), error);
  assert_ok(store_sync(store, 5, &error), error);
  store_statistics(store, &statistics);
  assert_int_equal(statistics.synced_ticket, 5);
  assert_non_null(statistics.backend);
  assert_true(statistics.disk_free_bytes > 0);
  assert_false(statistics.write_stalled);
}

/* ---- threads ---- */

struct threads {
  struct store *store;
  atomic_uint_least64_t written;
  atomic_bool done;
  atomic_uint wrong; /* cmocka's assertions belong to the main thread */
};

static void *syncer_run(void *data) {
  struct threads *threads = data;
  struct error error;
  bool last = false;
  while (!last) {
    last = atomic_load(&threads->done);
    if (store_sync(threads->store, atomic_load(&threads->written), &error) != STATUS_OK) {
      atomic_fetch_add(&threads->wrong, 1);
    }
  }
  return NULL;
}

static bool view_is_consistent(struct store *store, struct store_view *view) {
  struct store_get gets[2] = {{.family = FAMILY_JOBS, .key = text("left")}, {.family = FAMILY_SPECS, .key = text("right")}};
  struct error error;
  if (store_get_many(store, view, gets, 2, &error) != STATUS_OK) {
    return false;
  }
  bool same = gets[0].value.length == gets[1].value.length &&
              (gets[0].value.data == NULL || memcmp(gets[0].value.data, gets[1].value.data, gets[0].value.length) == 0);
  store_gets_release(gets, 2);
  struct store_rows rows = {0};
  struct store_range range = {.family = FAMILY_TIMERS, .backwards = true, .limit = 8};
  if (store_scan(store, view, &range, &rows, &error) != STATUS_OK) {
    return false;
  }
  same = same && rows.count <= 4; /* each batch adds one row and takes the fifth */
  store_rows_release(&rows);
  return same;
}

static void *reader_run(void *data) {
  struct threads *threads = data;
  while (!atomic_load(&threads->done)) {
    struct store_view *view = store_view_open(threads->store);
    struct store_view *shared = store_view_ref(view);
    if (!view_is_consistent(threads->store, view) || !view_is_consistent(threads->store, shared)) {
      atomic_fetch_add(&threads->wrong, 1);
    }
    store_view_unref(view);
    store_view_unref(shared);
  }
  return NULL;
}

static void test_readers_beside_writer_and_syncer(void **state) {
  struct threads threads = {.store = store_of(state)};
  pthread_t syncer;
  pthread_t readers[2];
  pthread_create(&syncer, NULL, syncer_run, &threads);
  for (size_t i = 0; i < G_N_ELEMENTS(readers); i++) {
    pthread_create(&readers[i], NULL, reader_run, &threads);
  }
  struct store_batch *batch = store_batch_new();
  for (int round = 0; round < ROUNDS; round++) {
    char number[16];
    char old[16];
    snprintf(number, sizeof number, "%08d", round);
    snprintf(old, sizeof old, "%08d", round - 4);
    store_batch_clear(batch);
    put(batch, FAMILY_JOBS, "left", number);
    put(batch, FAMILY_TIMERS, number, "");
    store_batch_delete(batch, FAMILY_TIMERS, text(old));
    put(batch, FAMILY_SPECS, "right", number);
    atomic_store(&threads.written, write_batch(threads.store, batch));
  }
  atomic_store(&threads.done, true);
  pthread_join(syncer, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(readers); i++) {
    pthread_join(readers[i], NULL);
  }
  store_batch_free(batch);
  assert_int_equal(atomic_load(&threads.wrong), 0);
  struct store_statistics statistics;
  store_statistics(threads.store, &statistics);
  assert_int_equal(statistics.synced_ticket, ROUNDS);
  assert_int_equal(count_rows(threads.store, FAMILY_TIMERS), 4);
}

int main(int argc, char **argv) {
  backend = argc == 2 ? argv[1] : "memory";
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_writer_sees_its_writes_in_order),
      TEST(test_families_are_apart),
      TEST(test_many_gets_found_and_absent),
      TEST(test_empty_is_not_absent),
      TEST(test_bytes_are_bytes),
      TEST(test_big_values),
      TEST(test_ranges),
      TEST(test_released_rows_are_empty),
      TEST(test_views_do_not_change),
      TEST(test_random_changes_against_a_model),
      TEST(test_tickets_rise_and_sync_covers),
      TEST(test_readers_beside_writer_and_syncer),
  };
  return cmocka_run_group_tests_name(backend, tests, NULL, NULL);
}
