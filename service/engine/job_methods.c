/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "core/time.h"
#include "core/validate.h"
#include "engine/answer.h"
#include "engine/batches.h"
#include "engine/chains.h"
#include "engine/create.h"
#include "engine/jobs.h"
#include "engine/queues.h"
#include "engine/sessions.h"
#include "engine/turn.h"
#include "engine/waiters.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"

/* ---- create ---- */

void create_job_prepare(struct turn *turn, struct request *request) {
  create_want(turn, ((const Millrace__V1__CreateJobRequest *)(const void *)request->message)->job);
}

void create_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateJobRequest *message = (const void *)request->message;
  static const struct origin producer;
  struct created created;
  struct error error;
  if (create_job(turn, message->job, &producer, &created, &error) != STATUS_OK) {
    if (error.field[0])
      error_prefix_field(&error, "job.");
    reply_error(turn, request, &error);
    return;
  }
  Millrace__V1__CreateJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CreateJobResponse, millrace__v1__create_job_response__descriptor);
  response->job = answer_job(turn, created.entry, false);
  response->existing = created.existing;
  reply(turn, request, response);
}

void create_jobs_prepare(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateJobsRequest *message = (const void *)request->message;
  for (size_t i = 0; i < message->n_jobs; i++)
    create_want(turn, message->jobs[i]);
}

static Google__Protobuf__Any *any_of(struct turn *turn, const char *type, const ProtobufCMessage *message) {
  struct slice packed = record_pack(message, turn->arena);
  Google__Protobuf__Any *any = MESSAGE(turn->arena, Google__Protobuf__Any, google__protobuf__any__descriptor);
  any->type_url = arena_printf(turn->arena, "type.googleapis.com/%s", type);
  any->value = (ProtobufCBinaryData){packed.length, (uint8_t *)packed.data};
  return any;
}

Google__Rpc__Status *item_error(struct turn *turn, const struct error *error) {
  struct arena *arena = turn->arena;
  Google__Rpc__Status *status = MESSAGE(arena, Google__Rpc__Status, google__rpc__status__descriptor);
  status->code = (int32_t)error->status;
  status->message = arena_strdup(arena, error->message);
  status->details = arena_alloc(arena, 3 * sizeof *status->details);
  if (error->field[0]) {
    Google__Rpc__BadRequest__FieldViolation violation = GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    violation.field = (char *)error->field;
    violation.description = (char *)error->message;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    bad.n_field_violations = 1;
    bad.field_violations = violations;
    status->details[status->n_details++] = any_of(turn, "google.rpc.BadRequest", &bad.base);
  }
  if (error->reason[0]) {
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry subject = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry *metadata[] = {&subject};
    subject.key = "subject";
    subject.value = (char *)error->subject;
    info.reason = (char *)error->reason;
    info.domain = "millrace";
    info.n_metadata = error->subject[0] ? 1 : 0;
    info.metadata = metadata;
    status->details[status->n_details++] = any_of(turn, "google.rpc.ErrorInfo", &info.base);
  }
  if (error->retry_after_ms > 0) {
    Google__Rpc__RetryInfo info = GOOGLE__RPC__RETRY_INFO__INIT;
    info.retry_delay = duration_new(arena, error->retry_after_ms);
    status->details[status->n_details++] = any_of(turn, "google.rpc.RetryInfo", &info.base);
  }
  return status;
}

static Millrace__V1__CreateOutcome *create_one(struct turn *turn, const struct request *request,
                                               const Millrace__V1__JobSpec *spec, size_t index) {
  static const struct origin producer;
  Millrace__V1__CreateOutcome *outcome =
      MESSAGE(turn->arena, Millrace__V1__CreateOutcome, millrace__v1__create_outcome__descriptor);
  struct created created;
  struct error error;
  enum status status = request_check_queue(request, spec->queue[0] ? spec->queue : QUEUE_DEFAULT, &error);
  if (status == STATUS_OK)
    status = validate_job_spec(spec, JOB_ALONE, &error);
  if (status == STATUS_OK)
    status = create_job(turn, spec, &producer, &created, &error);
  if (status != STATUS_OK) {
    outcome->id = spec->id;
    if (error.field[0])
      error_prefix_field(&error, "jobs[%zu].", index);
    outcome->error = item_error(turn, &error);
    return outcome;
  }
  outcome->id = id_text(turn->arena, &created.entry->id);
  outcome->existing = created.existing;
  return outcome;
}

