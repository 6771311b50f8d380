/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "core/time.h"
#include "engine/create.h"
#include "engine/page.h"
#include "engine/schedule_table.h"
#include "engine/schedules.h"
#include "engine/turn.h"

/* More than an answer takes beside the spec: the rest of a Schedule, an owner of 128 bytes included. */
enum { ANSWER_BYTES = 512 };

static Millrace__V1__Schedule *answer(struct turn *turn, const struct schedule *schedule) {
  struct arena *arena = turn->arena;
  const Millrace__Store__V1__ScheduleRecord *record = &schedule->record;
  Millrace__V1__Schedule *message = MESSAGE(arena, Millrace__V1__Schedule, millrace__v1__schedule__descriptor);
  message->spec = schedule_spec(turn, schedule);
  message->owner = arena_strdup(arena, record->owner);
  message->paused = record->paused;
  message->next_run_at = record->paused ? NULL : timestamp_new(arena, record->next_nominal_ms);
  if (record->last_nominal_ms) {
    message->last_run_at = timestamp_new(arena, record->last_nominal_ms);
    message->last_job_id = id_text(arena, &schedule->last_job);
    message->last_lateness = duration_new(arena, record->last_lateness_ms);
  }
  message->created_at = timestamp_new(arena, record->created_ms);
  message->runs = record->runs;
  message->skipped = record->skipped;
  return message;
}

/* The queue of its jobs, if it matters to the request. */
static const char *queue_of(struct turn *turn, const struct request *request, const struct schedule *schedule) {
  const Millrace__V1__ScheduleSpec *spec = request->queues ? schedule_spec(turn, schedule) : NULL;
  return spec && spec->job->queue[0] ? spec->job->queue : QUEUE_DEFAULT;
}

/* NULL: the request has been answered. */
static struct schedule *find(struct turn *turn, struct request *request, const char *field, const char *name) {
  struct schedule *schedule = schedule_find(turn->engine, name);
  if (!schedule)
    reply_failure(turn, request, STATUS_NOT_FOUND, field, "there is no schedule '%s'", name);
  return schedule && reply_unless_granted(turn, request, queue_of(turn, request, schedule)) ? schedule : NULL;
}

/* ---- one schedule ---- */

/* NULL: it could not be. */
static struct schedule *create(struct turn *turn, const Millrace__V1__ScheduleSpec *spec, bool *out_existing,
                               struct error *error) {
  struct draft draft;
  struct schedule *schedule = schedule_find(turn->engine, spec->name);
  *out_existing = schedule != NULL;
  enum status status = draft_read(turn, spec, &draft, error);
  if (status == STATUS_OK && !schedule) {
    if (schedules_check_room(turn->engine, 1, error) != STATUS_OK)
      return NULL;
    status = draft_reserve(turn, &draft, error);
  }
  if (status != STATUS_OK) {
    error_prefix_field(error, "schedule.");
    return NULL;
  }
  if (!schedule)
    return schedule_add(turn, &draft, "");
  if (draft_is_same(&draft, schedule))
    return schedule;
  error_set(error, STATUS_ALREADY_EXISTS, "schedule.name",
            "schedule '%s' exists with other content; change it with UpdateSchedule", spec->name);
  error_reason(error, "SCHEDULE_EXISTS", spec->name);
  return NULL;
}

void create_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateScheduleRequest *message = (const void *)request->message;
  bool existing;
  struct error error;
  const struct schedule *schedule = create(turn, message->schedule, &existing, &error);
  if (!schedule) {
    reply_error(turn, request, &error);
    return;
  }
  Millrace__V1__CreateScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CreateScheduleResponse, millrace__v1__create_schedule_response__descriptor);
  response->schedule = answer(turn, schedule);
  response->existing = existing;
  reply(turn, request, response);
}

void get_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__GetScheduleRequest *message = (const void *)request->message;
  const struct schedule *schedule = find(turn, request, "name", message->name);
  if (!schedule)
    return;
  Millrace__V1__GetScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__GetScheduleResponse, millrace__v1__get_schedule_response__descriptor);
  response->schedule = answer(turn, schedule);
  reply(turn, request, response);
}

void update_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__UpdateScheduleRequest *message = (const void *)request->message;
  struct schedule *schedule = find(turn, request, "schedule.name", message->schedule->name);
  if (!schedule)
    return;
  struct draft draft;
  struct error error;
  enum status status = draft_read(turn, message->schedule, &draft, &error);
  const bool changes = status == STATUS_OK && !draft_is_same(&draft, schedule);
  if (changes)
    status = draft_reserve(turn, &draft, &error);
  if (status != STATUS_OK) {
    error_prefix_field(&error, "schedule.");
    reply_error(turn, request, &error);
    return;
  }
  if (changes)
    schedule_replace(turn, schedule, &draft);
  Millrace__V1__UpdateScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__UpdateScheduleResponse, millrace__v1__update_schedule_response__descriptor);
  response->schedule = answer(turn, schedule);
  reply(turn, request, response);
}

