/* SPDX-License-Identifier: Apache-2.0 */
#include "store/changes.h"

#include <glib.h>
#include <string.h>

#include "core/limits.h"
#include "store/keys.h"
#include "store/records.h"

/* The keys of a record before the change, side by side on the stack: a job has at most one place, two more timers, a unique key,
 * its labels and three memberships. Keys come in the same order before and after, so that the match is nearly always the next
 * one. */
enum {
  KEYS_MAX = JOB_LABELS_MAX + 7,
  /* A parked and a unique key with their text, and some forty bytes for each of the others. */
  KEYS_BYTES_MAX = JOB_LABELS_MAX * (LABEL_KEY_BYTES_MAX + LABEL_VALUE_BYTES_MAX + 21) + 2 * (KEY_TEXT_BYTES_MAX + 15) + 5 * 40,
};

struct old_key {
  enum family family;
  uint16_t offset;
  uint16_t length;
  bool is_kept;
};

struct difference {
  struct store_batch *batch;
  size_t count;
  size_t next; /* where the next match is expected */
  size_t used;
  struct old_key keys[KEYS_MAX];
  uint8_t bytes[KEYS_BYTES_MAX];
};

static void put_key(void *context, enum family family, const struct key *key, struct slice value) {
  store_batch_put(context, family, key_slice(key), value);
}

static void delete_key(void *context, enum family family, const struct key *key, struct slice value) {
  (void)value;
  store_batch_delete(context, family, key_slice(key));
}

static void remember_old_key(void *context, enum family family, const struct key *key, struct slice value) {
  struct difference *difference = context;
  (void)value; /* follows from the key: both records have the same id */
  g_assert(difference->count < KEYS_MAX && key->length <= KEYS_BYTES_MAX - difference->used);
  difference->keys[difference->count++] =
      (struct old_key){.family = family, .offset = (uint16_t)difference->used, .length = (uint16_t)key->length};
  memcpy(difference->bytes + difference->used, key->bytes, key->length);
  difference->used += key->length;
}

static void keep_or_put_key(void *context, enum family family, const struct key *key, struct slice value) {
  struct difference *difference = context;
  for (size_t i = 0, at = difference->next; i < difference->count; i++, at++) {
    if (at >= difference->count)
      at = 0;
    struct old_key *old = &difference->keys[at];
    if (old->family == family && old->length == key->length &&
        memcmp(difference->bytes + old->offset, key->bytes, key->length) == 0) {
      old->is_kept = true;
      difference->next = at + 1;
      return;
    }
  }
  store_batch_put(difference->batch, family, key_slice(key), value);
}

static void delete_others(const struct difference *difference) {
  for (size_t i = 0; i < difference->count; i++) {
    const struct old_key *old = &difference->keys[i];
    if (!old->is_kept)
      store_batch_delete(difference->batch, old->family, (struct slice){difference->bytes + old->offset, old->length});
  }
}

static void difference_start(struct difference *difference, struct store_batch *batch) {
  difference->batch = batch;
  difference->count = difference->next = difference->used = 0;
}

