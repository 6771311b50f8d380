/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/search.h"

#include <string.h>

#include "engine/turn.h"

enum {
  LANES_AT_ONCE = 256,
  ENTRIES_BEFORE_ALL = -1, /* nothing of the row has been given out */
  ENTRIES_ALL = UINT16_MAX,
};

/* In the order in which they are walked; the numbers are in page tokens. */
enum stage {
  STAGE_IDS = 1,
  STAGE_MEMBERS,
  STAGE_BLOCKED,
  STAGE_TIMERS,
  STAGE_PARKED,
  STAGE_CRITICAL,
  STAGE_HIGH,
  STAGE_NORMAL,
  STAGE_LOW,
  STAGE_LEASES,
  STAGE_DEAD,
  STAGE_FINISHED,
  STAGE_JOBS,
  STAGES
};

enum {
  ANY = FILTER_STATES_ALL | 1 << JOB_PARKED,
  TIMED = 1 << JOB_SCHEDULED | 1 << JOB_RETRYING,
  FINISHED = FILTER_STATES_ENDED & ~(1 << JOB_FAILED),
};

static const struct stage_row {
  enum family family;
  unsigned states; /* of the jobs that its keys stand for */
  uint8_t priority;
  bool anywhere; /* its keys do not tell where a PENDING job stands */
} stages[STAGES] = {
    [STAGE_IDS] = {FAMILY_JOBS, ANY, 0, true},
    [STAGE_MEMBERS] = {FAMILY_LABELS, ANY, 0, true},
    [STAGE_BLOCKED] = {FAMILY_LABELS, 1 << JOB_BLOCKED, 0, false},
    [STAGE_TIMERS] = {FAMILY_TIMERS, TIMED, 0, false},
    [STAGE_PARKED] = {FAMILY_PARKED, 1 << JOB_PARKED, 0, false},
    [STAGE_CRITICAL] = {FAMILY_READY_CRITICAL, 1 << JOB_PENDING, 10, false},
    [STAGE_HIGH] = {FAMILY_READY_HIGH, 1 << JOB_PENDING, 8, false},
    [STAGE_NORMAL] = {FAMILY_READY_NORMAL, 1 << JOB_PENDING, 5, false},
    [STAGE_LOW] = {FAMILY_READY_LOW, 1 << JOB_PENDING, 0, false},
    [STAGE_LEASES] = {FAMILY_LEASES, 1 << JOB_RUNNING, 0, false},
    [STAGE_DEAD] = {FAMILY_DEAD, 1 << JOB_FAILED, 0, false},
    [STAGE_FINISHED] = {FAMILY_FINISHED, FINISHED, 0, false},
    [STAGE_JOBS] = {FAMILY_JOBS, ANY, 0, true},
};

/* A range of keys. Sources are sorted by stage, then key. */
struct source {
  enum stage stage;
  struct slice from;
  struct slice until; /* empty: to the end */
};

struct search {
  const struct filter *filter;
  struct arena *plan;
  struct arena *page; /* what candidates point to */
  GArray *sources;
  GArray *candidates;
  GArray *given; /* guint: the candidates that search_entries gave as entries */
  guint source;  /* at work; sources->len: done */
  struct key at; /* in it: this key and those after it are left, */
  int entry;     /* ... of this key's row the entries after this one */
  uint64_t sequence_until;
  size_t rows;
};

/* Where rows are read. */
struct reading {
  struct store *store;
  struct store_view *view;
};

/* ---- the plan ---- */

static struct slice keep(struct search *search, const struct key *key) {
  return (struct slice){arena_memdup(search->plan, key->bytes, key->length), key->length};
}

static void add_range(struct search *search, enum stage stage, const struct key *from, const struct key *until) {
  const struct source source = {stage, keep(search, from), keep(search, until)};
  g_array_append_val(search->sources, source);
}

static void add_prefix(struct search *search, enum stage stage, const struct key *prefix) {
  struct key until;
  if (!key_after_prefix(prefix, &until))
    until.length = 0;
  add_range(search, stage, prefix, &until);
}

static void add_all(struct search *search, enum stage stage) {
  static const struct key none;
  add_range(search, stage, &none, &none);
}

/* The keys of the queues that are named, or all of them. */
static void add_queues(struct search *search, enum stage stage, void (*start_of)(struct key *out_key, uint32_t queue)) {
  const struct filter *filter = search->filter;
  if (filter->message->n_queues == 0)
    add_all(search, stage);
  for (size_t i = 0; i < filter->queue_count && filter->message->n_queues; i++) {
    struct key from, until;
    start_of(&from, filter->queues[i]);
    start_of(&until, filter->queues[i] + 1);
    add_range(search, stage, &from, &until);
  }
}

