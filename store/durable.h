/* SPDX-License-Identifier: Apache-2.0 */
/* durable.h: the file DURABLE beside the database: the number of the last write known to be durable, so that a store which
 * recovers less is noticed. It is written after that write is on disk, so it never says too much.
 *
 * It is not synced each time: that would double the cost of a sync. After kill -9 the page cache still has it; after power loss
 * it may be some seconds old, which only weakens the check. It is synced when the store opens and closes. Its 32 bytes lie within
 * one sector, so they are not torn.
 *
 * Threads: one writer. Errors: STATUS_UNAVAILABLE when the disk or the system refuses. */
#ifndef MILLRACE_STORE_DURABLE_H
#define MILLRACE_STORE_DURABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

enum durable_state { DURABLE_ABSENT, DURABLE_DAMAGED, DURABLE_GOOD };

/* Whether there is a database beside the file. Both: a file that is there and can't be opened is an error, so that it never
 * passes for one that is lost. */
enum status durable_find_database(const char *directory, bool *out_exists, struct error *error) STATUS_CHECK;
/* Sets *out_sequence only when good. */
enum status durable_read(const char *directory, enum durable_state *out_state, uint64_t *out_sequence,
                         struct error *error) STATUS_CHECK;

/* Before a database is made: makes the directory and, when absent, the file with number 0, so that from the first moment on a
 * database without the file is one that has lost it. */
enum status durable_prepare(const char *directory, struct error *error) STATUS_CHECK;

/* Opens the file for writing, made when absent, and puts `sequence` there, synced. */
enum status durable_open(const char *directory, uint64_t sequence, int *out_file, struct error *error) STATUS_CHECK;
enum status durable_write(int file, uint64_t sequence, struct error *error) STATUS_CHECK; /* not synced */
void durable_close(int file);                                                             /* synced; negative is fine */

#endif
