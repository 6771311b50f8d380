/* SPDX-License-Identifier: Apache-2.0 */
/* Each row of the table of transitions in docs/jobs.md, then what the transitions promise beside the state. */
#include "testing.h"

#include "core/job.h"
#include "core/limits.h"

enum { NOW = 1000000, STARTED = 990000, DELAY_MS = 7000, OLD_SEQUENCE = 11, NEW_SEQUENCE = 99 };

static struct arena *arena;
static const struct policy policy = {
    .attempts_max = 3, .kind = BACKOFF_CONSTANT, .initial_ms = DELAY_MS, .delay_max_ms = HOUR_MS, .has_jitter = true};

static struct delivery_end ending(void) {
  return (struct delivery_end){.now_ms = NOW, .started_ms = STARTED, .session = {{7}}, .arena = arena};
}

static struct job job_in(enum job_state state) {
  struct job job = job_empty;
  job.id.bytes[0] = 1;
  job.state = state;
  job.generation = 1;
  job.sequence = OLD_SEQUENCE;
  job.created_ms = 5;
  job.run_at_ms = 10;
  job.retention_ms = -1;
  return job;
}

static const struct job_error handler_error = {
    .type = "ValueError", .message = "no such order", .trace = "", .fingerprint = "ab"};

/* ---- events ---- */

static void fail_once(struct job *job) {
  job_fail(job, &(struct delivery_end){NOW, STARTED, {{7}}, arena}, &(struct failure){.error = handler_error}, &policy, 0.5);
}
static void fail_last(struct job *job) {
  job->attempts = policy.attempts_max - 1;
  fail_once(job);
}
static void fail_permanent(struct job *job) {
  struct delivery_end end = ending();
  job_fail(job, &end, &(struct failure){.error = handler_error, .permanent = true}, &policy, 0.5);
}
static void fail_after_deadline(struct job *job) {
  job->deadline_ms = NOW;
  fail_once(job);
}
static void fail_before_deadline(struct job *job) {
  job->deadline_ms = NOW + 1; /* before the retry: its own timer ends the job */
  fail_once(job);
}
static void confirm(struct job *job) {
  struct delivery_end end = ending();
  job_fail(job, &end, &(struct failure){.error = handler_error, .cancelled = true}, &policy, 0.5);
}
static void succeed(struct job *job) {
  struct delivery_end end = ending();
  job_succeed(job, &end, (struct bytes){(const uint8_t *)"r", 1}, false, NULL);
}
static void snooze(struct job *job) {
  struct delivery_end end = ending();
  job_snooze(job, &end, DELAY_MS);
}
static void give_back(struct job *job) {
  struct delivery_end end = ending();
  job_release(job, &end);
}
static void unknown_task(struct job *job) {
  struct delivery_end end = ending();
  job_meet_unknown_task(job, &end);
}
static void unknown_task_again(struct job *job) {
  job->unknown_task_since_ms = NOW - UNKNOWN_TASK_MAX_MS + 1;
  unknown_task(job);
}
static void unknown_task_long(struct job *job) {
  job->unknown_task_since_ms = NOW - UNKNOWN_TASK_MAX_MS;
  unknown_task(job);
}
static void lose(struct job *job) {
  struct delivery_end end = ending();
  job_lose(job, &end, &policy, 0.5);
}
static void lose_third(struct job *job) {
  job->lost_count = JOB_LOSSES_MAX - 1;
  lose(job);
}
static void time_out(struct job *job) {
  struct delivery_end end = ending();
  job_time_out(job, &end, &policy, 0.5);
}
static void time_out_last(struct job *job) {
  job->attempts = policy.attempts_max - 1;
  time_out(job);
}
static void miss_deadline(struct job *job) {
  struct delivery_end end = ending();
  job_miss_deadline(job, job->state == JOB_RUNNING ? &end : NULL, NOW);
}
static void expire(struct job *job) {
  job_expire(job, NOW);
}
static void cancel(struct job *job) {
  job_cancel(job, NOW, &(struct job_error){"CANCELLED", "why", "", ""});
}
static void make_ready(struct job *job) {
  job_make_ready(job, NEW_SEQUENCE, NOW);
}
static void lease(struct job *job) {
  job_lease(job);
}
static void park(struct job *job) {
  job_park(job);
}
static void unpark(struct job *job) {
  job_unpark(job);
}
static void delay(struct job *job) {
  job_delay(job, NOW + DELAY_MS);
}
static void retry(struct job *job) {
  job_retry(job, NEW_SEQUENCE, NOW, false);
}
static void retry_blocked(struct job *job) {
  job_retry(job, NEW_SEQUENCE, NOW, true);
}