void create_jobs_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateJobsRequest *message = (const void *)request->message;
  Millrace__V1__CreateJobsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CreateJobsResponse, millrace__v1__create_jobs_response__descriptor);
  response->n_outcomes = message->n_jobs;
  response->outcomes = arena_alloc(turn->arena, (message->n_jobs + 1) * sizeof *response->outcomes);
  for (size_t i = 0; i < message->n_jobs; i++)
    response->outcomes[i] = create_one(turn, request, message->jobs[i], i);
  reply(turn, request, response);
}

/* ---- look and wait ---- */

/* The job, or NULL with the request answered. */
static struct entry *find(struct turn *turn, struct request *request, const char *text) {
  struct id id;
  struct entry *entry = id_parse(text, &id) ? turn_job(turn, &id) : NULL;
  if (entry && entry->now.state != JOB_DELETED)
    return reply_unless_granted(turn, request, queue_by_number(turn->engine, entry->now.queue)->name) ? entry : NULL;
  reply_failure(turn, request, STATUS_NOT_FOUND, "id", "there is no job %s (it may have been removed after its retention)", text);
  return NULL;
}

static Millrace__V1__LogLine **log_of(struct turn *turn, const struct id *id, size_t *out_count) {
  struct key from, until;
  key_log(&from, id, 0);
  key_log(&until, id, UINT64_MAX);
  struct store_range range = {FAMILY_LOGS, key_slice(&from), key_slice(&until), false, LOG_BYTES_MAX};
  struct store_rows rows;
  *out_count = 0;
  if (!turn_scan(turn, &range, &rows))
    return NULL;
  GPtrArray *lines = g_ptr_array_new();
  for (size_t i = 0; i < rows.count; i++) {
    Millrace__Store__V1__LogRecord *record =
        millrace__store__v1__log_record__unpack(arena_protobuf(turn->arena), rows.rows[i].value.length, rows.rows[i].value.data);
    for (size_t j = 0; record && j < record->n_lines; j++)
      g_ptr_array_add(lines, record->lines[j]);
  }
  store_rows_release(&rows);
  *out_count = lines->len;
  Millrace__V1__LogLine **copy = arena_memdup(turn->arena, lines->pdata, lines->len * sizeof *copy);
  g_ptr_array_free(lines, TRUE);
  return copy;
}

void get_job_prepare(struct turn *turn, struct request *request) {
  struct id id;
  if (id_parse(((const Millrace__V1__GetJobRequest *)(const void *)request->message)->id, &id))
    turn_want(turn, &id);
}

void get_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__GetJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  if (!entry)
    return;
  Millrace__V1__GetJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__GetJobResponse, millrace__v1__get_job_response__descriptor);
  response->job = answer_job(turn, entry, message->view != MILLRACE__V1__VIEW__VIEW_BASIC);
  if (message->with_log && entry->now.has_log)
    response->log = log_of(turn, &entry->id, &response->n_log);
  reply(turn, request, response);
}

void wait_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__WaitJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  if (!entry)
    return;
  if (!job_is_terminal(entry->now.state)) {
    wait_add(turn, WAIT_JOB, &entry->id, request, message->timeout ? time_from_duration(message->timeout) : WAIT_DEFAULT_MS);
    return;
  }
  Millrace__V1__WaitJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__WaitJobResponse, millrace__v1__wait_job_response__descriptor);
  response->job = answer_job(turn, entry, message->view != MILLRACE__V1__VIEW__VIEW_BASIC);
  reply(turn, request, response);
}

/* ---- cancel and retry ---- */

struct job_error cancel_error(struct turn *turn, const char *reason) {
  struct job_error error = {"CANCELLED", "cancelled by a caller", "", ""};
  if (reason[0])
    error.message = arena_strdup(turn->arena, reason);
  return error;
}

bool cancel_entry(struct turn *turn, struct entry *entry, bool terminate, const struct job_error *error) {
  struct job next = entry->now;
  if (job_is_waiting(next.state)) {
    job_cancel(&next, turn->now_ms, error);
    turn_update(turn, entry, &next);
    return true;
  }
  if (next.state != JOB_RUNNING)
    return false;
  if (!next.cancel_requested || (terminate && !next.terminate_requested)) {
    const struct running *running = g_hash_table_lookup(turn->engine->running, &entry->id);
    next.error = *error;
    job_request_cancel(&next, terminate);
    session_command(turn, running->session,
                    next.terminate_requested ? MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE
                                             : MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL,
                    &entry->id, running->delivery);
    turn_update(turn, entry, &next);
  }
  return true;
}

