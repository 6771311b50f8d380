/* SPDX-License-Identifier: Apache-2.0 */
/* Keys on disk: they sort by value, read back, and each state of a job has just the keys that docs/storage.md names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random_job.h"
#include "store/keys.h"

enum { ROUNDS = 2000 };

static int compare(const struct key *a, const struct key *b) {
  const int order = memcmp(a->bytes, b->bytes, MIN(a->length, b->length));
  return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int sign(int64_t value) {
  return (value > 0) - (value < 0);
}

static uint64_t number(GRand *random) {
  return ((uint64_t)g_rand_int(random) << 32 | g_rand_int(random)) >> g_rand_int_range(random, 0, 64);
}

static void test_numbers_in_keys_sort_by_value(void **state) {
  GRand *random = random_new();
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    const uint64_t a = number(random);
    const uint64_t b = number(random);
    const struct id id = random_id(random);
    const int64_t time_a = (int64_t)(a >> 1);
    const int64_t time_b = (int64_t)(b >> 1);
    const int expected = (a > b) - (a < b);
    const int expected_time = (time_a > time_b) - (time_a < time_b);
    struct key x;
    struct key y;
    key_ready(&x, 7, 8, a);
    key_ready(&y, 7, 8, b);
    assert_int_equal(sign(compare(&x, &y)), expected);
    key_ready(&x, 7, 8, UINT64_MAX);
    key_ready(&y, 7, 9, 0);
    assert_true(compare(&x, &y) < 0);
    key_lease(&x, &id, a);
    key_lease(&y, &id, b);
    assert_int_equal(sign(compare(&x, &y)), expected);
    key_timer(&x, time_a, TIMER_RUN, &id);
    key_timer(&y, time_b, TIMER_RUN, &id);
    assert_int_equal(sign(compare(&x, &y)), expected_time);
    key_ended(&x, 3, time_a, &id);
    key_ended(&y, 3, time_b, &id);
    assert_int_equal(sign(compare(&x, &y)), expected_time);
    key_log(&x, &id, a);
    key_log(&y, &id, b);
    assert_int_equal(sign(compare(&x, &y)), expected);
  }
  g_rand_free(random);
}

static void test_parked_jobs_wait_by_priority_then_sequence(void **state) {
  (void)state;
  struct key critical;
  struct key low;
  struct key later;
  key_parked(&critical, 1, "customer-7", 10, 900);
  key_parked(&low, 1, "customer-7", 0, 1);
  key_parked(&later, 1, "customer-7", 0, 2);
  assert_true(compare(&critical, &low) < 0);
  assert_true(compare(&low, &later) < 0);
}

static void test_keys_read_back(void **state) {
  GRand *random = random_new();
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    const struct id id = random_id(random);
    const uint32_t queue = g_rand_int(random);
    const uint32_t task = g_rand_int(random);
    const uint64_t sequence = number(random);
    struct key key;
    struct id read_id;
    uint32_t read_queue;
    uint32_t read_task;
    uint64_t read_sequence;
    int64_t time_ms;
    enum timer_kind kind;
    uint8_t priority;
    char text[257];
    char letter;
    key_ready(&key, queue, task, sequence);
    assert_true(key_read_ready(key_slice(&key), &read_queue, &read_task, &read_sequence));
    assert_true(read_queue == queue && read_task == task && read_sequence == sequence);
    key_lease(&key, &id, sequence);
    assert_true(key_read_lease(key_slice(&key), &read_id, &read_sequence));
    assert_true(id_equal(&read_id, &id) && read_sequence == sequence);
    key_timer(&key, (int64_t)(sequence >> 1), TIMER_BATCH_SEAL, &id);
    assert_true(key_read_timer(key_slice(&key), &time_ms, &kind, &read_id));
    assert_true(time_ms == (int64_t)(sequence >> 1) && kind == TIMER_BATCH_SEAL && id_equal(&read_id, &id));
    key_parked(&key, queue, "a\xff key", 8, sequence);
    assert_true(key_read_parked(key_slice(&key), &read_queue, text, &priority, &read_sequence));
    assert_true(read_queue == queue && priority == 8 && read_sequence == sequence);
    assert_string_equal(text, "a\xff key");
    key_ended(&key, queue, (int64_t)(sequence >> 1), &id);
    assert_true(key_read_ended(key_slice(&key), &read_queue, &time_ms, &read_id));
    assert_true(read_queue == queue && time_ms == (int64_t)(sequence >> 1) && id_equal(&read_id, &id));
    key_lane(&key, queue, 10, task);
    assert_true(key_read_queues(key_slice(&key), &letter, &read_queue, &priority, &read_task));
    assert_true(letter == 'l' && read_queue == queue && priority == 10 && read_task == task);
    key_task(&key, queue, task);
    assert_true(key_read_queues(key_slice(&key), &letter, &read_queue, &priority, &read_task));
    assert_true(letter == 't' && read_queue == queue && read_task == task);
    key_label(&key, "color", "red", &id);
    assert_true(key_read_member(key_slice(&key), &read_id) && id_equal(&read_id, &id));
    key_chain_member(&key, &id, task, &id);
    assert_true(key_read_member(key_slice(&key), &read_id) && id_equal(&read_id, &id));
  }
  g_rand_free(random);
}

static void test_a_time_below_zero_counts_as_zero(void **state) {
  (void)state;
  const struct id id = {{1}};
  struct key negative;
  struct key zero;
  key_timer(&negative, -5, TIMER_RUN, &id);
  key_timer(&zero, 0, TIMER_RUN, &id);
  assert_int_equal(compare(&negative, &zero), 0);
}

static void test_damaged_keys_are_refused(void **state) {
  (void)state;
  GRand *random = random_new();
  uint32_t queue;
  uint32_t task;
  uint64_t sequence;
  int64_t time_ms;
  enum timer_kind kind;
  uint8_t priority;
  struct id id;
  char text[257];
  char letter;
  const struct slice nothing = {"", 0};
  assert_false(key_read_ready(nothing, &queue, &task, &sequence));
  assert_false(key_read_timer(nothing, &time_ms, &kind, &id));
  assert_false(key_read_parked(nothing, &queue, text, &priority, &sequence));
  assert_false(key_read_member(nothing, &id));
  assert_false(key_read_queues(nothing, &letter, &queue, &priority, &task));
  for (int i = 0; i < ROUNDS; i++) {
    /* Whatever the bytes: no crash, no reading outside. */
    const size_t length = (size_t)g_rand_int_range(random, 1, 60);
    uint8_t *bytes = g_malloc(length);
    for (size_t k = 0; k < length; k++)
      bytes[k] = (uint8_t)g_rand_int(random);
    bytes[0] = (uint8_t) "lbcsqt"[i % 6];
    const struct slice key = {bytes, length};
    (void)key_read_parked(key, &queue, text, &priority, &sequence);
    (void)key_read_member(key, &id);
    (void)key_read_queues(key, &letter, &queue, &priority, &task);
    assert_int_equal(key_read_ready(key, &queue, &task, &sequence), length == 16);
    g_free(bytes);
  }
  g_rand_free(random);
}