#define STATES(...) ((enum job_state[]){__VA_ARGS__, 0})

static const struct row {
  const char *name;
  const enum job_state *from; /* each of them */
  void (*event)(struct job *job);
  enum job_state to;
  const char *error_type;
  enum attempt_outcome outcome; /* 0: no delivery ends */
  bool cancel_requested;
  int64_t run_at_ms; /* 0: not looked at */
} rows[] = {
#define WAITING STATES(JOB_PENDING, JOB_PARKED, JOB_SCHEDULED, JOB_RETRYING, JOB_BLOCKED)
#define RUNNING STATES(JOB_RUNNING)
    {"due", STATES(JOB_SCHEDULED, JOB_RETRYING, JOB_BLOCKED), make_ready, JOB_PENDING, "", 0, false, 10},
    {"leased", STATES(JOB_PENDING), lease, JOB_RUNNING, "", 0, false, 10},
    {"parked", STATES(JOB_PENDING), park, JOB_PARKED, "", 0, false, 10},
    {"un-parked", STATES(JOB_PARKED), unpark, JOB_PENDING, "", 0, false, 10},
    {"step delayed", STATES(JOB_BLOCKED), delay, JOB_SCHEDULED, "", 0, false, NOW + DELAY_MS},
    {"cancel", WAITING, cancel, JOB_CANCELLED, "CANCELLED", 0, false, 0},
    {"expires", WAITING, expire, JOB_EXPIRED, "EXPIRED", 0, false, 0},
    {"deadline while waiting", WAITING, miss_deadline, JOB_EXPIRED, "DEADLINE", 0, false, 0},
    {"succeeds", RUNNING, succeed, JOB_SUCCEEDED, "", ATTEMPT_SUCCEEDED, false, 0},
    {"succeeds after a cancel request", RUNNING, succeed, JOB_SUCCEEDED, "", ATTEMPT_SUCCEEDED, true, 0},
    {"fails, attempts left", RUNNING, fail_once, JOB_RETRYING, "ValueError", ATTEMPT_FAILED, false, NOW + DELAY_MS},
    {"fails, none left", RUNNING, fail_last, JOB_FAILED, "ValueError", ATTEMPT_FAILED, false, 0},
    {"fails for good", RUNNING, fail_permanent, JOB_FAILED, "ValueError", ATTEMPT_FAILED, false, 0},
    {"confirms without a request", RUNNING, confirm, JOB_RETRYING, "ValueError", ATTEMPT_FAILED, false, NOW + DELAY_MS},
    {"fails behind the deadline", RUNNING, fail_after_deadline, JOB_FAILED, "DEADLINE", ATTEMPT_FAILED, false, 0},
    {"fails before the deadline", RUNNING, fail_before_deadline, JOB_RETRYING, "ValueError", ATTEMPT_FAILED, false,
     NOW + DELAY_MS},
    {"snoozes", RUNNING, snooze, JOB_SCHEDULED, "", ATTEMPT_SNOOZED, false, NOW + DELAY_MS},
    {"released", RUNNING, give_back, JOB_PENDING, "", ATTEMPT_RELEASED, false, 10},
    {"unknown task", RUNNING, unknown_task, JOB_SCHEDULED, "", ATTEMPT_UNKNOWN_TASK, false, NOW + 5000},
    {"unknown task again", RUNNING, unknown_task_again, JOB_SCHEDULED, "", ATTEMPT_UNKNOWN_TASK, false, NOW + 5000},
    {"unknown task for 10 min", RUNNING, unknown_task_long, JOB_FAILED, "UNKNOWN_TASK", ATTEMPT_UNKNOWN_TASK, false, 0},
    {"lost", RUNNING, lose, JOB_RETRYING, "WORKER_LOST", ATTEMPT_LOST, false, NOW + DELAY_MS},
    {"lost a third time", RUNNING, lose_third, JOB_FAILED, "WORKER_LOST", ATTEMPT_LOST, false, 0},
    {"times out", RUNNING, time_out, JOB_RETRYING, "TIMEOUT", ATTEMPT_TIMED_OUT, false, NOW + DELAY_MS},
    {"times out, none left", RUNNING, time_out_last, JOB_FAILED, "TIMEOUT", ATTEMPT_TIMED_OUT, false, 0},
    {"deadline while running", RUNNING, miss_deadline, JOB_FAILED, "DEADLINE", ATTEMPT_TIMED_OUT, false, 0},
    {"deadline, cancel requested", RUNNING, miss_deadline, JOB_FAILED, "DEADLINE", ATTEMPT_TIMED_OUT, true, 0},
    {"cancel requested, fails", RUNNING, fail_once, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, confirms", RUNNING, confirm, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, times out", RUNNING, time_out, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, snoozes", RUNNING, snooze, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, released", RUNNING, give_back, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, unknown task", RUNNING, unknown_task, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"cancel requested, lost", RUNNING, lose, JOB_CANCELLED, "CANCELLED", ATTEMPT_CANCELLED, true, 0},
    {"retried", STATES(JOB_FAILED, JOB_CANCELLED, JOB_EXPIRED), retry, JOB_PENDING, "", 0, false, NOW},
    {"retried, blocked", STATES(JOB_CANCELLED), retry_blocked, JOB_BLOCKED, "", 0, false, NOW},
};

static void check_row(const struct row *row, enum job_state from) {
  struct job job = job_in(from);
  if (row->cancel_requested)
    job_request_cancel(&job, true);
  row->event(&job);
  if (job.state != row->to || strcmp(job.error.type, row->error_type) != 0)
    fail_msg("%s from %d: state %d error '%s'", row->name, from, job.state, job.error.type);
  assert_int_equal(job.deliveries, row->outcome ? 1 : 0);
  assert_int_equal(job.history_count, row->outcome ? 1 : 0);
  if (row->outcome) {
    const struct attempt *attempt = &job.history[0];
    assert_int_equal(attempt->outcome, row->outcome);
    assert_int_equal(attempt->delivery, 1);
    assert_int_equal(attempt->started_ms, STARTED);
    assert_int_equal(attempt->finished_ms, NOW);
    assert_int_equal(attempt->session.bytes[0], 7);
    assert_int_equal(job.started_ms, STARTED);
    assert_int_equal(job.session.bytes[0], 7);
  }
  if (row->run_at_ms)
    assert_int_equal(job.run_at_ms, row->run_at_ms);
  assert_int_equal(job.finished_ms, job_is_terminal(row->to) ? NOW : 0);
  if (job_is_terminal(row->to))
    assert_false(job.cancel_requested || job.terminate_requested || job.keeps_place);
}

static void test_table(void **state) {
  (void)state;
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    for (const enum job_state *from = rows[i].from; *from; from++)
      check_row(&rows[i], *from);
}

static void test_what_counts_as_an_attempt(void **state) {
  (void)state;
  static const struct {
    void (*event)(struct job *job);
    uint32_t attempts, losses;
  } cases[] = {{succeed, 1, 0},   {fail_once, 1, 0},    {time_out, 1, 0}, {snooze, 0, 0},
               {give_back, 0, 0}, {unknown_task, 0, 0}, {lose, 0, 1},     {expire, 0, 0}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct job job = job_in(cases[i].event == expire ? JOB_PENDING : JOB_RUNNING);
    cases[i].event(&job);
    assert_int_equal(job.attempts, cases[i].attempts);
    assert_int_equal(job.lost_count, cases[i].losses);
  }
}

static void test_place_in_the_queue(void **state) {
  (void)state;
  static const struct {
    void (*event)(struct job *job);
    uint64_t sequence; /* once it is PENDING again */
  } cases[] = {{fail_once, NEW_SEQUENCE}, {time_out, NEW_SEQUENCE},     {snooze, NEW_SEQUENCE},
               {lose, OLD_SEQUENCE},      {unknown_task, OLD_SEQUENCE}, {give_back, OLD_SEQUENCE}};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct job job = job_in(JOB_RUNNING);
    cases[i].event(&job);
    if (job.state != JOB_PENDING)
      job_make_ready(&job, NEW_SEQUENCE, NOW + DELAY_MS);
    assert_int_equal(job.sequence, cases[i].sequence);
    assert_false(job.keeps_place);
  }
}

