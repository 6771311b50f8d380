/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/turn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/time.h"
#include "engine/batches.h"
#include "engine/bodies.h"
#include "engine/chains.h"
#include "engine/dispatch.h"
#include "engine/job_log.h"
#include "engine/log_lines.h"
#include "engine/queues.h"
#include "engine/running.h"
#include "engine/schedules.h"
#include "engine/sessions.h"
#include "engine/timers.h"
#include "engine/waiters.h"

struct turn *turn_begin(struct engine *engine, int64_t now_ms, int64_t monotonic_ms) {
  struct turn *turn = g_new0(struct turn, 1);
  turn->engine = engine;
  turn->now_ms = now_ms;
  turn->monotonic_ms = monotonic_ms;
  turn->release = release_new();
  turn->arena = turn->release->arena;
  turn->batch = store_batch_new();
  turn->entries = g_hash_table_new(id_hash, id_equal_pointers);
  turn->changed = g_ptr_array_new();
  turn->logged = g_ptr_array_new();
  turn->wanted = g_array_new(FALSE, FALSE, sizeof(struct id));
  return turn;
}

/* ---- loading ---- */

static struct entry *entry_add(struct turn *turn, const struct id *id) {
  struct entry *entry = arena_zalloc(turn->arena, sizeof *entry);
  entry->id = *id;
  entry->before = entry->now = job_empty;
  g_hash_table_insert(turn->entries, &entry->id, entry);
  return entry;
}

static void entry_decode(struct turn *turn, struct entry *entry, struct slice record, enum job_state state) {
  struct error error;
  if (record_unpack_job(&entry->id, record, turn->arena, &entry->before, &error) != STATUS_OK) {
    engine_fail(turn->engine, &error);
    return;
  }
  if (state)
    entry->before.state = state;
  entry->now = entry->before;
  entry->existed = entry->exists = true;
}

static void entry_decode_spec(struct turn *turn, struct entry *entry, struct slice spec) {
  struct error error;
  if (record_unpack_spec(&entry->id, spec, turn->arena, &entry->spec, &error) != STATUS_OK)
    engine_fail(turn->engine, &error);
  else
    entry->spec_loaded = true;
}

/* From memory: running jobs and fresh bodies. False: the store must be asked. */
static bool entry_from_memory(struct turn *turn, const struct id *id) {
  struct running *running = g_hash_table_lookup(turn->engine->running, id);
  if (running) {
    struct slice record = {running->record.data, running->record.length};
    entry_decode(turn, entry_add(turn, id), record, JOB_RUNNING);
    return true;
  }
  struct slice record, spec;
  if (!bodies_get(turn->engine->bodies, id, &record, &spec))
    return false;
  entry_decode(turn, entry_add(turn, id), record, 0);
  return true;
}

/* Not along with the job: it may be big, and most don't ask for it. */
static bool spec_from_memory(struct turn *turn, struct entry *entry) {
  struct slice record, spec;
  if (!bodies_get(turn->engine->bodies, &entry->id, &record, &spec))
    return false;
  entry_decode_spec(turn, entry, spec);
  return entry->spec_loaded;
}

void turn_want(struct turn *turn, const struct id *id) {
  g_array_append_val(turn->wanted, *id);
}

/* Reads `count` rows of one family for entries; those not there stay as they are. */
static void fetch(struct turn *turn, enum family family, struct entry **entries, size_t count) {
  if (count == 0 || turn->engine->failed)
    return;
  struct store_get *gets = g_new0(struct store_get, count);
  for (size_t i = 0; i < count; i++)
    gets[i] = (struct store_get){.family = family, .key = {entries[i]->id.bytes, ID_BYTES}};
  struct error error;
  if (store_get_many(turn->engine->store, NULL, gets, count, &error) != STATUS_OK) {
    engine_fail(turn->engine, &error);
  } else {
    for (size_t i = 0; i < count; i++) {
      if (gets[i].value.data && family == FAMILY_JOBS)
        entry_decode(turn, entries[i], gets[i].value, 0);
      else if (gets[i].value.data)
        entry_decode_spec(turn, entries[i], gets[i].value);
    }
    store_gets_release(gets, count);
  }
  g_free(gets);
}

