/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit of every request: one step beyond it is refused with the field's path, the limit itself is taken. */
#include <math.h>

#include "testing.h"

#include "core/json.h"
#include "core/limits.h"
#include "core/validate.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/schedule_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

#define DAY_S INT64_C(86400)

typedef Millrace__V1__JobSpec JobSpec;

#define T(text) ((char *)(text))
#define UUID T("0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e5f")
#define UUID_2 T("0190f3a2-5c1e-7b2a-8f00-3a1b2c3d4e60")
#define BAD_UTF8 T("a\xff")

static Google__Protobuf__Duration duration_of(int64_t seconds, int32_t nanos) {
  Google__Protobuf__Duration duration = GOOGLE__PROTOBUF__DURATION__INIT;
  duration.seconds = seconds;
  duration.nanos = nanos;
  return duration;
}

static Google__Protobuf__Timestamp timestamp_of(int64_t seconds, int32_t nanos) {
  Google__Protobuf__Timestamp timestamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
  timestamp.seconds = seconds;
  timestamp.nanos = nanos;
  return timestamp;
}

/* Texts of a given length live as long as the program. */
static char *long_text(size_t bytes, char c) {
  static GPtrArray *kept;
  if (!kept)
    kept = g_ptr_array_new_with_free_func(g_free);
  char *text = g_strnfill(bytes, c);
  g_ptr_array_add(kept, text);
  return text;
}

static void expect(enum status status, const struct error *error, const char *field, const char *told, int line) {
  if (!field) {
    if (status != STATUS_OK)
      fail_msg("line %d: refused: %s: %s", line, error->field, error->message);
    return;
  }
  if (status != STATUS_INVALID_ARGUMENT || strcmp(error->field, field) != 0 || !strstr(error->message, told))
    fail_msg("line %d: expected '%s' (%s), got %d '%s': %s", line, field, told, status, error->field, error->message);
  assert_true(g_utf8_validate(error->message, -1, NULL) && g_utf8_validate(error->field, -1, NULL));
}

/* JOB(place, field, told, change): a good job, changed, is refused for `field` (NULL: is still good). */
#define JOB(place, field_, told_, ...)                                                                                           \
  do {                                                                                                                           \
    JobSpec job = MILLRACE__V1__JOB_SPEC__INIT;                                                                                  \
    job.task = T("send");                                                                                                        \
    __VA_ARGS__;                                                                                                                 \
    struct error error = {.message = ""};                                                                                        \
    expect(validate_job_spec(&job, place, &error), &error, field_, told_, __LINE__);                                             \
  } while (0)

/* REQUEST(Type, init, field, told, change): the same for a request. */
#define REQUEST(type, init, field_, told_, ...)                                                                                  \
  do {                                                                                                                           \
    type request = init;                                                                                                         \
    __VA_ARGS__;                                                                                                                 \
    struct error error = {.message = ""};                                                                                        \
    expect(validate_request(&request.base, &error), &error, field_, told_, __LINE__);                                            \
  } while (0)

static void test_job_names(void **state) {
  (void)state;
  JOB(JOB_ALONE, NULL, "", (void)0);
  JOB(JOB_ALONE, "task", "required", job.task = T(""));
  JOB(JOB_ALONE, "task", "'a b'", job.task = T("a b"));
  JOB(JOB_ALONE, "task", "consists of", job.task = T("caf\xc3\xa9"));
  JOB(JOB_ALONE, "task", "has 129", job.task = long_text(129, 'a'));
  JOB(JOB_ALONE, NULL, "", job.task = long_text(128, 'a'));
  JOB(JOB_ALONE, NULL, "", job.task = T("AZaz09._:/-"));
  JOB(JOB_ALONE, "queue", "consists of", job.queue = T("a*"));
  JOB(JOB_ALONE, "queue", "not valid UTF-8", job.queue = BAD_UTF8);
  JOB(JOB_ALONE, "id", "not a UUID", job.id = T("7"));
  JOB(JOB_ALONE, NULL, "", job.id = UUID);
  JOB(JOB_ALONE, "priority", "JOB_PRIORITY_CRITICAL", job.priority = (Millrace__V1__JobPriority)2);
  JOB(JOB_ALONE, "traceparent", "at most 256", job.traceparent = long_text(257, 'a'));
  JOB(JOB_ALONE, "traceparent", "visible ASCII", job.traceparent = T("a\nb"));
  JOB(JOB_ALONE, "tracestate", "at most 512", job.tracestate = long_text(513, 'a'));
  JOB(JOB_ALONE, NULL, "", job.tracestate = long_text(512, 'a'));
}

