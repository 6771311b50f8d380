/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that run handlers. Quick handlers are best off with one thread that takes job after job; handlers that wait for
 * something need a thread each. So: one thread is woken for new jobs, as many as there are jobs where handlers usually are slow,
 * and more when the queue is found standing still. */
#include "worker.h"

enum { AVERAGE_OVER = 16 };

static const struct handler *handler_of(const struct millrace_worker *worker, const char *task) {
  const struct handler *handler = g_hash_table_lookup(worker->handlers, task);
  return handler ? handler : worker->any;
}

static void start_locked(struct millrace_context *context) {
  struct millrace_worker *worker = context->worker;
  context->state = DELIVERY_RUNNING;
  context->handler_is_in = true;
  context->started_ms = g_get_real_time() / 1000;
  g_queue_push_tail_link(&worker->unstarted, &context->link);
  worker->running++;
  worker->taken++;
  if (worker->session_sleeps)
    worker_wake_locked(worker);
}

/* What a handler that returned without a word means. */
static const char *say_default(struct millrace_context *context) {
  enum millrace_stop stop = millrace_context_cancelled(context);
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Succeeded succeeded = MILLRACE__V1__SUCCEEDED__INIT;
  Millrace__V1__Failed failed = MILLRACE__V1__FAILED__INIT;
  Millrace__V1__Released released = MILLRACE__V1__RELEASED__INIT;
  if (stop == MILLRACE_STOP_NONE) {
    report.event_case = MILLRACE__V1__REPORT__EVENT_SUCCEEDED;
    report.succeeded = &succeeded;
  } else if (stop == MILLRACE_STOP_SHUTDOWN) {
    report.event_case = MILLRACE__V1__REPORT__EVENT_RELEASED;
    released.reason = MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_STOPPING;
    report.released = &released;
  } else {
    report.event_case = MILLRACE__V1__REPORT__EVENT_FAILED;
    failed.cancelled = true;
    report.failed = &failed;
  }
  context->said = reports_pack(context, &report, &context->said_bytes);
  return stop == MILLRACE_STOP_NONE ? "succeeded" : stop == MILLRACE_STOP_SHUTDOWN ? "released" : "stopped";
}

static void say_unknown_task(struct millrace_context *context) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Released released = MILLRACE__V1__RELEASED__INIT;
  released.reason = MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_UNKNOWN_TASK;
  report.event_case = MILLRACE__V1__REPORT__EVENT_RELEASED;
  report.released = &released;
  context->said = reports_pack(context, &report, &context->said_bytes);
  context->said_outcome = "released";
}

/* Without the lock. Returns how long the handler took. */
static int64_t run(struct millrace_context *context) {
  const struct millrace_worker *worker = context->worker;
  const struct handler *handler = handler_of(worker, context->delivery.task);
  int64_t began_us = g_get_monotonic_time();
  if (handler)
    handler->run(context, handler->user);
  else
    say_unknown_task(context);
  int64_t took_us = g_get_monotonic_time() - began_us;
  if (!context->said)
    context->said_outcome = say_default(context);
  if (worker->options.ended)
    worker->options.ended(worker->options.callback_context, context, context->said_outcome, took_us);
  return took_us;
}

static void finish_locked(struct millrace_context *context, int64_t took_us) {
  struct millrace_worker *worker = context->worker;
  worker->usual_us += (took_us - worker->usual_us) / AVERAGE_OVER;
  worker->running--;
  worker->orphans -= context->is_orphan;
  context->handler_is_in = false;
  stuck_returned_locked(context);
  /* Still in the list of starts to report? The final report tells the start too. */
  if (context->link.prev || context->link.next || worker->unstarted.head == &context->link)
    g_queue_unlink(&worker->unstarted, &context->link);
  if (context->is_accepted) {
    intake_drop_locked(context);
  } else if (context->state == DELIVERY_REPORTED) {
    /* Given back meanwhile, because the worker stops. */
  } else if (millrace_context_cancelled(context) == MILLRACE_STOP_LOST) {
    /* No longer ours: that it is not held any more says that the handler has stopped. */
    intake_drop_locked(context);
    worker->heartbeat_is_due = true;
  } else {
    reports_final_locked(context, context->said, context->said_bytes);
  }
  if (worker->is_releasing || worker->is_draining || worker->pool_ends) {
    worker_wake_locked(worker);
    pthread_cond_broadcast(&worker->returned);
  }
}

static void *work(void *data) {
  struct millrace_worker *worker = data;
  pthread_mutex_lock(&worker->lock);
  for (;;) {
    GList *link = g_queue_pop_head_link(&worker->queue);
    if (link) {
      struct millrace_context *context = link->data;
      start_locked(context);
      pthread_mutex_unlock(&worker->lock);
      int64_t took_us = run(context);
      pthread_mutex_lock(&worker->lock);
      finish_locked(context, took_us);
      reports_flush_locked(worker, false);
    } else if (worker->pool_ends) {
      break;
    } else {
      worker->idle++;
      pthread_cond_wait(&worker->work, &worker->lock);
      worker->idle--;
    }
  }
  pthread_mutex_unlock(&worker->lock);
  return NULL;
}

static void more_threads_locked(struct millrace_worker *worker, unsigned wanted) {
  for (unsigned i = 0; i < MIN(wanted, worker->idle); i++)
    pthread_cond_signal(&worker->work);
  /* Handlers of a session that was lost may still be in; they don't count. */
  unsigned threads_max = worker->options.concurrency + worker->orphans;
  for (unsigned i = worker->idle; i < wanted && worker->threads < threads_max; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, worker) != 0)
      return; /* those that are there do it */
    g_array_append_val(worker->pool, thread);
    worker->threads++;
  }
}

void pool_wake_locked(struct millrace_worker *worker, unsigned jobs) {
  more_threads_locked(worker, worker->usual_us < SLOW_US ? MIN(jobs, 1) : jobs);
}

void pool_look_for_stall_locked(struct millrace_worker *worker) {
  int64_t now_us = g_get_monotonic_time();
  if (worker->taken != worker->taken_before) {
    worker->taken_before = worker->taken;
    worker->stalled_since_us = now_us;
  } else if (worker->queue.length > 0 && now_us - worker->stalled_since_us >= (int64_t)STALL_MS * 1000) {
    more_threads_locked(worker, worker->queue.length);
  }
}

void pool_stop(struct millrace_worker *worker) {
  pthread_mutex_lock(&worker->lock);
  worker->pool_ends = true;
  pthread_cond_broadcast(&worker->work);
  pthread_mutex_unlock(&worker->lock);
  for (guint i = 0; i < worker->pool->len; i++)
    pthread_join(g_array_index(worker->pool, pthread_t, i), NULL);
  g_array_set_size(worker->pool, 0);
}
