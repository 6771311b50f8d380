/* SPDX-License-Identifier: Apache-2.0 */
/* rules.c: what may become of a job, written anew from the design's table. Each rule names a cause that the world has given: a
 * report, a passed time, an order, a session's end. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { LOSSES_MAX = 3, RETENTION_MIN_MS = 60000 };

static int64_t ms_of(const Google__Protobuf__Timestamp *timestamp) {
  return timestamp ? time_from_timestamp(timestamp) : 0;
}

static const char *error_type(const Millrace__V1__Job *job) {
  return job->error ? job->error->type : "";
}

/* May it have passed when this was decided; must it have. */
static bool may_have_passed(const struct sim *sim, int64_t ms) {
  return ms != 0 && ms <= sim->wall_high_ms;
}

static bool must_have_passed(const struct sim *sim, int64_t ms) {
  return ms != 0 && ms <= sim->wall_low_ms;
}

static void illegal(struct sim *sim, const struct job *job, const Millrace__V1__Job *next, const char *why) {
  sim_fail(sim,
           "job %s (%s, plan %u) was %s: generation %u, delivery %u, attempts %u, lost %u%s\n"
           "  and became %s: generation %u, delivery %u, attempts %u, lost %u, error %s: %s\n"
           "  but %s",
           next->id, job->plan ? queue_names[job->plan->queue] : "?", job->plan->number, state_names[job->state], job->generation,
           job->deliveries, job->attempts, job->lost, job->cancel_requested ? ", cancel requested" : "", state_names[next->state],
           next->generation, next->deliveries, next->attempts, next->lost_count, error_type(next),
           next->error ? next->error->message : "", why);
}

/* ---- the end of a delivery ---- */

struct outcome {
  int state;
  uint32_t attempts, lost; /* more than before */
  int64_t delay_ms;        /* -1: none */
  const char *type;        /* of the error; NULL: any */
};

static int64_t backoff_ms(const struct plan_policy *policy, uint32_t attempt) {
  int64_t delay_ms = policy->is_set ? policy->initial_ms : 1000;
  switch (policy->kind) {
  case MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_LINEAR:
    delay_ms *= attempt;
    break;
  case MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_CONSTANT:
    break;
  case MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_LIST:
    delay_ms = policy->list_ms[attempt > 1];
    break;
  default:
    while (--attempt > 0 && delay_ms < HOUR_MS)
      delay_ms *= 2;
  }
  return MIN(delay_ms, HOUR_MS);
}

static bool agrees(const struct sim *sim, const struct job *job, const Millrace__V1__Job *next, const struct outcome *outcome,
                   bool from_policy) {
  bool gives_up = outcome->state == RETRYING && next->state == FAILED;
  bool late =
      gives_up && (job->policy_unsure || (strcmp(error_type(next), "DEADLINE") == 0 && may_have_passed(sim, job->deadline_ms)));
  if ((!late && (int)next->state != outcome->state) || next->attempts != job->attempts + outcome->attempts ||
      next->lost_count != job->lost + outcome->lost)
    return false;
  if (late || (from_policy && job->policy_unsure))
    return true;
  if (outcome->type && strcmp(outcome->type, error_type(next)) != 0)
    return false;
  if (outcome->delay_ms < 0)
    return true;
  int64_t slack_ms = from_policy && !job->policy.is_set ? outcome->delay_ms / 10 + 1 : 0;
  int64_t run_at_ms = ms_of(next->run_at);
  return run_at_ms >= sim->wall_low_ms + outcome->delay_ms - slack_ms &&
         run_at_ms <= sim->wall_high_ms + outcome->delay_ms + slack_ms;
}

/* An attempt that failed, or ran for too long. */
static struct outcome after_attempt(const struct job *job, const struct said *said) {
  uint32_t most = said->attempts_max ? said->attempts_max : job->policy.is_set ? job->policy.attempts_max : 4;
  if (job->cancel_requested)
    return (struct outcome){CANCELLED, 1, 0, -1, NULL};
  if (said->permanent || (!job->policy_unsure && job->attempts + 1 >= most))
    return (struct outcome){FAILED, 1, 0, -1, NULL};
  return (struct outcome){RETRYING, 1, 0, said->delay_ms >= 0 ? said->delay_ms : backoff_ms(&job->policy, job->attempts + 1),
                          NULL};
}

