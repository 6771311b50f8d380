/* SPDX-License-Identifier: Apache-2.0 */
#include "core/schedule.h"

#include <glib.h>

#include "core/check.h"
#include "core/limits.h"
#include "core/time.h"

/* Clock changes that one search may pass: nine years of a zone that changes four times a year. */
enum { SPANS_MAX = 64 };

static enum status read_bounds(const Millrace__V1__ScheduleTiming *message, struct schedule_timing *timing, struct error *error) {
  if (message->start_at) {
    timing->has_start = true;
    timing->start_ms = timing->base_ms = time_from_timestamp(message->start_at);
  }
  if (message->end_at) {
    timing->has_end = true;
    timing->end_ms = time_from_timestamp(message->end_at);
  }
  if (timing->has_start && timing->has_end && timing->end_ms <= timing->start_ms)
    return error_set(error, STATUS_INVALID_ARGUMENT, "end_at", "end_at must be later than start_at");
  return STATUS_OK;
}

enum status schedule_timing_read(const Millrace__V1__ScheduleTiming *message, struct schedule_timing *out_timing,
                                 struct error *error) {
  struct schedule_timing timing = {0};
  enum status status;
  if ((status = calendar_zone(message->time_zone, &timing.zone, error)) || (status = read_bounds(message, &timing, error)) ||
      (status = check_duration(message->jitter, "jitter", 0, SCHEDULE_JITTER_MAX_MS, error)))
    return status;
  if (message->jitter)
    timing.jitter_ms = time_from_duration(message->jitter);
  switch (message->when_case) {
  case MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON:
    status = cron_parse(message->cron, &timing.cron, error);
    break;
  case MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL:
    status = check_duration(message->interval, "interval", INTERVAL_MIN_MS, INTERVAL_MAX_MS, error);
    timing.interval_ms = time_from_duration(message->interval);
    break;
  default:
    status = error_set(error, STATUS_INVALID_ARGUMENT, "cron", "a schedule needs either cron or interval");
  }
  if (status == STATUS_OK)
    *out_timing = timing;
  return status;
}

static int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b < 0);
}

static int64_t next_of_interval(const struct schedule_timing *timing, int64_t after_ms) {
  if (after_ms < timing->base_ms)
    return timing->base_ms;
  return timing->base_ms + ((after_ms - timing->base_ms) / timing->interval_ms + 1) * timing->interval_ms;
}

/* Where in local time to look from: later than utc_s itself where an expression with fixed hours has had the repeated time
 * already. */
static int64_t local_from(const struct schedule_timing *timing, int64_t utc_s, const struct calendar_span *span) {
  int64_t local_s = utc_s + span->offset_s;
  int64_t repeated_s = span->offset_before_s - span->offset_s;
  if (timing->cron.hours_any || repeated_s <= 0)
    return local_s;
  struct calendar_span earlier;
  calendar_span(timing->zone, utc_s - repeated_s, &earlier);
  if (earlier.number == span->number)
    return local_s;
  int64_t begin_s = calendar_span_end(timing->zone, utc_s - repeated_s, utc_s);
  return MAX(local_s, begin_s + span->offset_before_s);
}

/* Does a local time that the jump ahead at `utc_s` (the first second of its span) left out match? */
static bool gap_has_match(const struct schedule_timing *timing, int64_t utc_s, const struct calendar_span *span) {
  int64_t local_s;
  return span->offset_s > span->offset_before_s && cron_next(&timing->cron, utc_s + span->offset_before_s, &local_s) &&
         local_s < utc_s + span->offset_s;
}

/* The first match at or after `utc_s`. Goes from span to span: within one, local time is a plain line. */
static bool next_of_cron(const struct schedule_timing *timing, int64_t utc_s, int64_t *out_utc_s) {
  struct calendar_span span, before, found;
  calendar_span(timing->zone, utc_s - 1, &before);
  for (int i = 0; i < SPANS_MAX; i++) {
    calendar_span(timing->zone, utc_s, &span);
    if (before.number != span.number && gap_has_match(timing, utc_s, &span)) {
      *out_utc_s = utc_s;
      return true;
    }
    int64_t local_s;
    if (!cron_next(&timing->cron, local_from(timing, utc_s, &span), &local_s))
      return false;
    int64_t candidate_s = local_s - span.offset_s;
    calendar_span(timing->zone, candidate_s, &found);
    if (found.number == span.number) {
      *out_utc_s = candidate_s;
      return true;
    }
    utc_s = calendar_span_end(timing->zone, utc_s, candidate_s);
    before = span;
  }
  return false;
}

bool schedule_next_ms(const struct schedule_timing *timing, int64_t after_ms, int64_t *out_nominal_ms) {
  if (timing->has_start)
    after_ms = MAX(after_ms, timing->start_ms - 1);
  int64_t nominal_ms;
  if (timing->interval_ms > 0) {
    nominal_ms = next_of_interval(timing, after_ms);
  } else {
    int64_t utc_s;
    if (!next_of_cron(timing, floor_div(after_ms, 1000) + 1, &utc_s))
      return false;
    nominal_ms = utc_s * 1000;
  }
  if (nominal_ms > TIMESTAMP_MAX_MS || (timing->has_end && nominal_ms >= timing->end_ms))
    return false;
  *out_nominal_ms = nominal_ms;
  return true;
}

static bool has_one_until(const struct schedule_timing *timing, int64_t after_ms, int64_t until_ms, int64_t *out_nominal_ms) {
  return schedule_next_ms(timing, after_ms, out_nominal_ms) && *out_nominal_ms <= until_ms;
}

bool schedule_missed_ms(const struct schedule_timing *timing, int64_t last_ms, int64_t now_ms, int64_t window_ms,
                        int64_t *out_nominal_ms) {
  int64_t from_ms = last_ms;
  if (window_ms >= 0)
    from_ms = MAX(from_ms, now_ms - window_ms - 1);
  int64_t nominal_ms;
  if (!has_one_until(timing, from_ms, now_ms, &nominal_ms))
    return false;
  /* "There is one between t and now" holds for every t before the latest one and for none after it: halve the distance. */
  int64_t low_ms = nominal_ms, high_ms = now_ms;
  while (low_ms < high_ms) {
    int64_t middle_ms = low_ms + (high_ms - low_ms) / 2;
    if (has_one_until(timing, middle_ms, now_ms, &nominal_ms))
      low_ms = nominal_ms;
    else
      high_ms = middle_ms;
  }
  *out_nominal_ms = low_ms;
  return true;
}

int64_t schedule_fire_ms(const struct schedule_timing *timing, const struct id *uid, int64_t nominal_ms) {
  if (timing->jitter_ms == 0)
    return nominal_ms;
  struct id hash = id_derive(uid, "jitter", (uint64_t)nominal_ms);
  uint64_t number = 0;
  for (int i = 0; i < 6; i++) /* the bytes before the version */
    number = number << 8 | hash.bytes[i];
  return nominal_ms + (int64_t)(number % ((uint64_t)timing->jitter_ms + 1));
}
