/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/limits.h"

static const struct job_error error_none = {.type = "", .message = "", .trace = "", .fingerprint = ""};

/* Errors made here. The task's name is not known here, so their fingerprints are over the type alone; job_fingerprint("", type,
 * "") gives the same, which the tests check. */
static const struct job_error error_timeout = {"TIMEOUT", "the attempt ran longer than its attempt time-out", "",
                                               "8efcc365b83d486c"};
static const struct job_error error_deadline = {"DEADLINE", "the job's total time-out passed", "", "8a6223a751962d00"};
static const struct job_error error_expired = {"EXPIRED", "the job did not start before it expired", "", "617cf889111321b1"};
static const struct job_error error_lost = {"WORKER_LOST", "the worker that had the job was lost", "", "95a900e5a93a4e43"};
static const struct job_error error_unknown_task = {"UNKNOWN_TASK", "the worker does not know the task", "", "901bc2076bad6ac6"};
static const struct job_error error_cancelled = {"CANCELLED", "cancelled while it ran", "", "04a563c163da9d7e"};
static const struct job_error error_failed = {"FAILED", "the handler failed without saying why", "", "b70b308c961596b0"};

const struct job job_empty = {
    .unique_key = "",
    .concurrency_key = "",
    .schedule_name = "",
    .result_omitted_reason = "",
    .error = {.type = "", .message = "", .trace = "", .fingerprint = ""},
    .retention_ms = -1,
};

const char *job_state_name(enum job_state state) {
  static const char *const names[JOB_STATES] = {
      [JOB_SCHEDULED] = "SCHEDULED", [JOB_PENDING] = "PENDING",     [JOB_RUNNING] = "RUNNING", [JOB_RETRYING] = "RETRYING",
      [JOB_BLOCKED] = "BLOCKED",     [JOB_SUCCEEDED] = "SUCCEEDED", [JOB_FAILED] = "FAILED",   [JOB_CANCELLED] = "CANCELLED",
      [JOB_EXPIRED] = "EXPIRED",     [JOB_DELETED] = "DELETED",     [JOB_PARKED] = "PENDING",
  };
  return names[state];
}

bool job_is_terminal(enum job_state state) {
  return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED || state == JOB_EXPIRED;
}

bool job_is_waiting(enum job_state state) {
  return state == JOB_SCHEDULED || state == JOB_PENDING || state == JOB_PARKED || state == JOB_RETRYING || state == JOB_BLOCKED;
}

bool job_holds_for_period(const struct job *job, int64_t now_ms) {
  return job->unique_held && job->unique_scope == UNIQUE_PERIOD && job->unique_until_ms > now_ms;
}

bool job_has_started(const struct job *job) {
  return job->started_ms > 0 || job->attempts > 0;
}

/* The one way into a terminal state. A key held for a period outlives the job. */
static void finish(struct job *job, enum job_state state, int64_t now_ms, const struct job_error *error) {
  job->state = state;
  job->finished_ms = now_ms;
  job->error = *error;
  job->keeps_place = false;
  job->cancel_requested = false;
  job->terminate_requested = false;
  job->unknown_task_since_ms = 0;
  if (job->unique_scope != UNIQUE_PERIOD || job->unique_until_ms <= now_ms)
    job->unique_held = false;
}

/* The one way out of RUNNING: counts the delivery and remembers how it ended. The caller then sets the next state. */
static void end_delivery(struct job *job, const struct delivery_end *end, enum attempt_outcome outcome,
                         const struct job_error *error) {
  g_assert(job->state == JOB_RUNNING);
  job->deliveries++;
  if (end->started_ms > 0)
    job->started_ms = end->started_ms;
  job->session = end->session;
  size_t kept = MIN(job->history_count, (size_t)JOB_HISTORY_MAX - 1);
  struct attempt *history = arena_alloc(end->arena, (kept + 1) * sizeof *history);
  g_assert(history); /* the arena of a turn has no limit */
  if (kept > 0)
    memcpy(history, job->history + (job->history_count - kept), kept * sizeof *history);
  history[kept] = (struct attempt){
      .delivery = job->deliveries,
      .session = end->session,
      .started_ms = end->started_ms,
      .finished_ms = end->now_ms,
      .outcome = outcome,
      .error = *error,
  };
  job->history = history;
  job->history_count = kept + 1;
}

/* A delivery that ended without success, when a cancel had been asked for. A reason given with the request is kept. */
static void end_as_cancelled(struct job *job, const struct delivery_end *end) {
  struct job_error error = strcmp(job->error.type, error_cancelled.type) == 0 ? job->error : error_cancelled;
  end_delivery(job, end, ATTEMPT_CANCELLED, &error);
  finish(job, JOB_CANCELLED, end->now_ms, &error);
}

static void wait_until(struct job *job, enum job_state state, int64_t run_at_ms, bool keeps_place) {
  job->state = state;
  job->run_at_ms = run_at_ms;
  job->keeps_place = keeps_place;
}

static bool deadline_is_past(const struct job *job, int64_t now_ms) {
  return job->deadline_ms > 0 && now_ms >= job->deadline_ms;
}