static void test_job_times(void **state) {
  (void)state;
  Google__Protobuf__Duration zero = duration_of(0, 0), negative = duration_of(0, -1), long_time = duration_of(3653 * DAY_S, 1),
                             ten_years = duration_of(3653 * DAY_S, 0), year = duration_of(365 * DAY_S, 0),
                             over_year = duration_of(365 * DAY_S, 1), mixed = duration_of(1, -1),
                             nanos = duration_of(0, 1000000000), huge = duration_of(INT64_MAX, 0), micro = duration_of(0, 1000);
  Google__Protobuf__Timestamp late = timestamp_of(253402300800, 0), early = timestamp_of(-62135596801, 0),
                              odd = timestamp_of(0, -1), last = timestamp_of(253402300799, 999999999);
#define DELAY(value) job.start_case = MILLRACE__V1__JOB_SPEC__START_DELAY, job.delay = &(value)
#define RUN_AT(value) job.start_case = MILLRACE__V1__JOB_SPEC__START_RUN_AT, job.run_at = &(value)
#define EXPIRES_IN(value) job.expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN, job.expires_in = &(value)
#define EXPIRES_AT(value) job.expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT, job.expires_at = &(value)
  JOB(JOB_ALONE, NULL, "", DELAY(zero));
  JOB(JOB_ALONE, NULL, "", DELAY(ten_years));
  JOB(JOB_ALONE, "delay", "0 ms to 3653 days", DELAY(negative));
  JOB(JOB_ALONE, "delay", "it is", DELAY(long_time));
  JOB(JOB_ALONE, "delay", "same sign", DELAY(mixed));
  JOB(JOB_ALONE, "delay", "nanos", DELAY(nanos));
  JOB(JOB_ALONE, "delay", "10,000 years", DELAY(huge));
  JOB(JOB_ALONE, NULL, "", RUN_AT(last));
  JOB(JOB_ALONE, "run_at", "years 1 to 9999", RUN_AT(late));
  JOB(JOB_ALONE, "run_at", "years 1 to 9999", RUN_AT(early));
  JOB(JOB_ALONE, "run_at", "nanos", RUN_AT(odd));
  JOB(JOB_ALONE, "expires_in", "1 ms to", EXPIRES_IN(zero));
  JOB(JOB_ALONE, NULL, "", EXPIRES_IN(micro)); /* rounded up */
  JOB(JOB_ALONE, "expires_in", "it is", EXPIRES_IN(long_time));
  JOB(JOB_ALONE, "expires_at", "9999", EXPIRES_AT(late));
  JOB(JOB_ALONE, "total_timeout", "1 ms to", job.total_timeout = &zero);
  JOB(JOB_ALONE, "total_timeout", "it is", job.total_timeout = &long_time);
  JOB(JOB_ALONE, NULL, "", job.attempt_timeout = &zero);
  JOB(JOB_ALONE, "attempt_timeout", "365 days", job.attempt_timeout = &over_year);
  JOB(JOB_ALONE, "attempt_timeout", "0 ms to", job.attempt_timeout = &negative);
  JOB(JOB_ALONE, NULL, "", job.retention = &year);
  JOB(JOB_ALONE, "retention", "365 days", job.retention = &over_year);
}

static void test_job_policy(void **state) {
  (void)state;
  Google__Protobuf__Duration zero = duration_of(0, 0), second = duration_of(1, 0), over_year = duration_of(365 * DAY_S, 1);
  Google__Protobuf__DoubleValue jitter = GOOGLE__PROTOBUF__DOUBLE_VALUE__INIT;
  Google__Protobuf__Duration *delays[65];
  for (size_t i = 0; i < G_N_ELEMENTS(delays); i++)
    delays[i] = &second;
  Google__Protobuf__Duration *wrong_delays[] = {&second, &over_year};
#define POLICY(field_, told_, ...)                                                                                               \
  JOB(JOB_ALONE, field_, told_, Millrace__V1__RetryPolicy policy = MILLRACE__V1__RETRY_POLICY__INIT; job.retry_policy = &policy; \
      __VA_ARGS__)
#define LIST policy.kind = MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_LIST
  POLICY(NULL, "", (void)0);
  POLICY(NULL, "", policy.max_attempts = 1000);
  POLICY("retry_policy.max_attempts", "0 to 1000; it is 1001", policy.max_attempts = 1001);
  POLICY("retry_policy.kind", "BACKOFF_KIND_LIST", policy.kind = (Millrace__V1__BackoffKind)9);
  POLICY("retry_policy.initial", "1 ms to 365 days", policy.initial = &zero);
  POLICY("retry_policy.max", "1 ms to 365 days", policy.max = &over_year);
  POLICY("retry_policy.multiplier", "1 to 100; it is 0.5", policy.multiplier = 0.5);
  POLICY("retry_policy.multiplier", "1 to 100", policy.multiplier = 100.5);
  POLICY("retry_policy.multiplier", "not finite", policy.multiplier = NAN);
  POLICY("retry_policy.multiplier", "not finite", policy.multiplier = INFINITY);
  POLICY("retry_policy.jitter", "0 to 1", jitter.value = 1.5; policy.jitter = &jitter);
  POLICY("retry_policy.jitter", "0 to 1", jitter.value = -0.1; policy.jitter = &jitter);
  POLICY("retry_policy.jitter.value", "not finite", jitter.value = NAN; policy.jitter = &jitter);
  POLICY(NULL, "", LIST; policy.n_delays = 64; policy.delays = delays);
  POLICY("retry_policy.delays", "at most 64", LIST; policy.n_delays = 65; policy.delays = delays);
  POLICY("retry_policy.delays", "required", LIST);
  POLICY("retry_policy.delays", "BACKOFF_KIND_LIST", policy.n_delays = 1; policy.delays = delays);
  POLICY("retry_policy.delays", "365 days", LIST; policy.n_delays = 2; policy.delays = wrong_delays);
}

static void test_job_payload(void **state) {
  (void)state;
#define PAYLOAD(field_, told_, ...)                                                                                              \
  JOB(JOB_ALONE, field_, told_, Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT; job.payload = &payload; __VA_ARGS__)
#define JSON(text) payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON, payload.json = T(text)
#define DATA(bytes) payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_DATA, payload.data.len = (bytes)
  char *biggest = long_text(PAYLOAD_BYTES_MAX, ' ');
  biggest[0] = '1';
  PAYLOAD(NULL, "", (void)0);
  PAYLOAD(NULL, "", JSON("{\"to\": \"caf\xc3\xa9\", \"n\": [1, null]}"));
  PAYLOAD(NULL, "", JSON(biggest));
  PAYLOAD("payload.json", "has 2097153", JSON(long_text(PAYLOAD_BYTES_MAX + 1, ' ')));
  PAYLOAD("payload.json", "leave the content unset", JSON(""));
  PAYLOAD("payload.json", "not well-formed JSON", JSON("{"));
  PAYLOAD("payload.json", "not well-formed JSON", JSON("{\"a\": NaN}"));
  PAYLOAD("payload.json", "trailing garbage", JSON("1 2"));
  PAYLOAD("payload.json", "not valid UTF-8", JSON("\"\xff\""));
  PAYLOAD("payload.json", "deeper than 64", JSON(long_text(65, '[')));
  PAYLOAD(NULL, "", DATA(PAYLOAD_BYTES_MAX));
  PAYLOAD("payload.data", "has 2097153", DATA(PAYLOAD_BYTES_MAX + 1));
  PAYLOAD(NULL, "", payload.content_type = T("text/plain; charset=utf-8"));
  PAYLOAD("payload.content_type", "media type", payload.content_type = T("json"));
  PAYLOAD("payload.content_type", "visible ASCII", payload.content_type = T("a/\n"));
  PAYLOAD("payload.content_type", "at most 128", payload.content_type = long_text(129, '/'));
}

