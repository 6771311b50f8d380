/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

/* ---- what handlers have in common ---- */

/* A handler gets its payload's fields (NULL unless it is a JSON object). */
typedef void run_handler(struct millrace_context *context, yajl_val fields);

struct standard_handler {
  const char *task;
  run_handler *run;
};

static void succeed_json(struct millrace_context *context, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void succeed_json(struct millrace_context *context, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *text = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  const struct millrace_payload result = millrace_json(text);
  millrace_succeed(context, &result);
}

static void fail_with(struct millrace_context *context, yajl_val fields, const char *message, struct millrace_failure failure) {
  const char *given = text_of(fields, "message");
  failure.type = "Boom";
  failure.message = given ? given : message;
  failure.trace = "run_handler (handlers.c)";
  millrace_fail(context, &failure);
}

static int attempt_of(const struct millrace_context *context) {
  return (int)millrace_context_delivery(context)->attempt;
}

/* ---- the handlers ---- */

static void run_echo(struct millrace_context *context, yajl_val fields) {
  (void)fields;
  millrace_succeed(context, &millrace_context_delivery(context)->payload);
}

static void run_bytes(struct millrace_context *context, yajl_val fields) {
  const struct millrace_payload *payload = &millrace_context_delivery(context)->payload;
  if (payload->is_json || !payload->data)
    fail_with(context, fields, "the payload is not bytes", (struct millrace_failure){0});
  else
    millrace_succeed(context, payload);
}

static void run_fail(struct millrace_context *context, yajl_val fields) {
  fail_with(context, fields, "it broke", (struct millrace_failure){0});
}

static void run_permanent(struct millrace_context *context, yajl_val fields) {
  fail_with(context, fields, "never again", (struct millrace_failure){.permanent = true});
}

static void run_retry_later(struct millrace_context *context, yajl_val fields) {
  if (attempt_of(context) == 1)
    fail_with(context, fields, "busy", (struct millrace_failure){.retry_after_ms = ms_or_zero_of(fields, "delay")});
  else
    succeed_json(context, "{\"attempt\": %d}", attempt_of(context));
}

static void run_snooze(struct millrace_context *context, yajl_val fields) {
  if (g_get_real_time() / 1000 < time_of(fields, "until"))
    millrace_snooze(context, ms_of(fields, "delay"));
  else
    succeed_json(context, "{\"attempt\": %d}", attempt_of(context));
}

static void run_flaky(struct millrace_context *context, yajl_val fields) {
  if (attempt_of(context) < integer_of(fields, "until"))
    fail_with(context, fields, "not yet", (struct millrace_failure){0});
  else
    succeed_json(context, "{\"attempt\": %d}", attempt_of(context));
}

/* Says nothing when it was asked to stop: that confirms it. */
static void run_sleep(struct millrace_context *context, yajl_val fields) {
  struct pollfd stop = {.fd = millrace_context_cancel_fd(context), .events = POLLIN};
  poll(&stop, 1, (int)ms_of(fields, "seconds"));
  if (millrace_context_cancelled(context) == MILLRACE_STOP_NONE)
    succeed_json(context, "{\"slept\": %g}", real_of(fields, "seconds"));
}

static void run_hang(struct millrace_context *context, yajl_val fields) {
  g_usleep((gulong)ms_of(fields, "seconds") * 1000);
  succeed_json(context, "{\"hung\": %g}", real_of(fields, "seconds"));
}

static void run_busy(struct millrace_context *context, yajl_val fields) {
  int64_t end_us = g_get_monotonic_time() + ms_of(fields, "seconds") * 1000;
  while (g_get_monotonic_time() < end_us)
    ;
  succeed_json(context, "{\"busy\": %g}", real_of(fields, "seconds"));
}

static void run_progress(struct millrace_context *context, yajl_val fields) {
  millrace_progress(context, real_of(fields, "fraction"), text_of(fields, "message"));
  run_sleep(context, fields);
}

static void run_log(struct millrace_context *context, yajl_val fields) {
  yajl_val lines = field_of(fields, "lines");
  size_t count = YAJL_IS_ARRAY(lines) ? lines->u.array.len : 0;
  for (size_t i = 0; i < count; i++)
    millrace_log(context, YAJL_GET_STRING(lines->u.array.values[i]));
  succeed_json(context, "{\"lines\": %zu}", count);
}

static void run_previous(struct millrace_context *context, yajl_val fields) {
  const struct millrace_payload *previous = &millrace_context_delivery(context)->previous_result;
  (void)fields;
  succeed_json(context, "{\"previous\": %s}", previous->is_json && previous->data ? (const char *)previous->data : "null");
}

static void run_big_result(struct millrace_context *context, yajl_val fields) {
  g_autofree char *letters = g_strnfill((gsize)integer_of(fields, "length"), 'x');
  succeed_json(context, "\"%s\"", letters);
}

static void run_bad_result(struct millrace_context *context, yajl_val fields) {
  (void)fields;
  succeed_json(context, "{\"value\": NaN}");
}

static void run_crash(struct millrace_context *context, yajl_val fields) {
  (void)context;
  (void)fields;
  kill(getpid(), SIGKILL);
}

static int64_t earlier(int64_t a_ms, int64_t b_ms) {
  return a_ms == 0 || (b_ms != 0 && b_ms < a_ms) ? b_ms : a_ms;
}

static void run_context(struct millrace_context *context, yajl_val fields) {
  const struct millrace_delivery *job = millrace_context_delivery(context);
  (void)fields;
  int64_t timeout_at_ms = job->attempt_timeout_ms ? g_get_real_time() / 1000 + job->attempt_timeout_ms : 0;
  yajl_gen gen = yajl_gen_alloc(NULL);
  yajl_gen_map_open(gen);
  put_text(gen, "job_id", job->job_id);
  put_text(gen, "task", job->task);
  put_text(gen, "queue", job->queue);
  put_integer(gen, "attempt", job->attempt);
  put_integer(gen, "max_attempts", job->max_attempts);
  put_integer(gen, "priority", job->priority == MILLRACE_PRIORITY_LOW ? 0 : (int)job->priority);
  put_labels(gen, job->labels, job->label_count);
  put_time(gen, "deadline", earlier(timeout_at_ms, job->deadline_ms));
  put_text(gen, "traceparent", job->traceparent);
  put_text(gen, "chain_id", job->chain_id);
  put_text(gen, "batch_id", job->batch_id);
  yajl_gen_map_close(gen);
  const unsigned char *text;
  size_t length;
  yajl_gen_get_buf(gen, &text, &length);
  const struct millrace_payload result = {NULL, text, length, true};
  millrace_succeed(context, &result);
  yajl_gen_free(gen);
}

/* C has no worse way out of a handler than a failure: "panic" is "fail". */
static const struct standard_handler handlers[] = {
    {"echo", run_echo},
    {"bytes", run_bytes},
    {"fail", run_fail},
    {"panic", run_fail},
    {"permanent", run_permanent},
    {"retry_later", run_retry_later},
    {"snooze", run_snooze},
    {"flaky", run_flaky},
    {"sleep", run_sleep},
    {"hang", run_hang},
    {"busy", run_busy},
    {"progress", run_progress},
    {"log", run_log},
    {"previous", run_previous},
    {"big_result", run_big_result},
    {"bad_result", run_bad_result},
    {"crash", run_crash},
    {"context", run_context},
};

static void run(struct millrace_context *context, void *user) {
  const struct standard_handler *handler = user;
  const struct millrace_payload *payload = &millrace_context_delivery(context)->payload;
  yajl_val value = payload->is_json && payload->data ? yajl_tree_parse(payload->data, NULL, 0) : NULL;
  handler->run(context, YAJL_IS_OBJECT(value) ? value : NULL);
  yajl_tree_free(value);
}

void handlers_register(struct millrace_worker *worker, struct command *command) {
  size_t count;
  const char **wanted = texts_of(command, command->fields, "handlers", &count);
  bool all = !field_of(command->fields, "handlers");
  for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++) {
    const struct standard_handler *handler = &handlers[i];
    if (!all && !g_strv_contains((const char *const *)wanted, handler->task))
      continue;
    yajl_val declared = field_of(field_of(command->fields, "tasks"), handler->task);
    const struct millrace_task_options options = {
        .retry = retry_of(command, field_of(declared, "retry")),
        .attempt_timeout_ms = ms_or_zero_of(declared, "attempt_timeout"),
    };
    millrace_worker_handle(worker, handler->task, &options, run, (void *)handler);
  }
}
