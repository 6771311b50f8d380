/* SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"

#include <glib.h>
#include <pthread.h>
#include <sys/random.h>

#include "fault.h"

/* All the map entry types of labels have the same layout. */
typedef Millrace__V1__JobSpec__LabelsEntry LabelsEntry;

void *convert_message(struct box *box, const ProtobufCMessageDescriptor *type) {
  ProtobufCMessage *message = box_alloc(box, type->sizeof_message);
  protobuf_c_message_init(type, message);
  return message;
}

char *convert_text(const char *text) {
  return text ? (char *)text : (char *)protobuf_c_empty_string;
}

Google__Protobuf__Timestamp *convert_time(struct box *box, int64_t ms) {
  if (ms == 0)
    return NULL;
  Google__Protobuf__Timestamp *time = convert_message(box, &google__protobuf__timestamp__descriptor);
  time->seconds = ms / 1000 - (ms % 1000 < 0);
  time->nanos = (int32_t)((ms % 1000 + 1000) % 1000 * 1000000);
  return time;
}

Google__Protobuf__Duration *convert_duration(struct box *box, int64_t ms) {
  if (ms == 0)
    return NULL;
  Google__Protobuf__Duration *duration = convert_message(box, &google__protobuf__duration__descriptor);
  if (ms != MILLRACE_ZERO) {
    duration->seconds = ms / 1000;
    duration->nanos = (int32_t)(ms % 1000 * 1000000);
  }
  return duration;
}

int64_t convert_from_time(const Google__Protobuf__Timestamp *time) {
  return time ? time->seconds * 1000 + time->nanos / 1000000 : 0;
}

int64_t convert_from_duration(const Google__Protobuf__Duration *duration) {
  return duration ? duration->seconds * 1000 + duration->nanos / 1000000 : 0;
}

const char *convert_enum_name(const ProtobufCEnumDescriptor *type, int value) {
  const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);
  const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(type, 0);
  if (value == 0 || !found || !zero)
    return "";
  /* The zero value is the prefix and UNSPECIFIED. */
  size_t prefix = strlen(zero->name) - strlen("UNSPECIFIED");
  g_autofree char *name = g_ascii_strdown(found->name + prefix, -1);
  return g_intern_string(name);
}

const char *millrace_job_state_name(enum millrace_job_state state) {
  return convert_enum_name(&millrace__v1__job_state__descriptor, (int)state);
}

bool millrace_job_state_is_final(enum millrace_job_state state) {
  return state >= MILLRACE_JOB_SUCCEEDED;
}

/* Rising within the process, by a counter below the time (RFC 9562, section 6.2, method 1), so that what is made together lies
 * together in the store: jobs of random order cost the server a quarter more. The chance is the kernel's, since a forked process
 * would go on with a generator's state of its parent. */
void millrace_id_make(char out_id[MILLRACE_ID_BYTES]) {
  enum { COUNTER_BITS = 26, SEED_BITS = 16 };
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static uint64_t last_ms;
  static uint32_t counter;
  uint64_t chance;
  while (getrandom(&chance, sizeof chance, 0) != sizeof chance)
    ;
  uint64_t now_ms = (uint64_t)(g_get_real_time() / 1000);
  pthread_mutex_lock(&lock);
  if (now_ms > last_ms) {
    last_ms = now_ms;
    counter = (uint32_t)(chance >> (64 - SEED_BITS));
  } else if (++counter >> COUNTER_BITS) {
    last_ms++;
    counter = 0;
  }
  uint64_t ms = last_ms;
  uint32_t count = counter;
  pthread_mutex_unlock(&lock);
  g_snprintf(out_id, MILLRACE_ID_BYTES, "%08x-%04x-7%03x-%04x-%04x%08x", (unsigned)(ms >> 16), (unsigned)(ms & 0xffff),
             count >> 14, 0x8000U | (count & 0x3fff), (unsigned)(chance >> 32 & 0xffff), (unsigned)chance);
}

char *convert_id(struct box *box, const char *id) {
  if (id && *id)
    return (char *)id;
  char fresh[MILLRACE_ID_BYTES];
  millrace_id_make(fresh);
  return box_strdup(box, fresh);
}

