/* SPDX-License-Identifier: Apache-2.0 */
/* model.h: what is known of all jobs from the outside. The model watches them like a client (WatchJobs) and holds each change
 * against a naive copy of the design's table of transitions (rules.c), against what producers, operators and workers have asked
 * for, and against the clock. It shares no code with the engine. What it has been told is durable: a crash must not take it back.
 */
#ifndef MILLRACE_TESTS_SIM_MODEL_H
#define MILLRACE_TESTS_SIM_MODEL_H

#include "sim.h"

/* The states, short. */
#define SCHEDULED MILLRACE__V1__JOB_STATE__JOB_STATE_SCHEDULED
#define PENDING MILLRACE__V1__JOB_STATE__JOB_STATE_PENDING
#define RUNNING MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING
#define RETRYING MILLRACE__V1__JOB_STATE__JOB_STATE_RETRYING
#define BLOCKED MILLRACE__V1__JOB_STATE__JOB_STATE_BLOCKED
#define SUCCEEDED MILLRACE__V1__JOB_STATE__JOB_STATE_SUCCEEDED
#define FAILED MILLRACE__V1__JOB_STATE__JOB_STATE_FAILED
#define CANCELLED MILLRACE__V1__JOB_STATE__JOB_STATE_CANCELLED
#define EXPIRED MILLRACE__V1__JOB_STATE__JOB_STATE_EXPIRED
extern const char *const state_names[];
static inline bool is_terminal(int state) {
  return state >= SUCCEEDED;
}

/* What a worker said first of its delivery's end; later words must not count. */
struct said {
  int event; /* Millrace__V1__Report event case; 0: nothing yet */
  bool permanent, unknown_task;
  uint32_t attempts_max;
  int64_t delay_ms; /* retry_after or snooze; -1: none */
};

/* A delivery that was seen. */
struct given {
  struct id session;
  uint64_t seq;         /* of its message; 0: not sent yet */
  bool unlisted;        /* its worker has forgotten it */
  uint64_t denied_over; /* the connection over which a heartbeat said so; 0: none yet */
  struct said said;
};

struct job {
  struct id id;
  struct plan *plan;
  int state;
  uint32_t generation, attempts, deliveries, lost;
  unsigned priority;
  bool cancel_requested;
  int64_t run_at_ms, expires_at_ms, deadline_ms, created_ms, finished_ms, started_ms;
  int64_t leased_ms; /* not later */
  int64_t unknown_since_ms;
  struct id session;         /* that runs it */
  struct plan_policy policy; /* its own */
  bool policy_unsure;        /* a crash hid whether an update was taken */
  uint64_t order;            /* in which it became ready; 0: a crash hid it */
  bool keeps_place;
  uint64_t ready_sync;                /* that told of it */
  bool acknowledged;                  /* a create was answered */
  unsigned updates, retries, deletes; /* asked for, not answered */
  bool listed;                        /* since the machine started */
  bool is_leaving;                    /* asked to be deleted and created again at once: nobody asks for anything else */
  GHashTable *given;                  /* delivery -> struct given */
};

struct model_session {
  struct id id;
  uint32_t concurrency, running;
  uint64_t leases;        /* so far */
  unsigned queues, tasks; /* bits */
  unsigned unknown;       /* places (model_place) of tasks that it said it does not know; */
  unsigned refused;       /* ... and the engine has heard it */
  bool prefetches;
  bool leaves; /* it was asked to be deregistered */
  bool quiet;  /* it takes no more, as was answered */
  bool closed;
};

struct model_queue {
  bool paused, weighted, has_rate;
  uint32_t running_max, running;
  unsigned settings_open; /* changes asked for, not answered */
  unsigned retries_open;
};

struct model {
  GHashTable *jobs; /* id -> struct job */
  GHashTable *gone; /* ids that were removed -> number of the plan */
  GHashTable *sessions;
  struct model_queue queues[QUEUES];
  uint64_t order;
  bool listing; /* the first states after a start are coming */
};

void model_start(struct sim *sim);
void model_free(struct sim *sim);
/* The machine has started: watches all jobs. */
void model_watch(struct sim *sim);
void model_machine_died(struct sim *sim);
struct job *model_job(struct sim *sim, const struct id *id);
struct job *model_job_named(struct sim *sim, const char *id);
/* Any job that there is, or one in a state (0: any); NULL: none. The same for the same run. */
struct job *model_any(struct sim *sim, int state);
struct model_session *model_session_add(struct sim *sim, const struct id *id);
struct model_session *model_session_find(struct sim *sim, const struct id *id);
/* A queue's task as a bit. */
static inline unsigned model_place(const struct plan *plan) {
  return 1U << (plan->queue * TASKS + plan->task);
}
struct given *model_given(struct job *job, uint32_t delivery);
/* As a queue's answer shows it. */
void model_take_queue(struct model_queue *queue, const Millrace__V1__Queue *answer);
/* A create was answered OK. */
void model_acknowledge(struct sim *sim, const char *id, struct plan *plan);

/* rules.c: may a job become so? Says why not by sim_fail. */
void rules_change(struct sim *sim, struct job *job, const Millrace__V1__Job *next);
void rules_create(struct sim *sim, struct plan *plan, const Millrace__V1__Job *next);
void rules_remove(struct sim *sim, struct job *job);
/* Across a crash, which hides the steps in between. */
void rules_gap(struct sim *sim, struct job *job, const Millrace__V1__Job *next);

/* check.c: the sum of it, when nothing is at hand. */
void check_all(struct sim *sim);
void check_store(struct sim *sim);

#endif
