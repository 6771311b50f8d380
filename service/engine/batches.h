/* SPDX-License-Identifier: Apache-2.0 */
/* batches.h: many jobs counted together. Counters are exact and kept in the batch of every change; callbacks are created in the
 * turn in which the last member ends. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_BATCHES_H
#define MILLRACE_ENGINE_BATCHES_H

#include "engine/state.h"

/* A batch touched in a turn; lives in its arena. */
struct batch;

/* A member ended. Called by turn_update; counts it once, whatever its generation. */
void batch_member_ended(struct turn *turn, struct entry *entry);
bool batch_is_open(struct turn *turn, const struct id *id);
void batch_seal_due(struct turn *turn, const struct id *id, int64_t time_ms);
void batch_retention_due(struct turn *turn, const struct id *id);
void batches_write(struct turn *turn);
/* Answers a WaitBatch. */
void batch_answer_wait(struct turn *turn, struct request *request, const struct id *id, bool timed_out);
/* At start: goes on with cancels that were under way. */
enum status batches_recover(struct engine *engine, struct error *error);

void create_batch_apply(struct turn *turn, struct request *request);
void add_batch_items_apply(struct turn *turn, struct request *request);
void seal_batch_apply(struct turn *turn, struct request *request);
void get_batch_apply(struct turn *turn, struct request *request);
void wait_batch_apply(struct turn *turn, struct request *request);
void list_batches_apply(struct turn *turn, struct request *request);
void cancel_batch_apply(struct turn *turn, struct request *request);

#endif
