/* SPDX-License-Identifier: Apache-2.0 */
/* job.h: a job and each transition of its life, as pure functions over values: time and randomness come in, the next state comes
 * out in place. No clock, no I/O, no threads, no allocation except from the arena passed in.
 *
 *   create -> SCHEDULED -due-> PENDING -leased-> RUNNING -> SUCCEEDED | FAILED | CANCELLED | EXPIRED
 *     |- now -------------------^  ^ ^              |
 *     `- BLOCKED (chain) ----------' `- RETRYING <--'  (failed or lost, attempts left; run_at = back-off)
 *   PENDING <-> PARKED: behind a full concurrency key; shown to users as PENDING.
 *   terminal -> DELETED (tombstone, never shown) -> gone
 *
 * The table in docs/jobs.md names the function of each row. A transition is applied only in the states that it names (asserted:
 * calling it in another is a programmer's error); terminal states are final within a generation.
 * Strings and arrays are borrowed from whatever arena the job was decoded into; absent text is "" (never NULL). */
#ifndef MILLRACE_CORE_JOB_H
#define MILLRACE_CORE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "error.h"
#include "id.h"

/* Same numbers as millrace.v1.JobState and the stored form, where they have one. */
enum job_state {
  JOB_SCHEDULED = 1,
  JOB_PENDING = 2,
  JOB_RUNNING = 3,
  JOB_RETRYING = 4,
  JOB_BLOCKED = 5,
  JOB_SUCCEEDED = 6,
  JOB_FAILED = 7,
  JOB_CANCELLED = 8,
  JOB_EXPIRED = 9,
  JOB_DELETED = 10,
  JOB_PARKED = 11,
};
enum { JOB_STATES = 12 };

/* Same numbers as millrace.v1.AttemptOutcome. */
enum attempt_outcome {
  ATTEMPT_SUCCEEDED = 1,
  ATTEMPT_FAILED = 2,
  ATTEMPT_SNOOZED = 3,
  ATTEMPT_RELEASED = 4,
  ATTEMPT_LOST = 5,
  ATTEMPT_TIMED_OUT = 6,
  ATTEMPT_CANCELLED = 7,
  ATTEMPT_UNKNOWN_TASK = 8,
};

/* Same numbers as millrace.v1.BackoffKind. */
enum backoff_kind { BACKOFF_UNSET = 0, BACKOFF_EXPONENTIAL = 1, BACKOFF_LINEAR = 2, BACKOFF_CONSTANT = 3, BACKOFF_LIST = 4 };

/* Same numbers as millrace.v1.UniqueScope. */
enum unique_scope { UNIQUE_NONE = 0, UNIQUE_WHILE_WAITING = 1, UNIQUE_UNTIL_FINISHED = 2, UNIQUE_PERIOD = 3 };

enum { JOB_HISTORY_MAX = 10, JOB_LOSSES_MAX = 3, JOB_LABELS_MAX = 16, POLICY_DELAYS_MAX = 64 };
enum { JOB_FINGERPRINT_BYTES = 17 /* with the closing NUL */ };

/* Retry policy and attempt time-out. At one level fields may be unset (0, or has_… false); policy_merge fills them from the next.
 */
struct policy {
  uint32_t attempts_max;
  enum backoff_kind kind;
  int64_t initial_ms;
  double multiplier;
  int64_t delay_max_ms;
  bool has_jitter;
  double jitter;
  const int64_t *delays_ms;
  size_t delays;
  bool has_attempt_timeout;
  int64_t attempt_timeout_ms; /* 0: none */
};

struct label {
  const char *key;
  const char *value;
};

struct job_error {
  const char *type; /* "": no error */
  const char *message;
  const char *trace;
  const char *fingerprint;
};

struct attempt {
  uint32_t delivery;
  struct id session;
  int64_t started_ms; /* 0: never started */
  int64_t finished_ms;
  enum attempt_outcome outcome;
  struct job_error error;
};

/* Bytes with a length; NULL and 0 is "none". */
struct bytes {
  const uint8_t *data;
  size_t length;
};

