/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent.h"

static void put_string(yajl_gen out, const char *text) {
  yajl_gen_string(out, (const unsigned char *)text, strlen(text));
}

void put_key(yajl_gen out, const char *key) {
  put_string(out, key);
}

void put_text(yajl_gen out, const char *key, const char *text) {
  if (text && *text) {
    put_key(out, key);
    put_string(out, text);
  }
}

void put_integer(yajl_gen out, const char *key, int64_t value) {
  put_key(out, key);
  yajl_gen_integer(out, value);
}

void put_flag(yajl_gen out, const char *key, bool value) {
  put_key(out, key);
  yajl_gen_bool(out, value);
}

char *time_text(int64_t time_ms) {
  g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(time_ms / 1000);
  g_autofree char *seconds = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
  return g_strdup_printf("%s.%03dZ", seconds, (int)(time_ms % 1000));
}

void put_time(yajl_gen out, const char *key, int64_t time_ms) {
  g_autofree char *text = time_ms ? time_text(time_ms) : NULL;
  put_text(out, key, text);
}

void put_tree(yajl_gen out, yajl_val value) {
  if (YAJL_IS_STRING(value)) {
    put_string(out, YAJL_GET_STRING(value));
  } else if (YAJL_IS_NUMBER(value)) {
    yajl_gen_number(out, YAJL_GET_NUMBER(value), strlen(YAJL_GET_NUMBER(value)));
  } else if (YAJL_IS_OBJECT(value)) {
    yajl_gen_map_open(out);
    for (size_t i = 0; i < value->u.object.len; i++) {
      put_key(out, value->u.object.keys[i]);
      put_tree(out, value->u.object.values[i]);
    }
    yajl_gen_map_close(out);
  } else if (YAJL_IS_ARRAY(value)) {
    yajl_gen_array_open(out);
    for (size_t i = 0; i < value->u.array.len; i++)
      put_tree(out, value->u.array.values[i]);
    yajl_gen_array_close(out);
  } else if (YAJL_IS_TRUE(value) || YAJL_IS_FALSE(value)) {
    yajl_gen_bool(out, YAJL_IS_TRUE(value));
  } else {
    yajl_gen_null(out);
  }
}

void put_payload(yajl_gen out, const char *key, const struct millrace_payload *payload) {
  if (!payload->data || (payload->length == 0 && !payload->content_type))
    return;
  put_key(out, key);
  yajl_gen_map_open(out);
  if (payload->is_json) {
    yajl_val value = yajl_tree_parse(payload->data, NULL, 0);
    put_key(out, "json");
    put_tree(out, value);
    yajl_tree_free(value);
  } else {
    g_autofree char *text = g_base64_encode(payload->data, payload->length);
    put_key(out, "data");
    put_string(out, text);
  }
  yajl_gen_map_close(out);
}

static void put_job_error(yajl_gen out, const struct millrace_job_error *error) {
  if (!error->type || !*error->type)
    return;
  put_key(out, "error");
  yajl_gen_map_open(out);
  put_text(out, "type", error->type);
  put_text(out, "message", error->message);
  put_text(out, "trace", error->trace);
  put_text(out, "fingerprint", error->fingerprint);
  yajl_gen_map_close(out);
}

void put_labels(yajl_gen out, const struct millrace_label *labels, size_t count) {
  put_key(out, "labels");
  yajl_gen_map_open(out);
  for (size_t i = 0; i < count; i++) {
    put_key(out, labels[i].key);
    put_string(out, labels[i].value);
  }
  yajl_gen_map_close(out);
}

/* LOW is 0 to users. */
static int shown_priority(enum millrace_priority priority) {
  return priority == MILLRACE_PRIORITY_LOW ? 0 : (int)priority;
}

