/* SPDX-License-Identifier: Apache-2.0 */
/* streams.h: the adapters of the streaming methods of the engine's table.
 * METHOD_SERVER_STREAM: one request, then messages as the engine sends them, until either side ends; a reader who lets more than
 * stream_backlog_bytes_max pile up is ended with RESOURCE_EXHAUSTED.
 * METHOD_MESSAGE_STREAM: each inbound message is a request, several at work at once, answered in order; a message that fails as a
 * whole ends the stream after the answers before it. Nothing is read while the answers of MESSAGES_AT_WORK_MAX messages have not
 * gone out. Threads: calls are accepted on the poller's. */
#ifndef MILLRACE_RPC_STREAMS_H
#define MILLRACE_RPC_STREAMS_H

#include "rpc/call.h"

enum { MESSAGES_AT_WORK_MAX = 16 };

/* Fills in how the route (its method is set) takes calls. */
void streams_route(struct route *route);

#endif
