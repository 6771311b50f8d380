/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/meters.h"

#include <string.h>

#include "engine/dispatch.h"
#include "engine/queues.h"
#include "engine/sessions.h"
#include "engine/turn.h"

const struct histogram_scale scale_ms = {.count = 14,
                                         .bounds = {1, 5, 10, 50, 100, 500, SECOND_MS, 5 * SECOND_MS, 10 * SECOND_MS,
                                                    30 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS, HOUR_MS},
                                         .unit = 1e-3};
const struct histogram_scale scale_us = {
    .count = 13, .bounds = {50, 100, 250, 500, 1000, 2500, 5000, 10000, 50000, 100000, 500000, 1000000, 10000000}, .unit = 1e-6};
const struct histogram_scale scale_count = {.count = 9, .bounds = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536}, .unit = 1};

/* ---- who has a meter ---- */

void meters_init(struct meters *meters) {
  *meters = (struct meters){.other = g_new0(struct queue_meter, 1)};
}

void meters_release(struct meters *meters) {
  g_free(meters->other);
}

void meters_add_queue(struct meters *meters, struct queue *queue) {
  if (meters->queues >= METERED_QUEUES_MAX || strcmp(queue->name, METERED_OTHER) == 0) {
    queue->meter = meters->other;
    return;
  }
  queue->meter = g_new0(struct queue_meter, 1);
  queue->meter->is_own = true;
  meters->queues++;
}

struct task_meter *meters_add_task(struct meters *meters, struct queue *queue, struct task *task) {
  if (!queue->meter->is_own || meters->tasks >= METERED_TASKS_MAX || strcmp(task->name, METERED_OTHER) == 0) {
    task->meter = &queue->meter->other;
  } else {
    task->meter = g_new0(struct task_meter, 1);
    task->meter->is_own = true;
    meters->tasks++;
  }
  return task->meter;
}

void meters_remove_queue(struct meters *meters, const struct queue *queue) {
  meters->queues -= queue->meter->is_own;
  for (guint i = 0; i < queue->tasks->len; i++) {
    const struct task *task = g_ptr_array_index(queue->tasks, i);
    meters->tasks -= task && task->meter && task->meter->is_own;
  }
}

void meters_free_queue(struct queue *queue) {
  for (guint i = 0; i < queue->tasks->len; i++) {
    struct task *task = g_ptr_array_index(queue->tasks, i);
    if (task && task->meter && task->meter->is_own)
      g_free(task->meter);
  }
  if (queue->meter->is_own)
    g_free(queue->meter);
}

/* ---- reading ---- */

/* What two threads share until the last of them lets go. */
struct asked {
  struct engine_task task;
  struct readings *readings; /* NULL: the engine stops */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool ready;
  bool given_up;
};

static void read_lanes(const struct queue *queue, int64_t now_ms, struct queue_reading *reading) {
  for (guint i = 0; i < queue->tasks->len; i++) {
    const struct task *task = g_ptr_array_index(queue->tasks, i);
    for (int p = 0; task && p < PRIORITIES; p++) {
      const struct lane *lane = task->lanes[p];
      if (!lane || lane->ready == 0)
        continue;
      if (!task->served)
        reading->without_worker += lane->ready;
      /* The remembered head rather than the store's: nothing may be read here. It is never too young. */
      reading->oldest_age_ms = MAX(reading->oldest_age_ms, MAX(now_ms - sequence_time_ms(lane->head), 1));
    }
  }
}

static void read_tasks(struct readings *readings, const struct queue *queue) {
  for (guint i = 0; i < queue->tasks->len; i++) {
    const struct task *task = g_ptr_array_index(queue->tasks, i);
    if (task && task->meter && task->meter->is_own)
      readings->tasks[readings->task_count++] = (struct task_reading){arena_strdup(readings->arena, queue->name),
                                                                      arena_strdup(readings->arena, task->name), *task->meter};
  }
  if (queue->meter->is_own)
    readings->tasks[readings->task_count++] =
        (struct task_reading){arena_strdup(readings->arena, queue->name), METERED_OTHER, queue->meter->other};
}