static void fetch_jobs(struct turn *turn, const struct id *ids, size_t count) {
  struct entry **missing = g_new(struct entry *, count + 1);
  size_t missing_count = 0;
  for (size_t i = 0; i < count; i++) {
    if (!g_hash_table_contains(turn->entries, &ids[i]) && !entry_from_memory(turn, &ids[i]))
      missing[missing_count++] = entry_add(turn, &ids[i]);
  }
  fetch(turn, FAMILY_JOBS, missing, missing_count);
  g_free(missing);
}

void turn_fetch(struct turn *turn) {
  if (turn->wanted->len)
    fetch_jobs(turn, &g_array_index(turn->wanted, struct id, 0), turn->wanted->len);
  g_array_set_size(turn->wanted, 0);
}

void turn_fetch_bodies(struct turn *turn, const struct id *ids, size_t count) {
  fetch_jobs(turn, ids, count);
  struct entry **missing = g_new(struct entry *, count + 1);
  size_t missing_count = 0;
  for (size_t i = 0; i < count; i++) {
    struct entry *entry = g_hash_table_lookup(turn->entries, &ids[i]);
    if (!turn_spec_at_hand(turn, entry))
      missing[missing_count++] = entry;
  }
  fetch(turn, FAMILY_SPECS, missing, missing_count);
  g_free(missing);
}

struct entry *turn_job(struct turn *turn, const struct id *id) {
  struct entry *entry = g_hash_table_lookup(turn->entries, id);
  if (!entry) {
    fetch_jobs(turn, id, 1);
    entry = g_hash_table_lookup(turn->entries, id);
  }
  return entry && entry->exists ? entry : NULL;
}

const struct spec *turn_spec_at_hand(struct turn *turn, struct entry *entry) {
  return entry->spec_loaded || spec_from_memory(turn, entry) ? &entry->spec : NULL;
}

const struct spec *turn_spec(struct turn *turn, struct entry *entry) {
  if (!turn_spec_at_hand(turn, entry))
    fetch(turn, FAMILY_SPECS, &entry, 1);
  return entry->spec_loaded ? &entry->spec : NULL;
}

struct slice turn_get(struct turn *turn, enum family family, const struct key *key) {
  struct store_get get = {.family = family, .key = key_slice(key)};
  struct slice none = {NULL, 0};
  struct error error;
  if (turn->engine->failed)
    return none;
  if (store_get_many(turn->engine->store, NULL, &get, 1, &error) != STATUS_OK) {
    engine_fail(turn->engine, &error);
    return none;
  }
  struct slice value = get.value;
  if (value.data)
    value.data = arena_memdup(turn->arena, value.data, value.length);
  store_gets_release(&get, 1);
  return value;
}

bool turn_scan(struct turn *turn, const struct store_range *range, struct store_rows *out_rows) {
  struct error error;
  if (turn->engine->failed)
    return false;
  if (store_scan(turn->engine->store, NULL, range, out_rows, &error) == STATUS_OK)
    return true;
  engine_fail(turn->engine, &error);
  return false;
}

struct bytes turn_result(struct turn *turn, struct entry *entry) {
  if (!entry->now.result_apart)
    return entry->now.result;
  if (entry->result_new)
    return entry->result;
  struct key key;
  key_id(&key, &entry->id);
  struct slice value = turn_get(turn, FAMILY_RESULTS, &key);
  ProtobufCMessage *message;
  struct error error;
  if (!value.data ||
      record_unpack(&millrace__store__v1__result_record__descriptor, value, turn->arena, &message, &error) != STATUS_OK)
    return (struct bytes){NULL, 0};
  const Millrace__Store__V1__ResultRecord *record = (void *)message;
  return (struct bytes){record->payload.data, record->payload.len};
}

/* ---- unique keys ---- */

