/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and their errors. */
#include <glib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_server.h"
#include "millrace.h"
#include "testing.h"

struct fixture {
  struct fake_server *server;
  struct millrace_client *client;
};

static int set_up(void **state) {
  struct fixture *fixture = g_new0(struct fixture, 1);
  struct millrace_error error;
  fixture->server = fake_server_open();
  const struct millrace_client_options options = {.address = fake_server_address(fixture->server), .token = "secret"};
  assert_int_equal(millrace_client_new(&options, &fixture->client, &error), MILLRACE_OK);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  millrace_client_free(fixture->client);
  fake_server_close(fixture->server);
  g_free(fixture);
  return 0;
}

static void details_of_an_error_are_read(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  struct millrace_job *job;
  fake_server_refuse(fixture->server, MILLRACE_NOT_FOUND, 1);
  assert_int_equal(millrace_job_get(fixture->client, "x", false, &job, &error), MILLRACE_NOT_FOUND);
  assert_int_equal(error.code, MILLRACE_NOT_FOUND);
  assert_string_equal(error.message, "no such job");
  assert_string_equal(error.field, "id");
  assert_string_equal(error.reason, "JOB_DELETED");
  assert_string_equal(error.subject, "some-job");
}

static void only_a_lost_server_is_tried_again(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  struct millrace_job *job;
  fake_server_refuse(fixture->server, MILLRACE_UNAVAILABLE, 2);
  assert_int_equal(millrace_job_get(fixture->client, "x", false, &job, &error), MILLRACE_OK);
  assert_string_equal(job->id, "found");
  millrace_free(job);
  assert_int_equal(fake_server_get_jobs(fixture->server), 3);
  fake_server_refuse(fixture->server, MILLRACE_UNKNOWN, 1); /* gRPC's word for a connection that broke */
  assert_int_equal(millrace_job_get(fixture->client, "x", false, &job, &error), MILLRACE_OK);
  millrace_free(job);
  assert_int_equal(fake_server_get_jobs(fixture->server), 5);
  fake_server_refuse(fixture->server, MILLRACE_INTERNAL, 2);
  assert_int_equal(millrace_job_get(fixture->client, "x", false, &job, &error), MILLRACE_INTERNAL);
  assert_int_equal(fake_server_get_jobs(fixture->server), 6);
}

static void any_method_is_called_in_json(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  char *response;
  assert_int_equal(
      millrace_call_json(fixture->client, "JobService/GetJob", "{\"id\":\"x\",\"view\":\"basic\"}", 0, &response, &error),
      MILLRACE_OK);
  assert_non_null(strstr(response, "\"id\":\"found\""));
  millrace_free(response);
  assert_int_equal(millrace_call_json(fixture->client, "JobService/GetJob", "{\"ids\":\"x\"}", 0, &response, &error),
                   MILLRACE_INVALID_ARGUMENT);
  assert_string_equal(error.field, "ids");
  assert_int_equal(millrace_call_json(fixture->client, "JobService/WatchJobs", "{}", 0, &response, &error),
                   MILLRACE_UNIMPLEMENTED);
}

static void nobody_there_names_address_and_cure(void **state) {
  struct millrace_client *client;
  struct millrace_error error;
  struct millrace_job *job;
  const struct millrace_client_options options = {.address = "unix:/nonexistent/millrace.sock"};
  (void)state;
  assert_int_equal(millrace_client_new(&options, &client, &error), MILLRACE_OK);
  assert_int_equal(millrace_job_get(client, "x", false, &job, &error), MILLRACE_UNAVAILABLE);
  assert_string_equal(error.reason, "UNREACHABLE");
  assert_non_null(strstr(error.message, "unix:/nonexistent/millrace.sock"));
  assert_non_null(strstr(error.message, "MILLRACE_ADDRESS"));
  millrace_client_free(client);
}

static void bad_addresses_are_refused(void **state) {
  static const char *const addresses[] = {"localhost", "localhost:", ":7070", "localhost:70700", "unix:", "localhost:x"};
  (void)state;
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    struct millrace_client *client;
    struct millrace_error error;
    const struct millrace_client_options options = {.address = addresses[i]};
    assert_int_equal(millrace_client_new(&options, &client, &error), MILLRACE_INVALID_ARGUMENT);
  }
}

static void count(void *context, const struct millrace_job *job, const struct millrace_error *why) {
  assert_null(job);
  assert_non_null(why);
  ++*(int *)context;
}

static void a_client_is_freed_with_calls_under_way(void **state) {
  struct millrace_client *client;
  struct millrace_error error;
  const struct millrace_client_options options = {.address = "unix:/nonexistent/millrace.sock"};
  const struct millrace_job_spec spec = {.task = "x"};
  (void)state;
  assert_int_equal(millrace_client_new(&options, &client, &error), MILLRACE_OK);
  int calls = 0;
  millrace_job_create_async(client, &spec, count, &calls);
  millrace_client_free(client);
  assert_int_equal(calls, 1);
}

/* How a child ends in which the client of its parent is used. */
static int use_in_child(struct millrace_client *client) {
  enum { HANGS_S = 30 };
  pid_t child = fork();
  if (child == 0) {
    const struct millrace_job_spec spec = {.task = "x"};
    struct millrace_error error;
    struct millrace_job *job;
    struct millrace_job_stream *stream = NULL;
    int calls = 0;
    alarm(HANGS_S);
    bool all_fail = millrace_job_create(client, &spec, &job, &error) == MILLRACE_FAILED_PRECONDITION &&
                    millrace_job_stream_open(client, &stream, &error) == MILLRACE_OK &&
                    millrace_job_stream_send(stream, &spec, 1, &error) == MILLRACE_FAILED_PRECONDITION;
    millrace_job_stream_close(stream);
    millrace_job_create_async(client, &spec, count, &calls);
    millrace_client_free(client);
    _exit(all_fail && calls == 1 ? 0 : 1);
  }
  int status = -1;
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void a_forked_child_is_told_to_make_its_own_client(void **state) {
  struct fixture *fixture = *state;
  struct millrace_error error;
  struct millrace_job *job;
  assert_int_equal(use_in_child(fixture->client), 0);
  assert_int_equal(millrace_job_get(fixture->client, "x", false, &job, &error), MILLRACE_OK);
  millrace_free(job);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(details_of_an_error_are_read, set_up, tear_down),
      cmocka_unit_test_setup_teardown(only_a_lost_server_is_tried_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(any_method_is_called_in_json, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_forked_child_is_told_to_make_its_own_client, set_up, tear_down),
      cmocka_unit_test(nobody_there_names_address_and_cure),
      cmocka_unit_test(bad_addresses_are_refused),
      cmocka_unit_test(a_client_is_freed_with_calls_under_way)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
