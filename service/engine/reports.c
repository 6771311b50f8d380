/* SPDX-License-Identifier: Apache-2.0 */
/* What workers report, one delivery at a time. A report is never refused for its content, or it would come back for ever: text is
 * cut and made valid, a bad or oversize result is left out with its reason. */
#include <string.h>

#include "core/json.h"
#include "core/text.h"
#include "core/time.h"
#include "engine/log_lines.h"
#include "engine/reports.h"
#include "engine/running.h"
#include "engine/sessions.h"
#include "engine/turn.h"
#include "engine/waiters.h"

static struct job_error clean_error(struct turn *turn, const struct running *running, const Millrace__V1__JobError *from) {
  struct job_error error = {"FAILED", "the handler failed without saying why", "", ""};
  if (from) {
    error.type = from->type[0] ? text_clean(turn->arena, from->type, ERROR_TYPE_BYTES_MAX) : "FAILED";
    error.message = text_clean(turn->arena, from->message, ERROR_MESSAGE_BYTES_MAX);
    error.trace = text_clean(turn->arena, from->trace, ERROR_TRACE_BYTES_MAX);
  }
  char *fingerprint = arena_alloc(turn->arena, JOB_FINGERPRINT_BYTES);
  job_fingerprint(running->task->name, error.type, error.trace, fingerprint);
  error.fingerprint = fingerprint;
  return error;
}

static void succeeded(struct turn *turn, struct entry *entry, const struct delivery_end *end,
                      const Millrace__V1__Succeeded *event) {
  struct job next = entry->now;
  struct bytes result = {NULL, 0};
  const char *omitted = text_clean(turn->arena, event->result_omitted_reason, OMITTED_REASON_BYTES_MAX);
  const Millrace__V1__Payload *payload = event->result;
  struct error error;
  if (payload && payload->content_case != MILLRACE__V1__PAYLOAD__CONTENT__NOT_SET) {
    size_t length = millrace__v1__payload__get_packed_size(payload);
    bool json = payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON;
    size_t content = json ? strlen(payload->json) : payload->data.len;
    if (content > RESULT_BYTES_MAX)
      omitted = arena_printf(turn->arena, "the result has %zu bytes, more than the %d that are kept", content, RESULT_BYTES_MAX);
    else if (json && json_check(payload->json, strlen(payload->json), &error) != STATUS_OK)
      omitted = text_clean(turn->arena, arena_printf(turn->arena, "the result is not valid JSON: %s", error.message),
                           OMITTED_REASON_BYTES_MAX);
    else if (!text_is_utf8(payload->content_type, strlen(payload->content_type)) ||
             strlen(payload->content_type) > CONTENT_TYPE_BYTES_MAX)
      omitted = "the result's content type is not valid";
    else {
      uint8_t *packed = arena_alloc(turn->arena, length);
      millrace__v1__payload__pack(payload, packed);
      result = (struct bytes){packed, length};
    }
  }
  bool apart = result.length > RESULT_INLINE_BYTES_MAX;
  if (apart) {
    entry->result = result;
    entry->result_new = true;
  }
  job_succeed(&next, end, apart ? (struct bytes){NULL, 0} : result, apart, omitted);
  turn_update(turn, entry, &next);
}

static void failed(struct turn *turn, struct entry *entry, const struct running *running, const struct delivery_end *end,
                   const Millrace__V1__Failed *event) {
  struct failure failure = {
      .error = clean_error(turn, running, event->error),
      .permanent = event->permanent,
      .attempts_max = MIN(event->max_attempts, (uint32_t)ATTEMPTS_MAX),
      .cancelled = event->cancelled,
  };
  if (event->retry_after) {
    failure.has_retry_after = true;
    failure.retry_after_ms = CLAMP(time_from_duration(event->retry_after), 0, POLICY_DELAY_MAX_MS);
  }
  struct policy policy = running->policy;
  policy.delays_ms = arena_memdup(turn->arena, policy.delays_ms, policy.delays * sizeof *policy.delays_ms);
  struct job next = entry->now;
  job_fail(&next, end, &failure, &policy, engine_random_fraction(turn->engine));
  turn_update(turn, entry, &next);
}