static char *unique_name(struct turn *turn, uint32_t queue, const char *key) {
  return arena_printf(turn->arena, "%u/%s", queue, key);
}

static void unique_set(struct turn *turn, const struct job *job, bool held) {
  static const struct id none;
  if (!turn->uniques)
    turn->uniques = g_hash_table_new(g_str_hash, g_str_equal);
  g_hash_table_replace(turn->uniques, unique_name(turn, job->queue, job->unique_key),
                       arena_memdup(turn->arena, held ? &job->id : &none, sizeof(struct id)));
}

struct entry *turn_unique_holder(struct turn *turn, struct queue *queue, const char *unique_key) {
  struct id id;
  const struct id *changed =
      turn->uniques ? g_hash_table_lookup(turn->uniques, unique_name(turn, queue->number, unique_key)) : NULL;
  if (changed) {
    id = *changed;
  } else {
    struct key key;
    key_unique(&key, queue->number, unique_key);
    struct slice value = turn_get(turn, FAMILY_UNIQUE, &key);
    if (value.length != ID_BYTES)
      return NULL;
    memcpy(id.bytes, value.data, ID_BYTES);
  }
  if (id_is_zero(&id))
    return NULL;
  struct entry *holder = turn_job(turn, &id);
  if (!holder || !holder->now.unique_held)
    return NULL;
  if (holder->now.unique_scope == UNIQUE_PERIOD && holder->now.unique_until_ms <= turn->now_ms) {
    struct job next = holder->now;
    next.unique_held = false;
    turn_update(turn, holder, &next);
    return NULL;
  }
  return holder;
}

/* ---- changing ---- */

static void entry_change(struct turn *turn, struct entry *entry) {
  if (entry->changed)
    return;
  entry->changed = true;
  g_ptr_array_add(turn->changed, entry);
}

/* Parked jobs wait for these. One that parks itself gives nothing up: its key is full, and one that ends will tell. */
static bool holds_concurrency(enum job_state state) {
  return state == JOB_PENDING || state == JOB_RUNNING;
}

static bool gives_up_concurrency(const struct job *old, const struct job *next) {
  return old->concurrency_key[0] && holds_concurrency(old->state) &&
         (!next || (!holds_concurrency(next->state) && next->state != JOB_PARKED));
}

/* What a job leaves behind in memory. */
static void leave(struct turn *turn, struct entry *entry, const struct job *old, const struct job *next) {
  struct engine *engine = turn->engine;
  struct queue *queue = queue_by_number(engine, old->queue);
  struct task *task = task_by_number(queue, old->task);
  queue_count(engine, queue, old->state, -1);
  if (old->state == JOB_PENDING)
    lane_remove(turn, lane_of(engine, queue, task, old->priority), old->sequence);
  if (old->state == JOB_RUNNING && (!next || next->state != JOB_RUNNING))
    running_end(turn, g_hash_table_lookup(engine->running, &entry->id));
  if (gives_up_concurrency(old, next))
    dispatch_unpark(turn, old->queue, old->concurrency_key);
  if (old->unique_held && (!next || !next->unique_held))
    unique_set(turn, old, false);
}

static void enter(struct turn *turn, struct entry *entry, const struct job *old, struct job *next) {
  struct engine *engine = turn->engine;
  struct queue *queue = queue_by_number(engine, next->queue);
  struct task *task = task_by_number(queue, next->task);
  queue_count(engine, queue, next->state, 1);
  entry->in_window = false;
  if (next->state == JOB_PENDING)
    entry->in_window = lane_insert(turn, lane_of(engine, queue, task, next->priority), next->sequence, &entry->id);
  if (next->state == JOB_SCHEDULED || next->state == JOB_RETRYING)
    timers_note(engine, next->run_at_ms);
  if (job_is_waiting(next->state)) {
    if (next->expires_at_ms)
      timers_note(engine, next->expires_at_ms);
    if (next->deadline_ms)
      timers_note(engine, next->deadline_ms);
  }
  if (next->unique_held && (!old || !old->unique_held))
    unique_set(turn, next, true);
  if (job_is_terminal(next->state) && (!old || old->state != next->state)) {
    task_meter(engine, queue, task)->finished[priority_index(next->priority)][next->state - JOB_SUCCEEDED]++;
    int64_t retention_ms = next->state == JOB_FAILED ? queue->settings.retention_failed_ms : queue->settings.retention_ms;
    next->delete_at_ms = job_delete_at(next, next->retention_ms >= 0 ? next->retention_ms : retention_ms);
    int64_t *due_ms = &queue->ended_due_ms[next->state == JOB_FAILED];
    *due_ms = MIN(*due_ms, next->delete_at_ms);
    queue_rate_finished(queue, turn->now_ms);
  }
}

