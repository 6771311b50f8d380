/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h: what the parts of a worker share.
 *
 *   link --received--> worker_intake.c --queue--> worker_pool.c (threads, handlers) --final reports--> worker_reports.c --> link
 *                              ^                                                                          |
 *   worker.c: the session (register, dial, heartbeat, silence, stop), on the thread of millrace_worker_run --+
 *
 * One mutex guards all of it and is held for a few hundred nanoseconds at a time: jobs and reports pass in bulk. A delivery is
 * held from its arrival until its final report has been accepted, and lives as long as that (or as long as its handler, if that
 * is longer). Names with `_locked` want the lock held. */
#ifndef MILLRACE_CLIENT_WORKER_H
#define MILLRACE_CLIENT_WORKER_H

#include <glib.h>

#include "link.h"
#include "sync.h"

enum {
  REPORTS_MAX = 1000,               /* a message, by the protocol */
  NEWS_BYTES_MAX = 8 * 1024 * 1024, /* unaccepted progress and log lines; more are dropped */
  STARTED_AFTER_MS = 10,            /* a job that has ended by then needs no report of its start */
  STALL_MS = 2,                     /* jobs queued and none taken for so long: the threads are busy, more are needed */
  SLOW_US = 200,                    /* handlers that take longer get a thread each */
  HANDLERS_RETURN_MS = 3000,        /* once they were told to stop */
};

enum delivery_state { DELIVERY_QUEUED, DELIVERY_RUNNING, DELIVERY_REPORTED };

struct limits {
  size_t result_bytes_max;
  size_t log_line_bytes_max;
  size_t trace_bytes_max;
};

/* A delivery and what its handler says of it. In the box of the message that brought it. */
struct millrace_context {
  struct millrace_worker *worker;
  struct box *box; /* one reference */
  struct millrace_delivery delivery;
  struct millrace_context *next_final; /* in a chunk */
  GList held;                          /* in worker->held */
  GList link;                          /* in worker->queue, then in worker->unstarted */
  enum delivery_state state;
  bool handler_is_in; /* its handler has not returned */
  bool is_orphan;     /* its session is gone: nothing to report to */
  bool is_accepted;   /* gone from `held` while its handler was still in */
  int stop;           /* atomic: enum millrace_stop */
  int cancel_fd;      /* -1: none yet; with the lock */
  int64_t started_ms;
  GList terminated;         /* in worker->terminated */
  int64_t terminate_end_us; /* the end of the terminate's grace; 0: not terminated */
  struct limits limits;
  uint8_t *said; /* packed final Report; NULL: nothing yet. The handler's. */
  size_t said_bytes;
  const char *said_outcome;
};

/* Reports that go out as one message. */
struct chunk {
  uint64_t seq;
  unsigned count;
  GByteArray *bytes; /* Reports.reports, packed */
  size_t news_bytes;
  struct millrace_context *finals;
};

struct handler {
  void (*run)(struct millrace_context *context, void *user);
  void *user;
  char *task;
  struct box *box; /* of `retry` */
  Millrace__V1__RetryPolicy *retry;
  int64_t attempt_timeout_ms;
};

struct session {
  char *id; /* NULL: none */
  char *token;
  char *url;
  char *jobs_path;
  char *reports_path;
  int64_t heartbeat_ms;
  int64_t silence_ms;
  size_t reports_bytes_max;
  struct limits limits;
};

struct millrace_worker {
  struct millrace_client *client;
  struct millrace_worker_options options;
  struct box *box;      /* copies of the options */
  GHashTable *handlers; /* task → struct handler */
  struct handler *any;

  pthread_mutex_t lock;
  pthread_cond_t news;     /* for the session's thread */
  pthread_cond_t returned; /* a handler has returned */
  bool session_sleeps;     /* long: wake it when something becomes urgent */
  struct session session;

  /* intake */
  uint64_t received_up_to;
  uint64_t ping;
  int64_t heard_us;
  GQueue held;  /* struct millrace_context */
  GQueue queue; /* not started yet */
  bool is_draining;
  bool is_releasing; /* stopping: what comes is given back */

  /* pool */
  unsigned threads;
  unsigned running;
  unsigned idle;
  uint64_t taken;
  uint64_t taken_before; /* when it last rose, as far as was looked */
  int64_t stalled_since_us;
  unsigned orphans; /* handlers still in whose session is gone */
  int64_t usual_us; /* moving average of how long handlers take */
  pthread_cond_t work;
  GArray *pool;      /* pthread_t */
  GQueue terminated; /* running, by force to be stopped; in the order of their ends */
  pthread_t watch;   /* over those */
  bool has_watch;
  bool pool_ends;
  GQueue unstarted; /* running, start not reported */

