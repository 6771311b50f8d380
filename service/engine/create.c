/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/create.h"

#include <string.h>
#include <xxhash.h>

#include "core/time.h"
#include "engine/queues.h"
#include "engine/turn.h"

static int label_compare(const void *a, const void *b) {
  const Millrace__V1__JobSpec__LabelsEntry *const *x = a, *const *y = b;
  return strcmp((*x)->key, (*y)->key);
}

Millrace__V1__JobSpec *spec_canonical(struct turn *turn, const Millrace__V1__JobSpec *spec) {
  if (!spec || spec->n_labels < 2)
    return (Millrace__V1__JobSpec *)spec;
  Millrace__V1__JobSpec *copy = arena_memdup(turn->arena, spec, sizeof *spec);
  copy->labels = arena_memdup(turn->arena, spec->labels, spec->n_labels * sizeof *spec->labels);
  qsort(copy->labels, copy->n_labels, sizeof *copy->labels, label_compare);
  return copy;
}

Millrace__V1__JobSpec *spec_content(struct turn *turn, const Millrace__V1__JobSpec *spec) {
  if (!spec)
    return NULL;
  Millrace__V1__JobSpec *copy = arena_memdup(turn->arena, spec_canonical(turn, spec), sizeof *spec);
  copy->traceparent = copy->tracestate = (char *)protobuf_c_empty_string;
  return copy;
}

void content_hash(struct turn *turn, const ProtobufCMessage *message, uint64_t out_hash[static 2]) {
  size_t length = protobuf_c_message_get_packed_size(message);
  uint8_t *packed = arena_alloc(turn->arena, length + 1);
  protobuf_c_message_pack(message, packed);
  XXH128_hash_t hash = XXH3_128bits(packed, length);
  out_hash[0] = hash.high64;
  out_hash[1] = hash.low64;
}

struct bytes spec_pack(struct turn *turn, const Millrace__V1__JobSpec *spec) {
  if (!spec)
    return (struct bytes){NULL, 0};
  struct slice packed = record_pack(&spec->base, turn->arena);
  return (struct bytes){packed.data, packed.length};
}

Millrace__V1__JobSpec *spec_unpack(struct turn *turn, struct bytes packed) {
  if (packed.length == 0)
    return NULL;
  return millrace__v1__job_spec__unpack(arena_protobuf(turn->arena), packed.length, packed.data);
}

void create_want(struct turn *turn, const Millrace__V1__JobSpec *spec) {
  struct id id;
  if (spec->id[0] && id_parse(spec->id, &id))
    turn_want(turn, &id);
}

static uint8_t priority_of(Millrace__V1__JobPriority priority) {
  switch (priority) {
  case MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW:
    return 0;
  case MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_HIGH:
    return 8;
  case MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_CRITICAL:
    return 10;
  default:
    return 5;
  }
}