void put_job(yajl_gen out, const struct millrace_job *job) {
  yajl_gen_map_open(out);
  put_text(out, "id", job->id);
  put_text(out, "task", job->task);
  put_text(out, "queue", job->queue);
  put_integer(out, "priority", shown_priority(job->priority));
  put_text(out, "state", millrace_job_state_name(job->state));
  put_text(out, "waiting_reason", job->waiting_reason);
  put_flag(out, "cancel_requested", job->cancel_requested);
  put_integer(out, "generation", job->generation);
  put_integer(out, "attempts", job->attempts);
  put_integer(out, "max_attempts", job->max_attempts);
  put_integer(out, "deliveries", job->deliveries);
  put_time(out, "run_at", job->run_at_ms);
  put_time(out, "started_at", job->started_at_ms);
  put_time(out, "finished_at", job->finished_at_ms);
  put_key(out, "progress");
  yajl_gen_double(out, job->progress);
  put_text(out, "progress_message", job->progress_message);
  put_payload(out, "payload", &job->payload);
  put_payload(out, "result", &job->result);
  put_text(out, "result_omitted_reason", job->result_omitted_reason);
  put_job_error(out, &job->error);
  put_labels(out, job->labels, job->label_count);
  put_text(out, "chain_id", job->chain_id);
  put_text(out, "batch_id", job->batch_id);
  put_text(out, "schedule_name", job->schedule_name);
  if (job->log_count > 0) {
    put_key(out, "log");
    yajl_gen_array_open(out);
    for (size_t i = 0; i < job->log_count; i++)
      put_string(out, job->log[i].text);
    yajl_gen_array_close(out);
  }
  yajl_gen_map_close(out);
}

void put_chain(yajl_gen out, const struct millrace_chain *chain) {
  yajl_gen_map_open(out);
  put_text(out, "id", chain->id);
  put_text(out, "state", chain->state);
  put_key(out, "job_ids");
  yajl_gen_array_open(out);
  for (size_t i = 0; i < chain->job_count; i++)
    put_string(out, chain->job_ids[i]);
  yajl_gen_array_close(out);
  put_integer(out, "succeeded", chain->succeeded);
  put_integer(out, "current_step", chain->current_step);
  put_job_error(out, &chain->error);
  put_text(out, "on_failure_job_id", chain->on_failure_job_id);
  put_payload(out, "result", &chain->result);
  yajl_gen_map_close(out);
}

void put_batch(yajl_gen out, const struct millrace_batch *batch) {
  yajl_gen_map_open(out);
  put_text(out, "id", batch->id);
  put_text(out, "state", batch->state);
  put_integer(out, "total", batch->total);
  put_integer(out, "pending", batch->pending);
  put_integer(out, "succeeded", batch->succeeded);
  put_integer(out, "failed", batch->failed);
  put_integer(out, "cancelled", batch->cancelled);
  put_integer(out, "expired", batch->expired);
  put_text(out, "on_success_job_id", batch->on_success_job_id);
  put_text(out, "on_complete_job_id", batch->on_complete_job_id);
  yajl_gen_map_close(out);
}

void put_schedule(yajl_gen out, const struct millrace_schedule *schedule) {
  yajl_gen_map_open(out);
  put_text(out, "name", schedule->name);
  put_text(out, "cron", schedule->timing.cron);
  if (schedule->timing.interval_ms) {
    put_key(out, "interval");
    yajl_gen_double(out, (double)schedule->timing.interval_ms / 1000);
  }
  put_text(out, "time_zone", schedule->timing.time_zone);
  put_text(out, "owner", schedule->owner);
  put_flag(out, "paused", schedule->paused);
  put_time(out, "next_run_at", schedule->next_run_at_ms);
  put_time(out, "last_run_at", schedule->last_run_at_ms);
  put_text(out, "last_job_id", schedule->last_job_id);
  put_integer(out, "runs", (int64_t)schedule->runs);
  put_text(out, "task", schedule->task);
  put_text(out, "queue", schedule->queue);
  yajl_gen_map_close(out);
}

