/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/queue_methods.h"

#include <string.h>

#include "engine/page.h"
#include "engine/queues.h"
#include "engine/turn.h"

static double rate_of(const struct queue *queue, int64_t now_ms, bool created) {
  int64_t second = now_ms / 1000;
  uint64_t sum = 0;
  for (int i = 0; i < RATE_SECONDS; i++)
    if (queue->rates[i].number > second - RATE_SECONDS && queue->rates[i].number <= second)
      sum += created ? queue->rates[i].created : queue->rates[i].finished;
  return (double)sum / RATE_SECONDS;
}

static Millrace__V1__Queue *answer(struct turn *turn, struct queue *queue) {
  struct arena *arena = turn->arena;
  Millrace__V1__Queue *message = MESSAGE(arena, Millrace__V1__Queue, millrace__v1__queue__descriptor);
  Millrace__V1__QueueCounts *counts = MESSAGE(arena, Millrace__V1__QueueCounts, millrace__v1__queue_counts__descriptor);
  message->name = arena_strdup(arena, queue->name);
  size_t bytes = millrace__v1__queue_settings__get_packed_size(queue->settings_message);
  uint8_t *packed = arena_alloc(arena, bytes + 1);
  millrace__v1__queue_settings__pack(queue->settings_message, packed);
  message->settings = millrace__v1__queue_settings__unpack(arena_protobuf(arena), bytes, packed);
  if (!message->settings->mode)
    message->settings->mode = MILLRACE__V1__QUEUE_MODE__QUEUE_MODE_STRICT;
  message->paused = queue->paused;
  message->counts = counts;
  counts->pending = queue->counts[JOB_PENDING] + queue->counts[JOB_PARKED];
  counts->scheduled = queue->counts[JOB_SCHEDULED];
  counts->retrying = queue->counts[JOB_RETRYING];
  counts->blocked = queue->counts[JOB_BLOCKED];
  counts->running = queue->counts[JOB_RUNNING];
  counts->succeeded = queue->counts[JOB_SUCCEEDED];
  counts->failed = queue->counts[JOB_FAILED];
  counts->cancelled = queue->counts[JOB_CANCELLED];
  counts->expired = queue->counts[JOB_EXPIRED];
  int64_t oldest_ms = queue_oldest_ready_ms(turn, queue);
  if (oldest_ms) {
    message->oldest_ready_at = timestamp_new(arena, oldest_ms);
    message->oldest_age = duration_new(arena, MAX(turn->now_ms - oldest_ms, 0));
  }
  for (guint i = 0; i < queue->subscriptions->len; i++)
    message->workers += ((struct subscription *)g_ptr_array_index(queue->subscriptions, i))->session->synced;
  message->created_per_second = rate_of(queue, turn->now_ms, true);
  message->finished_per_second = rate_of(queue, turn->now_ms, false);
  return message;
}

/* A queue that is not in use is shown with zeros. */
static Millrace__V1__Queue *answer_unused(struct turn *turn, const char *name) {
  Millrace__V1__Queue *message = MESSAGE(turn->arena, Millrace__V1__Queue, millrace__v1__queue__descriptor);
  message->name = (char *)name;
  message->counts = MESSAGE(turn->arena, Millrace__V1__QueueCounts, millrace__v1__queue_counts__descriptor);
  message->settings = MESSAGE(turn->arena, Millrace__V1__QueueSettings, millrace__v1__queue_settings__descriptor);
  message->settings->mode = MILLRACE__V1__QUEUE_MODE__QUEUE_MODE_STRICT;
  return message;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(struct queue *const *)a)->name, (*(struct queue *const *)b)->name);
}

void list_queues_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListQueuesRequest *message = (const void *)request->message;
  struct key from;
  struct error error;
  if (!page_start(message->page_token, &from, &error)) {
    reply_error(turn, request, &error);
    return;
  }
  if (from.length == 0)
    from.bytes[0] = 0; /* otherwise it ends with one */
  GPtrArray *all = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->engine->queues_by_name);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if ((strcmp(((struct queue *)value)->name, (const char *)from.bytes) > 0 || from.length == 0) &&
        request_may_use(request, ((struct queue *)value)->name))
      g_ptr_array_add(all, value);
  g_ptr_array_sort(all, by_name);
  Millrace__V1__ListQueuesResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListQueuesResponse, millrace__v1__list_queues_response__descriptor);
  size_t most = page_size(message->page_size);
  response->queues = arena_alloc(turn->arena, (MIN(most, all->len) + 1) * sizeof *response->queues);
  for (guint i = 0; i < all->len && i < most; i++)
    response->queues[response->n_queues++] = answer(turn, g_ptr_array_index(all, i));
  if (all->len > most) {
    const char *last = response->queues[most - 1]->name;
    response->next_page_token = page_token(turn->arena, (struct slice){last, strlen(last)});
  }
  g_ptr_array_free(all, TRUE);
  reply(turn, request, response);
}