/* The record, apart from queue, task and place. */
static void fill_job(struct turn *turn, const Millrace__V1__JobSpec *spec, const struct origin *origin, struct job *job) {
  int64_t now_ms = turn->now_ms;
  job->priority = priority_of(spec->priority);
  job->generation = 1;
  job->attempts_max = spec->retry_policy ? spec->retry_policy->max_attempts : 0;
  job->created_ms = engine_created_ms(turn);
  int64_t delay_ms = spec->start_case == MILLRACE__V1__JOB_SPEC__START_DELAY ? time_from_duration(spec->delay) : 0;
  if (spec->start_case == MILLRACE__V1__JOB_SPEC__START_RUN_AT)
    job->run_at_ms = time_from_timestamp(spec->run_at);
  else if (origin->blocked)
    job->chain_delay_ms = delay_ms;
  else
    job->run_at_ms = now_ms + delay_ms;
  if (spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT)
    job->expires_at_ms = MAX(time_from_timestamp(spec->expires_at), now_ms); /* timers of the past have been handled */
  else if (spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN)
    job->expires_at_ms = now_ms + time_from_duration(spec->expires_in);
  if (spec->total_timeout) {
    job->total_timeout_ms = time_from_duration(spec->total_timeout);
    job->deadline_ms = now_ms + job->total_timeout_ms;
  }
  if (spec->retention)
    job->retention_ms = time_from_duration(spec->retention);
  if (spec->unique_key) {
    const Millrace__V1__UniqueKey *unique = spec->unique_key;
    job->unique_key = unique->key;
    job->unique_scope = unique->scope ? (enum unique_scope)unique->scope : UNIQUE_UNTIL_FINISHED;
    job->unique_until_ms = job->unique_scope == UNIQUE_PERIOD ? now_ms + time_from_duration(unique->period) : 0;
    job->unique_held = true;
  }
  if (spec->concurrency_key) {
    job->concurrency_key = spec->concurrency_key->key;
    job->concurrency_limit = spec->concurrency_key->limit ? spec->concurrency_key->limit : 1;
  }
  if (spec->n_labels) {
    struct label *labels = arena_alloc(turn->arena, spec->n_labels * sizeof *labels);
    for (size_t i = 0; i < spec->n_labels; i++)
      labels[i] = (struct label){spec->labels[i]->key, spec->labels[i]->value};
    job->labels = labels;
    job->label_count = spec->n_labels;
  }
  job->chain_id = origin->chain_id;
  job->chain_index = origin->chain_index;
  job->chain_next = origin->chain_next;
  job->batch_id = origin->batch_id;
  job->schedule_uid = origin->schedule_uid;
  job->schedule_name = origin->schedule_name ? origin->schedule_name : "";
}

static void fill_spec(struct turn *turn, const Millrace__V1__JobSpec *message, const struct origin *origin, struct spec *spec) {
  *spec = (struct spec){.traceparent = message->traceparent, .tracestate = message->tracestate};
  if (message->payload) {
    struct slice packed = record_pack(&message->payload->base, turn->arena);
    spec->payload = (struct bytes){packed.data, packed.length};
  }
  spec->policy = policy_from_api(message->retry_policy, message->attempt_timeout, turn->arena);
  if (message->wants_previous_result) {
    spec->previous_id = origin->previous_id;
    spec->previous_result = origin->previous_result;
  }
}

static enum status already(struct error *error, const char *reason, const struct id *id, const char *format) {
  char text[ID_TEXT_BYTES];
  id_format(id, text);
  error_set(error, STATUS_ALREADY_EXISTS, "id", format, text);
  return error_reason(error, reason, text);
}

/* A job with this id is there: the same content is no error. */
static enum status meet_existing(struct entry *entry, const uint64_t hash[static 2], struct error *error) {
  const struct job *job = &entry->now;
  if (job->state == JOB_DELETED)
    return already(error, "JOB_DELETED", &entry->id, "job %s was created and has been removed since; use a new id");
  if (job->content_hash[0] == hash[0] && job->content_hash[1] == hash[1])
    return STATUS_OK;
  return already(error, "JOB_EXISTS", &entry->id, "job %s exists with other content; use a new id");
}

static enum status check_unique(struct turn *turn, struct queue *queue, const Millrace__V1__JobSpec *spec,
                                struct entry **out_holder, struct error *error) {
  *out_holder = NULL;
  if (!spec->unique_key || !queue)
    return STATUS_OK;
  struct entry *holder = turn_unique_holder(turn, queue, spec->unique_key->key);
  if (!holder)
    return STATUS_OK;
  if (spec->unique_key->rule == MILLRACE__V1__UNIQUE_RULE__UNIQUE_RULE_RETURN_EXISTING) {
    *out_holder = holder;
    return STATUS_OK;
  }
  char text[ID_TEXT_BYTES];
  id_format(&holder->id, text);
  error_set(error, STATUS_ALREADY_EXISTS, "unique_key.key", "job %s of queue '%s' holds the unique key '%s'", text, queue->name,
            spec->unique_key->key);
  return error_reason(error, "UNIQUE_KEY_TAKEN", text);
}

