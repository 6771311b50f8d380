/* SPDX-License-Identifier: Apache-2.0 */
/* An id that is used again: its first job has been deleted, long enough after its creation that no tombstone is left. */
#include "harness.h"

#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"

static char *const reused = "00000000-0000-4000-8000-00000000000a";
static char *const other = "00000000-0000-4000-8000-00000000000b";

static Millrace__V1__JobSpec spec_of(char *id, char *queue) {
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  spec.id = id;
  spec.task = "t";
  spec.queue = queue;
  return spec;
}

static void create(struct harness *harness, char *id, char *queue) {
  Millrace__V1__JobSpec spec = spec_of(id, queue);
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  message.job = &spec;
  assert_non_null(harness_call(harness, "JobService/CreateJob", &message.base));
}

static void cancel(struct harness *harness, char *id) {
  Millrace__V1__CancelJobRequest message = MILLRACE__V1__CANCEL_JOB_REQUEST__INIT;
  message.id = id;
  assert_non_null(harness_call(harness, "JobService/CancelJob", &message.base));
}

static Millrace__V1__DeleteJobRequest delete_of(char *id) {
  Millrace__V1__DeleteJobRequest message = MILLRACE__V1__DELETE_JOB_REQUEST__INIT;
  message.id = id;
  return message;
}

static const Millrace__V1__Job *get(struct harness *harness, char *id) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = id;
  const Millrace__V1__GetJobResponse *response = harness_call(harness, "JobService/GetJob", &message.base);
  return response ? response->job : NULL;
}

/* A job that has ended and is older than a tombstone gets, and one that stands in the way of what is created then. */
static void open_with_an_old_job(struct harness *harness) {
  harness_open_stepped(harness);
  create(harness, reused, "");
  create(harness, other, "");
  cancel(harness, reused);
  harness_pass(harness, TOMBSTONE_MS + 1);
}

static void check_that_it_is_gone(struct harness *harness) {
  harness_settle(harness);
  harness_check_store(harness);
  assert_null(get(harness, reused));
  assert_int_equal(harness_counts(harness, "default")->pending, 1);
  create(harness, reused, "");
  assert_int_equal(get(harness, reused)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING);
  assert_int_equal(harness_counts(harness, "default")->pending, 2);
  harness_check_store(harness);
  harness_add_worker(harness, "default", 10);
  assert_int_equal(get(harness, reused)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  harness_close(harness);
}

static void test_a_chain_refused_in_the_turn_of_the_delete(void **state) {
  (void)state;
  struct harness harness;
  open_with_an_old_job(&harness);
  const Millrace__V1__DeleteJobRequest delete_old = delete_of(reused);
  Millrace__V1__JobSpec specs[] = {spec_of(reused, ""), spec_of(other, "")};
  Millrace__V1__JobSpec *steps[] = {&specs[0], &specs[1]};
  Millrace__V1__CreateChainRequest chain = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  chain.n_steps = 2;
  chain.steps = steps;
  const void *responses[2];
  harness_call_both(&harness, (const char *const[]){"JobService/DeleteJob", "ChainService/CreateChain"},
                    (const ProtobufCMessage *const[]){&delete_old.base, &chain.base}, responses);
  assert_non_null(responses[0]);
  assert_null(responses[1]);
  assert_int_equal(harness.error.status, STATUS_ALREADY_EXISTS);
  check_that_it_is_gone(&harness);
}

static void fill_queue(struct harness *harness, char *queue) {
  create(harness, "", queue);
  Google__Protobuf__UInt64Value one = GOOGLE__PROTOBUF__UINT64_VALUE__INIT;
  Millrace__V1__QueueSettings settings = MILLRACE__V1__QUEUE_SETTINGS__INIT;
  Millrace__V1__UpdateQueueRequest message = MILLRACE__V1__UPDATE_QUEUE_REQUEST__INIT;
  one.value = 1;
  settings.max_length = &one;
  message.name = queue;
  message.settings = &settings;
  assert_non_null(harness_call(harness, "QueueService/UpdateQueue", &message.base));
}

static void test_a_batch_refused_in_the_turn_of_the_delete(void **state) {
  (void)state;
  struct harness harness;
  open_with_an_old_job(&harness);
  fill_queue(&harness, "full");
  const Millrace__V1__DeleteJobRequest delete_old = delete_of(reused);
  Millrace__V1__JobSpec specs[] = {spec_of(reused, ""), spec_of("", "full")};
  Millrace__V1__JobSpec *items[] = {&specs[0], &specs[1]};
  Millrace__V1__CreateBatchRequest batch = MILLRACE__V1__CREATE_BATCH_REQUEST__INIT;
  batch.n_items = 2;
  batch.items = items;
  const void *responses[2];
  harness_call_both(&harness, (const char *const[]){"JobService/DeleteJob", "BatchService/CreateBatch"},
                    (const ProtobufCMessage *const[]){&delete_old.base, &batch.base}, responses);
  assert_non_null(responses[0]);
  assert_null(responses[1]);
  assert_int_equal(harness.error.status, STATUS_RESOURCE_EXHAUSTED);
  check_that_it_is_gone(&harness);
}

static size_t count_listed_as_running(struct harness *harness) {
  Millrace__V1__JobState running = MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING;
  Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;
  Millrace__V1__ListJobsRequest message = MILLRACE__V1__LIST_JOBS_REQUEST__INIT;
  filter.n_states = 1;
  filter.states = &running;
  message.filter = &filter;
  const Millrace__V1__ListJobsResponse *response = harness_call(harness, "JobService/ListJobs", &message.base);
  assert_non_null(response);
  return response->n_jobs;
}

/* The lease's record is there as long as the other job of its message runs. */
static void test_an_old_lease_does_not_hold_the_new_job(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  create(&harness, reused, "");
  create(&harness, other, "");
  const struct id session = harness_add_worker(&harness, "default", 10);
  harness_succeed(&harness, &session, 1, reused, 1);
  assert_int_equal(get(&harness, reused)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_SUCCEEDED);
  harness_pass(&harness, TOMBSTONE_MS + 1);
  Millrace__V1__PauseQueueRequest pause = MILLRACE__V1__PAUSE_QUEUE_REQUEST__INIT;
  pause.name = "default";
  assert_non_null(harness_call(&harness, "QueueService/PauseQueue", &pause.base));
  const Millrace__V1__DeleteJobRequest delete_old = delete_of(reused);
  assert_non_null(harness_call(&harness, "JobService/DeleteJob", &delete_old.base));
  create(&harness, reused, "");
  assert_int_equal(count_listed_as_running(&harness), 1);
  harness_check_store(&harness);

  harness_restart(&harness);
  assert_int_equal(get(&harness, reused)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING);
  assert_int_equal(get(&harness, other)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  Millrace__V1__ResumeQueueRequest resume = MILLRACE__V1__RESUME_QUEUE_REQUEST__INIT;
  resume.name = "default";
  assert_non_null(harness_call(&harness, "QueueService/ResumeQueue", &resume.base));
  harness_add_worker(&harness, "default", 10);
  assert_int_equal(get(&harness, reused)->state, MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  harness_check_store(&harness);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_an_old_lease_does_not_hold_the_new_job),
      cmocka_unit_test(test_a_chain_refused_in_the_turn_of_the_delete),
      cmocka_unit_test(test_a_batch_refused_in_the_turn_of_the_delete),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