static void start_of_ready(struct key *out_key, uint32_t queue) {
  key_ready(out_key, queue, 0, 0);
}

static void start_of_parked(struct key *out_key, uint32_t queue) {
  key_parked_prefix(out_key, queue, "");
}

static void start_of_ended(struct key *out_key, uint32_t queue) {
  static const struct id zero;
  key_ended(out_key, queue, 0, &zero);
}

/* All steps of all chains: only they are ever BLOCKED. */
static void add_chain_steps(struct search *search) {
  static const struct id first;
  struct id last;
  memset(last.bytes, 0xff, ID_BYTES);
  struct key from, until;
  key_chain_prefix(&from, &first);
  key_chain_prefix(&until, &last);
  if (key_after_prefix(&until, &until))
    add_range(search, STAGE_BLOCKED, &from, &until);
}

/* The narrowest of the groups that the filter names. False: it names none. */
static bool plan_group(struct search *search) {
  const struct filter *filter = search->filter;
  const Millrace__V1__JobFilter *message = filter->message;
  struct key prefix;
  if (filter->id_count) {
    add_all(search, STAGE_IDS);
    return true;
  }
  if (message->chain_id[0])
    key_chain_prefix(&prefix, &filter->chain_id);
  else if (message->batch_id[0])
    key_batch_prefix(&prefix, &filter->batch_id);
  else if (!id_is_zero(&filter->schedule_uid))
    key_schedule_prefix(&prefix, &filter->schedule_uid);
  else if (message->n_labels)
    key_label_prefix(&prefix, message->labels[0]->key, message->labels[0]->value);
  else
    return false;
  add_prefix(search, STAGE_MEMBERS, &prefix);
  return true;
}

static void plan_states(struct search *search) {
  const struct filter *filter = search->filter;
  if (filter->states & 1U << JOB_BLOCKED)
    add_chain_steps(search);
  if (filter->states & TIMED)
    add_all(search, STAGE_TIMERS);
  if (filter->states & 1U << JOB_PENDING) {
    add_queues(search, STAGE_PARKED, start_of_parked);
    for (enum stage stage = STAGE_CRITICAL; stage <= STAGE_LOW; stage++)
      if (filter->priorities & 1U << priority_index(stages[stage].priority))
        add_queues(search, stage, start_of_ready);
  }
  if (filter->states & 1U << JOB_RUNNING)
    add_all(search, STAGE_LEASES);
  if (filter->states & 1U << JOB_FAILED)
    add_queues(search, STAGE_DEAD, start_of_ended);
  if (filter->states & FINISHED)
    add_queues(search, STAGE_FINISHED, start_of_ended);
}

static void make_plan(struct search *search) {
  const struct filter *filter = search->filter;
  const Millrace__V1__JobFilter *message = filter->message;
  if (!filter->states || (message->n_queues && !filter->queue_count) || (message->n_tasks && !filter->place_count) ||
      plan_group(search))
    return;
  if (filter->states == FILTER_STATES_ALL && message->n_queues == 0)
    add_all(search, STAGE_JOBS);
  else
    plan_states(search);
}

/* ---- moving ---- */

static const struct source *source_at(const struct search *search, guint index) {
  return &g_array_index(search->sources, struct source, index);
}

static void set_at(struct search *search, struct slice key, int entry) {
  g_assert(key.length <= KEY_BYTES_MAX);
  if (key.length)
    memmove(search->at.bytes, key.data, key.length);
  search->at.length = key.length;
  search->entry = entry;
}

static void enter(struct search *search, guint source) {
  search->source = source;
  if (!search_is_done(search))
    set_at(search, source_at(search, source)->from, ENTRIES_BEFORE_ALL);
}

struct search *search_new(const struct filter *filter) {
  struct search *search = g_new0(struct search, 1);
  search->filter = filter;
  search->plan = arena_new(0);
  search->page = arena_new(0);
  search->sources = g_array_new(FALSE, FALSE, sizeof(struct source));
  search->candidates = g_array_new(FALSE, TRUE, sizeof(struct candidate));
  search->given = g_array_new(FALSE, FALSE, sizeof(guint));
  search->sequence_until = UINT64_MAX;
  make_plan(search);
  enter(search, 0);
  return search;
}

void search_free(struct search *search) {
  if (!search)
    return;
  g_array_free(search->candidates, TRUE);
  g_array_free(search->given, TRUE);
  g_array_free(search->sources, TRUE);
  arena_free(search->page);
  arena_free(search->plan);
  g_free(search);
}

