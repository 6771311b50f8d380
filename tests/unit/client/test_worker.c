/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the protocol, with the server's side in the test's hands. */
#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fake_server.h"
#include "millrace.h"
#include "sync.h"
#include "testing.h"

struct fixture {
  struct fake_server *server;
  struct millrace_client *client;
  struct millrace_worker *worker;
  GThread *thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned runs;
  enum millrace_stop stopped_by;
  bool may_return;
  bool has_ended;
};

static void count_run(struct fixture *fixture) {
  pthread_mutex_lock(&fixture->lock);
  fixture->runs++;
  pthread_cond_broadcast(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
}

static void quick(struct millrace_context *context, void *user) {
  const struct millrace_payload result = millrace_json("{\"ok\":true}");
  count_run(user);
  millrace_succeed(context, &result);
}

/* Until it is asked to stop, or allowed to return. */
static void patient(struct millrace_context *context, void *user) {
  struct fixture *fixture = user;
  count_run(fixture);
  pthread_mutex_lock(&fixture->lock);
  while (!fixture->may_return && millrace_context_cancelled(context) == MILLRACE_STOP_NONE)
    sync_wait_until(&fixture->changed, &fixture->lock, g_get_monotonic_time() + 5000);
  fixture->stopped_by = millrace_context_cancelled(context);
  pthread_cond_broadcast(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
}

static void fails(struct millrace_context *context, void *user) {
  count_run(user);
  millrace_log(context, "on its way \xff");
  millrace_fail(context, &(struct millrace_failure){.type = "Broken", .message = "no", .permanent = true});
}

static void wait_for_runs(struct fixture *fixture, unsigned runs) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)FAKE_WAIT_MS * 1000;
  pthread_mutex_lock(&fixture->lock);
  while (fixture->runs < runs && sync_wait_until(&fixture->changed, &fixture->lock, end_us))
    ;
  assert_int_equal(fixture->runs, runs);
  pthread_mutex_unlock(&fixture->lock);
}

/* The handler may still be about to return when the worker has told what became of its job. */
static void assert_stopped_by(struct fixture *fixture, enum millrace_stop stop) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)FAKE_WAIT_MS * 1000;
  pthread_mutex_lock(&fixture->lock);
  while (fixture->stopped_by == MILLRACE_STOP_NONE && sync_wait_until(&fixture->changed, &fixture->lock, end_us))
    ;
  assert_int_equal(fixture->stopped_by, stop);
  pthread_mutex_unlock(&fixture->lock);
}

