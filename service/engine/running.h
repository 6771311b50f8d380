/* SPDX-License-Identifier: Apache-2.0 */
/* running.h: leased jobs: what stands beside their unchanged records, and the messages that hand them over. Threads: the
 * engine's. */
#ifndef MILLRACE_ENGINE_RUNNING_H
#define MILLRACE_ENGINE_RUNNING_H

#include "engine/state.h"

/* Leases a ready job to the session; its delivery goes out with the turn. */
void running_begin(struct turn *turn, struct session *session, struct entry *entry);
/* The lease is over (called by turn_update). */
void running_end(struct turn *turn, struct running *running);
void running_set_record(struct turn *turn, struct running *running, const struct job *job);
void running_free(struct running *running);
/* The limit of attempts that counts for this delivery; the job runs. */
uint32_t running_attempts_max(const struct engine *engine, const struct id *id);
/* Attempt time-outs that have passed. What was prefetched and waited as long behind handlers that do not stop, goes back
 * uncounted. */
void running_time_outs(struct turn *turn);
/* The deadline of a running job passed, or it is to be stopped and forgotten: takes it away from its session, whose slot stays
 * used until it confirms. Call before the transition. Fills `out_end`. */
void running_revoke(struct turn *turn, struct running *running, struct delivery_end *out_end);
/* The worker has, or may have, a handler at work for what is not its lease any more: the slot stays used until it confirms. */
void running_keep_slot(struct turn *turn, struct session *session, const struct held *name);
/* After a restart the worker has told what it holds: the last of the session's deliveries, of which `all` are those that count,
 * are prefetched where its slots don't suffice for all. */
void running_find_ahead(struct turn *turn, struct session *session, GPtrArray *all);
/* The worker says that the handler started: the attempt time-out runs from now. Until then it runs from the lease, or, for a job
 * prefetched, from when a slot was free for it. */
void running_started(struct turn *turn, struct running *running);
/* The worker has slots that it may use for what it has prefetched. */
void running_slots_freed(struct turn *turn, struct session *session);
/* Set of struct concurrency. */
GHashTable *concurrencies_new(void);
/* The one of this key; a new one with zeros if there is none. */
struct concurrency *concurrencies_at(GHashTable *concurrencies, uint32_t queue, const char *key);

/* ---- messages ---- */
/* Builds the messages of this turn: what was leased, commands, acknowledgements, pings. */
void sessions_speak(struct turn *turn);
/* Sends again what a new connection says that it never got; numbers whose jobs have all ended go as empty messages. */
void session_resend(struct turn *turn, struct session *session, uint64_t received_up_to);

/* After sessions_recover: rebuilds what each session holds. */
enum status running_recover(struct engine *engine, struct error *error);

#endif
