/* SPDX-License-Identifier: Apache-2.0 */
/* millrace.h: libmillrace, the C client of Millrace: producers (create jobs, wait for them, look after them) and workers (run
 * them).
 *
 * Ownership: arguments are borrowed for the call. Objects that a call gives out (`out_…`) are the caller's; millrace_free frees
 * any of them together with everything they point at. Nothing is given out unless the call answers MILLRACE_OK. Errors: calls
 * answer an enum millrace_code and, if `error` is not NULL, fill it with a sentence for people. The library never logs or prints,
 * and nothing but a worker ends the process (MILLRACE_EXIT_STUCK). Threads: a client may be used from any number of threads at
 * once; each object given out from one at a time. Processes: a client belongs to the one that made it. In a child that was forked
 * its calls fail (FAILED_PRECONDITION), and freeing it does nothing; a child makes its own, and best executes a program first, as
 * gRPC's threads don't survive a fork. Times are milliseconds since 1970 (UTC), durations milliseconds; 0 means "not set: the
 * server's default". Where zero is a choice of its own (no time-out, keep nothing), MILLRACE_ZERO says it.
 * Strings are UTF-8; NULL is the same as empty. Limits and defaults are those of the API (docs/api.md). */
#ifndef MILLRACE_H
#define MILLRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MILLRACE_API __attribute__((visibility("default")))
#define MILLRACE_CHECK __attribute__((warn_unused_result))

/* ---- errors ---- */

/* What a program does about an error; the values are gRPC's. */
enum millrace_code {
  MILLRACE_OK = 0,
  MILLRACE_CANCELLED = 1,
  MILLRACE_UNKNOWN = 2,
  MILLRACE_INVALID_ARGUMENT = 3,  /* field: which */
  MILLRACE_DEADLINE_EXCEEDED = 4, /* no answer in time: it may or may not have been done */
  MILLRACE_NOT_FOUND = 5,         /* no such job, chain, batch, schedule or session */
  MILLRACE_ALREADY_EXISTS = 6,    /* id or unique key is taken; subject: by whom */
  MILLRACE_PERMISSION_DENIED = 7,
  MILLRACE_RESOURCE_EXHAUSTED = 8,  /* a limit; the message names it */
  MILLRACE_FAILED_PRECONDITION = 9, /* not in this state */
  MILLRACE_ABORTED = 10,
  MILLRACE_OUT_OF_RANGE = 11,
  MILLRACE_UNIMPLEMENTED = 12, /* the server is older than this library */
  MILLRACE_INTERNAL = 13,
  MILLRACE_UNAVAILABLE = 14, /* the server can't be reached; calls were tried again already */
  MILLRACE_DATA_LOSS = 15,
  MILLRACE_UNAUTHENTICATED = 16,
};

/* The caller's; holds no pointers. Undefined after MILLRACE_OK. */
struct millrace_error {
  enum millrace_code code;
  int64_t retry_after_ms; /* 0: no advice */
  char message[1024];     /* a sentence */
  char field[192];        /* path of the field at fault, such as "jobs[3].task"; empty: none */
  char reason[64];        /* constant for programs, such as "JOB_DELETED"; empty: none */
  char subject[128];      /* id or name of the object in the way; empty: none */
};

/* "NOT_FOUND" and so on; a constant string. */
MILLRACE_API const char *millrace_code_name(enum millrace_code code);
/* Frees any object that this library gave out. NULL is fine. */
MILLRACE_API void millrace_free(void *object);
/* The library's version, "0.1.0". */
MILLRACE_API const char *millrace_version(void);

/* ---- values ---- */

enum { MILLRACE_ZERO = -1 };
enum { MILLRACE_ID_BYTES = 37 }; /* a UUID as text with its closing NUL */

/* A fresh UUIDv7. Creates make one when the spec names none, so that what the library sends again, because the connection was
 * lost, makes no second job. Who calls again after an error must have given the spec an id, the same both times. */
MILLRACE_API void millrace_id_make(char out_id[MILLRACE_ID_BYTES]);

enum millrace_priority {
  MILLRACE_PRIORITY_DEFAULT = 0, /* NORMAL */
  MILLRACE_PRIORITY_LOW = 1,
  MILLRACE_PRIORITY_NORMAL = 5,
  MILLRACE_PRIORITY_HIGH = 8,
  MILLRACE_PRIORITY_CRITICAL = 10,
};

enum millrace_job_state {
  MILLRACE_JOB_ANY = 0, /* in a filter only */
  MILLRACE_JOB_SCHEDULED = 1,
  MILLRACE_JOB_PENDING = 2,
  MILLRACE_JOB_RUNNING = 3,
  MILLRACE_JOB_RETRYING = 4,
  MILLRACE_JOB_BLOCKED = 5,
  MILLRACE_JOB_SUCCEEDED = 6,
  MILLRACE_JOB_FAILED = 7,
  MILLRACE_JOB_CANCELLED = 8,
  MILLRACE_JOB_EXPIRED = 9,
};

