/* SPDX-License-Identifier: Apache-2.0 */
#include "core/validate.h"

#include <glib.h>
#include <stdarg.h>
#include <string.h>

#include "core/check.h"
#include "core/id.h"
#include "core/job.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/schedule.h"
#include "core/time.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

#define INVALID(error, field, ...) error_set(error, STATUS_INVALID_ARGUMENT, field, __VA_ARGS__)

/* Puts the path of the message at hand before the field of an error within it. */
static enum status __attribute__((format(printf, 3, 4)))
within(enum status status, struct error *error, const char *format, ...) {
  if (status == STATUS_OK || !error)
    return status;
  va_list arguments;
  va_start(arguments, format);
  char *path = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  error_prefix_field(error, "%s.", path);
  g_free(path);
  return status;
}

/* ---- parts of several messages ---- */

static enum status check_payload(const Millrace__V1__Payload *payload, struct error *error) {
  if (!payload)
    return STATUS_OK;
  enum status status = check_header(payload->content_type, "content_type", CONTENT_TYPE_BYTES_MAX, error);
  if (status)
    return status;
  if (payload->content_type[0] != '\0' && !strchr(payload->content_type, '/'))
    return INVALID(error, "content_type", "'%s' is not a media type such as application/json", payload->content_type);
  if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON) {
    size_t length = strlen(payload->json);
    if (length > PAYLOAD_BYTES_MAX)
      return INVALID(error, "json", "a payload has at most %d bytes; this one has %zu", PAYLOAD_BYTES_MAX, length);
    if (length == 0)
      return INVALID(error, "json", "an empty text is not JSON; leave the content unset for an empty payload");
    return within(json_check(payload->json, length, error), error, "json");
  }
  if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_DATA && payload->data.len > PAYLOAD_BYTES_MAX)
    return INVALID(error, "data", "a payload has at most %d bytes; this one has %zu", PAYLOAD_BYTES_MAX, payload->data.len);
  return STATUS_OK;
}

static enum status check_policy(const Millrace__V1__RetryPolicy *policy, struct error *error) {
  if (!policy)
    return STATUS_OK;
  enum status status;
  if ((status = check_range(policy->max_attempts, "max_attempts", 0, ATTEMPTS_MAX, error)) ||
      (status = check_duration(policy->initial, "initial", 1, POLICY_DELAY_MAX_MS, error)) ||
      (policy->multiplier != 0 && (status = check_fraction(policy->multiplier, "multiplier", 1, MULTIPLIER_MAX, error))) ||
      (status = check_duration(policy->max, "max", 1, POLICY_DELAY_MAX_MS, error)) ||
      (policy->jitter && (status = check_fraction(policy->jitter->value, "jitter", 0, 1, error))))
    return status;
  bool is_list = policy->kind == MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_LIST;
  if (!is_list)
    return check_unset(policy->n_delays > 0, "delays", "unless kind is BACKOFF_KIND_LIST", error);
  if ((status = check_count(policy->n_delays, "delays", 1, POLICY_DELAYS_MAX, error)))
    return status;
  for (size_t i = 0; i < policy->n_delays; i++)
    if ((status = check_duration(policy->delays[i], "delays", 0, POLICY_DELAY_MAX_MS, error)))
      return status;
  return STATUS_OK;
}

static enum status check_unique_key(const Millrace__V1__UniqueKey *unique, struct error *error) {
  if (!unique)
    return STATUS_OK;
  if (unique->key[0] == '\0')
    return INVALID(error, "key", "a unique key has 1 to %d bytes", KEY_TEXT_BYTES_MAX);
  enum status status;
  if ((status = check_text(unique->key, "key", KEY_TEXT_BYTES_MAX, error)))
    return status;
  if (unique->scope != MILLRACE__V1__UNIQUE_SCOPE__UNIQUE_SCOPE_PERIOD)
    return check_unset(unique->period != NULL, "period", "unless scope is UNIQUE_SCOPE_PERIOD", error);
  if (!unique->period)
    return INVALID(error, "period", "scope UNIQUE_SCOPE_PERIOD needs a period");
  return check_duration(unique->period, "period", 1, UNIQUE_PERIOD_MAX_MS, error);
}

