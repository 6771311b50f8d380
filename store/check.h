/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: verifies a whole store: every key is implied by some record, every record has all its keys, every non-terminal job is
 * in exactly one place, counters and lanes equal a recount, chains and batches agree with their members, leases with their
 * sessions. Reads only; memory is bounded: jobs are checked in key order and sets too big for memory are compared by
 * order-independent hashes. */
#ifndef MILLRACE_STORE_CHECK_H
#define MILLRACE_STORE_CHECK_H

#include "store/store.h"

struct check_report {
  uint64_t jobs;
  uint64_t leases;
  uint64_t problems; /* all; only the first ones are told */
};
struct check_listener {
  void (*problem)(void *context, const char *sentence); /* the first 100 */
  void (*progress)(void *context, uint64_t rows);       /* NULL: none */
  void *context;
};
enum status store_check(struct store *store, const struct check_listener *listener, struct check_report *out_report,
                        struct error *error) STATUS_CHECK;

#endif
