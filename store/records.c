/* SPDX-License-Identifier: Apache-2.0 */
#include "store/records.h"

#include <glib.h>
#include <string.h>

#include "core/limits.h"
#include "store/keys.h"

/* ---- small parts ---- */

static char *text_out(const char *text) {
  return (char *)text; /* packing only reads it */
}

static ProtobufCBinaryData bytes_out(struct bytes bytes) {
  return (ProtobufCBinaryData){.len = bytes.length, .data = (uint8_t *)bytes.data};
}

static struct bytes bytes_in(ProtobufCBinaryData data) {
  return (struct bytes){.data = data.len > 0 ? data.data : NULL, .length = data.len};
}

/* A zero id is not written. */
static ProtobufCBinaryData id_out(const struct id *id) {
  return (ProtobufCBinaryData){.len = id_is_zero(id) ? 0 : ID_BYTES, .data = (uint8_t *)id->bytes};
}

static bool id_in(ProtobufCBinaryData data, struct id *out_id) {
  *out_id = (struct id){{0}};
  if (data.len == 0)
    return true;
  if (data.len != ID_BYTES)
    return false;
  memcpy(out_id->bytes, data.data, ID_BYTES);
  return true;
}

static void *need(struct arena *arena, size_t bytes) {
  void *memory = arena_alloc(arena, bytes);
  g_assert(memory); /* only requests have limited arenas, and their sizes were checked */
  return memory;
}

static enum status damaged(struct error *error, const char *family, const struct id *id) {
  char text[ID_TEXT_BYTES];
  id_format(id, text);
  return error_set(error, STATUS_DATA_LOSS, NULL, "the record %s of family %s cannot be read: the store is damaged", text,
                   family);
}

bool lease_entry_counts(uint32_t delivery, int64_t created_ms, const struct job *job) {
  return job->state != JOB_DELETED && job->deliveries < delivery && (created_ms == 0 || created_ms == job->created_ms);
}

struct slice record_pack(const ProtobufCMessage *message, struct arena *arena) {
  const size_t length = protobuf_c_message_get_packed_size(message);
  uint8_t *data = need(arena, length);
  protobuf_c_message_pack(message, data);
  return (struct slice){data, length};
}

enum status record_unpack(const ProtobufCMessageDescriptor *type, struct slice value, struct arena *arena,
                          ProtobufCMessage **out_message, struct error *error) {
  ProtobufCMessage *message = protobuf_c_message_unpack(type, arena_protobuf(arena), value.length, value.data);
  if (!message)
    return error_set(error, STATUS_DATA_LOSS, NULL, "a %s of %zu bytes cannot be read: the store is damaged", type->short_name,
                     value.length);
  *out_message = message;
  return STATUS_OK;
}

/* ---- errors and policies ---- */

struct job_error job_error_from_api(const Millrace__V1__JobError *message) {
  if (!message)
    return (struct job_error){"", "", "", ""};
  return (struct job_error){message->type, message->message, message->trace, message->fingerprint};
}

static bool is_error(const struct job_error *error) {
  return error->type[0] || error->message[0] || error->trace[0] || error->fingerprint[0];
}

Millrace__V1__JobError *job_error_to_api(const struct job_error *error, struct arena *arena) {
  if (!is_error(error))
    return NULL;
  Millrace__V1__JobError *message = need(arena, sizeof *message);
  millrace__v1__job_error__init(message);
  message->type = text_out(error->type);
  message->message = text_out(error->message);
  message->trace = text_out(error->trace);
  message->fingerprint = text_out(error->fingerprint);
  return message;
}

/* Durations are checked where they come in; here a wild one only must not overflow. */
static int64_t duration_in(const Google__Protobuf__Duration *duration) {
  const int64_t seconds_max = INT64_MAX / 2000;
  return CLAMP(duration->seconds, -seconds_max, seconds_max) * 1000 + duration->nanos / 1000000;
}