  /* reports */
  uint64_t report_seq;
  size_t news_bytes;
  struct chunk *filling; /* may be empty */
  GQueue full;           /* waiting to be sent for the first time */
  GQueue unaccepted;     /* sent, oldest first */
  GList *resend;         /* the next of `unaccepted` to send on this connection */
  bool heartbeat_is_due;
  bool sending;

  /* connection */
  struct link *link;
  unsigned link_users; /* threads inside link_send */
  bool link_is_broken;

  int stop_calls;
  bool was_run;
};

/* ---- worker.c ---- */
/* From now on nothing is started: the server is asked not to send any more, and what was queued is given back. */
void worker_begin_stop_locked(struct millrace_worker *worker);

/* ---- worker_intake.c ---- */
void intake_received(void *worker, struct box *take_box, const Millrace__V1__Deliveries *message);
/* Ends the hold on a delivery. */
void intake_drop_locked(struct millrace_context *context);
/* Gives back what has not started; with `reason` STOPPING. */
void intake_release_queued_locked(struct millrace_worker *worker);
/* Gives back what was told that the worker stops and still runs; but nobody is told anything about a job that was cancelled or
 * lost while its handler runs. */
void intake_release_running_locked(struct millrace_worker *worker);
/* The session is gone with everything it held. */
void intake_orphan_all_locked(struct millrace_worker *worker);
/* Tells a running handler to stop, and why. */
void intake_stop_locked(struct millrace_context *context, enum millrace_stop why);
/* Tells running handlers that were not told to stop yet that the worker does. */
void intake_stop_running_locked(struct millrace_worker *worker);
/* Was it asked to stop because its job was cancelled? */
bool intake_was_cancelled(const struct millrace_context *context);
/* Wakes the session's thread. */
void worker_wake_locked(struct millrace_worker *worker);

/* ---- worker_pool.c ---- */
/* There are new jobs in the queue: wakes or starts threads for them. */
void pool_wake_locked(struct millrace_worker *worker, unsigned jobs);
/* More threads if the queue has stood still for STALL_MS. */
void pool_look_for_stall_locked(struct millrace_worker *worker);
void pool_stop(struct millrace_worker *worker);

/* ---- worker_stuck.c ---- */
/* A running handler was told to stop by force: the process ends if it does not within the grace. */
void stuck_terminated_locked(struct millrace_context *context);
void stuck_returned_locked(struct millrace_context *context);
/* Ends the process if a handler of a cancelled job is still running, of which nobody was told anything. */
void stuck_exit_if_cancelled(struct millrace_worker *worker);
/* After pool_stop. */
void stuck_stop(struct millrace_worker *worker);

/* ---- worker_reports.c ---- */
void reports_init(struct millrace_worker *worker);
void reports_clear(struct millrace_worker *worker);
/* Appends the packed Report that is the last word about a delivery. */
void reports_final_locked(struct millrace_context *context, const uint8_t *report, size_t bytes);
/* Appends progress or log lines; too many are dropped. */
void reports_news_locked(struct millrace_context *context, const uint8_t *report, size_t bytes);
/* Completes a Report that has its event and packs it. Free with g_free. */
uint8_t *reports_pack(const struct millrace_context *context, Millrace__V1__Report *report, size_t *out_bytes);
void reports_release_locked(struct millrace_context *context, Millrace__V1__ReleaseReason reason);
void reports_cancelled_locked(struct millrace_context *context);
/* Reports the start of handlers that have been at it for STARTED_AFTER_MS. Returns when the next one is due, in ms; -1: none. */
int64_t reports_started_locked(struct millrace_worker *worker);
void reports_accepted_locked(struct millrace_worker *worker, uint64_t seq);
/* All reports are gone from now on, sent or not. */
void reports_forget_locked(struct millrace_worker *worker);
bool reports_are_pending_locked(const struct millrace_worker *worker);
/* A new connection: a heartbeat first, then everything unaccepted. */
void reports_restart_locked(struct millrace_worker *worker);
/* Sends the next message if there is one and none is on its way. Unless `at_once`, reports wait for others while quick jobs are
 * queued. Lets go of the lock meanwhile. */
void reports_flush_locked(struct millrace_worker *worker, bool at_once);
void reports_sent(void *worker);

#endif
