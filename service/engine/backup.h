/* SPDX-License-Identifier: Apache-2.0 */
/* backup.h: Checkpoint: a copy of the store in a directory. StreamBackup: one beside the store, sent file by file, and removed.
 * Each on a thread of its own, as tables in memory are written out and files may be copied, and one at a time. Threads: the
 * engine's, and that which opens and stops it; their own touch only store, request and options. */
#ifndef MILLRACE_ENGINE_BACKUP_H
#define MILLRACE_ENGINE_BACKUP_H

#include "engine/state.h"

void checkpoint_apply(struct turn *turn, struct request *request);
void stream_backup_apply(struct turn *turn, struct request *request);
/* At start: removes what a crash left behind. */
void backup_clean(const struct engine *engine);
/* Waits for those under way; a backup ends soon as the engine is stopping. */
void backup_stop(struct engine *engine);

#endif