Millrace__V1__RetryPolicy *convert_retry(struct box *box, const struct millrace_retry_policy *policy) {
  if (!policy)
    return NULL;
  Millrace__V1__RetryPolicy *message = MESSAGE(box, Millrace__V1__RetryPolicy, retry_policy);
  message->max_attempts = policy->max_attempts;
  message->kind = (Millrace__V1__BackoffKind)policy->backoff;
  message->initial = convert_duration(box, policy->initial_ms);
  message->multiplier = policy->multiplier;
  message->max = convert_duration(box, policy->max_ms);
  if (policy->jitter != 0) {
    message->jitter = convert_message(box, &google__protobuf__double_value__descriptor);
    message->jitter->value = policy->jitter < 0 ? 0 : policy->jitter;
  }
  message->n_delays = policy->delay_count;
  message->delays = box_alloc(box, policy->delay_count * sizeof(void *));
  for (size_t i = 0; i < policy->delay_count; i++)
    message->delays[i] = convert_duration(box, policy->delays_ms[i] ? policy->delays_ms[i] : MILLRACE_ZERO);
  return message;
}

Millrace__V1__Payload *convert_payload(struct box *box, const struct millrace_payload *payload) {
  if (!payload || (!payload->data && !payload->content_type))
    return NULL;
  Millrace__V1__Payload *message = MESSAGE(box, Millrace__V1__Payload, payload);
  message->content_type = convert_text(payload->content_type);
  if (payload->is_json) {
    message->content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
    char *text = box_alloc(box, payload->length + 1);
    if (payload->data && payload->length > 0)
      memcpy(text, payload->data, payload->length);
    message->json = text;
  } else {
    message->content_case = MILLRACE__V1__PAYLOAD__CONTENT_DATA;
    message->data = (ProtobufCBinaryData){.len = payload->length, .data = (uint8_t *)payload->data};
  }
  return message;
}

void *convert_labels(struct box *box, const struct millrace_label *labels, size_t count,
                     const ProtobufCMessageDescriptor *entry_type) {
  LabelsEntry **entries = box_alloc(box, count * sizeof(void *));
  for (size_t i = 0; i < count; i++) {
    entries[i] = convert_message(box, entry_type);
    entries[i]->key = convert_text(labels[i].key);
    entries[i]->value = convert_text(labels[i].value);
  }
  return entries;
}

static void convert_times(struct box *box, const struct millrace_job_spec *spec, Millrace__V1__JobSpec *message) {
  if (spec->run_at_ms) {
    message->start_case = MILLRACE__V1__JOB_SPEC__START_RUN_AT;
    message->run_at = convert_time(box, spec->run_at_ms);
  } else if (spec->delay_ms) {
    message->start_case = MILLRACE__V1__JOB_SPEC__START_DELAY;
    message->delay = convert_duration(box, spec->delay_ms);
  }
  if (spec->expires_at_ms) {
    message->expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT;
    message->expires_at = convert_time(box, spec->expires_at_ms);
  } else if (spec->expires_in_ms) {
    message->expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN;
    message->expires_in = convert_duration(box, spec->expires_in_ms);
  }
  message->total_timeout = convert_duration(box, spec->total_timeout_ms);
  message->attempt_timeout = convert_duration(box, spec->attempt_timeout_ms);
  message->retention = convert_duration(box, spec->retention_ms);
}

static void convert_keys(struct box *box, const struct millrace_job_spec *spec, Millrace__V1__JobSpec *message) {
  if (spec->unique.key) {
    message->unique_key = MESSAGE(box, Millrace__V1__UniqueKey, unique_key);
    message->unique_key->key = convert_text(spec->unique.key);
    message->unique_key->scope = (Millrace__V1__UniqueScope)spec->unique.scope;
    message->unique_key->rule = spec->unique.return_existing ? MILLRACE__V1__UNIQUE_RULE__UNIQUE_RULE_RETURN_EXISTING
                                                             : MILLRACE__V1__UNIQUE_RULE__UNIQUE_RULE_UNSPECIFIED;
    message->unique_key->period = convert_duration(box, spec->unique.period_ms);
  }
  if (spec->concurrency_key) {
    message->concurrency_key = MESSAGE(box, Millrace__V1__ConcurrencyKey, concurrency_key);
    message->concurrency_key->key = convert_text(spec->concurrency_key);
    message->concurrency_key->limit = spec->concurrency_limit;
  }
}

