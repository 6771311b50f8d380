/* SPDX-License-Identifier: Apache-2.0 */
/* state.h: what the engine's thread holds in memory, and the turn in which it changes. Private to this folder.
 *
 * A turn: take mail -> collect keys -> one read -> decide (core) -> dispatch -> one write -> hand to the syncer. Everything here
 * is touched by the engine's thread alone, except what is marked otherwise.
 *
 * Memory is bounded by configuration: queues, lanes and their windows, sessions, running jobs (credit), waits, watches and the
 * cache of fresh bodies each have a limit in core/limits.h; queued jobs live in the store. */
#ifndef MILLRACE_ENGINE_STATE_H
#define MILLRACE_ENGINE_STATE_H

#include <glib.h>

#include "core/job.h"
#include "core/limits.h"
#include "engine/engine.h"
#include "engine/heap.h"
#include "engine/mailbox.h"
#include "engine/meters.h"
#include "engine/syncer.h"
#include "millrace/store/v1/store.pb-c.h"
#include "millrace/v1/job.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"
#include "store/changes.h"
#include "store/keys.h"
#include "store/records.h"

enum { PRIORITIES = 4 }; /* LOW, NORMAL, HIGH, CRITICAL as 0 .. 3 */

static inline unsigned priority_index(uint8_t priority) {
  return priority >= 10 ? 3 : priority >= 8 ? 2 : priority >= 5 ? 1 : 0;
}

/* ---- queues ---- */

struct ready {
  uint64_t sequence;
  struct id id;
};

/* (queue, priority, task): jobs in the order in which they became ready. The first ones stand in a window in memory, the rest on
 * disk. */
struct lane {
  struct heap_node node; /* in queue->active[priority] while it has ready jobs that somebody serves; key: sequence of the first */
  struct queue *queue;
  struct task *task;
  uint8_t priority;
  uint64_t ready; /* jobs in the lane, the window included */
  uint64_t head;  /* no key of the lane is below */
  GArray *window; /* of struct ready, in order; NULL: empty */
  guint window_first;
  bool beyond;              /* there may be jobs on disk after the window */
  uint64_t unwritten_first; /* lowest sequence among those that come with this turn's batch; UINT64_MAX: none */
  bool dirty;
};

struct task {
  uint32_t number;
  char *name;
  struct lane *lanes[PRIORITIES]; /* NULL until used */
  bool served;                    /* a connected session that serves the queue handles it */
  struct task_meter *meter;       /* NULL until its first job */
};

/* Creations and endings of a second, or of a minute. */
struct rate_slot {
  int64_t number; /* of the second or minute, since 1970 */
  uint32_t created;
  uint32_t finished;
};
enum { RATE_SECONDS = 60, RATE_MINUTES = 60 };

struct queue {
  uint32_t number;
  char *name;
  GPtrArray *tasks; /* by number; NULL where a number is not in use */
  GHashTable *tasks_by_name;
  struct {
    bool weighted;
    uint64_t length_max;  /* 0: none */
    uint32_t running_max; /* 0: none */
    double rate;          /* 0: none */
    double burst;
    struct policy policy; /* delays_ms owned by the queue */
    int64_t retention_ms;
    int64_t retention_failed_ms;
    uint32_t retention_count;
  } settings;
  Millrace__V1__QueueSettings *settings_message; /* as set; own memory */
  bool paused;
  int64_t created_ms;
  uint64_t counts[JOB_STATES];    /* PARKED apart from PENDING; RUNNING as leased */
  struct heap active[PRIORITIES]; /* of lanes */
  int credit[PRIORITIES];         /* weighted mode */
  GPtrArray *subscriptions;       /* of the sessions that serve it, connected or not */
  bool servers_changed;           /* lanes' `served` must be looked at again */
  bool attended;                  /* a session takes jobs of it, as of that look */
  double tokens;                  /* rate limit */
  int64_t tokens_ms;              /* monotonic time of `tokens` */
  struct rate_slot rates[RATE_SECONDS];
  struct rate_slot minutes[RATE_MINUTES]; /* without the seconds that still stand in `rates` */
  struct queue_meter *meter;
  int64_t ended_due_ms[2];      /* finished, dead: no row is due before */
  int64_t count_rests_until_ms; /* monotonic: jobs beyond the retention count stay until then */
  bool record_dirty;
  bool counters_dirty;
};

/* ---- sessions ---- */

struct subscription {
  struct session *session;
  struct queue *queue;
  uint32_t weight;
  int64_t credit; /* smooth weighted round-robin */
};

/* One message of deliveries that is not finished. */
struct sent {
  uint64_t seq;
  int64_t leased_ms;
  GPtrArray *running; /* of struct running, live ones */
};

