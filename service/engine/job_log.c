/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/job_log.h"

#include <string.h>

#include "engine/queues.h"
#include "engine/turn.h"
#include "millrace/v1/admin_service.pb-c.h"

enum { TRACE_ID_CHARS = 32, TRACEPARENT_CHARS = 55, ERROR_TYPE_SHOWN_MAX = 64 };
enum { DEBUG = 0, WARNING = 2 };

static const char *const state_names[JOB_STATES] = {"",          "scheduled", "pending",   "running", "retrying", "blocked",
                                                    "succeeded", "failed",    "cancelled", "expired", "deleted",  "parked"};

/* A line on its way out. */
struct line {
  struct engine *engine;
  int level;
  const char *event;
  char fields[];
};

static void line_out(void *data) {
  struct line *line = data;
  const struct engine_options *options = &line->engine->options;
  options->log(options->callback_context, line->level, line->event, line->fields);
  g_free(line);
}

/* The trace id of a W3C traceparent, "version-trace-parent-flags"; empty: it is none. */
static void append_trace(GString *fields, const char *traceparent) {
  const char *id = traceparent + 3;
  if (strlen(traceparent) >= TRACEPARENT_CHARS && traceparent[2] == '-' && id[TRACE_ID_CHARS] == '-' &&
      strspn(id, "0123456789abcdef") == TRACE_ID_CHARS)
    g_string_append_printf(fields, " trace=%.*s", TRACE_ID_CHARS, id);
}

static void append_error(GString *fields, const char *type) {
  g_string_append(fields, " error=\"");
  for (const char *at = type; *at && at < type + ERROR_TYPE_SHOWN_MAX; at++) {
    if (*at == '"' || *at == '\\')
      g_string_append_c(fields, '\\');
    g_string_append_c(fields, *at);
  }
  g_string_append_c(fields, '"');
}

static void add_line(struct turn *turn, struct entry *entry, int level, const char *event) {
  struct engine *engine = turn->engine;
  const struct job *job = &entry->now;
  struct queue *queue = queue_by_number(engine, job->queue);
  if (!queue) /* deleted in the same turn, with its last job */
    return;
  char id[ID_TEXT_BYTES];
  id_format(&entry->id, id);
  GString *fields = g_string_sized_new(256);
  g_string_append_printf(fields, "job=%s task=%s queue=%s state=%s attempts=%u deliveries=%u", id,
                         task_by_number(queue, job->task)->name, queue->name, state_names[job->state], job->attempts,
                         job->deliveries);
  if (job->state == JOB_FAILED || job->state == JOB_RETRYING)
    append_error(fields, job->error.type);
  const struct spec *spec = entry->exists && job->state != JOB_DELETED ? turn_spec(turn, entry) : NULL;
  if (spec)
    append_trace(fields, spec->traceparent);
  struct line *line = g_malloc(sizeof *line + fields->len + 1);
  *line = (struct line){.engine = engine, .level = level, .event = event};
  memcpy(line->fields, fields->str, fields->len + 1);
  g_string_free(fields, TRUE);
  release_call(turn->release, line_out, line);
}

void job_log(struct turn *turn, struct entry *entry) {
  struct engine *engine = turn->engine;
  enum job_state before = entry->existed ? entry->before.state : 0;
  if (!engine->options.log || (entry->exists && before == entry->now.state))
    return;
  bool is_dead = entry->exists && entry->now.state == JOB_FAILED;
  if (is_dead && engine->options.log_level <= WARNING) {
    if (engine->job_lines++ < JOB_LINES_PER_SECOND_MAX)
      add_line(turn, entry, WARNING, "job failed");
  } else if (!is_dead && engine->options.log_level <= DEBUG) {
    add_line(turn, entry, DEBUG, !entry->existed ? "job created" : entry->exists ? "job changed" : "job removed");
  }
}

void job_log_tick(struct engine *engine) {
  if (engine->job_lines > JOB_LINES_PER_SECOND_MAX)
    engine_log(engine, WARNING, "jobs failed", "not_logged=%u", engine->job_lines - JOB_LINES_PER_SECOND_MAX);
  engine->job_lines = 0;
}

void set_log_level_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__SetLogLevelRequest *message = (const void *)request->message;
  struct engine_options *options = &turn->engine->options;
  Millrace__V1__SetLogLevelResponse *response =
      MESSAGE(turn->arena, Millrace__V1__SetLogLevelResponse, millrace__v1__set_log_level_response__descriptor);
  response->previous_level = response->level = (Millrace__V1__LogLevel)(options->log_level + 1);
  if (message->level) {
    response->level = message->level;
    options->log_level = (int)message->level - 1;
    if (options->set_log_level)
      options->set_log_level(options->callback_context, options->log_level);
  }
  reply(turn, request, response);
}
