/* SPDX-License-Identifier: Apache-2.0 */
/* A schedule always knows the nominal time to come and when its job is made (later by the jitter); the latter is its timer. When
 * it is due, one job at most is made, for the latest nominal time that should have had one by now, and the time after that one
 * becomes the time to come: all of it in one batch. */
#include "engine/schedules.h"

#include <string.h>

#include "core/time.h"
#include "engine/create.h"
#include "engine/schedule_table.h"
#include "engine/timers.h"
#include "engine/turn.h"

enum { RECOVER_ROWS = 1000 };
/* A job made no later than this after its time was not missed: no catch-up window is so narrow that a busy moment or a quick
 * restart of the server skips a time. */
#define ON_TIME_MS (10 * SECOND_MS)

struct schedule *schedule_find(struct engine *engine, const char *name) {
  return g_tree_lookup(engine->schedules, name);
}

bool schedule_uid(struct engine *engine, const char *name, struct id *out_uid) {
  const struct schedule *schedule = schedule_find(engine, name);
  if (schedule)
    *out_uid = schedule->uid;
  return schedule != NULL;
}

Millrace__V1__ScheduleSpec *schedule_spec(struct turn *turn, const struct schedule *schedule) {
  return millrace__v1__schedule_spec__unpack(arena_protobuf(turn->arena), schedule->spec_bytes, schedule->spec);
}

void schedule_touch(struct turn *turn, struct schedule *schedule) {
  if (schedule->dirty)
    return;
  schedule->dirty = true;
  g_ptr_array_add(turn->engine->dirty_schedules, schedule);
}

/* ---- times ---- */

/* When the job of a nominal time is made. Never after the next nominal time, so that jobs come in the order of their times. */
static int64_t fire_ms(const struct schedule *schedule, int64_t nominal_ms) {
  if (!schedule->timing.jitter_ms)
    return nominal_ms;
  struct schedule_timing timing = schedule->timing;
  int64_t after_ms;
  if (schedule_next_ms(&timing, nominal_ms, &after_ms))
    timing.jitter_ms = MIN(timing.jitter_ms, after_ms - nominal_ms - 1);
  return schedule_fire_ms(&timing, &schedule->uid, nominal_ms);
}

static void set_next(struct turn *turn, struct schedule *schedule, int64_t after_ms) {
  Millrace__Store__V1__ScheduleRecord *record = &schedule->record;
  record->next_nominal_ms = record->next_fire_ms = 0;
  if (schedule_next_ms(&schedule->timing, after_ms, &record->next_nominal_ms)) {
    record->next_fire_ms = fire_ms(schedule, record->next_nominal_ms);
    timers_note(turn->engine, record->next_fire_ms);
  }
  schedule_touch(turn, schedule);
}

/* The latest nominal time, from the one to come on, whose job should have been made by now. False: none. */
static bool latest_due(const struct schedule *schedule, int64_t now_ms, int64_t *out_nominal_ms) {
  int64_t before_ms = schedule->record.next_nominal_ms - 1;
  int64_t nominal_ms;
  if (!schedule_missed_ms(&schedule->timing, before_ms, now_ms, -1, &nominal_ms))
    return false;
  if (fire_ms(schedule, nominal_ms) > now_ms) /* its jitter still runs; that of the one before does not */
    return schedule_missed_ms(&schedule->timing, before_ms, nominal_ms - 1, -1, out_nominal_ms);
  *out_nominal_ms = nominal_ms;
  return true;
}

/* ---- jobs ---- */

static bool last_job_is_open(struct turn *turn, const struct schedule *schedule) {
  const struct entry *last = turn_job(turn, &schedule->last_job);
  return last && (job_is_waiting(last->now.state) || last->now.state == JOB_RUNNING);
}

static void make_job(struct turn *turn, struct schedule *schedule, const Millrace__V1__ScheduleSpec *spec, int64_t nominal_ms) {
  struct origin origin = {.id = id_derive(&schedule->uid, "run", (uint64_t)nominal_ms), .internal = true};
  origin.schedule_uid = schedule->uid;
  origin.schedule_name = spec->name;
  if (turn_job(turn, &origin.id))
    return; /* made already, before the clock was set back */
  struct created created;
  struct error error;
  if (create_job(turn, spec->job, &origin, &created, &error) != STATUS_OK) {
    engine_log(turn->engine, 3, "job of a schedule not created", "schedule=%s reason=\"%s\"", spec->name, error.message);
    return;
  }
  Millrace__Store__V1__ScheduleRecord *record = &schedule->record;
  schedule->last_job = origin.id;
  record->last_nominal_ms = nominal_ms;
  record->last_lateness_ms = MAX(turn->now_ms - nominal_ms, 0);
  record->runs++;
}