static void test_ready_time(void **state) {
  (void)state;
  struct job job = job_in(JOB_BLOCKED);
  job.run_at_ms = 0;
  make_ready(&job);
  assert_int_equal(job.run_at_ms, NOW);
  job = job_in(JOB_SCHEDULED);
  job.run_at_ms = NOW + 50; /* made ready early, by a person */
  make_ready(&job);
  assert_int_equal(job.run_at_ms, NOW);
}

static void test_failure_overrides_policy(void **state) {
  (void)state;
  struct delivery_end end = ending();
  struct failure failure = {.error = handler_error, .has_retry_after = true, .retry_after_ms = 123};
  struct job job = job_in(JOB_RUNNING);
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_int_equal(job.run_at_ms, NOW + 123);
  failure.retry_after_ms = INT64_MAX;
  job = job_in(JOB_RUNNING);
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_int_equal(job.run_at_ms, NOW + POLICY_DELAY_MAX_MS);
  failure.retry_after_ms = -5;
  job = job_in(JOB_RUNNING);
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_int_equal(job.run_at_ms, NOW);
  failure.attempts_max = 1;
  job = job_in(JOB_RUNNING);
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_int_equal(job.state, JOB_FAILED);
  failure.attempts_max = 10;
  job = job_in(JOB_RUNNING);
  job.attempts = 8;
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_int_equal(job.state, JOB_RETRYING);
}

