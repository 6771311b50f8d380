/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a job was and becomes: the batch turns exactly its old rows into exactly its new ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random_job.h"
#include "store/changes.h"
#include "store/keys.h"
#include "store/records.h"

enum { ROUNDS = 500 };

static const struct slice empty = {"", 0};

/* ---- a store as text: one line a row, in order ---- */

static void add_line(GPtrArray *lines, enum family family, struct slice key, struct slice value) {
  GString *line = g_string_new(family_names[family]);
  const uint8_t *bytes = key.data;
  g_string_append_c(line, ' ');
  for (size_t i = 0; i < key.length; i++)
    g_string_append_printf(line, "%02x", bytes[i]);
  bytes = value.data;
  g_string_append(line, " = ");
  for (size_t i = 0; i < value.length; i++)
    g_string_append_printf(line, "%02x", bytes[i]);
  g_ptr_array_add(lines, g_string_free(line, FALSE));
}

static int compare_lines(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *joined(GPtrArray *lines) {
  g_ptr_array_sort(lines, compare_lines);
  g_ptr_array_add(lines, NULL);
  char *text = g_strjoinv("\n", (char **)lines->pdata);
  g_ptr_array_set_free_func(lines, g_free);
  g_ptr_array_free(lines, TRUE);
  return text;
}

static char *rows_of_store(struct store *store) {
  GPtrArray *lines = g_ptr_array_new();
  for (enum family family = 0; family < FAMILIES; family++) {
    const struct store_range range = {.family = family, .limit = 1000};
    struct store_rows rows;
    assert_int_equal(store_scan(store, NULL, &range, &rows, NULL), STATUS_OK);
    for (size_t i = 0; i < rows.count; i++)
      add_line(lines, family, rows.rows[i].key, rows.rows[i].value);
    store_rows_release(&rows);
  }
  return joined(lines);
}

static void expect_key(void *context, enum family family, const struct key *key, struct slice value) {
  add_line(context, family, key_slice(key), value);
}

/* What must be there for a job, with the spec and the result as the test writes them. */
static char *rows_of_job(const struct job *job, struct arena *arena) {
  GPtrArray *lines = g_ptr_array_new();
  const struct slice id = {job->id.bytes, ID_BYTES};
  add_line(lines, FAMILY_JOBS, id, record_pack_job(job, arena));
  if (job->state != JOB_DELETED)
    add_line(lines, FAMILY_SPECS, id, empty);
  if (job->result_apart)
    add_line(lines, FAMILY_RESULTS, id, empty);
  keys_of(job, &(struct key_visitor){expect_key, lines});
  return joined(lines);
}

static void write_batch(struct store *store, struct store_batch *batch) {
  uint64_t ticket;
  assert_int_equal(store_write(store, batch, &ticket, NULL), STATUS_OK);
  store_batch_clear(batch);
}

static void write_job(struct store *store, struct store_batch *batch, const struct job *before, const struct job *after,
                      struct arena *arena) {
  changes_job(batch, before, after, arena);
  if (after) { /* spec and result come from whoever has them; here they are empty */
    const struct slice id = {after->id.bytes, ID_BYTES};
    if ((!before || before->state == JOB_DELETED) && after->state != JOB_DELETED)
      store_batch_put(batch, FAMILY_SPECS, id, empty);
    if ((!before || !before->result_apart) && after->result_apart)
      store_batch_put(batch, FAMILY_RESULTS, id, empty);
  }
  write_batch(store, batch);
}

static void assert_rows(struct store *store, const struct job *job, struct arena *arena) {
  char *actual = rows_of_store(store);
  char *expected = job ? rows_of_job(job, arena) : g_strdup("");
  assert_string_equal(actual, expected);
  g_free(actual);
  g_free(expected);
}

static void test_any_change_leaves_exactly_the_rows_of_after(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    struct job before = random_job(random, arena);
    write_job(store, batch, NULL, &before, arena);
    assert_rows(store, &before, arena);
    for (int changes = 0; changes < 3; changes++) {
      struct job after = random_change(random, arena, &before);
      if (after.state == JOB_DELETED)
        after.result_apart = false; /* as job_bury does */
      write_job(store, batch, &before, &after, arena);
      assert_rows(store, &after, arena);
      before = after;
    }
    write_job(store, batch, &before, NULL, arena);
    assert_rows(store, NULL, arena);
  }
  store_batch_free(batch);
  store_close(store);
  arena_free(arena);
  g_rand_free(random);
}

