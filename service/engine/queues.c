/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/queues.h"

#include <string.h>

#include "core/time.h"
#include "engine/turn.h"
#include "store/walk.h"

/* How far sequences are reserved: after a restart they go on from there, and as they tell when a job became ready, its age must
 * not be wrong by more than this. */
#define MARK_AHEAD_MS SECOND_MS

struct queue *queue_find(struct engine *engine, const char *name) {
  return g_hash_table_lookup(engine->queues_by_name, name);
}

struct queue *queue_by_number(struct engine *engine, uint32_t number) {
  return number < engine->queues->len ? g_ptr_array_index(engine->queues, number) : NULL;
}

static struct queue *queue_add(struct engine *engine, uint32_t number, const char *name) {
  struct queue *queue = g_new0(struct queue, 1);
  queue->number = number;
  queue->name = g_strdup(name);
  queue->tasks = g_ptr_array_new();
  queue->tasks_by_name = g_hash_table_new(g_str_hash, g_str_equal);
  queue->subscriptions = g_ptr_array_new();
  queue->settings_message = g_new(Millrace__V1__QueueSettings, 1);
  millrace__v1__queue_settings__init(queue->settings_message);
  Millrace__V1__QueueSettings defaults = MILLRACE__V1__QUEUE_SETTINGS__INIT;
  queue_set_settings(queue, &defaults);
  if (number >= engine->queues->len)
    g_ptr_array_set_size(engine->queues, (gint)number + 1);
  engine->queues->pdata[number] = queue;
  g_hash_table_insert(engine->queues_by_name, queue->name, queue);
  meters_add_queue(&engine->meters, queue);
  return queue;
}

struct queue *queue_get(struct turn *turn, const char *name, struct error *error) {
  struct engine *engine = turn->engine;
  if (!*name)
    name = QUEUE_DEFAULT;
  struct queue *queue = queue_find(engine, name);
  if (queue)
    return queue;
  if (g_hash_table_size(engine->queues_by_name) >= QUEUES_MAX) {
    error_set(error, STATUS_RESOURCE_EXHAUSTED, "queue", "there are %d queues already, the most that can be; delete unused ones",
              QUEUES_MAX);
    return NULL;
  }
  queue = queue_add(engine, engine->next_queue++, name);
  queue->created_ms = turn->now_ms;
  queue_touch(turn, queue);
  queue_count(engine, queue, JOB_PENDING, 0);
  return queue;
}

struct task *task_find(struct queue *queue, const char *name) {
  return g_hash_table_lookup(queue->tasks_by_name, name);
}

struct task *task_by_number(struct queue *queue, uint32_t number) {
  return number < queue->tasks->len ? g_ptr_array_index(queue->tasks, number) : NULL;
}

static struct task *task_add(struct queue *queue, uint32_t number, const char *name) {
  struct task *task = g_new0(struct task, 1);
  task->number = number;
  task->name = g_strdup(name);
  if (number >= queue->tasks->len)
    g_ptr_array_set_size(queue->tasks, (gint)number + 1);
  queue->tasks->pdata[number] = task;
  g_hash_table_insert(queue->tasks_by_name, task->name, task);
  queue->servers_changed = true;
  return task;
}

struct task *task_get(struct turn *turn, struct queue *queue, const char *name, struct error *error) {
  struct task *task = task_find(queue, name);
  if (task)
    return task;
  if (queue->tasks->len >= TASKS_PER_QUEUE_MAX) {
    error_set(error, STATUS_RESOURCE_EXHAUSTED, "task",
              "queue '%s' has %d tasks already, the most that can be; use another queue", queue->name, TASKS_PER_QUEUE_MAX);
    return NULL;
  }
  task = task_add(queue, queue->tasks->len, name);
  queue_touch(turn, queue);
  struct key key;
  key_task(&key, queue->number, task->number);
  Millrace__Store__V1__TaskRecord record = MILLRACE__STORE__V1__TASK_RECORD__INIT;
  record.name = task->name;
  store_batch_put(turn->batch, FAMILY_QUEUES, key_slice(&key), record_pack(&record.base, turn->arena));
  return task;
}