/* "pending" and so on; a constant string. */
MILLRACE_API const char *millrace_job_state_name(enum millrace_job_state state);
/* SUCCEEDED, FAILED, CANCELLED or EXPIRED. */
MILLRACE_API bool millrace_job_state_is_final(enum millrace_job_state state);

/* JSON text or any bytes. All zero: empty. */
struct millrace_payload {
  const char *content_type; /* NULL: application/json or application/octet-stream */
  const void *data;         /* given out: always followed by a NUL that `length` does not count */
  size_t length;
  bool is_json;
};
static inline struct millrace_payload millrace_json(const char *text) {
  struct millrace_payload payload = {NULL, text, strlen(text), true};
  return payload;
}

struct millrace_label {
  const char *key;
  const char *value;
};

enum millrace_backoff {
  MILLRACE_BACKOFF_DEFAULT = 0, /* EXPONENTIAL */
  MILLRACE_BACKOFF_EXPONENTIAL = 1,
  MILLRACE_BACKOFF_LINEAR = 2,
  MILLRACE_BACKOFF_CONSTANT = 3,
  MILLRACE_BACKOFF_LIST = 4,
};

struct millrace_retry_policy {
  uint32_t max_attempts;
  enum millrace_backoff backoff;
  int64_t initial_ms;
  double multiplier;
  int64_t max_ms;
  double jitter;            /* 0: the server's default; negative: none */
  const int64_t *delays_ms; /* LIST only */
  size_t delay_count;
};

enum millrace_unique_scope {
  MILLRACE_UNIQUE_DEFAULT = 0, /* UNTIL_FINISHED */
  MILLRACE_UNIQUE_WHILE_WAITING = 1,
  MILLRACE_UNIQUE_UNTIL_FINISHED = 2,
  MILLRACE_UNIQUE_PERIOD = 3,
};

struct millrace_unique {
  const char *key; /* NULL: none */
  enum millrace_unique_scope scope;
  bool return_existing; /* answer with the job that holds the key instead of ALREADY_EXISTS */
  int64_t period_ms;    /* PERIOD only */
};

/* What to do. Only `task` is required. */
struct millrace_job_spec {
  const char *id;
  const char *task;
  const char *queue;
  enum millrace_priority priority;
  struct millrace_payload payload;
  int64_t run_at_ms;
  int64_t delay_ms; /* instead of run_at_ms */
  int64_t expires_at_ms;
  int64_t expires_in_ms; /* instead of expires_at_ms */
  int64_t total_timeout_ms;
  int64_t attempt_timeout_ms;                /* MILLRACE_ZERO: none */
  const struct millrace_retry_policy *retry; /* NULL: worker's, queue's or server's */
  const struct millrace_label *labels;
  size_t label_count;
  struct millrace_unique unique;
  const char *concurrency_key;
  uint32_t concurrency_limit;
  int64_t retention_ms; /* MILLRACE_ZERO: none */
  const char *traceparent;
  const char *tracestate;
  bool wants_previous_result;
};

struct millrace_job_error {
  const char *type; /* NULL: no error */
  const char *message;
  const char *trace;
  const char *fingerprint;
};

struct millrace_attempt {
  uint32_t delivery;
  const char *session_id;
  int64_t started_at_ms;
  int64_t finished_at_ms;
  const char *outcome; /* "succeeded", "failed", "lost", … */
  struct millrace_job_error error;
};

struct millrace_log_line {
  int64_t time_ms;
  uint32_t delivery;
  const char *text;
};

/* A job as it is now. */
struct millrace_job {
  const char *id;
  const char *task;
  const char *queue;
  enum millrace_priority priority;
  enum millrace_job_state state;
  const char *waiting_reason; /* "no_worker_for_task" and so on; empty when it is not waiting */
  bool cancel_requested;
  uint32_t generation;
  uint32_t attempts;
  uint32_t max_attempts;
  uint32_t deliveries;
  uint32_t lost_count;
  int64_t created_at_ms;
  int64_t run_at_ms;
  int64_t expires_at_ms;
  int64_t deadline_ms;
  int64_t started_at_ms;
  int64_t finished_at_ms;
  double progress; /* 0 to 1 */
  const char *progress_message;
  struct millrace_payload payload; /* full view only */
  struct millrace_payload result;  /* full view only */
  const char *result_omitted_reason;
  struct millrace_job_error error;
  const struct millrace_attempt *history; /* full view only */
  size_t history_count;
  const struct millrace_label *labels;
  size_t label_count;
  const char *unique_key;
  const char *concurrency_key;
  const char *chain_id;
  uint32_t chain_index;
  const char *batch_id;
  const char *schedule_name;
  const char *session_id;
  const struct millrace_log_line *log; /* only if asked for */
  size_t log_count;
  bool existing;  /* answer of a create: it was there already */
  bool timed_out; /* answer of a wait: it had not ended in time */
  bool accepted;  /* answer of a cancel: it had not ended yet */
};