/* Any two jobs of this shape may be mixed word by word. */
static struct job mixable_job(GRand *random, struct arena *arena) {
  static const struct label labels[] = {{"a", "b"}, {"c", "d"}, {"e", "f"}};
  struct job job = random_job(random, arena);
  job.labels = labels + (g_rand_boolean(random) ? 1 : 0);
  job.label_count = 2;
  job.history = arena_zalloc(arena, sizeof *job.history);
  job.history_count = 0;
  job.result = (struct bytes){arena_memdup(arena, &job.id, sizeof job.id), sizeof job.id};
  job.policy = (struct policy){0};
  return job;
}

static void assert_record(struct store *store, const struct job *job, struct arena *arena) {
  struct store_get get = {.family = FAMILY_JOBS, .key = {job->id.bytes, ID_BYTES}};
  const struct slice expected = record_pack_job(job, arena);
  assert_int_equal(store_get_many(store, NULL, &get, 1, NULL), STATUS_OK);
  assert_int_equal(get.value.length, expected.length);
  assert_memory_equal(get.value.data, expected.data, expected.length);
  store_gets_release(&get, 1);
}

static void test_no_field_of_a_record_is_forgotten(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  const size_t word = sizeof(uint64_t);
  (void)state;
  for (int i = 0; i < ROUNDS / 10; i++) {
    arena_reset(arena);
    struct job before = mixable_job(random, arena);
    const struct job other = mixable_job(random, arena);
    write_job(store, batch, NULL, &before, arena);
    for (size_t at = sizeof before.id; at + word <= sizeof before; at += word) {
      struct job after = before;
      memcpy((uint8_t *)&after + at, (const uint8_t *)&other + at, word);
      changes_job(batch, &before, &after, arena);
      write_batch(store, batch);
      assert_record(store, &after, arena);
      before = after;
    }
  }
  store_batch_free(batch);
  store_close(store);
  arena_free(arena);
  g_rand_free(random);
}

static void test_a_decoded_copy_changes_no_key(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  struct store_batch *batch = store_batch_new();
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    store_batch_clear(batch);
    struct job job = random_job(random, arena);
    if (job.state == JOB_RUNNING)
      job.state = JOB_PENDING;
    struct job copy;
    assert_int_equal(record_unpack_job(&job.id, record_pack_job(&job, arena), arena, &copy, NULL), STATUS_OK);
    changes_job(batch, &job, &copy, arena);
    assert_true(store_batch_count(batch) <= 1); /* its record at most */
  }
  store_batch_free(batch);
  arena_free(arena);
  g_rand_free(random);
}

static void test_each_step_of_a_plain_job_writes_little(void **state) {
  struct arena *arena = arena_new(0);
  struct store_batch *batch = store_batch_new();
  (void)state;
  struct job job = plain_job(1);
  changes_job(batch, NULL, &job, arena);
  assert_int_equal(store_batch_count(batch), 2); /* record, ready */
  store_batch_clear(batch);
  struct job before = job;
  job_lease(&job);
  changes_job(batch, &before, &job, arena);
  assert_int_equal(store_batch_count(batch), 1); /* ready goes, the record stays as it is */
  store_batch_clear(batch);
  before = job;
  const struct delivery_end end = {.now_ms = 5, .arena = arena};
  job_succeed(&job, &end, (struct bytes){0}, false, "");
  changes_job(batch, &before, &job, arena);
  assert_int_equal(store_batch_count(batch), 2); /* record, finished */
  store_batch_clear(batch);
  changes_job(batch, &job, &job, arena);
  assert_int_equal(store_batch_count(batch), 0);
  store_batch_free(batch);
  arena_free(arena);
}

static void test_a_lease_that_gives_up_its_key_is_written(void **state) {
  struct arena *arena = arena_new(0);
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  (void)state;
  struct job job = plain_job(1);
  job.unique_key = "only one";
  job.unique_scope = UNIQUE_WHILE_WAITING;
  job.unique_held = true;
  write_job(store, batch, NULL, &job, arena);
  const struct job before = job;
  job_lease(&job);
  write_job(store, batch, &before, &job, arena);
  assert_rows(store, &job, arena);
  store_batch_free(batch);
  store_close(store);
  arena_free(arena);
}

static void test_a_log_is_deleted_whole_and_alone(void **state) {
  struct arena *arena = arena_new(0);
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  struct error error;
  (void)state;
  struct id id;
  memset(id.bytes, 0xff, ID_BYTES); /* the last of all: there is no key behind its log */
  const struct id neighbour = {{0xff, 0xff}};
  struct key key;
  for (uint64_t number = 1; number <= 2500; number++) {
    key_log(&key, &id, number);
    store_batch_put(batch, FAMILY_LOGS, key_slice(&key), empty);
  }
  key_log(&key, &neighbour, 7);
  store_batch_put(batch, FAMILY_LOGS, key_slice(&key), empty);
  write_batch(store, batch);
  assert_int_equal(changes_delete_log(batch, store, &id, &error), STATUS_OK);
  assert_int_equal(store_batch_count(batch), 2500);
  write_batch(store, batch);
  assert_int_equal(changes_delete_log(batch, store, &neighbour, &error), STATUS_OK);
  assert_int_equal(store_batch_count(batch), 1);
  write_batch(store, batch);
  assert_rows(store, NULL, arena);
  store_batch_free(batch);
  store_close(store);
  arena_free(arena);
}

