/* SPDX-License-Identifier: Apache-2.0 */
/* check.c: when nothing is at hand, all that can be asked for must agree with the model: lists, counts, batches, chains,
 * schedules; and the store with itself. */
#include <string.h>

#include "model.h"
#include "store/check.h"

/* ---- the store ---- */

static void problem(void *context, const char *sentence) {
  sim_fail(context, "the store's check: %s", sentence);
}

void check_store(struct sim *sim) {
  struct check_listener listener = {.problem = problem, .context = sim};
  struct check_report report;
  struct error error;
  if (sim->incarnation > 1 && store_check(sim->disk, &listener, &report, &error) != STATUS_OK)
    sim_fail(sim, "the store can't be checked: %s", error.message);
}

/* ---- jobs and counts ---- */

static void check_job(struct sim *sim, const Millrace__V1__Job *listed) {
  struct job *job = model_job_named(sim, listed->id);
  if (!job) {
    sim_fail(sim, "ListJobs shows job %s, which those who watch were never told of, or told that it is gone", listed->id);
    return;
  }
  job->listed = true;
  if ((int)listed->state != job->state || listed->generation != job->generation || listed->attempts != job->attempts ||
      listed->deliveries != job->deliveries || (unsigned)listed->priority != job->priority ||
      listed->cancel_requested != job->cancel_requested)
    sim_fail(sim, "ListJobs shows job %s as %s, generation %u, delivery %u, attempts %u; the model says %s, %u, %u, %u",
             listed->id, state_names[listed->state], listed->generation, listed->deliveries, listed->attempts,
             state_names[job->state], job->generation, job->deliveries, job->attempts);
}

/* Ready, with a place that is free and a worker that waits for it. */
static bool is_idle(struct sim *sim, const struct job *job) {
  const struct plan *plan = job->plan;
  const struct model_queue *queue = &sim->model->queues[plan->queue];
  if (queue->paused || queue->has_rate || (queue->running_max && queue->running >= queue->running_max))
    return false;
  GHashTableIter iter;
  gpointer value;
  unsigned holders = 0;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (plan->concurrency_key[0] && g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct job *other = value;
    if (other == job || other->plan->queue != plan->queue || strcmp(other->plan->concurrency_key, plan->concurrency_key) != 0)
      continue;
    holders += other->state == RUNNING;
    if (other->state == PENDING && workers_serve(sim, other->plan))
      return false; /* that one may be the next */
  }
  return (!plan->concurrency_key[0] || holders < plan->concurrency_limit) && workers_wait_for(sim, plan);
}

static bool is_denied(struct sim *sim, struct job *job) {
  const struct given *given = model_given(job, job->deliveries);
  return given->denied_over && workers_is_joined(sim, &given->session, given->denied_over);
}

/* What time alone should have ended or moved, and what the engine should have done by itself. */
static void check_due(struct sim *sim, struct job *job) {
  const char *late = NULL;
  if ((job->state == SCHEDULED || job->state == RETRYING) && job->run_at_ms <= sim->wall_ms)
    late = "its time has come";
  else if (!is_terminal(job->state) && job->deadline_ms && job->deadline_ms <= sim->wall_ms)
    late = "its deadline has passed";
  else if ((job->state == SCHEDULED || job->state == PENDING) && job->expires_at_ms && job->expires_at_ms <= sim->wall_ms &&
           !job->started_ms && !job->attempts)
    late = "it has expired";
  else if (job->state == RUNNING && is_denied(sim, job))
    late = "its worker has said that it does not hold it";
  else if (job->state == PENDING && is_idle(sim, job))
    late = "a worker waits for it";
  if (late)
    sim_fail(sim, "job %s is still %s, although %s", sim_id_text(sim, &job->id), state_names[job->state], late);
}

static void check_jobs(struct sim *sim) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    ((struct job *)value)->listed = false;
  Millrace__V1__ListJobsRequest *message = NEW(sim, Millrace__V1__ListJobsRequest, list_jobs_request);
  message->page_size = 1000;
  do {
    const Millrace__V1__ListJobsResponse *page = machine_ask(sim, "JobService/ListJobs", &message->base);
    if (!page)
      return;
    for (size_t i = 0; i < page->n_jobs; i++)
      check_job(sim, page->jobs[i]);
    message->page_token = page->next_page_token;
  } while (message->page_token[0] && !sim->failure);
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct job *job = value;
    if (!job->listed)
      sim_fail(sim, "ListJobs does not show job %s, which is %s", sim_id_text(sim, &job->id), state_names[job->state]);
    check_due(sim, job);
  }
}