static struct outcome after_report(const struct sim *sim, const struct job *job, const struct said *said) {
  switch (said->event) {
  case MILLRACE__V1__REPORT__EVENT_SUCCEEDED:
    return (struct outcome){SUCCEEDED, 1, 0, -1, ""};
  case MILLRACE__V1__REPORT__EVENT_FAILED:
    return after_attempt(job, said);
  default:
    if (job->cancel_requested)
      return (struct outcome){CANCELLED, 0, 0, -1, NULL};
  }
  if (said->event == MILLRACE__V1__REPORT__EVENT_SNOOZED)
    return (struct outcome){SCHEDULED, 0, 0, said->delay_ms, NULL};
  if (!said->unknown_task)
    return (struct outcome){PENDING, 0, 0, -1, NULL};
  if (job->unknown_since_ms && sim->wall_low_ms - job->unknown_since_ms >= 10 * MINUTE_MS)
    return (struct outcome){FAILED, 0, 0, -1, "UNKNOWN_TASK"};
  return (struct outcome){SCHEDULED, 0, 0, 5000, NULL};
}

static struct outcome after_loss(const struct job *job) {
  if (job->cancel_requested)
    return (struct outcome){CANCELLED, 0, 1, -1, NULL};
  if (job->lost + 1 >= LOSSES_MAX)
    return (struct outcome){FAILED, 0, 1, -1, "WORKER_LOST"};
  return (struct outcome){RETRYING, 0, 1, backoff_ms(&job->policy, job->lost + 1), "WORKER_LOST"};
}

static void delivery_ends(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  const struct given *given = model_given(job, job->deliveries);
  struct model_session *session = model_session_find(sim, &job->session);
  if (next->deliveries != job->deliveries) {
    illegal(sim, job, next, "the delivery that ended is not the one that ran");
    return;
  }
  struct outcome outcome;
  if (given->said.event) {
    outcome = after_report(sim, job, &given->said);
    if (agrees(sim, job, next, &outcome, given->said.delay_ms < 0)) {
      if (given->said.unknown_task && session) {
        session->unknown |= model_place(job->plan);
        session->refused |= model_place(job->plan);
      }
      if (given->said.unknown_task && !job->unknown_since_ms)
        job->unknown_since_ms = sim->wall_high_ms;
      else if (!given->said.unknown_task && given->said.event != MILLRACE__V1__REPORT__EVENT_RELEASED)
        job->unknown_since_ms = 0;
      return;
    }
  }
  if (!session || session->closed || given->unlisted) {
    outcome = after_loss(job);
    if (agrees(sim, job, next, &outcome, true))
      return;
  }
  if (session && session->closed && session->leaves) { /* it was on its way to a worker that left */
    outcome = (struct outcome){job->cancel_requested ? CANCELLED : PENDING, 0, 0, -1, NULL};
    if (agrees(sim, job, next, &outcome, false))
      return;
  }
  if (job->plan->attempt_timeout_ms && may_have_passed(sim, job->leased_ms + job->plan->attempt_timeout_ms)) {
    outcome = after_attempt(job, &(struct said){.delay_ms = -1});
    outcome.type = job->cancel_requested ? NULL : "TIMEOUT";
    if (agrees(sim, job, next, &outcome, true)) {
      job->unknown_since_ms = 0;
      return;
    }
    outcome = (struct outcome){job->cancel_requested ? CANCELLED : PENDING, 0, 0, -1, NULL};
    if (session && session->prefetches && agrees(sim, job, next, &outcome, false))
      return; /* it waited behind handlers that did not stop */
  }
  outcome = (struct outcome){FAILED, 1, 0, -1, "DEADLINE"};
  if (may_have_passed(sim, job->deadline_ms) && agrees(sim, job, next, &outcome, false))
    return;
  char *why =
      sim_text(sim,
               "its worker said event %d%s%s with delay %" G_GINT64_FORMAT " and limit %u, its policy has %u attempts (told: "
               "%u), its session is %s, and no time-out explains it",
               given->said.event, given->said.permanent ? " permanent" : "", given->said.unknown_task ? " unknown task" : "",
               given->said.delay_ms, given->said.attempts_max, job->policy.attempts_max, next->max_attempts,
               !session || session->closed ? "gone" : "there");
  illegal(sim, job, next, why);
}