/* The changing part of a job. Field meanings: proto/millrace/store/v1/store.proto, JobRecord. */
struct job {
  struct id id;
  enum job_state state;
  uint32_t queue;
  uint32_t task;
  uint8_t priority; /* 0, 5, 8, 10 */
  uint64_t sequence;
  bool keeps_place; /* becomes PENDING at its old sequence */
  uint32_t generation;
  uint32_t deliveries; /* deliveries that have ended; the one running is this + 1 */
  uint32_t attempts;
  uint32_t attempts_max; /* asked for, or of the last delivery; 0: neither. For people: what counts is the policy */
  uint32_t lost_count;
  int64_t created_ms;
  int64_t run_at_ms;
  int64_t expires_at_ms;    /* 0: never */
  int64_t deadline_ms;      /* 0: none */
  int64_t total_timeout_ms; /* 0: none */
  int64_t started_ms;
  int64_t finished_ms;
  int64_t delete_at_ms; /* terminal and DELETED: when the record goes */
  int64_t retention_ms; /* -1: the queue's */
  bool cancel_requested;
  bool terminate_requested;
  enum unique_scope unique_scope;
  bool unique_held;
  const char *unique_key;
  int64_t unique_until_ms;
  const char *concurrency_key;
  uint32_t concurrency_limit;
  const struct label *labels;
  size_t label_count;
  struct id chain_id; /* zero: none */
  uint32_t chain_index;
  struct id chain_next; /* zero: last step */
  int64_t chain_delay_ms;
  bool cancelled_by_chain;
  struct id batch_id; /* zero: none */
  bool counted;       /* its batch has counted its end: a later generation is not counted */
  struct id schedule_uid;
  const char *schedule_name;
  struct bytes result; /* packed Payload, at most RESULT_INLINE_BYTES_MAX */
  bool result_apart;   /* in the family results */
  const char *result_omitted_reason;
  struct job_error error;
  const struct attempt *history;
  size_t history_count;
  bool has_policy; /* UpdateJob set one, in place of the spec's */
  struct policy policy;
  uint64_t content_hash[2];
  int64_t unknown_task_since_ms;
  struct id session; /* that ran it last */
  bool has_log;
};

/* The unchanging part. Field meanings: SpecRecord. */
struct spec {
  struct bytes payload;
  struct policy policy;
  const char *traceparent;
  const char *tracestate;
  struct id previous_id;
  struct bytes previous_result;
};

/* What ends a delivery, common to all endings. */
struct delivery_end {
  int64_t now_ms;
  int64_t started_ms;  /* 0: never started */
  struct id session;   /* that held it */
  struct arena *arena; /* for the longer history; without a limit */
};

/* What a failed attempt says. */
struct failure {
  struct job_error error;
  bool permanent;
  bool has_retry_after;
  int64_t retry_after_ms;
  uint32_t attempts_max; /* 0: the policy's */
  bool cancelled;        /* the handler confirms that it stopped because it was asked to */
};

/* Nothing set: texts "", retention the queue's. */
extern const struct job job_empty;

/* "PENDING" and so on; PARKED is called PENDING, as users see it. */
const char *job_state_name(enum job_state state);
bool job_is_terminal(enum job_state state); /* SUCCEEDED, FAILED, CANCELLED, EXPIRED */
bool job_is_waiting(enum job_state state);  /* SCHEDULED, PENDING, PARKED, RETRYING, BLOCKED */
/* Its unique key is held for a period that is not over: the job must stay, whatever became of it. */
bool job_holds_for_period(const struct job *job, int64_t now_ms);
/* A handler has had it, in this generation: it can't expire any more. Deliveries that were lost or given back before the handler
 * started do not count. */
bool job_has_started(const struct job *job);
/* Waiting, and its deadline or, before the first start, its expiry is past: ends it and answers true. */
bool job_end_late(struct job *job, int64_t now_ms);

/* SCHEDULED, RETRYING, BLOCKED -> PENDING. `sequence` is a fresh one; it is used unless the job keeps its old place. `now_ms`
 * becomes run_at_ms when that is unset or later. */
void job_make_ready(struct job *job, uint64_t sequence, int64_t now_ms);
/* BLOCKED -> SCHEDULED (the caller calls job_make_ready instead when it need not wait). */
void job_delay(struct job *job, int64_t run_at_ms);
/* PENDING -> PARKED, PARKED -> PENDING; the sequence stays. */
void job_park(struct job *job);
void job_unpark(struct job *job);
/* PENDING -> RUNNING. Changes nothing else, except that a WHILE_WAITING unique key is given up. */
void job_lease(struct job *job);