static enum status check_concurrency_key(const Millrace__V1__ConcurrencyKey *concurrency, struct error *error) {
  if (!concurrency)
    return STATUS_OK;
  if (concurrency->key[0] == '\0')
    return INVALID(error, "key", "a concurrency key has 1 to %d bytes", KEY_TEXT_BYTES_MAX);
  enum status status;
  if ((status = check_text(concurrency->key, "key", KEY_TEXT_BYTES_MAX, error)))
    return status;
  return check_range(concurrency->limit, "limit", 0, CONCURRENCY_LIMIT_MAX, error);
}

/* ---- a job ---- */

static enum status check_place(const Millrace__V1__JobSpec *spec, enum job_place place, struct error *error) {
  bool is_template = place == JOB_TEMPLATE, is_callback = place == JOB_CALLBACK, is_defaults = place == JOB_BATCH_DEFAULTS;
  const char *why = is_template   ? "in the job of a schedule"
                    : is_callback ? "in a callback"
                    : is_defaults ? "in the defaults of a batch"
                                  : "in a step behind the first";
  bool has_run_at = spec->start_case == MILLRACE__V1__JOB_SPEC__START_RUN_AT;
  bool has_delay = spec->start_case == MILLRACE__V1__JOB_SPEC__START_DELAY;
  bool has_expires_at = spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT;
  bool is_made_later = is_template || is_callback;
  enum status status;
  if ((status = check_unset((is_made_later || is_defaults) && spec->id[0] != '\0', "id", why, error)) ||
      (status = check_unset((is_made_later || place == JOB_CHAIN_STEP) && has_run_at, "run_at", why, error)) ||
      (status = check_unset(is_template && has_delay, "delay", why, error)) ||
      (status = check_unset(is_made_later && has_expires_at, "expires_at", why, error)) ||
      (status = check_unset((is_made_later || is_defaults) && spec->unique_key, "unique_key", why, error)) ||
      (status = check_unset(is_defaults && spec->payload, "payload", why, error)))
    return status;
  return STATUS_OK;
}

static enum status check_job_times(const Millrace__V1__JobSpec *spec, struct error *error) {
  enum status status = STATUS_OK;
  if (spec->start_case == MILLRACE__V1__JOB_SPEC__START_DELAY)
    status = check_duration(spec->delay, "delay", 0, JOB_TIMES_MAX_MS, error);
  if (status == STATUS_OK && spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN)
    status = check_duration(spec->expires_in, "expires_in", 1, JOB_TIMES_MAX_MS, error);
  if (status || (status = check_duration(spec->total_timeout, "total_timeout", 1, JOB_TIMES_MAX_MS, error)) ||
      (status = check_duration(spec->attempt_timeout, "attempt_timeout", 0, ATTEMPT_TIMEOUT_MAX_MS, error)) ||
      (status = check_duration(spec->retention, "retention", 0, RETENTION_MAX_MS, error)))
    return status;
  return STATUS_OK;
}

/* All but check_message, which has been over the whole request or over this job. */
static enum status check_job(const Millrace__V1__JobSpec *spec, enum job_place place, struct error *error) {
  bool needs_task = place != JOB_BATCH_ITEM && place != JOB_BATCH_DEFAULTS;
  enum status status;
  if ((status = check_id(spec->id, "id", false, error)) || (status = check_name(spec->task, "task", needs_task, error)) ||
      (status = check_name(spec->queue, "queue", false, error)) || (status = check_place(spec, place, error)) ||
      (status = check_job_times(spec, error)) ||
      (status = within(check_policy(spec->retry_policy, error), error, "retry_policy")) ||
      (status = check_labels(spec->n_labels, spec->labels, "labels", JOB_LABELS_MAX, error)) ||
      (status = within(check_unique_key(spec->unique_key, error), error, "unique_key")) ||
      (status = within(check_concurrency_key(spec->concurrency_key, error), error, "concurrency_key")) ||
      (status = check_header(spec->traceparent, "traceparent", TRACEPARENT_BYTES_MAX, error)) ||
      (status = check_header(spec->tracestate, "tracestate", TRACESTATE_BYTES_MAX, error)))
    return status;
  return within(check_payload(spec->payload, error), error, "payload");
}

