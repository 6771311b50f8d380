/* SPDX-License-Identifier: Apache-2.0 */
/* syncer.h: makes the log durable and then, and only then, lets out what was decided: replies, stream events, deliveries, in the
 * order of the turns. Gathers whatever came while the sync before ran (group commit, no linger). The engine may do it itself when
 * nothing is under way, which saves a thread hop. Threads: syncer_submit from the engine's; views from any. */
#ifndef MILLRACE_ENGINE_SYNCER_H
#define MILLRACE_ENGINE_SYNCER_H

#include "engine/engine.h"
#include "engine/meters.h"

struct syncer;

enum release_kind { RELEASE_REPLY, RELEASE_EVENT, RELEASE_SEND, RELEASE_DROP, RELEASE_OPEN, RELEASE_CLOSE, RELEASE_CALL };

struct release_item {
  enum release_kind kind;
  struct request *request; /* REPLY, EVENT: one reference, given up after the release */
  const struct error *error;
  const ProtobufCMessage *message;
  struct id session;
  uint64_t connection;
  uint8_t *bytes; /* SEND: owned. OPEN: the token's hash, 32 bytes, owned */
  size_t length;
  void (*call)(void *data); /* CALL: what had to outlive the release */
  void *data;
};

/* What one turn lets out. */
struct release {
  struct release *next;
  struct arena *arena; /* errors and messages of the items; freed with the release */
  size_t held_bytes;   /* of the arena, when it was submitted */
  uint64_t ticket;
  struct store_view *view;
  struct release_item *items; /* grows by release_add */
  size_t count;
  size_t capacity;
};

struct release *release_new(void);
struct release_item *release_add(struct release *release, enum release_kind kind);
/* Calls `call(data)` when all of the release is out: what was added later may borrow what `call` frees. */
void release_call(struct release *release, void (*call)(void *data), void *data);
void release_free(struct release *release);

struct syncer *syncer_new(struct engine *engine, const struct engine_options *options);
void syncer_start(struct syncer *syncer);
/* Takes the release; waits first while too many bytes of others are not out. `idle`: nothing else waits in the mailbox, so the
 * caller may do the work itself. */
void syncer_submit(struct syncer *syncer, struct release *take_release, bool idle);
/* Makes durable and lets out what was submitted, when there is no thread. */
void syncer_step(struct syncer *syncer);
/* Lets out all that was submitted, joins the thread, and makes all durable, whatever the durability. */
void syncer_stop(struct syncer *syncer);
void syncer_free(struct syncer *syncer);
/* The durable view: what clients may see. One reference for the caller. */
struct store_view *syncer_view(struct syncer *syncer);
/* How long syncs took. */
void syncer_read(struct syncer *syncer, struct histogram *out_sync_us);

#endif