static void released(struct turn *turn, struct entry *entry, struct running *running, const struct delivery_end *end,
                     const Millrace__V1__Released *event) {
  struct job next = entry->now;
  if (event->reason == MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_UNKNOWN_TASK) {
    session_forget_task(turn, running->session, running->task);
    job_meet_unknown_task(&next, end);
  } else {
    job_release(&next, end);
  }
  turn_update(turn, entry, &next);
}

static void progressed(struct turn *turn, struct entry *entry, struct running *running, const Millrace__V1__Progress *event) {
  running->progress = event->fraction >= 0 && event->fraction <= 1 ? event->fraction : event->fraction > 1 ? 1 : 0;
  g_free(running->progress_message);
  running->progress_message = g_strdup(text_clean(turn->arena, event->message, PROGRESS_MESSAGE_BYTES_MAX));
  watches_tell(turn, entry, false);
}

/* A worker's clock may be wrong: the start lies between the lease and now. */
static void note_start(struct turn *turn, struct running *running, const Google__Protobuf__Timestamp *started) {
  if (running->started_ms || !started)
    return;
  running->started_ms = CLAMP(time_from_timestamp(started), running->leased_ms, turn->now_ms);
}

static void apply_live(struct turn *turn, struct entry *entry, struct running *running, const Millrace__V1__Report *report) {
  note_start(turn, running, report->started_at);
  bool ran = report->event_case == MILLRACE__V1__REPORT__EVENT_SUCCEEDED ||
             report->event_case == MILLRACE__V1__REPORT__EVENT_FAILED ||
             report->event_case == MILLRACE__V1__REPORT__EVENT_SNOOZED;
  if (ran && running->started_ms == 0)
    running->started_ms = running->leased_ms;
  struct delivery_end end = {
      .now_ms = turn->now_ms, .started_ms = running->started_ms, .session = running->session->id, .arena = turn->arena};
  switch (report->event_case) {
  case MILLRACE__V1__REPORT__EVENT_STARTED:
    if (running->started_ms == 0)
      note_start(turn, running, report->started->started_at);
    if (running->started_ms == 0)
      running->started_ms = turn->now_ms;
    running_started(turn, running);
    watches_tell(turn, entry, false);
    break;
  case MILLRACE__V1__REPORT__EVENT_SUCCEEDED:
    succeeded(turn, entry, &end, report->succeeded);
    break;
  case MILLRACE__V1__REPORT__EVENT_FAILED:
    failed(turn, entry, running, &end, report->failed);
    break;
  case MILLRACE__V1__REPORT__EVENT_SNOOZED: {
    struct job next = entry->now;
    int64_t delay_ms = report->snoozed->delay ? time_from_duration(report->snoozed->delay) : 0;
    job_snooze(&next, &end, CLAMP(delay_ms, 0, SNOOZE_MAX_MS));
    turn_update(turn, entry, &next);
    break;
  }
  case MILLRACE__V1__REPORT__EVENT_RELEASED:
    released(turn, entry, running, &end, report->released);
    break;
  case MILLRACE__V1__REPORT__EVENT_PROGRESS:
    progressed(turn, entry, running, report->progress);
    break;
  case MILLRACE__V1__REPORT__EVENT_LOG:
    log_lines_add(turn, entry, running->delivery, report->log);
    break;
  default:
    break; /* an event of a newer worker: nothing to do */
  }
}

static bool is_final(const Millrace__V1__Report *report) {
  return report->event_case == MILLRACE__V1__REPORT__EVENT_SUCCEEDED ||
         report->event_case == MILLRACE__V1__REPORT__EVENT_FAILED || report->event_case == MILLRACE__V1__REPORT__EVENT_SNOOZED ||
         report->event_case == MILLRACE__V1__REPORT__EVENT_RELEASED;
}

void report_apply(struct turn *turn, struct session *session, const Millrace__V1__Report *report) {
  struct held name = {.delivery = report->delivery};
  turn->engine->statistics.reports++;
  if (!id_parse(report->job_id, &name.id))
    return;
  struct running *running = g_hash_table_lookup(turn->engine->running, &name.id);
  if (running && running->session == session && running->delivery == name.delivery) {
    struct entry *entry = turn_job(turn, &name.id);
    if (entry)
      apply_live(turn, entry, running, report);
    return;
  }
  if (is_final(report) && g_hash_table_remove(session->revoked, &name)) {
    turn->engine->dispatch_due = true;
    running_slots_freed(turn, session);
  } else {
    session_command(turn, session, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST, &name.id, name.delivery);
  }
}
