/* SPDX-License-Identifier: Apache-2.0 */
/* What is stored comes back as it was; what is not a record is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random_job.h"
#include "store/keys.h"
#include "store/records.h"

enum { ROUNDS = 2000 };

static void assert_error_equal(const struct job_error *a, const struct job_error *b) {
  assert_string_equal(a->type, b->type);
  assert_string_equal(a->message, b->message);
  assert_string_equal(a->trace, b->trace);
  assert_string_equal(a->fingerprint, b->fingerprint);
}

static void assert_bytes_equal(struct bytes a, struct bytes b) {
  assert_int_equal(a.length, b.length);
  if (a.length > 0)
    assert_memory_equal(a.data, b.data, a.length);
}

static void assert_policy_equal(const struct policy *a, const struct policy *b) {
  assert_int_equal(a->attempts_max, b->attempts_max);
  assert_int_equal(a->kind, b->kind);
  assert_int_equal(a->initial_ms, b->initial_ms);
  assert_true(a->multiplier == b->multiplier);
  assert_int_equal(a->delay_max_ms, b->delay_max_ms);
  assert_int_equal(a->has_jitter, b->has_jitter);
  assert_true(a->jitter == b->jitter);
  assert_int_equal(a->delays, b->delays);
  for (size_t i = 0; i < a->delays; i++)
    assert_int_equal(a->delays_ms[i], b->delays_ms[i]);
  assert_int_equal(a->has_attempt_timeout, b->has_attempt_timeout);
  assert_int_equal(a->attempt_timeout_ms, b->attempt_timeout_ms);
}

/* Everything behind a pointer by content, then the rest as it lies in memory. */
static void assert_job_equal(const struct job *a, const struct job *b) {
  assert_string_equal(a->unique_key, b->unique_key);
  assert_string_equal(a->concurrency_key, b->concurrency_key);
  assert_string_equal(a->schedule_name, b->schedule_name);
  assert_string_equal(a->result_omitted_reason, b->result_omitted_reason);
  assert_bytes_equal(a->result, b->result);
  assert_error_equal(&a->error, &b->error);
  assert_policy_equal(&a->policy, &b->policy);
  assert_int_equal(a->label_count, b->label_count);
  for (size_t i = 0; i < a->label_count; i++) {
    assert_string_equal(a->labels[i].key, b->labels[i].key);
    assert_string_equal(a->labels[i].value, b->labels[i].value);
  }
  assert_int_equal(a->history_count, b->history_count);
  for (size_t i = 0; i < a->history_count; i++) {
    assert_int_equal(a->history[i].delivery, b->history[i].delivery);
    assert_true(id_equal(&a->history[i].session, &b->history[i].session));
    assert_int_equal(a->history[i].started_ms, b->history[i].started_ms);
    assert_int_equal(a->history[i].finished_ms, b->history[i].finished_ms);
    assert_int_equal(a->history[i].outcome, b->history[i].outcome);
    assert_error_equal(&a->history[i].error, &b->history[i].error);
  }
  struct job rest = *b;
  rest.unique_key = a->unique_key;
  rest.concurrency_key = a->concurrency_key;
  rest.schedule_name = a->schedule_name;
  rest.result_omitted_reason = a->result_omitted_reason;
  rest.result = a->result;
  rest.error = a->error;
  rest.policy = a->policy;
  rest.labels = a->labels;
  rest.history = a->history;
  assert_memory_equal(a, &rest, sizeof rest);
}

static void test_any_job_comes_back(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    struct job job = random_job(random, arena);
    struct job read;
    struct error error;
    assert_int_equal(record_unpack_job(&job.id, record_pack_job(&job, arena), arena, &read, &error), STATUS_OK);
    if (job.state == JOB_RUNNING)
      job.state = JOB_PENDING; /* running is a lease, not a record */
    assert_job_equal(&job, &read);
  }
  arena_free(arena);
  g_rand_free(random);
}

static void test_a_lease_leaves_the_record_as_it_was(void **state) {
  struct arena *arena = arena_new(0);
  (void)state;
  struct job job = plain_job(1);
  const struct slice waiting = record_pack_job(&job, arena);
  job_lease(&job);
  const struct slice leased = record_pack_job(&job, arena);
  assert_int_equal(waiting.length, leased.length);
  assert_memory_equal(waiting.data, leased.data, leased.length);
  arena_free(arena);
}

static void test_any_spec_comes_back(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    const struct job job = random_job(random, arena);
    const struct spec spec = {.payload = job.result,
                              .policy = i % 2 ? random_policy(random, arena) : (struct policy){0},
                              .traceparent = job.schedule_name,
                              .tracestate = job.unique_key,
                              .previous_id = job.chain_id,
                              .previous_result = job.result};
    struct spec read;
    struct error error;
    assert_int_equal(record_unpack_spec(&job.id, record_pack_spec(&spec, arena), arena, &read, &error), STATUS_OK);
    assert_bytes_equal(spec.payload, read.payload);
    assert_bytes_equal(spec.previous_result, read.previous_result);
    assert_policy_equal(&spec.policy, &read.policy);
    assert_string_equal(spec.traceparent, read.traceparent);
    assert_string_equal(spec.tracestate, read.tracestate);
    assert_true(id_equal(&spec.previous_id, &read.previous_id));
  }
  arena_free(arena);
  g_rand_free(random);
}