enum status validate_job_spec(const Millrace__V1__JobSpec *spec, enum job_place place, struct error *error) {
  enum status status = check_message(&spec->base, error);
  return status ? status : check_job(spec, place, error);
}

/* An optional job in a message: a callback, defaults. */
static enum status check_job_at(const Millrace__V1__JobSpec *spec, enum job_place place, const char *field, struct error *error) {
  return spec ? within(check_job(spec, place, error), error, "%s", field) : STATUS_OK;
}

/* Jobs that come or go together: each by itself, and no id twice. */
static enum status check_jobs(Millrace__V1__JobSpec *const *specs, size_t count, enum job_place first, enum job_place others,
                              const char *field, struct error *error) {
  GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
  enum status status = STATUS_OK;
  for (size_t i = 0; i < count && !status; i++) {
    const Millrace__V1__JobSpec *spec = specs[i];
    status = within(check_job(spec, i ? others : first, error), error, "%s[%zu]", field, i);
    if (!status && spec->id[0] != '\0' && !g_hash_table_add(seen, spec->id)) {
      status = INVALID(error, "id", "the id %s is there twice", spec->id);
      error_prefix_field(error, "%s[%zu].", field, i);
    }
  }
  g_hash_table_destroy(seen);
  return status;
}

/* ---- filters ---- */

static bool filter_is_empty(const Millrace__V1__JobFilter *filter) {
  bool any_state = false; /* UNSPECIFIED among the states stands for all of them */
  for (size_t i = 0; i < filter->n_states; i++)
    any_state = any_state || filter->states[i] == MILLRACE__V1__JOB_STATE__JOB_STATE_UNSPECIFIED;
  bool has_states = filter->n_states > 0 && !any_state;
  return filter->n_queues + filter->n_tasks + filter->n_priorities + filter->n_labels + filter->n_ids == 0 && !has_states &&
         !filter->created_after && !filter->created_before && filter->batch_id[0] == '\0' && filter->chain_id[0] == '\0' &&
         filter->schedule_name[0] == '\0' && filter->error_fingerprint[0] == '\0';
}

static enum status check_filter_lists(const Millrace__V1__JobFilter *filter, struct error *error) {
  enum status status;
  for (size_t i = 0; i < filter->n_queues; i++)
    if ((status = check_name(filter->queues[i], "queues", true, error)))
      return status;
  for (size_t i = 0; i < filter->n_tasks; i++)
    if ((status = check_name(filter->tasks[i], "tasks", true, error)))
      return status;
  for (size_t i = 0; i < filter->n_ids; i++)
    if ((status = check_id(filter->ids[i], "ids", true, error)))
      return status;
  for (size_t i = 0; i < filter->n_priorities; i++)
    if (filter->priorities[i] == MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_UNSPECIFIED)
      return INVALID(error, "priorities", "name the priorities that you mean");
  return STATUS_OK;
}