static void *run(void *data) {
  struct fixture *fixture = data;
  struct millrace_error error;
  enum millrace_code code = millrace_worker_run(fixture->worker, &error);
  pthread_mutex_lock(&fixture->lock);
  fixture->has_ended = true;
  pthread_cond_broadcast(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
  return GINT_TO_POINTER(code);
}

/* A worker that stops waits until its last reports are accepted. */
static void accept_until_it_ends(struct fixture *fixture) {
  pthread_mutex_lock(&fixture->lock);
  while (!fixture->has_ended) {
    fake_server_accept_all(fixture->server);
    sync_wait_until(&fixture->changed, &fixture->lock, g_get_monotonic_time() + 20000);
  }
  pthread_mutex_unlock(&fixture->lock);
}

static int set_up(void **state) {
  struct fixture *fixture = g_new0(struct fixture, 1);
  struct millrace_error error;
  pthread_mutex_init(&fixture->lock, NULL);
  pthread_cond_init(&fixture->changed, NULL);
  fixture->server = fake_server_open();
  const struct millrace_client_options options = {.address = fake_server_address(fixture->server)};
  const struct millrace_worker_options worker_options = {
      .concurrency = 50, .transport = MILLRACE_TRANSPORT_NNG, .stop_grace_ms = 300};
  assert_int_equal(millrace_client_new(&options, &fixture->client, &error), MILLRACE_OK);
  assert_int_equal(millrace_worker_new(fixture->client, &worker_options, &fixture->worker, &error), MILLRACE_OK);
  millrace_worker_handle(fixture->worker, "quick", NULL, quick, fixture);
  millrace_worker_handle(fixture->worker, "patient", NULL, patient, fixture);
  millrace_worker_handle(fixture->worker, "fails", NULL, fails, fixture);
  fixture->thread = g_thread_new("worker", run, fixture);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  pthread_mutex_lock(&fixture->lock);
  fixture->may_return = true;
  pthread_cond_broadcast(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
  millrace_worker_stop(fixture->worker);
  millrace_worker_stop(fixture->worker);
  accept_until_it_ends(fixture);
  if (fixture->thread)
    assert_int_equal(GPOINTER_TO_INT(g_thread_join(fixture->thread)), MILLRACE_OK);
  millrace_worker_free(fixture->worker);
  millrace_client_free(fixture->client);
  fake_server_close(fixture->server);
  pthread_mutex_destroy(&fixture->lock);
  pthread_cond_destroy(&fixture->changed);
  g_free(fixture);
  return 0;
}

/* What the next message says, in short: "1: 1 succeeded, 2 succeeded". */
static char *next_reports(struct fixture *fixture) {
  static const char *const events[] = {
      [4] = "started", [5] = "succeeded", [6] = "failed", [7] = "snoozed", [8] = "released", [9] = "progress", [10] = "log"};
  Millrace__V1__Reports *reports = fake_server_next(fixture->server, false);
  GString *text = g_string_new(NULL);
  g_string_append_printf(text, "%u:", (unsigned)reports->report_seq);
  for (size_t i = 0; i < reports->n_reports; i++)
    g_string_append_printf(text, "%s %u %s", i ? "," : "", reports->reports[i]->delivery,
                           events[reports->reports[i]->event_case]);
  millrace__v1__reports__free_unpacked(reports, NULL);
  return g_string_free(text, FALSE);
}

static void assert_reports(struct fixture *fixture, const char *wanted) {
  char *text = next_reports(fixture);
  assert_string_equal(text, wanted);
  g_free(text);
}

static void assert_heartbeat(struct fixture *fixture, uint64_t received_up_to, size_t held) {
  Millrace__V1__Reports *reports = fake_server_next(fixture->server, true);
  assert_int_equal(reports->heartbeat->received_up_to, received_up_to);
  assert_int_equal(reports->heartbeat->n_held, held);
  millrace__v1__reports__free_unpacked(reports, NULL);
}

static void first_comes_a_heartbeat_then_reports(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "quick");
  assert_reports(fixture, "1: 1 succeeded");
  fake_server_deliver(fixture->server, 2, 2, 1, "quick");
  assert_reports(fixture, "2: 2 succeeded");
}

static void quick_jobs_of_a_message_are_reported_together(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 50, "quick");
  unsigned messages = 0;
  for (size_t reported = 0; reported < 50; messages++) {
    Millrace__V1__Reports *reports = fake_server_next(fixture->server, false);
    reported += reports->n_reports;
    millrace__v1__reports__free_unpacked(reports, NULL);
  }
  assert_true(messages < 25);
}

static void a_repeat_is_dropped(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "quick");
  assert_reports(fixture, "1: 1 succeeded");
  fake_server_deliver(fixture->server, 1, 1, 1, "quick");
  fake_server_deliver(fixture->server, 2, 2, 1, "quick");
  assert_reports(fixture, "2: 2 succeeded");
  wait_for_runs(fixture, 2);
}

/* Its jobs were taken back before it was sent again. */
static void a_message_without_deliveries_counts(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 0, "quick");
  fake_server_deliver(fixture->server, 2, 1, 1, "quick");
  assert_reports(fixture, "1: 1 succeeded");
}

static void a_gap_makes_it_join_again(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 3, 1, 1, "quick");
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "quick");
  assert_reports(fixture, "1: 1 succeeded");
}