/* In time but for the server: what an overlap holds back is not late. */
static void make_job_now(struct turn *turn, struct schedule *schedule, const Millrace__V1__ScheduleSpec *spec,
                         int64_t nominal_ms) {
  histogram_add(&turn->engine->meters.lateness_ms, &scale_ms, turn->now_ms - fire_ms(schedule, nominal_ms));
  make_job(turn, schedule, spec, nominal_ms);
}

static void fire(struct turn *turn, struct schedule *schedule, const Millrace__V1__ScheduleSpec *spec, int64_t nominal_ms) {
  Millrace__Store__V1__ScheduleRecord *record = &schedule->record;
  if (spec->overlap == MILLRACE__V1__SCHEDULE_OVERLAP__SCHEDULE_OVERLAP_ALLOW || !last_job_is_open(turn, schedule)) {
    make_job_now(turn, schedule, spec, nominal_ms);
  } else if (spec->overlap == MILLRACE__V1__SCHEDULE_OVERLAP__SCHEDULE_OVERLAP_QUEUE_ONE && !record->one_queued) {
    record->one_queued = true;
    record->queued_nominal_ms = nominal_ms;
  } else {
    record->skipped++;
  }
}

/* Does what is due by now and finds the time to come. A time is too late when it is older than both the catch-up window and
 * `late_ms`. While the disk is low, no time passes for a schedule, as if the server were down. */
static void catch_up(struct turn *turn, struct schedule *schedule, int64_t late_ms) {
  if (turn->engine->disk_low)
    return;
  int64_t nominal_ms = schedule->record.next_nominal_ms - 1;
  if (latest_due(schedule, turn->now_ms, &nominal_ms)) {
    const Millrace__V1__ScheduleSpec *spec = schedule_spec(turn, schedule);
    int64_t window_ms = spec->catch_up_window ? time_from_duration(spec->catch_up_window) : INT64_MAX;
    if (turn->now_ms - fire_ms(schedule, nominal_ms) <= MAX(window_ms, late_ms))
      fire(turn, schedule, spec, nominal_ms);
  }
  set_next(turn, schedule, nominal_ms);
}

static void make_queued(struct turn *turn, struct schedule *schedule) {
  if (turn->engine->disk_low)
    return;
  schedule->record.one_queued = false;
  make_job(turn, schedule, schedule_spec(turn, schedule), schedule->record.queued_nominal_ms);
  schedule_touch(turn, schedule);
}

void schedule_due(struct turn *turn, struct slice name, const struct id *uid, int64_t time_ms) {
  struct schedule *schedule =
      schedule_find(turn->engine, arena_printf(turn->arena, "%.*s", (int)name.length, (const char *)name.data));
  if (!schedule || !id_equal(&schedule->uid, uid) || schedule->record.paused || schedule->record.next_fire_ms != time_ms)
    return;
  catch_up(turn, schedule, ON_TIME_MS);
}

void schedule_job_ended(struct turn *turn, struct entry *entry) {
  struct schedule *schedule = schedule_find(turn->engine, entry->now.schedule_name);
  if (!schedule || !schedule->record.one_queued || schedule->record.paused || !id_equal(&schedule->last_job, &entry->id))
    return;
  make_queued(turn, schedule);
}

void schedule_resume(struct turn *turn, struct schedule *schedule) {
  if (!schedule->record.paused)
    return;
  schedule->record.paused = false;
  schedule_touch(turn, schedule);
  if (schedule->record.one_queued && !last_job_is_open(turn, schedule))
    make_queued(turn, schedule);
  if (schedule->record.next_nominal_ms)
    catch_up(turn, schedule, 0);
}

void schedules_go_on(struct turn *turn) {
  for (GTreeNode *node = g_tree_node_first(turn->engine->schedules); node; node = g_tree_node_next(node)) {
    struct schedule *schedule = g_tree_node_value(node);
    if (schedule->record.paused)
      continue;
    if (schedule->record.one_queued && !last_job_is_open(turn, schedule))
      make_queued(turn, schedule);
    if (schedule->record.next_fire_ms && schedule->record.next_fire_ms <= turn->now_ms)
      timers_note(turn->engine, schedule->record.next_fire_ms);
  }
}

/* ---- the table ---- */

static void set_timing(struct schedule *schedule, const struct schedule_timing *timing) {
  schedule->timing = *timing;
  if (!timing->has_start)
    schedule->timing.base_ms = schedule->record.created_ms;
  schedule->record.base_ms = schedule->timing.base_ms;
}