/* ---- a delivery begins ---- */

static bool serves(const struct model_session *session, const struct plan *plan) {
  return session->queues >> plan->queue & 1 && session->tasks >> plan->task & 1;
}

/* Made by the end of another job, perhaps of one that was found to be late while jobs were dealt. */
static bool comes_late(const struct sim *sim, const struct job *job) {
  return job->ready_sync == sim->syncs && job->plan->kind != PLAN_ALONE && job->plan->kind != PLAN_MEMBER;
}

/* What should have gone first, and who holds the key. */
static void check_others(struct sim *sim, const struct job *job, const Millrace__V1__Job *next,
                         const struct model_session *session) {
  const struct plan *plan = job->plan;
  unsigned holders = 0;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct job *other = value;
    if (other == job || other->plan->queue != plan->queue)
      continue;
    if (other->state == RUNNING && plan->concurrency_key[0] && strcmp(other->plan->concurrency_key, plan->concurrency_key) == 0)
      holders++;
    if (other->state != PENDING || !other->order || comes_late(sim, other) || other->plan->concurrency_key[0] ||
        !serves(session, other->plan) || session->unknown & model_place(other->plan))
      continue;
    bool higher = other->priority > job->priority && !sim->model->queues[plan->queue].weighted;
    bool earlier = other->priority == job->priority && job->order && other->order < job->order;
    if (higher || earlier) {
      illegal(sim, job, next,
              sim_text(sim, "job %s, which %s, is still waiting", sim_id_text(sim, &other->id),
                       higher ? "has a higher priority" : "became ready earlier"));
      return;
    }
  }
  if (plan->concurrency_key[0] && holders >= plan->concurrency_limit)
    illegal(sim, job, next,
            sim_text(sim, "%u jobs hold its concurrency key '%s', whose limit is %u", holders, plan->concurrency_key,
                     plan->concurrency_limit));
}

static const struct job *step_before(struct sim *sim, const struct plan *plan) {
  if (plan->kind != PLAN_STEP || plan->index == 0)
    return NULL;
  const struct plan *before = g_ptr_array_index(plan->group->members, plan->index - 1);
  return model_job_named(sim, before->id);
}

static void delivery_begins(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  const struct model_queue *queue = &sim->model->queues[job->plan->queue];
  struct id id;
  const struct model_session *session = id_parse(next->session_id, &id) ? model_session_find(sim, &id) : NULL;
  const struct job *before = step_before(sim, job->plan);
  const char *why = NULL;
  sim->tally[TALLY_DELIVERIES]++;
  if (job->state != PENDING)
    why = "only a PENDING job can be handed out";
  else if (next->deliveries != job->deliveries + 1 || model_given(job, next->deliveries))
    why = "the number of the delivery is not the next one";
  else if (queue->paused)
    why = "its queue is paused";
  else if (queue->running_max && queue->running >= queue->running_max)
    why = "its queue runs as many as it may";
  else if (!session || session->closed)
    why = "there is no such session";
  else if (session->quiet)
    why = "the session takes no more";
  else if (!serves(session, job->plan) || session->refused & model_place(job->plan))
    why = "the session does not serve its queue, or does not know its task";
  else if (session->running >= session->concurrency)
    why = "the session has no free slot";
  else if (must_have_passed(sim, job->deadline_ms))
    why = "its deadline has passed";
  else if (must_have_passed(sim, job->expires_at_ms) && !job->started_ms && !job->attempts)
    why = "it has expired";
  else if (before && before->state != SUCCEEDED)
    why = "the chain step before has not succeeded";
  if (why)
    illegal(sim, job, next, why);
  else
    check_others(sim, job, next, session);
}

