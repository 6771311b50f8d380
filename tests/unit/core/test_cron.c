/* SPDX-License-Identifier: Apache-2.0 */
#include "testing.h"

#include "core/cron.h"

/* "2024-02-29 10:30:00" as local seconds. */
static int64_t seconds_of(const char *text) {
  char *iso = g_strconcat(text, "Z", NULL);
  GDateTime *time = g_date_time_new_from_iso8601(iso, NULL);
  assert_non_null(time);
  int64_t seconds = g_date_time_to_unix(time);
  g_date_time_unref(time);
  g_free(iso);
  return seconds;
}

static void assert_time(const char *expression, int64_t actual_s, const char *expected) {
  GDateTime *time = g_date_time_new_from_unix_utc(actual_s);
  char *text = g_date_time_format(time, "%Y-%m-%d %H:%M:%S");
  if (strcmp(text, expected) != 0)
    fail_msg("%s: expected %s, got %s", expression, expected, text);
  g_free(text);
  g_date_time_unref(time);
}

static struct cron parsed(const char *text) {
  struct cron cron;
  struct error error;
  if (cron_parse(text, &cron, &error))
    fail_msg("%s: %s", text, error.message);
  return cron;
}

static void test_next_times(void **state) {
  (void)state;
  static const struct {
    const char *expression, *from, *next;
  } cases[] = {
      {"* * * * *", "2024-01-01 00:00:00", "2024-01-01 00:00:00"},
      {"* * * * *", "2024-01-01 00:00:01", "2024-01-01 00:01:00"},
      {"* * * * * *", "2024-01-01 00:00:01", "2024-01-01 00:00:01"},
      {"*/15 * * * * *", "2024-12-31 23:59:46", "2025-01-01 00:00:00"},
      {"30 5 0 * * *", "2024-01-01 00:05:31", "2024-01-02 00:05:30"},
      {"0,30 5-6 0 * * *", "2024-01-01 00:05:31", "2024-01-01 00:06:00"},
      {"*/20 * * * *", "2024-01-01 00:41:00", "2024-01-01 01:00:00"},
      {"5/20 * * * *", "2024-01-01 00:26:00", "2024-01-01 00:45:00"},
      {"10-20/5 3 * * *", "2024-01-01 03:16:00", "2024-01-01 03:20:00"},
      {"0 9 * * mon-fri", "2024-01-05 09:00:01", "2024-01-08 09:00:00"},
      {"0 9 * * MON,Wed", "2024-01-08 10:00:00", "2024-01-10 09:00:00"},
      {"0 0 * * 7", "2024-01-01 00:00:00", "2024-01-07 00:00:00"},
      {"0 0 * * 0", "2024-01-01 00:00:00", "2024-01-07 00:00:00"},
      {"0 0 * * 5-7", "2024-01-06 00:00:01", "2024-01-07 00:00:00"},
      {"0 0 * * fri-sun", "2024-01-06 00:00:01", "2024-01-07 00:00:00"},
      {"0 0 * * 2/3", "2024-01-03 00:00:00", "2024-01-05 00:00:00"},
      {"0 0 * * 7/2", "2024-01-03 00:00:00", "2024-01-07 00:00:00"},
      {"0 0 ? * 1", "2024-01-02 00:00:00", "2024-01-08 00:00:00"},
      {"0 0 1 * ?", "2024-01-02 00:00:00", "2024-02-01 00:00:00"},
      {"0 0 13 * fri", "2024-09-01 00:00:00", "2024-09-06 00:00:00"}, /* either day */
      {"0 0 13 * fri", "2024-10-12 00:00:00", "2024-10-13 00:00:00"},
      {"0 0 31 * *", "2024-04-01 00:00:00", "2024-05-31 00:00:00"},
      {"0 0 29 2 *", "2024-02-29 00:00:01", "2028-02-29 00:00:00"},
      {"0 0 29 2 *", "2096-02-29 00:00:01", "2104-02-29 00:00:00"},
      {"0 0 1 jan,jul *", "2024-02-01 00:00:00", "2024-07-01 00:00:00"},
      {"0 0 1 oct-dec *", "2024-01-01 00:00:00", "2024-10-01 00:00:00"},
      {"@hourly", "2024-01-01 00:00:01", "2024-01-01 01:00:00"},
      {"@daily", "2024-01-01 00:00:01", "2024-01-02 00:00:00"},
      {"@midnight", "2024-01-01 00:00:01", "2024-01-02 00:00:00"},
      {"@weekly", "2024-01-01 00:00:01", "2024-01-07 00:00:00"},
      {"@monthly", "2024-01-01 00:00:01", "2024-02-01 00:00:00"},
      {"@yearly", "2024-01-01 00:00:01", "2025-01-01 00:00:00"},
      {"@Annually", "2024-01-01 00:00:01", "2025-01-01 00:00:00"},
      {" \t0  12\t* * * ", "2024-01-01 00:00:00", "2024-01-01 12:00:00"},
      {"59 59 23 31 12 *", "1969-12-31 23:59:58", "1969-12-31 23:59:59"},
      {"0 0 1 1 *", "1969-12-31 23:59:58", "1970-01-01 00:00:00"},
      {"0 12 * * *", "0001-01-01 00:00:00", "1-01-01 12:00:00"},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct cron cron = parsed(cases[i].expression);
    int64_t next_s = 0;
    assert_true(cron_next(&cron, seconds_of(cases[i].from), &next_s));
    assert_time(cases[i].expression, next_s, cases[i].next);
  }
}