static void test_job_keys_and_labels(void **state) {
  (void)state;
  Google__Protobuf__Duration zero = duration_of(0, 0), second = duration_of(1, 0), over_year = duration_of(365 * DAY_S, 1);
#define UNIQUE(field_, told_, ...)                                                                                               \
  JOB(JOB_ALONE, field_, told_, Millrace__V1__UniqueKey unique = MILLRACE__V1__UNIQUE_KEY__INIT; unique.key = T("k");            \
      job.unique_key = &unique; __VA_ARGS__)
#define PERIOD unique.scope = MILLRACE__V1__UNIQUE_SCOPE__UNIQUE_SCOPE_PERIOD
  UNIQUE(NULL, "", unique.key = long_text(256, 'k'));
  UNIQUE("unique_key.key", "1 to 256", unique.key = T(""));
  UNIQUE("unique_key.key", "has 257", unique.key = long_text(257, 'k'));
  UNIQUE("unique_key.scope", "UNIQUE_SCOPE_PERIOD", unique.scope = (Millrace__V1__UniqueScope)9);
  UNIQUE("unique_key.rule", "UNIQUE_RULE_REJECT", unique.rule = (Millrace__V1__UniqueRule)9);
  UNIQUE("unique_key.period", "needs a period", PERIOD);
  UNIQUE("unique_key.period", "1 ms to 365 days", PERIOD; unique.period = &zero);
  UNIQUE("unique_key.period", "365 days", PERIOD; unique.period = &over_year);
  UNIQUE(NULL, "", PERIOD; unique.period = &second);
  UNIQUE("unique_key.period", "unless", unique.period = &second);
#define CONCURRENCY(field_, told_, ...)                                                                                          \
  JOB(JOB_ALONE, field_, told_, Millrace__V1__ConcurrencyKey key = MILLRACE__V1__CONCURRENCY_KEY__INIT; key.key = T("k");        \
      job.concurrency_key = &key; __VA_ARGS__)
  CONCURRENCY(NULL, "", key.limit = 10000);
  CONCURRENCY("concurrency_key.limit", "0 to 10000", key.limit = 10001);
  CONCURRENCY("concurrency_key.key", "1 to 256", key.key = T(""));
  CONCURRENCY("concurrency_key.key", "has 257", key.key = long_text(257, 'k'));

  Millrace__V1__JobSpec__LabelsEntry entries[17];
  Millrace__V1__JobSpec__LabelsEntry *labels[17];
  char keys[17][8];
  for (int i = 0; i < 17; i++) {
    millrace__v1__job_spec__labels_entry__init(&entries[i]);
    snprintf(keys[i], sizeof keys[i], "k%d", i);
    entries[i].key = keys[i];
    labels[i] = &entries[i];
  }
#define LABELS(field_, told_, count, ...) JOB(JOB_ALONE, field_, told_, job.n_labels = (count); job.labels = labels; __VA_ARGS__)
  LABELS(NULL, "", 16, (void)0);
  LABELS("labels", "at most 16", 17, (void)0);
  LABELS("labels", "'k0' is there twice", 2, entries[1].key = T("k0"));
  LABELS("labels[\"\"]", "1 to 64", 2, entries[1].key = T(""));
  LABELS("labels[\"a b\"]", "consists of", 2, entries[1].key = T("a b"));
  LABELS(NULL, "", 2, entries[1].key = long_text(64, 'a'));
  entries[1].key = long_text(65, 'a');
  char *path = g_strdup_printf("labels[\"%s\"]", long_text(64, 'a'));
  LABELS(path, "has 65", 2, (void)0);
  g_free(path);
  LABELS(NULL, "", 1, entries[0].value = long_text(256, 'v'));
  LABELS("labels[\"k0\"]", "at most 256 bytes; it has 257", 1, entries[0].value = long_text(257, 'v'));
  LABELS("labels[0].value", "UTF-8", 1, entries[0].value = BAD_UTF8);
}

static void test_job_places(void **state) {
  (void)state;
  Google__Protobuf__Duration second = duration_of(1, 0);
  Google__Protobuf__Timestamp time = timestamp_of(1, 0);
  Millrace__V1__UniqueKey unique = MILLRACE__V1__UNIQUE_KEY__INIT;
  unique.key = T("k");
  Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT;
  enum {
    ALONE = 1 << JOB_ALONE,
    FIRST = 1 << JOB_CHAIN_FIRST,
    STEP = 1 << JOB_CHAIN_STEP,
    ITEM = 1 << JOB_BATCH_ITEM,
    DEFAULTS = 1 << JOB_BATCH_DEFAULTS,
    CALLBACK = 1 << JOB_CALLBACK,
    TEMPLATE = 1 << JOB_TEMPLATE
  };
  for (int place = JOB_ALONE; place <= JOB_TEMPLATE; place++) {
    unsigned bit = 1U << place;
#define PLACE(refused_in, field_, told_, ...) JOB((enum job_place)place, bit &(refused_in) ? (field_) : NULL, told_, __VA_ARGS__)
    PLACE(DEFAULTS | CALLBACK | TEMPLATE, "id", "must not be set in", job.id = UUID);
    PLACE(STEP | CALLBACK | TEMPLATE, "run_at", "must not be set in", RUN_AT(time));
    PLACE(TEMPLATE, "delay", "must not be set in the job of a schedule", DELAY(second));
    PLACE(CALLBACK | TEMPLATE, "expires_at", "must not be set in", EXPIRES_AT(time));
    PLACE(0, NULL, "", EXPIRES_IN(second));
    PLACE(DEFAULTS | CALLBACK | TEMPLATE, "unique_key", "must not be set in", job.unique_key = &unique);
    PLACE(DEFAULTS, "payload", "defaults of a batch", job.payload = &payload);
    PLACE(ALONE | FIRST | STEP | CALLBACK | TEMPLATE, "task", "required", job.task = T(""));
  }
}

