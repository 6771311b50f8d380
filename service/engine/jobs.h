/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.h: the methods of JobService for single jobs, and what others need of them. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_JOBS_H
#define MILLRACE_ENGINE_JOBS_H

#include "engine/state.h"
#include "google/rpc/status.pb-c.h"

/* Cancels a waiting job at once, asks a running one to stop. False: it had ended. */
bool cancel_entry(struct turn *turn, struct entry *entry, bool terminate, const struct job_error *error);
/* Starts an ended job anew. FAILED_PRECONDITION: it has not ended, succeeded, or its unique key is taken, or
 * that of a step of its chain which would follow it. */
enum status retry_entry(struct turn *turn, struct entry *entry, struct error *error) STATUS_CHECK;
/* Lets a job that is about to be started anew hold its unique key again. FAILED_PRECONDITION: another one has it. */
enum status unique_take_back(struct turn *turn, struct job *job, struct error *error) STATUS_CHECK;
/* "CANCELLED" with the caller's reason, or a sentence of ours. */
struct job_error cancel_error(struct turn *turn, const char *reason);
/* One google.rpc.Status for an item among many. */
Google__Rpc__Status *item_error(struct turn *turn, const struct error *error);

void create_job_prepare(struct turn *turn, struct request *request);
void create_job_apply(struct turn *turn, struct request *request);
void create_jobs_prepare(struct turn *turn, struct request *request);
void create_jobs_apply(struct turn *turn, struct request *request);
void get_job_prepare(struct turn *turn, struct request *request);
void get_job_apply(struct turn *turn, struct request *request);
void wait_job_apply(struct turn *turn, struct request *request);
void cancel_job_apply(struct turn *turn, struct request *request);
void retry_job_apply(struct turn *turn, struct request *request);
void update_job_apply(struct turn *turn, struct request *request);
void delete_job_apply(struct turn *turn, struct request *request);

#endif