/* Those who want to know, after the job stands in its new state. */
static void tell(struct turn *turn, struct entry *entry, enum job_state old) {
  bool ended = job_is_terminal(entry->now.state) && !job_is_terminal(old);
  watches_tell(turn, entry, false); /* before what follows from it */
  if (ended) {
    if (!id_is_zero(&entry->now.chain_id))
      chain_step_ended(turn, entry);
    if (!id_is_zero(&entry->now.batch_id))
      batch_member_ended(turn, entry);
    if (!id_is_zero(&entry->now.schedule_uid))
      schedule_job_ended(turn, entry);
    waiters_job_ended(turn, entry);
  }
}

struct entry *turn_create(struct turn *turn, const struct job *job, const struct spec *spec) {
  struct entry *entry = g_hash_table_lookup(turn->entries, &job->id);
  if (!entry)
    entry = entry_add(turn, &job->id);
  g_assert(!entry->exists);
  entry->now = *job;
  entry->exists = true;
  entry->spec = *spec;
  entry->spec_loaded = entry->spec_new = true;
  entry_change(turn, entry);
  enter(turn, entry, NULL, &entry->now);
  struct queue *queue = queue_by_number(turn->engine, job->queue);
  queue_rate_created(queue, turn->now_ms);
  task_meter(turn->engine, queue, task_by_number(queue, job->task))->created[priority_index(job->priority)]++;
  turn->cost++;
  watches_tell(turn, entry, false);
  return entry;
}

/* A job that waits again takes its key, if that is free. */
static bool takes_unique_again(struct turn *turn, const struct job *old, const struct job *next) {
  return old->state == JOB_RUNNING && job_is_waiting(next->state) && next->unique_scope == UNIQUE_WHILE_WAITING &&
         !turn_unique_holder(turn, queue_by_number(turn->engine, next->queue), next->unique_key);
}

void turn_update(struct turn *turn, struct entry *entry, const struct job *changed) {
  g_assert(entry->exists);
  struct job old = entry->now;
  struct job waits = *changed;
  waits.unique_held |= takes_unique_again(turn, &old, changed);
  if (old.state == JOB_RUNNING && changed->state != JOB_RUNNING)
    waits.attempts_max = running_attempts_max(turn->engine, &entry->id);
  const struct job *next = &waits;
  bool same_place = old.state == next->state && old.sequence == next->sequence && old.priority == next->priority &&
                    old.unique_held == next->unique_held;
  entry_change(turn, entry);
  entry->now = *next;
  turn->cost++;
  if (same_place) {
    if (old.run_at_ms != next->run_at_ms || old.expires_at_ms != next->expires_at_ms || old.deadline_ms != next->deadline_ms)
      timers_note(turn->engine, turn->now_ms);
  } else {
    leave(turn, entry, &old, &entry->now);
    enter(turn, entry, &old, &entry->now);
  }
  if (old.state == JOB_RUNNING && next->state == JOB_RUNNING)
    running_set_record(turn, g_hash_table_lookup(turn->engine->running, &entry->id), &entry->now);
  tell(turn, entry, old.state);
}