static void message_free(void *message) {
  if (message)
    protobuf_c_message_free_unpacked(message, NULL);
}

void queue_set_settings(struct queue *queue, const Millrace__V1__QueueSettings *message) {
  size_t bytes = millrace__v1__queue_settings__get_packed_size(message);
  uint8_t *packed = g_malloc(bytes + 1);
  millrace__v1__queue_settings__pack(message, packed);
  message_free(queue->settings_message);
  queue->settings_message = millrace__v1__queue_settings__unpack(NULL, bytes, packed);
  g_free(packed);
  const Millrace__V1__QueueSettings *set = queue->settings_message;
  queue->settings.weighted = set->mode == MILLRACE__V1__QUEUE_MODE__QUEUE_MODE_WEIGHTED;
  queue->settings.length_max = set->max_length ? set->max_length->value : 0;
  queue->settings.running_max = set->max_running ? set->max_running->value : 0;
  const bool had_rate = queue->settings.rate > 0;
  queue->settings.rate = set->rate_per_second ? set->rate_per_second->value : 0;
  queue->settings.burst = set->rate_burst && set->rate_burst->value ? set->rate_burst->value : MAX(queue->settings.rate, 1);
  queue->settings.retention_ms = set->retention ? time_from_duration(set->retention) : RETENTION_DEFAULT_MS;
  queue->settings.retention_failed_ms =
      set->retention_failed ? time_from_duration(set->retention_failed) : RETENTION_FAILED_DEFAULT_MS;
  queue->settings.retention_count =
      set->retention_count && set->retention_count->value ? set->retention_count->value : RETENTION_COUNT_DEFAULT;
  struct arena *arena = arena_new(0);
  g_free((void *)queue->settings.policy.delays_ms);
  queue->settings.policy = policy_from_api(set->retry_policy, set->attempt_timeout, arena);
  queue->settings.policy.delays_ms =
      g_memdup2(queue->settings.policy.delays_ms, queue->settings.policy.delays * sizeof *queue->settings.policy.delays_ms);
  arena_free(arena);
  /* What has been used up stays so, or any change of the settings would let a burst through. */
  queue->tokens = had_rate ? MIN(queue->tokens, queue->settings.burst) : queue->settings.burst;
}

void queue_touch(struct turn *turn, struct queue *queue) {
  queue->record_dirty = true;
  g_hash_table_add(turn->engine->dirty_queues, queue);
}

void queue_count(struct engine *engine, struct queue *queue, enum job_state state, int by) {
  g_assert(by >= 0 || queue->counts[state] >= (uint64_t)-by);
  queue->counts[state] += (uint64_t)(int64_t)by;
  if (!queue->counters_dirty) {
    queue->counters_dirty = true;
    g_hash_table_add(engine->dirty_queues, queue);
  }
}

uint64_t queue_length(const struct queue *queue) {
  const uint64_t *counts = queue->counts;
  return counts[JOB_SCHEDULED] + counts[JOB_PENDING] + counts[JOB_PARKED] + counts[JOB_RUNNING] + counts[JOB_RETRYING] +
         counts[JOB_BLOCKED];
}

bool queue_is_empty(const struct queue *queue) {
  for (int state = 0; state < JOB_STATES; state++)
    if (queue->counts[state])
      return false;
  return true;
}

/* Adds a second to its minute, unless that has passed for an hour. */
static void minutes_add(struct rate_slot minutes[static RATE_MINUTES], const struct rate_slot *second) {
  int64_t number = second->number / RATE_SECONDS;
  struct rate_slot *minute = &minutes[(uint64_t)number % RATE_MINUTES];
  if (minute->number < number)
    *minute = (struct rate_slot){.number = number};
  if (minute->number > number)
    return;
  minute->created += second->created;
  minute->finished += second->finished;
}