static Google__Protobuf__Duration *duration_out(int64_t milliseconds, struct arena *arena) {
  Google__Protobuf__Duration *duration = need(arena, sizeof *duration);
  google__protobuf__duration__init(duration);
  duration->seconds = milliseconds / 1000;
  duration->nanos = (int32_t)(milliseconds % 1000) * 1000000;
  return duration;
}

struct policy policy_from_api(const Millrace__V1__RetryPolicy *message, const Google__Protobuf__Duration *attempt_timeout,
                              struct arena *arena) {
  struct policy policy = {0};
  if (attempt_timeout) {
    policy.has_attempt_timeout = true;
    policy.attempt_timeout_ms = duration_in(attempt_timeout);
  }
  if (!message)
    return policy;
  policy.attempts_max = message->max_attempts;
  policy.kind = (enum backoff_kind)message->kind;
  policy.initial_ms = message->initial ? duration_in(message->initial) : 0;
  policy.multiplier = message->multiplier;
  policy.delay_max_ms = message->max ? duration_in(message->max) : 0;
  if (message->jitter) {
    policy.has_jitter = true;
    policy.jitter = message->jitter->value;
  }
  if (message->n_delays > 0) {
    int64_t *delays = need(arena, message->n_delays * sizeof *delays);
    for (size_t i = 0; i < message->n_delays; i++)
      delays[i] = duration_in(message->delays[i]);
    policy.delays_ms = delays;
    policy.delays = message->n_delays;
  }
  return policy;
}

static bool has_retry_part(const struct policy *policy) {
  return policy->attempts_max || policy->kind || policy->initial_ms || policy->multiplier != 0 || policy->delay_max_ms ||
         policy->has_jitter || policy->delays;
}

Millrace__V1__RetryPolicy *policy_to_api(const struct policy *policy, struct arena *arena) {
  if (!has_retry_part(policy))
    return NULL;
  Millrace__V1__RetryPolicy *message = need(arena, sizeof *message);
  millrace__v1__retry_policy__init(message);
  message->max_attempts = policy->attempts_max;
  message->kind = (Millrace__V1__BackoffKind)policy->kind;
  message->initial = policy->initial_ms ? duration_out(policy->initial_ms, arena) : NULL;
  message->multiplier = policy->multiplier;
  message->max = policy->delay_max_ms ? duration_out(policy->delay_max_ms, arena) : NULL;
  if (policy->has_jitter) {
    message->jitter = need(arena, sizeof *message->jitter);
    google__protobuf__double_value__init(message->jitter);
    message->jitter->value = policy->jitter;
  }
  message->n_delays = policy->delays;
  message->delays = policy->delays ? need(arena, policy->delays * sizeof(void *)) : NULL;
  for (size_t i = 0; i < policy->delays; i++)
    message->delays[i] = duration_out(policy->delays_ms[i], arena);
  return message;
}

static Millrace__Store__V1__StoredPolicy *policy_out(const struct policy *policy, struct arena *arena) {
  Millrace__Store__V1__StoredPolicy *stored = need(arena, sizeof *stored);
  millrace__store__v1__stored_policy__init(stored);
  stored->attempts_max = policy->attempts_max;
  stored->kind = policy->kind;
  stored->initial_ms = policy->initial_ms;
  stored->multiplier = policy->multiplier;
  stored->delay_max_ms = policy->delay_max_ms;
  stored->has_jitter = policy->has_jitter;
  stored->jitter = policy->jitter;
  stored->n_delays_ms = policy->delays;
  stored->delays_ms = (int64_t *)policy->delays_ms;
  stored->has_attempt_timeout = policy->has_attempt_timeout;
  stored->attempt_timeout_ms = policy->attempt_timeout_ms;
  return stored;
}