static bool slice_equal(struct slice a, struct slice b) {
  return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* ---- jobs ---- */

/* Would both records be written with the same bytes? Asked in two parts. They may say no although it is so (a text at another
 * address): then the same record is written again, which costs time only. Packing both to find out costs ten times as much. */
static bool has_same_place(const struct job *a, const struct job *b) {
  const enum job_state state_a = a->state == JOB_RUNNING ? JOB_PENDING : a->state;
  const enum job_state state_b = b->state == JOB_RUNNING ? JOB_PENDING : b->state;
  return state_a == state_b && a->deliveries == b->deliveries && a->sequence == b->sequence && a->queue == b->queue &&
         a->task == b->task && a->priority == b->priority && a->keeps_place == b->keeps_place && a->generation == b->generation &&
         a->attempts == b->attempts && a->lost_count == b->lost_count && a->created_ms == b->created_ms &&
         a->run_at_ms == b->run_at_ms && a->expires_at_ms == b->expires_at_ms && a->deadline_ms == b->deadline_ms &&
         a->total_timeout_ms == b->total_timeout_ms && a->started_ms == b->started_ms && a->finished_ms == b->finished_ms &&
         a->delete_at_ms == b->delete_at_ms && a->retention_ms == b->retention_ms && a->cancel_requested == b->cancel_requested &&
         a->terminate_requested == b->terminate_requested && a->unique_held == b->unique_held && a->has_log == b->has_log &&
         a->attempts_max == b->attempts_max && a->unknown_task_since_ms == b->unknown_task_since_ms;
}

static bool has_same_content(const struct job *a, const struct job *b) {
  return a->unique_scope == b->unique_scope && a->unique_key == b->unique_key && a->unique_until_ms == b->unique_until_ms &&
         a->concurrency_key == b->concurrency_key && a->concurrency_limit == b->concurrency_limit && a->labels == b->labels &&
         a->label_count == b->label_count && id_equal(&a->chain_id, &b->chain_id) && a->chain_index == b->chain_index &&
         id_equal(&a->chain_next, &b->chain_next) && a->chain_delay_ms == b->chain_delay_ms &&
         a->cancelled_by_chain == b->cancelled_by_chain && id_equal(&a->batch_id, &b->batch_id) && a->counted == b->counted &&
         id_equal(&a->schedule_uid, &b->schedule_uid) && a->schedule_name == b->schedule_name &&
         a->result.data == b->result.data && a->result.length == b->result.length && a->result_apart == b->result_apart &&
         a->result_omitted_reason == b->result_omitted_reason && a->error.type == b->error.type &&
         a->error.message == b->error.message && a->error.trace == b->error.trace &&
         a->error.fingerprint == b->error.fingerprint && a->history == b->history && a->history_count == b->history_count &&
         !a->has_policy && !b->has_policy && a->content_hash[0] == b->content_hash[0] &&
         a->content_hash[1] == b->content_hash[1] && id_equal(&a->session, &b->session);
}

static void change_job_record(struct store_batch *batch, struct slice key, const struct job *before, const struct job *after,
                              struct arena *arena) {
  if (!after)
    store_batch_delete(batch, FAMILY_JOBS, key);
  else if (!before || !has_same_place(before, after) || !has_same_content(before, after))
    store_batch_put(batch, FAMILY_JOBS, key, record_pack_job(after, arena));
}

static void change_job_keys(struct store_batch *batch, const struct job *before, const struct job *after) {
  if (before && after) {
    struct difference difference;
    difference_start(&difference, batch);
    keys_of(before, &(struct key_visitor){remember_old_key, &difference});
    keys_of(after, &(struct key_visitor){keep_or_put_key, &difference});
    delete_others(&difference);
  } else if (after) {
    keys_of(after, &(struct key_visitor){put_key, batch});
  } else if (before) {
    keys_of(before, &(struct key_visitor){delete_key, batch});
  }
}

void changes_job(struct store_batch *batch, const struct job *before, const struct job *after, struct arena *arena) {
  const struct job *either = after ? after : before;
  g_assert(either && (!before || id_equal(&before->id, &either->id)));
  const struct slice key = {either->id.bytes, ID_BYTES}; // cppcheck-suppress nullPointerRedundantCheck
  change_job_record(batch, key, before, after, arena);
  change_job_keys(batch, before, after);
  const bool had_spec = before && before->state != JOB_DELETED;
  const bool has_spec = after && after->state != JOB_DELETED;
  if (had_spec && !has_spec)
    store_batch_delete(batch, FAMILY_SPECS, key);
  const bool had_result = before && before->result_apart;
  const bool has_result = after && after->result_apart;
  if (had_result && !has_result)
    store_batch_delete(batch, FAMILY_RESULTS, key);
}

void changes_spec(struct store_batch *batch, const struct id *id, const struct spec *spec, struct arena *arena) {
  store_batch_put(batch, FAMILY_SPECS, (struct slice){id->bytes, ID_BYTES}, record_pack_spec(spec, arena));
}

void changes_result(struct store_batch *batch, const struct id *id, struct bytes payload, struct arena *arena) {
  Millrace__Store__V1__ResultRecord record = MILLRACE__STORE__V1__RESULT_RECORD__INIT;
  record.payload = (ProtobufCBinaryData){.len = payload.length, .data = (uint8_t *)payload.data};
  store_batch_put(batch, FAMILY_RESULTS, (struct slice){id->bytes, ID_BYTES}, record_pack(&record.base, arena));
}

enum status changes_delete_log(struct store_batch *batch, struct store *store, const struct id *id, struct error *error) {
  struct key from;
  struct key until;
  key_id(&from, id);
  const bool has_end = key_after_prefix(&from, &until);
  struct store_range range = {.family = FAMILY_LOGS, .from = key_slice(&from), .limit = 1000};
  if (has_end)
    range.until = key_slice(&until);
  for (;;) {
    struct store_rows rows;
    const enum status status = store_scan(store, NULL, &range, &rows, error);
    if (status != STATUS_OK)
      return status;
    const bool is_last = rows.count < range.limit;
    for (size_t i = 0; i < rows.count; i++)
      store_batch_delete(batch, FAMILY_LOGS, rows.rows[i].key);
    if (!is_last) { /* go on right behind the last one: its key and a zero byte */
      const struct slice last = rows.rows[rows.count - 1].key;
      g_assert(last.length < KEY_BYTES_MAX);
      memcpy(from.bytes, last.data, last.length);
      from.bytes[last.length] = 0;
      from.length = last.length + 1;
      range.from = key_slice(&from);
    }
    store_rows_release(&rows);
    if (is_last)
      return STATUS_OK;
  }
}

/* ---- chains, batches, schedules ---- */

/* Their row; their timers are the caller's to visit. */
static void change_record(struct store_batch *batch, enum family family, struct slice key, const ProtobufCMessage *before,
                          const ProtobufCMessage *after, struct arena *arena) {
  if (!after) {
    store_batch_delete(batch, family, key);
    return;
  }
  const struct slice value = record_pack(after, arena);
  if (!before || !slice_equal(record_pack(before, arena), value))
    store_batch_put(batch, family, key, value);
}

void changes_chain(struct store_batch *batch, const struct id *id, const Millrace__Store__V1__ChainRecord *before,
                   const Millrace__Store__V1__ChainRecord *after, struct arena *arena) {
  struct difference difference;
  difference_start(&difference, batch);
  change_record(batch, FAMILY_CHAINS, (struct slice){id->bytes, ID_BYTES}, before ? &before->base : NULL,
                after ? &after->base : NULL, arena);
  if (before)
    keys_of_chain(id, before, &(struct key_visitor){remember_old_key, &difference});
  if (after)
    keys_of_chain(id, after, &(struct key_visitor){keep_or_put_key, &difference});
  delete_others(&difference);
}

void changes_batch(struct store_batch *batch, const struct id *id, const Millrace__Store__V1__BatchRecord *before,
                   const Millrace__Store__V1__BatchRecord *after, struct arena *arena) {
  struct difference difference;
  difference_start(&difference, batch);
  change_record(batch, FAMILY_BATCHES, (struct slice){id->bytes, ID_BYTES}, before ? &before->base : NULL,
                after ? &after->base : NULL, arena);
  if (before)
    keys_of_batch(id, before, &(struct key_visitor){remember_old_key, &difference});
  if (after)
    keys_of_batch(id, after, &(struct key_visitor){keep_or_put_key, &difference});
  delete_others(&difference);
}

void changes_schedule(struct store_batch *batch, const char *name, const Millrace__Store__V1__ScheduleRecord *before,
                      const Millrace__Store__V1__ScheduleRecord *after, struct arena *arena) {
  struct difference difference;
  difference_start(&difference, batch);
  change_record(batch, FAMILY_SCHEDULES, (struct slice){name, strlen(name)}, before ? &before->base : NULL,
                after ? &after->base : NULL, arena);
  if (before)
    keys_of_schedule(name, before, &(struct key_visitor){remember_old_key, &difference});
  if (after)
    keys_of_schedule(name, after, &(struct key_visitor){keep_or_put_key, &difference});
  delete_others(&difference);
}