Millrace__V1__JobSpec *convert_spec(struct box *box, const struct millrace_job_spec *spec) {
  if (!spec)
    return NULL;
  Millrace__V1__JobSpec *message = MESSAGE(box, Millrace__V1__JobSpec, job_spec);
  message->id = convert_text(spec->id);
  message->task = convert_text(spec->task);
  message->queue = convert_text(spec->queue);
  message->priority = (Millrace__V1__JobPriority)spec->priority;
  message->payload = convert_payload(box, &spec->payload);
  convert_times(box, spec, message);
  convert_keys(box, spec, message);
  message->retry_policy = convert_retry(box, spec->retry);
  message->n_labels = spec->label_count;
  message->labels = convert_labels(box, spec->labels, spec->label_count, &millrace__v1__job_spec__labels_entry__descriptor);
  message->traceparent = convert_text(spec->traceparent);
  message->tracestate = convert_text(spec->tracestate);
  message->wants_previous_result = spec->wants_previous_result;
  return message;
}

Millrace__V1__JobSpec **convert_specs(struct box *box, const struct millrace_job_spec *specs, size_t count) {
  Millrace__V1__JobSpec **messages = box_alloc(box, count * sizeof(void *));
  for (size_t i = 0; i < count; i++)
    messages[i] = convert_spec(box, &specs[i]);
  return messages;
}

Millrace__V1__JobFilter *convert_filter(struct box *box, const struct millrace_job_filter *filter) {
  static const struct millrace_job_filter all;
  if (!filter)
    filter = &all;
  Millrace__V1__JobFilter *message = MESSAGE(box, Millrace__V1__JobFilter, job_filter);
  message->n_queues = filter->queue_count;
  message->queues = (char **)filter->queues;
  message->n_tasks = filter->task_count;
  message->tasks = (char **)filter->tasks;
  message->n_states = filter->state_count;
  message->states = (Millrace__V1__JobState *)filter->states;
  message->n_priorities = filter->priority_count;
  message->priorities = (Millrace__V1__JobPriority *)filter->priorities;
  message->n_ids = filter->id_count;
  message->ids = (char **)filter->ids;
  message->n_labels = filter->label_count;
  message->labels = convert_labels(box, filter->labels, filter->label_count, &millrace__v1__job_filter__labels_entry__descriptor);
  message->batch_id = convert_text(filter->batch_id);
  message->chain_id = convert_text(filter->chain_id);
  message->schedule_name = convert_text(filter->schedule_name);
  message->error_fingerprint = convert_text(filter->error_fingerprint);
  message->created_after = convert_time(box, filter->created_after_ms);
  message->created_before = convert_time(box, filter->created_before_ms);
  return message;
}

struct millrace_payload convert_from_payload(const Millrace__V1__Payload *payload) {
  struct millrace_payload out = {0};
  if (!payload)
    return out;
  out.content_type = payload->content_type;
  if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON) {
    out.is_json = true;
    out.data = payload->json;
    out.length = strlen(payload->json);
  } else if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_DATA) {
    out.data = payload->data.len ? payload->data.data : (const void *)"";
    out.length = payload->data.len;
  }
  return out;
}

struct millrace_job_error convert_from_job_error(const Millrace__V1__JobError *error) {
  if (!error)
    return (struct millrace_job_error){0};
  return (struct millrace_job_error){error->type, error->message, error->trace, error->fingerprint};
}

struct millrace_label *convert_from_labels(struct box *box, void *entries, size_t count) {
  struct millrace_label *labels = box_alloc(box, count * sizeof *labels);
  LabelsEntry **list = entries;
  for (size_t i = 0; i < count; i++)
    labels[i] = (struct millrace_label){list[i]->key, list[i]->value};
  return labels;
}

