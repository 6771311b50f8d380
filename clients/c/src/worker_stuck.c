/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that do not obey. No thread can be stopped from outside, and while a handler runs nobody may be told that it has
 * stopped: the process ends, and with it what runs. The server learns of it by the connection, and its reconnect grace ends the
 * job. */
#include <stdlib.h>

#include "worker.h"

enum { REPORTS_MS = 3000 };

static void say_locked(const struct millrace_worker *worker, const struct millrace_context *stuck, const char *what) {
  if (!worker->options.log)
    return;
  g_autofree char *line = g_strdup_printf("%s job=%s task=%s: the process exits with %d", what, stuck->delivery.job_id,
                                          stuck->delivery.task, MILLRACE_EXIT_STUCK);
  worker->options.log(worker->options.callback_context, MILLRACE_LOG_ERROR, line);
}

static bool others_run_locked(const struct millrace_worker *worker) {
  return worker->running > worker->terminated.length;
}

/* What else runs is told to stop; what comes back is still reported, and the rest is given back. */
static void leave_locked(struct millrace_worker *worker, const struct millrace_context *stuck) {
  say_locked(worker, stuck, "the handler does not obey the terminate");
  worker_begin_stop_locked(worker);
  intake_stop_running_locked(worker);
  int64_t end_us = g_get_monotonic_time() + (int64_t)HANDLERS_RETURN_MS * 1000;
  while (others_run_locked(worker) && sync_wait_until(&worker->returned, &worker->lock, end_us))
    ;
  intake_release_running_locked(worker);
  reports_flush_locked(worker, true);
  end_us = g_get_monotonic_time() + (int64_t)REPORTS_MS * 1000;
  while (reports_are_pending_locked(worker) && sync_wait_until(&worker->returned, &worker->lock, end_us))
    ;
  quick_exit(MILLRACE_EXIT_STUCK);
}

static void *watch(void *data) {
  struct millrace_worker *worker = data;
  pthread_mutex_lock(&worker->lock);
  while (!worker->pool_ends || worker->terminated.length > 0) {
    const struct millrace_context *first = g_queue_peek_head(&worker->terminated);
    if (first && g_get_monotonic_time() >= first->terminate_end_us)
      leave_locked(worker, first);
    else if (first)
      sync_wait_until(&worker->returned, &worker->lock, first->terminate_end_us);
    else
      pthread_cond_wait(&worker->returned, &worker->lock);
  }
  pthread_mutex_unlock(&worker->lock);
  return NULL;
}

void stuck_terminated_locked(struct millrace_context *context) {
  struct millrace_worker *worker = context->worker;
  if (context->terminate_end_us)
    return;
  context->terminate_end_us = g_get_monotonic_time() + MAX(worker->options.terminate_grace_ms, 0) * 1000;
  context->terminated.data = context;
  g_queue_push_tail_link(&worker->terminated, &context->terminated);
  if (!worker->has_watch && pthread_create(&worker->watch, NULL, watch, worker) != 0)
    g_error("no thread left to watch over a terminate");
  worker->has_watch = true;
  pthread_cond_broadcast(&worker->returned);
}

void stuck_returned_locked(struct millrace_context *context) {
  if (context->terminate_end_us)
    g_queue_unlink(&context->worker->terminated, &context->terminated);
}

void stuck_stop(struct millrace_worker *worker) {
  if (!worker->has_watch)
    return;
  pthread_mutex_lock(&worker->lock);
  pthread_cond_broadcast(&worker->returned);
  pthread_mutex_unlock(&worker->lock);
  pthread_join(worker->watch, NULL);
}

void stuck_exit_if_cancelled(struct millrace_worker *worker) {
  pthread_mutex_lock(&worker->lock);
  for (const GList *link = worker->held.head; link; link = link->next) {
    const struct millrace_context *context = link->data;
    if (context->state == DELIVERY_RUNNING && intake_was_cancelled(context)) {
      say_locked(worker, context, "the handler of a cancelled job has not stopped");
      quick_exit(MILLRACE_EXIT_STUCK);
    }
  }
  pthread_mutex_unlock(&worker->lock);
}