/* ---- requests ---- */

static void test_single_fields_of_requests(void **state) {
  (void)state;
  Google__Protobuf__Duration zero = duration_of(0, 0), longest = duration_of(600, 0), too_long = duration_of(600, 1),
                             negative = duration_of(-1, 0);
#define WAIT_JOB(...) REQUEST(Millrace__V1__WaitJobRequest, MILLRACE__V1__WAIT_JOB_REQUEST__INIT, __VA_ARGS__)
  WAIT_JOB("id", "required", (void)0);
  WAIT_JOB("id", "not a UUID", request.id = T("x"));
  WAIT_JOB(NULL, "", request.id = UUID);
  WAIT_JOB(NULL, "", request.id = UUID; request.timeout = &zero);
  WAIT_JOB(NULL, "", request.id = UUID; request.timeout = &longest);
  WAIT_JOB("timeout", "0 ms to 10 min", request.id = UUID; request.timeout = &too_long);
  WAIT_JOB("timeout", "0 ms to 10 min; it is -1 s", request.id = UUID; request.timeout = &negative);
  WAIT_JOB("view", "VIEW_FULL", request.id = UUID; request.view = (Millrace__V1__View)3);
#define LIST_JOBS(...) REQUEST(Millrace__V1__ListJobsRequest, MILLRACE__V1__LIST_JOBS_REQUEST__INIT, __VA_ARGS__)
  LIST_JOBS(NULL, "", (void)0);
  LIST_JOBS(NULL, "", request.page_size = 1000);
  LIST_JOBS("page_size", "0 to 1000; it is 1001", request.page_size = 1001);
  LIST_JOBS("page_token", "at most", request.page_token = long_text(PAGE_TOKEN_BYTES_MAX + 1, 'a'));
  REQUEST(Millrace__V1__CancelJobRequest, MILLRACE__V1__CANCEL_JOB_REQUEST__INIT, "reason", "at most 256", request.id = UUID;
          request.reason = long_text(257, 'a'));
  REQUEST(Millrace__V1__GetQueueRequest, MILLRACE__V1__GET_QUEUE_REQUEST__INIT, "name", "required", (void)0);
  REQUEST(Millrace__V1__GetQueueRequest, MILLRACE__V1__GET_QUEUE_REQUEST__INIT, "name", "consists of", request.name = T("a,b"));
  REQUEST(Millrace__V1__QuietWorkerRequest, MILLRACE__V1__QUIET_WORKER_REQUEST__INIT, "session_id", "required", (void)0);
  REQUEST(Millrace__V1__DeregisterRequest, MILLRACE__V1__DEREGISTER_REQUEST__INIT, "session_token", "required",
          request.session_id = UUID);
  REQUEST(Millrace__V1__RunScheduleRequest, MILLRACE__V1__RUN_SCHEDULE_REQUEST__INIT, "job_id", "UUID", request.name = T("s");
          request.job_id = T("1"));
  REQUEST(Millrace__V1__ListSchedulesRequest, MILLRACE__V1__LIST_SCHEDULES_REQUEST__INIT, "owner", "consists of",
          request.owner = T(" "));
  REQUEST(Millrace__V1__ListWorkersRequest, MILLRACE__V1__LIST_WORKERS_REQUEST__INIT, "queue", "consists of",
          request.queue = T(" "));
  REQUEST(Millrace__V1__GetServerInfoRequest, MILLRACE__V1__GET_SERVER_INFO_REQUEST__INIT, NULL, "", (void)0);
#define CHECKPOINT(...) REQUEST(Millrace__V1__CheckpointRequest, MILLRACE__V1__CHECKPOINT_REQUEST__INIT, __VA_ARGS__)
  CHECKPOINT(NULL, "", request.name = T("monday-1.2_x"));
  CHECKPOINT("name", "required", (void)0);
  CHECKPOINT("name", "plain name", request.name = T("../x"));
  CHECKPOINT("name", "plain name", request.name = T("a/b"));
  CHECKPOINT("name", "plain name", request.name = T("."));
  CHECKPOINT("name", "plain name", request.name = T("a:b"));
}

