/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_engine.h"

#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"

enum { FLOOD_TEXT_BYTES = 16 * 1024 };

struct engine {
  GThread *thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GQueue inbox; /* requests; the engine's reference */
  GQueue held;
  gint64 late_us; /* when the held ones are answered; 0: when told */
  GQueue waits;
  unsigned cancelled;
  bool stops;
};

/* ---- requests ---- */

struct request *request_new(const struct method *method, size_t bytes_max) {
  struct request *request = g_new0(struct request, 1);
  request->method = method;
  request->arena = arena_new(bytes_max);
  request->references = 1;
  return request;
}

struct request *request_ref(struct request *request) {
  g_atomic_int_inc(&request->references);
  return request;
}

void request_unref(struct request *request) {
  if (!g_atomic_int_dec_and_test(&request->references))
    return;
  g_strfreev(request->queues);
  arena_free(request->arena);
  g_free(request);
}

bool request_may_use(const struct request *request, const char *queue) {
  return !request->queues || g_strv_contains((const char *const *)request->queues, queue);
}

static void finish(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  void (*all_done)(void *group) = request->all_done;
  void *group = request->group;
  request->done(request, error, response);
  if (all_done)
    all_done(group);
  request_unref(request);
}

/* ---- what it does ---- */

static void create_job(struct request *request) {
  const Millrace__V1__CreateJobRequest *message = (const void *)request->message;
  Millrace__V1__CreateJobResponse response = MILLRACE__V1__CREATE_JOB_RESPONSE__INIT;
  Millrace__V1__Job job = MILLRACE__V1__JOB__INIT;
  struct error error;
  if (!message->job) {
    error_set(&error, STATUS_INVALID_ARGUMENT, "job", "job is required");
    finish(request, &error, NULL);
    return;
  }
  if (strcmp(message->job->task, "refuse") == 0) {
    error_set(&error, STATUS_ALREADY_EXISTS, "job.id", "there is one, gr\u00fc\u00dfe %%\n");
    error_reason(&error, "JOB_EXISTS", message->job->id);
    error.retry_after_ms = 1500;
    finish(request, &error, NULL);
    return;
  }
  job.id = message->job->id;
  response.job = &job;
  finish(request, NULL, &response.base);
}

static void create_jobs(struct request *request) {
  const Millrace__V1__CreateJobsRequest *message = (const void *)request->message;
  Millrace__V1__CreateJobsResponse response = MILLRACE__V1__CREATE_JOBS_RESPONSE__INIT;
  if (request->method->response == &millrace__v1__create_jobs_stream_response__descriptor)
    response.base.descriptor = request->method->response; /* the same fields */
  struct error error;
  response.n_outcomes = message->n_jobs;
  response.outcomes = g_new0(Millrace__V1__CreateOutcome *, message->n_jobs + 1);
  Millrace__V1__CreateOutcome *outcomes = g_new0(Millrace__V1__CreateOutcome, message->n_jobs + 1);
  for (size_t i = 0; i < message->n_jobs; i++) {
    millrace__v1__create_outcome__init(&outcomes[i]);
    outcomes[i].id = message->jobs[i]->id;
    response.outcomes[i] = &outcomes[i];
  }
  bool refused = message->n_jobs > 0 && strcmp(message->jobs[0]->task, "refuse") == 0;
  if (refused)
    error_set(&error, STATUS_INVALID_ARGUMENT, "jobs", "refused");
  finish(request, refused ? &error : NULL, &response.base);
  g_free(outcomes);
  g_free(response.outcomes);
}

static void get_job(struct request *request) {
  const Millrace__V1__GetJobRequest *message = (const void *)request->message;
  Millrace__V1__GetJobResponse response = MILLRACE__V1__GET_JOB_RESPONSE__INIT;
  Millrace__V1__Job job = MILLRACE__V1__JOB__INIT;
  size_t length = (size_t)atol(message->id);
  job.task = g_strnfill(length, 'x');
  response.job = &job;
  finish(request, NULL, &response.base);
  g_free(job.task);
}

static void watch_jobs(struct engine *engine, struct request *request) {
  const Millrace__V1__WatchJobsRequest *message = (const void *)request->message;
  Millrace__V1__WatchJobsResponse event = MILLRACE__V1__WATCH_JOBS_RESPONSE__INIT;
  Millrace__V1__Job job = MILLRACE__V1__JOB__INIT;
  char id[16];
  bool floods = message->filter && message->filter->n_tasks > 0 && strcmp(message->filter->tasks[0], "flood") == 0;
  event.job = &job;
  job.id = id;
  if (floods)
    job.task = g_strnfill(FLOOD_TEXT_BYTES, 'x');
  for (int i = 0; floods || i < 3; i++) {
    g_snprintf(id, sizeof id, "%d", i);
    if (request->event(request, &event.base))
      continue;
    struct error error;
    g_free(job.task);
    error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL, "the watcher is too slow");
    finish(request, &error, NULL);
    return;
  }
  g_queue_push_tail(&engine->waits, request);
}

static void get_server_info(struct engine *engine, struct request *request) {
  Millrace__V1__GetServerInfoResponse response = MILLRACE__V1__GET_SERVER_INFO_RESPONSE__INIT;
  response.jobs_running = engine->held.length;
  response.jobs_waiting = engine->waits.length;
  response.queues = engine->cancelled;
  finish(request, NULL, &response.base);
}

static void answer(struct request *request) {
  if (request->method->request == &millrace__v1__create_job_request__descriptor)
    create_job(request);
  else
    create_jobs(request);
}