void cancel_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CancelJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  if (!entry)
    return;
  struct job_error error = cancel_error(turn, message->reason);
  Millrace__V1__CancelJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CancelJobResponse, millrace__v1__cancel_job_response__descriptor);
  response->accepted = cancel_entry(turn, entry, message->terminate, &error);
  response->job = answer_job(turn, entry, true);
  reply(turn, request, response);
}

enum status unique_take_back(struct turn *turn, struct job *job, struct error *error) {
  if (job->unique_scope == UNIQUE_NONE || job->unique_held)
    return STATUS_OK;
  const struct entry *holder = turn_unique_holder(turn, queue_by_number(turn->engine, job->queue), job->unique_key);
  if (holder) {
    char text[ID_TEXT_BYTES], other[ID_TEXT_BYTES];
    id_format(&job->id, text);
    id_format(&holder->id, other);
    error_set(error, STATUS_FAILED_PRECONDITION, NULL, "job %s holds the unique key '%s' of job %s now", other, job->unique_key,
              text);
    return error_reason(error, "UNIQUE_KEY_TAKEN", other);
  }
  job->unique_held = job->unique_scope != UNIQUE_PERIOD || job->unique_until_ms > turn->now_ms;
  return STATUS_OK;
}

enum status retry_entry(struct turn *turn, struct entry *entry, struct error *error) {
  struct job next = entry->now;
  char text[ID_TEXT_BYTES];
  id_format(&entry->id, text);
  if (next.state != JOB_FAILED && next.state != JOB_CANCELLED && next.state != JOB_EXPIRED) {
    error_set(error, STATUS_FAILED_PRECONDITION, NULL, "job %s is %s; only a FAILED, CANCELLED or EXPIRED job can be retried",
              text, job_state_name(next.state));
    return error_reason(error, "JOB_NOT_RETRYABLE", text);
  }
  bool blocked = false;
  bool can = id_is_zero(&next.chain_id) || chain_step_can_retry(turn, entry, &blocked);
  if (!can || next.cancelled_by_chain) {
    error_set(
        error, STATUS_FAILED_PRECONDITION, NULL,
        next.cancelled_by_chain
            ? "job %s was cancelled because a step of its chain did not succeed; retry that step and this one follows"
            : "the step before job %s in its chain did not succeed; retry that one first, or create the chain anew if it is gone",
        text);
    return error_reason(error, "CHAIN_STEP_FAILED", id_text(turn->arena, &next.chain_id));
  }
  enum status status = unique_take_back(turn, &next, error);
  if (status == STATUS_OK && !id_is_zero(&next.chain_id))
    status = chain_check_retry(turn, entry, error);
  if (status != STATUS_OK)
    return status;
  job_retry(&next, engine_sequence(turn), turn->now_ms, blocked);
  turn_update(turn, entry, &next);
  if (!id_is_zero(&next.chain_id))
    chain_step_retried(turn, entry);
  return STATUS_OK;
}

void retry_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__RetryJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  struct error error;
  if (!entry)
    return;
  if (retry_entry(turn, entry, &error) != STATUS_OK) {
    reply_error(turn, request, &error);
    return;
  }
  Millrace__V1__RetryJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__RetryJobResponse, millrace__v1__retry_job_response__descriptor);
  response->job = answer_job(turn, entry, true);
  reply(turn, request, response);
}

/* ---- update and delete ---- */

static enum status in_future(struct turn *turn, const Google__Protobuf__Timestamp *time, const char *field, int64_t *out_ms,
                             struct error *error) {
  if (!time)
    return STATUS_OK;
  int64_t time_ms = time_from_timestamp(time);
  if (time_ms <= turn->now_ms)
    return error_set(error, STATUS_INVALID_ARGUMENT, field, "%s must be in the future", field);
  *out_ms = time_ms;
  return STATUS_OK;
}

static void update_labels(struct turn *turn, const Millrace__V1__Labels *from, struct job *job) {
  struct label *labels = arena_alloc(turn->arena, (from->n_labels + 1) * sizeof *labels);
  for (size_t i = 0; i < from->n_labels; i++)
    labels[i] =
        (struct label){arena_strdup(turn->arena, from->labels[i]->key), arena_strdup(turn->arena, from->labels[i]->value)};
  job->labels = labels;
  job->label_count = from->n_labels;
}

