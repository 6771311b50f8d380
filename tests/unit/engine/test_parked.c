/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that wait for their concurrency key, behind ready ones of a task that nobody serves. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"

enum { CROWD = 3000 }; /* more than become ready in one turn without being served */

static void create(struct harness *harness, char *id, char *task) {
  Millrace__V1__ConcurrencyKey key = MILLRACE__V1__CONCURRENCY_KEY__INIT;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  key.key = "k";
  key.limit = 1;
  spec.id = id;
  spec.task = task;
  spec.concurrency_key = &key;
  message.job = &spec;
  assert_non_null(harness_call(harness, "JobService/CreateJob", &message.base));
}

static void create_crowd(struct harness *harness, char *task) {
  for (int i = 0; i < CROWD; i++)
    create(harness, "", task);
}

static int state_of(struct harness *harness, char *id) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = id;
  const Millrace__V1__GetJobResponse *response = harness_call(harness, "JobService/GetJob", &message.base);
  assert_non_null(response);
  return (int)response->job->state;
}

static void quiet(struct harness *harness, const struct id *session) {
  char text[ID_TEXT_BYTES];
  id_format(session, text);
  Millrace__V1__QuietWorkerRequest message = MILLRACE__V1__QUIET_WORKER_REQUEST__INIT;
  message.session_id = text;
  assert_non_null(harness_call(harness, "WorkerService/QuietWorker", &message.base));
}

static void deregister(struct harness *harness, const struct id *session) {
  char text[ID_TEXT_BYTES];
  id_format(session, text);
  Millrace__V1__DeregisterRequest message = MILLRACE__V1__DEREGISTER_REQUEST__INIT;
  message.session_id = text;
  message.session_token = harness->token;
  assert_non_null(harness_call(harness, "WorkerService/Deregister", &message.base));
}

static char *const first = "00000000-0000-4000-8000-00000000000a";
static char *const last = "00000000-0000-4000-8000-00000000000b";

/* `first` runs; the worker takes no more. The key's next is of a task that the worker after it does not serve. */
static void test_the_first_worker_of_a_queue_finds_its_jobs(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  const struct id all = harness_add_worker(&harness, "default", 10);
  create(&harness, first, "served");
  create(&harness, "", "unserved");
  create(&harness, last, "served");
  quiet(&harness, &all);
  harness_succeed(&harness, &all, 1, first, 1);
  deregister(&harness, &all);
  harness_settle(&harness);
  harness_add_worker_for(&harness, "default", "served", 10, 0);
  harness_settle(&harness);
  assert_int_equal(state_of(&harness, last), MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  harness_check_store(&harness);
  harness_close(&harness);
}

/* Those in front give the key on, however many they are. */
static void test_a_job_behind_many_unserved_ones_runs(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  const struct id all = harness_add_worker(&harness, "default", 10);
  create(&harness, first, "served");
  create_crowd(&harness, "unserved");
  create(&harness, last, "served");
  harness_add_worker_for(&harness, "default", "served", 10, 0);
  quiet(&harness, &all);
  harness_settle(&harness);
  harness_succeed(&harness, &all, 1, first, 1);
  harness_settle(&harness);
  assert_int_equal(state_of(&harness, last), MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  harness_check_store(&harness);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_first_worker_of_a_queue_finds_its_jobs),
      cmocka_unit_test(test_a_job_behind_many_unserved_ones_runs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