static void test_creates(void **state) {
  (void)state;
  JobSpec good = MILLRACE__V1__JOB_SPEC__INIT, bad = MILLRACE__V1__JOB_SPEC__INIT;
  good.task = T("send");
  bad.queue = BAD_UTF8;
  JobSpec *jobs[JOBS_PER_CALL_MAX + 1];
  for (size_t i = 0; i < G_N_ELEMENTS(jobs); i++)
    jobs[i] = &bad; /* each has its own outcome: the request itself is fine */
  REQUEST(Millrace__V1__CreateJobRequest, MILLRACE__V1__CREATE_JOB_REQUEST__INIT, "job", "required", (void)0);
  REQUEST(Millrace__V1__CreateJobRequest, MILLRACE__V1__CREATE_JOB_REQUEST__INIT, NULL, "", request.job = &good);
  REQUEST(Millrace__V1__CreateJobRequest, MILLRACE__V1__CREATE_JOB_REQUEST__INIT, "job.queue", "UTF-8", request.job = &bad);
  REQUEST(Millrace__V1__CreateJobsRequest, MILLRACE__V1__CREATE_JOBS_REQUEST__INIT, "jobs", "1 to 1000", (void)0);
  REQUEST(Millrace__V1__CreateJobsRequest, MILLRACE__V1__CREATE_JOBS_REQUEST__INIT, NULL, "", request.n_jobs = 1000;
          request.jobs = jobs);
  REQUEST(Millrace__V1__CreateJobsRequest, MILLRACE__V1__CREATE_JOBS_REQUEST__INIT, "jobs", "there are 1001",
          request.n_jobs = 1001;
          request.jobs = jobs);
  REQUEST(Millrace__V1__CreateJobsStreamRequest, MILLRACE__V1__CREATE_JOBS_STREAM_REQUEST__INIT, "jobs", "1 to 1000", (void)0);
  REQUEST(Millrace__V1__CreateJobsStreamRequest, MILLRACE__V1__CREATE_JOBS_STREAM_REQUEST__INIT, NULL, "", request.n_jobs = 1;
          request.jobs = jobs);
#define UPDATE(...) REQUEST(Millrace__V1__UpdateJobRequest, MILLRACE__V1__UPDATE_JOB_REQUEST__INIT, __VA_ARGS__)
  Millrace__V1__RetryPolicy policy = MILLRACE__V1__RETRY_POLICY__INIT;
  policy.max_attempts = 1001;
  Millrace__V1__Labels__LabelsEntry entry = MILLRACE__V1__LABELS__LABELS_ENTRY__INIT, *entries[] = {&entry};
  entry.key = T("!");
  Millrace__V1__Labels labels = MILLRACE__V1__LABELS__INIT;
  labels.n_labels = 1;
  labels.labels = entries;
  UPDATE(NULL, "", request.id = UUID);
  UPDATE("retry_policy.max_attempts", "1001", request.id = UUID; request.retry_policy = &policy);
  UPDATE("labels.labels[\"!\"]", "consists of", request.id = UUID; request.labels = &labels);
}

static void test_chains_and_batches(void **state) {
  (void)state;
  Google__Protobuf__Timestamp time = timestamp_of(1, 0);
  JobSpec first = MILLRACE__V1__JOB_SPEC__INIT, second = MILLRACE__V1__JOB_SPEC__INIT, nothing = MILLRACE__V1__JOB_SPEC__INIT;
  first.task = second.task = T("t");
  first.id = second.id = UUID;
  JobSpec *both[] = {&first, &second};
  JobSpec *empty[] = {&nothing};
#define CHAIN(...) REQUEST(Millrace__V1__CreateChainRequest, MILLRACE__V1__CREATE_CHAIN_REQUEST__INIT, __VA_ARGS__)
#define STEPS request.n_steps = 2, request.steps = both
  CHAIN("steps", "1 to 1000", (void)0);
  CHAIN("steps[1].id", "there twice", STEPS);
  second.id = UUID_2;
  CHAIN(NULL, "", STEPS);
  first.start_case = second.start_case = MILLRACE__V1__JOB_SPEC__START_RUN_AT;
  first.run_at = second.run_at = &time;
  CHAIN("steps[1].run_at", "behind the first", STEPS);
  second.start_case = MILLRACE__V1__JOB_SPEC__START__NOT_SET;
  CHAIN(NULL, "", STEPS);
  CHAIN("steps[0].task", "required", request.n_steps = 1; request.steps = empty);
  CHAIN("on_failure.id", "in a callback", STEPS; request.on_failure = &second);
  CHAIN("id", "UUID", STEPS; request.id = T("x"));

#define BATCH(...) REQUEST(Millrace__V1__CreateBatchRequest, MILLRACE__V1__CREATE_BATCH_REQUEST__INIT, __VA_ARGS__)
  JobSpec *many[JOBS_PER_CALL_MAX + 1];
  for (size_t i = 0; i < G_N_ELEMENTS(many); i++)
    many[i] = &nothing;
  JobSpec defaults = MILLRACE__V1__JOB_SPEC__INIT, queue_only = MILLRACE__V1__JOB_SPEC__INIT;
  defaults.task = T("t");
  queue_only.queue = T("q");
  BATCH(NULL, "", (void)0);
  BATCH(NULL, "", request.defaults = &queue_only);
  BATCH("items[0].task", "required", request.n_items = 1; request.items = many);
  BATCH("items[0].task", "required", request.n_items = 1; request.items = many; request.defaults = &queue_only);
  BATCH(NULL, "", request.n_items = 1000; request.items = many; request.defaults = &defaults);
  BATCH("items", "at most 1000", request.n_items = 1001; request.items = many; request.defaults = &defaults);
  BATCH("defaults.id", "defaults of a batch", request.defaults = &first);
  BATCH("on_success.task", "required", request.on_success = &nothing);
  BATCH("on_complete.id", "in a callback", request.on_complete = &first);
  BATCH("description", "at most 1024", request.description = long_text(1025, 'a'));
#define ITEMS(...) REQUEST(Millrace__V1__AddBatchItemsRequest, MILLRACE__V1__ADD_BATCH_ITEMS_REQUEST__INIT, __VA_ARGS__)
#define GOOD_ITEMS request.batch_id = UUID, request.chunk = 1, request.n_items = 1000, request.items = many
  ITEMS(NULL, "", GOOD_ITEMS);
  ITEMS("batch_id", "required", GOOD_ITEMS; request.batch_id = T(""));
  ITEMS("chunk", "1 to", GOOD_ITEMS; request.chunk = 0);
  ITEMS("items", "1 to 1000", GOOD_ITEMS; request.n_items = 0);
  ITEMS("items", "1001", GOOD_ITEMS; request.n_items = 1001);
  nothing.task = T("a b");
  ITEMS("items[0].task", "consists of", GOOD_ITEMS);
}

