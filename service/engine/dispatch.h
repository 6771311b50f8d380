/* SPDX-License-Identifier: Apache-2.0 */
/* dispatch.h: deals ready jobs to free slots at the end of a turn. CRITICAL first in every queue, then by priority; within one
 * priority the session with the largest free share takes from its queues by their weights, in a queue the job that became ready
 * first. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_DISPATCH_H
#define MILLRACE_ENGINE_DISPATCH_H

#include "engine/state.h"

void dispatch_run(struct turn *turn);
/* A concurrency key lost a holder or a ready job: its next parked job becomes ready at the end of the turn. */
void dispatch_unpark(struct turn *turn, uint32_t queue, const char *concurrency_key);
/* Why the job does not run; a value of millrace.v1.WaitingReason. */
int dispatch_waiting_reason(struct turn *turn, const struct job *job);
/* Which tasks are served must be looked at again: a session joined or left, or learnt that it does not know a task. */
void dispatch_servers_changed(struct engine *engine, struct session *session);
/* Brings `served` of the queue's tasks up to date. */
void dispatch_refresh_served(struct engine *engine, struct queue *queue);
/* In slices: as many parked jobs of each key become ready as its limit allows. At start, when those who served a task left, and
 * when the first session comes to a queue that had none. */
void dispatch_unpark_later(struct engine *engine);

#endif