/* The times of a waiting job: earlier than now is now. */
static void update_run_at(struct turn *turn, const Google__Protobuf__Timestamp *run_at, struct job *job) {
  if (!run_at)
    return;
  int64_t time_ms = time_from_timestamp(run_at);
  if (job->state == JOB_BLOCKED) {
    job->chain_delay_ms = 0;
    job->run_at_ms = MAX(time_ms, turn->now_ms);
  } else if (time_ms > turn->now_ms) {
    job->state = job->state == JOB_RETRYING ? JOB_RETRYING : JOB_SCHEDULED;
    job->run_at_ms = time_ms;
    job->keeps_place = false;
  } else if (job->state == JOB_SCHEDULED || job->state == JOB_RETRYING) {
    job_make_ready(job, engine_sequence(turn), turn->now_ms);
  }
}

static enum status update(struct turn *turn, struct entry *entry, const Millrace__V1__UpdateJobRequest *message,
                          struct error *error) {
  struct job next = entry->now;
  enum status status = in_future(turn, message->expires_at, "expires_at", &next.expires_at_ms, error);
  if (status == STATUS_OK)
    status = in_future(turn, message->deadline, "deadline", &next.deadline_ms, error);
  if (status != STATUS_OK)
    return status;
  if (message->deadline)
    next.total_timeout_ms = next.deadline_ms - turn->now_ms;
  if (message->retry_policy) {
    next.policy = policy_from_api(message->retry_policy, NULL, turn->arena);
    next.has_policy = true;
    const struct spec *spec = turn_spec(turn, entry);
    next.attempts_max = next.policy.attempts_max || !spec ? next.policy.attempts_max : spec->policy.attempts_max;
  }
  if (message->labels)
    update_labels(turn, message->labels, &next);
  if (message->priority) {
    static const uint8_t values[] = {[MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW] = 0,
                                     [MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_NORMAL] = 5,
                                     [MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_HIGH] = 8,
                                     [MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_CRITICAL] = 10};
    struct queue *queue = queue_by_number(turn->engine, next.queue);
    next.priority = values[message->priority];
    if (!lane_keep(turn, queue, task_by_number(queue, next.task), next.priority))
      return error_set(error, STATUS_RESOURCE_EXHAUSTED, "priority", "there are %d lanes already, the most that can be",
                       LANES_MAX);
  }
  update_run_at(turn, message->run_at, &next);
  turn_update(turn, entry, &next);
  return STATUS_OK;
}

void update_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__UpdateJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  struct error error;
  if (!entry)
    return;
  if (!job_is_waiting(entry->now.state)) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL, "job %s is %s; only a waiting job can be updated", message->id,
                  job_state_name(entry->now.state));
    return;
  }
  if (update(turn, entry, message, &error) != STATUS_OK) {
    reply_error(turn, request, &error);
    return;
  }
  Millrace__V1__UpdateJobResponse *response =
      MESSAGE(turn->arena, Millrace__V1__UpdateJobResponse, millrace__v1__update_job_response__descriptor);
  response->job = answer_job(turn, entry, true);
  reply(turn, request, response);
}

void delete_job_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__DeleteJobRequest *message = (const void *)request->message;
  struct entry *entry = find(turn, request, message->id);
  if (!entry)
    return;
  const struct job *job = &entry->now;
  if (!job_is_terminal(job->state)) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL,
                  "job %s is %s; only an ended job can be deleted, cancel it first", message->id, job_state_name(job->state));
    return;
  }
  if (job_holds_for_period(job, turn->now_ms)) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL,
                  "job %s holds the unique key '%s' for a period that is not over; it can be deleted after that", message->id,
                  job->unique_key);
    return;
  }
  if ((!id_is_zero(&job->chain_id) && chain_is_open(turn, &job->chain_id)) ||
      (!id_is_zero(&job->batch_id) && batch_is_open(turn, &job->batch_id))) {
    reply_failure(turn, request, STATUS_FAILED_PRECONDITION, NULL, "job %s belongs to a chain or batch that has not ended",
                  message->id);
    return;
  }
  turn_remove(turn, entry);
  reply(turn, request, MESSAGE(turn->arena, Millrace__V1__DeleteJobResponse, millrace__v1__delete_job_response__descriptor));
}
