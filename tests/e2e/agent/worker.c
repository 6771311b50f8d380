/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>

#include "agent.h"

static struct {
  pthread_mutex_t lock;
  struct millrace_worker *worker;
  GThread *thread;
} at_work = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void log_attempt(void *context, const struct millrace_context *job, const char *outcome, int64_t took_us) {
  const struct millrace_delivery *delivery = millrace_context_delivery(job);
  (void)context;
  fprintf(stderr, "job=%s task=%s attempt=%u duration=%.3fs outcome=%s\n", delivery->job_id, delivery->task, delivery->attempt,
          (double)took_us / 1e6, outcome);
}

static void log_news(void *context, enum millrace_log_level level, const char *line) {
  (void)context;
  (void)level;
  fprintf(stderr, "%s\n", line);
}

static void *work(void *worker) {
  struct millrace_error error;
  if (millrace_worker_run(worker, &error) != MILLRACE_OK)
    fprintf(stderr, "the worker has ended: %s\n", error.message);
  return NULL;
}

static struct millrace_worker_queue *queues_of(struct command *command, size_t *out_count) {
  yajl_val map = field_of(command->fields, "queues");
  *out_count = YAJL_IS_OBJECT(map) ? map->u.object.len : 0;
  struct millrace_worker_queue *queues = own(command, g_new0(struct millrace_worker_queue, *out_count + 1));
  for (size_t i = 0; i < *out_count; i++)
    queues[i] = (struct millrace_worker_queue){map->u.object.keys[i], (uint32_t)integer_of(map, map->u.object.keys[i])};
  return queues;
}

enum millrace_code worker_start(struct command *command) {
  struct millrace_worker_options options = {
      .concurrency = (uint32_t)integer_of(command->fields, "concurrency"),
      .transport = transport,
      .stop_grace_ms = ms_or_zero_of(command->fields, "stop_grace"),
      .terminate_grace_ms = ms_or_zero_of(command->fields, "terminate_grace"),
      .log = log_news,
      .ended = log_attempt,
  };
  options.queues = queues_of(command, &options.queue_count);
  struct millrace_worker *worker;
  enum millrace_code code = millrace_worker_new(client, &options, &worker, &command->error);
  if (code != MILLRACE_OK)
    return code;
  handlers_register(worker, command);
  pthread_mutex_lock(&at_work.lock);
  at_work.worker = worker;
  at_work.thread = g_thread_new("worker", work, worker);
  pthread_mutex_unlock(&at_work.lock);
  yajl_gen_map_open(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

void worker_finish(void) {
  pthread_mutex_lock(&at_work.lock);
  if (at_work.worker) {
    millrace_worker_stop(at_work.worker);
    g_thread_join(at_work.thread);
    millrace_worker_free(at_work.worker);
    at_work.worker = NULL;
  }
  pthread_mutex_unlock(&at_work.lock);
}

enum millrace_code worker_stop(struct command *command) {
  worker_finish();
  yajl_gen_map_open(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}
