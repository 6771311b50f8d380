/* SPDX-License-Identifier: Apache-2.0 */
/* coalesce.h: sends single creates, together where that is faster. A create goes out at once when no call of the coalescer is
 * under way; what comes meanwhile waits and goes out as the next call. It never waits for more to come, and does not look into
 * jobs. Threads: any; callbacks come from the client's thread. */
#ifndef MILLRACE_CLIENT_COALESCE_H
#define MILLRACE_CLIENT_COALESCE_H

#include "millrace.h"
#include "millrace/v1/job.pb-c.h"

struct coalescer;

/* timeout_ms: of a call, and how long a create may wait for those before it. */
struct coalescer *coalescer_new(struct millrace_client *client, int64_t timeout_ms);
/* When no call of the client is under way: then nothing waits either. NULL is fine. */
void coalescer_free(struct coalescer *coalescer);
/* Copies the job. `done` follows, exactly once; of its `job` only `id` and `existing` are known. */
void coalescer_create(struct coalescer *coalescer, Millrace__V1__JobSpec *job,
                      void (*done)(void *context, const struct millrace_job *job, const struct millrace_error *error),
                      void *context);

#endif
