/* SPDX-License-Identifier: Apache-2.0 */
/* sessions.h: attached worker processes, their leases and what they report. The lease belongs to the session: a heartbeat renews
 * all of it without a write.
 *
 *   Register -> disconnected -connected-> waiting for the first heartbeat -> synced: gets deliveries
 *                    ^--- path closed ---'  (reconnect_grace, or session_timeout at first and after a restart, then gone)
 *   gone: each job that it held is lost to it; what was still on its way to a worker that deregisters is released instead.
 *
 * Numbers: delivery_seq and report_seq are dense per session and stand in its record, written with the batch that leases or
 * accepts. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_SESSIONS_H
#define MILLRACE_ENGINE_SESSIONS_H

#include "engine/state.h"

struct session *session_find(struct engine *engine, const struct id *id);
/* Takes the packed registration; opens its paths. */
struct session *session_add(struct turn *turn, const struct id *id, const Millrace__V1__RegisterRequest *registration,
                            const uint8_t token_hash[32]);
/* Every job that it holds is lost to it, and it is gone. */
void session_end(struct turn *turn, struct session *session, const char *why);
/* The worker deregisters: the same, but a delivery that it is not known to have got goes back to its place and counts for
 * nothing. */
void session_leave(struct turn *turn, struct session *session);
void session_connect(struct turn *turn, struct session *session, uint64_t connection, const char *transport);
void session_disconnect(struct turn *turn, struct session *session, uint64_t connection);
void session_reports(struct turn *turn, struct session *session, uint64_t connection, const Millrace__V1__Reports *reports);
void session_quiet(struct turn *turn, struct session *session, bool drain);
/* Once a second: pings, silence, grace. */
void sessions_tick(struct turn *turn);
/* The policy that the session declared for a task; NULL: none. */
const struct policy *session_policy(const struct session *session, const char *task);
bool session_handles(const struct session *session, const struct task *task);
unsigned session_free_slots(const struct session *session);
void session_command(struct turn *turn, struct session *session, int kind, const struct id *id, uint32_t delivery);
/* The session said that it has no handler for the task: it is not offered it again. */
void session_forget_task(struct turn *turn, struct session *session, struct task *task);
void sessions_write(struct turn *turn);
enum status sessions_recover(struct engine *engine, struct error *error);
void session_free(struct session *session);

#endif
