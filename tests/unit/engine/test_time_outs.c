/* SPDX-License-Identifier: Apache-2.0 */
/* The attempt time-out counts from the start of the handler, also where jobs are prefetched. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"

static char *const first = "00000000-0000-4000-8000-00000000000a";
static char *const ahead = "00000000-0000-4000-8000-00000000000b";
static char *const hasty = "00000000-0000-4000-8000-00000000000c";

static void create(struct harness *harness, char *id, int64_t time_out_ms) {
  Google__Protobuf__Duration time_out = GOOGLE__PROTOBUF__DURATION__INIT;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  time_out.seconds = time_out_ms / SECOND_MS;
  spec.id = id;
  spec.task = "t";
  spec.attempt_timeout = &time_out;
  message.job = &spec;
  assert_non_null(harness_call(harness, "JobService/CreateJob", &message.base));
}

static void open_with_a_prefetched_job(struct harness *harness, struct id *out_session) {
  harness_open_stepped(harness);
  *out_session = harness_add_worker_for(harness, "default", "t", 1, 2);
  create(harness, first, HOUR_MS);
  create(harness, ahead, HOUR_MS);
}

static void assert_state(struct harness *harness, char *id, int state) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = id;
  const Millrace__V1__GetJobResponse *response = harness_call(harness, "JobService/GetJob", &message.base);
  assert_non_null(response);
  assert_int_equal(response->job->state, state);
}

static void assert_runs(struct harness *harness, char *id) {
  assert_state(harness, id, MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
}

static void assert_timed_out(struct harness *harness, char *id) {
  assert_state(harness, id, MILLRACE__V1__JOB_STATE__JOB_STATE_RETRYING);
}

static void start(struct harness *harness, const struct id *session, uint64_t report_seq, char *id) {
  Millrace__V1__Started started = MILLRACE__V1__STARTED__INIT;
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  report.event_case = MILLRACE__V1__REPORT__EVENT_STARTED;
  report.started = &started;
  harness_report_one(harness, session, report_seq, id, 1, &report);
}

/* It holds but this one, and maybe another. */
static void hold(struct harness *harness, const struct id *session, char *id, char *other, uint64_t received_up_to) {
  Millrace__V1__HeldDelivery held[2] = {MILLRACE__V1__HELD_DELIVERY__INIT, MILLRACE__V1__HELD_DELIVERY__INIT};
  Millrace__V1__HeldDelivery *list[] = {&held[0], &held[1]};
  Millrace__V1__Heartbeat heartbeat = MILLRACE__V1__HEARTBEAT__INIT;
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  held[0].job_id = id;
  held[1].job_id = other;
  held[0].delivery = held[1].delivery = 1;
  heartbeat.received_up_to = received_up_to;
  heartbeat.n_held = other ? 2 : 1;
  heartbeat.held = list;
  reports.heartbeat = &heartbeat;
  harness_report(harness, session, &reports);
}

static void test_a_prefetched_job_counts_from_its_start(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, 40 * MINUTE_MS);
  start(&harness, &session, 1, first);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, first);
  assert_runs(&harness, ahead);
  harness_succeed(&harness, &session, 2, first, 1);
  harness_pass(&harness, 30 * MINUTE_MS);
  start(&harness, &session, 3, ahead);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_timed_out(&harness, ahead);
  harness_close(&harness);
}

/* A worker need not report the start. */
static void test_it_counts_from_the_free_slot_at_the_latest(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, 50 * MINUTE_MS);
  harness_succeed(&harness, &session, 1, first, 1);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_timed_out(&harness, ahead);
  harness_close(&harness);
}

/* The slot of one that timed out is used until the worker confirms. */
static void test_a_revoked_job_keeps_its_slot(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, HOUR_MS);
  assert_timed_out(&harness, first);
  assert_runs(&harness, ahead);
  hold(&harness, &session, ahead, NULL, 2);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_timed_out(&harness, ahead);
  harness_close(&harness);
}

/* The handler of the first does not stop: what waits behind it has begun nowhere, and goes elsewhere. */
static void test_what_is_behind_a_hung_handler_is_released(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, HOUR_MS);
  assert_timed_out(&harness, first);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_state(&harness, ahead, MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING);
  harness_add_worker_for(&harness, "default", "t", 1, 0);
  harness_settle(&harness);
  assert_runs(&harness, ahead);
  harness_close(&harness);
}

/* The handler of the first has stopped when told: the others wait for the second as they waited for the first. */
static void test_what_is_behind_a_handler_that_stopped_stays(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  create(&harness, hasty, MINUTE_MS);
  harness_pass(&harness, HOUR_MS);
  assert_timed_out(&harness, first);
  hold(&harness, &session, ahead, hasty, 3);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  assert_runs(&harness, hasty);
  harness_close(&harness);
}

/* When one that was prefetched began is not known any more: it has its whole time again. */
static void test_after_a_restart_a_prefetched_job_has_its_time(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, 50 * MINUTE_MS);
  harness_succeed(&harness, &session, 1, first, 1);
  start(&harness, &session, 2, ahead);
  harness_restart(&harness);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_timed_out(&harness, ahead);
  harness_close(&harness);
}

/* Nor is it known which handlers the worker was told to stop, until it says what it holds. */
static void test_after_a_restart_what_is_behind_a_hung_handler_is_released(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_prefetched_job(&harness, &session);
  harness_pass(&harness, HOUR_MS);
  assert_timed_out(&harness, first);
  harness_restart(&harness);
  engine_session_connected(harness.engine, &session, 1, "nng");
  hold(&harness, &session, first, ahead, 2);
  harness_pass(&harness, 50 * MINUTE_MS);
  assert_runs(&harness, ahead);
  harness_pass(&harness, 10 * MINUTE_MS);
  assert_state(&harness, ahead, MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING);
  harness_close(&harness);
}

/* Timers of the past have been handled: an expiry of 1970 would have all of them looked at once more. */
static void test_an_expiry_in_the_past_is_now(void **state) {
  (void)state;
  struct harness harness;
  harness_open_stepped(&harness);
  Google__Protobuf__Timestamp past = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  past.seconds = 1;
  spec.id = first;
  spec.task = "t";
  spec.expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT;
  spec.expires_at = &past;
  message.job = &spec;
  const Millrace__V1__CreateJobResponse *response = harness_call(&harness, "JobService/CreateJob", &message.base);
  assert_non_null(response);
  assert_int_equal(response->job->expires_at->seconds, harness.now_ms / SECOND_MS);
  harness_settle(&harness);
  assert_state(&harness, first, MILLRACE__V1__JOB_STATE__JOB_STATE_EXPIRED);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_prefetched_job_counts_from_its_start),
      cmocka_unit_test(test_it_counts_from_the_free_slot_at_the_latest),
      cmocka_unit_test(test_a_revoked_job_keeps_its_slot),
      cmocka_unit_test(test_what_is_behind_a_hung_handler_is_released),
      cmocka_unit_test(test_what_is_behind_a_handler_that_stopped_stays),
      cmocka_unit_test(test_after_a_restart_a_prefetched_job_has_its_time),
      cmocka_unit_test(test_after_a_restart_what_is_behind_a_hung_handler_is_released),
      cmocka_unit_test(test_an_expiry_in_the_past_is_now),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
