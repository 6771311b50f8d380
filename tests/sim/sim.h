/* SPDX-License-Identifier: Apache-2.0 */
/* sim.h: the whole world of a simulation, grown from one seed: an engine that is stepped over a store that fails, a clock that
 * only the world moves, producers, operators and workers; and a model that watches all jobs and knows what may become of them.
 *
 *   orders.c, workers.c --requests, reports--> machine.c (engine, store, clock) --events--> model.c, rules.c --> sim_fail
 *
 * Nothing but the seed decides, so a seed and a number of operations name a run. Threads: one. */
#ifndef MILLRACE_TESTS_SIM_H
#define MILLRACE_TESTS_SIM_H

#include <glib.h>

#include "core/id.h"
#include "core/limits.h"
#include "core/time.h"
#include "engine/engine.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/schedule_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"
#include "store/faulty.h"

enum { QUEUES = 4, TASKS = 3, WORKERS = 6, SHORT = 24 /* what tells ids apart in a trace: their last 12 digits */ };
extern const char *const queue_names[QUEUES];
extern const char *const task_names[TASKS];

/* What a run did, told at its end. */
enum tally {
  TALLY_TURNS,
  TALLY_EVENTS,
  TALLY_CREATES,
  TALLY_DELIVERIES,
  TALLY_CRASHES,
  TALLY_READ_FAULTS,
  TALLY_WRITE_FAULTS,
  TALLY_SYNC_FAULTS,
  TALLY_CLOCK_JUMPS,
  TALLY_SWALLOWED,
  TALLY_DUPLICATES,
  TALLY_REORDERED,
  TALLY_FORGED,
  TALLY_CUTS,
  TALLY_SESSIONS_LOST,
  TALLY_CHECKS,
  TALLIES
};
extern const char *const tally_names[TALLIES];

struct sim {
  uint64_t seed;
  bool verbose;
  bool lying_disk;
  GRand *random;
  unsigned step;
  char operation[160]; /* at hand */
  char *failure;       /* the first; NULL: none */
  uint64_t digest;     /* of all that was traced */
  uint64_t tally[TALLIES];
  struct arena *arena; /* of messages; reset after each step */

  /* The machine. */
  struct store *disk;  /* in memory, outlives crashes */
  struct store *store; /* faulty, over the disk */
  struct engine *engine;
  unsigned incarnation;
  bool engine_failed; /* it said so: the process stops */
  bool is_dead;       /* it crashed: nothing that it says now is heard */
  int64_t wall_ms, monotonic_ms;
  int64_t wall_low_ms, wall_high_ms; /* since the last sync: when what is let out now was decided */
  uint64_t connections;
  unsigned unsynced; /* turns */
  uint64_t syncs;
  uint64_t questions; /* asked by machine_ask so far */
  bool is_answered;   /* the last of them, by `answer`; NULL: it failed */
  const void *answer;

  struct model *model;
  struct worker *workers[WORKERS];
  unsigned staff; /* so many of them work; all in the drain */
  GPtrArray *plans;
  GPtrArray *groups; /* chains and batches */
  GPtrArray *orders; /* cancels */
  bool draining;
};

