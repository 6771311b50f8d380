/* SPDX-License-Identifier: Apache-2.0 */
/* implied.h: the index rows that the records imply: for those who compare them (check) or make them anew (load).
 * Threads: one at a time. Errors: those of the store; a record that can't be read implies nothing. */
#ifndef MILLRACE_STORE_IMPLIED_H
#define MILLRACE_STORE_IMPLIED_H

#include "store/accounts.h"
#include "store/keys.h"

/* The families whose records imply rows of others. */
enum { OWNING_FAMILIES = 4 };
extern const enum family owning_families[OWNING_FAMILIES];
/* Whether the family has only rows that records imply, and no content of its own. */
bool family_is_index(enum family family);

/* Visits the rows implied by one row of an owning family. `visit_job` does so for a job: keys_of, or more. The arena is reset. */
void implied_visit(const struct accounts *accounts, struct arena *arena, enum family family, const struct store_row *row,
                   void (*visit_job)(const struct job *job, const struct key_visitor *visitor),
                   const struct key_visitor *visitor);

/* Writes all of them into a store that has none, and syncs. */
enum status implied_write(struct store *store, struct error *error) STATUS_CHECK;

#endif