static void test_failure_without_a_word(void **state) {
  (void)state;
  struct delivery_end end = ending();
  struct job job = job_in(JOB_RUNNING);
  struct failure failure = {.error = {"", "", "", ""}};
  job_fail(&job, &end, &failure, &policy, 0.5);
  assert_string_equal(job.error.type, "FAILED");
  assert_string_equal(job.history[0].error.type, "FAILED");
}

static void test_losses_back_off_by_their_own_count(void **state) {
  (void)state;
  struct policy doubling = {.attempts_max = 5,
                            .kind = BACKOFF_EXPONENTIAL,
                            .initial_ms = 100,
                            .multiplier = 2,
                            .delay_max_ms = HOUR_MS,
                            .has_jitter = true};
  struct delivery_end end = ending();
  struct job job = job_in(JOB_RUNNING);
  job.attempts = 4;
  job_lose(&job, &end, &doubling, 0.5);
  assert_int_equal(job.run_at_ms, NOW + 100);
  job.state = JOB_RUNNING;
  job_lose(&job, &end, &doubling, 0.5);
  assert_int_equal(job.run_at_ms, NOW + 200);
  job.state = JOB_RUNNING;
  job_lose(&job, &end, &doubling, 0.5);
  assert_int_equal(job.state, JOB_FAILED);
  assert_int_equal(job.attempts, 4);
}

static void test_history_keeps_the_last_ten(void **state) {
  (void)state;
  struct delivery_end end = ending();
  struct job job = job_in(JOB_RUNNING);
  for (int i = 0; i < 13; i++) {
    job.state = JOB_RUNNING;
    end.now_ms = NOW + i;
    job_release(&job, &end);
  }
  assert_int_equal(job.deliveries, 13);
  assert_int_equal(job.history_count, JOB_HISTORY_MAX);
  assert_int_equal(job.history[0].delivery, 4);
  assert_int_equal(job.history[9].delivery, 13);
  assert_int_equal(job.history[9].finished_ms, NOW + 12);
}

