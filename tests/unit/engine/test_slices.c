/* SPDX-License-Identifier: Apache-2.0 */
/* What befalls many running jobs at one moment is done a slice a turn: no write grows with their number. */
#include "harness.h"

#include "core/limits.h"
#include "core/time.h"
#include "engine/meters.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"

enum { CALLS = 8, JOBS = CALLS * JOBS_PER_CALL_MAX, PATIENCE_S = 60, ROWS_BOUND = 6 /* of the histogram: 4,096 */ };

static int64_t shift_ms; /* of the wall clock */

static int64_t wall_ms(void *context) {
  (void)context;
  return g_get_real_time() / 1000 + __atomic_load_n(&shift_ms, __ATOMIC_RELAXED);
}

static void create_jobs(struct harness *harness) {
  Google__Protobuf__Duration hour = GOOGLE__PROTOBUF__DURATION__INIT;
  Google__Protobuf__Duration day = GOOGLE__PROTOBUF__DURATION__INIT;
  Millrace__V1__RetryPolicy patient = MILLRACE__V1__RETRY_POLICY__INIT;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__JobSpec *specs[JOBS_PER_CALL_MAX];
  Millrace__V1__CreateJobsRequest message = MILLRACE__V1__CREATE_JOBS_REQUEST__INIT;
  hour.seconds = HOUR_MS / SECOND_MS;
  day.seconds = DAY_MS / SECOND_MS;
  spec.task = "work";
  spec.queue = "default";
  spec.attempt_timeout = &hour;
  spec.retry_policy = &patient; /* none is tried again meanwhile */
  patient.initial = &hour;
  patient.max = &day;
  for (int i = 0; i < JOBS_PER_CALL_MAX; i++)
    specs[i] = &spec;
  message.n_jobs = JOBS_PER_CALL_MAX;
  message.jobs = specs;
  for (int i = 0; i < CALLS; i++)
    assert_non_null(harness_call(harness, "JobService/CreateJobs", &message.base));
}

static void wait_for_running(struct harness *harness, uint64_t count) {
  const gint64 until_us = g_get_monotonic_time() + PATIENCE_S * G_USEC_PER_SEC;
  while (harness_counts(harness, "default")->running != count) {
    assert_true(g_get_monotonic_time() < until_us);
    g_usleep(1000);
  }
}

static uint64_t count_big_writes(struct harness *harness) {
  struct readings *readings = engine_read_meters(harness->engine, PATIENCE_S * SECOND_MS);
  assert_non_null(readings);
  assert_int_equal(scale_count.bounds[ROWS_BOUND], 4096);
  uint64_t count = 0;
  for (size_t i = ROWS_BOUND + 1; i <= scale_count.count; i++)
    count += readings->batch_rows.counts[i];
  readings_free(readings);
  return count;
}

static void many_time_outs_are_no_long_turn(void **state) {
  struct harness harness;
  (void)state;
  harness_open_with(&harness, &(struct engine_options){.seed = 1, .wall_ms = wall_ms, .session_timeout_ms = HOUR_MS});
  create_jobs(&harness);
  harness_add_worker(&harness, "default", JOBS);
  wait_for_running(&harness, JOBS);
  const uint64_t before = count_big_writes(&harness);
  __atomic_store_n(&shift_ms, 2 * HOUR_MS, __ATOMIC_RELAXED);
  wait_for_running(&harness, 0);
  assert_int_equal(count_big_writes(&harness), before);
  harness_close(&harness);
}

static void the_end_of_a_busy_session_is_no_long_turn(void **state) {
  struct harness harness;
  (void)state;
  harness_open_with(&harness, &(struct engine_options){.seed = 1, .session_timeout_ms = HOUR_MS, .reconnect_grace_ms = 1});
  create_jobs(&harness);
  struct id session = harness_add_worker(&harness, "default", JOBS);
  wait_for_running(&harness, JOBS);
  const uint64_t before = count_big_writes(&harness);
  engine_session_disconnected(harness.engine, &session, 1);
  wait_for_running(&harness, 0);
  assert_int_equal(count_big_writes(&harness), before);
  harness_close(&harness);
}

