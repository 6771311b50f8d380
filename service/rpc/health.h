/* SPDX-License-Identifier: Apache-2.0 */
/* health.h: grpc.health.v1.Health for the whole server ("") and each of its services, all of which serve or do not serve
 * together. Threads: health_set_serving from any; calls are accepted on the poller's. */
#ifndef MILLRACE_RPC_HEALTH_H
#define MILLRACE_RPC_HEALTH_H

#include "rpc/call.h"

struct health *health_new(void);
void health_free(struct health *health); /* NULL is fine */
void health_set_serving(struct health *health, bool serving);

void health_check_route(struct route *route);
void health_watch_route(struct route *route);

#endif