static struct rate_slot *rate_slot(struct queue *queue, int64_t now_ms) {
  int64_t second = now_ms / 1000;
  struct rate_slot *slot = &queue->rates[(uint64_t)second % RATE_SECONDS];
  if (slot->number != second) {
    minutes_add(queue->minutes, slot);
    *slot = (struct rate_slot){.number = second};
  }
  return slot;
}

bool queue_minutes(const struct queue *queue, int64_t now_ms, struct rate_slot out_minutes[static RATE_MINUTES]) {
  struct rate_slot ring[RATE_MINUTES];
  memcpy(ring, queue->minutes, sizeof ring);
  for (int i = 0; i < RATE_SECONDS; i++)
    minutes_add(ring, &queue->rates[i]);
  int64_t first = now_ms / MINUTE_MS - RATE_MINUTES + 1;
  bool any = false;
  for (int i = 0; i < RATE_MINUTES; i++) {
    const struct rate_slot *minute = &ring[(uint64_t)(first + i) % RATE_MINUTES];
    out_minutes[i] = minute->number == first + i ? *minute : (struct rate_slot){.number = first + i};
    any = any || out_minutes[i].created || out_minutes[i].finished;
  }
  return any;
}

void queue_rate_created(struct queue *queue, int64_t now_ms) {
  rate_slot(queue, now_ms)->created++;
}

void queue_rate_finished(struct queue *queue, int64_t now_ms) {
  rate_slot(queue, now_ms)->finished++;
}

void queue_free(struct queue *queue) {
  if (!queue)
    return;
  meters_free_queue(queue);
  for (guint i = 0; i < queue->tasks->len; i++) {
    struct task *task = task_by_number(queue, i);
    if (!task)
      continue;
    for (int p = 0; p < PRIORITIES; p++)
      lane_free(task->lanes[p]);
    g_free(task->name);
    g_free(task);
  }
  for (int p = 0; p < PRIORITIES; p++)
    heap_release(&queue->active[p]);
  g_ptr_array_free(queue->tasks, TRUE);
  g_hash_table_destroy(queue->tasks_by_name);
  g_ptr_array_free(queue->subscriptions, TRUE);
  message_free(queue->settings_message);
  g_free((void *)queue->settings.policy.delays_ms);
  g_free(queue->name);
  g_free(queue);
}

void queue_delete(struct turn *turn, struct queue *queue) {
  struct engine *engine = turn->engine;
  struct key key;
  for (guint i = 0; i < queue->tasks->len; i++) {
    struct task *task = task_by_number(queue, i);
    if (!task)
      continue;
    key_task(&key, queue->number, task->number);
    store_batch_delete(turn->batch, FAMILY_QUEUES, key_slice(&key));
    for (int p = 0; p < PRIORITIES; p++) {
      if (!task->lanes[p])
        continue;
      key_lane(&key, queue->number, task->lanes[p]->priority, task->number);
      store_batch_delete(turn->batch, FAMILY_QUEUES, key_slice(&key));
      g_ptr_array_remove_fast(engine->dirty_lanes, task->lanes[p]);
      engine->lanes--;
    }
  }
  key_counters(&key, queue->number);
  store_batch_delete(turn->batch, FAMILY_QUEUES, key_slice(&key));
  key_queue(&key, queue->number);
  store_batch_delete(turn->batch, FAMILY_QUEUES, key_slice(&key));
  g_hash_table_remove(engine->dirty_queues, queue);
  g_hash_table_remove(engine->queues_by_name, queue->name);
  engine->queues->pdata[queue->number] = NULL;
  meters_remove_queue(&engine->meters, queue);
  release_call(turn->release, (void (*)(void *))queue_free, queue); /* replies on their way name it */
}

