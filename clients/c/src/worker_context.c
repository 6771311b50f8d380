/* SPDX-License-Identifier: Apache-2.0 */
/* What a handler may ask and say. */
#include <sys/eventfd.h>

#include "convert.h"
#include "worker.h"

enum { PROGRESS_MESSAGE_BYTES = 256, ERROR_TYPE_BYTES = 256, ERROR_MESSAGE_BYTES = 4096 };

const struct millrace_delivery *millrace_context_delivery(const struct millrace_context *context) {
  return &context->delivery;
}

enum millrace_stop millrace_context_cancelled(const struct millrace_context *context) {
  return (enum millrace_stop)g_atomic_int_get(&context->stop);
}

int millrace_context_cancel_fd(struct millrace_context *context) {
  pthread_mutex_lock(&context->worker->lock);
  if (context->cancel_fd < 0)
    context->cancel_fd = eventfd(context->stop != 0, EFD_CLOEXEC | EFD_NONBLOCK);
  int fd = context->cancel_fd;
  pthread_mutex_unlock(&context->worker->lock);
  return fd;
}

/* Valid UTF-8 of at most `bytes_max` bytes; free with g_free. */
static char *clean(const char *text, size_t bytes_max) {
  char *valid = g_utf8_make_valid(text ? text : "", -1);
  if (strlen(valid) > bytes_max) {
    const char *end = g_utf8_find_prev_char(valid, valid + bytes_max + 1);
    valid[end ? end - valid : 0] = '\0';
  }
  return valid;
}

static void say(struct millrace_context *context, Millrace__V1__Report *report, const char *outcome) {
  g_free(context->said);
  context->said = reports_pack(context, report, &context->said_bytes);
  context->said_outcome = outcome;
}

void millrace_succeed(struct millrace_context *context, const struct millrace_payload *result) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Succeeded succeeded = MILLRACE__V1__SUCCEEDED__INIT;
  report.event_case = MILLRACE__V1__REPORT__EVENT_SUCCEEDED;
  report.succeeded = &succeeded;
  char reason[128];
  struct box *scratch = box_new();
  if (result && result->length > context->limits.result_bytes_max) {
    g_snprintf(reason, sizeof reason, "the result has %zu bytes, at most %zu are kept", result->length,
               context->limits.result_bytes_max);
    succeeded.result_omitted_reason = reason;
  } else if (result && result->is_json && !g_utf8_validate_len(result->data, result->length, NULL)) {
    succeeded.result_omitted_reason = (char *)"the result is not valid UTF-8";
  } else {
    succeeded.result = convert_payload(scratch, result);
  }
  say(context, &report, "succeeded");
  box_unref(scratch);
}

void millrace_fail(struct millrace_context *context, const struct millrace_failure *failure) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Failed failed = MILLRACE__V1__FAILED__INIT;
  Millrace__V1__JobError error = MILLRACE__V1__JOB_ERROR__INIT;
  struct box *scratch = box_new();
  g_autofree char *type = clean(failure->type ? failure->type : "Error", ERROR_TYPE_BYTES);
  g_autofree char *message = clean(failure->message, ERROR_MESSAGE_BYTES);
  g_autofree char *trace = clean(failure->trace, context->limits.trace_bytes_max);
  error.type = type;
  error.message = message;
  error.trace = trace;
  failed.error = &error;
  failed.permanent = failure->permanent;
  failed.retry_after = convert_duration(scratch, failure->retry_after_ms);
  failed.max_attempts = failure->max_attempts;
  failed.cancelled = intake_was_cancelled(context);
  report.event_case = MILLRACE__V1__REPORT__EVENT_FAILED;
  report.failed = &failed;
  say(context, &report, "failed");
  box_unref(scratch);
}

void millrace_snooze(struct millrace_context *context, int64_t delay_ms) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Snoozed snoozed = MILLRACE__V1__SNOOZED__INIT;
  struct box *scratch = box_new();
  snoozed.delay = convert_duration(scratch, delay_ms > 0 ? delay_ms : MILLRACE_ZERO);
  report.event_case = MILLRACE__V1__REPORT__EVENT_SNOOZED;
  report.snoozed = &snoozed;
  say(context, &report, "snoozed");
  box_unref(scratch);
}

static void tell(struct millrace_context *context, Millrace__V1__Report *report) {
  size_t bytes;
  g_autofree uint8_t *packed = reports_pack(context, report, &bytes);
  pthread_mutex_lock(&context->worker->lock);
  reports_news_locked(context, packed, bytes);
  pthread_mutex_unlock(&context->worker->lock);
}

void millrace_progress(struct millrace_context *context, double fraction, const char *message) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Progress progress = MILLRACE__V1__PROGRESS__INIT;
  g_autofree char *text = clean(message, PROGRESS_MESSAGE_BYTES);
  progress.fraction = CLAMP(fraction, 0, 1);
  progress.message = text;
  report.event_case = MILLRACE__V1__REPORT__EVENT_PROGRESS;
  report.progress = &progress;
  tell(context, &report);
}

void millrace_log(struct millrace_context *context, const char *text) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__LogLines lines = MILLRACE__V1__LOG_LINES__INIT;
  Millrace__V1__LogLine line = MILLRACE__V1__LOG_LINE__INIT;
  Millrace__V1__LogLine *list[] = {&line};
  g_autofree char *cleaned = clean(text, context->limits.log_line_bytes_max);
  line.time_unix_ms = g_get_real_time() / 1000;
  line.text = cleaned;
  lines.n_lines = 1;
  lines.lines = list;
  report.event_case = MILLRACE__V1__REPORT__EVENT_LOG;
  report.log = &lines;
  tell(context, &report);
}