static void unaccepted_reports_come_again_after_a_cut(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "quick");
  assert_reports(fixture, "1: 1 succeeded");
  fake_server_deliver(fixture->server, 2, 2, 1, "quick");
  assert_reports(fixture, "2: 2 succeeded");
  fake_server_accept(fixture->server, 1);
  fake_server_deliver(fixture->server, 3, 3, 1, "quick");
  assert_reports(fixture, "3: 3 succeeded");
  fake_server_cut(fixture->server);
  /* The heartbeat tells that the reports 2 and 3 are still held. */
  assert_heartbeat(fixture, 3, 2);
  assert_reports(fixture, "2: 2 succeeded");
  assert_reports(fixture, "3: 3 succeeded");
  wait_for_runs(fixture, 3);
}

static void a_job_runs_through_a_cut(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_cut(fixture->server);
  assert_heartbeat(fixture, 1, 1);
  assert_reports(fixture, "1: 1 started");
  pthread_mutex_lock(&fixture->lock);
  fixture->may_return = true;
  pthread_cond_broadcast(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
  assert_reports(fixture, "2: 1 succeeded");
  wait_for_runs(fixture, 1);
}

/* received_up_to of the next heartbeat; reports are passed over. */
static uint64_t next_heartbeat(struct fixture *fixture) {
  for (;;) {
    Millrace__V1__Reports *reports = fake_server_any(fixture->server);
    bool is_heartbeat = reports->heartbeat != NULL;
    uint64_t received_up_to = is_heartbeat ? reports->heartbeat->received_up_to : 0;
    millrace__v1__reports__free_unpacked(reports, NULL);
    if (is_heartbeat)
      return received_up_to;
  }
}

static void cut_twice_it_registers_and_a_lost_session_stops_its_handlers(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_cut(fixture->server);
  assert_heartbeat(fixture, 1, 1);
  fake_server_forget_sessions(fixture->server);
  fake_server_cut(fixture->server);
  /* The new session starts from nothing; numbers begin anew. What was sent before the cut may still come. */
  uint64_t received_up_to = 1;
  while (received_up_to > 0)
    received_up_to = next_heartbeat(fixture);
  assert_int_equal(fake_server_registers(fixture->server), 3);
  fake_server_deliver(fixture->server, 1, 2, 1, "quick");
  assert_reports(fixture, "1: 2 succeeded");
  assert_stopped_by(fixture, MILLRACE_STOP_LOST);
}

static void a_cancelled_handler_confirms(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_command(fixture->server, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL, 1);
  Millrace__V1__Reports *reports = fake_server_next(fixture->server, false);
  assert_int_equal(reports->reports[0]->event_case, MILLRACE__V1__REPORT__EVENT_FAILED);
  assert_true(reports->reports[0]->failed->cancelled);
  millrace__v1__reports__free_unpacked(reports, NULL);
  assert_stopped_by(fixture, MILLRACE_STOP_CANCEL);
}

static void a_lost_delivery_is_stopped_and_reports_nothing(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_command(fixture->server, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST, 1);
  size_t held = 1;
  while (held > 0) {
    Millrace__V1__Reports *reports = fake_server_next(fixture->server, true);
    held = reports->heartbeat->n_held;
    millrace__v1__reports__free_unpacked(reports, NULL);
  }
  assert_stopped_by(fixture, MILLRACE_STOP_LOST);
  assert_true(fake_server_is_quiet(fixture->server, 500));
}

static void an_unknown_task_is_released(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "other");
  Millrace__V1__Reports *reports = fake_server_next(fixture->server, false);
  assert_int_equal(reports->reports[0]->event_case, MILLRACE__V1__REPORT__EVENT_RELEASED);
  assert_int_equal(reports->reports[0]->released->reason, MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_UNKNOWN_TASK);
  millrace__v1__reports__free_unpacked(reports, NULL);
}

