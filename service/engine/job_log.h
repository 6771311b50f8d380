/* SPDX-License-Identifier: Apache-2.0 */
/* job_log.h: lines about jobs, with their ids and their trace: dead letters as warnings, at most JOB_LINES_PER_SECOND_MAX of
 * them; every change as debug. One line for a job and turn, let out with the turn's replies: the log tells of nothing that a
 * crash takes back, and is not written by the engine's thread. Never a payload, nor what a handler said. Threads: the engine's.
 */
#ifndef MILLRACE_ENGINE_JOB_LOG_H
#define MILLRACE_ENGINE_JOB_LOG_H

#include "engine/state.h"

/* At the end of the turn, for each job that it changed. */
void job_log(struct turn *turn, struct entry *entry);
/* Once a second. */
void job_log_tick(struct engine *engine);

void set_log_level_apply(struct turn *turn, struct request *request);

#endif