void delete_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__DeleteScheduleRequest *message = (const void *)request->message;
  struct schedule *schedule = find(turn, request, "name", message->name);
  if (!schedule)
    return;
  schedule_remove(turn, schedule);
  reply(turn, request,
        MESSAGE(turn->arena, Millrace__V1__DeleteScheduleResponse, millrace__v1__delete_schedule_response__descriptor));
}

void pause_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__PauseScheduleRequest *message = (const void *)request->message;
  struct schedule *schedule = find(turn, request, "name", message->name);
  if (!schedule)
    return;
  schedule->record.paused = true;
  schedule_touch(turn, schedule);
  Millrace__V1__PauseScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__PauseScheduleResponse, millrace__v1__pause_schedule_response__descriptor);
  response->schedule = answer(turn, schedule);
  reply(turn, request, response);
}

void resume_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ResumeScheduleRequest *message = (const void *)request->message;
  struct schedule *schedule = find(turn, request, "name", message->name);
  if (!schedule)
    return;
  schedule_resume(turn, schedule);
  Millrace__V1__ResumeScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ResumeScheduleResponse, millrace__v1__resume_schedule_response__descriptor);
  response->schedule = answer(turn, schedule);
  reply(turn, request, response);
}

/* A job on demand: not one of the schedule's times, so neither its last run nor the overlap rule know it. */
void run_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__RunScheduleRequest *message = (const void *)request->message;
  struct schedule *schedule = find(turn, request, "name", message->name);
  if (!schedule)
    return;
  struct origin origin = {.schedule_uid = schedule->uid};
  if (!message->job_id[0] || !id_parse(message->job_id, &origin.id))
    origin.id = id_make_v7(turn->now_ms, 0, engine_random(turn->engine));
  const Millrace__V1__ScheduleSpec *spec = schedule_spec(turn, schedule);
  origin.schedule_name = spec->name;
  struct created created;
  struct error error;
  if (create_job(turn, spec->job, &origin, &created, &error) != STATUS_OK) {
    if (strcmp(error.field, "id") == 0)
      error_prefix_field(&error, "job_");
    reply_error(turn, request, &error);
    return;
  }
  if (!created.existing) {
    schedule->record.runs++;
    schedule_touch(turn, schedule);
  }
  Millrace__V1__RunScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__RunScheduleResponse, millrace__v1__run_schedule_response__descriptor);
  response->job_id = id_text(turn->arena, &created.entry->id);
  reply(turn, request, response);
}

/* ---- many schedules ---- */

void list_schedules_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListSchedulesRequest *message = (const void *)request->message;
  struct key from;
  struct error error;
  if (!page_start(message->page_token, &from, &error)) {
    reply_error(turn, request, &error);
    return;
  }
  GTree *schedules = turn->engine->schedules;
  size_t most = page_size(message->page_size);
  Millrace__V1__ListSchedulesResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListSchedulesResponse, millrace__v1__list_schedules_response__descriptor);
  response->schedules = arena_alloc(turn->arena, (most + 1) * sizeof *response->schedules);
  size_t bytes = 0;
  const char *last = NULL;
  GTreeNode *node = from.length ? g_tree_upper_bound(schedules, from.bytes) : g_tree_node_first(schedules);
  for (; node; node = g_tree_node_next(node)) {
    const struct schedule *schedule = g_tree_node_value(node);
    if ((message->owner[0] && strcmp(message->owner, schedule->record.owner) != 0) ||
        !request_may_use(request, queue_of(turn, request, schedule)))
      continue;
    bytes += schedule->spec_bytes + ANSWER_BYTES;
    if (last && (response->n_schedules == most || bytes > RESPONSE_BYTES_MAX))
      break;
    response->schedules[response->n_schedules++] = answer(turn, schedule);
    last = schedule->name;
  }
  if (node)
    response->next_page_token = page_token(turn->arena, (struct slice){last, strlen(last)});
  reply(turn, request, response);
}

static enum status declare_reserve(struct turn *turn, const Millrace__V1__DeclareSchedulesRequest *message,
                                   const struct draft *drafts, struct error *error) {
  for (size_t i = 0; i < message->n_schedules; i++) {
    const struct schedule *schedule = schedule_find(turn->engine, message->schedules[i]->name);
    if (schedule && draft_is_same(&drafts[i], schedule))
      continue;
    enum status status = draft_reserve(turn, &drafts[i], error);
    if (status != STATUS_OK) {
      error_prefix_field(error, "schedules[%zu].", i);
      return status;
    }
  }
  return STATUS_OK;
}