/* RETRYING after `delay_ms`, unless the total deadline has passed meanwhile. A later retry is cut by the deadline's own timer. */
static void retry_later(struct job *job, int64_t now_ms, int64_t delay_ms, const struct job_error *error, bool keeps_place) {
  if (deadline_is_past(job, now_ms)) {
    finish(job, JOB_FAILED, now_ms, &error_deadline);
    return;
  }
  job->error = *error;
  wait_until(job, JOB_RETRYING, now_ms + delay_ms, keeps_place);
}

void job_make_ready(struct job *job, uint64_t sequence, int64_t now_ms) {
  g_assert(job->state == JOB_SCHEDULED || job->state == JOB_RETRYING || job->state == JOB_BLOCKED);
  job->state = JOB_PENDING;
  if (!job->keeps_place)
    job->sequence = sequence;
  job->keeps_place = false;
  if (job->run_at_ms == 0 || job->run_at_ms > now_ms)
    job->run_at_ms = now_ms;
}

void job_delay(struct job *job, int64_t run_at_ms) {
  g_assert(job->state == JOB_BLOCKED);
  wait_until(job, JOB_SCHEDULED, run_at_ms, false);
}

void job_park(struct job *job) {
  g_assert(job->state == JOB_PENDING);
  job->state = JOB_PARKED;
}

void job_unpark(struct job *job) {
  g_assert(job->state == JOB_PARKED);
  job->state = JOB_PENDING;
}

void job_lease(struct job *job) {
  g_assert(job->state == JOB_PENDING);
  job->state = JOB_RUNNING;
  if (job->unique_scope == UNIQUE_WHILE_WAITING)
    job->unique_held = false;
}

void job_succeed(struct job *job, const struct delivery_end *end, struct bytes result, bool result_apart,
                 const char *omitted_reason) {
  end_delivery(job, end, ATTEMPT_SUCCEEDED, &error_none);
  job->attempts++;
  job->result = result;
  job->result_apart = result_apart;
  job->result_omitted_reason = omitted_reason ? omitted_reason : "";
  finish(job, JOB_SUCCEEDED, end->now_ms, &error_none);
}

/* A failed or timed-out attempt, already counted. */
static void after_attempt(struct job *job, const struct delivery_end *end, const struct failure *failure,
                          const struct policy *policy, double random) {
  uint32_t attempts_max = failure->attempts_max > 0 ? failure->attempts_max : policy->attempts_max;
  job->unknown_task_since_ms = 0;
  if (failure->permanent || job->attempts >= attempts_max) {
    finish(job, JOB_FAILED, end->now_ms, &failure->error);
    return;
  }
  int64_t delay_ms = failure->has_retry_after ? CLAMP(failure->retry_after_ms, 0, POLICY_DELAY_MAX_MS)
                                              : policy_delay_ms(policy, job->attempts, random);
  retry_later(job, end->now_ms, delay_ms, &failure->error, false);
}

void job_fail(struct job *job, const struct delivery_end *end, const struct failure *failure, const struct policy *policy,
              double random) {
  struct failure told = *failure;
  if (told.error.type[0] == '\0' && told.error.message[0] == '\0')
    told.error = error_failed;
  job->attempts++;
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_FAILED, &told.error);
  after_attempt(job, end, &told, policy, random);
}

void job_time_out(struct job *job, const struct delivery_end *end, const struct policy *policy, double random) {
  job->attempts++;
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_TIMED_OUT, &error_timeout);
  after_attempt(job, end, &(struct failure){.error = error_timeout}, policy, random);
}

void job_snooze(struct job *job, const struct delivery_end *end, int64_t delay_ms) {
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_SNOOZED, &error_none);
  job->unknown_task_since_ms = 0;
  wait_until(job, JOB_SCHEDULED, end->now_ms + CLAMP(delay_ms, 0, SNOOZE_MAX_MS), false);
}

void job_release(struct job *job, const struct delivery_end *end) {
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_RELEASED, &error_none);
  job->state = JOB_PENDING;
}

void job_meet_unknown_task(struct job *job, const struct delivery_end *end) {
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_UNKNOWN_TASK, &error_unknown_task);
  if (job->unknown_task_since_ms == 0)
    job->unknown_task_since_ms = end->now_ms;
  if (end->now_ms - job->unknown_task_since_ms >= UNKNOWN_TASK_MAX_MS)
    finish(job, JOB_FAILED, end->now_ms, &error_unknown_task);
  else
    wait_until(job, JOB_SCHEDULED, end->now_ms + UNKNOWN_TASK_DELAY_MS, true);
}

void job_lose(struct job *job, const struct delivery_end *end, const struct policy *policy, double random) {
  job->lost_count++;
  if (job->cancel_requested) {
    end_as_cancelled(job, end);
    return;
  }
  end_delivery(job, end, ATTEMPT_LOST, &error_lost);
  if (job->lost_count >= JOB_LOSSES_MAX)
    finish(job, JOB_FAILED, end->now_ms, &error_lost);
  else
    retry_later(job, end->now_ms, policy_delay_ms(policy, job->lost_count, random), &error_lost, true);
}

