/* SPDX-License-Identifier: Apache-2.0 */
/* keys.h: the form of every key on disk, and keys_of(): the full set of keys that a job has, as a pure function of its state.
 * Numbers are big-endian, so that keys sort by value; texts inside a key are preceded by their length (u16). docs/storage.md is
 * the same table in words. Pure; no errors except in the readers, which answer false for a key that is not of their form. */
#ifndef MILLRACE_STORE_KEYS_H
#define MILLRACE_STORE_KEYS_H

#include "core/job.h"
#include "millrace/store/v1/store.pb-c.h"
#include "store/store.h"

enum { KEY_BYTES_MAX = 416 };

struct key {
  size_t length;
  uint8_t bytes[KEY_BYTES_MAX];
};

static inline struct slice key_slice(const struct key *key) {
  return (struct slice){key->bytes, key->length};
}

/* What a timer is for. Part of the key: the numbers never change. */
enum timer_kind {
  TIMER_RUN = 1,        /* SCHEDULED, RETRYING: run_at_ms; id: job */
  TIMER_EXPIRY = 2,     /* waiting, never started: expires_at_ms; id: job */
  TIMER_DEADLINE = 3,   /* not terminal: deadline_ms; id: job */
  TIMER_SCHEDULE = 4,   /* next_fire_ms; id: the schedule's uid, value: its name */
  TIMER_BATCH_SEAL = 5, /* seal_at_ms; id: batch */
  TIMER_TOMBSTONE = 6,  /* DELETED: delete_at_ms; id: job */
  TIMER_CHAIN_END = 7,  /* delete_at_ms of an ended chain; id: chain */
  TIMER_BATCH_END = 8,  /* delete_at_ms of an ended batch; id: batch */
};

/* ready_*: queue u32, task u32, sequence u64 -> id. `priority` is 0, 5, 8 or 10. */
enum family family_ready(uint8_t priority);
void key_ready(struct key *out_key, uint32_t queue, uint32_t task, uint64_t sequence);
bool key_read_ready(struct slice key, uint32_t *out_queue, uint32_t *out_task, uint64_t *out_sequence);
/* jobs, specs, results, chains, batches, sessions: id. */
void key_id(struct key *out_key, const struct id *id);
bool key_read_id(struct slice key, struct id *out_id);
/* leases: session, delivery_seq u64. */
void key_lease(struct key *out_key, const struct id *session, uint64_t delivery_seq);
bool key_read_lease(struct slice key, struct id *out_session, uint64_t *out_delivery_seq);
/* timers: time u64, kind u8, id. Times below 0 count as 0. */
void key_timer(struct key *out_key, int64_t time_ms, enum timer_kind kind, const struct id *id);
bool key_read_timer(struct slice key, int64_t *out_time_ms, enum timer_kind *out_kind, struct id *out_id);
/* parked: queue u32, concurrency key, 255 - priority u8, sequence u64 -> id. The prefix is everything up to the concurrency key.
 */
void key_parked(struct key *out_key, uint32_t queue, const char *concurrency_key, uint8_t priority, uint64_t sequence);
void key_parked_prefix(struct key *out_key, uint32_t queue, const char *concurrency_key);
bool key_read_parked(struct slice key, uint32_t *out_queue, char out_concurrency_key[static 257], uint8_t *out_priority,
                     uint64_t *out_sequence);
/* dead, finished: queue u32, delete time u64, id. */
void key_ended(struct key *out_key, uint32_t queue, int64_t delete_at_ms, const struct id *id);
bool key_read_ended(struct slice key, uint32_t *out_queue, int64_t *out_delete_at_ms, struct id *out_id);
/* logs: id, number u64. */
void key_log(struct key *out_key, const struct id *id, uint64_t number);
bool key_read_log(struct slice key, struct id *out_id, uint64_t *out_number);
/* queues: 'q' queue -> QueueRecord; 't' queue task -> TaskRecord; 'c' queue -> QueueCountersRecord; 'l' queue priority task ->
 * LaneRecord. */
void key_queue(struct key *out_key, uint32_t queue);
void key_task(struct key *out_key, uint32_t queue, uint32_t task);
void key_counters(struct key *out_key, uint32_t queue);
void key_lane(struct key *out_key, uint32_t queue, uint8_t priority, uint32_t task);
bool key_read_queues(struct slice key, char *out_kind, uint32_t *out_queue, uint8_t *out_priority, uint32_t *out_task);
/* schedules: name. */
void key_name(struct key *out_key, const char *name);
/* unique: queue u32, key -> id. */
void key_unique(struct key *out_key, uint32_t queue, const char *unique_key);
/* labels: 'l' key value id; 'b' batch id; 'c' chain index u32 id; 's' schedule uid id. Prefixes stop before the job's id (or
 * index). */
void key_label(struct key *out_key, const char *label_key, const char *value, const struct id *id);
void key_label_prefix(struct key *out_key, const char *label_key, const char *value);
void key_batch_member(struct key *out_key, const struct id *batch, const struct id *id);
void key_batch_prefix(struct key *out_key, const struct id *batch);
void key_chain_member(struct key *out_key, const struct id *chain, uint32_t index, const struct id *id);
void key_chain_prefix(struct key *out_key, const struct id *chain);
void key_schedule_member(struct key *out_key, const struct id *schedule_uid, const struct id *id);
void key_schedule_prefix(struct key *out_key, const struct id *schedule_uid);
/* The id at the end of any key of `labels`. */
bool key_read_member(struct slice key, struct id *out_id);
/* meta: the given constant name ("store", "marks"). */
void key_meta(struct key *out_key, const char *name);
/* The first key after all those that begin with `prefix`. False: there is none (all bytes are 0xff). */
bool key_after_prefix(const struct key *prefix, struct key *out_key);
/* Below, equal to or above 0 as `a` comes before `b`, is the same, or comes after. */
int key_compare(struct slice a, struct slice b);

/* Called for each key of a job, `value` being what stands there. The key is valid during the call. */
struct key_visitor {
  void (*visit)(void *context, enum family family, const struct key *key, struct slice value);
  void *context;
};
/* Every key that the job has apart from jobs, specs, results and logs: its place (ready, parked, timers, dead, finished), unique
 * key, labels, batch, chain and schedule memberships. RUNNING has the keys of PENDING without the ready key; BLOCKED has no
 * expiry timer; DELETED has its tombstone timer only. Whoever takes over a lapsed PERIOD key must clear unique_held of the old
 * holder, earlier in the same batch. Values: the job's id in ready, parked and unique, otherwise empty. */
void keys_of(const struct job *job, const struct key_visitor *visitor);
/* The timers of the other records: delete_at_ms; seal_at_ms (0 once sealed); next_fire_ms unless paused (the uid must be set). */
void keys_of_chain(const struct id *id, const Millrace__Store__V1__ChainRecord *record, const struct key_visitor *visitor);
void keys_of_batch(const struct id *id, const Millrace__Store__V1__BatchRecord *record, const struct key_visitor *visitor);
void keys_of_schedule(const char *name, const Millrace__Store__V1__ScheduleRecord *record, const struct key_visitor *visitor);

#endif