static enum status check_room(struct turn *turn, const struct queue *queue, const struct origin *origin, struct error *error) {
  if (origin->internal)
    return STATUS_OK;
  if (turn->engine->disk_low) {
    error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL,
              "the server's disk has less than %" G_GUINT64_FORMAT " MiB left; jobs are taken again when there is room",
              turn->engine->options.disk_low_bytes >> 20);
    return error_reason(error, "DISK_LOW", NULL);
  }
  if (!queue || !queue->settings.length_max || queue_length(queue) < queue->settings.length_max)
    return STATUS_OK;
  error_set(error, STATUS_RESOURCE_EXHAUSTED, "queue", "queue '%s' is full: max_length is %" G_GUINT64_FORMAT, queue->name,
            queue->settings.length_max);
  error->retry_after_ms = SECOND_MS;
  return error_reason(error, "QUEUE_FULL", queue->name);
}

static struct id id_of(struct turn *turn, const Millrace__V1__JobSpec *spec, const struct origin *origin, bool *out_given) {
  struct id id;
  *out_given = true;
  if (!id_is_zero(&origin->id))
    return origin->id;
  if (spec->id[0] && id_parse(spec->id, &id))
    return id;
  *out_given = false;
  return id_make_v7(turn->now_ms, 0, engine_random(turn->engine));
}

/* The id is not content: sent again, it may be the one that the server made. */
static void spec_hash(struct turn *turn, const Millrace__V1__JobSpec *spec, uint64_t out_hash[static 2]) {
  Millrace__V1__JobSpec *content = spec_content(turn, spec);
  content->id = (char *)protobuf_c_empty_string;
  content_hash(turn, &content->base, out_hash);
}

/* Queue, task and lane, made if need be. */
static enum status find_place(struct turn *turn, const Millrace__V1__JobSpec *spec, struct job *job, struct error *error) {
  struct queue *queue = queue_get(turn, spec->queue[0] ? spec->queue : QUEUE_DEFAULT, error);
  struct task *task = queue ? task_get(turn, queue, spec->task, error) : NULL;
  if (!task)
    return error->status;
  if (!lane_keep(turn, queue, task, priority_of(spec->priority)))
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "task",
                     "there are %d lanes (queue, task, priority) already, the most that can be", LANES_MAX);
  job->queue = queue->number;
  job->task = task->number;
  return STATUS_OK;
}

enum status create_reserve(struct turn *turn, const Millrace__V1__JobSpec *spec, struct error *error) {
  struct job job;
  return spec ? find_place(turn, spec, &job, error) : STATUS_OK;
}

enum status create_job(struct turn *turn, const Millrace__V1__JobSpec *message, const struct origin *origin,
                       struct created *out_created, struct error *error) {
  bool given;
  struct job job = job_empty;
  job.id = id_of(turn, message, origin, &given);
  const Millrace__V1__JobSpec *spec = spec_canonical(turn, message);
  spec_hash(turn, spec, job.content_hash);
  struct entry *entry = given ? turn_job(turn, &job.id) : NULL;
  enum status status;
  if (entry) {
    status = meet_existing(entry, job.content_hash, error);
    if (status == STATUS_OK)
      *out_created = (struct created){entry, true};
    return status;
  }
  struct queue *queue = queue_find(turn->engine, spec->queue[0] ? spec->queue : QUEUE_DEFAULT);
  status = check_room(turn, queue, origin, error);
  if (status != STATUS_OK)
    return status;
  struct entry *holder;
  status = check_unique(turn, queue, spec, &holder, error);
  if (status != STATUS_OK)
    return status;
  if (holder) {
    *out_created = (struct created){holder, true};
    return STATUS_OK;
  }
  fill_job(turn, spec, origin, &job);
  status = find_place(turn, spec, &job, error);
  if (status != STATUS_OK)
    return status;
  if (origin->blocked) {
    job.state = JOB_BLOCKED;
  } else if (job.run_at_ms > turn->now_ms) {
    job.state = JOB_SCHEDULED;
  } else {
    job.state = JOB_PENDING;
    job.sequence = engine_sequence(turn);
    job.run_at_ms = turn->now_ms;
  }
  struct spec body;
  fill_spec(turn, spec, origin, &body);
  *out_created = (struct created){turn_create(turn, &job, &body), false};
  return STATUS_OK;
}
