/* SPDX-License-Identifier: Apache-2.0 */
/* schedule_table.h: the schedules in memory, shared by schedules.c (which makes their jobs and writes them) and
 * schedule_methods.c (which answers their owners). Ownership: engine->schedules owns what it holds; a removed schedule lives
 * until schedules_write. Nothing in a schedule may be lent to a job or a reply, since both outlive it: names and specs are copied
 * into the turn's arena. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_SCHEDULE_TABLE_H
#define MILLRACE_ENGINE_SCHEDULE_TABLE_H

#include "core/schedule.h"
#include "engine/state.h"

struct schedule {
  char *name;
  struct id uid;
  struct id last_job;
  uint8_t *spec; /* packed ScheduleSpec, its labels in order: the same content is the same bytes */
  size_t spec_bytes;
  struct schedule_timing timing;
  Millrace__Store__V1__ScheduleRecord record; /* without its spec; uid and last_job_id point to the above, owner is its own */
  int64_t stored_timer_ms;                    /* 0: no timer in the store */
  bool dirty;
  bool gone;
};

/* A spec that was read and found right. */
struct draft {
  const Millrace__V1__ScheduleSpec *spec;
  struct slice packed;
  struct schedule_timing timing;
};

/* NULL: there is none. */
struct schedule *schedule_find(struct engine *engine, const char *name);
/* Its spec, in the turn's arena. */
Millrace__V1__ScheduleSpec *schedule_spec(struct turn *turn, const struct schedule *schedule);
/* It will be written at the end of the turn. */
void schedule_touch(struct turn *turn, struct schedule *schedule);

/* Errors: INVALID_ARGUMENT, the field relative to the spec. */
enum status draft_read(struct turn *turn, const Millrace__V1__ScheduleSpec *spec, struct draft *out_draft,
                       struct error *error) STATUS_CHECK;
/* Before it becomes a schedule's: places for the jobs to come, see create_reserve. */
enum status draft_reserve(struct turn *turn, const struct draft *draft, struct error *error) STATUS_CHECK;
bool draft_is_same(const struct draft *draft, const struct schedule *schedule);
/* RESOURCE_EXHAUSTED: not `more` beyond SCHEDULES_MAX. */
enum status schedules_check_room(struct engine *engine, size_t more, struct error *error) STATUS_CHECK;
/* The name must be free. */
struct schedule *schedule_add(struct turn *turn, const struct draft *draft, const char *owner);
/* Its past stays; the time to come too, unless the timing changed. */
void schedule_replace(struct turn *turn, struct schedule *schedule, const struct draft *draft);
void schedule_remove(struct turn *turn, struct schedule *schedule);
/* Goes on after a pause: what was missed meanwhile follows the catch-up window. */
void schedule_resume(struct turn *turn, struct schedule *schedule);

#endif
