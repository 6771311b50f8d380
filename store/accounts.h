/* SPDX-License-Identifier: Apache-2.0 */
/* accounts.h: the recount for store_check: what queues, lanes, leases and batches say of their jobs against the jobs themselves.
 * Memory: queues, lanes, sessions, leases and the batches that have not ended; never the jobs.
 * Threads: one. Errors: those of the store; what does not agree is told, not an error. */
#ifndef MILLRACE_STORE_ACCOUNTS_H
#define MILLRACE_STORE_ACCOUNTS_H

#include "core/job.h"
#include "store/walk.h"

struct accounts;

/* `tell` is called with each thing that is wrong. */
struct accounts *accounts_new(void (*tell)(void *context, const char *sentence), void *context);
void accounts_free(struct accounts *accounts); /* NULL is fine */
/* Reads what is compared with the jobs. Before the next two. */
enum status accounts_load(struct accounts *accounts, struct walk *walk, struct error *error) STATUS_CHECK;
/* A PENDING job that a live lease holds becomes RUNNING. */
void accounts_place(const struct accounts *accounts, struct job *job);
/* Counts a job (as stored: it is placed by this call). Each job once. */
void accounts_add(struct accounts *accounts, struct job *job);
/* Compares, when all jobs are in. Answers the number of live lease entries. */
uint64_t accounts_compare(struct accounts *accounts);

#endif