static void test_unique_keys(void **state) {
  (void)state;
  static const struct {
    enum unique_scope scope;
    int64_t until_ms;
    bool held_running, held_retrying, held_ended;
  } cases[] = {
      {UNIQUE_WHILE_WAITING, 0, false, false, false},
      {UNIQUE_UNTIL_FINISHED, 0, true, true, false},
      {UNIQUE_PERIOD, NOW + 100000, true, true, true},
      {UNIQUE_PERIOD, NOW - 1, true, true, false},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct job job = job_in(JOB_PENDING);
    job.unique_key = "k";
    job.unique_scope = cases[i].scope;
    job.unique_until_ms = cases[i].until_ms;
    job.unique_held = true;
    lease(&job);
    assert_int_equal(job.unique_held, cases[i].held_running);
    fail_once(&job);
    assert_int_equal(job.state, JOB_RETRYING);
    assert_int_equal(job.unique_held, cases[i].held_retrying);
    cancel(&job);
    assert_int_equal(job.unique_held, cases[i].held_ended);
    assert_int_equal(job_delete_at(&job, 1000), cases[i].held_ended ? cases[i].until_ms : NOW + 1000);
    assert_int_equal(job_delete_at(&job, 200000), NOW + 200000);
  }
}

static void test_cancel_reason_is_kept(void **state) {
  (void)state;
  struct job job = job_in(JOB_RUNNING);
  job_request_cancel(&job, false);
  job.error = (struct job_error){"CANCELLED", "wrong customer", "", ""};
  job_request_cancel(&job, true);
  assert_true(job.terminate_requested);
  job_request_cancel(&job, false);
  assert_true(job.terminate_requested); /* a milder request takes nothing back */
  fail_once(&job);
  assert_string_equal(job.error.message, "wrong customer");
  assert_string_equal(job.history[0].error.message, "wrong customer");
}

static void test_success_tells_its_result(void **state) {
  (void)state;
  struct delivery_end end = ending();
  struct job job = job_in(JOB_RUNNING);
  job.error = handler_error; /* of the attempt before */
  job_succeed(&job, &end, (struct bytes){0}, true, "too big");
  assert_true(job.result_apart);
  assert_string_equal(job.result_omitted_reason, "too big");
  assert_string_equal(job.error.type, "");
}

static void test_unknown_task_begins_anew_once_a_handler_ran(void **state) {
  (void)state;
  struct job job = job_in(JOB_RUNNING);
  unknown_task(&job);
  assert_int_equal(job.unknown_task_since_ms, NOW);
  job.state = JOB_RUNNING;
  snooze(&job);
  assert_int_equal(job.unknown_task_since_ms, 0);
}

static void test_retry_begins_a_generation(void **state) {
  (void)state;
  struct job job = job_in(JOB_FAILED);
  job.generation = 2;
  job.deliveries = 9;
  job.attempts = 3;
  job.lost_count = 2;
  job.total_timeout_ms = 5000;
  job.deadline_ms = 77;
  job.expires_at_ms = 78;
  job.finished_ms = 79;
  job.delete_at_ms = 80;
  job.started_ms = 81;
  job.error = handler_error;
  job.cancelled_by_chain = true;
  job.result = (struct bytes){(const uint8_t *)"x", 1};
  job.counted = true;
  retry(&job);
  assert_int_equal(job.generation, 3);
  assert_int_equal(job.deliveries, 9);
  assert_int_equal(job.attempts + job.lost_count, 0);
  assert_int_equal(job.deadline_ms, NOW + 5000);
  assert_int_equal(job.expires_at_ms + job.finished_ms + job.delete_at_ms + job.started_ms, 0);
  assert_int_equal(job.sequence, NEW_SEQUENCE);
  assert_int_equal(job.result.length, 0);
  assert_false(job.cancelled_by_chain);
  assert_true(job.counted);
}

