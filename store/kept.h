/* SPDX-License-Identifier: Apache-2.0 */
/* kept.h: the files of a store as they were before its recovery, as hard links in the directory "before-recovery" within it.
 * RocksDB recovers the log up to the first damage, moves that into tables and deletes the logs, with all that is intact behind
 * the damage. When the store is then refused, nothing must be lost by that: a disk that reads better on another day still has it
 * all.
 *
 * Refuses to be a backup: the links share their content with the store, which never changes a file that recovery reads.
 * Threads: one. Errors: none; a file system without hard links has none kept. */
#ifndef MILLRACE_STORE_KEPT_H
#define MILLRACE_STORE_KEPT_H

#include <stdbool.h>

/* Before recovery. False: nothing was made: there is no store yet, it is impossible, or one is kept that was refused before. */
bool kept_make(const char *directory);
/* After one that has lost nothing. */
void kept_remove(const char *directory);
/* Where it is (g_free), or NULL. */
char *kept_find(const char *directory);

#endif