static void answer_last_hour(struct turn *turn, const struct queue *queue, Millrace__V1__GetQueueResponse *response) {
  struct rate_slot minutes[RATE_MINUTES];
  if (!queue_minutes(queue, turn->now_ms, minutes))
    return;
  response->last_hour = arena_alloc(turn->arena, RATE_MINUTES * sizeof *response->last_hour);
  for (; response->n_last_hour < RATE_MINUTES; response->n_last_hour++) {
    const struct rate_slot *minute = &minutes[response->n_last_hour];
    Millrace__V1__QueueMinute *message = MESSAGE(turn->arena, Millrace__V1__QueueMinute, millrace__v1__queue_minute__descriptor);
    message->started_at = timestamp_new(turn->arena, minute->number * MINUTE_MS);
    message->created = minute->created;
    message->finished = minute->finished;
    response->last_hour[response->n_last_hour] = message;
  }
}

void get_queue_apply(struct turn *turn, struct request *request) {
  const char *name = ((const Millrace__V1__GetQueueRequest *)(const void *)request->message)->name;
  struct queue *queue = queue_find(turn->engine, name);
  Millrace__V1__GetQueueResponse *response =
      MESSAGE(turn->arena, Millrace__V1__GetQueueResponse, millrace__v1__get_queue_response__descriptor);
  response->queue = queue ? answer(turn, queue) : answer_unused(turn, name);
  if (queue)
    answer_last_hour(turn, queue, response);
  reply(turn, request, response);
}

/* The queue, made if need be; NULL with the request answered. */
static struct queue *get(struct turn *turn, struct request *request, const char *name) {
  struct error error;
  struct queue *queue = queue_get(turn, name, &error);
  if (!queue)
    reply_error(turn, request, &error);
  return queue;
}

void update_queue_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__UpdateQueueRequest *message = (const void *)request->message;
  struct queue *queue = get(turn, request, message->name);
  if (!queue)
    return;
  Millrace__V1__QueueSettings merged = *queue->settings_message;
  const Millrace__V1__QueueSettings *set = message->settings;
  if (set) {
    merged.mode = set->mode ? set->mode : merged.mode;
    merged.max_length = set->max_length ? set->max_length : merged.max_length;
    merged.max_running = set->max_running ? set->max_running : merged.max_running;
    merged.rate_per_second = set->rate_per_second ? set->rate_per_second : merged.rate_per_second;
    merged.rate_burst = set->rate_burst ? set->rate_burst : merged.rate_burst;
    merged.retry_policy = set->retry_policy ? set->retry_policy : merged.retry_policy;
    merged.attempt_timeout = set->attempt_timeout ? set->attempt_timeout : merged.attempt_timeout;
    merged.retention = set->retention ? set->retention : merged.retention;
    merged.retention_failed = set->retention_failed ? set->retention_failed : merged.retention_failed;
    merged.retention_count = set->retention_count ? set->retention_count : merged.retention_count;
  }
  queue_set_settings(queue, &merged);
  queue_touch(turn, queue);
  turn->engine->dispatch_due = true;
  Millrace__V1__UpdateQueueResponse *response =
      MESSAGE(turn->arena, Millrace__V1__UpdateQueueResponse, millrace__v1__update_queue_response__descriptor);
  response->queue = answer(turn, queue);
  reply(turn, request, response);
}

static struct queue *set_paused(struct turn *turn, struct request *request, const char *name, bool paused) {
  struct queue *queue = get(turn, request, name);
  if (!queue)
    return NULL;
  queue->paused = paused;
  queue_touch(turn, queue);
  turn->engine->dispatch_due = true;
  return queue;
}

void pause_queue_apply(struct turn *turn, struct request *request) {
  const char *name = ((const Millrace__V1__PauseQueueRequest *)(const void *)request->message)->name;
  struct queue *queue = set_paused(turn, request, name, true);
  if (!queue)
    return;
  Millrace__V1__PauseQueueResponse *response =
      MESSAGE(turn->arena, Millrace__V1__PauseQueueResponse, millrace__v1__pause_queue_response__descriptor);
  response->queue = answer(turn, queue);
  reply(turn, request, response);
}

void resume_queue_apply(struct turn *turn, struct request *request) {
  const char *name = ((const Millrace__V1__ResumeQueueRequest *)(const void *)request->message)->name;
  struct queue *queue = set_paused(turn, request, name, false);
  if (!queue)
    return;
  Millrace__V1__ResumeQueueResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ResumeQueueResponse, millrace__v1__resume_queue_response__descriptor);
  response->queue = answer(turn, queue);
  reply(turn, request, response);
}

void delete_queue_apply(struct turn *turn, struct request *request) {
  const char *name = ((const Millrace__V1__DeleteQueueRequest *)(const void *)request->message)->name;
  struct queue *queue = queue_find(turn->engine, name);
  if (queue && (!queue_is_empty(queue) || queue->subscriptions->len)) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, "name", "queue '%s' still has %s", name,
                  queue_is_empty(queue) ? "workers" : "jobs (ended ones that are kept included)");
    return;
  }
  if (queue)
    queue_delete(turn, queue);
  reply(turn, request, MESSAGE(turn->arena, Millrace__V1__DeleteQueueResponse, millrace__v1__delete_queue_response__descriptor));
}
