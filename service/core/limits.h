/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h: every limit of the service in one table, so that nothing that outside input can grow is without one. Values only.
 * docs/api.md tells the same numbers to users. Some more stand beside the arrays that they size: core/job.h (history, losses,
 * labels, delays of a policy), store/keys.h. */
#ifndef MILLRACE_CORE_LIMITS_H
#define MILLRACE_CORE_LIMITS_H

#include <stdint.h>

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

/* Messages and payloads. */
enum {
  PAYLOAD_BYTES_MAX = 2 << 20,
  RESULT_BYTES_MAX = 1 << 20,
  RESULT_INLINE_BYTES_MAX = 1024, /* bigger ones go into a family of their own */
  REQUEST_BYTES_MAX = 4 << 20,
  REQUEST_ARENA_BYTES_MAX = 64 << 20, /* what unpacking one request may take */
  RESPONSE_BYTES_MAX = 3 << 20,
  METADATA_BYTES_MAX = 16 << 10,
  JSON_DEPTH_MAX = 64,
  MESSAGE_DEPTH_MAX = 16, /* messages within messages */
};

/* Where a job goes that names no queue. */
#define QUEUE_DEFAULT "default"

/* Texts, in bytes. */
enum {
  NAME_BYTES_MAX = 128, /* queues, tasks, schedules, owners: [A-Za-z0-9._:/-] */
  CONTENT_TYPE_BYTES_MAX = 128,
  LABEL_KEY_BYTES_MAX = 64,
  LABEL_VALUE_BYTES_MAX = 256,
  KEY_TEXT_BYTES_MAX = 256, /* unique and concurrency keys */
  DESCRIPTION_BYTES_MAX = 1024,
  CANCEL_REASON_BYTES_MAX = 256,
  CRON_BYTES_MAX = 256,
  TIME_ZONE_BYTES_MAX = 64,
  TRACEPARENT_BYTES_MAX = 256,
  TRACESTATE_BYTES_MAX = 512,
  ERROR_TYPE_BYTES_MAX = 256,
  ERROR_MESSAGE_BYTES_MAX = 4 << 10,
  ERROR_TRACE_BYTES_MAX = 16 << 10,
  PROGRESS_MESSAGE_BYTES_MAX = 256,
  OMITTED_REASON_BYTES_MAX = 256,
  LOG_LINE_BYTES_MAX = 4 << 10,
  LOG_BYTES_MAX = 64 << 10,
  HOSTNAME_BYTES_MAX = 256,
  SDK_BYTES_MAX = 128,
  SESSION_TOKEN_BYTES_MAX = 256,
  PAGE_TOKEN_BYTES_MAX = 1024,
  FINGERPRINT_BYTES = 16,
};

/* Items of one request. */
enum {
  JOBS_PER_CALL_MAX = 1000,
  CHAIN_STEPS_MAX = 1000,
  SCHEDULES_PER_CALL_MAX = 1000,
  BULK_JOBS_MAX = 10 * 1000, /* CancelJobs, RetryJobs: one call */
  PAGE_SIZE_DEFAULT = 100,
  PAGE_SIZE_MAX = 1000,
  PREVIEW_DEFAULT = 10,
  PREVIEW_MAX = 100,
  FILTER_QUEUES_MAX = 16,
  FILTER_TASKS_MAX = 16,
  FILTER_STATES_MAX = 9,
  FILTER_PRIORITIES_MAX = 4,
  FILTER_LABELS_MAX = 4,
  FILTER_IDS_MAX = 1000,
  WORKER_QUEUES_MAX = 100,
  WORKER_TASKS_MAX = 1000,
  WORKER_CONCURRENCY_MAX = 10 * 1000,
  WORKER_PREFETCH_MAX = 10 * 1000,
  WORKER_WEIGHT_MAX = 1000,
};

/* Things that the service holds. */
enum {
  BATCH_MEMBERS_MAX = 1000 * 1000,
  QUEUES_MAX = 10 * 1000,
  TASKS_PER_QUEUE_MAX = 10 * 1000,
  LANES_MAX = 1000 * 1000,
  SESSIONS_MAX = 10 * 1000,
  SCHEDULES_MAX = 100 * 1000,
  METERED_QUEUES_MAX = 100, /* with series of their own in /metrics; all others together are "other" */
  METERED_TASKS_MAX = 500,
  JOB_LINES_PER_SECOND_MAX = 100, /* dead letters in the log */
  WATCHES_MAX = 1000,
  WAITERS_MAX = 100 * 1000,
  RETENTION_COUNT_DEFAULT = 1000 * 1000,
  RETENTION_COUNT_MAX = 10 * 1000 * 1000,
  CONCURRENCY_LIMIT_MAX = 10 * 1000,
  ATTEMPTS_MAX = 1000,
  MULTIPLIER_MAX = 100,
  QUEUE_RATE_MAX = 1000 * 1000,
};

/* Messages to and from workers. */
enum {
  DELIVERIES_PER_MESSAGE_MAX = 100,
  DELIVERY_MESSAGE_BYTES_MAX = 1 << 20, /* unless it is a single delivery */
  SESSION_BYTES_MAX = 24 << 20,         /* payloads of all that a session runs; the last one may pass it */
  REPORTS_BYTES_MAX = 4 << 20,
  FRAGMENT_BYTES_MAX = 64 << 10,
};

/* What one connection may send nng: see workers/guard.h. */
enum {
  HEAD_BYTES_MAX = 8 << 10,         /* before it was answered, or joined its session */
  HEAD_TLS_BYTES_MAX = 24 << 10,    /* the same with the handshake, certificates, and what is read ahead */
  JOBS_IDLE_BYTES_MAX = 64 << 10,   /* on the jobs path, where a worker has nothing to say */
  REPORTS_IDLE_BYTES_MAX = 4 << 20, /* on the reports path, beside a message of REPORTS_BYTES_MAX */
};

/* Times. */
#define WAIT_DEFAULT_MS (30 * SECOND_MS)
#define WAIT_MAX_MS (10 * MINUTE_MS)
#define JOB_TIMES_MAX_MS (3653 * DAY_MS) /* delay, expiry, total time-out: 10 years */
#define POLICY_DELAY_MAX_MS (365 * DAY_MS)
#define ATTEMPT_TIMEOUT_MAX_MS (365 * DAY_MS)
#define RETENTION_MAX_MS (365 * DAY_MS)
#define RETENTION_DEFAULT_MS DAY_MS
#define RETENTION_FAILED_DEFAULT_MS (7 * DAY_MS)
#define UNIQUE_PERIOD_MAX_MS (365 * DAY_MS)
#define SNOOZE_MAX_MS (365 * DAY_MS)
#define UNKNOWN_TASK_DELAY_MS (5 * SECOND_MS)
#define UNKNOWN_TASK_MAX_MS (10 * MINUTE_MS) /* from the first session that did not know the task */
#define TOMBSTONE_MS (10 * MINUTE_MS)
#define BATCH_SEAL_MS HOUR_MS
#define INTERVAL_MIN_MS SECOND_MS
#define INTERVAL_MAX_MS (366 * DAY_MS)
#define SCHEDULE_JITTER_MAX_MS HOUR_MS
#define CATCH_UP_MAX_MS (3653 * DAY_MS)
/* What a timestamp can say: years 1 to 9999. */
#define TIMESTAMP_MIN_MS INT64_C(-62135596800000)
#define TIMESTAMP_MAX_MS INT64_C(253402300799999)

#endif