static void test_filters(void **state) {
  (void)state;
  char *names[1001], *ids[1001];
  for (int i = 0; i < 1001; i++) {
    names[i] = T("n");
    ids[i] = UUID;
  }
  Millrace__V1__JobState states[10] = {0};
  Millrace__V1__JobPriority priorities[5] = {0};
  Google__Protobuf__Timestamp time = timestamp_of(1, 0);
#define FILTER(field_, told_, ...)                                                                                               \
  REQUEST(Millrace__V1__CancelJobsRequest, MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT, field_, told_,                               \
          Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;                                                       \
          request.filter = &filter; __VA_ARGS__)
  REQUEST(Millrace__V1__CancelJobsRequest, MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT, "filter", "at least one condition", (void)0);
  REQUEST(Millrace__V1__WatchJobsRequest, MILLRACE__V1__WATCH_JOBS_REQUEST__INIT, "filter", "at least one condition", (void)0);
  REQUEST(Millrace__V1__RetryJobsRequest, MILLRACE__V1__RETRY_JOBS_REQUEST__INIT, "filter", "at least one condition", (void)0);
  FILTER("filter", "at least one condition", (void)0);
  FILTER("filter", "at least one condition", filter.n_states = 1; filter.states = states); /* any state */
  FILTER(NULL, "", filter.n_queues = 16; filter.queues = names);
  FILTER("filter.queues", "at most 16", filter.n_queues = 17; filter.queues = names);
  FILTER("filter.tasks", "at most 16", filter.n_tasks = 17; filter.tasks = names);
  FILTER("filter.ids", "at most 1000", filter.n_ids = 1001; filter.ids = ids);
  FILTER("filter.ids", "UUID", filter.n_ids = 1; filter.ids = names);
  FILTER(NULL, "", filter.created_after = &time);
  FILTER(NULL, "", filter.created_before = &time);
  FILTER(NULL, "", filter.batch_id = UUID);
  FILTER("filter.batch_id", "UUID", filter.batch_id = T("x"));
  FILTER("filter.chain_id", "UUID", filter.chain_id = T("x"));
  FILTER("filter.schedule_name", "consists of", filter.schedule_name = T("!"));
  FILTER(NULL, "", filter.error_fingerprint = T("0123456789abcdef"));
  FILTER("filter.error_fingerprint", "16 hexadecimal", filter.error_fingerprint = T("0123456789ABCDEF"));
  FILTER("filter.error_fingerprint", "16 hexadecimal", filter.error_fingerprint = T("0123"));
  names[0] = T("");
  FILTER("filter.queues", "required", filter.n_queues = 1; filter.queues = names);
  states[0] = MILLRACE__V1__JOB_STATE__JOB_STATE_FAILED;
  FILTER(NULL, "", filter.n_states = 1; filter.states = states);
  FILTER("filter.states[1]", "JOB_STATE_EXPIRED", filter.n_states = 2; filter.states = states;
         states[1] = (Millrace__V1__JobState)10);
  for (int i = 0; i < 10; i++)
    states[i] = MILLRACE__V1__JOB_STATE__JOB_STATE_FAILED;
  FILTER("filter.states", "at most 9", filter.n_states = 10; filter.states = states);
  FILTER("filter.priorities", "name the priorities", filter.n_priorities = 1; filter.priorities = priorities);
  FILTER("filter.priorities", "at most 4", filter.n_priorities = 5; filter.priorities = priorities);
}

static void test_schedules(void **state) {
  (void)state;
  Google__Protobuf__Duration short_time = duration_of(0, 999999999 - 999999), second = duration_of(1, 0),
                             over_hour = duration_of(3600, 1), too_long = duration_of(367 * DAY_S, 0),
                             negative = duration_of(-1, 0);
  Google__Protobuf__Timestamp time = timestamp_of(1, 0), later = timestamp_of(2, 0);
  JobSpec job = MILLRACE__V1__JOB_SPEC__INIT;
  job.task = T("t");
#define SCHEDULE(field_, told_, ...)                                                                                             \
  REQUEST(Millrace__V1__CreateScheduleRequest, MILLRACE__V1__CREATE_SCHEDULE_REQUEST__INIT, field_, told_,                       \
          Millrace__V1__ScheduleSpec spec = MILLRACE__V1__SCHEDULE_SPEC__INIT;                                                   \
          Millrace__V1__ScheduleTiming timing = MILLRACE__V1__SCHEDULE_TIMING__INIT; spec.name = T("s"); spec.job = &job;        \
          spec.timing = &timing; timing.when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON; timing.cron = T("* * * * *");      \
          request.schedule = &spec; __VA_ARGS__)
#define INTERVAL(value) timing.when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL, timing.interval = &(value)
  SCHEDULE(NULL, "", timing.time_zone = T("Europe/Berlin"));
  SCHEDULE("schedule", "required", request.schedule = NULL);
  SCHEDULE("schedule.name", "required", spec.name = T(""));
  SCHEDULE("schedule.timing", "required", spec.timing = NULL);
  SCHEDULE("schedule.timing.cron", "either cron or interval", timing.when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN__NOT_SET);
  SCHEDULE("schedule.timing.cron", "'minute'", timing.cron = T("61 * * * *"));
  SCHEDULE("schedule.timing.cron", "never comes true", timing.cron = T("0 0 30 2 *"));
  SCHEDULE("schedule.timing.time_zone", "Mars/Base", timing.time_zone = T("Mars/Base"));
  SCHEDULE(NULL, "", INTERVAL(second));
  SCHEDULE("schedule.timing.interval", "1 s to 366 days; it is 999 ms", INTERVAL(short_time); short_time.nanos = 999000000);
  SCHEDULE("schedule.timing.interval", "it is 367 days", INTERVAL(too_long));
  SCHEDULE("schedule.timing.jitter", "0 ms to 1 h", timing.jitter = &over_hour);
  SCHEDULE(NULL, "", timing.start_at = &time; timing.end_at = &later);
  SCHEDULE("schedule.timing.end_at", "later than start_at", timing.start_at = &time; timing.end_at = &time);
  SCHEDULE("schedule.job", "required", spec.job = NULL);
  SCHEDULE("schedule.job.id", "in the job of a schedule", job.id = UUID);
  job.id = T("");
  SCHEDULE("schedule.overlap", "SCHEDULE_OVERLAP_SKIP", spec.overlap = (Millrace__V1__ScheduleOverlap)4);
  SCHEDULE("schedule.catch_up_window", "0 ms to", spec.catch_up_window = &negative);
  SCHEDULE("schedule.description", "at most 1024", spec.description = long_text(1025, 'a'));
  REQUEST(Millrace__V1__UpdateScheduleRequest, MILLRACE__V1__UPDATE_SCHEDULE_REQUEST__INIT, "schedule", "required", (void)0);

  Millrace__V1__ScheduleTiming timing = MILLRACE__V1__SCHEDULE_TIMING__INIT;
  timing.when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON;
  timing.cron = T("@daily");
  Millrace__V1__ScheduleSpec spec = MILLRACE__V1__SCHEDULE_SPEC__INIT, nameless = MILLRACE__V1__SCHEDULE_SPEC__INIT;
  spec.name = T("s");
  spec.timing = &timing;
  spec.job = &job;
  Millrace__V1__ScheduleSpec *twice[] = {&spec, &spec}, *mixed[] = {&spec, &nameless};
#define DECLARE(...) REQUEST(Millrace__V1__DeclareSchedulesRequest, MILLRACE__V1__DECLARE_SCHEDULES_REQUEST__INIT, __VA_ARGS__)
  DECLARE("owner", "required", (void)0);
  DECLARE(NULL, "", request.owner = T("app"));
  DECLARE(NULL, "", request.owner = T("app"); request.n_schedules = 1; request.schedules = twice);
  DECLARE("schedules[1].name", "twice", request.owner = T("app"); request.n_schedules = 2; request.schedules = twice);
  DECLARE("schedules[1].name", "required", request.owner = T("app"); request.n_schedules = 2; request.schedules = mixed);
#define PREVIEW(...) REQUEST(Millrace__V1__PreviewScheduleRequest, MILLRACE__V1__PREVIEW_SCHEDULE_REQUEST__INIT, __VA_ARGS__)
  PREVIEW("timing", "required", (void)0);
  PREVIEW(NULL, "", request.timing = &timing; request.count = 100);
  PREVIEW("count", "0 to 100", request.timing = &timing; request.count = 101);
}