static void counters_write(struct turn *turn, struct queue *queue) {
  const uint64_t *counts = queue->counts;
  Millrace__Store__V1__QueueCountersRecord record = MILLRACE__STORE__V1__QUEUE_COUNTERS_RECORD__INIT;
  record.pending = counts[JOB_PENDING] + counts[JOB_PARKED];
  record.parked = counts[JOB_PARKED];
  record.scheduled = counts[JOB_SCHEDULED];
  record.retrying = counts[JOB_RETRYING];
  record.blocked = counts[JOB_BLOCKED];
  record.running = counts[JOB_RUNNING];
  record.succeeded = counts[JOB_SUCCEEDED];
  record.failed = counts[JOB_FAILED];
  record.cancelled = counts[JOB_CANCELLED];
  record.expired = counts[JOB_EXPIRED];
  struct key key;
  key_counters(&key, queue->number);
  store_batch_put(turn->batch, FAMILY_QUEUES, key_slice(&key), record_pack(&record.base, turn->arena));
}

static void record_write(struct turn *turn, struct queue *queue) {
  Millrace__Store__V1__QueueRecord record = MILLRACE__STORE__V1__QUEUE_RECORD__INIT;
  record.name = queue->name;
  record.settings = queue->settings_message;
  record.paused = queue->paused;
  record.next_task = queue->tasks->len;
  record.created_ms = queue->created_ms;
  struct key key;
  key_queue(&key, queue->number);
  store_batch_put(turn->batch, FAMILY_QUEUES, key_slice(&key), record_pack(&record.base, turn->arena));
}

static void marks_write(struct turn *turn) {
  struct engine *engine = turn->engine;
  Millrace__Store__V1__MarksRecord record = MILLRACE__STORE__V1__MARKS_RECORD__INIT;
  record.sequence = engine->sequence_mark;
  record.next_queue = engine->next_queue;
  struct key key;
  key_meta(&key, "marks");
  store_batch_put(turn->batch, FAMILY_META, key_slice(&key), record_pack(&record.base, turn->arena));
}

void queues_write(struct turn *turn) {
  struct engine *engine = turn->engine;
  bool marks = false;
  GHashTableIter iter;
  gpointer item;
  g_hash_table_iter_init(&iter, engine->dirty_queues);
  while (g_hash_table_iter_next(&iter, &item, NULL)) {
    struct queue *queue = item;
    if (queue->record_dirty) {
      record_write(turn, queue);
      marks = true;
    }
    if (queue->counters_dirty)
      counters_write(turn, queue);
    queue->record_dirty = queue->counters_dirty = false;
  }
  g_hash_table_remove_all(engine->dirty_queues);
  for (guint i = 0; i < engine->dirty_lanes->len; i++) {
    struct lane *lane = g_ptr_array_index(engine->dirty_lanes, i);
    Millrace__Store__V1__LaneRecord record = MILLRACE__STORE__V1__LANE_RECORD__INIT;
    record.ready = lane->ready;
    record.head = lane->head;
    struct key key;
    key_lane(&key, lane->queue->number, lane->priority, lane->task->number);
    store_batch_put(turn->batch, FAMILY_QUEUES, key_slice(&key), record_pack(&record.base, turn->arena));
    lane->dirty = false;
    lane->unwritten_first = UINT64_MAX;
  }
  g_ptr_array_set_size(engine->dirty_lanes, 0);
  if (engine->sequence >= engine->sequence_mark) {
    engine->sequence_mark = engine->sequence + ((uint64_t)MARK_AHEAD_MS << 20);
    marks = true;
  }
  if (marks)
    marks_write(turn);
}

/* ---- recovery ---- */

static void recover_counts(struct queue *queue, const Millrace__Store__V1__QueueCountersRecord *record) {
  uint64_t *counts = queue->counts;
  counts[JOB_PARKED] = record->parked;
  counts[JOB_PENDING] = record->pending - record->parked;
  counts[JOB_SCHEDULED] = record->scheduled;
  counts[JOB_RETRYING] = record->retrying;
  counts[JOB_BLOCKED] = record->blocked;
  counts[JOB_RUNNING] = record->running;
  counts[JOB_SUCCEEDED] = record->succeeded;
  counts[JOB_FAILED] = record->failed;
  counts[JOB_CANCELLED] = record->cancelled;
  counts[JOB_EXPIRED] = record->expired;
}

