/* SPDX-License-Identifier: Apache-2.0 */
/* filter.h: which jobs. A JobFilter with names turned into numbers, so that it can be asked on any thread. */
#ifndef MILLRACE_ENGINE_FILTER_H
#define MILLRACE_ENGINE_FILTER_H

#include "engine/state.h"

/* Sets of states: a bit for each. */
enum {
  FILTER_STATES_ALL = (1 << (JOB_EXPIRED + 1)) - (1 << JOB_SCHEDULED),
  FILTER_STATES_RETRYABLE = 1 << JOB_FAILED | 1 << JOB_CANCELLED | 1 << JOB_EXPIRED,
  FILTER_STATES_ENDED = FILTER_STATES_RETRYABLE | 1 << JOB_SUCCEEDED,
};

/* Does not change once made, save by filter_restrict. The fields are for search.c. */
struct filter {
  struct arena *arena;
  struct engine *engine;
  Millrace__V1__JobFilter *message; /* a copy; its labels are sorted */
  unsigned states;
  unsigned priorities;    /* bits by priority_index */
  const uint32_t *queues; /* those of message->queues that are in use, sorted */
  size_t queue_count;
  const uint64_t *places; /* queue << 32 | task of each of message->tasks, sorted */
  size_t place_count;
  const struct id *ids; /* sorted */
  size_t id_count;
  struct id batch_id;
  struct id chain_id;
  struct id schedule_uid; /* zero: there is no such schedule now */
  int64_t created_from_ms;
  int64_t created_until_ms;
};

/* NULL message: all jobs. The filter keeps copies. Names of queues and tasks that are not in use match nothing (yet). Errors:
 * INVALID_ARGUMENT. Threads: the engine's. */
struct filter *filter_new(struct engine *engine, const Millrace__V1__JobFilter *message, struct error *error);
void filter_free(struct filter *filter); /* NULL is fine */
/* Takes away the states that are not among `states`. */
void filter_restrict(struct filter *filter, unsigned states);
/* The same for the same conditions, in whichever order the labels came. */
uint64_t filter_hash(const struct filter *filter);
/* All conditions. `job` as in the durable view, with RUNNING worked out. Threads: any. */
bool filter_matches(const struct filter *filter, const struct job *job);
/* May a job of this queue and task match? Threads: any. */
bool filter_matches_place(const struct filter *filter, uint32_t queue, uint32_t task);
/* All conditions except states and priorities and fingerprints, which change: what a watch follows through its life. Threads: the
 * engine's. */
bool filter_matches_identity(const struct filter *filter, const struct job *job);
/* The jobs that match now, as entries of the turn. *out_all is false when they are not all: there are more than `most`, or
 * finding them took more than FILTER_ROWS_MAX rows or FILTER_BYTES_MAX of memory. Threads: the engine's. */
GPtrArray *filter_matching(struct turn *turn, const struct filter *filter, size_t most, bool *out_all);

/* How many rows one page of a list, or one filter_matching, looks at. */
enum { FILTER_ROWS_MAX = 20 * 1000, FILTER_BYTES_MAX = 64 << 20 };

#endif
