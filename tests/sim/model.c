/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

const char *const state_names[] = {"?",       "SCHEDULED", "PENDING", "RUNNING",   "RETRYING",
                                   "BLOCKED", "SUCCEEDED", "FAILED",  "CANCELLED", "EXPIRED"};

static void job_free(void *pointer) {
  struct job *job = pointer;
  g_hash_table_destroy(job->given);
  g_free(job);
}

void model_start(struct sim *sim) {
  sim->model = g_new0(struct model, 1);
  sim->model->jobs = g_hash_table_new_full(id_hash, id_equal_pointers, NULL, job_free);
  sim->model->gone = g_hash_table_new_full(id_hash, id_equal_pointers, g_free, NULL);
  sim->model->sessions = g_hash_table_new_full(id_hash, id_equal_pointers, NULL, g_free);
}

void model_free(struct sim *sim) {
  g_hash_table_destroy(sim->model->jobs);
  g_hash_table_destroy(sim->model->gone);
  g_hash_table_destroy(sim->model->sessions);
  g_free(sim->model);
}

struct job *model_job(struct sim *sim, const struct id *id) {
  return g_hash_table_lookup(sim->model->jobs, id);
}

struct job *model_job_named(struct sim *sim, const char *text) {
  struct id id;
  return id_parse(text, &id) ? model_job(sim, &id) : NULL;
}

struct job *model_any(struct sim *sim, int state) {
  GHashTableIter iter;
  gpointer value;
  guint size = g_hash_table_size(sim->model->jobs);
  guint skip = size ? sim_roll(sim, size) : 0;
  struct job *first = NULL;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  for (guint i = 0; g_hash_table_iter_next(&iter, NULL, &value); i++) {
    struct job *job = value;
    if (job->is_leaving || (state && job->state != state))
      continue;
    if (i >= skip)
      return job;
    first = first ? first : job;
  }
  return first;
}

struct model_session *model_session_add(struct sim *sim, const struct id *id) {
  struct model_session *session = g_new0(struct model_session, 1);
  session->id = *id;
  g_hash_table_insert(sim->model->sessions, &session->id, session);
  return session;
}

struct model_session *model_session_find(struct sim *sim, const struct id *id) {
  return g_hash_table_lookup(sim->model->sessions, id);
}

struct given *model_given(struct job *job, uint32_t delivery) {
  return g_hash_table_lookup(job->given, GUINT_TO_POINTER(delivery));
}

void model_take_queue(struct model_queue *queue, const Millrace__V1__Queue *answer) {
  queue->paused = answer->paused;
  queue->weighted = answer->settings && answer->settings->mode == MILLRACE__V1__QUEUE_MODE__QUEUE_MODE_WEIGHTED;
  queue->has_rate = answer->settings && answer->settings->rate_per_second && answer->settings->rate_per_second->value > 0;
  queue->running_max = answer->settings && answer->settings->max_running ? answer->settings->max_running->value : 0;
}

void model_acknowledge(struct sim *sim, const char *text, struct plan *plan) {
  struct job *job = model_job_named(sim, text);
  struct id id;
  if (!job && !(id_parse(text, &id) && g_hash_table_contains(sim->model->gone, &id)))
    sim_fail(sim, "the create of job %s was answered OK, and nobody who watches was told of it", text);
  if (job && job->plan == plan)
    job->acknowledged = true;
}

/* ---- events ---- */

static int64_t ms_of(const Google__Protobuf__Timestamp *timestamp) {
  return timestamp ? time_from_timestamp(timestamp) : 0;
}

static struct plan *plan_of(struct sim *sim, const Millrace__V1__Job *message) {
  for (size_t i = 0; i < message->n_labels; i++)
    if (strcmp(message->labels[i]->key, "plan") == 0) {
      unsigned long number = strtoul(message->labels[i]->value, NULL, 10);
      return number < sim->plans->len ? g_ptr_array_index(sim->plans, number) : NULL;
    }
  return NULL;
}