/* ---- chains, batches, schedules: their row and their timers ---- */

static char *timers_of(struct store *store) {
  struct store_rows rows;
  GString *list = g_string_new(NULL);
  assert_int_equal(store_scan(store, NULL, &(struct store_range){.family = FAMILY_TIMERS, .limit = 100}, &rows, NULL), STATUS_OK);
  for (size_t i = 0; i < rows.count; i++) {
    int64_t time_ms;
    enum timer_kind kind;
    struct id id;
    assert_true(key_read_timer(rows.rows[i].key, &time_ms, &kind, &id));
    g_string_append_printf(list, "%d@%lld%.*s;", kind, (long long)time_ms, (int)rows.rows[i].value.length,
                           (const char *)rows.rows[i].value.data);
  }
  store_rows_release(&rows);
  return g_string_free(list, FALSE);
}

static void assert_timers(struct store *store, struct store_batch *batch, const char *expected) {
  write_batch(store, batch);
  char *actual = timers_of(store);
  assert_string_equal(actual, expected);
  g_free(actual);
}

static void test_the_timers_of_groups_follow_their_records(void **state) {
  struct arena *arena = arena_new(0);
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  const struct id id = {{5}};
  (void)state;
  Millrace__Store__V1__BatchRecord open = MILLRACE__STORE__V1__BATCH_RECORD__INIT;
  open.seal_at_ms = 100;
  Millrace__Store__V1__BatchRecord later = open;
  later.seal_at_ms = 200;
  Millrace__Store__V1__BatchRecord ended = open;
  ended.seal_at_ms = 0;
  ended.delete_at_ms = 300;
  changes_batch(batch, &id, NULL, &open, arena);
  assert_timers(store, batch, "5@100;");
  changes_batch(batch, &id, &open, &later, arena);
  assert_timers(store, batch, "5@200;");
  changes_batch(batch, &id, &later, &ended, arena);
  assert_timers(store, batch, "8@300;");
  changes_batch(batch, &id, &ended, &ended, arena);
  assert_int_equal(store_batch_count(batch), 0);
  changes_batch(batch, &id, &ended, NULL, arena);
  assert_timers(store, batch, "");

  Millrace__Store__V1__ChainRecord chain = MILLRACE__STORE__V1__CHAIN_RECORD__INIT;
  Millrace__Store__V1__ChainRecord over = chain;
  over.delete_at_ms = 400;
  changes_chain(batch, &id, NULL, &chain, arena);
  assert_timers(store, batch, "");
  changes_chain(batch, &id, &chain, &over, arena);
  assert_timers(store, batch, "7@400;");
  changes_chain(batch, &id, &over, &chain, arena); /* a step was retried */
  assert_timers(store, batch, "");
  changes_chain(batch, &id, &chain, NULL, arena);

  Millrace__Store__V1__ScheduleRecord schedule = MILLRACE__STORE__V1__SCHEDULE_RECORD__INIT;
  schedule.uid = (ProtobufCBinaryData){.len = ID_BYTES, .data = (uint8_t *)id.bytes};
  schedule.next_fire_ms = 500;
  Millrace__Store__V1__ScheduleRecord paused = schedule;
  paused.paused = true;
  changes_schedule(batch, "nightly", NULL, &schedule, arena);
  assert_timers(store, batch, "4@500nightly;");
  changes_schedule(batch, "nightly", &schedule, &paused, arena);
  assert_timers(store, batch, "");
  changes_schedule(batch, "nightly", &paused, &schedule, arena);
  assert_timers(store, batch, "4@500nightly;");
  changes_schedule(batch, "nightly", &schedule, NULL, arena);
  assert_timers(store, batch, "");
  assert_rows(store, NULL, arena);
  store_batch_free(batch);
  store_close(store);
  arena_free(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_any_change_leaves_exactly_the_rows_of_after),
      cmocka_unit_test(test_no_field_of_a_record_is_forgotten),
      cmocka_unit_test(test_a_decoded_copy_changes_no_key),
      cmocka_unit_test(test_each_step_of_a_plain_job_writes_little),
      cmocka_unit_test(test_a_lease_that_gives_up_its_key_is_written),
      cmocka_unit_test(test_a_log_is_deleted_whole_and_alone),
      cmocka_unit_test(test_the_timers_of_groups_follow_their_records),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
