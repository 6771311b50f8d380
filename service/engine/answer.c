/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/answer.h"

#include "engine/dispatch.h"
#include "engine/queues.h"
#include "engine/turn.h"

static Millrace__V1__Attempt **history_of(struct arena *arena, const struct job *job) {
  Millrace__V1__Attempt **history = arena_alloc(arena, (job->history_count + 1) * sizeof *history);
  for (size_t i = 0; i < job->history_count; i++) {
    const struct attempt *from = &job->history[i];
    Millrace__V1__Attempt *attempt = MESSAGE(arena, Millrace__V1__Attempt, millrace__v1__attempt__descriptor);
    attempt->delivery = from->delivery;
    attempt->session_id = id_text(arena, &from->session);
    attempt->started_at = timestamp_new(arena, from->started_ms);
    attempt->finished_at = timestamp_new(arena, from->finished_ms);
    attempt->outcome = (Millrace__V1__AttemptOutcome)from->outcome;
    attempt->error = error_message(arena, &from->error);
    history[i] = attempt;
  }
  return history;
}

static Millrace__V1__Job__LabelsEntry **labels_of(struct arena *arena, const struct job *job) {
  Millrace__V1__Job__LabelsEntry **labels = arena_alloc(arena, (job->label_count + 1) * sizeof *labels);
  for (size_t i = 0; i < job->label_count; i++) {
    labels[i] = MESSAGE(arena, Millrace__V1__Job__LabelsEntry, millrace__v1__job__labels_entry__descriptor);
    labels[i]->key = (char *)job->labels[i].key;
    labels[i]->value = (char *)job->labels[i].value;
  }
  return labels;
}

static Millrace__V1__Payload *payload_of(struct arena *arena, const struct bytes *packed) {
  if (!packed || packed->length == 0)
    return NULL;
  return millrace__v1__payload__unpack(arena_protobuf(arena), packed->length, packed->data);
}

/* What only memory knows of a job that runs. */
static void add_running(struct turn *turn, const struct job *job, Millrace__V1__Job *message) {
  const struct running *running = g_hash_table_lookup(turn->engine->running, &job->id);
  if (!running)
    return;
  message->started_at = timestamp_new(turn->arena, running->started_ms);
  message->session_id = id_text(turn->arena, &running->session->id);
  message->deliveries = running->delivery;
  message->max_attempts = running->policy.attempts_max;
  if (running->progress > 0 || running->progress_message) {
    message->progress = MESSAGE(turn->arena, Millrace__V1__Progress, millrace__v1__progress__descriptor);
    message->progress->fraction = running->progress;
    if (running->progress_message)
      message->progress->message = arena_strdup(turn->arena, running->progress_message);
  }
}

static uint32_t attempts_max(const struct job *job, const struct spec *spec, const struct queue *queue) {
  if (job->attempts_max > 0)
    return job->attempts_max;
  struct policy policy = job->has_policy ? job->policy : (struct policy){0};
  if (spec)
    policy = policy_merge(policy, &spec->policy);
  policy = policy_merge(policy, &queue->settings.policy);
  return policy_merge(policy, &policy_default).attempts_max;
}

Millrace__V1__Job *answer_record(struct turn *turn, const struct job *job, const struct spec *spec, const struct bytes *result,
                                 bool full) {
  struct arena *arena = turn->arena;
  struct queue *queue = queue_by_number(turn->engine, job->queue);
  const struct task *task = queue ? task_by_number(queue, job->task) : NULL;
  Millrace__V1__Job *message = MESSAGE(arena, Millrace__V1__Job, millrace__v1__job__descriptor);
  message->id = id_text(arena, &job->id);
  if (!task)
    return message; /* its queue was deleted since the list was read */
  message->task = task->name;
  message->queue = queue->name;
  message->priority = job->priority ? job->priority : MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW;
  message->state = (Millrace__V1__JobState)(job->state == JOB_PARKED ? JOB_PENDING : job->state);
  message->waiting_reason = (Millrace__V1__WaitingReason)dispatch_waiting_reason(turn, job);
  message->cancel_requested = job->cancel_requested;
  message->generation = job->generation;
  message->attempts = job->attempts;
  message->max_attempts = attempts_max(job, spec, queue);
  message->deliveries = job->deliveries;
  message->lost_count = job->lost_count;
  message->created_at = timestamp_new(arena, job->created_ms);
  message->run_at = timestamp_new(arena, job->run_at_ms);
  message->expires_at = timestamp_new(arena, job->expires_at_ms);
  message->deadline = timestamp_new(arena, job->deadline_ms);
  message->started_at = timestamp_new(arena, job->started_ms);
  message->finished_at = timestamp_new(arena, job->finished_ms);
  message->result_omitted_reason = (char *)job->result_omitted_reason;
  message->error = error_message(arena, &job->error);
  message->labels = labels_of(arena, job);
  message->n_labels = job->label_count;
  message->unique_key = (char *)job->unique_key;
  message->concurrency_key = (char *)job->concurrency_key;
  message->chain_id = id_text(arena, &job->chain_id);
  message->chain_index = job->chain_index;
  message->batch_id = id_text(arena, &job->batch_id);
  message->schedule_name = (char *)job->schedule_name;
  message->session_id = id_text(arena, &job->session);
  if (job->state == JOB_RUNNING)
    add_running(turn, job, message);
  if (!full)
    return message;
  message->payload = payload_of(arena, spec ? &spec->payload : NULL);
  message->result = payload_of(arena, result);
  message->history = history_of(arena, job);
  message->n_history = job->history_count;
  return message;
}

Millrace__V1__Job *answer_job(struct turn *turn, struct entry *entry, bool full) {
  const struct spec *spec = full ? turn_spec(turn, entry) : turn_spec_at_hand(turn, entry);
  struct bytes result = full ? turn_result(turn, entry) : (struct bytes){NULL, 0};
  return answer_record(turn, &entry->now, spec, &result, full);
}
