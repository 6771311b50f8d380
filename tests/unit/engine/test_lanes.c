/* SPDX-License-Identifier: Apache-2.0 */
/* Ready jobs that are not in memory yet, as after a restart. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"

static char *const old_ids[] = {"00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"};
static char *const new_id = "00000000-0000-4000-8000-00000000000c";

static void create(struct harness *harness, char *id) {
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  spec.id = id;
  spec.task = "t";
  message.job = &spec;
  assert_non_null(harness_call(harness, "JobService/CreateJob", &message.base));
}

static const Millrace__V1__Job *get(struct harness *harness, char *id) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = id;
  const Millrace__V1__GetJobResponse *response = harness_call(harness, "JobService/GetJob", &message.base);
  assert_non_null(response);
  return response->job;
}

/* The row under its old priority is still on disk when the create in the same turn has the lane read. */
static void test_a_job_whose_priority_changes_is_delivered_once(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  create(&harness, old_ids[0]);
  create(&harness, old_ids[1]);
  harness_restart(&harness);
  Millrace__V1__UpdateJobRequest update = MILLRACE__V1__UPDATE_JOB_REQUEST__INIT;
  update.id = old_ids[0];
  update.priority = MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_HIGH;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest create_new = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  spec.id = new_id;
  spec.task = "t";
  create_new.job = &spec;
  const void *responses[2];
  harness_call_both(&harness, (const char *const[]){"JobService/UpdateJob", "JobService/CreateJob"},
                    (const ProtobufCMessage *const[]){&update.base, &create_new.base}, responses);
  assert_non_null(responses[0]);
  assert_non_null(responses[1]);
  harness_add_worker(&harness, "default", 10);
  char *const all[] = {old_ids[0], old_ids[1], new_id};
  for (int i = 0; i < 3; i++) {
    const Millrace__V1__Job *job = get(&harness, all[i]);
    assert_int_equal(job->state, MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
    assert_int_equal(job->deliveries, 1);
  }
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_job_whose_priority_changes_is_delivered_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