static struct millrace_attempt *from_history(struct box *box, const Millrace__V1__Job *job) {
  struct millrace_attempt *history = box_alloc(box, job->n_history * sizeof *history);
  for (size_t i = 0; i < job->n_history; i++) {
    const Millrace__V1__Attempt *attempt = job->history[i];
    history[i] = (struct millrace_attempt){
        .delivery = attempt->delivery,
        .session_id = attempt->session_id,
        .started_at_ms = convert_from_time(attempt->started_at),
        .finished_at_ms = convert_from_time(attempt->finished_at),
        .outcome = convert_enum_name(&millrace__v1__attempt_outcome__descriptor, (int)attempt->outcome),
        .error = convert_from_job_error(attempt->error),
    };
  }
  return history;
}

void convert_from_job(struct box *box, const Millrace__V1__Job *job, struct millrace_job *out_job) {
  *out_job = (struct millrace_job){
      .id = job->id,
      .task = job->task,
      .queue = job->queue,
      .priority = (enum millrace_priority)job->priority,
      .state = (enum millrace_job_state)job->state,
      .waiting_reason = convert_enum_name(&millrace__v1__waiting_reason__descriptor, (int)job->waiting_reason),
      .cancel_requested = job->cancel_requested,
      .generation = job->generation,
      .attempts = job->attempts,
      .max_attempts = job->max_attempts,
      .deliveries = job->deliveries,
      .lost_count = job->lost_count,
      .created_at_ms = convert_from_time(job->created_at),
      .run_at_ms = convert_from_time(job->run_at),
      .expires_at_ms = convert_from_time(job->expires_at),
      .deadline_ms = convert_from_time(job->deadline),
      .started_at_ms = convert_from_time(job->started_at),
      .finished_at_ms = convert_from_time(job->finished_at),
      .progress = job->progress ? job->progress->fraction : 0,
      .progress_message = job->progress ? job->progress->message : "",
      .payload = convert_from_payload(job->payload),
      .result = convert_from_payload(job->result),
      .result_omitted_reason = job->result_omitted_reason,
      .error = convert_from_job_error(job->error),
      .history = from_history(box, job),
      .history_count = job->n_history,
      .labels = convert_from_labels(box, job->labels, job->n_labels),
      .label_count = job->n_labels,
      .unique_key = job->unique_key,
      .concurrency_key = job->concurrency_key,
      .chain_id = job->chain_id,
      .chain_index = job->chain_index,
      .batch_id = job->batch_id,
      .schedule_name = job->schedule_name,
      .session_id = job->session_id,
  };
}

enum millrace_code convert_from_outcomes(struct box *box, Millrace__V1__CreateOutcome **outcomes, size_t count, size_t jobs,
                                         struct millrace_outcomes *out, struct millrace_error *error) {
  if (count != jobs)
    return fault_set(error, MILLRACE_INTERNAL, NULL, "the server's answer has %zu outcomes for %zu jobs", count, jobs);
  struct millrace_outcome *list = box_alloc(box, count * sizeof *list);
  *out = (struct millrace_outcomes){.outcomes = list, .count = count};
  for (size_t i = 0; i < count; i++) {
    const Google__Rpc__Status *status = outcomes[i]->error;
    list[i] = (struct millrace_outcome){.id = outcomes[i]->id, .existing = outcomes[i]->existing, .message = "", .field = ""};
    if (status) {
      struct millrace_error fault;
      fault_from_status(&fault, status);
      list[i].code = fault.code;
      list[i].message = status->message;
      list[i].field = box_strdup(box, fault.field);
    }
    out->refused += status != NULL;
  }
  return MILLRACE_OK;
}

enum millrace_code convert_give_outcomes(struct box *take_box, Millrace__V1__CreateOutcome **outcomes, size_t count, size_t jobs,
                                         struct millrace_outcomes **out_outcomes, struct millrace_error *error) {
  struct millrace_outcomes *lid = box_lid(take_box, sizeof *lid);
  enum millrace_code code = convert_from_outcomes(take_box, outcomes, count, jobs, lid, error);
  if (code == MILLRACE_OK)
    *out_outcomes = lid;
  else
    box_unref(take_box);
  return code;
}