static void test_queue_settings(void **state) {
  (void)state;
  Google__Protobuf__Duration over_year = duration_of(365 * DAY_S, 1), year = duration_of(365 * DAY_S, 0);
  Google__Protobuf__DoubleValue rate = GOOGLE__PROTOBUF__DOUBLE_VALUE__INIT;
  Google__Protobuf__UInt32Value number = GOOGLE__PROTOBUF__UINT32_VALUE__INIT;
  Millrace__V1__RetryPolicy policy = MILLRACE__V1__RETRY_POLICY__INIT;
#define SETTINGS(field_, told_, ...)                                                                                             \
  REQUEST(Millrace__V1__UpdateQueueRequest, MILLRACE__V1__UPDATE_QUEUE_REQUEST__INIT, field_, told_,                             \
          Millrace__V1__QueueSettings settings = MILLRACE__V1__QUEUE_SETTINGS__INIT;                                             \
          request.name = T("q"); request.settings = &settings; __VA_ARGS__)
  SETTINGS(NULL, "", request.settings = NULL);
  SETTINGS(NULL, "", settings.rate_per_second = &rate); /* 0: no limit */
  SETTINGS("settings.rate_per_second", "0.001 to 1e+06", rate.value = 0.0001; settings.rate_per_second = &rate);
  SETTINGS("settings.rate_per_second", "0.001 to 1e+06", rate.value = -1; settings.rate_per_second = &rate);
  SETTINGS("settings.rate_per_second.value", "not finite", rate.value = INFINITY; settings.rate_per_second = &rate);
  SETTINGS("settings.rate_burst", "1 to 1000000", settings.rate_burst = &number);
  SETTINGS("settings.retention_count", "0 to 10000000", number.value = 10000001; settings.retention_count = &number);
  SETTINGS("settings.retry_policy.multiplier", "1 to 100", policy.multiplier = 101; settings.retry_policy = &policy);
  SETTINGS("settings.attempt_timeout", "365 days", settings.attempt_timeout = &over_year);
  SETTINGS("settings.retention", "365 days", settings.retention = &over_year);
  SETTINGS("settings.retention_failed", "365 days", settings.retention_failed = &over_year);
  SETTINGS(NULL, "", settings.retention_failed = &year);
  SETTINGS("settings.mode", "QUEUE_MODE_WEIGHTED", settings.mode = (Millrace__V1__QueueMode)3);
}