struct session {
  struct id id;
  struct heap_node node; /* in the round of free sessions */
  uint8_t token_hash[32];
  Millrace__V1__RegisterRequest *registration; /* own memory */
  GPtrArray *subscriptions;
  GHashTable *tasks; /* name -> struct policy * */
  bool handles_all;
  struct policy *all_policy; /* of "*" */
  GHashTable *unknown_tasks; /* struct task *: the worker said that it does not know them */
  uint32_t concurrency;      /* with prefetch */
  int64_t registered_ms;
  int64_t last_seen_ms; /* wall clock, for people */
  uint64_t delivery_seq;
  uint64_t received_up_to; /* as far as is known, of delivery_seq */
  uint64_t report_seq;
  uint64_t ack_sent;
  uint64_t connection; /* 0: none */
  const char *transport;
  bool synced;    /* the first heartbeat on this connection came */
  bool gap;       /* the last report message left one */
  bool recovered; /* from the store, and not heard since */
  bool quiet;
  bool drain;
  int64_t heard_ms;     /* on the silence clock */
  int64_t ends_ms;      /* on the silence clock: disconnected, gone then; 0: connected */
  int64_t next_ping_ms; /* on the silence clock */
  uint64_t ping_sent;
  uint64_t ping_echoed;
  GHashTable *sent;     /* seq -> struct sent */
  GHashTable *revoked;  /* struct held: taken away, but the worker has not confirmed yet */
  GHashTable *suspects; /* struct held: unknown ones of the last heartbeat */
  size_t live_bytes;    /* of the payloads of what runs: a slow connection must not pile up more than the hub lets wait */
  unsigned live;        /* running jobs */
  GQueue ahead;         /* struct running: of those the prefetched ones that wait for a slot of the worker's; in order */
  GPtrArray *outgoing;  /* struct running: leased in this turn */
  GArray *commands;     /* struct command, to send with this turn */
  bool in_round;
  bool dirty;  /* record */
  bool speaks; /* something to send with this turn */
};

struct held {
  struct id id;
  uint32_t delivery;
};

struct command {
  int kind; /* Millrace__V1__CommandKind */
  struct held held;
};

/* A leased job. */
struct running {
  struct id id;
  uint32_t delivery;
  int64_t created_ms;       /* of the job */
  struct heap_node timeout; /* in engine->timeouts; key: wall clock ms, as all times of jobs */
  GList ahead;              /* in session->ahead */
  bool is_ahead;
  size_t bytes; /* of payload, previous result and record */
  struct session *session;
  uint64_t delivery_seq;
  struct queue *queue;
  struct task *task;
  uint8_t priority;
  struct bytes record;  /* packed JobRecord, own memory */
  struct policy policy; /* effective; delays_ms own memory */
  int64_t leased_ms;
  int64_t started_ms; /* 0: not yet */
  double progress;
  char *progress_message;
  size_t log_bytes;                /* in its log; 0: not known */
  struct concurrency *concurrency; /* NULL: none */
};

/* A concurrency key in use. */
struct concurrency {
  uint32_t queue;
  char *key;
  unsigned holders; /* running jobs */
  unsigned lost;    /* in turn->unpark: holders and ready jobs that are no more */
};

/* ---- waits and watches ---- */

struct waiter {
  struct heap_node node; /* in engine->waits; key: monotonic ms */
  struct request *request;
  struct id id;
  int kind; /* enum wait_kind */
};
enum wait_kind { WAIT_JOB, WAIT_CHAIN, WAIT_BATCH, WAIT_KINDS };

/* ---- the turn ---- */

/* A job touched in a turn. */
struct entry {
  struct id id;
  bool existed; /* `before` is what the store (and the leases) say at the turn's start */
  bool exists;
  bool changed;
  bool spec_loaded;
  bool spec_new;
  bool result_new;
  bool in_window; /* ready, and near the head of its lane: worth keeping in memory */
  struct job before;
  struct job now;
  struct spec spec;
  struct bytes result;   /* packed Payload to be kept apart */
  struct log_lines *log; /* NULL: this turn brought no lines */
};

struct turn {
  struct engine *engine;
  int64_t now_ms;
  int64_t monotonic_ms;
  struct arena *arena; /* lives until the turn's replies are released */
  struct store_batch *batch;
  struct release *release;
  GHashTable *entries; /* struct id -> struct entry (in the arena) */
  GPtrArray *changed;
  GPtrArray *logged;   /* struct entry: with lines for the job log */
  GArray *wanted;      /* struct id: to be read before the first decision */
  GHashTable *uniques; /* "queue/key" -> struct id: changed in this turn; zero id: given up */
  GHashTable *unpark;  /* struct concurrency: keys that lost holders or ready jobs */
  GHashTable *chains;  /* struct id -> struct chain */
  GHashTable *batches; /* struct id -> struct batch */
  unsigned cost;       /* jobs handled, to keep turns short */
};

/* A piece of long work, done in steps between requests. */
struct slice_work {
  /* Does a part within this turn. True: there is more. */
  bool (*step)(struct turn *turn, struct slice_work *work);
  void (*free)(struct slice_work *work);
};

/* Something that takes long, on a thread of its own. */
struct side_thread {
  GThread *thread; /* NULL: there was none */
  bool runs;       /* atomic */
};