/* ---- jobs that bring the rest of their chains with them ---- */

enum { CHAINS = 300, STEPS = 100 };

static void create_chains(struct harness *harness, Millrace__V1__JobSpec *first) {
  Millrace__V1__JobSpec step = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__JobSpec *steps[STEPS] = {first};
  Millrace__V1__CreateChainRequest message = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  step.task = "work";
  for (int i = 1; i < STEPS; i++)
    steps[i] = &step;
  message.n_steps = STEPS;
  message.steps = steps;
  for (int i = 0; i < CHAINS; i++)
    assert_non_null(harness_call(harness, "ChainService/CreateChain", &message.base));
}

static void wait_for_no_blocked(struct harness *harness) {
  const gint64 until_us = g_get_monotonic_time() + PATIENCE_S * G_USEC_PER_SEC;
  while (harness_counts(harness, "default")->blocked) {
    assert_true(g_get_monotonic_time() < until_us);
    g_usleep(1000);
  }
}

static void a_purge_of_chains_is_no_long_turn(void **state) {
  struct harness harness;
  (void)state;
  harness_open(&harness);
  Millrace__V1__JobSpec first = MILLRACE__V1__JOB_SPEC__INIT;
  first.task = "work";
  create_chains(&harness, &first);
  const uint64_t before = count_big_writes(&harness);
  Millrace__V1__PurgeQueueRequest message = MILLRACE__V1__PURGE_QUEUE_REQUEST__INIT;
  message.name = "default";
  const Millrace__V1__PurgeQueueResponse *response = harness_call(&harness, "QueueService/PurgeQueue", &message.base);
  assert_non_null(response);
  assert_int_equal(response->purged, CHAINS);
  assert_int_equal(harness_counts(&harness, "default")->blocked, 0);
  assert_int_equal(count_big_writes(&harness), before);
  harness_close(&harness);
}

/* What ends all first steps comes after an hour; so many of them run. */
static void end_first_steps(Millrace__V1__JobSpec *first, uint32_t slots) {
  struct harness harness;
  shift_ms = 0;
  harness_open_with(&harness, &(struct engine_options){.seed = 1, .wall_ms = wall_ms, .session_timeout_ms = HOUR_MS});
  create_chains(&harness, first);
  if (slots) {
    harness_add_worker(&harness, "default", slots);
    wait_for_running(&harness, slots);
  }
  const uint64_t before = count_big_writes(&harness);
  __atomic_store_n(&shift_ms, 2 * HOUR_MS, __ATOMIC_RELAXED);
  wait_for_no_blocked(&harness);
  assert_int_equal(count_big_writes(&harness), before);
  harness_close(&harness);
}

static void many_deadlines_of_chains_are_no_long_turn(void **state) {
  (void)state;
  Google__Protobuf__Duration hour = GOOGLE__PROTOBUF__DURATION__INIT;
  Millrace__V1__JobSpec first = MILLRACE__V1__JOB_SPEC__INIT;
  hour.seconds = HOUR_MS / SECOND_MS;
  first.task = "work";
  first.total_timeout = &hour;
  end_first_steps(&first, 0);
}

static void many_time_outs_of_chains_are_no_long_turn(void **state) {
  (void)state;
  Google__Protobuf__Duration hour = GOOGLE__PROTOBUF__DURATION__INIT;
  Millrace__V1__RetryPolicy once = MILLRACE__V1__RETRY_POLICY__INIT;
  Millrace__V1__JobSpec first = MILLRACE__V1__JOB_SPEC__INIT;
  hour.seconds = HOUR_MS / SECOND_MS;
  once.max_attempts = 1;
  first.task = "work";
  first.attempt_timeout = &hour;
  first.retry_policy = &once;
  end_first_steps(&first, CHAINS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(many_time_outs_are_no_long_turn),           cmocka_unit_test(the_end_of_a_busy_session_is_no_long_turn),
      cmocka_unit_test(a_purge_of_chains_is_no_long_turn),         cmocka_unit_test(many_deadlines_of_chains_are_no_long_turn),
      cmocka_unit_test(many_time_outs_of_chains_are_no_long_turn),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
