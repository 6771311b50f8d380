/* SPDX-License-Identifier: Apache-2.0 */
/* queues.h: queues, their tasks, counters and lanes. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_QUEUES_H
#define MILLRACE_ENGINE_QUEUES_H

#include "engine/state.h"

/* NULL: not in use. */
struct queue *queue_find(struct engine *engine, const char *name);
struct queue *queue_by_number(struct engine *engine, uint32_t number);
/* Finds or makes it. RESOURCE_EXHAUSTED beyond QUEUES_MAX. */
struct queue *queue_get(struct turn *turn, const char *name, struct error *error);
/* NULL: not in use. */
struct task *task_find(struct queue *queue, const char *name);
struct task *task_by_number(struct queue *queue, uint32_t number);
/* Finds or makes it. RESOURCE_EXHAUSTED beyond TASKS_PER_QUEUE_MAX. */
struct task *task_get(struct turn *turn, struct queue *queue, const char *name, struct error *error);
void queue_set_settings(struct queue *queue, const Millrace__V1__QueueSettings *message);
void queue_touch(struct turn *turn, struct queue *queue); /* its record changed */
void queue_count(struct engine *engine, struct queue *queue, enum job_state state, int by);
uint64_t queue_length(const struct queue *queue); /* jobs that have not ended */
void queue_rate_created(struct queue *queue, int64_t now_ms);
void queue_rate_finished(struct queue *queue, int64_t now_ms);
/* The last hour, oldest first; the last one still runs. False: nothing happened. */
bool queue_minutes(const struct queue *queue, int64_t now_ms, struct rate_slot out_minutes[static RATE_MINUTES]);
bool queue_is_empty(const struct queue *queue); /* no jobs of any state */
/* Forgets it and its rows. */
void queue_delete(struct turn *turn, struct queue *queue);
void queue_free(struct queue *queue);
/* Writes what changed: queue, counters, lanes. */
void queues_write(struct turn *turn);
enum status queues_recover(struct engine *engine, struct error *error);

/* ---- lanes ---- */
/* The lane of a job; made on demand. NULL: LANES_MAX. */
struct lane *lane_of(struct engine *engine, struct queue *queue, struct task *task, uint8_t priority);
/* Makes sure that there is one for jobs that become ready later, also after a restart. False: there are too many. */
bool lane_keep(struct turn *turn, struct queue *queue, struct task *task, uint8_t priority);
/* A job became ready. True: it stands in the window. */
bool lane_insert(struct turn *turn, struct lane *lane, uint64_t sequence, const struct id *id);
/* It is ready no more. */
void lane_remove(struct turn *turn, struct lane *lane, uint64_t sequence);
/* A lane whose window is empty knows only that none of its jobs comes before its head: reads the window. True: it has moved among
 * the queue's active ones. */
bool lane_look(struct turn *turn, struct lane *lane);
/* The first ready job, read from the store when the window is empty; NULL: none can be told now. */
const struct ready *lane_first(struct turn *turn, struct lane *lane);
/* The ids of the first jobs of the window, at most `most`. */
size_t lane_ahead(const struct lane *lane, struct id *out_ids, size_t most);
/* Puts the lane where it belongs among the queue's active ones. */
void lane_sort(struct engine *engine, struct lane *lane);
void lane_free(struct lane *lane);
/* The oldest ready job of the queue became ready then; 0: none. */
int64_t queue_oldest_ready_ms(struct turn *turn, struct queue *queue);

#endif