static bool policy_in(const Millrace__Store__V1__StoredPolicy *stored, struct policy *out_policy) {
  *out_policy = (struct policy){0};
  if (!stored)
    return true;
  if (stored->kind > BACKOFF_LIST || stored->n_delays_ms > POLICY_DELAYS_MAX)
    return false;
  *out_policy = (struct policy){.attempts_max = stored->attempts_max,
                                .kind = (enum backoff_kind)stored->kind,
                                .initial_ms = stored->initial_ms,
                                .multiplier = stored->multiplier,
                                .delay_max_ms = stored->delay_max_ms,
                                .has_jitter = stored->has_jitter,
                                .jitter = stored->jitter,
                                .delays_ms = stored->n_delays_ms ? stored->delays_ms : NULL,
                                .delays = stored->n_delays_ms,
                                .has_attempt_timeout = stored->has_attempt_timeout,
                                .attempt_timeout_ms = stored->attempt_timeout_ms};
  return true;
}

/* ---- jobs ---- */

static void labels_out(const struct job *job, Millrace__Store__V1__JobRecord *record, struct arena *arena) {
  if (job->label_count == 0)
    return;
  Millrace__Store__V1__StoredLabel *labels = need(arena, job->label_count * sizeof *labels);
  record->labels = need(arena, job->label_count * sizeof(void *));
  record->n_labels = job->label_count;
  for (size_t i = 0; i < job->label_count; i++) {
    millrace__store__v1__stored_label__init(&labels[i]);
    labels[i].key = text_out(job->labels[i].key);
    labels[i].value = text_out(job->labels[i].value);
    record->labels[i] = &labels[i];
  }
}

static void history_out(const struct job *job, Millrace__Store__V1__JobRecord *record, struct arena *arena) {
  if (job->history_count == 0)
    return;
  Millrace__Store__V1__StoredAttempt *attempts = need(arena, job->history_count * sizeof *attempts);
  record->history = need(arena, job->history_count * sizeof(void *));
  record->n_history = job->history_count;
  for (size_t i = 0; i < job->history_count; i++) {
    const struct attempt *attempt = &job->history[i];
    millrace__store__v1__stored_attempt__init(&attempts[i]);
    attempts[i].delivery = attempt->delivery;
    attempts[i].session_id = id_out(&attempt->session);
    attempts[i].started_ms = attempt->started_ms;
    attempts[i].finished_ms = attempt->finished_ms;
    attempts[i].outcome = attempt->outcome;
    attempts[i].error = job_error_to_api(&attempt->error, arena);
    record->history[i] = &attempts[i];
  }
}

static void numbers_out(const struct job *job, Millrace__Store__V1__JobRecord *record) {
  record->state = (Millrace__Store__V1__StoredState)(job->state == JOB_RUNNING ? JOB_PENDING : job->state);
  record->queue = job->queue;
  record->task = job->task;
  record->priority = job->priority;
  record->sequence = job->sequence;
  record->keeps_place = job->keeps_place;
  record->generation = job->generation;
  record->deliveries = job->deliveries;
  record->attempts = job->attempts;
  record->lost_count = job->lost_count;
  record->created_ms = job->created_ms;
  record->run_at_ms = job->run_at_ms;
  record->expires_at_ms = job->expires_at_ms;
  record->deadline_ms = job->deadline_ms;
  record->total_timeout_ms = job->total_timeout_ms;
  record->started_ms = job->started_ms;
  record->finished_ms = job->finished_ms;
  record->delete_at_ms = job->delete_at_ms;
  record->retention_ms = job->retention_ms;
  record->cancel_requested = job->cancel_requested;
  record->terminate_requested = job->terminate_requested;
  record->unique_scope = job->unique_scope;
  record->unique_held = job->unique_held;
  record->unique_until_ms = job->unique_until_ms;
  record->concurrency_limit = job->concurrency_limit;
  record->chain_index = job->chain_index;
  record->chain_delay_ms = job->chain_delay_ms;
  record->cancelled_by_chain = job->cancelled_by_chain;
  record->counted = job->counted;
  record->result_apart = job->result_apart;
  record->content_hash_high = job->content_hash[0];
  record->content_hash_low = job->content_hash[1];
  record->unknown_task_since_ms = job->unknown_task_since_ms;
  record->has_log = job->has_log;
  record->attempts_max = job->attempts_max;
}