static void set_spec(struct schedule *schedule, struct slice packed) {
  g_free(schedule->spec);
  schedule->spec = g_memdup2(packed.data, packed.length);
  schedule->spec_bytes = packed.length;
}

/* A schedule like the record, whose own spec is not looked at. */
static struct schedule *insert(struct engine *engine, const Millrace__Store__V1__ScheduleRecord *record,
                               const struct draft *draft) {
  struct schedule *schedule = g_new0(struct schedule, 1);
  schedule->name = g_strdup(draft->spec->name);
  schedule->record = *record;
  schedule->record.base = (ProtobufCMessage)PROTOBUF_C_MESSAGE_INIT(&millrace__store__v1__schedule_record__descriptor);
  schedule->record.spec = NULL;
  schedule->record.owner = g_strdup(record->owner);
  memcpy(schedule->uid.bytes, record->uid.data, ID_BYTES);
  if (record->last_job_id.len == ID_BYTES)
    memcpy(schedule->last_job.bytes, record->last_job_id.data, ID_BYTES);
  schedule->record.uid.data = schedule->uid.bytes;
  schedule->record.last_job_id.data = schedule->last_job.bytes;
  set_spec(schedule, draft->packed);
  set_timing(schedule, &draft->timing);
  g_tree_insert(engine->schedules, schedule->name, schedule);
  return schedule;
}

static void schedule_free(struct schedule *schedule) {
  g_free(schedule->name);
  g_free(schedule->spec);
  g_free(schedule->record.owner);
  g_free(schedule);
}

enum status draft_read(struct turn *turn, const Millrace__V1__ScheduleSpec *spec, struct draft *out_draft, struct error *error) {
  Millrace__V1__ScheduleSpec *canonical = arena_memdup(turn->arena, spec, sizeof *spec);
  canonical->job = spec_canonical(turn, spec->job);
  out_draft->spec = canonical;
  out_draft->packed = record_pack(&canonical->base, turn->arena);
  enum status status = schedule_timing_read(spec->timing, &out_draft->timing, error);
  if (status != STATUS_OK)
    error_prefix_field(error, "timing.");
  return status;
}

enum status draft_reserve(struct turn *turn, const struct draft *draft, struct error *error) {
  enum status status = create_reserve(turn, draft->spec->job, error);
  if (status != STATUS_OK)
    error_prefix_field(error, "job.");
  return status;
}

bool draft_is_same(const struct draft *draft, const struct schedule *schedule) {
  return draft->packed.length == schedule->spec_bytes && memcmp(draft->packed.data, schedule->spec, schedule->spec_bytes) == 0;
}

enum status schedules_check_room(struct engine *engine, size_t more, struct error *error) {
  if ((size_t)g_tree_nnodes(engine->schedules) + more <= SCHEDULES_MAX)
    return STATUS_OK;
  error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL, "there can be %d schedules at most; there are %d", SCHEDULES_MAX,
            g_tree_nnodes(engine->schedules));
  return error_reason(error, "TOO_MANY_SCHEDULES", NULL);
}

struct schedule *schedule_add(struct turn *turn, const struct draft *draft, const char *owner) {
  struct id uid = id_make_v7(turn->now_ms, 0, engine_random(turn->engine));
  Millrace__Store__V1__ScheduleRecord record = MILLRACE__STORE__V1__SCHEDULE_RECORD__INIT;
  record.uid = (ProtobufCBinaryData){ID_BYTES, uid.bytes};
  record.owner = (char *)owner;
  record.created_ms = turn->now_ms;
  struct schedule *schedule = insert(turn->engine, &record, draft);
  set_next(turn, schedule, turn->now_ms);
  return schedule;
}

void schedule_replace(struct turn *turn, struct schedule *schedule, const struct draft *draft) {
  const Millrace__V1__ScheduleSpec *old = schedule_spec(turn, schedule);
  struct slice old_timing = record_pack(&old->timing->base, turn->arena);
  struct slice timing = record_pack(&draft->spec->timing->base, turn->arena);
  set_spec(schedule, draft->packed);
  if (draft->spec->overlap != MILLRACE__V1__SCHEDULE_OVERLAP__SCHEDULE_OVERLAP_QUEUE_ONE)
    schedule->record.one_queued = false;
  if (timing.length != old_timing.length || memcmp(timing.data, old_timing.data, timing.length) != 0) {
    set_timing(schedule, &draft->timing);
    set_next(turn, schedule, turn->now_ms);
  }
  schedule_touch(turn, schedule);
}

void schedule_remove(struct turn *turn, struct schedule *schedule) {
  g_tree_remove(turn->engine->schedules, schedule->name);
  schedule->gone = true;
  schedule_touch(turn, schedule);
}

/* ---- the store ---- */