void job_miss_deadline(struct job *job, const struct delivery_end *end, int64_t now_ms) {
  if (job->state == JOB_RUNNING) {
    g_assert(end);
    job->attempts++;
    end_delivery(job, end, ATTEMPT_TIMED_OUT, &error_deadline);
    finish(job, JOB_FAILED, now_ms, &error_deadline);
    return;
  }
  g_assert(job_is_waiting(job->state));
  finish(job, JOB_EXPIRED, now_ms, &error_deadline);
}

void job_expire(struct job *job, int64_t now_ms) {
  g_assert(job_is_waiting(job->state));
  finish(job, JOB_EXPIRED, now_ms, &error_expired);
}

bool job_end_late(struct job *job, int64_t now_ms) {
  if (deadline_is_past(job, now_ms))
    job_miss_deadline(job, NULL, now_ms);
  else if (job->expires_at_ms > 0 && now_ms >= job->expires_at_ms && job->state != JOB_BLOCKED && !job_has_started(job))
    job_expire(job, now_ms);
  return job_is_terminal(job->state);
}

void job_cancel(struct job *job, int64_t now_ms, const struct job_error *error) {
  g_assert(job_is_waiting(job->state));
  finish(job, JOB_CANCELLED, now_ms, error);
}

void job_request_cancel(struct job *job, bool terminate) {
  g_assert(job->state == JOB_RUNNING);
  job->cancel_requested = true;
  job->terminate_requested = job->terminate_requested || terminate;
}

void job_retry(struct job *job, uint64_t sequence, int64_t now_ms, bool blocked) {
  g_assert(job->state == JOB_FAILED || job->state == JOB_CANCELLED || job->state == JOB_EXPIRED);
  job->state = blocked ? JOB_BLOCKED : JOB_PENDING;
  job->generation++;
  job->sequence = sequence;
  job->run_at_ms = now_ms;
  job->expires_at_ms = 0;
  job->deadline_ms = job->total_timeout_ms > 0 ? now_ms + job->total_timeout_ms : 0;
  job->attempts = 0;
  job->lost_count = 0;
  job->started_ms = 0;
  job->finished_ms = 0;
  job->delete_at_ms = 0;
  job->cancelled_by_chain = false;
  job->result = (struct bytes){0};
  job->result_apart = false;
  job->result_omitted_reason = "";
  job->error = error_none;
}

void job_bury(struct job *job, int64_t until_ms) {
  g_assert(job_is_terminal(job->state));
  struct job grave = job_empty;
  grave.id = job->id;
  grave.state = JOB_DELETED;
  grave.created_ms = job->created_ms;
  grave.deliveries = job->deliveries; /* leases of old must go on looking ended */
  grave.content_hash[0] = job->content_hash[0];
  grave.content_hash[1] = job->content_hash[1];
  grave.delete_at_ms = until_ms;
  *job = grave;
}

int64_t job_delete_at(const struct job *job, int64_t retention_ms) {
  g_assert(job_is_terminal(job->state));
  int64_t delete_at_ms = job->finished_ms + retention_ms;
  if (job->unique_held && job->unique_scope == UNIQUE_PERIOD)
    delete_at_ms = MAX(delete_at_ms, job->unique_until_ms);
  return delete_at_ms;
}

/* The line of a trace that says where it happened: the first "at ..." (Java, JavaScript), else the last "File ..." (Python names
 * the innermost frame last), else the first line that says anything. */
static const char *top_frame(const char *trace, size_t *out_length) {
  const char *first = "", *last_file = NULL;
  for (const char *line = trace; *line;) {
    size_t length = strcspn(line, "\n");
    size_t indent = strspn(line, " \t");
    const char *text = line + indent;
    if (strncmp(text, "at ", 3) == 0) {
      *out_length = length - indent;
      return text;
    }
    if (strncmp(text, "File \"", 6) == 0)
      last_file = text;
    if (*first == '\0' && indent < length)
      first = text;
    line += length;
    if (*line == '\n')
      line++;
  }
  const char *frame = last_file ? last_file : first;
  *out_length = strcspn(frame, "\n");
  return frame;
}

void job_fingerprint(const char *task, const char *type, const char *trace, char out_text[static JOB_FINGERPRINT_BYTES]) {
  size_t length = 0;
  const char *frame = top_frame(trace, &length);
  uint64_t hash = XXH3_64bits(task, strlen(task) + 1);
  hash = XXH3_64bits_withSeed(type, strlen(type) + 1, hash);
  char kept[256];
  size_t kept_length = 0;
  for (size_t i = 0; i < length && kept_length < sizeof kept; i++)
    if (!g_ascii_isdigit(frame[i])) /* line numbers and addresses change from release to release */
      kept[kept_length++] = frame[i];
  hash = XXH3_64bits_withSeed(kept, kept_length, hash);
  snprintf(out_text, JOB_FINGERPRINT_BYTES, "%016llx", (unsigned long long)hash);
}
