/* SPDX-License-Identifier: Apache-2.0 */
/* What the server sends: deliveries, commands, acceptance. Design: a repeat is dropped, a gap breaks the connection. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "convert.h"
#include "worker.h"

static void say(const struct millrace_worker *worker, enum millrace_log_level level, const char *line) {
  if (worker->options.log)
    worker->options.log(worker->options.callback_context, level, line);
}

void worker_wake_locked(struct millrace_worker *worker) {
  pthread_cond_signal(&worker->news);
}

void intake_drop_locked(struct millrace_context *context) {
  if (!context->is_accepted)
    g_queue_unlink(&context->worker->held, &context->held);
  context->is_accepted = true;
  if (context->handler_is_in)
    return;
  if (context->cancel_fd >= 0)
    close(context->cancel_fd);
  g_free(context->said);
  context->said = NULL;
  box_unref(context->box);
}

void intake_stop_locked(struct millrace_context *context, enum millrace_stop why) {
  g_atomic_int_set(&context->stop, (int)why);
  if (context->cancel_fd >= 0)
    eventfd_write(context->cancel_fd, 1);
}

void intake_stop_running_locked(struct millrace_worker *worker) {
  for (GList *link = worker->held.head; link; link = link->next) {
    struct millrace_context *context = link->data;
    if (context->state == DELIVERY_RUNNING && millrace_context_cancelled(context) == MILLRACE_STOP_NONE)
      intake_stop_locked(context, MILLRACE_STOP_SHUTDOWN);
  }
}

bool intake_was_cancelled(const struct millrace_context *context) {
  enum millrace_stop stop = millrace_context_cancelled(context);
  return stop == MILLRACE_STOP_CANCEL || stop == MILLRACE_STOP_TERMINATE;
}

void intake_release_queued_locked(struct millrace_worker *worker) {
  for (struct millrace_context *context; (context = g_queue_peek_head(&worker->queue));) {
    g_queue_unlink(&worker->queue, &context->link);
    reports_release_locked(context, MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_STOPPING);
  }
}

void intake_release_running_locked(struct millrace_worker *worker) {
  for (GList *link = worker->held.head; link; link = link->next) {
    struct millrace_context *context = link->data;
    if (context->state == DELIVERY_RUNNING && millrace_context_cancelled(context) == MILLRACE_STOP_SHUTDOWN)
      reports_release_locked(context, MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_STOPPING);
  }
}

void intake_orphan_all_locked(struct millrace_worker *worker) {
  reports_forget_locked(worker);
  while (worker->queue.head)
    g_queue_unlink(&worker->queue, worker->queue.head);
  while (worker->unstarted.head)
    g_queue_unlink(&worker->unstarted, worker->unstarted.head);
  while (worker->held.head) {
    struct millrace_context *context = worker->held.head->data;
    context->is_orphan = true;
    if (context->handler_is_in) {
      worker->orphans++;
      intake_stop_locked(context, MILLRACE_STOP_LOST);
    }
    intake_drop_locked(context);
  }
  worker->received_up_to = 0;
  worker->ping = 0;
}

static struct millrace_context *find_locked(struct millrace_worker *worker, const Millrace__V1__Command *command) {
  for (GList *link = worker->held.head; link; link = link->next) {
    struct millrace_context *context = link->data;
    if (context->delivery.delivery == command->delivery && strcmp(context->delivery.job_id, command->job_id) == 0)
      return context;
  }
  return NULL;
}

static void stop_delivery_locked(struct millrace_worker *worker, const Millrace__V1__Command *command) {
  struct millrace_context *context = find_locked(worker, command);
  if (!context || context->state == DELIVERY_REPORTED)
    return;
  bool is_lost = command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST;
  if (context->state == DELIVERY_RUNNING) {
    intake_stop_locked(context, is_lost                                                               ? MILLRACE_STOP_LOST
                                : command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE ? MILLRACE_STOP_TERMINATE
                                                                                                      : MILLRACE_STOP_CANCEL);
    if (command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE)
      stuck_terminated_locked(context);
    return;
  }
  g_queue_unlink(&worker->queue, &context->link);
  if (is_lost) {
    intake_drop_locked(context);
    worker->heartbeat_is_due = true;
  } else {
    reports_cancelled_locked(context);
  }
}

static void obey_locked(struct millrace_worker *worker, const Millrace__V1__Command *command) {
  switch (command->kind) {
  case MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_QUIET:
    say(worker, MILLRACE_LOG_INFO, "the server made this worker quiet: nothing new will come");
    break;
  case MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_DRAIN:
    if (!worker->is_draining)
      say(worker, MILLRACE_LOG_INFO, "the server drains this worker: it ends when its jobs have");
    worker->is_draining = true;
    break;
  case MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL:
  case MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE:
  case MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST:
    stop_delivery_locked(worker, command);
    break;
  default:
    break; /* of a later version */
  }
}

