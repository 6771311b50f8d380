/* SPDX-License-Identifier: Apache-2.0 */
/* log_lines.h: the job log: what handlers write while they run. The last LOG_BYTES_MAX of each job are kept, in one row for the
 * lines of a turn. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_LOG_LINES_H
#define MILLRACE_ENGINE_LOG_LINES_H

#include "engine/turn.h"

/* They are written at the end of the turn. */
void log_lines_add(struct turn *turn, struct entry *entry, uint32_t delivery, const Millrace__V1__LogLines *lines);
/* The job is removed: its log, of this turn and of those before. */
void log_lines_remove(struct turn *turn, struct entry *entry);
void log_lines_write(struct turn *turn);

#endif