static void test_register(void **state) {
  (void)state;
  Google__Protobuf__Duration over_year = duration_of(365 * DAY_S, 1);
  Millrace__V1__WorkerQueue queue = MILLRACE__V1__WORKER_QUEUE__INIT, *queues[101];
  Millrace__V1__WorkerTask task = MILLRACE__V1__WORKER_TASK__INIT, *tasks[1001];
  Millrace__V1__RetryPolicy policy = MILLRACE__V1__RETRY_POLICY__INIT;
  queue.name = T("q");
  task.name = T("t");
  for (int i = 0; i < 101; i++)
    queues[i] = &queue;
  for (int i = 0; i < 1001; i++)
    tasks[i] = &task;
#define REGISTER(field_, told_, ...)                                                                                             \
  REQUEST(Millrace__V1__RegisterRequest, MILLRACE__V1__REGISTER_REQUEST__INIT, field_, told_, request.n_queues = 1;              \
          request.queues = queues; request.n_tasks = 1; request.tasks = tasks; request.concurrency = 1; __VA_ARGS__)
  REGISTER(NULL, "", (void)0);
  REGISTER("queues", "1 to 100", request.n_queues = 0);
  REGISTER("queues", "at most 100", request.n_queues = 101);
  REGISTER("queues[1].name", "'q' is there twice", request.n_queues = 2);
  REGISTER("tasks", "1 to 1000", request.n_tasks = 0);
  REGISTER("tasks", "at most 1000", request.n_tasks = 1001);
  REGISTER("tasks[1].name", "'t' is there twice", request.n_tasks = 2);
  REGISTER("concurrency", "1 to 10000; it is 0", request.concurrency = 0);
  REGISTER("concurrency", "10001", request.concurrency = 10001);
  REGISTER("prefetch", "0 to 10000", request.prefetch = 10001);
  REGISTER("hostname", "at most 256", request.hostname = long_text(257, 'h'));
  REGISTER("sdk", "at most 128", request.sdk = long_text(129, 'h'));
  REGISTER("resume_session_token", "both", request.resume_session_id = UUID);
  REGISTER("resume_session_token", "both", request.resume_session_token = T("x"));
  REGISTER(NULL, "", request.resume_session_id = UUID; request.resume_session_token = T("x"));
  REGISTER("resume_session_id", "UUID", request.resume_session_id = T("x"); request.resume_session_token = T("x"));
  REGISTER("queues[0].weight", "0 to 1000", queue.weight = 1001);
  queue.weight = 1000;
  REGISTER("queues[0].name", "required", queue.name = T(""));
  REGISTER("queues[0].name", "consists of", queue.name = T("*"));
  queue.name = T("q");
  REGISTER(NULL, "", task.name = T("*"));
  REGISTER("tasks[0].name", "consists of", task.name = T("a*"));
  task.name = T("t");
  REGISTER("tasks[0].retry_policy.max_attempts", "1001", task.retry_policy = &policy; policy.max_attempts = 1001);
  policy.max_attempts = 0;
  REGISTER("tasks[0].attempt_timeout", "365 days", task.attempt_timeout = &over_year);
}

/* ---- every request there is ---- */

static const ProtobufCServiceDescriptor *const services[] = {
    &millrace__v1__job_service__descriptor,   &millrace__v1__schedule_service__descriptor,
    &millrace__v1__chain_service__descriptor, &millrace__v1__batch_service__descriptor,
    &millrace__v1__queue_service__descriptor, &millrace__v1__worker_service__descriptor,
    &millrace__v1__admin_service__descriptor,
};

/* Spoils each field of a message in turn, also inside its messages, and expects the path of the field in the error. */
static void spoil(ProtobufCMessage *root, ProtobufCMessage *message, const char *path, int depth) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  for (unsigned i = 0; i < type->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &type->fields[i];
    void *at = (char *)message + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
      continue;
    char *field_path = g_strconcat(path, path[0] ? "." : "", field->name, NULL);
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    uint32_t *which = (uint32_t *)(void *)((char *)message + field->quantifier_offset);
    if (is_oneof)
      *which = field->id;
    struct error error = {.field = ""};
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_ENUM) {
      bool is_text = field->type == PROTOBUF_C_TYPE_STRING;
      char *text_before = is_text ? *(char **)at : NULL;
      int number_before = is_text ? 0 : *(int *)at;
      if (is_text)
        *(char **)at = BAD_UTF8;
      else
        *(int *)at = 12345;
      if (validate_request(root, &error) != STATUS_INVALID_ARGUMENT || strcmp(error.field, field_path) != 0)
        fail_msg("%s: %s: got '%s' %s", root->descriptor->name, field_path, error.field, error.message);
      if (is_text)
        *(char **)at = text_before;
      else
        *(int *)at = number_before;
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE && depth < 6) {
      const ProtobufCMessageDescriptor *child_type = field->descriptor;
      ProtobufCMessage *child = g_malloc0(child_type->sizeof_message);
      protobuf_c_message_init(child_type, child);
      *(ProtobufCMessage **)at = child;
      spoil(root, child, field_path, depth + 1);
      *(ProtobufCMessage **)at = NULL;
      g_free(child);
    }
    if (is_oneof)
      *which = 0;
    g_free(field_path);
  }
}

static void test_every_request_is_checked(void **state) {
  (void)state;
  unsigned count = 0;
  for (size_t s = 0; s < G_N_ELEMENTS(services); s++)
    for (unsigned m = 0; m < services[s]->n_methods; m++) {
      const ProtobufCMessageDescriptor *type = services[s]->methods[m].input;
      ProtobufCMessage *message = g_malloc0(type->sizeof_message);
      protobuf_c_message_init(type, message);
      struct error error = {.message = ""};
      enum status status = validate_request(message, &error);
      bool is_attach = type == &millrace__v1__attach_request__descriptor; /* its messages belong to the hub */
      if ((status == STATUS_INTERNAL) != is_attach)
        fail_msg("%s: %s", type->name, error.message);
      if (!is_attach)
        spoil(message, message, "", 0);
      g_free(message);
      count++;
    }
  assert_int_equal(count, 51);
}

static void test_error_may_be_left_out(void **state) {
  (void)state;
  JobSpec job = MILLRACE__V1__JOB_SPEC__INIT;
  assert_int_equal(validate_job_spec(&job, JOB_ALONE, NULL), STATUS_INVALID_ARGUMENT);
  job.task = BAD_UTF8;
  assert_int_equal(validate_job_spec(&job, JOB_ALONE, NULL), STATUS_INVALID_ARGUMENT);
  Millrace__V1__CreateJobRequest request = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  request.job = &job;
  assert_int_equal(validate_request(&request.base, NULL), STATUS_INVALID_ARGUMENT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_job_names),
      cmocka_unit_test(test_job_times),
      cmocka_unit_test(test_job_policy),
      cmocka_unit_test(test_job_payload),
      cmocka_unit_test(test_job_keys_and_labels),
      cmocka_unit_test(test_job_places),
      cmocka_unit_test(test_single_fields_of_requests),
      cmocka_unit_test(test_creates),
      cmocka_unit_test(test_chains_and_batches),
      cmocka_unit_test(test_filters),
      cmocka_unit_test(test_schedules),
      cmocka_unit_test(test_queue_settings),
      cmocka_unit_test(test_register),
      cmocka_unit_test(test_every_request_is_checked),
      cmocka_unit_test(test_error_may_be_left_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
