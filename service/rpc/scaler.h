/* SPDX-License-Identifier: Apache-2.0 */
/* scaler.h: KEDA's externalscaler.ExternalScaler: how much work the workers of some queues have, so that a cluster can start and
 * stop workers. Work is what is ready and what runs: jobs that run keep their workers, down to the last. What a paused queue
 * holds back, or a queue's max_running, is no work for another worker.
 *
 * The trigger's metadata: `queues`, names with commas between them; `targetBacklogPerWorker`, how many jobs one worker should
 * have. Threads: one of its own asks the engine for those who watch; calls are accepted on the poller's. */
#ifndef MILLRACE_RPC_SCALER_H
#define MILLRACE_RPC_SCALER_H

#include "rpc/call.h"

enum { SCALER_ROUTES = 4 };

struct scaler *scaler_new(void);
void scaler_free(struct scaler *scaler); /* when no call is left; NULL is fine */

/* Fills SCALER_ROUTES routes. */
void scaler_routes(struct route *routes);

#endif