static void read_queue(struct turn *turn, struct readings *readings, struct queue *queue) {
  struct queue_reading *reading = &readings->queues[0]; /* all others */
  if (queue->meter->is_own) {
    reading = &readings->queues[readings->queue_count++];
    reading->name = arena_strdup(readings->arena, queue->name);
    reading->paused = queue->paused;
    memcpy(reading->wait_ms, queue->meter->wait_ms, sizeof reading->wait_ms);
  }
  for (int state = 0; state < JOB_STATES; state++)
    reading->jobs[state] += queue->counts[state];
  reading->jobs[JOB_PENDING] += queue->counts[JOB_PARKED];
  dispatch_refresh_served(turn->engine, queue);
  read_lanes(queue, turn->now_ms, reading);
  read_tasks(readings, queue);
}

static void read_queues(struct turn *turn, struct readings *readings) {
  const struct meters *meters = &turn->engine->meters;
  readings->queues = arena_zalloc(readings->arena, (meters->queues + 1) * sizeof *readings->queues);
  readings->tasks = arena_zalloc(readings->arena, (meters->tasks + meters->queues + 1) * sizeof *readings->tasks);
  readings->queues[0].name = METERED_OTHER;
  memcpy(readings->queues[0].wait_ms, meters->other->wait_ms, sizeof meters->other->wait_ms);
  readings->queue_count = 1;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->engine->queues_by_name);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    read_queue(turn, readings, value);
  readings->tasks[readings->task_count++] = (struct task_reading){METERED_OTHER, METERED_OTHER, meters->other->other};
}

static void read_sessions(struct engine *engine, struct readings *readings) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, engine->sessions);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct session *session = value;
    bool takes = session->synced && !session->quiet;
    readings->sessions_disconnected += !session->synced;
    readings->sessions_quiet += session->synced && session->quiet;
    readings->sessions_active += takes;
    readings->credit_used += session->live;
    readings->credit_free += takes ? session_free_slots(session) : 0;
  }
}

static void asked_free(struct asked *asked) {
  pthread_mutex_destroy(&asked->mutex);
  pthread_cond_destroy(&asked->changed);
  g_free(asked);
}

/* The engine's side is done: whoever comes last frees. */
static void asked_ready(void *data) {
  struct asked *asked = data;
  pthread_mutex_lock(&asked->mutex);
  asked->ready = true;
  bool given_up = asked->given_up;
  pthread_cond_signal(&asked->changed);
  pthread_mutex_unlock(&asked->mutex);
  if (given_up) {
    readings_free(asked->readings);
    asked_free(asked);
  }
}

static void read_all(struct turn *turn, struct engine_task *task) {
  struct asked *asked = (struct asked *)(void *)task;
  if (!turn) {
    asked_ready(asked);
    return;
  }
  struct engine *engine = turn->engine;
  struct arena *arena = arena_new(0);
  struct readings *readings = arena_zalloc(arena, sizeof *readings);
  readings->arena = arena;
  readings->statistics = engine->statistics;
  readings->statistics.mailbox_depth = mailbox_count(&engine->mailbox);
  engine->statistics.turn_ms_max = 0; /* a new maximum for the next reading */
  readings->schedules = (uint64_t)g_tree_nnodes(engine->schedules);
  readings->lateness_ms = engine->meters.lateness_ms;
  readings->batch_rows = engine->meters.batch_rows;
  readings->write_us = engine->meters.write_us;
  syncer_read(engine->syncer, &readings->sync_us);
  read_queues(turn, readings);
  read_sessions(engine, readings);
  asked->readings = readings;
  release_call(turn->release, asked_ready, asked);
}

struct readings *engine_read_meters(struct engine *engine, int64_t wait_ms) {
  struct asked *asked = g_new0(struct asked, 1);
  asked->task.run = read_all;
  pthread_mutex_init(&asked->mutex, NULL);
  pthread_cond_init(&asked->changed, NULL);
  engine_post_back(engine, &asked->task);
  struct timespec until;
  clock_after(wait_ms * 1000, &until);
  pthread_mutex_lock(&asked->mutex);
  while (!asked->ready && pthread_cond_clockwait(&asked->changed, &asked->mutex, CLOCK_MONOTONIC, &until) == 0)
    ;
  bool ready = asked->ready;
  asked->given_up = !ready;
  pthread_mutex_unlock(&asked->mutex);
  if (!ready)
    return NULL;
  struct readings *readings = asked->readings;
  asked_free(asked);
  return readings;
}

void readings_free(struct readings *readings) {
  if (readings)
    arena_free(readings->arena);
}
