/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/timers.h"

#include <string.h>

#include "engine/batches.h"
#include "engine/chains.h"
#include "engine/compaction.h"
#include "engine/queues.h"
#include "engine/running.h"
#include "engine/schedules.h"
#include "engine/turn.h"

enum { TIMER_SLICE = 1000, RETENTION_SLICE = 250 };
/* When a job that is kept for something else is looked at again; and when the count of a queue is, if such jobs stood at its
 * head. */
#define RETENTION_POSTPONE_MS (10 * MINUTE_MS)
#define COUNT_REST_MS SECOND_MS

/* The first key of a moment. */
static void key_moment(struct key *out_key, int64_t time_ms) {
  static const struct id zero;
  key_timer(out_key, time_ms, 0, &zero);
  out_key->length = sizeof(uint64_t);
}

void timers_note(struct engine *engine, int64_t time_ms) {
  struct key key;
  key_moment(&key, time_ms);
  if (engine->timers_from.length && memcmp(key.bytes, engine->timers_from.bytes, key.length) <= 0)
    engine->timers_from = key;
  engine->timers_due_ms = MIN(engine->timers_due_ms, MAX(time_ms, 0));
  engine->timers_noted_ms = MIN(engine->timers_noted_ms, time_ms);
}

static void job_due(struct turn *turn, struct entry *entry, enum timer_kind kind, int64_t time_ms) {
  struct job next = entry->now;
  switch (kind) {
  case TIMER_RUN:
    if ((next.state != JOB_SCHEDULED && next.state != JOB_RETRYING) || next.run_at_ms != time_ms)
      return;
    job_make_ready(&next, engine_sequence(turn), turn->now_ms);
    break;
  case TIMER_EXPIRY:
    if (!job_is_waiting(next.state) || next.state == JOB_BLOCKED || job_has_started(&next) || next.expires_at_ms != time_ms)
      return;
    job_expire(&next, turn->now_ms);
    break;
  case TIMER_DEADLINE: {
    if (next.deadline_ms != time_ms || (!job_is_waiting(next.state) && next.state != JOB_RUNNING))
      return;
    struct delivery_end end;
    bool runs = next.state == JOB_RUNNING;
    if (runs)
      running_revoke(turn, g_hash_table_lookup(turn->engine->running, &entry->id), &end);
    job_miss_deadline(&next, runs ? &end : NULL, turn->now_ms);
    break;
  }
  default:
    return;
  }
  turn_update(turn, entry, &next);
}

static void due(struct turn *turn, const struct store_row *row) {
  int64_t time_ms;
  enum timer_kind kind;
  struct id id;
  if (!key_read_timer(row->key, &time_ms, &kind, &id))
    return;
  struct entry *entry = NULL;
  switch (kind) {
  case TIMER_RUN:
  case TIMER_EXPIRY:
  case TIMER_DEADLINE:
    entry = turn_job(turn, &id);
    if (entry)
      job_due(turn, entry, kind, time_ms);
    break;
  case TIMER_TOMBSTONE:
    entry = turn_job(turn, &id);
    if (entry && entry->now.state == JOB_DELETED && entry->now.delete_at_ms <= turn->now_ms)
      turn_remove(turn, entry);
    break;
  case TIMER_SCHEDULE:
    schedule_due(turn, row->value, &id, time_ms);
    break;
  case TIMER_BATCH_SEAL:
    batch_seal_due(turn, &id, time_ms);
    break;
  case TIMER_CHAIN_END:
    chain_retention_due(turn, &id);
    break;
  case TIMER_BATCH_END:
    batch_retention_due(turn, &id);
    break;
  }
}

/* Jobs among the rows are read all at once. */
static void fetch_jobs(struct turn *turn, const struct store_rows *rows) {
  for (size_t i = 0; i < rows->count; i++) {
    int64_t time_ms;
    enum timer_kind kind;
    struct id id;
    if (key_read_timer(rows->rows[i].key, &time_ms, &kind, &id) && (kind <= TIMER_DEADLINE || kind == TIMER_TOMBSTONE))
      turn_want(turn, &id);
  }
  turn_fetch(turn);
}

/* When the first timer at or after the position is due. */
static int64_t next_due(struct turn *turn) {
  struct store_range range = {.family = FAMILY_TIMERS, .from = key_slice(&turn->engine->timers_from), .limit = 1};
  struct store_rows rows;
  int64_t time_ms = INT64_MAX;
  if (!turn_scan(turn, &range, &rows))
    return time_ms;
  enum timer_kind kind;
  struct id id;
  if (rows.count && !key_read_timer(rows.rows[0].key, &time_ms, &kind, &id))
    time_ms = INT64_MAX;
  store_rows_release(&rows);
  return time_ms;
}

/* The rows from this one on come in the next turn. */
static void put_off(struct engine *engine, struct slice key) {
  if (key_compare(key, key_slice(&engine->timers_from)) < 0) {
    memcpy(engine->timers_from.bytes, key.data, key.length);
    engine->timers_from.length = key.length;
  }
  engine->timers_due_ms = 0;
  engine->again = true;
}

/* Rows before timers_from have been handled. A running job keeps the timers that its unchanged record implies: the position moves
 * past them, and meeting them again after a restart is harmless. */