static enum status check_filter(const Millrace__V1__JobFilter *filter, bool required, struct error *error) {
  if (!filter || filter_is_empty(filter))
    return required ? INVALID(error, "", "the filter needs at least one condition") : STATUS_OK;
  enum status status;
  if ((status = check_count(filter->n_queues, "queues", 0, FILTER_QUEUES_MAX, error)) ||
      (status = check_count(filter->n_tasks, "tasks", 0, FILTER_TASKS_MAX, error)) ||
      (status = check_count(filter->n_states, "states", 0, FILTER_STATES_MAX, error)) ||
      (status = check_count(filter->n_priorities, "priorities", 0, FILTER_PRIORITIES_MAX, error)) ||
      (status = check_count(filter->n_ids, "ids", 0, FILTER_IDS_MAX, error)) ||
      (status = check_labels(filter->n_labels, filter->labels, "labels", FILTER_LABELS_MAX, error)) ||
      (status = check_id(filter->batch_id, "batch_id", false, error)) ||
      (status = check_id(filter->chain_id, "chain_id", false, error)) ||
      (status = check_name(filter->schedule_name, "schedule_name", false, error)) || (status = check_filter_lists(filter, error)))
    return status;
  const char *fingerprint = filter->error_fingerprint;
  if (fingerprint[0] != '\0' &&
      (strlen(fingerprint) != FINGERPRINT_BYTES || strspn(fingerprint, "0123456789abcdef") != FINGERPRINT_BYTES))
    return INVALID(error, "error_fingerprint", "a fingerprint is %d hexadecimal digits in lower case", FINGERPRINT_BYTES);
  return STATUS_OK;
}

/* ---- jobs, chains, batches ---- */

static enum status check_create_job(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__CreateJobRequest *request = (const Millrace__V1__CreateJobRequest *)message;
  if (!request->job)
    return INVALID(error, "job", "job is required");
  return check_job_at(request->job, JOB_ALONE, "job", error);
}

static enum status check_create_jobs(const ProtobufCMessage *message, struct error *error) {
  return check_count(((const Millrace__V1__CreateJobsRequest *)message)->n_jobs, "jobs", 1, JOBS_PER_CALL_MAX, error);
}

static enum status check_create_jobs_stream(const ProtobufCMessage *message, struct error *error) {
  return check_count(((const Millrace__V1__CreateJobsStreamRequest *)message)->n_jobs, "jobs", 1, JOBS_PER_CALL_MAX, error);
}

static enum status check_update_job(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__UpdateJobRequest *request = (const Millrace__V1__UpdateJobRequest *)message;
  enum status status = within(check_policy(request->retry_policy, error), error, "retry_policy");
  if (status || !request->labels)
    return status;
  return within(check_labels(request->labels->n_labels, request->labels->labels, "labels", JOB_LABELS_MAX, error), error,
                "labels");
}

static enum status check_create_chain(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__CreateChainRequest *request = (const Millrace__V1__CreateChainRequest *)message;
  enum status status;
  if ((status = check_id(request->id, "id", false, error)) ||
      (status = check_count(request->n_steps, "steps", 1, CHAIN_STEPS_MAX, error)) ||
      (status = check_jobs(request->steps, request->n_steps, JOB_CHAIN_FIRST, JOB_CHAIN_STEP, "steps", error)))
    return status;
  return check_job_at(request->on_failure, JOB_CALLBACK, "on_failure", error);
}

static enum status check_create_batch(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__CreateBatchRequest *request = (const Millrace__V1__CreateBatchRequest *)message;
  bool has_task = request->defaults && request->defaults->task[0] != '\0';
  enum job_place place = has_task ? JOB_BATCH_ITEM : JOB_ALONE;
  enum status status;
  if ((status = check_id(request->id, "id", false, error)) ||
      (status = check_text(request->description, "description", DESCRIPTION_BYTES_MAX, error)) ||
      (status = check_job_at(request->defaults, JOB_BATCH_DEFAULTS, "defaults", error)) ||
      (status = check_job_at(request->on_success, JOB_CALLBACK, "on_success", error)) ||
      (status = check_job_at(request->on_complete, JOB_CALLBACK, "on_complete", error)) ||
      (status = check_count(request->n_items, "items", 0, JOBS_PER_CALL_MAX, error)))
    return status;
  return check_jobs(request->items, request->n_items, place, place, "items", error);
}

