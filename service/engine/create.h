/* SPDX-License-Identifier: Apache-2.0 */
/* create.h: turns a JobSpec into a job, for producers, chains, batches, schedules and callbacks alike. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_CREATE_H
#define MILLRACE_ENGINE_CREATE_H

#include "engine/state.h"

/* Where a job comes from; zero: a producer's call. */
struct origin {
  struct id id; /* to be used; zero: the spec's, or a new one */
  struct id chain_id;
  uint32_t chain_index;
  struct id chain_next;
  bool blocked; /* a later step of a chain */
  struct id previous_id;
  struct bytes previous_result; /* packed Payload */
  struct id batch_id;
  struct id schedule_uid;
  const char *schedule_name; /* NULL: none */
  bool internal;             /* made by the server: neither the queue's length limit nor a full disk refuse it */
};

struct created {
  struct entry *entry;
  bool existing;
};

/* The spec must be valid (validate_job_spec). Errors: ALREADY_EXISTS (the id with other content, a tombstone, a unique key),
 * RESOURCE_EXHAUSTED (queue full, disk low, too many queues or tasks). */
enum status create_job(struct turn *turn, const Millrace__V1__JobSpec *spec, const struct origin *origin,
                       struct created *out_created, struct error *error) STATUS_CHECK;
/* Makes queue, task and lane of a job that is to be created later, by the server itself, so that no limit can stand in its way
 * then, unless somebody deletes the queue while it is empty. NULL needs none. RESOURCE_EXHAUSTED: too many of them. */
enum status create_reserve(struct turn *turn, const Millrace__V1__JobSpec *spec, struct error *error) STATUS_CHECK;
/* Names the job's id as something to read, if the client made it. */
void create_want(struct turn *turn, const Millrace__V1__JobSpec *spec);
/* The spec, or a copy with its labels in order, since maps come in any: the same content must hash the same. NULL stays NULL. */
Millrace__V1__JobSpec *spec_canonical(struct turn *turn, const Millrace__V1__JobSpec *spec);

/* What counts when a create is sent again: canonical, without the trace context, which is another one each time. */
Millrace__V1__JobSpec *spec_content(struct turn *turn, const Millrace__V1__JobSpec *spec);
/* 128-bit hash of a message's content: the test for "the same sent again". */
void content_hash(struct turn *turn, const ProtobufCMessage *message, uint64_t out_hash[static 2]);
/* Packs a template (callback, defaults) for a record; NULL packs to nothing. */
struct bytes spec_pack(struct turn *turn, const Millrace__V1__JobSpec *spec);
/* And back, into the turn's arena; NULL for nothing. */
Millrace__V1__JobSpec *spec_unpack(struct turn *turn, struct bytes packed);

#endif