static struct millrace_context *hold_locked(struct millrace_worker *worker, struct box *box,
                                            const Millrace__V1__Delivery *message) {
  struct millrace_context *context = box_alloc(box, sizeof *context);
  context->worker = worker;
  context->box = box_ref(box);
  context->cancel_fd = -1;
  context->limits = worker->session.limits;
  context->held.data = context;
  context->link.data = context;
  context->delivery = (struct millrace_delivery){
      .job_id = message->job_id,
      .task = message->task,
      .queue = message->queue,
      .priority = (enum millrace_priority)message->priority,
      .payload = convert_from_payload(message->payload),
      .previous_result = convert_from_payload(message->previous_result),
      .delivery = message->delivery,
      .attempt = message->attempt,
      .max_attempts = message->max_attempts,
      .attempt_timeout_ms = convert_from_duration(message->attempt_timeout),
      .deadline_ms = convert_from_time(message->deadline),
      .created_at_ms = convert_from_time(message->created_at),
      .traceparent = message->traceparent,
      .tracestate = message->tracestate,
      .chain_id = message->chain_id,
      .batch_id = message->batch_id,
      .labels = message->n_labels ? convert_from_labels(box, message->labels, message->n_labels) : NULL,
      .label_count = message->n_labels,
  };
  g_queue_push_tail_link(&worker->held, &context->held);
  return context;
}

static void take_deliveries_locked(struct millrace_worker *worker, struct box *box, const Millrace__V1__Deliveries *message) {
  worker->received_up_to = message->delivery_seq;
  if (worker->queue.length == 0)
    worker->stalled_since_us = worker->heard_us;
  for (size_t i = 0; i < message->n_deliveries; i++) {
    struct millrace_context *context = hold_locked(worker, box, message->deliveries[i]);
    if (worker->is_releasing)
      reports_release_locked(context, MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_STOPPING);
    else
      g_queue_push_tail_link(&worker->queue, &context->link);
  }
  if (!worker->is_releasing)
    pool_wake_locked(worker, (unsigned)message->n_deliveries);
}

void intake_received(void *data, struct box *take_box, const Millrace__V1__Deliveries *message) {
  struct millrace_worker *worker = data;
  pthread_mutex_lock(&worker->lock);
  worker->heard_us = g_get_monotonic_time();
  if (message->ping)
    worker->ping = message->ping;
  if (message->accepted_report_seq)
    reports_accepted_locked(worker, message->accepted_report_seq);
  if (message->delivery_seq == worker->received_up_to + 1) { /* with none, if all of them were taken back */
    take_deliveries_locked(worker, take_box, message);
  } else if (message->delivery_seq > worker->received_up_to) {
    say(worker, MILLRACE_LOG_WARNING, "deliveries are missing: joining again");
    worker->link_is_broken = true;
  }
  for (size_t i = 0; i < message->n_commands; i++)
    obey_locked(worker, message->commands[i]);
  reports_flush_locked(worker, false);
  if (worker->session_sleeps || worker->link_is_broken || worker->is_draining || worker->is_releasing)
    worker_wake_locked(worker);
  if (worker->is_releasing)
    pthread_cond_broadcast(&worker->returned);
  pthread_mutex_unlock(&worker->lock);
  box_unref(take_box);
}