/* Keeps the counts of who runs. */
static void count_running(struct sim *sim, struct job *job, const Millrace__V1__Job *message) {
  bool ran = job->state == RUNNING, runs = message->state == RUNNING;
  struct model_queue *queue = &sim->model->queues[job->plan->queue];
  struct model_session *session = ran ? model_session_find(sim, &job->session) : NULL;
  queue->running -= ran;
  if (session)
    session->running--;
  if (!runs)
    return;
  id_parse(message->session_id, &job->session);
  session = model_session_find(sim, &job->session);
  queue->running++;
  if (session)
    session->running++;
  if (!model_given(job, message->deliveries)) {
    struct given *given = g_new0(struct given, 1);
    given->session = job->session;
    g_hash_table_insert(job->given, GUINT_TO_POINTER(message->deliveries), given);
    if (session)
      session->leases++;
    job->leased_ms = sim->wall_low_ms;
  }
  job->leased_ms = MIN(job->leased_ms, sim->wall_low_ms); /* the start counts, and the clock may have been set back before it */
}

/* Keeps the order in which jobs became ready. */
static void place(struct sim *sim, struct job *job, const Millrace__V1__Job *message) {
  const struct given *given = job->state == RUNNING ? model_given(job, job->deliveries) : NULL;
  if (job->state == (int)message->state && job->generation == message->generation) {
    if (job->run_at_ms != ms_of(message->run_at))
      job->keeps_place = false;     /* put off once more */
  } else if (sim->model->listing) { /* nobody saw how: unknown until it starts anew */
    job->order = 0;
    job->keeps_place = true;
  } else if (message->state == PENDING) {
    if (!given && !job->keeps_place)
      job->order = ++sim->model->order;
    job->ready_sync = sim->syncs;
    job->keeps_place = false;
  } else if (message->state != RUNNING) {
    bool was_lost = message->state == RETRYING && message->error && strcmp(message->error->type, "WORKER_LOST") == 0;
    job->keeps_place = given && (was_lost || (message->state == SCHEDULED && given->said.unknown_task));
  }
}

static void take(struct sim *sim, struct job *job, const Millrace__V1__Job *message) {
  place(sim, job, message);
  count_running(sim, job, message);
  job->state = (int)message->state;
  job->generation = message->generation;
  job->attempts = message->attempts;
  job->deliveries = message->deliveries;
  job->lost = message->lost_count;
  job->priority = message->priority;
  job->cancel_requested = message->cancel_requested;
  job->run_at_ms = ms_of(message->run_at);
  job->expires_at_ms = ms_of(message->expires_at);
  job->deadline_ms = ms_of(message->deadline);
  job->created_ms = ms_of(message->created_at);
  job->finished_ms = ms_of(message->finished_at);
  job->started_ms = ms_of(message->started_at);
  job->listed = true;
  if (is_terminal(job->state)) {
    job->unknown_since_ms = 0;
    job->plan->first_end = job->plan->first_end ? job->plan->first_end : job->state;
  }
}

static struct job *add(struct sim *sim, const struct id *id, struct plan *plan) {
  struct job *job = g_new0(struct job, 1);
  job->id = *id;
  job->plan = plan;
  job->policy = plan->policy;
  job->given = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  g_hash_table_insert(sim->model->jobs, &job->id, job);
  return job;
}

static void forget(struct sim *sim, struct job *job) {
  g_hash_table_replace(sim->model->gone, g_memdup2(&job->id, sizeof job->id), GUINT_TO_POINTER(job->plan->number));
  g_hash_table_remove(sim->model->jobs, &job->id);
}

static void changed(struct sim *sim, const Millrace__V1__Job *message) {
  struct id id;
  struct plan *plan = plan_of(sim, message);
  if (!plan || !id_parse(message->id, &id)) {
    sim_fail(sim, "there is a job %s that nobody asked for", message->id);
    return;
  }
  struct job *job = model_job(sim, &id);
  if (job && job->plan != plan && sim->model->listing) { /* removed and replaced, and nobody saw it */
    rules_remove(sim, job);
    forget(sim, job);
    job = NULL;
  }
  if (!job) {
    rules_create(sim, plan, message);
    job = add(sim, &id, plan);
  } else if (sim->model->listing) {
    rules_gap(sim, job, message);
  } else {
    rules_change(sim, job, message);
  }
  take(sim, job, message);
}

