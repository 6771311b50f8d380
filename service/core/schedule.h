/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h: the nominal times of a schedule. Nominal: as its expression says, without jitter and lateness. Pure: the caller
 * keeps the last nominal time and asks for the next.
 *   - A local time that a clock change skips runs once, right after the gap.
 *   - In local time that comes twice, an expression with fixed hours runs the first time only, one whose hour field is `*` or a
 * step over all hours runs both times.
 *   - An interval runs at base + k * interval.
 * Threads: any. */
#ifndef MILLRACE_CORE_SCHEDULE_H
#define MILLRACE_CORE_SCHEDULE_H

#include "core/calendar.h"
#include "core/cron.h"
#include "core/id.h"
#include "millrace/v1/schedule_service.pb-c.h"

struct schedule_timing {
  int64_t interval_ms; /* 0: cron */
  struct cron cron;
  struct zone *zone;
  int64_t base_ms; /* of an interval: start_at; without one the caller sets the time of creation */
  bool has_start;
  int64_t start_ms; /* none before */
  bool has_end;
  int64_t end_ms; /* none at or after */
  int64_t jitter_ms;
};

/* Checks and reads a timing. Errors: INVALID_ARGUMENT with the field relative to the message. */
enum status schedule_timing_read(const Millrace__V1__ScheduleTiming *message, struct schedule_timing *out_timing,
                                 struct error *error) STATUS_CHECK;
/* The first nominal time after `after_ms`. False: there is none any more. */
bool schedule_next_ms(const struct schedule_timing *timing, int64_t after_ms, int64_t *out_nominal_ms);
/* The latest nominal time that is after `last_ms`, at or before `now_ms`, and not older than `window_ms` (-1: however old).
 * False: none was missed. */
bool schedule_missed_ms(const struct schedule_timing *timing, int64_t last_ms, int64_t now_ms, int64_t window_ms,
                        int64_t *out_nominal_ms);
/* When the job of a nominal time is made: later by a part of the jitter that depends on the schedule's uid and the time alone. */
int64_t schedule_fire_ms(const struct schedule_timing *timing, const struct id *uid, int64_t nominal_ms);

#endif