/* Which jobs; all conditions must hold, within a list any. All zero: every job (lists only). */
struct millrace_job_filter {
  const char *const *queues;
  size_t queue_count;
  const char *const *tasks;
  size_t task_count;
  const enum millrace_job_state *states;
  size_t state_count;
  const enum millrace_priority *priorities;
  size_t priority_count;
  const struct millrace_label *labels;
  size_t label_count;
  const char *const *ids;
  size_t id_count;
  const char *batch_id;
  const char *chain_id;
  const char *schedule_name;
  const char *error_fingerprint;
  int64_t created_after_ms;
  int64_t created_before_ms;
};

/* A page of a list. An empty next_page_token: it was the last one; a page may be short, or empty, and still have a next one. */
struct millrace_page {
  uint32_t size; /* 0: 100 */
  const char *token;
};

/* ---- the client ---- */

struct millrace_client;

struct millrace_client_options {
  const char *address; /* "host:port" or "unix:/path". NULL: MILLRACE_ADDRESS, else 127.0.0.1:7070 */
  const char *token;   /* NULL: MILLRACE_TOKEN, else none */
  int64_t timeout_ms;  /* of each call; 0: 30,000 */
  /* Files, read when the client is made. */
  const char *token_file;       /* with the token, if `token` is NULL. NULL: MILLRACE_TOKEN_FILE */
  const char *ca_file;          /* PEM of the authorities that may have signed the server's certificate, or "system": those
                                   that this machine trusts. Turns encryption on (not on unix sockets). NULL: MILLRACE_CA;
                                   without it, "system" with a client certificate, else no encryption */
  const char *certificate_file; /* PEM of the client's own, if the server asks for it. NULL: MILLRACE_CERTIFICATE, else none */
  const char *key_file;         /* of its key. NULL: MILLRACE_KEY */
  bool without_coalescing;      /* each millrace_job_create_async is a call of its own */
};

/* Makes a client; connects with the first call. `options` may be NULL. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_client_new(const struct millrace_client_options *options,
                                                                   struct millrace_client **out_client,
                                                                   struct millrace_error *error);
/* Cancels what is under way or waits to be sent (CANCELLED), waits for its callbacks, and frees. No other call may be in
 * progress. NULL is fine. */
MILLRACE_API void millrace_client_free(struct millrace_client *client);
/* The address in use; valid as long as the client. */
MILLRACE_API const char *millrace_client_address(const struct millrace_client *client);

/* Any unary method of the API, in JSON: method is "JobService/GetJob", request {"id": "…"}. Names are those of the API, enum
 * values lower case without their prefix ("high"), times RFC 3339, durations like "90s", bytes base64; a payload is {"json": <the
 * value>} or {"data": "…"}. Gives out a NUL-terminated JSON text. timeout_ms 0: the client's. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_call_json(struct millrace_client *client, const char *method,
                                                                  const char *request, int64_t timeout_ms, char **out_response,
                                                                  struct millrace_error *error);

/* ---- jobs ---- */

/* Always a call of its own; `out_job` is the job as it is then. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_create(struct millrace_client *client,
                                                                   const struct millrace_job_spec *spec,
                                                                   struct millrace_job **out_job, struct millrace_error *error);
/* A create without waiting for the answer, from any thread, also from `done`. `done` is called exactly once, from a thread of the
 * library that it must not block; `job` and `error` (NULL: created) are valid during the call.
 * Creates are coalesced: one goes out at once if no other is under way; what is created meanwhile waits, and goes out together as
 * the next call, with up to 1,000 jobs or 3 MiB. Many creates at a time are much faster for it, a single one is not slower. Each
 * has its own outcome, with `field` as in a call of its own; a call that fails as a whole fails all that it carried. Of `job`
 * only `id` and `existing` are set. What has waited for the client's timeout_ms when its turn comes is not sent
 * (DEADLINE_EXCEEDED). The spec is copied; only the caller limits how many wait, by how many it has outstanding.
 * `without_coalescing` turns it off: `job` is then the whole job. */
MILLRACE_API void millrace_job_create_async(struct millrace_client *client, const struct millrace_job_spec *spec,
                                            void (*done)(void *context, const struct millrace_job *job,
                                                         const struct millrace_error *error),
                                            void *context);