void put_queue(yajl_gen out, const struct millrace_queue *queue) {
  yajl_gen_map_open(out);
  put_text(out, "name", queue->name);
  put_flag(out, "paused", queue->paused);
  put_integer(out, "workers", queue->workers);
  put_key(out, "counts");
  yajl_gen_map_open(out);
  for (int state = MILLRACE_JOB_SCHEDULED; state <= MILLRACE_JOB_EXPIRED; state++)
    put_integer(out, millrace_job_state_name((enum millrace_job_state)state), (int64_t)queue->counts[state]);
  yajl_gen_map_close(out);
  yajl_gen_map_close(out);
}

void put_outcome(yajl_gen out, const char *id, bool existing, const struct millrace_error *error) {
  yajl_gen_map_open(out);
  put_text(out, "id", id);
  put_flag(out, "existing", existing);
  if (error) {
    put_key(out, "error");
    put_error(out, error, "create");
  }
  yajl_gen_map_close(out);
}

static const char *kind_of(const struct millrace_error *error, const char *command) {
  bool about_flow =
      g_str_has_prefix(command, "chain") || g_str_has_prefix(command, "batch") || g_str_has_prefix(command, "schedule");
  switch (error->code) {
  case MILLRACE_NOT_FOUND:
    return about_flow ? "not_found" : "job_not_found";
  case MILLRACE_ALREADY_EXISTS:
    return about_flow && strcmp(error->reason, "JOB_EXISTS") != 0 && strcmp(error->reason, "UNIQUE_KEY_TAKEN") != 0
               ? "already_exists"
               : "job_exists";
  case MILLRACE_INVALID_ARGUMENT:
    return "invalid_argument";
  case MILLRACE_RESOURCE_EXHAUSTED:
    return strcmp(error->reason, "QUEUE_FULL") == 0 ? "queue_full" : "resource_exhausted";
  case MILLRACE_FAILED_PRECONDITION:
    return "failed_precondition";
  case MILLRACE_UNAVAILABLE:
    return "unavailable";
  case MILLRACE_DEADLINE_EXCEEDED:
    return strcmp(error->reason, "WAIT_TIMEOUT") == 0 ? "wait_timeout" : "deadline_exceeded";
  case MILLRACE_UNAUTHENTICATED:
    return "unauthenticated";
  case MILLRACE_PERMISSION_DENIED:
    return "permission_denied";
  case MILLRACE_UNIMPLEMENTED:
    return "unsupported";
  default:
    return "internal";
  }
}

void put_error(yajl_gen out, const struct millrace_error *error, const char *command) {
  yajl_gen_map_open(out);
  put_text(out, "kind", kind_of(error, command));
  put_text(out, "message", error->message);
  put_text(out, "field", error->field);
  if (strcmp(error->reason, "UNIQUE_KEY_TAKEN") == 0)
    put_text(out, "job_id", error->subject);
  yajl_gen_map_close(out);
}

void put_outcomes(yajl_gen out, struct millrace_outcomes *take_outcomes) {
  for (size_t i = 0; i < take_outcomes->count; i++) {
    const struct millrace_outcome *outcome = &take_outcomes->outcomes[i];
    struct millrace_error error = {.code = outcome->code};
    g_strlcpy(error.message, outcome->message, sizeof error.message);
    g_strlcpy(error.field, outcome->field, sizeof error.field);
    put_outcome(out, outcome->id, outcome->existing, outcome->code == MILLRACE_OK ? NULL : &error);
  }
  millrace_free(take_outcomes);
}

enum millrace_code wait_timeout(struct command *command, const char *state) {
  command->error = (struct millrace_error){.code = MILLRACE_DEADLINE_EXCEEDED, .reason = "WAIT_TIMEOUT"};
  g_snprintf(command->error.message, sizeof command->error.message, "it has not ended within %.1f s, it is %s",
             real_of(command->fields, "timeout"), state ? state : "not seen yet");
  return MILLRACE_DEADLINE_EXCEEDED;
}
