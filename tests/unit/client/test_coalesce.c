/* SPDX-License-Identifier: Apache-2.0 */
/* Single creates that share calls. */
#include <glib.h>

#include "fake_server.h"
#include "millrace.h"
#include "sync.h"
#include "testing.h"

/* In place of GLib's, so that a thread can seem to have been kept from running between two looks at the clock. */
static int64_t clock_leap_us;
static int64_t clock_ahead_us;

gint64 g_get_monotonic_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t leap_us = __atomic_load_n(&clock_leap_us, __ATOMIC_RELAXED);
  return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 +
         __atomic_fetch_add(&clock_ahead_us, leap_us, __ATOMIC_RELAXED);
}

enum { TIMEOUT_MS = 60000, SHORT_MS = 2000, MIB = 1024 * 1024 };

/* What a callback was told. */
struct told {
  struct fixture *fixture;
  char id[MILLRACE_ID_BYTES];
  unsigned times;
  enum millrace_code code;
  char field[32];
  char answered_id[MILLRACE_ID_BYTES];
  char message[128];
  bool knows_task;
  bool creates_another;
};

struct fixture {
  struct fake_server *server;
  struct millrace_client *client;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned under_way;
  GPtrArray *told;
};

static void open_client(struct fixture *fixture, int64_t timeout_ms, bool without_coalescing) {
  struct millrace_error error;
  const struct millrace_client_options options = {
      .address = fake_server_address(fixture->server), .timeout_ms = timeout_ms, .without_coalescing = without_coalescing};
  millrace_client_free(fixture->client);
  assert_int_equal(millrace_client_new(&options, &fixture->client, &error), MILLRACE_OK);
}

static int set_up(void **state) {
  struct fixture *fixture = g_new0(struct fixture, 1);
  pthread_mutex_init(&fixture->lock, NULL);
  pthread_cond_init(&fixture->changed, NULL);
  fixture->told = g_ptr_array_new_with_free_func(g_free);
  fixture->server = fake_server_open();
  open_client(fixture, TIMEOUT_MS, false);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  fake_server_hold_creates(fixture->server, false);
  millrace_client_free(fixture->client);
  fake_server_close(fixture->server);
  g_ptr_array_unref(fixture->told);
  pthread_mutex_destroy(&fixture->lock);
  pthread_cond_destroy(&fixture->changed);
  g_free(fixture);
  return 0;
}

static void create(struct fixture *fixture, const char *payload, bool creates_another);

static void created(void *context, const struct millrace_job *job, const struct millrace_error *error) {
  struct told *told = context;
  struct fixture *fixture = told->fixture;
  bool creates_another = told->creates_another;
  if (creates_another)
    create(fixture, NULL, false);
  pthread_mutex_lock(&fixture->lock);
  told->times++;
  if (error) {
    told->code = error->code;
    g_strlcpy(told->field, error->field, sizeof told->field);
    g_strlcpy(told->message, error->message, sizeof told->message);
  } else {
    g_strlcpy(told->answered_id, job->id, sizeof told->answered_id);
    told->knows_task = *job->task != '\0';
  }
  if (--fixture->under_way == 0)
    pthread_cond_signal(&fixture->changed);
  pthread_mutex_unlock(&fixture->lock);
}

static void create_task(struct fixture *fixture, const char *task, const char *payload, bool creates_another) {
  struct told *told = g_new0(struct told, 1);
  told->fixture = fixture;
  told->creates_another = creates_another;
  millrace_id_make(told->id);
  pthread_mutex_lock(&fixture->lock);
  fixture->under_way++;
  g_ptr_array_add(fixture->told, told);
  pthread_mutex_unlock(&fixture->lock);
  struct millrace_job_spec spec = {.id = told->id, .task = task};
  if (payload)
    spec.payload = millrace_json(payload);
  millrace_job_create_async(fixture->client, &spec, created, told);
}

static void create(struct fixture *fixture, const char *payload, bool creates_another) {
  create_task(fixture, "good", payload, creates_another);
}

/* One that the server has and does not answer, and so many that wait behind it. */
static void create_behind_one(struct fixture *fixture, unsigned count, const char *payload) {
  fake_server_hold_creates(fixture->server, true);
  create(fixture, payload, false);
  fake_server_wait_for_creates(fixture->server, 1);
  for (unsigned i = 0; i < count; i++)
    create(fixture, payload, false);
}

