/* SPDX-License-Identifier: Apache-2.0 */
/* Many jobs in one call: what each of them is told. */
#include <glib.h>

#include "fake_server.h"
#include "millrace.h"
#include "testing.h"

enum { SHORT_MS = 1000, LONG_MS = 20000 };

struct fixture {
  struct fake_server *server;
  struct millrace_client *client;
};

static int set_up(void **state) {
  struct fixture *fixture = g_new0(struct fixture, 1);
  struct millrace_error error;
  fixture->server = fake_server_open();
  const struct millrace_client_options options = {.address = fake_server_address(fixture->server)};
  assert_int_equal(millrace_client_new(&options, &fixture->client, &error), MILLRACE_OK);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  fake_server_hold_creates(fixture->server, false);
  millrace_client_free(fixture->client);
  fake_server_close(fixture->server);
  g_free(fixture);
  return 0;
}

/* The kinds of calls that carry many jobs. */
enum way { BY_CALL, BY_STREAM, BY_BATCH, BY_CHUNK, WAYS };

static enum millrace_code send_by_stream(struct fixture *fixture, const struct millrace_job_spec *specs, size_t count,
                                         struct millrace_outcomes **out_outcomes, struct millrace_error *error) {
  struct millrace_job_stream *stream;
  assert_int_equal(millrace_job_stream_open(fixture->client, &stream, error), MILLRACE_OK);
  assert_int_equal(millrace_job_stream_send(stream, specs, count, error), MILLRACE_OK);
  enum millrace_code code = millrace_job_stream_receive(stream, out_outcomes, error);
  millrace_job_stream_close(stream);
  return code;
}

/* *out_object owns *out_outcomes. */
static enum millrace_code send_by(struct fixture *fixture, enum way way, const struct millrace_job_spec *specs, size_t count,
                                  void **out_object, const struct millrace_outcomes **out_outcomes,
                                  struct millrace_error *error) {
  struct millrace_outcomes *outcomes = NULL;
  enum millrace_code code;
  if (way == BY_BATCH) {
    const struct millrace_batch_spec spec = {.items = specs, .item_count = count};
    struct millrace_batch *batch;
    code = millrace_batch_create(fixture->client, &spec, &batch, error);
    if (code == MILLRACE_OK) {
      *out_object = batch;
      *out_outcomes = &batch->outcomes;
    }
    return code;
  }
  code = way == BY_CALL     ? millrace_jobs_create(fixture->client, specs, count, &outcomes, error)
         : way == BY_STREAM ? send_by_stream(fixture, specs, count, &outcomes, error)
                            : millrace_batch_add(fixture->client, fake_job_id(1), 1, specs, count, true, &outcomes, error);
  *out_object = outcomes;
  *out_outcomes = outcomes;
  return code;
}

static void a_refused_job_is_told_apart(void **state) {
  struct fixture *fixture = *state;
  const struct millrace_job_spec specs[] = {{.task = "good"}, {.task = "bad"}, {.task = "good"}};
  for (enum way way = 0; way < WAYS; way++) {
    struct millrace_error error;
    const struct millrace_outcomes *outcomes;
    void *object;
    assert_int_equal(send_by(fixture, way, specs, 3, &object, &outcomes, &error), MILLRACE_OK);
    assert_int_equal(outcomes->count, 3);
    assert_int_equal(outcomes->refused, 1);
    assert_int_equal(outcomes->outcomes[0].code, MILLRACE_OK);
    assert_int_equal(outcomes->outcomes[1].code, MILLRACE_INVALID_ARGUMENT);
    assert_string_equal(outcomes->outcomes[1].field, way == BY_BATCH || way == BY_CHUNK ? "items[1].task" : "jobs[1].task");
    assert_int_equal(outcomes->outcomes[2].code, MILLRACE_OK);
    millrace_free(object);
  }
}

static void an_answer_about_more_or_fewer_jobs_fails_all(void **state) {
  struct fixture *fixture = *state;
  static const char *const last[] = {"forgotten", "doubled"};
  for (size_t i = 0; i < G_N_ELEMENTS(last); i++) {
    const struct millrace_job_spec specs[] = {{.task = "good"}, {.task = "good"}, {.task = last[i]}};
    for (enum way way = 0; way < WAYS; way++) {
      struct millrace_error error;
      const struct millrace_outcomes *outcomes;
      void *object;
      assert_int_equal(send_by(fixture, way, specs, 3, &object, &outcomes, &error), MILLRACE_INTERNAL);
      assert_non_null(strstr(error.message, i == 0 ? "2 outcomes for 3 jobs" : "4 outcomes for 3 jobs"));
    }
  }
}

/* gRPC sends again what a lost server has not answered; without ids the server would make new jobs of it. */
static void jobs_have_ids_before_they_are_sent(void **state) {
  struct fixture *fixture = *state;
  const struct millrace_job_spec specs[] = {{.task = "good"}, {.task = "good", .id = fake_job_id(7)}};
  for (enum way way = BY_CALL; way <= BY_STREAM; way++) {
    struct millrace_error error;
    const struct millrace_outcomes *outcomes;
    void *object;
    fake_server_refuse(fixture->server, MILLRACE_UNAVAILABLE, 1);
    assert_int_equal(send_by(fixture, way, specs, 2, &object, &outcomes, &error), MILLRACE_OK);
    assert_int_equal(strlen(outcomes->outcomes[0].id), MILLRACE_ID_BYTES - 1); /* the server answers with what it was sent */
    assert_string_equal(outcomes->outcomes[1].id, fake_job_id(7));
    millrace_free(object);
  }
  assert_int_equal(fake_server_creates(fixture->server, NULL, 0), 4);
}

static void a_stream_that_has_answered_all_does_not_wait(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  struct millrace_job_stream *stream;
  struct millrace_outcomes *outcomes;
  assert_int_equal(millrace_job_stream_open(fixture->client, &stream, &error), MILLRACE_OK);
  assert_int_equal(millrace_job_stream_receive(stream, &outcomes, &error), MILLRACE_FAILED_PRECONDITION);
  millrace_job_stream_close(stream);
}

static void added_items_have_the_time_of_the_client(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  struct millrace_outcomes *outcomes;
  struct millrace_client *hasty;
  const struct millrace_client_options options = {.address = fake_server_address(fixture->server), .timeout_ms = SHORT_MS};
  const struct millrace_job_spec item = {.task = "good"};
  assert_int_equal(millrace_client_new(&options, &hasty, &error), MILLRACE_OK);
  fake_server_hold_creates(fixture->server, true);
  int64_t began_us = g_get_monotonic_time();
  assert_int_equal(millrace_batch_add(hasty, fake_job_id(1), 1, &item, 1, true, &outcomes, &error), MILLRACE_DEADLINE_EXCEEDED);
  assert_true(g_get_monotonic_time() - began_us < (int64_t)LONG_MS * 1000);
  fake_server_hold_creates(fixture->server, false);
  millrace_client_free(hasty);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {TEST(a_refused_job_is_told_apart), TEST(an_answer_about_more_or_fewer_jobs_fails_all),
                                     TEST(jobs_have_ids_before_they_are_sent), TEST(a_stream_that_has_answered_all_does_not_wait),
                                     TEST(added_items_have_the_time_of_the_client)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
