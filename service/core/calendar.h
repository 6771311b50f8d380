/* SPDX-License-Identifier: Apache-2.0 */
/* calendar.h: time zones, as spans of time with a constant offset from UTC. Between two spans the wall clock jumps: ahead (local
 * times in the gap never come) or back (local times come twice). Zones are read from the system's IANA data once and kept for the
 * life of the process. Names only, no offsets or rules such as
 * "+02:00" or "CET-1CEST". The data ends in 2037: later times have the last offset known.
 * Threads: any. Errors: INVALID_ARGUMENT, field "time_zone", for an unknown name. */
#ifndef MILLRACE_CORE_CALENDAR_H
#define MILLRACE_CORE_CALENDAR_H

#include <stdint.h>

#include "core/error.h"

/* A zone; lives for ever. */
struct zone;

/* "" is UTC. */
enum status calendar_zone(const char *name, struct zone **out_zone, struct error *error) STATUS_CHECK;

/* The span around a moment. local = utc + offset_s. */
struct calendar_span {
  int number;              /* rises with time */
  int64_t offset_s;        /* in the span */
  int64_t offset_before_s; /* in the one before it; the same when there is none */
};
void calendar_span(const struct zone *zone, int64_t utc_s, struct calendar_span *out_span);
/* The first second after `from_s`, up to and including `to_s`, that does not belong to the span of `from_s`, which must not be
 * that of `to_s`. */
int64_t calendar_span_end(const struct zone *zone, int64_t from_s, int64_t to_s);

#endif