void search_limit_sequence(struct search *search, uint64_t sequence_max) {
  search->sequence_until = sequence_max + 1;
}

bool search_is_done(const struct search *search) {
  return search->source >= search->sources->len;
}

size_t search_rows(const struct search *search) {
  return search->rows;
}

void search_restart(struct search *search) {
  enter(search, 0);
}

void search_go_back(struct search *search, const struct candidate *candidate) {
  search->source = candidate->source;
  set_at(search, candidate->key, candidate->entry - 1);
}

/* stage u8, entry + 1 u16 (big-endian), key. */
enum { POSITION_HEAD_BYTES = 3 };

void search_position(const struct search *search, struct key *out_position) {
  g_assert(!search_is_done(search) && search->at.length + POSITION_HEAD_BYTES <= KEY_BYTES_MAX);
  const unsigned entry = (unsigned)MIN(search->entry + 1, UINT16_MAX);
  out_position->bytes[0] = (uint8_t)source_at(search, search->source)->stage;
  out_position->bytes[1] = (uint8_t)(entry >> 8);
  out_position->bytes[2] = (uint8_t)entry;
  memcpy(out_position->bytes + POSITION_HEAD_BYTES, search->at.bytes, search->at.length);
  out_position->length = search->at.length + POSITION_HEAD_BYTES;
}

static bool is_ready_stage(enum stage stage) {
  return stage >= STAGE_CRITICAL && stage <= STAGE_LOW;
}

bool search_seek(struct search *search, struct slice position) {
  const uint8_t *bytes = position.data;
  if (position.length < POSITION_HEAD_BYTES || position.length > KEY_BYTES_MAX || bytes[0] < STAGE_IDS || bytes[0] >= STAGES)
    return false;
  const enum stage stage = (enum stage)bytes[0];
  const int entry = (bytes[1] << 8 | bytes[2]) - 1;
  const struct slice key = {bytes + POSITION_HEAD_BYTES, position.length - POSITION_HEAD_BYTES};
  uint32_t queue, task;
  uint64_t sequence;
  if (is_ready_stage(stage) && key.length && !key_read_ready(key, &queue, &task, &sequence))
    return false;
  for (guint i = 0; i < search->sources->len; i++) {
    const struct source *source = source_at(search, i);
    if (source->stage < stage || (source->stage == stage && source->until.length && key_compare(source->until, key) <= 0))
      continue;
    enter(search, i);
    if (source->stage == stage && key_compare(key, source->from) >= 0)
      set_at(search, key, entry);
    return true;
  }
  search->source = search->sources->len;
  return true;
}

/* ---- rows ---- */

static struct candidate *add(struct search *search, const struct id *id, struct slice key) {
  const struct candidate candidate = {
      .id = *id,
      .key = {arena_memdup(search->page, key.data, key.length), key.length},
      .source = search->source,
      .anywhere = stages[source_at(search, search->source)->stage].anywhere,
  };
  g_array_append_val(search->candidates, candidate);
  return &g_array_index(search->candidates, struct candidate, search->candidates->len - 1);
}