static void test_damage_is_named(void **state) {
  struct arena *arena = arena_new(0);
  (void)state;
  const struct job job = plain_job(1);
  struct job read;
  struct error error;
  char text[ID_TEXT_BYTES];
  id_format(&job.id, text);
  assert_int_equal(record_unpack_job(&job.id, (struct slice){"\xff\xff\xff", 3}, arena, &read, &error), STATUS_DATA_LOSS);
  assert_non_null(strstr(error.message, text));
  assert_non_null(strstr(error.message, "jobs"));
  /* An empty record has no state. */
  assert_int_equal(record_unpack_job(&job.id, (struct slice){"", 0}, arena, &read, &error), STATUS_DATA_LOSS);
  arena_free(arena);
}

static void test_flipped_bits_never_crash(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    struct job job = random_job(random, arena);
    const struct slice value = record_pack_job(&job, arena);
    uint8_t *bytes = g_memdup2(value.data, value.length);
    for (int flips = 0; flips < 3; flips++)
      bytes[g_rand_int_range(random, 0, (gint32)value.length)] ^= (uint8_t)(1 << g_rand_int_range(random, 0, 8));
    struct job read;
    struct error error;
    if (record_unpack_job(&job.id, (struct slice){bytes, value.length}, arena, &read, &error) == STATUS_OK)
      (void)record_pack_job(&read, arena);
    g_free(bytes);
  }
  arena_free(arena);
  g_rand_free(random);
}

static void test_values_that_no_job_has_are_refused(void **state) {
  struct arena *arena = arena_new(0);
  (void)state;
  const struct {
    uint32_t state;
    uint32_t priority;
    uint32_t unique_scope;
    size_t id_bytes;
    bool is_good;
  } cases[] = {{2, 5, 0, 0, true},  {2, 5, 3, 16, true}, {3, 5, 0, 0, false},  {12, 5, 0, 0, false},
               {2, 6, 0, 0, false}, {2, 5, 4, 0, false}, {2, 5, 0, 15, false}, {2, 256 + 5, 0, 0, false}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    Millrace__Store__V1__JobRecord record = MILLRACE__STORE__V1__JOB_RECORD__INIT;
    record.state = (Millrace__Store__V1__StoredState)cases[i].state;
    record.priority = cases[i].priority;
    record.unique_scope = cases[i].unique_scope;
    record.batch_id = (ProtobufCBinaryData){.len = cases[i].id_bytes, .data = (uint8_t *)"0123456789abcdef"};
    const struct id id = {{1}};
    struct job job;
    struct error error;
    const enum status status = record_unpack_job(&id, record_pack(&record.base, arena), arena, &job, &error);
    assert_int_equal(status, cases[i].is_good ? STATUS_OK : STATUS_DATA_LOSS);
  }
  arena_free(arena);
}

static void test_policies_travel_both_ways(void **state) {
  GRand *random = random_new();
  struct arena *arena = arena_new(0);
  (void)state;
  for (int i = 0; i < ROUNDS; i++) {
    arena_reset(arena);
    struct policy policy = random_policy(random, arena);
    policy.has_attempt_timeout = false; /* travels apart */
    policy.attempt_timeout_ms = 0;
    const struct policy back = policy_from_api(policy_to_api(&policy, arena), NULL, arena);
    assert_policy_equal(&policy, &back);
  }
  const struct policy unset = {0};
  assert_null(policy_to_api(&unset, arena));
  const struct policy back = policy_from_api(NULL, NULL, arena);
  assert_policy_equal(&unset, &back);
  Google__Protobuf__Duration none = GOOGLE__PROTOBUF__DURATION__INIT;
  const struct policy without_limit = policy_from_api(NULL, &none, arena);
  assert_true(without_limit.has_attempt_timeout);
  assert_int_equal(without_limit.attempt_timeout_ms, 0);
  arena_free(arena);
  g_rand_free(random);
}

static void test_errors_travel_both_ways(void **state) {
  struct arena *arena = arena_new(0);
  (void)state;
  const struct job_error none = job_error_from_api(NULL);
  assert_null(job_error_to_api(&none, arena));
  const struct job_error some = {"Type", "message", "", "f"};
  const struct job_error back = job_error_from_api(job_error_to_api(&some, arena));
  assert_error_equal(&some, &back);
  arena_free(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_any_job_comes_back),        cmocka_unit_test(test_a_lease_leaves_the_record_as_it_was),
      cmocka_unit_test(test_any_spec_comes_back),       cmocka_unit_test(test_damage_is_named),
      cmocka_unit_test(test_flipped_bits_never_crash),  cmocka_unit_test(test_values_that_no_job_has_are_refused),
      cmocka_unit_test(test_policies_travel_both_ways), cmocka_unit_test(test_errors_travel_both_ways),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