void timers_run(struct turn *turn) {
  struct engine *engine = turn->engine;
  if (turn->now_ms < engine->timers_due_ms)
    return;
  struct key until;
  key_moment(&until, turn->now_ms + 1);
  struct store_range range = {FAMILY_TIMERS, key_slice(&engine->timers_from), key_slice(&until), false, TIMER_SLICE};
  struct store_rows rows;
  if (!turn_scan(turn, &range, &rows))
    return;
  if (rows.count == range.limit) {
    struct slice last = rows.rows[rows.count - 1].key;
    memcpy(engine->timers_from.bytes, last.data, last.length);
    engine->timers_from.bytes[last.length] = 0;
    engine->timers_from.length = last.length + 1;
    engine->again = true;
  } else {
    engine->timers_from = until;
    engine->timers_due_ms = next_due(turn);
  }
  if (engine->timers_noted_ms != INT64_MAX)
    timers_note(engine, engine->timers_noted_ms); /* the look into the store did not see it */
  /* After the position, since what is due may make new timers that are due. */
  fetch_jobs(turn, &rows);
  const unsigned cost_max = turn->cost + TIMER_SLICE;
  for (size_t i = 0; i < rows.count; i++) {
    if (turn->cost >= cost_max) { /* each brought much with it, such as the rest of its chain */
      put_off(engine, rows.rows[i].key);
      break;
    }
    due(turn, &rows.rows[i]);
  }
  store_rows_release(&rows);
}

/* ---- retention ---- */

static const enum family ended_families[2] = {FAMILY_FINISHED, FAMILY_DEAD};

/* A chain or batch that has not ended keeps its jobs, and so does a unique key that is held for a period. */
static bool is_kept(struct turn *turn, const struct job *job) {
  return job_holds_for_period(job, turn->now_ms) || (!id_is_zero(&job->chain_id) && chain_is_open(turn, &job->chain_id)) ||
         (!id_is_zero(&job->batch_id) && batch_is_open(turn, &job->batch_id));
}

/* One that is kept is looked at again later; when only the count speaks against it, behind those that are not kept. */
static void retire(struct turn *turn, struct queue *queue, const struct id *id, bool by_count) {
  struct entry *entry = turn_job(turn, id);
  if (!entry || !job_is_terminal(entry->now.state))
    return;
  if (!is_kept(turn, &entry->now)) {
    turn_remove(turn, entry);
    return;
  }
  struct job next = entry->now;
  next.delete_at_ms = turn->now_ms + MAX(RETENTION_POSTPONE_MS, by_count ? queue->settings.retention_ms : 0);
  turn_update(turn, entry, &next);
  int64_t *due_ms = &queue->ended_due_ms[next.state == JOB_FAILED];
  *due_ms = MIN(*due_ms, next.delete_at_ms);
  if (by_count)
    queue->count_rests_until_ms = turn->monotonic_ms + COUNT_REST_MS;
}

/* Removes up to a slice of rows of one family from its head: those whose time has come, and those beyond the count. */
static void retire_rows(struct turn *turn, struct queue *queue, int which, uint64_t surplus) {
  static const struct id zero;
  struct key from, until;
  int64_t *due_ms = &queue->ended_due_ms[which];
  key_ended(&from, queue->number, *due_ms == INT64_MAX ? 0 : *due_ms, &zero);
  key_ended(&until, queue->number, INT64_MAX, &zero);
  struct store_range range = {ended_families[which], key_slice(&from), key_slice(&until), false, RETENTION_SLICE + 1};
  struct store_rows rows;
  if (!turn_scan(turn, &range, &rows))
    return;
  *due_ms = INT64_MAX;
  for (size_t i = 0; i < rows.count; i++) {
    uint32_t number;
    int64_t time_ms;
    struct id id;
    if (!key_read_ended(rows.rows[i].key, &number, &time_ms, &id))
      continue;
    if (i == RETENTION_SLICE || (time_ms > turn->now_ms && i >= surplus)) {
      *due_ms = MIN(*due_ms, time_ms);
      break;
    }
    retire(turn, queue, &id, time_ms > turn->now_ms);
  }
  store_rows_release(&rows);
}

/* A slice of what is to go, in the turns after each tick until all queues have been looked at. Comes first in a turn: what ends
 * in it has no row yet. */
void retention_run(struct turn *turn) {
  struct engine *engine = turn->engine;
  guint count = engine->queues->len, looked = 0;
  for (; engine->retention_due && looked < count && turn->cost < RETENTION_SLICE; looked++) {
    struct queue *queue = queue_by_number(engine, engine->retention_next++ % count);
    if (!queue)
      continue;
    uint64_t ended = queue->counts[JOB_SUCCEEDED] + queue->counts[JOB_CANCELLED] + queue->counts[JOB_EXPIRED];
    uint64_t surplus = ended > queue->settings.retention_count ? ended - queue->settings.retention_count : 0;
    if (turn->monotonic_ms < queue->count_rests_until_ms)
      surplus = 0;
    if (surplus || queue->ended_due_ms[0] <= turn->now_ms)
      retire_rows(turn, queue, 0, surplus);
    if (queue->ended_due_ms[1] <= turn->now_ms)
      retire_rows(turn, queue, 1, 0);
  }
  engine->retention_due = engine->retention_due && turn->cost >= RETENTION_SLICE;
  engine->again |= engine->retention_due;
  if (!engine->retention_due)
    compaction_run(turn);
}