static enum status check_add_batch_items(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__AddBatchItemsRequest *request = (const Millrace__V1__AddBatchItemsRequest *)message;
  enum status status;
  if ((status = check_id(request->batch_id, "batch_id", true, error)) ||
      (status = check_range(request->chunk, "chunk", 1, BATCH_MEMBERS_MAX, error)) ||
      (status = check_count(request->n_items, "items", 1, JOBS_PER_CALL_MAX, error)))
    return status;
  return check_jobs(request->items, request->n_items, JOB_BATCH_ITEM, JOB_BATCH_ITEM, "items", error);
}

/* ---- schedules, queues, workers, administration ---- */

static enum status check_timing(const Millrace__V1__ScheduleTiming *timing, struct error *error) {
  struct schedule_timing read;
  if (!timing)
    return INVALID(error, "timing", "timing is required");
  return within(schedule_timing_read(timing, &read, error), error, "timing");
}

static enum status check_schedule(const Millrace__V1__ScheduleSpec *spec, struct error *error) {
  enum status status;
  if ((status = check_name(spec->name, "name", true, error)) || (status = check_timing(spec->timing, error)) ||
      (status = check_duration(spec->catch_up_window, "catch_up_window", 0, CATCH_UP_MAX_MS, error)) ||
      (status = check_text(spec->description, "description", DESCRIPTION_BYTES_MAX, error)))
    return status;
  if (!spec->job)
    return INVALID(error, "job", "job is required: what is to be created each time");
  return check_job_at(spec->job, JOB_TEMPLATE, "job", error);
}

static enum status check_schedule_at(const Millrace__V1__ScheduleSpec *spec, struct error *error) {
  if (!spec)
    return INVALID(error, "schedule", "schedule is required");
  return within(check_schedule(spec, error), error, "schedule");
}

static enum status check_create_schedule(const ProtobufCMessage *message, struct error *error) {
  return check_schedule_at(((const Millrace__V1__CreateScheduleRequest *)message)->schedule, error);
}

static enum status check_update_schedule(const ProtobufCMessage *message, struct error *error) {
  return check_schedule_at(((const Millrace__V1__UpdateScheduleRequest *)message)->schedule, error);
}

static enum status check_declare_schedules(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__DeclareSchedulesRequest *request = (const Millrace__V1__DeclareSchedulesRequest *)message;
  enum status status;
  if ((status = check_name(request->owner, "owner", true, error)) ||
      (status = check_count(request->n_schedules, "schedules", 0, SCHEDULES_PER_CALL_MAX, error)))
    return status;
  GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
  for (size_t i = 0; i < request->n_schedules && !status; i++) {
    const Millrace__V1__ScheduleSpec *spec = request->schedules[i];
    status = check_schedule(spec, error);
    if (!status && !g_hash_table_add(seen, spec->name))
      status = INVALID(error, "name", "schedule '%s' is there twice", spec->name);
    status = within(status, error, "schedules[%zu]", i);
  }
  g_hash_table_destroy(seen);
  return status;
}

static enum status check_run_schedule(const ProtobufCMessage *message, struct error *error) {
  return check_id(((const Millrace__V1__RunScheduleRequest *)message)->job_id, "job_id", false, error);
}

static enum status check_preview_schedule(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__PreviewScheduleRequest *request = (const Millrace__V1__PreviewScheduleRequest *)message;
  enum status status = check_timing(request->timing, error);
  return status ? status : check_range(request->count, "count", 0, PREVIEW_MAX, error);
}

static enum status check_list_schedules(const ProtobufCMessage *message, struct error *error) {
  return check_name(((const Millrace__V1__ListSchedulesRequest *)message)->owner, "owner", false, error);
}