/* ---- waiting ---- */

static bool is_ordered(struct sim *sim, const struct job *job, const Millrace__V1__Job *next) {
  const char *type = error_type(next);
  const struct plan *plan = job->plan;
  if (strcmp(type, "CHAIN_STEP_FAILED") == 0)
    return plan->kind == PLAN_STEP && plan->index > 0;
  unsigned long number = next->error ? strtoul(next->error->message, NULL, 10) : 0;
  if (strcmp(type, "PURGED") == 0) {
    for (guint i = 0; i < sim->orders->len; i++) {
      const struct order *order = g_ptr_array_index(sim->orders, i);
      if (order->scope == ORDER_PURGE && order->queue == plan->queue)
        return true;
    }
    return false;
  }
  if (strcmp(type, "CANCELLED") != 0 || number >= sim->orders->len)
    return false;
  const struct order *order = g_ptr_array_index(sim->orders, number);
  return order->scope == ORDER_JOB     ? id_equal(&order->id, &job->id)
         : order->scope == ORDER_GROUP ? plan->group && id_equal(&order->id, &plan->group->id)
                                       : order->scope == ORDER_QUEUE && order->queue == plan->queue;
}

static void waits(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  int from = job->state, to = (int)next->state;
  const char *why = NULL;
  bool expired = strcmp(error_type(next), "EXPIRED") == 0;
  if (next->attempts != job->attempts || next->deliveries != job->deliveries || next->lost_count != job->lost)
    why = "it was not running, and its counts changed";
  else if (to == CANCELLED && !is_ordered(sim, job, next))
    why = "nobody ordered that it be cancelled";
  else if (to == EXPIRED && expired && (!may_have_passed(sim, job->expires_at_ms) || job->attempts || from == BLOCKED))
    why = "it had not expired";
  else if (to == EXPIRED && !expired && !may_have_passed(sim, job->deadline_ms))
    why = "its deadline had not passed";
  else if (to == SUCCEEDED || to == FAILED)
    why = "it was not running";
  else if (to == BLOCKED && from != BLOCKED)
    why = "only a step that waits for another is blocked";
  else if (from == BLOCKED && to != BLOCKED && !is_terminal(to) && job->plan->index == 0)
    why = "it is no step that waits for another";
  else if ((from == SCHEDULED || from == RETRYING) && to == PENDING && !job->updates && !may_have_passed(sim, job->run_at_ms))
    why = "its time had not come";
  else if (from != BLOCKED && (to == SCHEDULED || to == RETRYING) && !job->updates &&
           (from != to || ms_of(next->run_at) != job->run_at_ms))
    why = "nobody updated it";
  else if (from == to && !job->updates && (unsigned)next->priority != job->priority)
    why = "nobody changed its priority";
  if (why)
    illegal(sim, job, next, why);
}

/* ---- the doors of model.c ---- */

static void starts_anew(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  const char *why = NULL;
  if (!is_terminal(job->state) || job->state == SUCCEEDED || next->generation != job->generation + 1)
    why = "only a job that ended without success starts anew";
  else if (!job->retries && !sim->model->queues[job->plan->queue].retries_open && job->plan->kind != PLAN_STEP)
    why = "nobody asked for a retry";
  else if ((next->state != PENDING && next->state != BLOCKED) || next->attempts || next->lost_count)
    why = "a retry begins with nothing";
  else if (next->deliveries != job->deliveries)
    why = "the numbers of deliveries go on";
  if (why)
    illegal(sim, job, next, why);
}