/* ---- main.c ---- */
/* Remembers the first failure; the run then ends. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line of the run: part of its digest, and printed with --verbose. */
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Uniform in [0, below). */
unsigned sim_roll(struct sim *sim, unsigned below);
/* True once in `n`. */
bool sim_once_in(struct sim *sim, unsigned n);
struct id sim_id(struct sim *sim);
/* Messages in the sim's arena. */
void *sim_message(struct sim *sim, const ProtobufCMessageDescriptor *type);
#define NEW(sim, type, name) ((type *)sim_message(sim, &millrace__v1__##name##__descriptor))
Google__Protobuf__Duration *sim_duration(struct sim *sim, int64_t ms);
Google__Protobuf__Timestamp *sim_timestamp(struct sim *sim, int64_t ms);
char *sim_text(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *sim_id_text(struct sim *sim, const struct id *id);

/* ---- machine.c ---- */
void machine_start(struct sim *sim);
void machine_end(struct sim *sim);
/* Forgets what was not synced, but for a beginning of it, stops the process and starts it anew. */
void machine_crash(struct sim *sim);
/* An orderly stop and a start. */
void machine_restart(struct sim *sim);
/* Calls "JobService/CreateJob" and so on. `answered` once, unless the machine dies before; then `take_data` is freed. */
typedef void answered_fn(struct sim *sim, void *data, const struct error *error, const void *response);
void machine_call(struct sim *sim, const char *method, const ProtobufCMessage *message, answered_fn *answered, void *take_data);
/* Calls and goes on until it is answered. NULL: it failed, or the machine did. The answer lives in the sim's arena. */
const void *machine_ask(struct sim *sim, const char *method, const ProtobufCMessage *message);
/* One turn, and perhaps a sync. */
void machine_turn(struct sim *sim, bool sync);
/* Turns until nothing is at hand and all is durable. */
void machine_settle(struct sim *sim);
/* Time passes: small steps with turns in between, or, with `asleep`, all at once. */
void machine_pass(struct sim *sim, int64_t ms, bool asleep);

/* ---- plans.c: what producers ask for ---- */
enum plan_kind { PLAN_ALONE, PLAN_STEP, PLAN_MEMBER, PLAN_CALLBACK, PLAN_SCHEDULED };
struct plan_policy {
  bool is_set; /* else the server's default */
  uint32_t attempts_max;
  int kind;
  int64_t initial_ms, list_ms[2];
};
/* Named by a job's label "plan". */
struct plan {
  unsigned number;
  enum plan_kind kind;
  unsigned queue, task;
  char id[ID_TEXT_BYTES]; /* "": the server makes it */
  char concurrency_key[16];
  uint32_t concurrency_limit;
  struct plan_policy policy;
  int64_t attempt_timeout_ms;
  struct group *group; /* of steps, members and callbacks */
  unsigned index;      /* of a step */
  unsigned made;       /* jobs seen */
  int first_end;       /* what a batch counts */
  int64_t planned_ms;  /* monotonic */
  GBytes *packed;      /* JobSpec */
};
enum group_kind { GROUP_CHAIN, GROUP_BATCH };
struct group {
  enum group_kind kind;
  struct id id;
  GPtrArray *members;    /* struct plan: steps in order, members that were asked for */
  struct plan *callback; /* on_failure, on_complete */
  uint32_t chunks;       /* acknowledged */
  bool is_acknowledged, is_sealed, is_gone;
  bool is_unsure;     /* a crash hid how some member ended first */
  GBytes *last_chunk; /* AddBatchItemsRequest */
  bool is_chunk_open; /* it was not acknowledged: only the same one may come */
};
struct plan *plan_new(struct sim *sim, enum plan_kind kind, struct group *group);
/* Gives it this id. */
void plan_set_id(struct sim *sim, struct plan *plan, const struct id *id);
/* The spec of a plan, in the sim's arena. */
Millrace__V1__JobSpec *plan_spec(struct sim *sim, const struct plan *plan);
Millrace__V1__RetryPolicy *plan_policy_message(struct sim *sim, const struct plan_policy *policy);
struct plan_policy plan_policy_random(struct sim *sim);
struct group *group_new(struct sim *sim, enum group_kind kind);
void plans_free(struct sim *sim);

/* ---- orders.c: what producers and operators do ---- */
enum order_scope { ORDER_JOB, ORDER_QUEUE, ORDER_GROUP, ORDER_PURGE };
/* A cancel; its number is the reason that jobs are given. */
struct order {
  enum order_scope scope;
  struct id id;
  unsigned queue;
};
void order_one(struct sim *sim);
/* Resumes, lifts limits, seals, ends the schedules. */
void orders_drain(struct sim *sim);

/* ---- workers.c ---- */
void workers_start(struct sim *sim);
void workers_free(struct sim *sim);
/* Each does what is due. */
void workers_act(struct sim *sim);
/* All become good: they serve everything, at once. */
void workers_drain(struct sim *sim);
void workers_machine_died(struct sim *sim);
/* Is the session still joined by this connection? */
bool workers_is_joined(struct sim *sim, const struct id *session, uint64_t connection);
/* Does some worker serve this plan, as far as the engine may know? */
bool workers_serve(struct sim *sim, const struct plan *plan);
/* Has some worker that serves this plan told the engine that it holds nothing, and been given nothing since? */
bool workers_wait_for(struct sim *sim, const struct plan *plan);
/* The engine's transport. */
void workers_receive(struct sim *sim, const struct id *session, uint64_t connection, const uint8_t *bytes, size_t length);
void workers_dropped(struct sim *sim, const struct id *session, uint64_t connection);
void workers_session_closed(struct sim *sim, const struct id *session);

#endif