static enum status check_settings(const Millrace__V1__QueueSettings *settings, struct error *error) {
  enum status status;
  if ((settings->rate_per_second && settings->rate_per_second->value != 0 &&
       (status = check_fraction(settings->rate_per_second->value, "rate_per_second", 0.001, QUEUE_RATE_MAX, error))) ||
      (settings->rate_burst && (status = check_range(settings->rate_burst->value, "rate_burst", 1, QUEUE_RATE_MAX, error))) ||
      (settings->retention_count &&
       (status = check_range(settings->retention_count->value, "retention_count", 0, RETENTION_COUNT_MAX, error))) ||
      (status = within(check_policy(settings->retry_policy, error), error, "retry_policy")) ||
      (status = check_duration(settings->attempt_timeout, "attempt_timeout", 0, ATTEMPT_TIMEOUT_MAX_MS, error)) ||
      (status = check_duration(settings->retention, "retention", 0, RETENTION_MAX_MS, error)) ||
      (status = check_duration(settings->retention_failed, "retention_failed", 0, RETENTION_MAX_MS, error)))
    return status;
  return STATUS_OK;
}

static enum status check_update_queue(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__UpdateQueueRequest *request = (const Millrace__V1__UpdateQueueRequest *)message;
  return request->settings ? within(check_settings(request->settings, error), error, "settings") : STATUS_OK;
}

static enum status check_worker_queues(const Millrace__V1__RegisterRequest *request, struct error *error) {
  GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
  enum status status = STATUS_OK;
  for (size_t i = 0; i < request->n_queues && !status; i++) {
    const Millrace__V1__WorkerQueue *queue = request->queues[i];
    status = check_name(queue->name, "name", true, error);
    if (!status)
      status = check_range(queue->weight, "weight", 0, WORKER_WEIGHT_MAX, error);
    if (!status && !g_hash_table_add(seen, queue->name))
      status = INVALID(error, "name", "queue '%s' is there twice", queue->name);
    status = within(status, error, "queues[%zu]", i);
  }
  g_hash_table_destroy(seen);
  return status;
}

static enum status check_worker_tasks(const Millrace__V1__RegisterRequest *request, struct error *error) {
  GHashTable *seen = g_hash_table_new(g_str_hash, g_str_equal);
  enum status status = STATUS_OK;
  for (size_t i = 0; i < request->n_tasks && !status; i++) {
    const Millrace__V1__WorkerTask *task = request->tasks[i];
    if (strcmp(task->name, "*") != 0)
      status = check_name(task->name, "name", true, error);
    if (!status)
      status = within(check_policy(task->retry_policy, error), error, "retry_policy");
    if (!status)
      status = check_duration(task->attempt_timeout, "attempt_timeout", 0, ATTEMPT_TIMEOUT_MAX_MS, error);
    if (!status && !g_hash_table_add(seen, task->name))
      status = INVALID(error, "name", "task '%s' is there twice", task->name);
    status = within(status, error, "tasks[%zu]", i);
  }
  g_hash_table_destroy(seen);
  return status;
}

static enum status check_register(const ProtobufCMessage *message, struct error *error) {
  const Millrace__V1__RegisterRequest *request = (const Millrace__V1__RegisterRequest *)message;
  enum status status;
  if ((status = check_count(request->n_queues, "queues", 1, WORKER_QUEUES_MAX, error)) ||
      (status = check_count(request->n_tasks, "tasks", 1, WORKER_TASKS_MAX, error)) ||
      (status = check_worker_queues(request, error)) || (status = check_worker_tasks(request, error)) ||
      (status = check_range(request->concurrency, "concurrency", 1, WORKER_CONCURRENCY_MAX, error)) ||
      (status = check_range(request->prefetch, "prefetch", 0, WORKER_PREFETCH_MAX, error)) ||
      (status = check_text(request->hostname, "hostname", HOSTNAME_BYTES_MAX, error)) ||
      (status = check_labels(request->n_labels, request->labels, "labels", JOB_LABELS_MAX, error)) ||
      (status = check_text(request->sdk, "sdk", SDK_BYTES_MAX, error)) ||
      (status = check_id(request->resume_session_id, "resume_session_id", false, error)) ||
      (status = check_header(request->resume_session_token, "resume_session_token", SESSION_TOKEN_BYTES_MAX, error)))
    return status;
  if ((request->resume_session_id[0] == '\0') != (request->resume_session_token[0] == '\0'))
    return INVALID(error, "resume_session_token", "to resume a session, give both its id and its token");
  return STATUS_OK;
}

