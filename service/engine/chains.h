/* SPDX-License-Identifier: Apache-2.0 */
/* chains.h: steps that run one after the other. The record counts; the steps are jobs that know their chain, their place and
 * their successor. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_CHAINS_H
#define MILLRACE_ENGINE_CHAINS_H

#include "engine/state.h"

/* A chain touched in a turn; lives in its arena. */
struct chain;

/* A step ended: the next one becomes ready, or the rest is cancelled and on_failure created. Called by turn_update. */
void chain_step_ended(struct turn *turn, struct entry *entry);
/* A step that did not succeed is about to be retried. False: the step before has not succeeded and has ended. Otherwise
 * *out_blocked tells whether the step waits for the one before. */
bool chain_step_can_retry(struct turn *turn, const struct entry *entry, bool *out_blocked);
/* May the steps follow that were cancelled because of it? FAILED_PRECONDITION: another job has the unique key of one. */
enum status chain_check_retry(struct turn *turn, const struct entry *entry, struct error *error) STATUS_CHECK;
/* Unblocks those steps. Called after the step's own transition. */
void chain_step_retried(struct turn *turn, struct entry *entry);
bool chain_is_open(struct turn *turn, const struct id *id);
void chain_retention_due(struct turn *turn, const struct id *id);
void chains_write(struct turn *turn);
/* Answers a WaitChain. */
void chain_answer_wait(struct turn *turn, struct request *request, const struct id *id, bool timed_out);

void create_chain_prepare(struct turn *turn, struct request *request);
void create_chain_apply(struct turn *turn, struct request *request);
void get_chain_apply(struct turn *turn, struct request *request);
void wait_chain_apply(struct turn *turn, struct request *request);
void list_chains_apply(struct turn *turn, struct request *request);
void cancel_chain_apply(struct turn *turn, struct request *request);

#endif
