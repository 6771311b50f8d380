/* SPDX-License-Identifier: Apache-2.0 */
/* timers.h: what is due. Times of jobs, schedules, chains and batches stand in the store, in order of time; only the position of
 * the first one is held in memory, so that a million of them cost nothing. A turn handles a slice of those due. Threads: the
 * engine's. */
#ifndef MILLRACE_ENGINE_TIMERS_H
#define MILLRACE_ENGINE_TIMERS_H

#include "engine/state.h"

/* A timer at this time comes (or came) into the store. */
void timers_note(struct engine *engine, int64_t time_ms);
/* Handles a slice of what is due; sets engine->again when there is more. */
void timers_run(struct turn *turn);
/* Removes a slice of ended jobs whose retention has passed. */
void retention_run(struct turn *turn);

#endif