static void test_the_key_after_a_prefix_bounds_it(void **state) {
  (void)state;
  struct key prefix;
  struct key after;
  struct key member;
  struct id batch;
  struct id last;
  memset(batch.bytes, 0xff, ID_BYTES);
  memset(last.bytes, 0xff, ID_BYTES);
  key_batch_prefix(&prefix, &batch);
  assert_true(key_after_prefix(&prefix, &after));
  key_batch_member(&member, &batch, &last);
  assert_true(compare(&prefix, &member) < 0 && compare(&member, &after) < 0);
  key_id(&prefix, &last);
  assert_false(key_after_prefix(&prefix, &after));
  prefix.length = 0;
  assert_false(key_after_prefix(&prefix, &after));
}

static void test_a_label_prefix_does_not_catch_a_longer_value(void **state) {
  (void)state;
  const struct id id = {{9}};
  struct key prefix;
  struct key other;
  key_label_prefix(&prefix, "env", "prod");
  key_label(&other, "env", "production", &id);
  assert_int_not_equal(memcmp(prefix.bytes, other.bytes, prefix.length), 0);
}

/* ---- keys_of ---- */

static void write_down(void *context, enum family family, const struct key *key, struct slice value) {
  GString *list = context;
  int64_t time_ms;
  enum timer_kind kind;
  struct id id;
  g_string_append_printf(list, "%s%s", list->len ? " " : "", family_names[family]);
  if (family == FAMILY_TIMERS) {
    assert_true(key_read_timer(key_slice(key), &time_ms, &kind, &id));
    g_string_append_printf(list, ":%d@%lld", kind, (long long)time_ms);
  } else if (family == FAMILY_LABELS) {
    g_string_append_printf(list, ":%c", key->bytes[0]);
  }
  if (value.length > 0)
    g_string_append(list, "=id");
}