struct compaction {
  GThread *thread;  /* NULL: none, or joined */
  bool working;     /* atomic */
  uint64_t removed; /* jobs, since the last one */
  int64_t next_ms;  /* monotonic: not before */
};

struct engine {
  struct engine_options options;
  struct store *store;
  struct mailbox mailbox;
  struct syncer *syncer;
  struct reader *reader;
  GThread *thread;
  bool started;
  bool stopping;       /* atomic: no more requests */
  bool closing;        /* atomic: the thread ends when the mailbox is empty */
  bool stepped;        /* it has no threads: engine_step */
  struct mail *mail;   /* taken from the mailbox, and not opened yet */
  size_t mail_bytes;   /* atomic: of the requests that wait */
  size_t report_bytes; /* atomic: of the reports that wait */
  int64_t started_wall_ms;
  bool failed;
  GRand *random;

  GPtrArray *queues; /* by number */
  GHashTable *queues_by_name;
  uint32_t next_queue;
  size_t lanes;
  GHashTable *dirty_queues; /* struct queue */
  GPtrArray *dirty_lanes;
  uint64_t sequence;      /* last given out */
  uint64_t sequence_mark; /* stored: none at or above was given out */
  int64_t created_ms;     /* the latest creation time that was given out, see engine_created_ms */

  GHashTable *sessions;       /* struct id -> struct session */
  GHashTable *dirty_sessions; /* struct session, by its id: gone through in an order that a seed gives again */
  struct heap round;          /* sessions with free slots, while dispatching */
  GHashTable *running;        /* struct id -> struct running */
  struct heap timeouts;
  GHashTable *concurrencies; /* struct concurrency */
  int64_t silence_ms;        /* advances with the monotonic clock, but not while the server itself sleeps */
  int64_t last_turn_ms;      /* monotonic */
  int64_t next_tick_ms;      /* monotonic: once a second */

  struct bodies *bodies;
  struct key timers_from;        /* timers on disk before this key have been handled */
  int64_t timers_due_ms;         /* none of the others is due before */
  int64_t timers_noted_ms;       /* the earliest that this turn makes; the store shows it only after the turn */
  GHashTable *waits[WAIT_KINDS]; /* struct id -> GPtrArray of struct waiter */
  struct heap wait_timeouts;
  GPtrArray *watches;
  GQueue *slices;             /* struct slice_work */
  GTree *schedules;           /* name -> struct schedule */
  GPtrArray *dirty_schedules; /* changed or removed in this turn */
  bool again;                 /* a turn is due at once */
  bool dispatch_due;
  int64_t rate_due_ms; /* monotonic: a queue's rate limit lets the next one through */
  size_t active_lanes[PRIORITIES];
  bool disk_low;
  bool retention_due;
  bool unparking;    /* a slice looks at all concurrency keys */
  bool unpark_again; /* ... and begins anew when it is through */
  struct side_thread backup;
  struct side_thread checkpoint;
  unsigned job_lines;   /* logged in this second */
  guint retention_next; /* queue looked at next */
  struct compaction compaction;

  struct meters meters;
  struct engine_statistics statistics;
  int64_t alive_ms; /* atomic: `last_turn_ms` as other threads see it */
};

/* Work that another thread hands back to the engine's. */
struct engine_task {
  struct mail mail;
  void (*run)(struct turn *turn, struct engine_task *task);
};
/* Ahead of creates. Once the engine has stopped taking mail, `run` is called with a NULL turn: free only. Any thread. */
void engine_post_back(struct engine *engine, struct engine_task *task);

/* Where a task's jobs are counted. */
static inline struct task_meter *task_meter(struct engine *engine, struct queue *queue, struct task *task) {
  return task->meter ? task->meter : meters_add_task(&engine->meters, queue, task);
}

/* The engine's thread. */
static inline void assert_engine_thread(const struct engine *engine) {
  g_assert(!engine->thread || g_thread_self() == engine->thread);
}

uint64_t engine_random(struct engine *engine);
/* Bytes that nobody can guess. */
void engine_secret(struct engine *engine, uint8_t *out_bytes, size_t length);
/* Uniform in [0, 1). */
double engine_random_fraction(struct engine *engine);
/* The next place in any lane: milliseconds << 20 | count, rising. */
uint64_t engine_sequence(struct turn *turn);
/* The creation time of a new job: now, but not before those that were given out, unless the clock has gone back by far. */
int64_t engine_created_ms(struct turn *turn);
/* All jobs that are there were created by this time, those that are created from now on later, unless the clock goes back by far,
 * or has. */
int64_t engine_divide_created(struct turn *turn);
static inline int64_t sequence_time_ms(uint64_t sequence) {
  return (int64_t)(sequence >> 20);
}
void engine_log(struct engine *engine, int level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void engine_fail(struct engine *engine, const struct error *error);
/* Puts work behind what is already there. */
void engine_add_slice(struct engine *engine, struct slice_work *work);

#endif