struct recovery {
  struct engine *engine;
  struct arena *arena;
  char kind; /* the rows looked at this time: tasks need their queue, lanes their task */
};

static enum status recover_row(void *context, const struct store_row *row, struct error *error) {
  struct recovery *recovery = context;
  struct engine *engine = recovery->engine;
  char kind = recovery->kind;
  arena_reset(recovery->arena);
  char row_kind;
  uint32_t number, task_number = 0;
  uint8_t priority = 0;
  if (!key_read_queues(row->key, &row_kind, &number, &priority, &task_number))
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family queues holds a key that is none of ours");
  if (row_kind != kind)
    return STATUS_OK;
  const ProtobufCMessageDescriptor *type = kind == 'q'   ? &millrace__store__v1__queue_record__descriptor
                                           : kind == 't' ? &millrace__store__v1__task_record__descriptor
                                           : kind == 'c' ? &millrace__store__v1__queue_counters_record__descriptor
                                                         : &millrace__store__v1__lane_record__descriptor;
  ProtobufCMessage *message;
  enum status status = record_unpack(type, row->value, recovery->arena, &message, error);
  if (status != STATUS_OK)
    return status;
  if (kind == 'q') {
    const Millrace__Store__V1__QueueRecord *record = (void *)message;
    struct queue *queue = queue_add(engine, number, record->name);
    queue->paused = record->paused;
    queue->created_ms = record->created_ms;
    if (record->settings)
      queue_set_settings(queue, record->settings);
    engine->next_queue = MAX(engine->next_queue, number + 1);
    return STATUS_OK;
  }
  struct queue *queue = queue_by_number(engine, number);
  if (!queue)
    return error_set(error, STATUS_DATA_LOSS, NULL, "queue number %u has counters or tasks but no record", number);
  if (kind == 't') {
    task_add(queue, task_number, ((Millrace__Store__V1__TaskRecord *)(void *)message)->name);
  } else if (kind == 'c') {
    recover_counts(queue, (void *)message);
  } else {
    struct task *task = task_by_number(queue, task_number);
    if (!task)
      return error_set(error, STATUS_DATA_LOSS, NULL, "queue '%s' has a lane of task number %u, which has no record", queue->name,
                       task_number);
    struct lane *lane = lane_of(engine, queue, task, priority);
    lane->ready = ((Millrace__Store__V1__LaneRecord *)(void *)message)->ready;
    lane->head = ((Millrace__Store__V1__LaneRecord *)(void *)message)->head;
    lane->beyond = lane->ready > 0;
  }
  return STATUS_OK;
}

enum status queues_recover(struct engine *engine, struct error *error) {
  struct recovery recovery = {.engine = engine, .arena = arena_new(0)};
  enum status status = STATUS_OK;
  for (const char *kind = "qtcl"; *kind && status == STATUS_OK; kind++) {
    struct walk walk = {.store = engine->store};
    recovery.kind = *kind;
    status = walk_family(&walk, FAMILY_QUEUES, recover_row, &recovery, error);
  }
  arena_free(recovery.arena);
  if (status != STATUS_OK)
    return status;
  struct key key;
  key_meta(&key, "marks");
  struct store_get get = {.family = FAMILY_META, .key = key_slice(&key)};
  status = store_get_many(engine->store, NULL, &get, 1, error);
  if (status != STATUS_OK || !get.value.data)
    return status;
  struct arena *arena = arena_new(0);
  ProtobufCMessage *message;
  status = record_unpack(&millrace__store__v1__marks_record__descriptor, get.value, arena, &message, error);
  if (status == STATUS_OK) {
    const Millrace__Store__V1__MarksRecord *record = (void *)message;
    engine->sequence = engine->sequence_mark = record->sequence;
    engine->next_queue = MAX(engine->next_queue, record->next_queue);
  }
  arena_free(arena);
  store_gets_release(&get, 1);
  return status;
}
