/* SPDX-License-Identifier: Apache-2.0 */
/* backup.h: StreamBackup: a checkpoint beside the store, sent file by file by a thread of its own, and removed. One at a time.
 * Threads: the engine's, and that which opens and stops it; the backup's own touches only store, request and options. */
#ifndef MILLRACE_ENGINE_BACKUP_H
#define MILLRACE_ENGINE_BACKUP_H

#include "engine/state.h"

void stream_backup_apply(struct turn *turn, struct request *request);
/* At start: removes what a crash left behind. */
void backup_clean(const struct engine *engine);
/* Waits for the one under way, which ends soon as the engine is stopping. */
void backup_stop(struct engine *engine);

#endif
