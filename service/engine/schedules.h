/* SPDX-License-Identifier: Apache-2.0 */
/* schedules.h: recurring jobs. Next comes from the expression and the stored last nominal time and is written in the same batch
 * as the job, whose id derives from the schedule's uid and the nominal time: none fires twice. At most SCHEDULES_MAX, held in
 * memory. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_SCHEDULES_H
#define MILLRACE_ENGINE_SCHEDULES_H

#include "engine/state.h"

/* The timer of a schedule: `name` is the timer's value. */
void schedule_due(struct turn *turn, struct slice name, const struct id *uid, int64_t time_ms);
/* A job made by a schedule ended (QUEUE_ONE). Called by turn_update. */
void schedule_job_ended(struct turn *turn, struct entry *entry);
/* There is room on the disk again: what came due meanwhile follows the catch-up window. */
void schedules_go_on(struct turn *turn);
void schedules_write(struct turn *turn);
enum status schedules_recover(struct engine *engine, struct error *error);
void schedules_free(struct engine *engine);
/* The uid of a schedule by name, for filters. False: there is none. */
bool schedule_uid(struct engine *engine, const char *name, struct id *out_uid);

void create_schedule_apply(struct turn *turn, struct request *request);
void get_schedule_apply(struct turn *turn, struct request *request);
void list_schedules_apply(struct turn *turn, struct request *request);
void update_schedule_apply(struct turn *turn, struct request *request);
void delete_schedule_apply(struct turn *turn, struct request *request);
void declare_schedules_apply(struct turn *turn, struct request *request);
void pause_schedule_apply(struct turn *turn, struct request *request);
void resume_schedule_apply(struct turn *turn, struct request *request);
void run_schedule_apply(struct turn *turn, struct request *request);
void preview_schedule_apply(struct turn *turn, struct request *request);

#endif