static enum status add_lease(struct search *search, const struct store_row *row, int entry, struct error *error) {
  ProtobufCMessage *message;
  const enum status status =
      record_unpack(&millrace__store__v1__lease_record__descriptor, row->value, search->page, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__LeaseRecord *record = (const void *)message;
  for (size_t i = (size_t)entry + 1; i < record->n_entries && i < ENTRIES_ALL; i++) {
    const Millrace__Store__V1__LeaseEntry *leased = record->entries[i];
    struct id id;
    if (!key_read_id((struct slice){leased->job_id.data, leased->job_id.len}, &id))
      continue;
    struct candidate *candidate = add(search, &id, row->key);
    candidate->entry = (uint16_t)i;
    candidate->delivery = leased->delivery;
    candidate->created_ms = leased->created_ms;
  }
  return STATUS_OK;
}

/* The job of a row that has only one. False: it has none that is asked for. */
static bool read_row(const struct search *search, enum stage stage, const struct store_row *row, struct id *out_id) {
  char concurrency_key[KEY_TEXT_BYTES_MAX + 1];
  uint32_t queue;
  uint8_t priority;
  uint64_t sequence;
  int64_t time_ms;
  enum timer_kind kind;
  switch (stage) {
  case STAGE_JOBS:
    return key_read_id(row->key, out_id);
  case STAGE_MEMBERS:
  case STAGE_BLOCKED:
    return key_read_member(row->key, out_id);
  case STAGE_TIMERS:
    return key_read_timer(row->key, &time_ms, &kind, out_id) && kind == TIMER_RUN;
  case STAGE_PARKED:
    return key_read_parked(row->key, &queue, concurrency_key, &priority, &sequence) && sequence < search->sequence_until &&
           key_read_id(row->value, out_id);
  case STAGE_DEAD:
  case STAGE_FINISHED:
    return key_read_ended(row->key, &queue, &time_ms, out_id);
  default: /* ready */
    return key_read_id(row->value, out_id);
  }
}

/* Reads up to `most` rows of a stage's family from where the search stands. *out_exhausted: there are no more before `until`. */
static enum status read_rows(struct search *search, const struct reading *reading, struct slice until, size_t most,
                             bool *out_exhausted, struct error *error) {
  const enum stage stage = source_at(search, search->source)->stage;
  const struct key from = search->at;
  const int skip = search->entry;
  /* One more, since the first row may have been given out before. */
  const struct store_range range = {stages[stage].family, key_slice(&from), until, false, most + 1};
  struct store_rows rows;
  enum status status = store_scan(reading->store, reading->view, &range, &rows, error);
  if (status != STATUS_OK)
    return status;
  for (size_t i = 0; i < rows.count && status == STATUS_OK; i++) {
    const struct store_row *row = &rows.rows[i];
    const int entry = key_compare(row->key, key_slice(&from)) == 0 ? skip : ENTRIES_BEFORE_ALL;
    struct id id;
    if (stage == STAGE_LEASES)
      status = add_lease(search, row, entry, error);
    else if (entry == ENTRIES_BEFORE_ALL && read_row(search, stage, row, &id))
      add(search, &id, row->key);
  }
  search->rows += rows.count;
  if (rows.count)
    set_at(search, rows.rows[rows.count - 1].key, ENTRIES_ALL);
  *out_exhausted = rows.count < range.limit;
  store_rows_release(&rows);
  return status;
}

/* ---- lanes ---- */

struct lane_row {
  uint32_t queue;
  uint32_t task;
  uint8_t priority;
  uint64_t ready;
  uint64_t head;
};

static enum status read_lane(struct search *search, const struct store_row *row, struct lane_row *out_lane, struct error *error) {
  ProtobufCMessage *message;
  const enum status status =
      record_unpack(&millrace__store__v1__lane_record__descriptor, row->value, search->page, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__LaneRecord *record = (const void *)message;
  struct lane_row lane = {.ready = record->ready, .head = record->head};
  char kind;
  if (!key_read_queues(row->key, &kind, &lane.queue, &lane.priority, &lane.task) || kind != 'l')
    return error_set(error, STATUS_DATA_LOSS, NULL, "a lane's key in the family queues can't be read");
  *out_lane = lane;
  return STATUS_OK;
}

/* The lane's ready jobs, from its head: before it lies what was consumed, and it is slow to pass. */
static enum status walk_lane(struct search *search, const struct reading *reading, const struct lane_row *lane, size_t most,
                             bool *out_exhausted, struct error *error) {
  struct key head, until;
  key_ready(&head, lane->queue, lane->task, lane->head);
  key_ready(&until, lane->queue, lane->task, search->sequence_until);
  if (key_compare(key_slice(&search->at), key_slice(&head)) < 0)
    set_at(search, key_slice(&head), ENTRIES_BEFORE_ALL);
  *out_exhausted = true;
  if (key_compare(key_slice(&search->at), key_slice(&until)) >= 0)
    return STATUS_OK;
  return read_rows(search, reading, key_slice(&until), most, out_exhausted, error);
}

/* Moves behind a lane's row; a lane of another priority stands before or behind those of the stage in its queue. */
static void pass_lane(struct search *search, const struct lane_row *lane, uint8_t priority) {
  struct key behind;
  key_ready(&behind, lane->queue + (lane->priority > priority), lane->priority == priority ? lane->task : 0,
            lane->priority == priority ? UINT64_MAX : 0);
  if (key_compare(key_slice(&search->at), key_slice(&behind)) < 0)
    set_at(search, key_slice(&behind), ENTRIES_BEFORE_ALL);
}

/* The rows of lanes, at least one of which is left, from where the search stands to the source's end. */
static struct store_range lanes_left(const struct search *search, struct key *out_from, struct key *out_until) {
  const struct source *source = source_at(search, search->source);
  const uint8_t priority = stages[source->stage].priority;
  uint32_t queue = 0, task = 0;
  uint64_t sequence;
  key_read_ready(key_slice(&search->at), &queue, &task, &sequence);
  key_lane(out_from, queue, priority, task);
  if (key_read_ready(source->until, &queue, &task, &sequence))
    key_lane(out_until, queue - 1, priority, UINT32_MAX);
  else
    key_lane(out_until, UINT32_MAX, UINT8_MAX, UINT32_MAX);
  return (struct store_range){FAMILY_QUEUES, key_slice(out_from), key_slice(out_until), false, LANES_AT_ONCE};
}

static enum status read_lanes(struct search *search, const struct reading *reading, size_t most, bool *out_exhausted,
                              struct error *error) {
  const uint8_t priority = stages[source_at(search, search->source)->stage].priority;
  struct key from, until;
  const struct store_range range = lanes_left(search, &from, &until);
  struct store_rows rows;
  enum status status = store_scan(reading->store, reading->view, &range, &rows, error);
  if (status != STATUS_OK)
    return status;
  bool lane_exhausted = true;
  for (size_t i = 0; i < rows.count && status == STATUS_OK && lane_exhausted && search->candidates->len < most; i++) {
    struct lane_row lane = {0};
    status = read_lane(search, &rows.rows[i], &lane, error);
    if (status == STATUS_OK && lane.priority == priority && lane.ready &&
        filter_matches_place(search->filter, lane.queue, lane.task))
      status = walk_lane(search, reading, &lane, most - search->candidates->len, &lane_exhausted, error);
    if (status == STATUS_OK && lane_exhausted)
      pass_lane(search, &lane, priority);
  }
  search->rows += rows.count;
  *out_exhausted = lane_exhausted && rows.count < range.limit && search->candidates->len < most;
  store_rows_release(&rows);
  return status;
}

/* ---- candidates ---- */

static void read_ids(struct search *search) {
  const struct filter *filter = search->filter;
  for (size_t i = 0; i < filter->id_count; i++) {
    const struct slice key = {filter->ids[i].bytes, ID_BYTES};
    const int order = key_compare(key, key_slice(&search->at));
    if (order > 0 || (order == 0 && search->entry == ENTRIES_BEFORE_ALL))
      add(search, &filter->ids[i], key);
  }
  search->rows += search->candidates->len;
}

enum status search_next(struct search *search, struct store *store, struct store_view *view, size_t most,
                        const struct candidate **out_candidates, size_t *out_count, struct error *error) {
  const struct reading reading = {store, view};
  arena_reset(search->page);
  g_array_set_size(search->candidates, 0);
  enum status status = STATUS_OK;
  if (!search_is_done(search)) {
    const struct source *source = source_at(search, search->source);
    bool exhausted = true;
    if (source->stage == STAGE_IDS)
      read_ids(search);
    else if (is_ready_stage(source->stage))
      status = read_lanes(search, &reading, most, &exhausted, error);
    else
      status =
          read_rows(search, &reading, source->until, MAX(source->stage == STAGE_LEASES ? most / 64 : most, 1), &exhausted, error);
    if (status == STATUS_OK && exhausted)
      enter(search, search->source + 1);
  }
  *out_candidates = (const struct candidate *)(const void *)search->candidates->data;
  *out_count = search->candidates->len;
  return status;
}

bool search_agrees(const struct search *search, const struct candidate *candidate, const struct job *job) {
  const struct stage_row *stage = &stages[source_at(search, candidate->source)->stage];
  return stage->states & 1U << job->state &&
         (!candidate->delivery || lease_entry_counts(candidate->delivery, candidate->created_ms, job));
}

bool search_entries(struct turn *turn, struct search *search, size_t most, GPtrArray *out_entries) {
  struct engine *engine = turn->engine;
  const struct candidate *candidates;
  size_t count;
  struct error error;
  g_ptr_array_set_size(out_entries, 0);
  g_array_set_size(search->given, 0);
  if (engine->failed || search_is_done(search))
    return false;
  if (search_next(search, engine->store, NULL, most, &candidates, &count, &error) != STATUS_OK) {
    engine_fail(engine, &error);
    return false;
  }
  for (size_t i = 0; i < count; i++)
    turn_want(turn, &candidates[i].id);
  turn_fetch(turn);
  for (guint i = 0; i < count; i++) {
    struct entry *entry = turn_job(turn, &candidates[i].id);
    /* What this turn has changed may have left the key. */
    if (entry && (entry->changed || search_agrees(search, &candidates[i], &entry->now)) &&
        filter_matches(search->filter, &entry->now)) {
      g_ptr_array_add(out_entries, entry);
      g_array_append_val(search->given, i);
    }
  }
  return true;
}

void search_give_back(struct search *search, guint index) {
  const guint candidate = g_array_index(search->given, guint, index);
  search_go_back(search, &g_array_index(search->candidates, struct candidate, candidate));
}