static enum status check_deregister(const ProtobufCMessage *message, struct error *error) {
  const char *token = ((const Millrace__V1__DeregisterRequest *)message)->session_token;
  if (token[0] == '\0')
    return INVALID(error, "session_token", "session_token is required");
  return check_header(token, "session_token", SESSION_TOKEN_BYTES_MAX, error);
}

static enum status check_list_workers(const ProtobufCMessage *message, struct error *error) {
  return check_name(((const Millrace__V1__ListWorkersRequest *)message)->queue, "queue", false, error);
}

static enum status check_checkpoint(const ProtobufCMessage *message, struct error *error) {
  const char *name = ((const Millrace__V1__CheckpointRequest *)message)->name;
  if (name[0] == '.' || strpbrk(name, "/:"))
    return INVALID(error, "name",
                   "a checkpoint has a plain name of A-Z a-z 0-9 . _ - that does not begin with a dot; '%.64s' is none", name);
  return check_name(name, "name", true, error);
}

/* ---- the table ---- */

/* Fields that several requests have under the same name. */
enum common {
  ID = 1 << 0,              /* id: UUID, required */
  SESSION = 1 << 1,         /* session_id: UUID, required */
  NAME = 1 << 2,            /* name, required */
  PAGE = 1 << 3,            /* page_size, page_token */
  WAIT = 1 << 4,            /* timeout */
  REASON = 1 << 5,          /* reason of a cancel */
  FILTER = 1 << 6,          /* filter */
  FILTER_REQUIRED = 1 << 7, /* the same, with at least one condition */
  COUNTED = 1 << 8,         /* do not look into the jobs: each has its own outcome */
};

#define REQUEST(type) &millrace__v1__##type##_request__descriptor

