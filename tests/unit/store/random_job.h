/* SPDX-License-Identifier: Apache-2.0 */
/* random_job.h: jobs of every shape, from a seed. */
#ifndef MILLRACE_TESTS_STORE_RANDOM_JOB_H
#define MILLRACE_TESTS_STORE_RANDOM_JOB_H

#include <glib.h>

#include "core/job.h"

/* The generator of a test: the seed comes from TEST_SEED or the clock, and is printed, so that a failure can be replayed. */
GRand *random_new(void);
struct id random_id(GRand *random);
/* Texts and arrays live in the arena. The state may be any, RUNNING included. */
struct job random_job(GRand *random, struct arena *arena);
/* Another state of the same job: some fields change, most stay. */
struct job random_change(GRand *random, struct arena *arena, const struct job *job);
struct policy random_policy(GRand *random, struct arena *arena);
/* The plain job of most tests: PENDING, without anything special. */
struct job plain_job(unsigned number);

#endif
