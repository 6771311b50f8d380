/* SPDX-License-Identifier: Apache-2.0 */
/* bulk.h: one order for many jobs: cancel and retry by filter, purge of a queue, the end of a batch's members. Done in slices
 * between turns, so that a big one holds up nothing else; the caller is answered when all is done. At most BULK_ORDERS_MAX at a
 * time. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_BULK_H
#define MILLRACE_ENGINE_BULK_H

#include "engine/state.h"

enum { BULK_ORDERS_MAX = 1000 };

void cancel_jobs_apply(struct turn *turn, struct request *request);
void retry_jobs_apply(struct turn *turn, struct request *request);
void purge_queue_apply(struct turn *turn, struct request *request);
/* Cancels all members of the batch that have not ended, however many. */
void cancel_members(struct engine *engine, const struct id *batch, bool terminate, const char *reason);
/* Gives up the orders that callers wait for, and answers them with UNAVAILABLE. */
void bulk_abandon(struct engine *engine);

#endif