struct slice record_pack_job(const struct job *job, struct arena *arena) {
  Millrace__Store__V1__JobRecord record = MILLRACE__STORE__V1__JOB_RECORD__INIT;
  numbers_out(job, &record);
  record.unique_key = text_out(job->unique_key);
  record.concurrency_key = text_out(job->concurrency_key);
  record.schedule_name = text_out(job->schedule_name);
  record.result_omitted_reason = text_out(job->result_omitted_reason);
  record.chain_id = id_out(&job->chain_id);
  record.chain_next = id_out(&job->chain_next);
  record.batch_id = id_out(&job->batch_id);
  record.schedule_uid = id_out(&job->schedule_uid);
  record.session_id = id_out(&job->session);
  record.result = bytes_out(job->result);
  record.error = job_error_to_api(&job->error, arena);
  record.policy = job->has_policy ? policy_out(&job->policy, arena) : NULL;
  labels_out(job, &record, arena);
  history_out(job, &record, arena);
  return record_pack(&record.base, arena);
}

/* A text that becomes part of a key must fit into one. */
static bool fits(const char *text, size_t bytes_max) {
  return strnlen(text, bytes_max + 1) <= bytes_max;
}

static bool labels_in(const Millrace__Store__V1__JobRecord *record, struct arena *arena, struct job *job) {
  if (record->n_labels == 0)
    return true;
  if (record->n_labels > JOB_LABELS_MAX)
    return false;
  struct label *labels = need(arena, record->n_labels * sizeof *labels);
  for (size_t i = 0; i < record->n_labels; i++) {
    labels[i] = (struct label){record->labels[i]->key, record->labels[i]->value};
    if (!fits(labels[i].key, LABEL_KEY_BYTES_MAX) || !fits(labels[i].value, LABEL_VALUE_BYTES_MAX))
      return false;
  }
  job->labels = labels;
  job->label_count = record->n_labels;
  return true;
}

static bool history_in(const Millrace__Store__V1__JobRecord *record, struct arena *arena, struct job *job) {
  if (record->n_history == 0)
    return true;
  if (record->n_history > JOB_HISTORY_MAX)
    return false;
  struct attempt *attempts = need(arena, record->n_history * sizeof *attempts);
  for (size_t i = 0; i < record->n_history; i++) {
    const Millrace__Store__V1__StoredAttempt *stored = record->history[i];
    attempts[i] = (struct attempt){.delivery = stored->delivery,
                                   .started_ms = stored->started_ms,
                                   .finished_ms = stored->finished_ms,
                                   .outcome = (enum attempt_outcome)stored->outcome,
                                   .error = job_error_from_api(stored->error)};
    if (!id_in(stored->session_id, &attempts[i].session) || stored->outcome > ATTEMPT_UNKNOWN_TASK)
      return false;
  }
  job->history = attempts;
  job->history_count = record->n_history;
  return true;
}

static void numbers_in(const Millrace__Store__V1__JobRecord *record, struct job *job) {
  job->state = (enum job_state)record->state;
  job->queue = record->queue;
  job->task = record->task;
  job->priority = (uint8_t)record->priority;
  job->sequence = record->sequence;
  job->keeps_place = record->keeps_place;
  job->generation = record->generation;
  job->deliveries = record->deliveries;
  job->attempts = record->attempts;
  job->lost_count = record->lost_count;
  job->created_ms = record->created_ms;
  job->run_at_ms = record->run_at_ms;
  job->expires_at_ms = record->expires_at_ms;
  job->deadline_ms = record->deadline_ms;
  job->total_timeout_ms = record->total_timeout_ms;
  job->started_ms = record->started_ms;
  job->finished_ms = record->finished_ms;
  job->delete_at_ms = record->delete_at_ms;
  job->retention_ms = record->retention_ms;
  job->cancel_requested = record->cancel_requested;
  job->terminate_requested = record->terminate_requested;
  job->unique_scope = (enum unique_scope)record->unique_scope;
  job->unique_held = record->unique_held;
  job->unique_key = record->unique_key;
  job->unique_until_ms = record->unique_until_ms;
  job->concurrency_key = record->concurrency_key;
  job->concurrency_limit = record->concurrency_limit;
  job->chain_index = record->chain_index;
  job->chain_delay_ms = record->chain_delay_ms;
  job->cancelled_by_chain = record->cancelled_by_chain;
  job->counted = record->counted;
  job->schedule_name = record->schedule_name;
  job->result = bytes_in(record->result);
  job->result_apart = record->result_apart;
  job->result_omitted_reason = record->result_omitted_reason;
  job->error = job_error_from_api(record->error);
  job->has_policy = record->policy != NULL;
  job->content_hash[0] = record->content_hash_high;
  job->content_hash[1] = record->content_hash_low;
  job->unknown_task_since_ms = record->unknown_task_since_ms;
  job->has_log = record->has_log;
  job->attempts_max = record->attempts_max;
}

