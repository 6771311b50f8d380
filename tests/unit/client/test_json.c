/* SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"
#include "json.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "testing.h"

static struct box *box;

static int make_box(void **state) {
  (void)state;
  box = box_new();
  return 0;
}

static int drop_box(void **state) {
  (void)state;
  box_unref(box);
  return 0;
}

static void spec_goes_both_ways(void **state) {
  static const char text[] =
      "{\"id\":\"0190a5e4-7b7a-7000-8000-000000000001\",\"task\":\"mail\",\"priority\":\"high\","
      "\"payload\":{\"json\":{\"to\":\"a@example.org\",\"big\":12345678901234567890}},\"delay\":\"90s\","
      "\"attempt_timeout\":\"0s\",\"retry_policy\":{\"max_attempts\":3,\"kind\":\"list\",\"multiplier\":0,\"jitter\":0,"
      "\"delays\":[\"1s\",\"0.500s\"]},\"labels\":{\"a\":\"b\"},\"unique_key\":{\"key\":\"k\",\"scope\":\"while_waiting\"},"
      "\"wants_previous_result\":true}";
  Millrace__V1__JobSpec *spec;
  struct millrace_error error;
  (void)state;
  assert_int_equal(json_read(box, &millrace__v1__job_spec__descriptor, text, &spec, &error), MILLRACE_OK);
  assert_int_equal(spec->priority, MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_HIGH);
  assert_int_equal(spec->start_case, MILLRACE__V1__JOB_SPEC__START_DELAY);
  assert_int_equal(spec->delay->seconds, 90);
  assert_string_equal(spec->payload->json, "{\"to\":\"a@example.org\",\"big\":12345678901234567890}");
  assert_int_equal(spec->retry_policy->n_delays, 2);
  assert_non_null(spec->attempt_timeout);
  char *again = json_text(&spec->base, false);
  assert_string_equal(again, text);
  g_free(again);
}

static void wrong_input_names_the_field(void **state) {
  static const struct {
    const char *text;
    const char *field;
  } cases[] = {{"{\"taks\":\"x\"}", "taks"},
               {"{\"priority\":\"urgent\"}", "priority"},
               {"{\"delay\":\"soon\"}", "delay"},
               {"{\"run_at\":\"2026-03-01T12:00:00Z\",\"delay\":\"1s\"}", "delay"},
               {"{\"retry_policy\":{\"delays\":[\"1s\",\"x\"]}}", "retry_policy.delays[1]"},
               {"{\"retry_policy\":{\"max_attempts\":-1}}", "retry_policy.max_attempts"},
               {"{\"labels\":{\"a\":1}}", "labels"},
               {"{\"payload\":\"text\"}", "payload"},
               {"{\"payload\":{\"data\":\"%%\"}}", "payload"},
               {"[]", ""},
               {"{", ""},
               {"{\"payload\":{\"json\":\"a\\u0000b\"}}", ""}};
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    void *message;
    struct millrace_error error;
    assert_int_equal(json_read(box, &millrace__v1__job_spec__descriptor, cases[i].text, &message, &error),
                     MILLRACE_INVALID_ARGUMENT);
    assert_string_equal(error.field, cases[i].field);
    assert_true(strlen(error.message) > 0);
  }
}

static void deep_nesting_is_refused(void **state) {
  char text[1000];
  void *message;
  struct millrace_error error;
  (void)state;
  char *open = g_strnfill(200, '[');
  char *close = g_strnfill(200, ']');
  g_snprintf(text, sizeof text, "{\"payload\":{\"json\":%s%s}}", open, close);
  g_free(open);
  g_free(close);
  assert_int_equal(json_read(box, &millrace__v1__job_spec__descriptor, text, &message, &error), MILLRACE_INVALID_ARGUMENT);
}

static void wrappers_are_their_values(void **state) {
  static const char text[] = "{\"mode\":\"weighted\",\"max_length\":100000,\"max_running\":0,\"rate_per_second\":0.5}";
  Millrace__V1__QueueSettings *settings;
  struct millrace_error error;
  (void)state;
  assert_int_equal(json_read(box, &millrace__v1__queue_settings__descriptor, text, &settings, &error), MILLRACE_OK);
  assert_int_equal(settings->max_length->value, 100000);
  assert_non_null(settings->max_running);
  char *again = json_text(&settings->base, false);
  assert_string_equal(again, text);
  g_free(again);
}

static void bytes_are_base64(void **state) {
  const struct millrace_payload payload = {.data = "\x00\xff", .length = 2};
  (void)state;
  char *text = json_text(&convert_payload(box, &payload)->base, false);
  assert_string_equal(text, "{\"data\":\"AP8=\"}");
  g_free(text);
}

static void ids_are_uuids_of_version_7_in_order(void **state) {
  enum { IDS = 100000 }; /* many in each millisecond */
  char last[MILLRACE_ID_BYTES], next[MILLRACE_ID_BYTES];
  (void)state;
  millrace_id_make(last);
  for (int i = 0; i < IDS; i++) {
    millrace_id_make(next);
    assert_true(g_uuid_string_is_valid(next));
    assert_int_equal(next[14], '7');
    assert_true(strcmp(last, next) < 0);
    memcpy(last, next, sizeof last);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(spec_goes_both_ways, make_box, drop_box),
                                     cmocka_unit_test_setup_teardown(wrong_input_names_the_field, make_box, drop_box),
                                     cmocka_unit_test_setup_teardown(deep_nesting_is_refused, make_box, drop_box),
                                     cmocka_unit_test_setup_teardown(wrappers_are_their_values, make_box, drop_box),
                                     cmocka_unit_test_setup_teardown(bytes_are_base64, make_box, drop_box),
                                     cmocka_unit_test(ids_are_uuids_of_version_7_in_order)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