static void write_row(struct turn *turn, struct schedule *schedule) {
  Millrace__Store__V1__ScheduleRecord *record = &schedule->record;
  int64_t timer_ms = schedule->gone || record->paused ? 0 : record->next_fire_ms;
  struct slice name = {schedule->name, strlen(schedule->name)};
  struct key key;
  if (schedule->stored_timer_ms && schedule->stored_timer_ms != timer_ms) {
    key_timer(&key, schedule->stored_timer_ms, TIMER_SCHEDULE, &schedule->uid);
    store_batch_delete(turn->batch, FAMILY_TIMERS, key_slice(&key));
  }
  if (timer_ms && schedule->stored_timer_ms != timer_ms) {
    key_timer(&key, timer_ms, TIMER_SCHEDULE, &schedule->uid);
    store_batch_put(turn->batch, FAMILY_TIMERS, key_slice(&key), name);
  }
  schedule->stored_timer_ms = timer_ms;
  key_name(&key, schedule->name);
  if (schedule->gone) {
    store_batch_delete(turn->batch, FAMILY_SCHEDULES, key_slice(&key));
    return;
  }
  record->spec = schedule_spec(turn, schedule);
  record->last_job_id.len = id_is_zero(&schedule->last_job) ? 0 : ID_BYTES;
  store_batch_put(turn->batch, FAMILY_SCHEDULES, key_slice(&key), record_pack(&record->base, turn->arena));
  record->spec = NULL;
}

/* In the order of the changes: a name may be removed and added anew within a turn. */
void schedules_write(struct turn *turn) {
  GPtrArray *dirty = turn->engine->dirty_schedules;
  for (guint i = 0; i < dirty->len; i++) {
    struct schedule *schedule = g_ptr_array_index(dirty, i);
    write_row(turn, schedule);
    schedule->dirty = false;
    if (schedule->gone)
      schedule_free(schedule);
  }
  g_ptr_array_set_size(dirty, 0);
}

static enum status recover_row(struct engine *engine, const struct store_row *row, struct arena *arena, struct error *error) {
  ProtobufCMessage *message;
  enum status status = record_unpack(&millrace__store__v1__schedule_record__descriptor, row->value, arena, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__ScheduleRecord *record = (void *)message;
  if (!record->spec || !record->spec->timing || !record->spec->job || record->uid.len != ID_BYTES)
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family schedules holds a record that is none of ours");
  struct draft draft = {.spec = record->spec, .packed = record_pack(&record->spec->base, arena)};
  /* It was right when it was declared: only its time zone can be unknown by now. */
  status = schedule_timing_read(record->spec->timing, &draft.timing, error);
  if (status != STATUS_OK) {
    char *why = arena_strdup(arena, error->message);
    return error_set(error, STATUS_FAILED_PRECONDITION, NULL,
                     "schedule '%s' can't go on: %s (are the time zones of this system installed?)", record->spec->name, why);
  }
  struct schedule *schedule = insert(engine, record, &draft);
  schedule->stored_timer_ms = record->paused ? 0 : record->next_fire_ms;
  return STATUS_OK;
}

enum status schedules_recover(struct engine *engine, struct error *error) {
  engine->schedules = g_tree_new((GCompareFunc)strcmp);
  engine->dirty_schedules = g_ptr_array_new();
  struct arena *arena = arena_new(0);
  struct key from = {0};
  enum status status = STATUS_OK;
  for (bool more = true; more && status == STATUS_OK;) {
    struct store_range range = {.family = FAMILY_SCHEDULES, .from = key_slice(&from), .limit = RECOVER_ROWS};
    struct store_rows rows;
    status = store_scan(engine->store, NULL, &range, &rows, error);
    if (status != STATUS_OK)
      break;
    for (size_t i = 0; i < rows.count && status == STATUS_OK; i++)
      status = recover_row(engine, &rows.rows[i], arena, error);
    more = rows.count == range.limit;
    if (more) {
      struct slice last = rows.rows[rows.count - 1].key;
      from.length = last.length + 1;
      memcpy(from.bytes, last.data, last.length);
      from.bytes[last.length] = 0;
    }
    store_rows_release(&rows);
    arena_reset(arena);
  }
  arena_free(arena);
  return status;
}

static gboolean free_one(gpointer name, gpointer schedule, gpointer context) {
  (void)name, (void)context;
  schedule_free(schedule);
  return FALSE;
}

void schedules_free(struct engine *engine) {
  if (!engine->schedules)
    return;
  g_tree_foreach(engine->schedules, free_one, NULL);
  g_tree_destroy(engine->schedules);
  g_ptr_array_free(engine->dirty_schedules, TRUE);
}
