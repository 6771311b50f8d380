/* SPDX-License-Identifier: Apache-2.0 */
/* unary.h: the adapter that serves every unary method of the engine's table: unpack, submit, pack.
 * Threads: calls are accepted on the poller's; the answer goes out from the thread that calls request->done. */
#ifndef MILLRACE_RPC_UNARY_H
#define MILLRACE_RPC_UNARY_H

#include "rpc/call.h"

/* Fills in how the route (its method is set) takes calls. */
void unary_route(struct route *route);

/* Ends the calls whose big answers nobody has read for too long. On the poller's thread. */
void unary_end_unread(struct rpc_server *server);

#endif
