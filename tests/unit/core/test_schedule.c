/* SPDX-License-Identifier: Apache-2.0 */
/* Nominal times through clock changes: chosen cases, then random expressions against a naive scan of every minute. */
#include <stdlib.h>
#include <time.h>

#include "testing.h"

#include "core/limits.h"
#include "core/schedule.h"

/* "2024-02-29T10:30:00+01:00" in milliseconds. */
static int64_t ms_of(const char *text) {
  GDateTime *time = g_date_time_new_from_iso8601(text, NULL);
  assert_non_null(time);
  int64_t time_ms = g_date_time_to_unix(time) * 1000 + g_date_time_get_microsecond(time) / 1000;
  g_date_time_unref(time);
  return time_ms;
}

static char *text_of(int64_t time_ms) {
  GDateTime *time = g_date_time_new_from_unix_utc(time_ms / 1000);
  char *text = g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ");
  g_date_time_unref(time);
  return text;
}

static struct schedule_timing timing_of(const char *cron, const char *zone) {
  struct schedule_timing timing = {0};
  struct error error;
  if (cron_parse(cron, &timing.cron, &error) || calendar_zone(zone, &timing.zone, &error))
    fail_msg("%s %s: %s", cron, zone, error.message);
  return timing;
}

static void test_clock_changes(void **state) {
  (void)state;
  static const struct {
    const char *zone, *cron, *after;
    const char *times[6];
  } cases[] = {
      /* Spring: 02:00 becomes 03:00 on 31 March 2024. */
      {"Europe/Berlin",
       "30 2 * * *",
       "2024-03-30T00:00:00Z",
       {"2024-03-30T02:30:00+01", "2024-03-31T03:00:00+02", "2024-04-01T02:30:00+02"}},
      {"Europe/Berlin", "0,30 2 * * *", "2024-03-31T00:00:00Z", {"2024-03-31T03:00:00+02", "2024-04-01T02:00:00+02"}},
      {"Europe/Berlin", "0 3 * * *", "2024-03-31T00:00:00Z", {"2024-03-31T03:00:00+02", "2024-04-01T03:00:00+02"}},
      {"Europe/Berlin", "0 2,3 * * *", "2024-03-31T00:00:00Z", {"2024-03-31T03:00:00+02", "2024-04-01T02:00:00+02"}},
      {"Europe/Berlin", "0 * * * *", "2024-03-31T00:00:00Z", {"2024-03-31T03:00:00+02", "2024-03-31T04:00:00+02"}},
      {"Europe/Berlin", "30 * * * *", "2024-03-31T00:31:00Z", {"2024-03-31T03:00:00+02", "2024-03-31T03:30:00+02"}},
      {"Europe/Berlin", "0 0 * * *", "2024-03-30T00:00:00Z", {"2024-03-31T00:00:00+01", "2024-04-01T00:00:00+02"}},
      /* Autumn: 03:00 becomes 02:00 on 27 October 2024. */
      {"Europe/Berlin", "30 2 * * *", "2024-10-26T12:00:00Z", {"2024-10-27T02:30:00+02", "2024-10-28T02:30:00+01"}},
      {"Europe/Berlin", "0 3 * * *", "2024-10-26T12:00:00Z", {"2024-10-27T03:00:00+01", "2024-10-28T03:00:00+01"}},
      {"Europe/Berlin",
       "0,30 1-3 * * *",
       "2024-10-27T00:00:00Z",
       {"2024-10-27T02:30:00+02", "2024-10-27T03:00:00+01", "2024-10-27T03:30:00+01", "2024-10-28T01:00:00+01"}},
      {"Europe/Berlin",
       "30 * * * *",
       "2024-10-27T00:00:00Z",
       {"2024-10-27T02:30:00+02", "2024-10-27T02:30:00+01", "2024-10-27T03:30:00+01"}},
      {"Europe/Berlin",
       "0 */2 * * *",
       "2024-10-26T22:00:00Z",
       {"2024-10-27T02:00:00+02", "2024-10-27T02:00:00+01", "2024-10-27T04:00:00+01"}},
      {"Europe/Berlin", "*/30 2 * * *", "2024-10-27T00:30:00Z", {"2024-10-28T02:00:00+01"}},
      {"America/New_York", "30 2 * * *", "2024-03-10T00:00:00-05", {"2024-03-10T03:00:00-04", "2024-03-11T02:30:00-04"}},
      {"America/New_York", "30 1 * * *", "2024-11-03T00:00:00-04", {"2024-11-03T01:30:00-04", "2024-11-04T01:30:00-05"}},
      {"America/New_York",
       "30 * * * *",
       "2024-11-03T01:00:00-04",
       {"2024-11-03T01:30:00-04", "2024-11-03T01:30:00-05", "2024-11-03T02:30:00-05"}},
      {"America/New_York", "0 12 * * sun", "2024-03-04T00:00:00Z", {"2024-03-10T12:00:00-04", "2024-03-17T12:00:00-04"}},
      /* Half an hour: 02:00 becomes 02:30 on 6 October, 02:00 becomes 01:30 on 7 April 2024. */
      {"Australia/Lord_Howe", "15 2 * * *", "2024-10-05T10:00:00Z", {"2024-10-06T02:30:00+11", "2024-10-07T02:15:00+11"}},
      {"Australia/Lord_Howe", "45 1 * * *", "2024-04-06T10:00:00Z", {"2024-04-07T01:45:00+11", "2024-04-08T01:45:00+10:30"}},
      {"Australia/Lord_Howe",
       "45 * * * *",
       "2024-04-06T14:00:00Z",
       {"2024-04-07T01:45:00+11", "2024-04-07T01:45:00+10:30", "2024-04-07T02:45:00+10:30"}},
      /* Samoa had no 30 December 2011. */
      {"Pacific/Apia",
       "0 9 * * *",
       "2011-12-29T00:00:00-10",
       {"2011-12-29T09:00:00-10", "2011-12-31T00:00:00+14", "2011-12-31T09:00:00+14"}},
      {"Pacific/Apia", "0 9 30 12 *", "2011-01-01T00:00:00Z", {"2011-12-31T00:00:00+14", "2012-12-30T09:00:00+14"}},
      /* Midnight is skipped, so the day begins at 01:00. */
      {"America/Havana", "0 0 * * *", "2024-03-09T12:00:00-05", {"2024-03-10T01:00:00-04", "2024-03-11T00:00:00-04"}},
      {"", "0 0 29 2 *", "2024-03-01T00:00:00Z", {"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
      {"UTC", "*/10 * * * * *", "2024-03-01T00:00:00.500Z", {"2024-03-01T00:00:10Z", "2024-03-01T00:00:20Z"}},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct schedule_timing timing = timing_of(cases[i].cron, cases[i].zone);
    int64_t at_ms = ms_of(cases[i].after);
    for (size_t j = 0; j < G_N_ELEMENTS(cases[i].times) && cases[i].times[j]; j++) {
      int64_t expected_ms = ms_of(cases[i].times[j]);
      if (!schedule_next_ms(&timing, at_ms, &at_ms) || at_ms != expected_ms)
        fail_msg("%s in %s: expected %s, got %s", cases[i].cron, cases[i].zone, cases[i].times[j], text_of(at_ms));
    }
  }
}

/* ---- against a naive scan, with libc's idea of the zone ---- */

enum { WINDOW_MINUTES = 3 * 1440 };

struct window {
  int64_t begin_s;
  struct tm local[WINDOW_MINUTES];
};

static bool matches(const struct cron *cron, const struct tm *tm) {
  bool day = cron->days >> tm->tm_mday & 1, weekday = cron->weekdays >> tm->tm_wday & 1;
  bool day_fits = cron->days_any || cron->weekdays_any ? day && weekday : day || weekday;
  return (cron->minutes >> tm->tm_min & 1) && (cron->hours >> tm->tm_hour & 1) && (cron->months >> (tm->tm_mon + 1) & 1) &&
         day_fits;
}

/* Local time as a number that can be compared. */
static int64_t line_of(const struct tm *tm) {
  struct tm copy = *tm;
  return timegm(&copy);
}

static bool runs_at(const struct window *window, const struct cron *cron, int minute) {
  const struct tm *now = &window->local[minute];
  int64_t line_s = line_of(now), before_s = line_of(&window->local[minute - 1]);
  for (int64_t skipped_s = before_s + 60; skipped_s < line_s; skipped_s += 60) {
    struct tm skipped;
    time_t time = skipped_s;
    gmtime_r(&time, &skipped);
    if (matches(cron, &skipped))
      return true;
  }
  if (!matches(cron, now))
    return false;
  bool repeated = false;
  for (int i = minute - 1; i >= 0 && i >= minute - 180 && !repeated; i--)
    repeated = line_of(&window->local[i]) == line_s;
  return cron->hours_any || !repeated;
}

/* The same as runs_at, but the window is prepared once: jumps are known. */
struct plan {
  bool repeated[WINDOW_MINUTES];
  int gap_at; /* -1: none */
};

static struct plan plan_of(const struct window *window) {
  struct plan plan = {.gap_at = -1};
  int64_t highest_s = line_of(&window->local[0]);
  for (int i = 1; i < WINDOW_MINUTES; i++) {
    int64_t line_s = line_of(&window->local[i]);
    plan.repeated[i] = line_s <= highest_s;
    if (line_s > highest_s + 60 && !plan.repeated[i - 1])
      plan.gap_at = i;
    highest_s = MAX(highest_s, line_s);
  }
  return plan;
}

static void compare(const struct window *window, const struct plan *plan, const char *zone, const char *text) {
  struct schedule_timing timing = timing_of(text, zone);
  int64_t after_ms = (window->begin_s + INT64_C(1440) * 60) * 1000, next_ms = 0;
  bool has_next = schedule_next_ms(&timing, after_ms, &next_ms);
  for (int minute = 1441; minute < WINDOW_MINUTES; minute++) {
    bool expected;
    if (minute == plan->gap_at)
      expected = runs_at(window, &timing.cron, minute);
    else
      expected = matches(&timing.cron, &window->local[minute]) && (timing.cron.hours_any || !plan->repeated[minute]);
    int64_t minute_ms = (window->begin_s + (int64_t)minute * 60) * 1000;
    bool actual = has_next && next_ms == minute_ms;
    if (actual != expected || (has_next && next_ms < minute_ms))
      fail_msg("'%s' in %s: at %s a run is %sexpected, next is %s", text, zone, text_of(minute_ms), expected ? "" : "not ",
               text_of(next_ms));
    if (actual)
      has_next = schedule_next_ms(&timing, next_ms, &next_ms);
  }
}

static char *random_field(GRand *rand, int min, int max) {
  int a = g_rand_int_range(rand, min, max + 1), b = g_rand_int_range(rand, a, max + 1);
  switch (g_rand_int_range(rand, 0, 6)) {
  case 0:
  case 1:
    return g_strdup("*");
  case 2:
    return g_strdup_printf("*/%d", g_rand_int_range(rand, 1, max / 2 + 1));
  case 3:
    return g_strdup_printf("%d-%d", a, b);
  case 4:
    return g_strdup_printf("%d,%d", a, b);
  default:
    return g_strdup_printf("%d", a);
  }
}

static char *random_expression(GRand *rand) {
  char *minute = random_field(rand, 0, 59), *hour = random_field(rand, 0, g_rand_boolean(rand) ? 4 : 23);
  char *day = g_rand_int_range(rand, 0, 4) ? g_strdup("*") : random_field(rand, 1, 28);
  char *weekday = g_rand_int_range(rand, 0, 4) ? g_strdup("*") : random_field(rand, 0, 6);
  char *text = g_strjoin(" ", minute, hour, day, "*", weekday, NULL);
  g_free(minute);
  g_free(hour);
  g_free(day);
  g_free(weekday);
  return text;
}

/* All clock changes of a zone within the years, one window each with the change in its second half; and each window some
 * expressions. */
static void scan_zone(const char *zone, int first_year, int last_year, GRand *rand) {
  setenv("TZ", zone, 1);
  tzset();
  struct window *window = g_new0(struct window, 1);
  struct tm tm;
  time_t from = (time_t)(ms_of("1970-01-01T00:00:00Z") + (int64_t)(first_year - 1970) * 31556952);
  time_t to = (time_t)((int64_t)(last_year + 1 - 1970) * 31556952);
  localtime_r(&from, &tm);
  long offset_s = tm.tm_gmtoff;
  int changes = 0;
  for (time_t hour = from - from % 3600; hour < to; hour += 1800) {
    localtime_r(&hour, &tm);
    if (tm.tm_gmtoff == offset_s)
      continue;
    offset_s = tm.tm_gmtoff;
    changes++;
    window->begin_s = hour - INT64_C(2) * 86400 - 3600;
    for (int i = 0; i < WINDOW_MINUTES; i++) {
      time_t time = window->begin_s + (time_t)i * 60;
      localtime_r(&time, &window->local[i]);
    }
    struct plan plan = plan_of(window);
    for (int i = 0; i < 40; i++) {
      char *text = random_expression(rand);
      compare(window, &plan, zone, text);
      g_free(text);
    }
  }
  assert_true(changes > 0);
  g_free(window);
}

static void test_against_naive_scan(void **state) {
  (void)state;
  static const struct {
    const char *zone;
    int first_year, last_year;
  } scans[] = {{"Europe/Berlin", 2024, 2032},   {"America/New_York", 2024, 2032},  {"Australia/Lord_Howe", 2024, 2032},
               {"Pacific/Apia", 2011, 2012},    {"Africa/Casablanca", 2024, 2028}, {"America/Havana", 2024, 2026},
               {"Asia/Kathmandu", 1985, 1987},  {"Pacific/Kwajalein", 1993, 1994}, {"Antarctica/Troll", 2024, 2026},
               {"America/Santiago", 2024, 2027}};
  const char *seed_text = g_getenv("SEED");
  guint32 seed = seed_text ? (guint32)strtoul(seed_text, NULL, 10) : 1;
  print_message("replay: SEED=%u core_schedule_test\n", seed);
  GRand *rand = g_rand_new_with_seed(seed);
  for (size_t i = 0; i < G_N_ELEMENTS(scans); i++)
    scan_zone(scans[i].zone, scans[i].first_year, scans[i].last_year, rand);
  g_rand_free(rand);
}

/* ---- intervals, bounds, catch-up, jitter ---- */

static void test_interval(void **state) {
  (void)state;
  struct schedule_timing timing = {.interval_ms = 1500, .base_ms = 10000};
  static const int64_t cases[][2] = {{0, 10000},     {9999, 10000},  {10000, 11500},
                                     {11499, 11500}, {11500, 13000}, {1000000000000, 1000000001500}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    int64_t next_ms;
    assert_true(schedule_next_ms(&timing, cases[i][0], &next_ms));
    assert_int_equal(next_ms, cases[i][1]);
  }
}

static void test_start_and_end(void **state) {
  (void)state;
  struct schedule_timing timing = timing_of("0 * * * *", "UTC");
  timing.has_start = timing.has_end = true;
  timing.start_ms = ms_of("2024-01-01T05:00:00Z");
  timing.end_ms = ms_of("2024-01-01T07:00:00Z");
  int64_t next_ms;
  assert_true(schedule_next_ms(&timing, ms_of("2023-01-01T00:00:00Z"), &next_ms));
  assert_int_equal(next_ms, timing.start_ms); /* at the start itself */
  assert_true(schedule_next_ms(&timing, next_ms, &next_ms));
  assert_int_equal(next_ms, ms_of("2024-01-01T06:00:00Z"));
  assert_false(schedule_next_ms(&timing, next_ms, &next_ms)); /* not at the end itself */
  timing = (struct schedule_timing){
      .interval_ms = 1000, .base_ms = 5000, .has_start = true, .start_ms = 5000, .has_end = true, .end_ms = 6000};
  assert_true(schedule_next_ms(&timing, 0, &next_ms));
  assert_int_equal(next_ms, 5000);
  assert_false(schedule_next_ms(&timing, next_ms, &next_ms));
}

static void test_missed(void **state) {
  (void)state;
  struct schedule_timing cron = timing_of("30 2 * * *", "Europe/Berlin");
  struct schedule_timing often = timing_of("* * * * * *", "Europe/Berlin");
  struct schedule_timing rare = timing_of("0 0 29 2 *", "UTC");
  struct schedule_timing interval = {.interval_ms = 60000, .base_ms = 0};
  const struct {
    const struct schedule_timing *timing;
    const char *last, *now;
    int64_t window_ms;
    const char *missed; /* NULL: none */
  } cases[] = {
      {&cron, "2024-03-01T01:30:00Z", "2024-03-05T12:00:00Z", -1, "2024-03-05T01:30:00Z"},
      {&cron, "2024-03-01T01:30:00Z", "2024-03-31T01:30:00Z", -1, "2024-03-31T01:00:00Z"},
      {&cron, "2024-03-05T01:30:00Z", "2024-03-05T12:00:00Z", -1, NULL},
      {&cron, "2024-03-01T01:30:00Z", "2024-03-05T01:30:00Z", 0, "2024-03-05T01:30:00Z"}, /* just due */
      {&cron, "2024-03-01T01:30:00Z", "2024-03-05T01:30:01Z", 0, NULL},
      {&cron, "2024-03-01T01:30:00Z", "2024-03-05T02:30:00Z", HOUR_MS, "2024-03-05T01:30:00Z"},
      {&cron, "2024-03-01T01:30:00Z", "2024-03-05T02:30:00Z", HOUR_MS - 1, NULL},
      {&often, "2014-03-01T01:30:00Z", "2024-03-05T02:30:17Z", -1, "2024-03-05T02:30:17Z"},
      {&rare, "2004-02-29T00:00:00Z", "2024-02-28T00:00:00Z", -1, "2020-02-29T00:00:00Z"},
      {&interval, "2024-03-01T00:00:00Z", "2024-03-01T09:00:30Z", -1, "2024-03-01T09:00:00Z"},
      {&interval, "2024-03-01T00:00:00Z", "2024-03-01T00:00:59Z", -1, NULL},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    int64_t missed_ms = 0;
    bool missed = schedule_missed_ms(cases[i].timing, ms_of(cases[i].last), ms_of(cases[i].now), cases[i].window_ms, &missed_ms);
    assert_int_equal(missed, cases[i].missed != NULL);
    if (missed)
      assert_int_equal(missed_ms, ms_of(cases[i].missed));
  }
}

static void test_jitter_is_bounded_and_repeatable(void **state) {
  (void)state;
  struct id uid = {{1}}, other = {{2}};
  struct schedule_timing timing = {.interval_ms = 1000, .jitter_ms = 500};
  int64_t lowest_ms = INT64_MAX, highest_ms = 0;
  bool differs = false;
  for (int64_t nominal_ms = 0; nominal_ms < 2000000; nominal_ms += 1000) {
    int64_t late_ms = schedule_fire_ms(&timing, &uid, nominal_ms) - nominal_ms;
    assert_int_equal(late_ms, schedule_fire_ms(&timing, &uid, nominal_ms) - nominal_ms);
    differs = differs || late_ms != schedule_fire_ms(&timing, &other, nominal_ms) - nominal_ms;
    lowest_ms = MIN(lowest_ms, late_ms);
    highest_ms = MAX(highest_ms, late_ms);
  }
  assert_true(lowest_ms >= 0 && lowest_ms < 25);
  assert_true(highest_ms <= 500 && highest_ms > 475);
  assert_true(differs);
  timing.jitter_ms = 0;
  assert_int_equal(schedule_fire_ms(&timing, &uid, 77), 77);
}

static void test_zones(void **state) {
  (void)state;
  static const char *const known[] = {"",          "UTC",     "Europe/Berlin", "America/Argentina/Buenos_Aires",
                                      "Etc/GMT+5", "EST5EDT", "Asia/Kolkata"};
  static const char *const unknown[] = {"Mars/Base",
                                        "europe/berlin",
                                        "+02:00",
                                        "CET-1CEST",
                                        "CET-1CEST,M3.5.0,M10.5.0/3",
                                        "Z1",
                                        "../etc/passwd",
                                        "/etc/passwd",
                                        "Europe/../UTC",
                                        "Europe/",
                                        "Europe//Berlin",
                                        "right/UTC",
                                        "posix/UTC",
                                        "localtime",
                                        " UTC",
                                        "Europe"};
  struct error error;
  for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
    struct zone *zone = NULL, *again = NULL;
    assert_int_equal(calendar_zone(known[i], &zone, &error), STATUS_OK);
    assert_int_equal(calendar_zone(known[i], &again, &error), STATUS_OK);
    assert_ptr_equal(zone, again);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(unknown); i++) {
    struct zone *zone = NULL;
    if (calendar_zone(unknown[i], &zone, &error) != STATUS_INVALID_ARGUMENT)
      fail_msg("'%s' was taken", unknown[i]);
    assert_string_equal(error.field, "time_zone");
    assert_null(zone);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_clock_changes), cmocka_unit_test(test_against_naive_scan),
      cmocka_unit_test(test_interval),      cmocka_unit_test(test_start_and_end),
      cmocka_unit_test(test_missed),        cmocka_unit_test(test_jitter_is_bounded_and_repeatable),
      cmocka_unit_test(test_zones),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
