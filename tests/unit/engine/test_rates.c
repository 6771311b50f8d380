/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of a queue. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"

enum { BURST = 3, JOBS = 20 };

static void update(struct harness *harness, double rate, uint64_t length_max) {
  Google__Protobuf__DoubleValue per_second = GOOGLE__PROTOBUF__DOUBLE_VALUE__INIT;
  Google__Protobuf__UInt32Value burst = GOOGLE__PROTOBUF__UINT32_VALUE__INIT;
  Google__Protobuf__UInt64Value length = GOOGLE__PROTOBUF__UINT64_VALUE__INIT;
  Millrace__V1__QueueSettings settings = MILLRACE__V1__QUEUE_SETTINGS__INIT;
  Millrace__V1__UpdateQueueRequest message = MILLRACE__V1__UPDATE_QUEUE_REQUEST__INIT;
  per_second.value = rate;
  burst.value = BURST;
  length.value = length_max;
  settings.rate_per_second = &per_second;
  settings.rate_burst = &burst;
  settings.max_length = &length;
  message.name = "default";
  message.settings = &settings;
  assert_non_null(harness_call(harness, "QueueService/UpdateQueue", &message.base));
}

static void create_jobs(struct harness *harness) {
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__JobSpec *specs[JOBS];
  Millrace__V1__CreateJobsRequest message = MILLRACE__V1__CREATE_JOBS_REQUEST__INIT;
  spec.task = "t";
  for (int i = 0; i < JOBS; i++)
    specs[i] = &spec;
  message.n_jobs = JOBS;
  message.jobs = specs;
  assert_non_null(harness_call(harness, "JobService/CreateJobs", &message.base));
}

static void test_an_update_gives_back_nothing_that_was_used_up(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  update(&harness, 1, 100);
  create_jobs(&harness);
  harness_add_worker(&harness, "default", JOBS);
  assert_int_equal(harness_counts(&harness, "default")->running, BURST);
  update(&harness, 1, 200);
  harness_settle(&harness);
  assert_int_equal(harness_counts(&harness, "default")->running, BURST);
  harness_pass(&harness, SECOND_MS + 1);
  assert_int_equal(harness_counts(&harness, "default")->running, BURST + 1);
  update(&harness, 2, 200);
  harness_settle(&harness);
  assert_int_equal(harness_counts(&harness, "default")->running, BURST + 1);
  harness_pass(&harness, SECOND_MS + 1);
  assert_int_equal(harness_counts(&harness, "default")->running, BURST + 3);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_an_update_gives_back_nothing_that_was_used_up)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