static void test_bury_keeps_what_a_repeat_needs(void **state) {
  (void)state;
  struct job job = job_in(JOB_SUCCEEDED);
  job.content_hash[0] = 3;
  job.content_hash[1] = 4;
  job.unique_held = true;
  job.schedule_name = "s";
  job_bury(&job, 1234);
  assert_int_equal(job.state, JOB_DELETED);
  assert_int_equal(job.delete_at_ms, 1234);
  assert_int_equal(job.id.bytes[0], 1);
  assert_int_equal(job.created_ms, 5);
  assert_int_equal(job.content_hash[0] + job.content_hash[1], 7);
  assert_false(job.unique_held);
  assert_string_equal(job.schedule_name, "");
}

/* ---- policies ---- */

static void test_policy_delays(void **state) {
  (void)state;
  static const int64_t delays[] = {5, 10, 20};
  static const struct {
    struct policy policy;
    uint32_t attempt;
    double random;
    int64_t delay_ms;
  } cases[] = {
#define STILL .has_jitter = true, .jitter = 0
      {{.initial_ms = 1000, STILL}, 1, 0.9, 1000},
      {{.initial_ms = 1000, STILL}, 4, 0.9, 8000},
      {{.initial_ms = 1000, STILL}, 1000, 0.9, HOUR_MS}, /* the default cap, however big the power */
      {{.initial_ms = 1000, .multiplier = 1.5, STILL}, 3, 0, 2250},
      {{.initial_ms = 1000, .delay_max_ms = 3000, STILL}, 3, 0, 3000},
      {{.kind = BACKOFF_LINEAR, .initial_ms = 300, STILL}, 5, 0, 1500},
      {{.kind = BACKOFF_CONSTANT, .initial_ms = 300, STILL}, 5, 0, 300},
      {{.kind = BACKOFF_LIST, .delays_ms = delays, .delays = 3, STILL}, 1, 0, 5},
      {{.kind = BACKOFF_LIST, .delays_ms = delays, .delays = 3, STILL}, 3, 0, 20},
      {{.kind = BACKOFF_LIST, .delays_ms = delays, .delays = 3, STILL}, 9, 0, 20},
      {{.kind = BACKOFF_LIST, .initial_ms = 40, STILL}, 9, 0, 40},
      {{.initial_ms = 1000}, 1, 0, 900}, /* default jitter 0.1 */
      {{.initial_ms = 1000}, 1, 0.5, 1000},
      {{.initial_ms = 1000, .delay_max_ms = 1000}, 7, 0.999999, 1100},
      {{.initial_ms = 1000, .has_jitter = true, .jitter = 1}, 1, 0, 0},
      {{.attempts_max = 0}, 0, 0.5, 1000},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    assert_int_equal(policy_delay_ms(&cases[i].policy, cases[i].attempt, cases[i].random), cases[i].delay_ms);
}

static void test_policy_merge(void **state) {
  (void)state;
  static const int64_t delays[] = {5};
  struct policy own = {.attempts_max = 9, .has_jitter = true, .jitter = 0, .has_attempt_timeout = true, .attempt_timeout_ms = 0};
  struct policy queue = {
      .attempts_max = 2, .kind = BACKOFF_LIST, .delays_ms = delays, .delays = 1, .has_jitter = true, .jitter = 0.7};
  struct policy merged = policy_merge(own, &queue);
  merged = policy_merge(merged, &policy_default);
  assert_int_equal(merged.attempts_max, 9);
  assert_int_equal(merged.kind, BACKOFF_LIST);
  assert_int_equal(merged.delays, 1);
  assert_true(merged.jitter == 0);                /* zero is a choice */
  assert_int_equal(merged.attempt_timeout_ms, 0); /* so is none */
  assert_int_equal(merged.initial_ms, 1000);
  assert_true(merged.multiplier == 2);
  assert_int_equal(merged.delay_max_ms, HOUR_MS);
}

/* ---- fingerprints ---- */

static void test_errors_made_here_have_their_fingerprint(void **state) {
  (void)state;
  static void (*const events[])(struct job * job) = {time_out, miss_deadline, lose, unknown_task_long, expire};
  for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
    struct job job = job_in(events[i] == expire ? JOB_PENDING : JOB_RUNNING);
    char expected[JOB_FINGERPRINT_BYTES];
    events[i](&job);
    job_fingerprint("", job.error.type, "", expected);
    assert_string_equal(job.error.fingerprint, expected);
  }
  struct job job = job_in(JOB_RUNNING);
  char expected[JOB_FINGERPRINT_BYTES];
  job_request_cancel(&job, false);
  fail_once(&job);
  job_fingerprint("", "CANCELLED", "", expected);
  assert_string_equal(job.error.fingerprint, expected);
}