static void test_the_end_of_time(void **state) {
  (void)state;
  struct cron cron = parsed("@yearly");
  int64_t next_s;
  assert_false(cron_next(&cron, seconds_of("9999-06-01 00:00:00"), &next_s));
  assert_false(cron_next(&cron, INT64_MAX / 2, &next_s));
  assert_true(cron_next(&cron, INT64_MIN, &next_s));
}

static void test_hours_any(void **state) {
  (void)state;
  assert_true(parsed("0 * * * *").hours_any);
  assert_true(parsed("0 */2 * * *").hours_any);
  assert_true(parsed("@hourly").hours_any);
  assert_false(parsed("0 0-23 * * *").hours_any);
  assert_false(parsed("0 *,3 * * *").hours_any);
  assert_false(parsed("0 3 * * *").hours_any);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *expression, *told; /* a part of the message */
  } cases[] = {
      {"", "five fields"},
      {"* * * *", "has 4"},
      {"* * * * * * *", "has 7"},
      {"60 * * * *", "'minute' is 0 to 59"},
      {"60 * * * * *", "'second' is 0 to 59"},
      {"* 24 * * *", "'hour' is 0 to 23"},
      {"* * 0 * *", "'day of month' is 1 to 31"},
      {"* * 32 * *", "'day of month' is 1 to 31"},
      {"* * * 13 *", "'month' is 1 to 12 or jan to dec"},
      {"* * * * 8", "'day of week' is 0 to 7 or sun to sat"},
      {"* * * * funday", "'funday'"},
      {"* * * * monday", "'monday'"},
      {"? * * * *", "'minute'"},
      {"a * * * *", "'a'"},
      {"-1 * * * *", "'-1'"},
      {"1- * * * *", "'1-'"},
      {"1-2-3 * * * *", "'1-2-3'"},
      {"1,,2 * * * *", "'minute'"},
      {"*/0 * * * *", "step"},
      {"*/ * * * *", "step"},
      {"*/60 * * * *", "step"},
      {"*/5x * * * *", "step"},
      {"* 22-2 * * *", "runs backwards; write two, such as '22-23,0-2'"},
      {"99999999999999999999 * * * *", "'minute'"},
      {"0 0 L * *", "not supported"},
      {"0 0 15W * *", "not supported"},
      {"0 0 * * 5#2", "not supported"},
      {"0 0 30 2 *", "never comes true"},
      {"0 0 30,31 feb ?", "never comes true"},
      {"0 0 31 4,6,9,11 *", "never comes true"},
      {"@reboot", "@hourly"},
      {"@", "@hourly"},
      {"*\xff * * * *", "'minute'"},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct cron cron;
    struct error error;
    if (cron_parse(cases[i].expression, &cron, &error) != STATUS_INVALID_ARGUMENT || !strstr(error.message, cases[i].told))
      fail_msg("'%s' should tell of %s: %s", cases[i].expression, cases[i].told, error.message);
    assert_string_equal(error.field, "cron");
  }
  struct cron cron;
  struct error error;
  char *endless = g_strnfill(300, '*');
  assert_int_equal(cron_parse(endless, &cron, &error), STATUS_INVALID_ARGUMENT);
  assert_non_null(strstr(error.message, "at most 256 bytes"));
  g_free(endless);
}

static void test_impossible_day_beside_a_weekday_is_fine(void **state) {
  (void)state;
  struct cron cron = parsed("0 0 30 2 mon");
  int64_t next_s;
  assert_true(cron_next(&cron, seconds_of("2024-01-01 00:00:00"), &next_s));
  assert_time("", next_s, "2024-02-05 00:00:00");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_next_times),
      cmocka_unit_test(test_the_end_of_time),
      cmocka_unit_test(test_hours_any),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_impossible_day_beside_a_weekday_is_fine),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