void rules_change(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  int from = job->state, to = (int)next->state;
  if (next->generation != job->generation) {
    starts_anew(sim, job, next);
  } else if (is_terminal(from)) {
    if (from != to || next->attempts != job->attempts || next->deliveries != job->deliveries)
      illegal(sim, job, next, "it had ended");
  } else if (from == RUNNING && to == RUNNING) {
    if (next->deliveries != job->deliveries || next->attempts != job->attempts || next->lost_count != job->lost)
      illegal(sim, job, next, "it is still running");
    else if (next->cancel_requested && !job->cancel_requested && !is_ordered(sim, job, next))
      illegal(sim, job, next, "nobody ordered that it be cancelled");
  } else if (from == RUNNING) {
    delivery_ends(sim, job, next);
  } else if (to == RUNNING) {
    delivery_begins(sim, job, next);
  } else {
    waits(sim, job, next);
  }
}

void rules_create(struct sim *sim, struct plan *plan, const Millrace__V1__Job *next) {
  struct id id;
  const char *why = NULL;
  plan->made++;
  bool is_back = id_parse(next->id, &id) && g_hash_table_remove(sim->model->gone, &id);
  if (plan->made > 1 && plan->kind != PLAN_SCHEDULED && !is_back)
    why = "it was made once already";
  else if (plan->id[0] && strcmp(plan->id, next->id) != 0)
    why = "its id is another";
  else if (strcmp(next->queue, queue_names[plan->queue]) != 0 || strcmp(next->task, task_names[plan->task]) != 0)
    why = "its queue or task is another";
  else if (!sim->model->listing && (next->generation != 1 || next->deliveries || next->attempts || is_terminal(next->state)))
    why = "a new job has no past";
  if (why)
    sim_fail(sim, "a job %s was made of plan %u, but %s", next->id, plan->number, why);
  if (!plan->id[0] && plan->kind != PLAN_SCHEDULED)
    g_strlcpy(plan->id, next->id, sizeof plan->id);
}

void rules_remove(struct sim *sim, struct job *job) {
  bool taken_back = !job->acknowledged && job->generation == 1 && !job->deliveries && !is_terminal(job->state);
  if (taken_back && !sim->model->listing) {
    job->plan->made--; /* with the chunk or chain that was refused */
    return;
  }
  if (!is_terminal(job->state))
    sim_fail(sim, "job %s (plan %u) is lost: it was %s, and %s", sim_id_text(sim, &job->id), job->plan->number,
             state_names[job->state], job->acknowledged ? "its create had been acknowledged" : "it had been seen");
  else if (!job->deletes && !may_have_passed(sim, job->finished_ms + RETENTION_MIN_MS))
    sim_fail(sim, "job %s (plan %u), which was %s, is gone before its retention has passed", sim_id_text(sim, &job->id),
             job->plan->number, state_names[job->state]);
}

static bool said_success(const struct job *job) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, job->given);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (((struct given *)value)->said.event == MILLRACE__V1__REPORT__EVENT_SUCCEEDED)
      return true;
  return false;
}

void rules_gap(struct sim *sim, struct job *job, const Millrace__V1__Job *next) {
  const char *why = NULL;
  if (next->generation < job->generation || next->deliveries < job->deliveries)
    why = "it has gone back over the crash";
  else if (next->generation == job->generation && is_terminal(job->state) && (int)next->state != job->state)
    why = "it had ended before the crash";
  else if (next->generation > job->generation && !job->retries && !sim->model->queues[job->plan->queue].retries_open &&
           job->plan->kind != PLAN_STEP)
    why = "nobody asked for a retry";
  else if (next->state == SUCCEEDED && job->state != SUCCEEDED && !said_success(job))
    why = "no worker said that it succeeded";
  else if (next->generation == job->generation && !is_terminal(job->state) && next->attempts < job->attempts)
    why = "attempts were forgotten";
  if (why)
    illegal(sim, job, next, why);
  if (next->generation > job->generation && job->plan->group)
    job->plan->group->is_unsure = true;
  if (next->attempts != job->attempts)
    job->unknown_since_ms = 0; /* an attempt that counts ended meanwhile */
}
