/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/filter.h"

#include <string.h>
#include <xxhash.h>

#include "core/time.h"
#include "engine/queues.h"
#include "engine/schedules.h"
#include "engine/search.h"
#include "engine/turn.h"

/* ---- making ---- */

static int compare_labels(const void *a, const void *b) {
  const Millrace__V1__JobFilter__LabelsEntry *const *x = a;
  const Millrace__V1__JobFilter__LabelsEntry *const *y = b;
  return strcmp((*x)->key, (*y)->key);
}

static int compare_ids(const void *a, const void *b) {
  return id_compare(a, b);
}

static int compare_numbers(const void *a, const void *b) {
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static int compare_places(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static uint64_t place_of(uint32_t queue, uint32_t task) {
  return (uint64_t)queue << 32 | task;
}

static void copy_message(struct filter *filter, const Millrace__V1__JobFilter *message) {
  static const Millrace__V1__JobFilter all = MILLRACE__V1__JOB_FILTER__INIT;
  const struct slice packed = record_pack(message ? &message->base : &all.base, filter->arena);
  filter->message = millrace__v1__job_filter__unpack(arena_protobuf(filter->arena), packed.length, packed.data);
  if (filter->message->n_labels)
    qsort(filter->message->labels, filter->message->n_labels, sizeof *filter->message->labels, compare_labels);
}

/* The queues that are named, or all. */
static GPtrArray *queues_of(const struct filter *filter) {
  const Millrace__V1__JobFilter *message = filter->message;
  GPtrArray *queues = g_ptr_array_new();
  for (size_t i = 0; i < message->n_queues; i++) {
    struct queue *queue = queue_find(filter->engine, message->queues[i]);
    if (queue && !g_ptr_array_find(queues, queue, NULL))
      g_ptr_array_add(queues, queue);
  }
  for (guint i = 0; message->n_queues == 0 && i < filter->engine->queues->len; i++)
    if (queue_by_number(filter->engine, i))
      g_ptr_array_add(queues, queue_by_number(filter->engine, i));
  return queues;
}

static void resolve_names(struct filter *filter) {
  const Millrace__V1__JobFilter *message = filter->message;
  if (message->n_queues + message->n_tasks == 0)
    return;
  GPtrArray *queues = queues_of(filter);
  uint32_t *numbers = arena_alloc(filter->arena, queues->len * sizeof *numbers);
  uint64_t *places = arena_alloc(filter->arena, queues->len * message->n_tasks * sizeof *places);
  for (guint i = 0; i < queues->len; i++) {
    struct queue *queue = g_ptr_array_index(queues, i);
    numbers[filter->queue_count++] = queue->number;
    for (size_t j = 0; j < message->n_tasks; j++) {
      const struct task *task = task_find(queue, message->tasks[j]);
      if (task)
        places[filter->place_count++] = place_of(queue->number, task->number);
    }
  }
  qsort(numbers, filter->queue_count, sizeof *numbers, compare_numbers);
  qsort(places, filter->place_count, sizeof *places, compare_places);
  filter->queues = numbers;
  filter->places = places;
  g_ptr_array_free(queues, TRUE);
}

static void resolve_sets(struct filter *filter) {
  const Millrace__V1__JobFilter *message = filter->message;
  for (size_t i = 0; i < message->n_states; i++)
    filter->states |=
        message->states[i] == MILLRACE__V1__JOB_STATE__JOB_STATE_UNSPECIFIED ? FILTER_STATES_ALL : 1U << message->states[i];
  if (message->n_states == 0) /* only those that failed, or did at their last attempt, have a fingerprint */
    filter->states = message->error_fingerprint[0] ? 1U << JOB_FAILED | 1U << JOB_RETRYING : FILTER_STATES_ALL;
  for (size_t i = 0; i < message->n_priorities; i++)
    filter->priorities |= 1U << (message->priorities[i] == MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW
                                     ? 0
                                     : priority_index((uint8_t)message->priorities[i]));
  if (message->n_priorities == 0)
    filter->priorities = (1U << PRIORITIES) - 1;
  filter->created_from_ms = message->created_after ? time_from_timestamp(message->created_after) : INT64_MIN;
  filter->created_until_ms = message->created_before ? time_from_timestamp(message->created_before) : INT64_MAX;
}

static enum status resolve_id(const char *text, const char *field, struct id *out_id, struct error *error) {
  if (text[0] && !id_parse(text, out_id))
    return error_set(error, STATUS_INVALID_ARGUMENT, field, "'%s' is not a UUID", text);
  return STATUS_OK;
}

static enum status resolve_ids(struct filter *filter, struct error *error) {
  const Millrace__V1__JobFilter *message = filter->message;
  enum status status;
  if ((status = resolve_id(message->batch_id, "filter.batch_id", &filter->batch_id, error)) ||
      (status = resolve_id(message->chain_id, "filter.chain_id", &filter->chain_id, error)))
    return status;
  struct id *ids = arena_zalloc(filter->arena, message->n_ids * sizeof *ids);
  for (size_t i = 0; i < message->n_ids; i++)
    if ((status = resolve_id(message->ids[i], "filter.ids", &ids[i], error)))
      return status;
  qsort(ids, message->n_ids, sizeof *ids, compare_ids);
  for (size_t i = 0; i < message->n_ids; i++)
    if (i == 0 || !id_equal(&ids[i], &ids[filter->id_count - 1]))
      ids[filter->id_count++] = ids[i];
  filter->ids = ids;
  return STATUS_OK;
}

struct filter *filter_new(struct engine *engine, const Millrace__V1__JobFilter *message, struct error *error) {
  assert_engine_thread(engine);
  struct arena *arena = arena_new(0);
  struct filter *filter = arena_zalloc(arena, sizeof *filter);
  filter->arena = arena;
  filter->engine = engine;
  copy_message(filter, message);
  if (resolve_ids(filter, error) != STATUS_OK) {
    filter_free(filter);
    return NULL;
  }
  resolve_sets(filter);
  resolve_names(filter);
  struct id uid;
  if (filter->message->schedule_name[0] && schedule_uid(engine, filter->message->schedule_name, &uid))
    filter->schedule_uid = uid;
  return filter;
}

void filter_free(struct filter *filter) {
  if (filter)
    arena_free(filter->arena);
}

void filter_restrict(struct filter *filter, unsigned states) {
  filter->states &= states;
}

uint64_t filter_hash(const struct filter *filter) {
  struct arena *arena = arena_new(0);
  const struct slice packed = record_pack(&filter->message->base, arena);
  const uint64_t hash = XXH3_64bits(packed.data, packed.length);
  arena_free(arena);
  return hash;
}

/* ---- asking ---- */

static bool matches_labels(const Millrace__V1__JobFilter *message, const struct job *job) {
  for (size_t i = 0; i < message->n_labels; i++) {
    bool found = false;
    for (size_t j = 0; j < job->label_count && !found; j++)
      found = strcmp(job->labels[j].key, message->labels[i]->key) == 0 &&
              strcmp(job->labels[j].value, message->labels[i]->value) == 0;
    if (!found)
      return false;
  }
  return true;
}

static bool matches_id(const struct id *wanted, const struct id *id) {
  return id_is_zero(wanted) || id_equal(wanted, id);
}

/* What both kinds of questions have in common: all but place, state, priority and error. */
static bool matches_rest(const struct filter *filter, const struct job *job) {
  const Millrace__V1__JobFilter *message = filter->message;
  return job->state != JOB_DELETED && job->created_ms >= filter->created_from_ms && job->created_ms < filter->created_until_ms &&
         matches_id(&filter->batch_id, &job->batch_id) && matches_id(&filter->chain_id, &job->chain_id) &&
         (!message->schedule_name[0] || strcmp(message->schedule_name, job->schedule_name) == 0) &&
         (message->n_ids == 0 || bsearch(&job->id, filter->ids, filter->id_count, sizeof *filter->ids, compare_ids)) &&
         matches_labels(message, job);
}

bool filter_matches_place(const struct filter *filter, uint32_t queue, uint32_t task) {
  if (filter->message->n_tasks) {
    const uint64_t place = place_of(queue, task);
    return bsearch(&place, filter->places, filter->place_count, sizeof place, compare_places);
  }
  return filter->message->n_queues == 0 || bsearch(&queue, filter->queues, filter->queue_count, sizeof queue, compare_numbers);
}

bool filter_matches(const struct filter *filter, const struct job *job) {
  const enum job_state state = job->state == JOB_PARKED ? JOB_PENDING : job->state;
  const char *fingerprint = filter->message->error_fingerprint;
  return filter->states & 1U << state && filter->priorities & 1U << priority_index(job->priority) &&
         (!fingerprint[0] || strcmp(fingerprint, job->error.fingerprint) == 0) &&
         filter_matches_place(filter, job->queue, job->task) && matches_rest(filter, job);
}

static bool is_among(char *const *names, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0)
      return true;
  return count == 0;
}

bool filter_matches_identity(const struct filter *filter, const struct job *job) {
  assert_engine_thread(filter->engine);
  const Millrace__V1__JobFilter *message = filter->message;
  if (!matches_rest(filter, job))
    return false;
  if (message->n_queues + message->n_tasks == 0)
    return true;
  /* By name: those that were not in use when the filter was made count too. */
  struct queue *queue = queue_by_number(filter->engine, job->queue);
  const struct task *task = queue ? task_by_number(queue, job->task) : NULL;
  return task && is_among(message->queues, message->n_queues, queue->name) &&
         is_among(message->tasks, message->n_tasks, task->name);
}

/* Adds those that were not met before and answers whether there is room for all of them. */
static bool add_new(GPtrArray *matches, GHashTable *met, struct entry *entry, size_t most) {
  if (!g_hash_table_add(met, entry))
    return true;
  g_ptr_array_add(matches, entry);
  return matches->len <= most;
}

GPtrArray *filter_matching(struct turn *turn, const struct filter *filter, size_t most, bool *out_all) {
  enum { AT_ONCE = 256 };
  GPtrArray *matches = g_ptr_array_new();
  GHashTable *met = g_hash_table_new(NULL, NULL);
  const size_t used = arena_used(turn->arena);
  bool fits = true;
  /* The store does not know yet what this turn did. */
  for (guint i = 0; i < turn->changed->len && fits; i++) {
    struct entry *entry = g_ptr_array_index(turn->changed, i);
    if (entry->exists && filter_matches(filter, &entry->now))
      fits = add_new(matches, met, entry, most);
  }
  struct search *search = search_new(filter);
  GPtrArray *found = g_ptr_array_new();
  while (fits && search_entries(turn, search, AT_ONCE, found)) {
    for (guint i = 0; i < found->len && fits; i++)
      fits = add_new(matches, met, g_ptr_array_index(found, i), most);
    fits = fits && (search_is_done(search) || search_rows(search) < FILTER_ROWS_MAX) &&
           arena_used(turn->arena) - used < FILTER_BYTES_MAX;
  }
  g_ptr_array_free(found, TRUE);
  search_free(search);
  g_hash_table_destroy(met);
  *out_all = fits;
  return matches;
}