static void check_counts(struct sim *sim, unsigned number, const Millrace__V1__QueueCounts *counts) {
  uint64_t recount[EXPIRED + 1] = {0};
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct job *job = value;
    recount[job->state] += job->plan->queue == number;
  }
  const uint64_t told[] = {[SCHEDULED] = counts->scheduled, [PENDING] = counts->pending,     [RUNNING] = counts->running,
                           [RETRYING] = counts->retrying,   [BLOCKED] = counts->blocked,     [SUCCEEDED] = counts->succeeded,
                           [FAILED] = counts->failed,       [CANCELLED] = counts->cancelled, [EXPIRED] = counts->expired};
  for (int state = SCHEDULED; state <= EXPIRED; state++)
    if (told[state] != recount[state])
      sim_fail(sim, "queue '%s' counts %" G_GUINT64_FORMAT " jobs as %s; there are %" G_GUINT64_FORMAT, queue_names[number],
               told[state], state_names[state], recount[state]);
}

static void check_queues(struct sim *sim) {
  for (unsigned i = 0; i < QUEUES && !sim->failure; i++) {
    Millrace__V1__GetQueueRequest *message = NEW(sim, Millrace__V1__GetQueueRequest, get_queue_request);
    message->name = (char *)queue_names[i];
    const Millrace__V1__GetQueueResponse *response = machine_ask(sim, "QueueService/GetQueue", &message->base);
    if (!response)
      return;
    check_counts(sim, i, response->queue->counts);
    if (response->queue->paused != sim->model->queues[i].paused)
      sim_fail(sim, "queue '%s' is %spaused, against what was acknowledged", queue_names[i],
               response->queue->paused ? "" : "not ");
  }
}

/* ---- groups ---- */

static void check_batch(struct sim *sim, struct group *group, const Millrace__V1__Batch *batch) {
  uint32_t total = 0, ends[EXPIRED + 1] = {0};
  for (guint i = 0; i < group->members->len; i++) {
    const struct plan *plan = g_ptr_array_index(group->members, i);
    total += plan->made > 0;
    ends[plan->first_end]++;
  }
  if (batch->total != total)
    sim_fail(sim, "batch %s has %u members; %u were made", batch->id, batch->total, total);
  if (group->is_unsure)
    return;
  if (batch->succeeded != ends[SUCCEEDED] || batch->failed != ends[FAILED] || batch->cancelled != ends[CANCELLED] ||
      batch->expired != ends[EXPIRED])
    sim_fail(sim, "batch %s counts %u succeeded, %u failed, %u cancelled, %u expired; its members ended as %u, %u, %u, %u",
             batch->id, batch->succeeded, batch->failed, batch->cancelled, batch->expired, ends[SUCCEEDED], ends[FAILED],
             ends[CANCELLED], ends[EXPIRED]);
  bool has_ended = batch->state > MILLRACE__V1__BATCH_STATE__BATCH_STATE_SEALED;
  bool all_ended = batch->state != MILLRACE__V1__BATCH_STATE__BATCH_STATE_OPEN && batch->pending == 0;
  if (has_ended != all_ended || (group->callback && group->callback->made != (has_ended ? 1 : 0)))
    sim_fail(sim, "batch %s has %sended with %u members pending, and its callback was made %u times", batch->id,
             has_ended ? "" : "not ", batch->pending, group->callback ? group->callback->made : 0);
}

static void check_chain(struct sim *sim, const struct group *group, const Millrace__V1__Chain *chain) {
  unsigned open = 0, at_work = 0;
  for (guint i = 0; i < group->members->len; i++) {
    const struct job *step = model_job_named(sim, ((struct plan *)g_ptr_array_index(group->members, i))->id);
    open += step && !is_terminal(step->state);
    at_work += step && !is_terminal(step->state) && step->state != BLOCKED;
  }
  bool runs = chain->state == MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_RUNNING;
  if (at_work > 1 || runs != (open > 0))
    sim_fail(sim, "chain %s is in state %d, %u of its steps have not ended and %u are at work at the same time", chain->id,
             (int)chain->state, open, at_work);
}

