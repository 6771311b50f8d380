/* SPDX-License-Identifier: Apache-2.0 */
/* scope.h: keeps a caller whose grant names queues to these queues. A request is looked through for all that names a queue: job
 * specs, filters, queues of a worker, names of queues. What is only named by its id (a job, a chain, a schedule, a session) the
 * engine checks when it has read it, and jobs that have an outcome each (CreateJobs) one by one: request_may_use and
 * request_check_queue in engine.h. Threads: any. Errors: STATUS_PERMISSION_DENIED with the queue. */
#ifndef MILLRACE_RPC_SCOPE_H
#define MILLRACE_RPC_SCOPE_H

#include "rpc/grants.h"

/* Methods that concern all queues at once, or things that belong to several: not for a grant with queues. */
bool scope_is_wide(const char *path);

/* `request` belongs to the caller; its grant has queues. Copies these into the request for the engine. */
enum status scope_check(const struct grant *grant, struct request *request, struct error *error) STATUS_CHECK;

#endif