/* RUNNING -> SUCCEEDED, also after a cancel request. `result` may be empty. */
void job_succeed(struct job *job, const struct delivery_end *end, struct bytes result, bool result_apart,
                 const char *omitted_reason);
/* RUNNING -> RETRYING, FAILED, or CANCELLED (when a cancel was requested or the deadline cuts in: FAILED DEADLINE). `policy` is
 * the effective one, `random` uniform in [0, 1) for the jitter. */
void job_fail(struct job *job, const struct delivery_end *end, const struct failure *failure, const struct policy *policy,
              double random);
/* RUNNING -> RETRYING or FAILED: TIMEOUT, or CANCELLED. Counts as an attempt. */
void job_time_out(struct job *job, const struct delivery_end *end, const struct policy *policy, double random);
/* RUNNING -> SCHEDULED until now + delay; does not count. CANCELLED when a cancel was requested. */
void job_snooze(struct job *job, const struct delivery_end *end, int64_t delay_ms);
/* RUNNING -> PENDING at its old place; does not count. CANCELLED when a cancel was requested. */
void job_release(struct job *job, const struct delivery_end *end);
/* RUNNING -> SCHEDULED for 5 s, then its old place; FAILED UNKNOWN_TASK 10 min after the first. CANCELLED when a cancel was
 * requested. */
void job_meet_unknown_task(struct job *job, const struct delivery_end *end);
/* RUNNING -> RETRYING until the back-off ends, then its old place; the third loss is FAILED WORKER_LOST. CANCELLED when
 * requested. */
void job_lose(struct job *job, const struct delivery_end *end, const struct policy *policy, double random);
/* RUNNING, SCHEDULED, PENDING, PARKED, RETRYING, BLOCKED: the total deadline passed. RUNNING -> FAILED: DEADLINE, waiting ->
 * EXPIRED. `end` may be NULL for a waiting job's session and start; its now_ms is then `now_ms`. */
void job_miss_deadline(struct job *job, const struct delivery_end *end, int64_t now_ms);
/* Waiting, never started -> EXPIRED. */
void job_expire(struct job *job, int64_t now_ms);
/* Waiting -> CANCELLED at once; `error` says why (type CANCELLED, PURGED, CHAIN_STEP_FAILED, ...). */
void job_cancel(struct job *job, int64_t now_ms, const struct job_error *error);
/* RUNNING: remembers the request; it becomes CANCELLED when the delivery ends without success. A reason is given by setting
 * job->error to type CANCELLED and the reason as its message: it is then the error in the end. */
void job_request_cancel(struct job *job, bool terminate);
/* FAILED, CANCELLED, EXPIRED -> PENDING in a new generation: clears expires_at, result and error, starts the total deadline anew,
 * resets attempts and losses; delivery numbers go on. With `blocked` (a chain step unblocked by the retry of an earlier one) ->
 * BLOCKED. */
void job_retry(struct job *job, uint64_t sequence, int64_t now_ms, bool blocked);
/* Terminal -> DELETED until `until_ms`: keeps the id, creation time, deliveries and content hash only. */
void job_bury(struct job *job, int64_t until_ms);

/* Terminal: when the record may go, `retention_ms` after the end, but not while the job holds a unique key for a period. */
int64_t job_delete_at(const struct job *job, int64_t retention_ms);

/* 16 hexadecimal digits over task, type and the top frame of the trace without its digits. */
void job_fingerprint(const char *task, const char *type, const char *trace, char out_text[static JOB_FINGERPRINT_BYTES]);

/* Fills what `policy` leaves unset from `next`. */
struct policy policy_merge(struct policy policy, const struct policy *next);
/* The server's defaults: 4 attempts, exponential from 1 s by 2 up to 1 h, jitter 0.1, attempt time-out 30 min. */
extern const struct policy policy_default;
/* Delay before the attempt after `attempt` (from 1); `random` uniform in [0, 1). Never below 0 nor above delay_max_ms * (1 +
 * jitter). */
int64_t policy_delay_ms(const struct policy *policy, uint32_t attempt, double random);

#endif
