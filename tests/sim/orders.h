/* SPDX-License-Identifier: Apache-2.0 */
/* orders.h: what orders.c and producers.c share: the context of an answer, and the creates for the table of orders. */
#ifndef MILLRACE_TESTS_SIM_ORDERS_H
#define MILLRACE_TESTS_SIM_ORDERS_H

#include "model.h"

/* What an answer is about. */
struct about {
  struct id id;
  struct plan *plan;
  struct group *group;
  unsigned queue;
  uint32_t chunk;
  bool is_again; /* sent before */
  struct plan_policy policy;
};
struct about *about_new(struct about value);
/* Any other error is a fault; the machine's stop apart. */
void orders_expect(struct sim *sim, const struct error *error, enum status one, enum status other);

void producer_create(struct sim *sim);
void producer_create_again(struct sim *sim);
/* With the id of a job that was removed. */
void producer_create_in_place(struct sim *sim);
/* Such a create, or a chain that is refused after its first step; in the turn in which the job is deleted, if it is there. */
void producer_replace(struct sim *sim, const struct id *id);
void producer_create_many(struct sim *sim);
void producer_create_chain(struct sim *sim);
void producer_create_batch(struct sim *sim);
void producer_add_chunk(struct sim *sim);
void producer_seal_one(struct sim *sim);
void producer_create_schedule(struct sim *sim);
void producer_change_schedule(struct sim *sim);
/* Seals the batches, ends the schedules. */
void producers_drain(struct sim *sim);
/* One of the latest that is there; NULL: none. */
struct group *producer_group(struct sim *sim, enum group_kind kind);

#endif
