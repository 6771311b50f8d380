/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h: WorkerService.Attach: a worker's session over one gRPC stream instead of two WebSockets. It reads the hello, hands
 * the stream to the hub and from then on moves packed Deliveries and Reports without looking inside. Threads: calls are accepted
 * on the poller's; the hub may send from any. */
#ifndef MILLRACE_RPC_ATTACH_H
#define MILLRACE_RPC_ATTACH_H

#include "rpc/call.h"

void attach_route(struct route *route);

#endif
