/* SPDX-License-Identifier: Apache-2.0 */
/* format.h: which format a store has, the record meta/"store". A format changes in a major release alone, and an older store is
 * brought up only when that was asked for.
 * Errors: STATUS_FAILED_PRECONDITION: another format or shard; STATUS_DATA_LOSS: the record is damaged or missing. */
#ifndef MILLRACE_STORE_FORMAT_H
#define MILLRACE_STORE_FORMAT_H

#include "store/store.h"

enum { STORE_FORMAT = 1 };

/* Brings a store from one format to the next. Its writes need not be one batch: after a crash amid it, it runs again. */
struct format_step {
  uint32_t from;
  enum status (*run)(struct store *store, struct error *error);
};

struct format_steps {
  const struct format_step *list;
  size_t count;
};

/* Those of this version: none, as format 1 is the first. */
extern const struct format_steps format_steps;

/* Checks format and shard; writes the record into an empty store. */
enum status store_format_open(struct store *store, uint64_t random_high, uint64_t random_low, struct error *error) STATUS_CHECK;
/* Brings a store up to STORE_FORMAT, step by step; the number is durable after each. One that has it already, or is empty, stays
 * as it is. STATUS_FAILED_PRECONDITION also: a step is missing; then nothing has changed. */
enum status store_format_upgrade(struct store *store, const struct format_steps *steps, struct error *error) STATUS_CHECK;
/* Checks the record's value. */
enum status store_format_check(struct slice value, struct error *error) STATUS_CHECK;
/* For a store without the record: it must be empty, as one is that nothing was written to or that a repair had to give up
 * whole. STATUS_DATA_LOSS: it is not. */
enum status store_format_absent(struct store *store, struct error *error) STATUS_CHECK;

#endif