static bool same_fingerprint(const char *trace_a, const char *trace_b) {
  char a[JOB_FINGERPRINT_BYTES], b[JOB_FINGERPRINT_BYTES];
  job_fingerprint("t", "E", trace_a, a);
  job_fingerprint("t", "E", trace_b, b);
  return strcmp(a, b) == 0;
}

static void test_fingerprint_goes_by_the_top_frame(void **state) {
  (void)state;
  assert_true(same_fingerprint("E: id 5\n\tat a.B.c(B.java:10)\n\tat a.X.y(X.java:1)",
                               "E: id 77\n\tat a.B.c(B.java:12)\n\tat other(Z.java:3)"));
  assert_false(same_fingerprint("E\n\tat a.B.c(B.java:10)", "E\n\tat a.B.d(B.java:10)"));
  const char *outer = "Traceback (most recent call last):\n  File \"run.py\", line 4, in main\n    f()\n";
  char *a = g_strconcat(outer, "  File \"mail.py\", line 9, in send\n    boom(1)\nE: 1", NULL);
  char *b = g_strconcat(outer, "  File \"mail.py\", line 10, in send\n    boom(2)\nE: 2", NULL);
  char *c = g_strconcat(outer, "  File \"mail.py\", line 9, in connect\n    boom(1)\nE: 1", NULL);
  assert_true(same_fingerprint(a, b));
  assert_false(same_fingerprint(a, c));
  g_free(a);
  g_free(b);
  g_free(c);
  assert_true(same_fingerprint("", "\n \n"));
  char x[JOB_FINGERPRINT_BYTES], y[JOB_FINGERPRINT_BYTES];
  job_fingerprint("ab", "c", "", x);
  job_fingerprint("a", "bc", "", y);
  assert_string_not_equal(x, y);
}

static int make_arena(void **state) {
  (void)state;
  arena = arena_new(0);
  return 0;
}

static int free_arena(void **state) {
  (void)state;
  arena_free(arena);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_what_counts_as_an_attempt),
      cmocka_unit_test(test_place_in_the_queue),
      cmocka_unit_test(test_ready_time),
      cmocka_unit_test(test_failure_overrides_policy),
      cmocka_unit_test(test_failure_without_a_word),
      cmocka_unit_test(test_losses_back_off_by_their_own_count),
      cmocka_unit_test(test_history_keeps_the_last_ten),
      cmocka_unit_test(test_unique_keys),
      cmocka_unit_test(test_cancel_reason_is_kept),
      cmocka_unit_test(test_success_tells_its_result),
      cmocka_unit_test(test_unknown_task_begins_anew_once_a_handler_ran),
      cmocka_unit_test(test_retry_begins_a_generation),
      cmocka_unit_test(test_bury_keeps_what_a_repeat_needs),
      cmocka_unit_test(test_policy_delays),
      cmocka_unit_test(test_policy_merge),
      cmocka_unit_test(test_errors_made_here_have_their_fingerprint),
      cmocka_unit_test(test_fingerprint_goes_by_the_top_frame),
  };
  return cmocka_run_group_tests(tests, make_arena, free_arena);
}