static bool is_priority(uint32_t priority) {
  return priority == 0 || priority == 5 || priority == 8 || priority == 10;
}

static bool is_stored_state(Millrace__Store__V1__StoredState state) {
  return state >= (int)JOB_SCHEDULED && state <= (int)JOB_PARKED && state != (int)JOB_RUNNING;
}

enum status record_unpack_job(const struct id *id, struct slice value, struct arena *arena, struct job *out_job,
                              struct error *error) {
  const Millrace__Store__V1__JobRecord *record =
      millrace__store__v1__job_record__unpack(arena_protobuf(arena), value.length, value.data);
  if (!record || !is_stored_state(record->state) || !is_priority(record->priority) || record->unique_scope > UNIQUE_PERIOD)
    return damaged(error, family_names[FAMILY_JOBS], id);
  struct job job = job_empty;
  job.id = *id;
  numbers_in(record, &job);
  if (!fits(job.unique_key, KEY_TEXT_BYTES_MAX) || !fits(job.concurrency_key, KEY_TEXT_BYTES_MAX) ||
      !id_in(record->chain_id, &job.chain_id) || !id_in(record->chain_next, &job.chain_next) ||
      !id_in(record->batch_id, &job.batch_id) || !id_in(record->schedule_uid, &job.schedule_uid) ||
      !id_in(record->session_id, &job.session) || !policy_in(record->policy, &job.policy) || !labels_in(record, arena, &job) ||
      !history_in(record, arena, &job))
    return damaged(error, family_names[FAMILY_JOBS], id);
  *out_job = job;
  return STATUS_OK;
}

/* ---- specs ---- */

struct slice record_pack_spec(const struct spec *spec, struct arena *arena) {
  Millrace__Store__V1__SpecRecord record = MILLRACE__STORE__V1__SPEC_RECORD__INIT;
  const bool has_policy = has_retry_part(&spec->policy) || spec->policy.has_attempt_timeout;
  record.payload = bytes_out(spec->payload);
  record.policy = has_policy ? policy_out(&spec->policy, arena) : NULL;
  record.traceparent = text_out(spec->traceparent);
  record.tracestate = text_out(spec->tracestate);
  record.previous_id = id_out(&spec->previous_id);
  record.previous_result = bytes_out(spec->previous_result);
  return record_pack(&record.base, arena);
}

enum status record_unpack_spec(const struct id *id, struct slice value, struct arena *arena, struct spec *out_spec,
                               struct error *error) {
  const Millrace__Store__V1__SpecRecord *record =
      millrace__store__v1__spec_record__unpack(arena_protobuf(arena), value.length, value.data);
  if (!record)
    return damaged(error, family_names[FAMILY_SPECS], id);
  struct spec spec = {.payload = bytes_in(record->payload),
                      .traceparent = record->traceparent,
                      .tracestate = record->tracestate,
                      .previous_result = bytes_in(record->previous_result)};
  if (!policy_in(record->policy, &spec.policy) || !id_in(record->previous_id, &spec.previous_id))
    return damaged(error, family_names[FAMILY_SPECS], id);
  *out_spec = spec;
  return STATUS_OK;
}