static void what_a_handler_says_is_told(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "fails");
  Millrace__V1__Reports *reports = fake_server_next(fixture->server, false);
  assert_string_equal(reports->reports[0]->log->lines[0]->text, "on its way \xef\xbf\xbd");
  if (reports->n_reports == 1) {
    millrace__v1__reports__free_unpacked(reports, NULL);
    reports = fake_server_next(fixture->server, false);
  }
  const Millrace__V1__Report *last = reports->reports[reports->n_reports - 1];
  assert_int_equal(last->event_case, MILLRACE__V1__REPORT__EVENT_FAILED);
  assert_string_equal(last->failed->error->type, "Broken");
  assert_true(last->failed->permanent);
  millrace__v1__reports__free_unpacked(reports, NULL);
}

static void slow_jobs_run_side_by_side(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 50, "patient");
  wait_for_runs(fixture, 50);
}

static void a_stop_gives_back_what_does_not_end(void **state) {
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_accept(fixture->server, 1);
  millrace_worker_stop(fixture->worker);
  assert_reports(fixture, "2: 1 released");
  assert_stopped_by(fixture, MILLRACE_STOP_SHUTDOWN);
  fake_server_accept(fixture->server, 2);
  assert_int_equal(GPOINTER_TO_INT(g_thread_join(fixture->thread)), MILLRACE_OK);
  fixture->thread = NULL;
  assert_true(fake_server_is_deregistered(fixture->server));
}

/* A worker port that refuses: neither running jobs nor unaccepted reports make a worker that stops try without a pause. */
static void a_stop_does_not_spin_when_the_worker_port_refuses(void **state) {
  enum { TRIES_MAX = 20 }; /* in some 5 s */
  struct fixture *fixture = *state;
  assert_heartbeat(fixture, 0, 0);
  fake_server_deliver(fixture->server, 1, 1, 1, "patient");
  assert_reports(fixture, "1: 1 started");
  fake_server_refuse_sessions(fixture->server);
  millrace_worker_stop(fixture->worker);
  assert_int_equal(GPOINTER_TO_INT(g_thread_join(fixture->thread)), MILLRACE_OK);
  fixture->thread = NULL;
  assert_stopped_by(fixture, MILLRACE_STOP_SHUTDOWN);
  assert_in_range(fake_server_registers(fixture->server), 1, TRIES_MAX);
}

/* ---- handlers that do not obey: in a process of their own, which ends with them ---- */

/* The handler that stops its worker returns within the grace. */
enum { TERMINATE_GRACE_MS = 300, STOP_GRACE_MS = 1000 };

static void stubborn(struct millrace_context *context, void *user) {
  (void)context;
  (void)user;
  g_usleep((gulong)FAKE_WAIT_MS * 2000);
}

static void stop(struct millrace_context *context, void *worker) {
  (void)context;
  millrace_worker_stop(worker);
}

/* Runs in that process. */
static int work_at(const char *address) {
  struct millrace_client *client;
  struct millrace_worker *worker;
  struct millrace_error error;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const struct millrace_client_options options = {.address = address};
  const struct millrace_worker_options worker_options = {
      .transport = MILLRACE_TRANSPORT_NNG, .stop_grace_ms = STOP_GRACE_MS, .terminate_grace_ms = TERMINATE_GRACE_MS};
  if (millrace_client_new(&options, &client, &error) != MILLRACE_OK ||
      millrace_worker_new(client, &worker_options, &worker, &error) != MILLRACE_OK)
    return 1;
  millrace_worker_handle(worker, "stubborn", NULL, stubborn, NULL);
  millrace_worker_handle(worker, "stop", NULL, stop, worker);
  (void)!millrace_worker_run(worker, &error);
  return 0;
}

static GPid start_worker(const struct fake_server *server) {
  GPid pid;
  char *argv[] = {(char *)"/proc/self/exe", (char *)fake_server_address(server), NULL};
  assert_true(g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL));
  return pid;
}

