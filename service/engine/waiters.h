/* SPDX-License-Identifier: Apache-2.0 */
/* waiters.h: those who wait for a job, chain or batch to end, and those who watch jobs change. Checked and registered in one step
 * on the engine's thread, so that no end is missed. Limits: WAITERS_MAX, WATCHES_MAX. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_WAITERS_H
#define MILLRACE_ENGINE_WAITERS_H

#include "engine/state.h"

/* Holds the request until the job, chain or batch ends or the time is over. Takes over the answer. */
void wait_add(struct turn *turn, enum wait_kind kind, const struct id *id, struct request *request, int64_t timeout_ms);
/* It ended: answers those who wait for it. The answers leave once the turn is durable. */
void waiters_job_ended(struct turn *turn, struct entry *entry);
void waiters_chain_ended(struct turn *turn, const struct id *chain);
void waiters_batch_ended(struct turn *turn, const struct id *batch);
/* Time-outs of waits; watchers that were too slow. */
void waiters_run(struct turn *turn);
/* The caller left. */
void waiters_cancel(struct turn *turn, struct request *request);
/* The engine stops: answers all with UNAVAILABLE. */
void waiters_stop(struct turn *turn);

void watches_tell(struct turn *turn, struct entry *entry, bool deleted);
void watch_jobs_apply(struct turn *turn, struct request *request);

#endif
