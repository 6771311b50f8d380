/* SPDX-License-Identifier: Apache-2.0 */
/* meters.h: what the engine counts for the monitor. On the hot path its thread adds to integers in arrays, no more: no lock, no
 * name, no formatting. A reading is a copy of all of them, taken by that thread between two requests when the monitor asks, and
 * handed out once what it tells of is durable.
 *
 * Names come from outside, so the series are bounded: the first METERED_QUEUES_MAX queues and METERED_TASKS_MAX tasks in use have
 * their own, all others together are METERED_OTHER. So is a queue or task that is really called so.
 *
 * Threads: readings from any but the engine's own; the rest is the engine's. Errors: a reading that does not come is NULL. */
#ifndef MILLRACE_ENGINE_METERS_H
#define MILLRACE_ENGINE_METERS_H

#include "core/arena.h"
#include "core/job.h"
#include "core/limits.h"
#include "engine/engine.h"

#define METERED_OTHER "other"

/* ---- histograms ---- */

enum { HISTOGRAM_BOUNDS_MAX = 16 };

struct histogram_scale {
  size_t count;
  int64_t bounds[HISTOGRAM_BOUNDS_MAX]; /* rising; a value on a bound is within it */
  double unit;                          /* what 1 is in the unit of the metric */
};
extern const struct histogram_scale scale_ms; /* jobs and schedules: 1 ms to 1 h, in seconds */
extern const struct histogram_scale scale_us; /* the disk: 50 us to 10 s, in seconds */
extern const struct histogram_scale scale_count;

struct histogram {
  uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* the last one in use: beyond all bounds */
  uint64_t sum;
};

static inline void histogram_add(struct histogram *histogram, const struct histogram_scale *scale, int64_t value) {
  size_t at = 0;
  while (at < scale->count && value > scale->bounds[at])
    at++;
  histogram->counts[at]++;
  histogram->sum += value > 0 ? (uint64_t)value : 0;
}

/* ---- readings ---- */

enum { METERED_PRIORITIES = 4, METERED_ENDS = JOB_EXPIRED - JOB_SUCCEEDED + 1 };

struct task_meter {
  uint64_t created[METERED_PRIORITIES];                /* LOW, NORMAL, HIGH, CRITICAL */
  uint64_t finished[METERED_PRIORITIES][METERED_ENDS]; /* SUCCEEDED, FAILED, CANCELLED, EXPIRED */
  struct histogram run_ms;                             /* of attempts */
  bool is_own;                                         /* of one task alone */
};

struct task_reading {
  const char *queue;
  const char *task;
  struct task_meter meter;
};

struct queue_reading {
  const char *name;
  uint64_t jobs[JOB_STATES]; /* PENDING with those parked */
  uint64_t without_worker;   /* ready, and no attached worker handles the task */
  int64_t oldest_age_ms;     /* of the ready jobs; 0: there is none */
  bool paused;
  struct histogram wait_ms[METERED_PRIORITIES]; /* ready until handed out */
};

struct readings {
  struct arena *arena; /* of all that follows */
  struct engine_statistics statistics;
  struct queue_reading *queues;
  size_t queue_count;
  struct task_reading *tasks;
  size_t task_count;
  uint64_t sessions_active, sessions_quiet, sessions_disconnected;
  uint64_t credit_free, credit_used; /* deliveries that workers would take, and that they hold */
  uint64_t schedules;
  struct histogram lateness_ms; /* of schedules' jobs */
  struct histogram batch_rows;  /* puts and deletes of one write */
  struct histogram write_us;
  struct histogram sync_us;
};

/* Waits at most `wait_ms` for the engine's thread. NULL: it did not answer, or it stops. */
struct readings *engine_read_meters(struct engine *engine, int64_t wait_ms);
void readings_free(struct readings *readings); /* NULL is fine */

/* ---- the engine's side ---- */

struct queue;
struct task;
struct queue_meter;

struct meters {
  struct queue_meter *other; /* of all queues beyond the limit */
  size_t queues;             /* that have their own */
  size_t tasks;
  struct histogram lateness_ms;
  struct histogram batch_rows;
  struct histogram write_us;
};

struct queue_meter {
  struct histogram wait_ms[METERED_PRIORITIES];
  struct task_meter other; /* of its tasks beyond the limit */
  bool is_own;
};

void meters_init(struct meters *meters);
void meters_release(struct meters *meters);
/* A queue came into use, or went: with its tasks. */
void meters_add_queue(struct meters *meters, struct queue *queue);
void meters_remove_queue(struct meters *meters, const struct queue *queue);
/* Frees what stands in the queue and its tasks. */
void meters_free_queue(struct queue *queue);
/* The first job of the task. */
struct task_meter *meters_add_task(struct meters *meters, struct queue *queue, struct task *task);

#endif
