/* SPDX-License-Identifier: Apache-2.0 */
#include "testing.h"
#include "text.h"

static void durations_are_read(void **state) {
  static const struct {
    const char *text;
    int64_t ms;
  } cases[] = {{"250ms", 250},    {"10s", 10000},     {"1.5s", 1500}, {"5m", 300000}, {"2h", 7200000},
               {"7d", 604800000}, {"1h30m", 5400000}, {"90", 90000},  {"0s", 0}};
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t ms = -7;
    assert_true(text_parse_duration(cases[i].text, &ms));
    assert_int_equal(ms, cases[i].ms);
  }
}

static void other_texts_are_no_durations(void **state) {
  static const char *const texts[] = {"", "s", "ten", "10x", "-5s", "5s5", "1e99d", "10 s", "nan", "inf"};
  (void)state;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    int64_t ms = -7;
    assert_false(text_parse_duration(texts[i], &ms));
    assert_int_equal(ms, -7);
  }
}

static void times_go_both_ways(void **state) {
  int64_t ms;
  char text[TEXT_TIME_BYTES];
  (void)state;
  assert_true(text_parse_time("2026-03-01T12:00:00.250Z", &ms));
  text_format_time(ms, text);
  assert_string_equal(text, "2026-03-01T12:00:00.250Z");
  int64_t shifted;
  assert_true(text_parse_time("2026-03-01T13:00:00.250+01:00", &shifted));
  assert_int_equal(shifted, ms);
  assert_false(text_parse_time("tomorrow", &ms));
  text_format_time(-1, text);
  assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void durations_are_written_in_seconds(void **state) {
  char text[TEXT_DURATION_BYTES];
  (void)state;
  text_format_duration(90000, text);
  assert_string_equal(text, "90s");
  text_format_duration(250, text);
  assert_string_equal(text, "0.250s");
  text_format_duration(-1500, text);
  assert_string_equal(text, "-1.500s");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(durations_are_read), cmocka_unit_test(other_texts_are_no_durations),
                                     cmocka_unit_test(times_go_both_ways), cmocka_unit_test(durations_are_written_in_seconds)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
