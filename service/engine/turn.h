/* SPDX-License-Identifier: Apache-2.0 */
/* turn.h: the turn's view of jobs: load, create, change, remove; and what it lets out. A job is changed by calling a transition
 * of core/job.h on a copy of entry->now and handing it to turn_update, which keeps everything in memory in step (lanes, counters,
 * running jobs, unique keys, concurrency keys, chains, batches, waits, watches); the keys on disk are derived at the end of the
 * turn. Threads: the engine's. Errors: a store that can't be read fails the engine; loads then answer NULL. */
#ifndef MILLRACE_ENGINE_TURN_H
#define MILLRACE_ENGINE_TURN_H

#include "engine/state.h"

struct turn *turn_begin(struct engine *engine, int64_t now_ms, int64_t monotonic_ms);
/* Builds the batch, writes it, hands the release to the syncer, resets. */
void turn_end(struct turn *turn, bool idle);

/* Names a job that will be loaded; turn_fetch reads all of them at once. */
void turn_want(struct turn *turn, const struct id *id);
void turn_fetch(struct turn *turn);
/* The job as it is now in this turn; NULL: there is none (tombstones are answered: look at now.state). */
struct entry *turn_job(struct turn *turn, const struct id *id);
/* Loads many at once into the turn, jobs and specs. */
void turn_fetch_bodies(struct turn *turn, const struct id *ids, size_t count);
/* NULL: the store is damaged. */
const struct spec *turn_spec(struct turn *turn, struct entry *entry);
/* The same, unless it would have to be read from the store: then NULL. */
const struct spec *turn_spec_at_hand(struct turn *turn, struct entry *entry);
/* Packed result of an ended job, or none. */
struct bytes turn_result(struct turn *turn, struct entry *entry);
/* A new job. The id must not exist (or be an entry that does not exist). */
struct entry *turn_create(struct turn *turn, const struct job *job, const struct spec *spec);
void turn_update(struct turn *turn, struct entry *entry, const struct job *next);
/* Removes an ended job: leaves a tombstone when it is younger than TOMBSTONE_MS, unless it is one. */
void turn_remove(struct turn *turn, struct entry *entry);
/* Takes back a job created in this very turn: nothing of it is written. That this turn removed an older one before stays so. */
void turn_forget(struct turn *turn, struct entry *entry);
/* Job that holds a unique key; NULL: free. */
struct entry *turn_unique_holder(struct turn *turn, struct queue *queue, const char *key);
/* One row of any family; data NULL: not there. Lives in the turn's arena. */
struct slice turn_get(struct turn *turn, enum family family, const struct key *key);
/* Rows of any family, as of the end of the turn before. Release with store_rows_release. False: failed. */
bool turn_scan(struct turn *turn, const struct store_range *range, struct store_rows *out_rows);

/* ---- letting out ---- */
/* The response lives in request->arena or turn->arena. Each request is answered once. */
void reply(struct turn *turn, struct request *request, const void *response);
/* Copies the error. */
void reply_error(struct turn *turn, struct request *request, const struct error *error);
/* Shorthand. */
void reply_failure(struct turn *turn, struct request *request, enum status status, const char *field, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* May the caller use this queue? If not, PERMISSION_DENIED has been answered. */
bool reply_unless_granted(struct turn *turn, struct request *request, const char *queue);
void send_event(struct turn *turn, struct request *request, const ProtobufCMessage *message);

/* New message of a type, initialised, in the arena. */
void *message_new(struct arena *arena, const ProtobufCMessageDescriptor *type);
#define MESSAGE(arena, type, descriptor) ((type *)message_new((arena), &(descriptor)))
Google__Protobuf__Timestamp *timestamp_new(struct arena *arena, int64_t ms); /* NULL for 0 */
Google__Protobuf__Duration *duration_new(struct arena *arena, int64_t ms);
char *id_text(struct arena *arena, const struct id *id);                                   /* "" for the zero id */
Millrace__V1__JobError *error_message(struct arena *arena, const struct job_error *error); /* NULL: none */

#endif