void turn_remove(struct turn *turn, struct entry *entry) {
  struct job old = entry->now;
  turn->cost++;
  if (old.state != JOB_DELETED) {
    watches_tell(turn, entry, true);
    log_lines_remove(turn, entry);
  }
  if (old.state != JOB_DELETED && turn->now_ms < old.created_ms + TOMBSTONE_MS) {
    struct job next = old;
    job_bury(&next, old.created_ms + TOMBSTONE_MS);
    entry_change(turn, entry);
    entry->now = next;
    leave(turn, entry, &old, &next);
    turn->engine->compaction.removed++; /* its bodies go now */
    timers_note(turn->engine, next.delete_at_ms);
    return;
  }
  entry_change(turn, entry);
  entry->exists = false;
  if (old.state == JOB_DELETED)
    return;
  turn->engine->compaction.removed++;
  leave(turn, entry, &old, NULL);
}

void turn_forget(struct turn *turn, struct entry *entry) {
  g_assert(entry->exists && entry->spec_new);
  watches_tell(turn, entry, true); /* those who watch were told that it is there */
  entry->exists = entry->spec_loaded = entry->spec_new = false;
  struct queue *queue = queue_by_number(turn->engine, entry->now.queue);
  task_meter(turn->engine, queue, task_by_number(queue, entry->now.task))->created[priority_index(entry->now.priority)]--;
  leave(turn, entry, &entry->now, NULL);
  entry->now = entry->before; /* what is left to be told is the end of an older job with this id, if this turn removed one */
}

/* ---- the end ---- */

static void body_keep(struct turn *turn, struct entry *entry) {
  struct engine *engine = turn->engine;
  if (entry->exists && entry->now.state == JOB_PENDING && entry->in_window && turn_spec_at_hand(turn, entry))
    bodies_put(engine->bodies, &entry->id, record_pack_job(&entry->now, turn->arena),
               record_pack_spec(&entry->spec, turn->arena));
  else
    bodies_drop(engine->bodies, &entry->id);
}

static void write_jobs(struct turn *turn) {
  for (guint i = 0; i < turn->changed->len; i++) {
    struct entry *entry = g_ptr_array_index(turn->changed, i);
    if (!entry->existed && !entry->exists)
      continue;
    job_log(turn, entry);
    changes_job(turn->batch, entry->existed ? &entry->before : NULL, entry->exists ? &entry->now : NULL, turn->arena);
    if (entry->exists && entry->spec_new)
      changes_spec(turn->batch, &entry->id, &entry->spec, turn->arena);
    if (entry->exists && entry->result_new && entry->now.result_apart)
      changes_result(turn->batch, &entry->id, entry->result, turn->arena);
    body_keep(turn, entry);
  }
}

/* A key given up and taken in the same turn: the put must come after the delete. */
static void write_uniques(struct turn *turn) {
  for (guint i = 0; turn->uniques && i < turn->changed->len; i++) {
    const struct entry *entry = g_ptr_array_index(turn->changed, i);
    if (!entry->exists || !entry->now.unique_held)
      continue;
    struct key key;
    key_unique(&key, entry->now.queue, entry->now.unique_key);
    store_batch_put(turn->batch, FAMILY_UNIQUE, key_slice(&key), (struct slice){entry->id.bytes, ID_BYTES});
  }
}

static void turn_free(struct turn *turn) {
  store_batch_free(turn->batch);
  g_hash_table_destroy(turn->entries);
  g_ptr_array_free(turn->changed, TRUE);
  g_ptr_array_free(turn->logged, TRUE);
  g_array_free(turn->wanted, TRUE);
  if (turn->uniques)
    g_hash_table_destroy(turn->uniques);
  if (turn->unpark)
    g_hash_table_destroy(turn->unpark);
  if (turn->chains)
    g_hash_table_destroy(turn->chains);
  if (turn->batches)
    g_hash_table_destroy(turn->batches);
  g_free(turn);
}

