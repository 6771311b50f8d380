/* SPDX-License-Identifier: Apache-2.0 */
/* faulty.h: a store that lies over another one and fails on demand, for tests: a call of one kind fails, or the machine "crashes"
 * and what was not synced is forgotten. After a crash close it and lay a new one over the same inner store: that is the restart.
 *
 * The inner store stays the caller's, must be used through this one only, and closed after it.
 * Threads: as in store.h; the two functions below like store_write, with no other call running. */
#ifndef MILLRACE_STORE_FAULTY_H
#define MILLRACE_STORE_FAULTY_H

#include "store/store.h"

struct store *store_open_faulty(struct store *inner);

enum fault {
  FAULT_GET,           /* get_many answers an error; nothing else happens */
  FAULT_SCAN,          /* likewise */
  FAULT_WRITE,         /* write fails, nothing was applied */
  FAULT_WRITE_APPLIED, /* write fails although the batch was applied */
  FAULT_SYNC,          /* sync fails, nothing is durable */
  FAULT_SYNC_APPLIED,  /* sync fails although all is durable */
  FAULT_SYNC_LOST,     /* sync answers OK although nothing is durable: a disk that lies */
  FAULT_CHECKPOINT,
  FAULTS
};
/* The `call`-th such call from now on fails (1: the next), once. 0: none any more. */
void store_faulty_fail(struct store *faulty, enum fault fault, unsigned call);

/* Forgets what was not synced, save the first `batches_kept` batches of it (a real crash may keep any beginning), and fails. */
void store_faulty_crash(struct store *faulty, size_t batches_kept);

#endif
