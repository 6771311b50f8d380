/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of a step brings about, and retrying steps some of which are gone. */
#include "harness.h"

#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"

enum { STEPS = 3 };

static char *const ids[STEPS] = {"00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b",
                                 "00000000-0000-4000-8000-00000000000c"};

static void create_chain(struct harness *harness) {
  Millrace__V1__JobSpec specs[STEPS];
  Millrace__V1__JobSpec *steps[STEPS];
  for (int i = 0; i < STEPS; i++) {
    millrace__v1__job_spec__init(&specs[i]);
    specs[i].id = ids[i];
    specs[i].task = "step";
    steps[i] = &specs[i];
  }
  Millrace__V1__CreateChainRequest message = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  message.n_steps = STEPS;
  message.steps = steps;
  assert_non_null(harness_call(harness, "ChainService/CreateChain", &message.base));
}

static void cancel(struct harness *harness, int step) {
  Millrace__V1__CancelJobRequest message = MILLRACE__V1__CANCEL_JOB_REQUEST__INIT;
  message.id = ids[step];
  const Millrace__V1__CancelJobResponse *response = harness_call(harness, "JobService/CancelJob", &message.base);
  assert_non_null(response);
  assert_int_equal(response->job->state, MILLRACE__V1__JOB_STATE__JOB_STATE_CANCELLED);
}

static void delete_job(struct harness *harness, int step) {
  Millrace__V1__DeleteJobRequest message = MILLRACE__V1__DELETE_JOB_REQUEST__INIT;
  message.id = ids[step];
  assert_non_null(harness_call(harness, "JobService/DeleteJob", &message.base));
}

static const Millrace__V1__RetryJobResponse *retry(struct harness *harness, int step) {
  Millrace__V1__RetryJobRequest message = MILLRACE__V1__RETRY_JOB_REQUEST__INIT;
  message.id = ids[step];
  return harness_call(harness, "JobService/RetryJob", &message.base);
}

/* The last step must not run without the one in the middle, which was cancelled and is gone. */
static void test_a_step_whose_predecessor_did_not_succeed_is_not_retried(void **state) {
  (void)state;
  struct harness harness;
  harness_open(&harness);
  create_chain(&harness);
  cancel(&harness, 2);
  cancel(&harness, 0);
  delete_job(&harness, 1);
  assert_null(retry(&harness, 2));
  assert_int_equal(harness.error.status, STATUS_FAILED_PRECONDITION);
  const Millrace__V1__RetryJobResponse *first = retry(&harness, 0);
  assert_non_null(first);
  assert_int_equal(first->job->state, MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING);
  harness_close(&harness);
}

static const Millrace__V1__Job *next_event(struct harness_stream *watch) {
  const Millrace__V1__WatchJobsResponse *event = harness_stream_next(watch);
  assert_non_null(event);
  return event->job;
}

/* First the cause, then what follows from it. */
static void test_a_watch_tells_ends_in_order(void **state) {
  (void)state;
  struct harness harness;
  harness_open(&harness);
  create_chain(&harness);
  Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;
  Millrace__V1__WatchJobsRequest message = MILLRACE__V1__WATCH_JOBS_REQUEST__INIT;
  filter.n_ids = STEPS;
  filter.ids = (char **)ids;
  message.filter = &filter;
  struct harness_stream *watch = harness_stream_open(&harness, "JobService/WatchJobs", &message.base);
  for (int i = 0; i < STEPS; i++)
    assert_non_null(next_event(watch));
  assert_null(next_event(watch)); /* those were all */
  cancel(&harness, 0);
  for (int i = 0; i < STEPS; i++)
    assert_string_equal(next_event(watch)->id, ids[i]);
  harness_stream_close(&harness, watch);
  harness_close(&harness);
}

/* Both steps and the callback bear the label that is cancelled, and the callback is made in the millisecond of the order. */
static void test_an_order_to_cancel_spares_the_callbacks_that_it_causes(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  Millrace__V1__JobSpec__LabelsEntry label = MILLRACE__V1__JOB_SPEC__LABELS_ENTRY__INIT;
  Millrace__V1__JobSpec__LabelsEntry *labels[] = {&label};
  label.key = "tenant";
  label.value = "acme";
  Millrace__V1__JobSpec step = MILLRACE__V1__JOB_SPEC__INIT;
  step.task = "step";
  step.n_labels = 1;
  step.labels = labels;
  Millrace__V1__JobSpec refund = step;
  refund.task = "refund";
  Millrace__V1__JobSpec *steps[] = {&step, &step};
  Millrace__V1__CreateChainRequest chain = MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT;
  chain.n_steps = G_N_ELEMENTS(steps);
  chain.steps = steps;
  chain.on_failure = &refund;
  assert_non_null(harness_call(&harness, "ChainService/CreateChain", &chain.base));
  Millrace__V1__JobFilter__LabelsEntry wanted = MILLRACE__V1__JOB_FILTER__LABELS_ENTRY__INIT;
  Millrace__V1__JobFilter__LabelsEntry *wanted_labels[] = {&wanted};
  wanted.key = label.key;
  wanted.value = label.value;
  Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;
  filter.n_labels = 1;
  filter.labels = wanted_labels;
  Millrace__V1__CancelJobsRequest order = MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT;
  order.filter = &filter;
  const Millrace__V1__CancelJobsResponse *first = harness_call(&harness, "JobService/CancelJobs", &order.base);
  assert_non_null(first);
  assert_int_equal(first->cancelled, 2);
  const Millrace__V1__QueueCounts *counts = harness_counts(&harness, "default");
  assert_int_equal(counts->cancelled, 2);
  assert_int_equal(counts->pending, 1);
  const Millrace__V1__CancelJobsResponse *second = harness_call(&harness, "JobService/CancelJobs", &order.base);
  assert_non_null(second);
  assert_int_equal(second->cancelled, 1); /* it was there when this one was asked for */
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_step_whose_predecessor_did_not_succeed_is_not_retried),
      cmocka_unit_test(test_a_watch_tells_ends_in_order),
      cmocka_unit_test(test_an_order_to_cancel_spares_the_callbacks_that_it_causes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
