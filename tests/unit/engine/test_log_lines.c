/* SPDX-License-Identifier: Apache-2.0 */
/* The job log keeps the last 64 KiB, however they come. */
#include "harness.h"

#include "millrace/v1/job_service.pb-c.h"
#include "store/keys.h"

enum { MESSAGE_REPORTS = 50, SMALL_REPORTS = 3000, LONG_LINES = 20, ROWS_MAX = 100000 };

static char *const job = "00000000-0000-4000-8000-00000000000a";

static void open_with_a_running_job(struct harness *harness, struct id *out_session) {
  harness_open_stepped(harness);
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  spec.id = job;
  spec.task = "t";
  message.job = &spec;
  assert_non_null(harness_call(harness, "JobService/CreateJob", &message.base));
  *out_session = harness_add_worker(harness, "default", 1);
}

/* `reports` reports of `count` lines each in one message, and perhaps the end of the job. */
static void send_lines(struct harness *harness, const struct id *session, uint64_t report_seq, char *text, size_t count,
                       size_t report_count, bool succeeds) {
  Millrace__V1__LogLine line = MILLRACE__V1__LOG_LINE__INIT;
  Millrace__V1__LogLine **lines = g_new(Millrace__V1__LogLine *, count);
  Millrace__V1__LogLines log = MILLRACE__V1__LOG_LINES__INIT;
  Millrace__V1__Succeeded succeeded = MILLRACE__V1__SUCCEEDED__INIT;
  Millrace__V1__Report logs = MILLRACE__V1__REPORT__INIT, end = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Report **list = g_new(Millrace__V1__Report *, report_count + 1);
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  line.text = text;
  for (size_t i = 0; i < count; i++)
    lines[i] = &line;
  log.n_lines = count;
  log.lines = lines;
  logs.job_id = end.job_id = job;
  logs.delivery = end.delivery = 1;
  logs.event_case = MILLRACE__V1__REPORT__EVENT_LOG;
  logs.log = &log;
  end.event_case = MILLRACE__V1__REPORT__EVENT_SUCCEEDED;
  end.succeeded = &succeeded;
  for (size_t i = 0; i < report_count; i++)
    list[i] = &logs;
  list[report_count] = &end;
  reports.report_seq = report_seq;
  reports.n_reports = report_count + succeeds;
  reports.reports = list;
  harness_report(harness, session, &reports);
  g_free(list);
  g_free(lines);
}

struct stored {
  size_t rows;
  size_t bytes; /* keys and values */
};

static struct stored stored_log(struct harness *harness) {
  struct stored stored = {0};
  const struct store_range range = {.family = FAMILY_LOGS, .limit = ROWS_MAX};
  struct store_rows rows;
  assert_int_equal(store_scan(harness->store, NULL, &range, &rows, &harness->error), STATUS_OK);
  stored.rows = rows.count;
  for (size_t i = 0; i < rows.count; i++)
    stored.bytes += rows.rows[i].key.length + rows.rows[i].value.length;
  store_rows_release(&rows);
  return stored;
}

static const Millrace__V1__GetJobResponse *get(struct harness *harness) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = job;
  message.with_log = true;
  const Millrace__V1__GetJobResponse *response = harness_call(harness, "JobService/GetJob", &message.base);
  assert_non_null(response);
  return response;
}

static void test_many_reports_of_one_message(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_running_job(&harness, &session);
  char *text = g_strnfill(3000, 'x');
  send_lines(&harness, &session, 1, text, LONG_LINES, MESSAGE_REPORTS, false);
  assert_in_range(stored_log(&harness).bytes, LOG_BYTES_MAX / 2, LOG_BYTES_MAX);
  send_lines(&harness, &session, 2, text, LONG_LINES, 1, false);
  send_lines(&harness, &session, 3, "the last one", 1, 1, true);
  assert_in_range(stored_log(&harness).bytes, LOG_BYTES_MAX / 2, LOG_BYTES_MAX);
  const Millrace__V1__GetJobResponse *response = get(&harness);
  assert_int_equal(response->job->state, MILLRACE__V1__JOB_STATE__JOB_STATE_SUCCEEDED);
  assert_string_equal(response->log[response->n_log - 1]->text, "the last one");
  harness_check_store(&harness);
  g_free(text);
  harness_close(&harness);
}

/* What a row takes beside its text counts. */
static void test_many_small_reports(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_running_job(&harness, &session);
  for (int i = 1; i <= SMALL_REPORTS; i++)
    send_lines(&harness, &session, (uint64_t)i, i % 10 ? "x" : "y", 1, 1, false);
  assert_in_range(stored_log(&harness).rows, LOG_BYTES_MAX / 256, LOG_BYTES_MAX / 64);
  harness_restart(&harness);
  assert_in_range(get(&harness)->n_log, LOG_BYTES_MAX / 256, LOG_BYTES_MAX / 64);
  harness_check_store(&harness);
  harness_close(&harness);
}

/* A worker's last lines, its success and a delete that meet in one turn leave nothing behind. */
static void test_lines_of_a_job_deleted_in_their_turn(void **state) {
  (void)state;
  struct harness harness;
  struct id session;
  open_with_a_running_job(&harness, &session);
  send_lines(&harness, &session, 1, "early", 1, 1, false);
  harness_pass(&harness, TOMBSTONE_MS + 1);
  Millrace__V1__DeleteJobRequest message = MILLRACE__V1__DELETE_JOB_REQUEST__INIT;
  message.id = job;
  harness.is_stepped = false; /* the reports wait for the turn of the call */
  send_lines(&harness, &session, 2, "late", 1, 1, true);
  harness.is_stepped = true;
  assert_non_null(harness_call(&harness, "JobService/DeleteJob", &message.base));
  assert_int_equal(stored_log(&harness).rows, 0);
  harness_check_store(&harness);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_many_reports_of_one_message),
      cmocka_unit_test(test_many_small_reports),
      cmocka_unit_test(test_lines_of_a_job_deleted_in_their_turn),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