/* Of the first job; NULL: there is none. */
static const char *queue_of(const struct request *request) {
  const Millrace__V1__CreateJobRequest *one = (const void *)request->message;
  const Millrace__V1__CreateJobsRequest *many = (const void *)request->message;
  if (request->method->request == &millrace__v1__create_job_request__descriptor)
    return one->job ? one->job->queue : NULL;
  return many->n_jobs > 0 ? many->jobs[0]->queue : NULL;
}

static void release(struct engine *engine) {
  struct request *held;
  engine->late_us = 0;
  while ((held = g_queue_pop_head(&engine->held)))
    answer(held);
}

static void create(struct engine *engine, struct request *request) {
  const char *queue = queue_of(request);
  if (queue && strcmp(queue, "late") == 0) {
    engine->late_us = g_get_monotonic_time() + G_USEC_PER_SEC;
    g_queue_push_head(&engine->held, request);
    return;
  }
  if (queue && strcmp(queue, "held") == 0) {
    g_queue_push_head(&engine->held, request);
    return;
  }
  if (queue && strcmp(queue, "release") == 0)
    release(engine);
  answer(request);
}

static void handle(struct engine *engine, struct request *request) {
  const ProtobufCMessageDescriptor *type = request->method->request;
  if (type == &millrace__v1__get_job_request__descriptor)
    get_job(request);
  else if (type == &millrace__v1__wait_job_request__descriptor)
    g_queue_push_tail(&engine->waits, request);
  else if (type == &millrace__v1__watch_jobs_request__descriptor)
    watch_jobs(engine, request);
  else if (type == &millrace__v1__get_server_info_request__descriptor)
    get_server_info(engine, request);
  else
    create(engine, request);
}

/* ---- the engine ---- */

const struct method methods[] = {
    {.path = "/millrace.v1.JobService/CreateJob",
     .request = &millrace__v1__create_job_request__descriptor,
     .response = &millrace__v1__create_job_response__descriptor},
    {.path = "/millrace.v1.JobService/CreateJobs",
     .request = &millrace__v1__create_jobs_request__descriptor,
     .response = &millrace__v1__create_jobs_response__descriptor},
    {.path = "/millrace.v1.JobService/CreateJobsStream",
     .request = &millrace__v1__create_jobs_stream_request__descriptor,
     .response = &millrace__v1__create_jobs_stream_response__descriptor,
     .shape = METHOD_MESSAGE_STREAM},
    {.path = "/millrace.v1.JobService/GetJob",
     .request = &millrace__v1__get_job_request__descriptor,
     .response = &millrace__v1__get_job_response__descriptor},
    {.path = "/millrace.v1.JobService/WaitJob",
     .request = &millrace__v1__wait_job_request__descriptor,
     .response = &millrace__v1__wait_job_response__descriptor},
    {.path = "/millrace.v1.JobService/WatchJobs",
     .request = &millrace__v1__watch_jobs_request__descriptor,
     .response = &millrace__v1__watch_jobs_response__descriptor,
     .shape = METHOD_SERVER_STREAM},
    {.path = "/millrace.v1.AdminService/GetServerInfo",
     .request = &millrace__v1__get_server_info_request__descriptor,
     .response = &millrace__v1__get_server_info_response__descriptor},
};
const size_t method_count = G_N_ELEMENTS(methods);

static void end_cancelled(struct engine *engine) {
  for (GList *link = engine->waits.head, *next; link; link = next) {
    struct request *request = link->data;
    struct error error;
    next = link->next;
    if (!g_atomic_int_get(&request->cancelled))
      continue;
    g_queue_delete_link(&engine->waits, link);
    engine->cancelled++;
    error_set(&error, STATUS_CANCELLED, NULL, "the caller has left");
    finish(request, &error, NULL);
  }
}

/* 10 ms at most. */
static void wait_a_moment(struct engine *engine) {
  gint64 until_us = g_get_real_time() + 10000;
  struct timespec until = {until_us / G_USEC_PER_SEC, until_us % G_USEC_PER_SEC * 1000};
  pthread_cond_timedwait(&engine->changed, &engine->lock, &until);
}

static gpointer run(gpointer context) {
  struct engine *engine = context;
  pthread_mutex_lock(&engine->lock);
  while (!engine->stops) {
    struct request *request = g_queue_pop_head(&engine->inbox);
    pthread_mutex_unlock(&engine->lock);
    if (request)
      handle(engine, request);
    end_cancelled(engine);
    if (engine->late_us > 0 && g_get_monotonic_time() > engine->late_us)
      release(engine);
    pthread_mutex_lock(&engine->lock);
    if (!request && g_queue_is_empty(&engine->inbox) && !engine->stops)
      wait_a_moment(engine);
  }
  pthread_mutex_unlock(&engine->lock);
  return NULL;
}

struct engine *fake_engine_new(void) {
  struct engine *engine = g_new0(struct engine, 1);
  pthread_mutex_init(&engine->lock, NULL);
  pthread_cond_init(&engine->changed, NULL);
  engine->thread = g_thread_new("engine", run, engine);
  return engine;
}

void fake_engine_free(struct engine *engine) {
  pthread_mutex_lock(&engine->lock);
  engine->stops = true;
  pthread_cond_signal(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
  g_thread_join(engine->thread);
  pthread_mutex_destroy(&engine->lock);
  pthread_cond_destroy(&engine->changed);
  g_free(engine);
}

void engine_submit(struct engine *engine, struct request *request) {
  request_ref(request);
  pthread_mutex_lock(&engine->lock);
  g_queue_push_tail(&engine->inbox, request);
  pthread_cond_signal(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
}

void engine_abandon(struct engine *engine) {
  (void)engine;
}

void engine_cancel(struct engine *engine, struct request *request) {
  g_atomic_int_set(&request->cancelled, 1);
  pthread_mutex_lock(&engine->lock);
  pthread_cond_signal(&engine->changed);
  pthread_mutex_unlock(&engine->lock);
}
