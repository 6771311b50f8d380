/* SPDX-License-Identifier: Apache-2.0 */
/* time.h: the API's times <-> milliseconds since 1970. Those that no clock can tell (reports of workers are not validated) become
 * the furthest that can be told. */
#ifndef MILLRACE_CORE_TIME_H
#define MILLRACE_CORE_TIME_H

#include <stdint.h>

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

static inline int64_t time_add_ms(int64_t seconds, int64_t ms) {
  int64_t sum;
  if (__builtin_mul_overflow(seconds, INT64_C(1000), &sum) || __builtin_add_overflow(sum, ms, &sum))
    return seconds < 0 ? INT64_MIN : INT64_MAX;
  return sum;
}

/* Rounded down to the millisecond. */
static inline int64_t time_from_timestamp(const Google__Protobuf__Timestamp *timestamp) {
  return time_add_ms(timestamp->seconds, timestamp->nanos / 1000000);
}

/* Rounded up to the millisecond: nothing waits shorter than was asked for. */
static inline int64_t time_from_duration(const Google__Protobuf__Duration *duration) {
  int64_t nanos = duration->nanos;
  return time_add_ms(duration->seconds, nanos > 0 ? (nanos + 999999) / 1000000 : nanos / 1000000);
}

/* Initializes *out. */
static inline void time_to_timestamp(int64_t time_ms, Google__Protobuf__Timestamp *out) {
  google__protobuf__timestamp__init(out);
  int64_t rest_ms = (time_ms % 1000 + 1000) % 1000;
  out->seconds = (time_ms - rest_ms) / 1000;
  out->nanos = (int32_t)rest_ms * 1000000;
}

/* Initializes *out. */
static inline void time_to_duration(int64_t time_ms, Google__Protobuf__Duration *out) {
  google__protobuf__duration__init(out);
  out->seconds = time_ms / 1000;
  out->nanos = (int32_t)(time_ms % 1000) * 1000000;
}

#endif