/* All of it, before a schedule changes. */
static enum status declare_check(struct turn *turn, const Millrace__V1__DeclareSchedulesRequest *message,
                                 struct draft *out_drafts, struct error *error) {
  size_t more = 0;
  for (size_t i = 0; i < message->n_schedules; i++) {
    const Millrace__V1__ScheduleSpec *spec = message->schedules[i];
    const struct schedule *schedule = schedule_find(turn->engine, spec->name);
    enum status status = draft_read(turn, spec, &out_drafts[i], error);
    if (status == STATUS_OK && schedule && strcmp(schedule->record.owner, message->owner) != 0) {
      const char *owner = schedule->record.owner;
      error_set(error, STATUS_FAILED_PRECONDITION, "name", "schedule '%s' is not %s's: %s%s", spec->name, message->owner,
                owner[0] ? "its owner is " : "it was made with CreateSchedule and has no owner", owner);
      status = error_reason(error, "SCHEDULE_OWNED", spec->name);
    }
    if (status != STATUS_OK) {
      error_prefix_field(error, "schedules[%zu].", i);
      return status;
    }
    more += !schedule;
  }
  enum status status = schedules_check_room(turn->engine, more, error);
  return status == STATUS_OK ? declare_reserve(turn, message, out_drafts, error) : status;
}

/* Removes the owner's schedules that the declaration does not name. */
static uint32_t prune(struct turn *turn, const Millrace__V1__DeclareSchedulesRequest *message) {
  GHashTable *kept = g_hash_table_new(g_str_hash, g_str_equal);
  for (size_t i = 0; i < message->n_schedules; i++)
    g_hash_table_add(kept, message->schedules[i]->name);
  GPtrArray *others = g_ptr_array_new();
  for (GTreeNode *node = g_tree_node_first(turn->engine->schedules); node; node = g_tree_node_next(node)) {
    struct schedule *schedule = g_tree_node_value(node);
    if (strcmp(schedule->record.owner, message->owner) == 0 && !g_hash_table_contains(kept, schedule->name))
      g_ptr_array_add(others, schedule);
  }
  for (guint i = 0; i < others->len; i++)
    schedule_remove(turn, g_ptr_array_index(others, i));
  uint32_t count = others->len;
  g_ptr_array_free(others, TRUE);
  g_hash_table_destroy(kept);
  return count;
}

/* The schedules that a declaration may replace or remove must all be the caller's to use. */
static bool may_declare(struct turn *turn, struct request *request, const Millrace__V1__DeclareSchedulesRequest *message) {
  if (!request->queues)
    return true;
  for (size_t i = 0; i < message->n_schedules; i++) {
    const struct schedule *before = schedule_find(turn->engine, message->schedules[i]->name);
    if (before && !reply_unless_granted(turn, request, queue_of(turn, request, before)))
      return false;
  }
  GTreeNode *node = message->prune ? g_tree_node_first(turn->engine->schedules) : NULL;
  for (; node; node = g_tree_node_next(node)) {
    const struct schedule *schedule = g_tree_node_value(node);
    if (strcmp(schedule->record.owner, message->owner) == 0 &&
        !reply_unless_granted(turn, request, queue_of(turn, request, schedule)))
      return false;
  }
  return true;
}

void declare_schedules_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__DeclareSchedulesRequest *message = (const void *)request->message;
  if (!may_declare(turn, request, message))
    return;
  struct draft *drafts = arena_alloc(turn->arena, (message->n_schedules + 1) * sizeof *drafts);
  struct error error;
  if (declare_check(turn, message, drafts, &error) != STATUS_OK) {
    reply_error(turn, request, &error);
    return;
  }
  Millrace__V1__DeclareSchedulesResponse *response =
      MESSAGE(turn->arena, Millrace__V1__DeclareSchedulesResponse, millrace__v1__declare_schedules_response__descriptor);
  for (size_t i = 0; i < message->n_schedules; i++) {
    struct schedule *schedule = schedule_find(turn->engine, message->schedules[i]->name);
    if (!schedule) {
      schedule_add(turn, &drafts[i], message->owner);
      response->created++;
    } else if (draft_is_same(&drafts[i], schedule)) {
      response->unchanged++;
    } else {
      schedule_replace(turn, schedule, &drafts[i]);
      response->updated++;
    }
  }
  if (message->prune)
    response->deleted = prune(turn, message);
  reply(turn, request, response);
}

void preview_schedule_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__PreviewScheduleRequest *message = (const void *)request->message;
  struct schedule_timing timing;
  struct error error;
  if (schedule_timing_read(message->timing, &timing, &error) != STATUS_OK) {
    error_prefix_field(&error, "timing.");
    reply_error(turn, request, &error);
    return;
  }
  int64_t time_ms = message->after ? time_from_timestamp(message->after) : turn->now_ms;
  if (!timing.has_start)
    timing.base_ms = time_ms;
  size_t most = message->count ? message->count : PREVIEW_DEFAULT;
  Millrace__V1__PreviewScheduleResponse *response =
      MESSAGE(turn->arena, Millrace__V1__PreviewScheduleResponse, millrace__v1__preview_schedule_response__descriptor);
  response->times = arena_alloc(turn->arena, (most + 1) * sizeof *response->times);
  while (response->n_times < most && schedule_next_ms(&timing, time_ms, &time_ms)) {
    Google__Protobuf__Timestamp *nominal = arena_alloc(turn->arena, sizeof *nominal);
    time_to_timestamp(time_ms, nominal);
    response->times[response->n_times++] = nominal;
  }
  reply(turn, request, response);
}