/* Waits for all callbacks; each has been called once. */
static void wait_for_all(struct fixture *fixture, unsigned count) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)TIMEOUT_MS * 1000;
  pthread_mutex_lock(&fixture->lock);
  while (fixture->under_way > 0 && sync_wait_until(&fixture->changed, &fixture->lock, end_us))
    ;
  assert_int_equal(fixture->under_way, 0);
  pthread_mutex_unlock(&fixture->lock);
  assert_int_equal(fixture->told->len, count);
  for (unsigned i = 0; i < count; i++)
    assert_int_equal(((struct told *)fixture->told->pdata[i])->times, 1);
}

static void assert_all_end_with(struct fixture *fixture, enum millrace_code code) {
  for (unsigned i = 0; i < fixture->told->len; i++) {
    const struct told *told = fixture->told->pdata[i];
    assert_int_equal(told->code, code);
    assert_string_equal(told->answered_id, code == MILLRACE_OK ? told->id : "");
  }
}

static void assert_sizes(struct fixture *fixture, const unsigned *sizes, size_t count) {
  unsigned seen[8];
  assert_int_equal(fake_server_creates(fixture->server, seen, G_N_ELEMENTS(seen)), count);
  for (size_t i = 0; i < count; i++)
    assert_int_equal(seen[i], sizes[i]);
}

/* Of so many that wait behind one; all are created. */
static void assert_calls(struct fixture *fixture, unsigned waiting, const char *payload, const unsigned *sizes, size_t count) {
  create_behind_one(fixture, waiting, payload);
  fake_server_hold_creates(fixture->server, false);
  wait_for_all(fixture, waiting + 1);
  assert_all_end_with(fixture, MILLRACE_OK);
  assert_sizes(fixture, sizes, count);
}

static void what_waits_goes_out_together(void **state) {
  assert_calls(*state, 63, NULL, (unsigned[]){1, 63}, 2);
}

static void a_call_has_at_most_1000_jobs(void **state) {
  assert_calls(*state, 2500, NULL, (unsigned[]){1, 1000, 1000, 500}, 4);
}

static void a_call_has_at_most_3_mib(void **state) {
  g_autofree char *filler = g_strnfill(MIB, 'x');
  g_autofree char *payload = g_strdup_printf("\"%s\"", filler);
  assert_calls(*state, 5, payload, (unsigned[]){1, 2, 2, 1}, 4);
}

static void a_bad_job_fails_alone(void **state) {
  struct fixture *fixture = *state;
  create_behind_one(fixture, 40, NULL);
  create_task(fixture, "bad", NULL, false);
  for (unsigned i = 0; i < 20; i++)
    create(fixture, NULL, false);
  fake_server_hold_creates(fixture->server, false);
  wait_for_all(fixture, 62);
  g_autofree struct told *bad = g_ptr_array_steal_index(fixture->told, 41);
  assert_int_equal(bad->code, MILLRACE_INVALID_ARGUMENT);
  assert_string_equal(bad->field, "job.task"); /* as in a call of its own */
  assert_all_end_with(fixture, MILLRACE_OK);
  assert_sizes(fixture, (unsigned[]){1, 61}, 2);
}

static void a_call_that_fails_fails_all_that_it_carried(void **state) {
  struct fixture *fixture = *state;
  create_behind_one(fixture, 63, NULL);
  fake_server_refuse(fixture->server, MILLRACE_INTERNAL, 2);
  fake_server_hold_creates(fixture->server, false);
  wait_for_all(fixture, 64);
  assert_all_end_with(fixture, MILLRACE_INTERNAL);
}

static void an_answer_for_none_of_the_jobs_fails_all(void **state) {
  struct fixture *fixture = *state;
  create_task(fixture, "forgotten", NULL, false);
  wait_for_all(fixture, 1);
  assert_all_end_with(fixture, MILLRACE_INTERNAL);
}

static void an_answer_about_more_or_fewer_jobs_fails_all(struct fixture *fixture, const char *last) {
  fake_server_hold_creates(fixture->server, true);
  create_task(fixture, "forgotten", NULL, false);
  fake_server_wait_for_creates(fixture->server, 1);
  create(fixture, NULL, false);
  create(fixture, NULL, false);
  create_task(fixture, last, NULL, false);
  fake_server_hold_creates(fixture->server, false);
  wait_for_all(fixture, 4);
  assert_all_end_with(fixture, MILLRACE_INTERNAL);
  assert_sizes(fixture, (unsigned[]){1, 3}, 2);
}