static bool event(struct request *request, const ProtobufCMessage *base) {
  struct sim *sim = request->context;
  const Millrace__V1__WatchJobsResponse *message = (const void *)base;
  if (sim->is_dead || sim->failure)
    return true;
  sim->tally[TALLY_EVENTS]++;
  if (message->initial_done) {
    sim->model->listing = false;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, sim->model->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
      struct job *job = value;
      if (job->listed) {
        job->updates = job->retries = job->deletes = 0; /* what was not answered was done by now, or never will be */
        continue;
      }
      rules_remove(sim, job);
      g_hash_table_replace(sim->model->gone, g_memdup2(&job->id, sizeof job->id), GUINT_TO_POINTER(job->plan->number));
      g_hash_table_iter_remove(&iter);
    }
    return true;
  }
  const Millrace__V1__Job *now = message->job;
  sim_trace(sim, "  job %s (%s/%s, priority %d) %s %s generation %u delivery %u attempts %u%s%s", now->id + SHORT, now->queue,
            now->task, (int)now->priority, state_names[now->state], now->session_id + (now->session_id[0] ? SHORT : 0),
            now->generation, now->deliveries, now->attempts, now->cancel_requested ? " cancel requested" : "",
            message->deleted ? " removed" : "");
  struct job *job = model_job_named(sim, message->job->id);
  if (!message->deleted) {
    changed(sim, message->job);
  } else if (job) {
    rules_remove(sim, job);
    forget(sim, job);
  }
  return true;
}

static void done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  (void)response;
  struct sim *sim = request->context;
  if (!sim->is_dead && error && error->status != STATUS_UNAVAILABLE)
    sim_fail(sim, "the watch ended: %s", error->message);
}

/* What was acknowledged must have stayed; what was not may be there. */
static void take_queues(struct sim *sim) {
  for (unsigned i = 0; i < QUEUES && !sim->engine_failed; i++) {
    struct model_queue *queue = &sim->model->queues[i];
    queue->retries_open = 0;
    if (!queue->settings_open && sim_once_in(sim, 2))
      continue; /* who asks makes the engine look at its lanes, and it must do without */
    Millrace__V1__GetQueueRequest *message = NEW(sim, Millrace__V1__GetQueueRequest, get_queue_request);
    message->name = (char *)queue_names[i];
    const Millrace__V1__GetQueueResponse *response = machine_ask(sim, "QueueService/GetQueue", &message->base);
    if (!response)
      return;
    struct model_queue now = {0};
    model_take_queue(&now, response->queue);
    if (!queue->settings_open &&
        (now.paused != queue->paused || now.weighted != queue->weighted || now.running_max != queue->running_max))
      sim_fail(sim, "the settings of queue '%s' are not what was acknowledged before the crash", queue_names[i]);
    model_take_queue(queue, response->queue);
    queue->settings_open = 0;
  }
}

void model_watch(struct sim *sim) {
  Millrace__V1__JobFilter *filter = NEW(sim, Millrace__V1__JobFilter, job_filter);
  filter->n_queues = QUEUES;
  filter->queues = (char **)queue_names;
  Millrace__V1__WatchJobsRequest *message = NEW(sim, Millrace__V1__WatchJobsRequest, watch_jobs_request);
  message->filter = filter;
  const struct method *method = methods;
  while (!g_str_has_suffix(method->path, "/WatchJobs"))
    method++;
  struct request *request = request_new(method, 0);
  size_t length = millrace__v1__watch_jobs_request__get_packed_size(message);
  uint8_t *packed = arena_alloc(sim->arena, length + 1);
  millrace__v1__watch_jobs_request__pack(message, packed);
  request->message = (void *)millrace__v1__watch_jobs_request__unpack(arena_protobuf(request->arena), length, packed);
  request->done = done;
  request->event = event;
  request->context = sim;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    ((struct job *)value)->listed = false;
  sim->model->listing = true;
  engine_submit(sim->engine, request);
  request_unref(request);
  machine_settle(sim);
  take_queues(sim);
}

/* Requests that were not answered may have been done or not. */
void model_machine_died(struct sim *sim) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->sessions);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    ((struct model_session *)value)->unknown = ((struct model_session *)value)->refused = 0; /* kept in memory only */
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct job *job = value;
    job->policy_unsure |= job->updates > 0;
  }
}
