/* SPDX-License-Identifier: Apache-2.0 */
/* search.h: where the jobs that a filter asks for may stand: a walk over the keys on disk, in an order that does not change,
 * which can be left and taken up again at any key. Keys serve the states per queue, labels, batch, chain, schedule and ids; what
 * else the filter asks is told by the record. Lists walk the durable view with it, the engine the latest writes.
 *
 * The order follows a job's life (blocked, timed, parked, ready, running, ended), so that one that moves on during a long walk is
 * rather met twice than missed.
 * Threads: any, one at a time. Errors: those of the store. */
#ifndef MILLRACE_ENGINE_SEARCH_H
#define MILLRACE_ENGINE_SEARCH_H

#include "engine/filter.h"

struct search;

/* A job that may match. */
struct candidate {
  struct id id;
  struct slice key; /* it was found under */
  guint source;
  uint16_t entry;     /* of the row */
  uint32_t delivery;  /* of the lease; 0: not found through one */
  int64_t created_ms; /* as the lease says */
  bool anywhere;      /* the key does not tell whether a PENDING job is leased */
};

/* The filter is borrowed, and must outlive the search. */
struct search *search_new(const struct filter *filter);
void search_free(struct search *search); /* NULL is fine */
/* Leaves out what became ready (or would be, if it were not parked) later. Before the first search_next. */
void search_limit_sequence(struct search *search, uint64_t sequence_max);
bool search_is_done(const struct search *search);
/* Rows looked at so far. */
size_t search_rows(const struct search *search);
void search_restart(struct search *search);
/* About `most` more, maybe none although it is not done; they live until the next call. */
enum status search_next(struct search *search, struct store *store, struct store_view *view, size_t most,
                        const struct candidate **out_candidates, size_t *out_count, struct error *error) STATUS_CHECK;
/* Found under a key that agrees with the job as it is? If not, it will be met, or was, under another one. */
bool search_agrees(const struct search *search, const struct candidate *candidate, const struct job *job);
/* Goes back to this candidate of the last call: the next call begins with it. */
void search_go_back(struct search *search, const struct candidate *candidate);

/* The position in bytes, for page tokens, and back. False: not a position. A position outside of what the filter asks for leads
 * to the next key that is inside. */
void search_position(const struct search *search, struct key *out_position);
bool search_seek(struct search *search, struct slice position);

/* On the engine's thread: replaces `out_entries` by the next ones that match, out of about `most` candidates, as entries of the
 * turn. False: the search is done, or the store failed (then the engine has). */
bool search_entries(struct turn *turn, struct search *search, size_t most, GPtrArray *out_entries);
/* Of what the last search_entries gave, those from this index on were not looked at: the next call begins with it. */
void search_give_back(struct search *search, guint index);

#endif