static void assert_keys(const struct job *job, const char *expected) {
  GString *list = g_string_new(NULL);
  keys_of(job, &(struct key_visitor){write_down, list});
  assert_string_equal(list->str, expected);
  g_string_free(list, TRUE);
}

static void test_each_state_has_its_place(void **state) {
  (void)state;
  struct job job = plain_job(1);
  job.run_at_ms = 20;
  job.expires_at_ms = 30;
  job.deadline_ms = 40;
  job.delete_at_ms = 50;
  job.concurrency_key = "k";
  assert_keys(&job, "ready_normal=id timers:2@30 timers:3@40");
  job.priority = 10;
  assert_keys(&job, "ready_critical=id timers:2@30 timers:3@40");
  job.state = JOB_RUNNING;
  assert_keys(&job, "timers:2@30 timers:3@40");
  job.state = JOB_PARKED;
  assert_keys(&job, "parked=id timers:2@30 timers:3@40");
  job.state = JOB_SCHEDULED;
  assert_keys(&job, "timers:1@20 timers:2@30 timers:3@40");
  job.state = JOB_BLOCKED;
  assert_keys(&job, "timers:3@40");
  job.deliveries = 1; /* lost before it started */
  job.state = JOB_RETRYING;
  assert_keys(&job, "timers:1@20 timers:2@30 timers:3@40");
  job.started_ms = 15;
  assert_keys(&job, "timers:1@20 timers:3@40");
  job.state = JOB_FAILED;
  assert_keys(&job, "dead");
  job.state = JOB_SUCCEEDED;
  assert_keys(&job, "finished");
  job.state = JOB_CANCELLED;
  assert_keys(&job, "finished");
  job.state = JOB_EXPIRED;
  assert_keys(&job, "finished");
  job.state = JOB_DELETED;
  assert_keys(&job, "timers:6@50");
}

static void test_what_a_job_is_found_by(void **state) {
  (void)state;
  const struct label labels[] = {{"env", "prod"}, {"team", ""}};
  struct job job = plain_job(1);
  job.labels = labels;
  job.label_count = 2;
  job.batch_id = (struct id){{1}};
  job.chain_id = (struct id){{2}};
  job.schedule_uid = (struct id){{3}};
  job.unique_key = "u";
  assert_keys(&job, "ready_normal=id labels:l labels:l labels:b labels:c labels:s");
  job.unique_held = true;
  job.state = JOB_SUCCEEDED;
  assert_keys(&job, "finished unique=id labels:l labels:l labels:b labels:c labels:s");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_numbers_in_keys_sort_by_value),
      cmocka_unit_test(test_parked_jobs_wait_by_priority_then_sequence),
      cmocka_unit_test(test_keys_read_back),
      cmocka_unit_test(test_a_time_below_zero_counts_as_zero),
      cmocka_unit_test(test_damaged_keys_are_refused),
      cmocka_unit_test(test_the_key_after_a_prefix_bounds_it),
      cmocka_unit_test(test_a_label_prefix_does_not_catch_a_longer_value),
      cmocka_unit_test(test_each_state_has_its_place),
      cmocka_unit_test(test_what_a_job_is_found_by),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