static void an_answer_for_most_of_the_jobs_fails_all(void **state) {
  an_answer_about_more_or_fewer_jobs_fails_all(*state, "forgotten");
}

static void an_answer_for_too_many_jobs_fails_all(void **state) {
  an_answer_about_more_or_fewer_jobs_fails_all(*state, "doubled");
}

static void a_lost_server_is_tried_again(void **state) {
  struct fixture *fixture = *state;
  create_behind_one(fixture, 63, NULL);
  fake_server_refuse(fixture->server, MILLRACE_UNAVAILABLE, 2);
  fake_server_hold_creates(fixture->server, false);
  wait_for_all(fixture, 64);
  assert_all_end_with(fixture, MILLRACE_OK);
  assert_sizes(fixture, (unsigned[]){1, 1, 1, 63}, 4);
}

static void what_has_waited_too_long_is_not_sent(void **state) {
  struct fixture *fixture = *state;
  open_client(fixture, SHORT_MS, false);
  create_behind_one(fixture, 2500, NULL);
  wait_for_all(fixture, 2501);
  assert_all_end_with(fixture, MILLRACE_DEADLINE_EXCEEDED);
  /* Those that were asked for a moment after the first may go out with the next call, 1,000 at most. */
  unsigned not_sent = 0;
  for (unsigned i = 0; i < fixture->told->len; i++)
    not_sent += strstr(((struct told *)fixture->told->pdata[i])->message, "was not sent") != NULL;
  assert_in_range(not_sent, 1500, 2500);
}

/* It has waited for no call, so it is not late; nor would its creator be called back amid its own call. */
static void what_waits_for_no_call_is_sent(void **state) {
  struct fixture *fixture = *state;
  __atomic_store_n(&clock_leap_us, (int64_t)2 * TIMEOUT_MS * 1000, __ATOMIC_RELAXED);
  create(fixture, NULL, false);
  __atomic_store_n(&clock_leap_us, 0, __ATOMIC_RELAXED);
  wait_for_all(fixture, 1);
  assert_all_end_with(fixture, MILLRACE_OK);
}

static void a_client_is_freed_with_creates_that_wait(void **state) {
  struct fixture *fixture = *state;
  create_behind_one(fixture, 1500, NULL);
  for (unsigned i = 0; i < 20; i++)
    create(fixture, NULL, true);
  millrace_client_free(fixture->client);
  fixture->client = NULL;
  wait_for_all(fixture, 1541);
  assert_all_end_with(fixture, MILLRACE_CANCELLED);
}

static void turned_off_each_create_is_a_call(void **state) {
  struct fixture *fixture = *state;
  open_client(fixture, TIMEOUT_MS, true);
  for (unsigned i = 0; i < 64; i++)
    create(fixture, NULL, false);
  wait_for_all(fixture, 64);
  assert_all_end_with(fixture, MILLRACE_OK);
  assert_int_equal(fake_server_create_job_calls(fixture->server), 64);
  assert_sizes(fixture, NULL, 0);
  assert_true(((struct told *)fixture->told->pdata[0])->knows_task);
}

static void *create_some(void *data) {
  for (unsigned i = 0; i < 200; i++)
    create(data, NULL, i % 2 == 0);
  return NULL;
}

static void threads_and_callbacks_create_at_once(void **state) {
  struct fixture *fixture = *state;
  GThread *threads[8];
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("creates", create_some, fixture);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    g_thread_join(threads[i]);
  wait_for_all(fixture, 8 * 300);
  assert_all_end_with(fixture, MILLRACE_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_waits_goes_out_together, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_call_has_at_most_1000_jobs, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_call_has_at_most_3_mib, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_bad_job_fails_alone, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_call_that_fails_fails_all_that_it_carried, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_for_none_of_the_jobs_fails_all, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_for_most_of_the_jobs_fails_all, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_answer_for_too_many_jobs_fails_all, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_lost_server_is_tried_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_has_waited_too_long_is_not_sent, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_waits_for_no_call_is_sent, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_client_is_freed_with_creates_that_wait, set_up, tear_down),
      cmocka_unit_test_setup_teardown(turned_off_each_create_is_a_call, set_up, tear_down),
      cmocka_unit_test_setup_teardown(threads_and_callbacks_create_at_once, set_up, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
