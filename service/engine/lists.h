/* SPDX-License-Identifier: Apache-2.0 */
/* lists.h: ListJobs: a page of the jobs that match, read from the durable view on the reader's thread. A page looks at no more
 * than FILTER_ROWS_MAX rows and is then short, with a token. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_LISTS_H
#define MILLRACE_ENGINE_LISTS_H

#include "engine/state.h"

void list_jobs_apply(struct turn *turn, struct request *request);

#endif
