/* SPDX-License-Identifier: Apache-2.0 */
/* cron.h: cron expressions and the times they name, on a wall clock that knows no zone: local seconds since 1970-01-01T00:00:00.
 * Five fields (minute, hour, day of month, month, day of week), seconds in front if there are six. Each field: `*`, numbers,
 * names (jan, mon), ranges `a-b`, steps `*` `/n`, `a-b/n`, `a/n`, lists of these; `?` in a day field is `*`; 7 is Sunday. @hourly
 * @daily
 * @midnight @weekly @monthly @yearly @annually. When both day fields are restricted, either matches.
 * Pure. Errors: INVALID_ARGUMENT, field "cron", naming the field of the expression and the cure; an expression that names no day
 * that exists (30 February) is refused. */
#ifndef MILLRACE_CORE_CRON_H
#define MILLRACE_CORE_CRON_H

#include "core/error.h"

/* Bit n of a set stands for the value n. */
struct cron {
  uint64_t seconds;
  uint64_t minutes;
  uint64_t hours;
  uint64_t days;     /* of the month, from 1 */
  uint64_t months;   /* from 1 */
  uint64_t weekdays; /* Sunday is 0 */
  bool days_any;     /* the field is `*` or `?` */
  bool weekdays_any;
  bool hours_any; /* the field is `*` or has the form of all hours with a step: runs every time in an hour that is repeated */
};

enum status cron_parse(const char *text, struct cron *out_cron, struct error *error) STATUS_CHECK;
/* The first time at or after `local_s`. False: none within nine years, which happens for times beyond the year 9999 only. */
bool cron_next(const struct cron *cron, int64_t local_s, int64_t *out_local_s);

#endif