static const struct row {
  const ProtobufCMessageDescriptor *type;
  unsigned common;
  enum status (*check)(const ProtobufCMessage *message, struct error *error); /* what is its own; may be NULL */
} rows[] = {
    {REQUEST(create_job), 0, check_create_job},
    {REQUEST(create_jobs), COUNTED, check_create_jobs},
    {REQUEST(create_jobs_stream), COUNTED, check_create_jobs_stream},
    {REQUEST(get_job), ID, NULL},
    {REQUEST(wait_job), ID | WAIT, NULL},
    {REQUEST(watch_jobs), FILTER_REQUIRED, NULL},
    {REQUEST(list_jobs), FILTER | PAGE, NULL},
    {REQUEST(cancel_job), ID | REASON, NULL},
    {REQUEST(retry_job), ID, NULL},
    {REQUEST(update_job), ID, check_update_job},
    {REQUEST(delete_job), ID, NULL},
    {REQUEST(cancel_jobs), FILTER_REQUIRED | REASON, NULL},
    {REQUEST(retry_jobs), FILTER_REQUIRED, NULL},
    {REQUEST(create_chain), 0, check_create_chain},
    {REQUEST(get_chain), ID, NULL},
    {REQUEST(wait_chain), ID | WAIT, NULL},
    {REQUEST(list_chains), PAGE, NULL},
    {REQUEST(cancel_chain), ID | REASON, NULL},
    {REQUEST(create_batch), 0, check_create_batch},
    {REQUEST(add_batch_items), 0, check_add_batch_items},
    {REQUEST(seal_batch), ID, NULL},
    {REQUEST(get_batch), ID, NULL},
    {REQUEST(wait_batch), ID | WAIT, NULL},
    {REQUEST(list_batches), PAGE, NULL},
    {REQUEST(cancel_batch), ID | REASON, NULL},
    {REQUEST(create_schedule), 0, check_create_schedule},
    {REQUEST(get_schedule), NAME, NULL},
    {REQUEST(list_schedules), PAGE, check_list_schedules},
    {REQUEST(update_schedule), 0, check_update_schedule},
    {REQUEST(delete_schedule), NAME, NULL},
    {REQUEST(declare_schedules), 0, check_declare_schedules},
    {REQUEST(pause_schedule), NAME, NULL},
    {REQUEST(resume_schedule), NAME, NULL},
    {REQUEST(run_schedule), NAME, check_run_schedule},
    {REQUEST(preview_schedule), 0, check_preview_schedule},
    {REQUEST(list_queues), PAGE, NULL},
    {REQUEST(get_queue), NAME, NULL},
    {REQUEST(update_queue), NAME, check_update_queue},
    {REQUEST(pause_queue), NAME, NULL},
    {REQUEST(resume_queue), NAME, NULL},
    {REQUEST(purge_queue), NAME, NULL},
    {REQUEST(delete_queue), NAME, NULL},
    {REQUEST(register), 0, check_register},
    {REQUEST(deregister), SESSION, check_deregister},
    {REQUEST(list_workers), PAGE, check_list_workers},
    {REQUEST(quiet_worker), SESSION, NULL},
    {REQUEST(get_server_info), 0, NULL},
    {REQUEST(checkpoint), 0, check_checkpoint},
    {REQUEST(stream_backup), 0, NULL},
    {REQUEST(set_log_level), 0, NULL},
};

/* The field of that name, which the row says the message has. */
static const void *field_of(const ProtobufCMessage *message, const char *name) {
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
  g_assert(field);
  return (const char *)message + field->offset;
}

static const char *text_of(const ProtobufCMessage *message, const char *name) {
  return *(char *const *)field_of(message, name);
}

static enum status check_common(const ProtobufCMessage *message, unsigned common, struct error *error) {
  enum status status = STATUS_OK;
  if (common & ID)
    status = check_id(text_of(message, "id"), "id", true, error);
  if (!status && (common & SESSION))
    status = check_id(text_of(message, "session_id"), "session_id", true, error);
  if (!status && (common & NAME))
    status = check_name(text_of(message, "name"), "name", true, error);
  if (!status && (common & PAGE))
    status = check_range(*(const uint32_t *)field_of(message, "page_size"), "page_size", 0, PAGE_SIZE_MAX, error);
  if (!status && (common & PAGE))
    status = check_text(text_of(message, "page_token"), "page_token", PAGE_TOKEN_BYTES_MAX, error);
  if (!status && (common & WAIT))
    status = check_duration(*(Google__Protobuf__Duration *const *)field_of(message, "timeout"), "timeout", 0, WAIT_MAX_MS, error);
  if (!status && (common & REASON))
    status = check_text(text_of(message, "reason"), "reason", CANCEL_REASON_BYTES_MAX, error);
  if (!status && (common & (FILTER | FILTER_REQUIRED))) {
    const Millrace__V1__JobFilter *filter = *(Millrace__V1__JobFilter *const *)field_of(message, "filter");
    status = within(check_filter(filter, (common & FILTER_REQUIRED) != 0, error), error, "filter");
  }
  return status;
}

enum status validate_request(const ProtobufCMessage *message, struct error *error) {
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    const struct row *row = &rows[i];
    if (row->type != message->descriptor)
      continue;
    enum status status = row->common & COUNTED ? STATUS_OK : check_message(message, error);
    if (!status)
      status = check_common(message, row->common, error);
    return status || !row->check ? status : row->check(message, error);
  }
  return error_set(error, STATUS_INTERNAL, NULL, "no rules for %s", message->descriptor->name);
}