void turn_end(struct turn *turn, bool idle) {
  struct engine *engine = turn->engine;
  dispatch_run(turn);
  sessions_speak(turn);
  chains_write(turn);
  batches_write(turn);
  schedules_write(turn);
  write_jobs(turn);
  write_uniques(turn);
  log_lines_write(turn);
  queues_write(turn);
  sessions_write(turn);
  struct error error;
  uint64_t ticket = 0;
  if (!engine->failed && store_batch_count(turn->batch)) {
    int64_t start_us = g_get_monotonic_time();
    if (store_write(engine->store, turn->batch, &ticket, &error) == STATUS_OK)
      turn->release->view = store_view_open(engine->store);
    else
      engine_fail(engine, &error);
    histogram_add(&engine->meters.write_us, &scale_us, g_get_monotonic_time() - start_us);
    histogram_add(&engine->meters.batch_rows, &scale_count, (int64_t)store_batch_count(turn->batch));
  }
  turn->release->ticket = ticket;
  engine->statistics.turns++;
  /* After a failure nothing that was decided may leave: the process stops. */
  if (!engine->failed && (turn->release->count || turn->release->view))
    syncer_submit(engine->syncer, turn->release, idle);
  else
    release_free(turn->release);
  turn_free(turn);
}

/* ---- letting out ---- */

void reply(struct turn *turn, struct request *request, const void *response) {
  g_assert(!request->finished);
  request->finished = true;
  struct release_item *item = release_add(turn->release, RELEASE_REPLY);
  item->request = request;
  item->message = response;
}

void reply_error(struct turn *turn, struct request *request, const struct error *error) {
  g_assert(!request->finished);
  request->finished = true;
  struct release_item *item = release_add(turn->release, RELEASE_REPLY);
  item->request = request;
  item->error = arena_memdup(turn->arena, error, sizeof *error);
}

void reply_failure(struct turn *turn, struct request *request, enum status status, const char *field, const char *format, ...) {
  char sentence[sizeof((struct error *)0)->message];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  struct error error;
  error_set(&error, status, field, "%s", sentence);
  reply_error(turn, request, &error);
}

bool reply_unless_granted(struct turn *turn, struct request *request, const char *queue) {
  struct error error;
  if (request_may_use(request, queue))
    return true;
  error_set(&error, STATUS_PERMISSION_DENIED, NULL, "this token is not for the queue that it belongs to");
  error_reason(&error, "QUEUE_NOT_GRANTED", NULL);
  reply_error(turn, request, &error);
  return false;
}

void send_event(struct turn *turn, struct request *request, const ProtobufCMessage *message) {
  struct release_item *item = release_add(turn->release, RELEASE_EVENT);
  item->request = request_ref(request);
  item->message = message;
}

void *message_new(struct arena *arena, const ProtobufCMessageDescriptor *type) {
  ProtobufCMessage *message = arena_alloc(arena, type->sizeof_message);
  type->message_init(message);
  return message;
}

Google__Protobuf__Timestamp *timestamp_new(struct arena *arena, int64_t ms) {
  if (ms == 0)
    return NULL;
  Google__Protobuf__Timestamp *message = arena_alloc(arena, sizeof *message);
  time_to_timestamp(ms, message);
  return message;
}

Google__Protobuf__Duration *duration_new(struct arena *arena, int64_t ms) {
  Google__Protobuf__Duration *message = arena_alloc(arena, sizeof *message);
  time_to_duration(ms, message);
  return message;
}

char *id_text(struct arena *arena, const struct id *id) {
  if (id_is_zero(id))
    return (char *)protobuf_c_empty_string;
  char *text = arena_alloc(arena, ID_TEXT_BYTES);
  id_format(id, text);
  return text;
}

Millrace__V1__JobError *error_message(struct arena *arena, const struct job_error *error) {
  if (!error->type[0] && !error->message[0])
    return NULL;
  Millrace__V1__JobError *message = MESSAGE(arena, Millrace__V1__JobError, millrace__v1__job_error__descriptor);
  message->type = (char *)error->type;
  message->message = (char *)error->message;
  message->trace = (char *)error->trace;
  message->fingerprint = (char *)error->fingerprint;
  return message;
}
