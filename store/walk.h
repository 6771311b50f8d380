/* SPDX-License-Identifier: Apache-2.0 */
/* walk.h: reading a whole family, or a single row, from a view, for those who look at everything (store_check).
 * Threads: one at a time. Errors: those of store_scan and store_get_many. */
#ifndef MILLRACE_STORE_WALK_H
#define MILLRACE_STORE_WALK_H

#include "store/store.h"

struct walk {
  struct store *store;
  struct store_view *view;
  uint64_t rows;                                  /* visited so far */
  void (*progress)(void *context, uint64_t rows); /* after each thousand; NULL: none */
  void *context;
};

/* Calls `visit` for each row of the family in the order of the keys. The row is valid during the call. */
enum status walk_family(struct walk *walk, enum family family,
                        enum status (*visit)(void *context, const struct store_row *row, struct error *error), void *context,
                        struct error *error) STATUS_CHECK;
/* Reads one row: *out_get's value is to be released with store_gets_release, data NULL when it is not there. */
enum status walk_get(struct walk *walk, enum family family, struct slice key, struct store_get *out_get,
                     struct error *error) STATUS_CHECK;

#endif