/* What became of one create among many. */
struct millrace_outcome {
  const char *id;
  bool existing;
  enum millrace_code code;
  const char *message; /* empty when OK */
  const char *field;   /* path of the field at fault; may be empty */
};
struct millrace_outcomes {
  const struct millrace_outcome *outcomes; /* in the order of the request */
  size_t count;
  size_t refused;
};
/* Up to 1,000 jobs in one call; each has its own outcome. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_jobs_create(struct millrace_client *client,
                                                                    const struct millrace_job_spec *specs, size_t count,
                                                                    struct millrace_outcomes **out_outcomes,
                                                                    struct millrace_error *error);

/* The fastest way in. Each message sent (up to 1,000 jobs) is answered by one, in order. Any number may be under way; the answers
 * that were not received yet are kept in memory, about 50 KiB for 1,000 jobs. One thread at a time. */
struct millrace_job_stream;
MILLRACE_CHECK MILLRACE_API enum millrace_code
millrace_job_stream_open(struct millrace_client *client, struct millrace_job_stream **out_stream, struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_stream_send(struct millrace_job_stream *stream,
                                                                        const struct millrace_job_spec *specs, size_t count,
                                                                        struct millrace_error *error);
/* Waits for the next answer; FAILED_PRECONDITION: all that was sent is answered. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_stream_receive(struct millrace_job_stream *stream,
                                                                           struct millrace_outcomes **out_outcomes,
                                                                           struct millrace_error *error);
MILLRACE_API void millrace_job_stream_close(struct millrace_job_stream *stream); /* frees too; NULL is fine */

/* NOT_FOUND if there is none. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_get(struct millrace_client *client, const char *id, bool with_log,
                                                                struct millrace_job **out_job, struct millrace_error *error);
/* Waits until the job has ended (timed_out false) or timeout_ms has passed (timed_out true, the latest state); 0: as long as it
 * takes. A server that restarts meanwhile is waited for. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_wait(struct millrace_client *client, const char *id,
                                                                 int64_t timeout_ms, struct millrace_job **out_job,
                                                                 struct millrace_error *error);
/* One piece of news of a watch. */
struct millrace_job_event {
  const struct millrace_job *job; /* NULL: the end of the initial states */
  bool initial_done;
  bool deleted;
};
/* Calls `event` with the state of each match, then with every change, until it returns false (OK) or the watch breaks (an error;
 * watch again to start over). The filter needs a condition. timeout_ms 0: without limit. */
MILLRACE_CHECK MILLRACE_API enum millrace_code
millrace_job_watch(struct millrace_client *client, const struct millrace_job_filter *filter, int64_t timeout_ms,
                   bool (*event)(void *context, const struct millrace_job_event *event), void *context,
                   struct millrace_error *error);
struct millrace_job_list {
  const struct millrace_job *jobs;
  size_t count;
  const char *next_page_token;
};
MILLRACE_CHECK MILLRACE_API enum millrace_code
millrace_job_list(struct millrace_client *client, const struct millrace_job_filter *filter, const struct millrace_page *page,
                  struct millrace_job_list **out_list, struct millrace_error *error);
/* A waiting job ends at once; a running one is asked to stop, or, with `terminate`, made to: where nothing can stop the handler,
 * its worker's process ends (MILLRACE_EXIT_STUCK). */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_cancel(struct millrace_client *client, const char *id, bool terminate,
                                                                   const char *reason, struct millrace_job **out_job,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_retry(struct millrace_client *client, const char *id,
                                                                  struct millrace_job **out_job, struct millrace_error *error);
/* What to change of a waiting job; zero stays as it is. */
struct millrace_job_update {
  enum millrace_priority priority;
  int64_t run_at_ms;
  int64_t expires_at_ms;
  int64_t deadline_ms;
  const struct millrace_retry_policy *retry;
  bool set_labels; /* replace all labels by these */
  const struct millrace_label *labels;
  size_t label_count;
};
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_update(struct millrace_client *client, const char *id,
                                                                   const struct millrace_job_update *update,
                                                                   struct millrace_job **out_job, struct millrace_error *error);
/* Ended jobs only. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_job_delete(struct millrace_client *client, const char *id,
                                                                   struct millrace_error *error);
/* Up to 10,000 matches at a time. */
struct millrace_bulk {
  uint64_t done;
  uint64_t refused;
  bool more; /* there are others: call again */
};
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_jobs_cancel(struct millrace_client *client,
                                                                    const struct millrace_job_filter *filter, bool terminate,
                                                                    const char *reason, struct millrace_bulk *out_bulk,
                                                                    struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_jobs_retry(struct millrace_client *client,
                                                                   const struct millrace_job_filter *filter,
                                                                   struct millrace_bulk *out_bulk, struct millrace_error *error);

/* ---- chains ---- */

struct millrace_chain {
  const char *id;
  const char *state; /* "running", "succeeded", "failed", "cancelled" */
  const char *const *job_ids;
  size_t job_count;
  uint32_t succeeded;
  uint32_t current_step;
  struct millrace_job_error error;
  const char *on_failure_job_id;
  int64_t created_at_ms;
  int64_t finished_at_ms;
  struct millrace_payload result; /* of the last step; not in lists */
  bool existing;
  bool timed_out;
  bool accepted;
};
struct millrace_chain_list {
  const struct millrace_chain *chains;
  size_t count;
  const char *next_page_token;
};
/* 1 to 1,000 steps, run one after the other; `on_failure` may be NULL, so may `id`. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_chain_create(struct millrace_client *client, const char *id,
                                                                     const struct millrace_job_spec *steps, size_t count,
                                                                     const struct millrace_job_spec *on_failure,
                                                                     struct millrace_chain **out_chain,
                                                                     struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_chain_get(struct millrace_client *client, const char *id,
                                                                  struct millrace_chain **out_chain,
                                                                  struct millrace_error *error);
/* As millrace_job_wait. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_chain_wait(struct millrace_client *client, const char *id,
                                                                   int64_t timeout_ms, struct millrace_chain **out_chain,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_chain_list(struct millrace_client *client,
                                                                   const struct millrace_page *page,
                                                                   struct millrace_chain_list **out_list,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_chain_cancel(struct millrace_client *client, const char *id,
                                                                     bool terminate, const char *reason,
                                                                     struct millrace_chain **out_chain,
                                                                     struct millrace_error *error);

/* ---- batches ---- */

struct millrace_batch {
  const char *id;
  const char *state; /* "open", "sealed", "succeeded", "failed", "cancelled" */
  const char *description;
  uint32_t total;
  uint32_t pending;
  uint32_t succeeded;
  uint32_t failed;
  uint32_t cancelled;
  uint32_t expired;
  uint32_t last_chunk;
  int64_t created_at_ms;
  int64_t finished_at_ms;
  const char *on_success_job_id;
  const char *on_complete_job_id;
  struct millrace_outcomes
      outcomes; /* answer of a create: of its items, of which those refused are no members; none if existing */
  bool existing;
  bool timed_out;
  bool accepted;
};
struct millrace_batch_list {
  const struct millrace_batch *batches;
  size_t count;
  const char *next_page_token;
};
struct millrace_batch_spec {
  const char *id;
  const char *description;
  const struct millrace_job_spec *defaults; /* what items leave unset; NULL: nothing */
  const struct millrace_job_spec *on_success;
  const struct millrace_job_spec *on_complete;
  const struct millrace_job_spec *items; /* chunk 1, if there is one; at most 1,000 */
  size_t item_count;
  bool seal; /* `items` is all */
};
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_create(struct millrace_client *client,
                                                                     const struct millrace_batch_spec *spec,
                                                                     struct millrace_batch **out_batch,
                                                                     struct millrace_error *error);
/* Adds items (up to 1,000) as chunk number `chunk`: last_chunk + 1. A chunk whose number was taken before changes nothing, and is
 * answered without outcomes (count 0), which the server does not keep: who needs the ids gives the items ids, or lists the
 * batch's jobs. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_add(struct millrace_client *client, const char *id, uint32_t chunk,
                                                                  const struct millrace_job_spec *items, size_t count, bool last,
                                                                  struct millrace_outcomes **out_outcomes,
                                                                  struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_seal(struct millrace_client *client, const char *id,
                                                                   struct millrace_batch **out_batch,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_get(struct millrace_client *client, const char *id,
                                                                  struct millrace_batch **out_batch,
                                                                  struct millrace_error *error);
/* As millrace_job_wait. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_wait(struct millrace_client *client, const char *id,
                                                                   int64_t timeout_ms, struct millrace_batch **out_batch,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_list(struct millrace_client *client,
                                                                   const struct millrace_page *page,
                                                                   struct millrace_batch_list **out_list,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_batch_cancel(struct millrace_client *client, const char *id,
                                                                     bool terminate, const char *reason,
                                                                     struct millrace_batch **out_batch,
                                                                     struct millrace_error *error);

/* ---- schedules ---- */

enum millrace_overlap {
  MILLRACE_OVERLAP_DEFAULT = 0, /* SKIP */
  MILLRACE_OVERLAP_SKIP = 1,
  MILLRACE_OVERLAP_QUEUE_ONE = 2,
  MILLRACE_OVERLAP_ALLOW = 3,
};
struct millrace_timing {
  const char *cron;    /* or */
  int64_t interval_ms; /* this */
  const char *time_zone;
  int64_t start_at_ms;
  int64_t end_at_ms;
  int64_t jitter_ms;
};
struct millrace_schedule_spec {
  const char *name;
  struct millrace_timing timing;
  struct millrace_job_spec job;
  enum millrace_overlap overlap;
  int64_t catch_up_window_ms; /* MILLRACE_ZERO: never make up for a missed time */
  const char *description;
};
struct millrace_schedule {
  const char *name;
  const char *description;
  struct millrace_timing timing;
  const char *task;
  const char *queue;
  enum millrace_overlap overlap;
  const char *owner;
  bool paused;
  int64_t next_run_at_ms;
  int64_t last_run_at_ms;
  const char *last_job_id;
  int64_t last_lateness_ms;
  int64_t created_at_ms;
  uint64_t runs;
  uint64_t skipped;
  bool existing;
};
struct millrace_schedule_list {
  const struct millrace_schedule *schedules;
  size_t count;
  const char *next_page_token;
};
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_create(struct millrace_client *client,
                                                                        const struct millrace_schedule_spec *spec,
                                                                        struct millrace_schedule **out_schedule,
                                                                        struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_get(struct millrace_client *client, const char *name,
                                                                     struct millrace_schedule **out_schedule,
                                                                     struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_list(struct millrace_client *client, const char *owner,
                                                                      const struct millrace_page *page,
                                                                      struct millrace_schedule_list **out_list,
                                                                      struct millrace_error *error);
/* Replaces the whole content. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_update(struct millrace_client *client,
                                                                        const struct millrace_schedule_spec *spec,
                                                                        struct millrace_schedule **out_schedule,
                                                                        struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_delete(struct millrace_client *client, const char *name,
                                                                        struct millrace_error *error);
struct millrace_declared {
  uint32_t created;
  uint32_t updated;
  uint32_t unchanged;
  uint32_t deleted;
};
/* Makes an owner's schedules be exactly these; with `prune` its others are deleted. */
MILLRACE_CHECK MILLRACE_API enum millrace_code
millrace_schedules_declare(struct millrace_client *client, const char *owner, const struct millrace_schedule_spec *specs,
                           size_t count, bool prune, struct millrace_declared *out_declared, struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_pause(struct millrace_client *client, const char *name,
                                                                       struct millrace_schedule **out_schedule,
                                                                       struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_resume(struct millrace_client *client, const char *name,
                                                                        struct millrace_schedule **out_schedule,
                                                                        struct millrace_error *error);
/* Makes a job now and writes its id. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_run(struct millrace_client *client, const char *name,
                                                                     char out_job_id[MILLRACE_ID_BYTES],
                                                                     struct millrace_error *error);
/* The next times of a timing, at most `count`; *out_count tells how many there are. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_schedule_preview(struct millrace_client *client,
                                                                         const struct millrace_timing *timing, int64_t after_ms,
                                                                         int64_t *out_times_ms, size_t count, size_t *out_count,
                                                                         struct millrace_error *error);

/* ---- queues, workers, server ---- */

enum millrace_queue_mode {
  MILLRACE_QUEUE_KEEP = 0,
  MILLRACE_QUEUE_STRICT = 1,
  MILLRACE_QUEUE_WEIGHTED = 2,
};
/* What can be set. In an update 0 stays as it is and MILLRACE_ZERO takes a limit away; in an answer 0 is "none". */
struct millrace_queue_settings {
  enum millrace_queue_mode mode;
  int64_t max_length;
  int64_t max_running;
  double rate_per_second;
  int64_t rate_burst;
  const struct millrace_retry_policy *retry; /* updates only */
  int64_t attempt_timeout_ms;
  int64_t retention_ms;
  int64_t retention_failed_ms;
  int64_t retention_count;
};
struct millrace_queue {
  const char *name;
  struct millrace_queue_settings settings;
  bool paused;
  uint64_t counts[MILLRACE_JOB_EXPIRED + 1]; /* by enum millrace_job_state */
  int64_t oldest_ready_at_ms;
  int64_t oldest_age_ms;
  uint32_t workers;
  double created_per_second;
  double finished_per_second;
};
struct millrace_queue_list {
  const struct millrace_queue *queues;
  size_t count;
  const char *next_page_token;
};
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_list(struct millrace_client *client,
                                                                   const struct millrace_page *page,
                                                                   struct millrace_queue_list **out_list,
                                                                   struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_get(struct millrace_client *client, const char *name,
                                                                  struct millrace_queue **out_queue,
                                                                  struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_update(struct millrace_client *client, const char *name,
                                                                     const struct millrace_queue_settings *settings,
                                                                     struct millrace_queue **out_queue,
                                                                     struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_pause(struct millrace_client *client, const char *name,
                                                                    struct millrace_queue **out_queue,
                                                                    struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_resume(struct millrace_client *client, const char *name,
                                                                     struct millrace_queue **out_queue,
                                                                     struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_purge(struct millrace_client *client, const char *name,
                                                                    uint64_t *out_purged, struct millrace_error *error);
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_queue_delete(struct millrace_client *client, const char *name,
                                                                     struct millrace_error *error);

struct millrace_session {
  const char *id;
  const char *state; /* "active", "quiet", "disconnected" */
  const char *const *queues;
  size_t queue_count;
  const char *const *tasks;
  size_t task_count;
  uint32_t concurrency;
  uint32_t running;
  const char *hostname;
  uint32_t pid;
  const struct millrace_label *labels;
  size_t label_count;
  const char *sdk;
  const char *transport;
  int64_t registered_at_ms;
  int64_t last_seen_at_ms;
};
struct millrace_session_list {
  const struct millrace_session *sessions;
  size_t count;
  const char *next_page_token;
};
/* Attached workers; `queue` may be NULL: all. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_session_list(struct millrace_client *client, const char *queue,
                                                                     const struct millrace_page *page,
                                                                     struct millrace_session_list **out_list,
                                                                     struct millrace_error *error);
/* No more deliveries for that worker; with `drain` it ends when it has finished what it holds. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_session_quiet(struct millrace_client *client, const char *session_id,
                                                                      bool drain, struct millrace_error *error);

struct millrace_server_info {
  const char *version;
  const char *durability; /* "sync", "interval", "none" */
  int64_t durability_interval_ms;
  int64_t started_at_ms;
  uint32_t store_format;
  const char *store_backend;
  uint32_t queues;
  uint32_t sessions;
  uint64_t jobs_waiting;
  uint64_t jobs_running;
  int64_t now_ms;
};
MILLRACE_CHECK MILLRACE_API enum millrace_code
millrace_server_info(struct millrace_client *client, struct millrace_server_info **out_info, struct millrace_error *error);

/* ---- workers ----
 * A worker registers with the server and runs the jobs of its queues: each one on a thread of its own, `concurrency` of them at
 * most. A job is delivered at least once: handlers must bear being run again. What a handler reports is kept until the server has
 * made it durable, and sent again after a cut.
 *
 * A handler that returns without a word has succeeded without a result; otherwise it calls exactly one of millrace_succeed,
 * millrace_fail, millrace_snooze (the last call counts).
 *
 * A handler that does not obey a terminate within terminate_grace_ms can't be stopped, and while it runs nobody may be told that
 * it has: the worker tells its other handlers to stop, gives them a few seconds, gives back what else it holds, and ends the
 * process by quick_exit(MILLRACE_EXIT_STUCK), which calls what at_quick_exit has registered. So does a worker that stops when the
 * handler of a cancelled job still runs at the end of the stop's grace. A supervisor starts the process anew. */

/* The exit code of such a process. */
enum { MILLRACE_EXIT_STUCK = 75 };

struct millrace_worker;
struct millrace_context; /* a running job; valid while its handler runs, on any thread */

struct millrace_worker_queue {
  const char *name;
  uint32_t weight; /* 0: 1 */
};

enum millrace_transport {
  MILLRACE_TRANSPORT_AUTO = 0, /* nng; gRPC where the WebSocket port can't be reached */
  MILLRACE_TRANSPORT_NNG = 1,
  MILLRACE_TRANSPORT_GRPC = 2,
};

enum millrace_log_level { MILLRACE_LOG_DEBUG = 0, MILLRACE_LOG_INFO = 1, MILLRACE_LOG_WARNING = 2, MILLRACE_LOG_ERROR = 3 };

struct millrace_worker_options {
  const struct millrace_worker_queue *queues; /* none: "default" */
  size_t queue_count;
  uint32_t concurrency; /* 0: 10 */
  uint32_t prefetch;    /* deliveries held ready beyond that */
  enum millrace_transport transport;
  const char *url;       /* "ws://host:port": where to dial instead. NULL: MILLRACE_WORKER_URL, else what the server tells */
  int64_t stop_grace_ms; /* how long running jobs may go on after a stop; 0: 30,000; MILLRACE_ZERO: not at all */
  const struct millrace_label *labels;
  size_t label_count;
  /* News of the connection, one line each, no payloads; NULL: none. From any thread; must not call the worker. */
  void (*log)(void *context, enum millrace_log_level level, const char *line);
  /* A delivery ended with `outcome` ("succeeded", "failed", "snoozed", "released", "stopped"); NULL: nothing. From any thread. */
  void (*ended)(void *context, const struct millrace_context *job, const char *outcome, int64_t took_us);
  void *callback_context;
  /* How long a handler has to obey a terminate before the process ends; 0: 10,000; MILLRACE_ZERO: no time. */
  int64_t terminate_grace_ms;
};

/* The client is borrowed and must outlive the worker. `options` may be NULL. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_worker_new(struct millrace_client *client,
                                                                   const struct millrace_worker_options *options,
                                                                   struct millrace_worker **out_worker,
                                                                   struct millrace_error *error);
/* What a worker declares for a task; used by jobs that set none themselves. */
struct millrace_task_options {
  const struct millrace_retry_policy *retry;
  int64_t attempt_timeout_ms; /* MILLRACE_ZERO: none */
};
/* `task` "*": all that have no handler of their own. Before millrace_worker_run. `options` may be NULL. */
MILLRACE_API void millrace_worker_handle(struct millrace_worker *worker, const char *task,
                                         const struct millrace_task_options *options,
                                         void (*handler)(struct millrace_context *context, void *user), void *user);
/* Works until millrace_worker_stop, or until the server drains it (both OK). A server that can't be reached is tried again for
 * ever; errors are refusals such as INVALID_ARGUMENT or PERMISSION_DENIED. Once. */
MILLRACE_CHECK MILLRACE_API enum millrace_code millrace_worker_run(struct millrace_worker *worker, struct millrace_error *error);
/* Takes nothing new, lets running jobs go on for the grace, asks the rest to stop and gives back those that don't, except jobs
 * that were cancelled (MILLRACE_EXIT_STUCK). Any thread (not a signal handler); a second call ends the grace. */
MILLRACE_API void millrace_worker_stop(struct millrace_worker *worker);
/* After millrace_worker_run; waits for handlers that have not returned yet. NULL is fine. */
MILLRACE_API void millrace_worker_free(struct millrace_worker *worker);

/* The job at hand. */
struct millrace_delivery {
  const char *job_id;
  const char *task;
  const char *queue;
  enum millrace_priority priority;
  struct millrace_payload payload;
  struct millrace_payload previous_result; /* chain steps that asked for it */
  uint32_t delivery;
  uint32_t attempt;
  uint32_t max_attempts;
  int64_t attempt_timeout_ms; /* 0: none */
  int64_t deadline_ms;        /* when the job's total time-out passes; 0: none */
  int64_t created_at_ms;
  const char *traceparent;
  const char *tracestate;
  const char *chain_id;
  const char *batch_id;
  const struct millrace_label *labels;
  size_t label_count;
};
MILLRACE_API const struct millrace_delivery *millrace_context_delivery(const struct millrace_context *context);

/* Why a handler should stop. */
enum millrace_stop {
  MILLRACE_STOP_NONE = 0,
  MILLRACE_STOP_CANCEL = 1,    /* somebody cancelled the job */
  MILLRACE_STOP_TERMINATE = 2, /* by force: the process ends if the handler does not return in time */
  MILLRACE_STOP_LOST = 3,      /* timed out, or another worker has it: nothing reported counts any more */
  MILLRACE_STOP_SHUTDOWN = 4,  /* the worker's grace is over; the job goes back to its queue */
};
/* Cheap: call it often. A handler that was asked to stop returns soon; what it says then counts as usual, but saying nothing
 * confirms the stop. */
MILLRACE_API enum millrace_stop millrace_context_cancelled(const struct millrace_context *context);
/* A descriptor that becomes readable when millrace_context_cancelled changes; for poll. The library's. -1: no descriptor left. */
MILLRACE_API int millrace_context_cancel_fd(struct millrace_context *context);
/* Succeeded with this result (copied; NULL: none). One beyond the server's limit is left out, and the job says so. */
MILLRACE_API void millrace_succeed(struct millrace_context *context, const struct millrace_payload *result);
/* How a failure is to be treated. */
struct millrace_failure {
  const char *type;    /* NULL: "Error" */
  const char *message; /* for people */
  const char *trace;
  bool permanent;         /* no further attempt */
  int64_t retry_after_ms; /* overrides the back-off; 0: does not; MILLRACE_ZERO: at once */
  uint32_t max_attempts;  /* overrides the limit; 0: does not */
};
MILLRACE_API void millrace_fail(struct millrace_context *context, const struct millrace_failure *failure);
/* Call me again later; does not count as an attempt. */
MILLRACE_API void millrace_snooze(struct millrace_context *context, int64_t delay_ms);
/* 0 to 1, with a word for people (may be NULL). */
MILLRACE_API void millrace_progress(struct millrace_context *context, double fraction, const char *message);
/* A line for the job's log. */
MILLRACE_API void millrace_log(struct millrace_context *context, const char *text);

#ifdef __cplusplus
}
#endif

#endif