static void assert_exits_stuck(GPid pid) {
  int status;
  int64_t end_us = g_get_monotonic_time() + (int64_t)FAKE_WAIT_MS * 1000;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    assert_true(g_get_monotonic_time() < end_us);
    g_usleep(10000);
  }
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), MILLRACE_EXIT_STUCK);
}

/* Others are given back before that, but not a job that was cancelled. */
static void a_terminate_that_is_not_obeyed_ends_the_process(void **state) {
  (void)state;
  struct fixture fixture = {.server = fake_server_open()};
  GPid pid = start_worker(fixture.server);
  assert_heartbeat(&fixture, 0, 0);
  fake_server_deliver(fixture.server, 1, 1, 1, "stubborn");
  assert_reports(&fixture, "1: 1 started");
  fake_server_deliver(fixture.server, 2, 2, 1, "stubborn");
  assert_reports(&fixture, "2: 2 started");
  fake_server_deliver(fixture.server, 3, 3, 1, "stubborn");
  assert_reports(&fixture, "3: 3 started");
  fake_server_command(fixture.server, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL, 3);
  fake_server_command(fixture.server, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE, 1);
  assert_reports(&fixture, "4: 2 released");
  fake_server_accept(fixture.server, 4);
  assert_exits_stuck(pid);
  assert_true(fake_server_was_quieted(fixture.server));
  assert_true(fake_server_is_quiet(fixture.server, 500));
  assert_false(fake_server_is_deregistered(fixture.server));
  fake_server_close(fixture.server);
}

static void a_stop_never_gives_back_a_cancelled_job_that_still_runs(void **state) {
  (void)state;
  struct fixture fixture = {.server = fake_server_open()};
  GPid pid = start_worker(fixture.server);
  assert_heartbeat(&fixture, 0, 0);
  fake_server_deliver(fixture.server, 1, 1, 1, "stubborn");
  assert_reports(&fixture, "1: 1 started");
  fake_server_deliver(fixture.server, 2, 2, 1, "stubborn");
  assert_reports(&fixture, "2: 2 started");
  fake_server_command(fixture.server, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL, 1);
  fake_server_deliver(fixture.server, 3, 3, 1, "stop");
  assert_reports(&fixture, "3: 3 succeeded");
  assert_reports(&fixture, "4: 2 released");
  fake_server_accept(fixture.server, 4);
  assert_exits_stuck(pid);
  assert_true(fake_server_is_quiet(fixture.server, 500));
  assert_false(fake_server_is_deregistered(fixture.server));
  fake_server_close(fixture.server);
}

int main(int argc, char **argv) {
  if (argc > 1)
    return work_at(argv[1]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {TEST(first_comes_a_heartbeat_then_reports),
                                     TEST(quick_jobs_of_a_message_are_reported_together),
                                     TEST(a_repeat_is_dropped),
                                     TEST(a_message_without_deliveries_counts),
                                     TEST(a_gap_makes_it_join_again),
                                     TEST(unaccepted_reports_come_again_after_a_cut),
                                     TEST(a_job_runs_through_a_cut),
                                     TEST(cut_twice_it_registers_and_a_lost_session_stops_its_handlers),
                                     TEST(a_cancelled_handler_confirms),
                                     TEST(a_lost_delivery_is_stopped_and_reports_nothing),
                                     TEST(an_unknown_task_is_released),
                                     TEST(what_a_handler_says_is_told),
                                     TEST(slow_jobs_run_side_by_side),
                                     TEST(a_stop_gives_back_what_does_not_end),
                                     TEST(a_stop_does_not_spin_when_the_worker_port_refuses),
                                     cmocka_unit_test(a_terminate_that_is_not_obeyed_ends_the_process),
                                     cmocka_unit_test(a_stop_never_gives_back_a_cancelled_job_that_still_runs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
