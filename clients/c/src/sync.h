/* SPDX-License-Identifier: Apache-2.0 */
/* sync.h: waiting on a condition up to a moment of the monotonic clock, in microseconds as g_get_monotonic_time counts them. */
#ifndef MILLRACE_CLIENT_SYNC_H
#define MILLRACE_CLIENT_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* False: the moment has come. */
static inline bool sync_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t monotonic_us) {
  const struct timespec end = {.tv_sec = monotonic_us / 1000000, .tv_nsec = monotonic_us % 1000000 * 1000};
  return pthread_cond_clockwait(condition, lock, CLOCK_MONOTONIC, &end) == 0;
}

#endif