static void check_group(struct sim *sim, struct group *group) {
  char *id = sim_id_text(sim, &group->id);
  bool found;
  if (group->kind == GROUP_BATCH) {
    Millrace__V1__GetBatchRequest *message = NEW(sim, Millrace__V1__GetBatchRequest, get_batch_request);
    message->id = id;
    const Millrace__V1__GetBatchResponse *response = machine_ask(sim, "BatchService/GetBatch", &message->base);
    if ((found = response != NULL))
      check_batch(sim, group, response->batch);
  } else {
    Millrace__V1__GetChainRequest *message = NEW(sim, Millrace__V1__GetChainRequest, get_chain_request);
    message->id = id;
    const Millrace__V1__GetChainResponse *response = machine_ask(sim, "ChainService/GetChain", &message->base);
    if ((found = response != NULL))
      check_chain(sim, group, response->chain);
  }
  if (found || sim->engine_failed)
    return;
  group->is_gone = group->is_acknowledged; /* after its retention; or its create failed */
  for (guint i = 0; i < group->members->len && group->is_acknowledged; i++) {
    const struct job *member = model_job_named(sim, ((struct plan *)g_ptr_array_index(group->members, i))->id);
    if (member && !is_terminal(member->state) && member->generation == 1)
      sim_fail(sim, "chain or batch %s is gone, and its job %s is %s", id, sim_id_text(sim, &member->id),
               state_names[member->state]);
  }
}

/* ---- schedules ---- */

static void check_schedule(struct sim *sim, const Millrace__V1__Schedule *schedule) {
  const Millrace__V1__ScheduleSpec *spec = schedule->spec;
  const struct plan *plan = g_ptr_array_index(sim->plans, (guint)g_ascii_strtoull(spec->description, NULL, 10));
  unsigned open = 0;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct job *job = value;
    open += job->plan == plan && !is_terminal(job->state) && job->generation == 1;
  }
  if (schedule->runs != plan->made)
    sim_fail(sim, "schedule '%s' counts %" G_GUINT64_FORMAT " runs; %u jobs were made", spec->name, schedule->runs, plan->made);
  if (open > 1 && spec->overlap != MILLRACE__V1__SCHEDULE_OVERLAP__SCHEDULE_OVERLAP_ALLOW)
    sim_fail(sim, "schedule '%s' has %u jobs at a time", spec->name, open);
  if (spec->timing->when_case != MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL || !schedule->last_run_at)
    return;
  int64_t since_ms = time_from_timestamp(schedule->last_run_at) - time_from_timestamp(schedule->created_at);
  int64_t interval_ms = time_from_duration(spec->timing->interval);
  if (since_ms % interval_ms || (uint64_t)(since_ms / interval_ms) < schedule->runs)
    sim_fail(sim,
             "schedule '%s' has made %" G_GUINT64_FORMAT " jobs in %" G_GINT64_FORMAT " ms, one each %" G_GINT64_FORMAT " ms",
             spec->name, schedule->runs, since_ms, interval_ms);
}

static void check_schedules(struct sim *sim) {
  Millrace__V1__ListSchedulesRequest *message = NEW(sim, Millrace__V1__ListSchedulesRequest, list_schedules_request);
  const Millrace__V1__ListSchedulesResponse *response = machine_ask(sim, "ScheduleService/ListSchedules", &message->base);
  for (size_t i = 0; response && i < response->n_schedules; i++)
    check_schedule(sim, response->schedules[i]);
}

void check_all(struct sim *sim) {
  machine_settle(sim);
  if (sim->engine_failed || sim->failure)
    return;
  sim->tally[TALLY_CHECKS]++;
  check_jobs(sim);
  check_queues(sim);
  for (guint i = 0; i < sim->groups->len && !sim->failure; i++) {
    struct group *group = g_ptr_array_index(sim->groups, i);
    if (!group->is_gone)
      check_group(sim, group);
  }
  check_schedules(sim);
  check_store(sim);
}
