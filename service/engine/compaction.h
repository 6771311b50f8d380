/* SPDX-License-Identifier: Apache-2.0 */
/* compaction.h: gives back the disk space of removed jobs. The store keeps it until it rewrites its files, which after a purge or
 * a day's retention may be long; so once many have been removed, compared with those that are kept, a thread of its own asks for
 * it. Refuses to do it more often than once a minute. Threads: the engine's; compaction_stop: any, once that one has ended. */
#ifndef MILLRACE_ENGINE_COMPACTION_H
#define MILLRACE_ENGINE_COMPACTION_H

#include "engine/state.h"

/* Starts one if it is due. */
void compaction_run(struct turn *turn);
/* Ends one that is at work. */
void compaction_stop(struct engine *engine);

#endif
