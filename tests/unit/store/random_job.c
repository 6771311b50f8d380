/* SPDX-License-Identifier: Apache-2.0 */
#include "random_job.h"

#include <stdlib.h>

GRand *random_new(void) {
  const char *given = getenv("TEST_SEED");
  const guint32 seed = given ? (guint32)strtoul(given, NULL, 10) : (guint32)g_get_real_time();
  g_print("TEST_SEED=%u\n", seed);
  return g_rand_new_with_seed(seed);
}

static bool one_in(GRand *random, int n) {
  return g_rand_int_range(random, 0, n) == 0;
}

static uint64_t random_u64(GRand *random) {
  return (uint64_t)g_rand_int(random) << 32 | g_rand_int(random);
}

/* Small and large ones alike. */
static int64_t random_time(GRand *random) {
  return (int64_t)(random_u64(random) >> g_rand_int_range(random, 1, 64));
}

static const char *random_text(GRand *random, struct arena *arena, int bytes_max) {
  const int length = g_rand_int_range(random, 1, bytes_max + 1);
  char *text = arena_alloc(arena, (size_t)length + 1);
  for (int i = 0; i < length; i++)
    text[i] = (char)g_rand_int_range(random, 1, 256);
  text[length] = '\0';
  return text;
}

static const char *maybe_text(GRand *random, struct arena *arena, int bytes_max) {
  return one_in(random, 2) ? "" : random_text(random, arena, bytes_max);
}

struct id random_id(GRand *random) {
  struct id id;
  for (size_t i = 0; i < ID_BYTES; i++)
    id.bytes[i] = (uint8_t)g_rand_int(random);
  return id;
}

static struct id maybe_id(GRand *random) {
  const struct id none = {{0}};
  return one_in(random, 2) ? none : random_id(random);
}

static struct job_error random_error(GRand *random, struct arena *arena) {
  if (one_in(random, 2))
    return (struct job_error){"", "", "", ""};
  return (struct job_error){random_text(random, arena, 30), maybe_text(random, arena, 300), maybe_text(random, arena, 300), ""};
}

struct policy random_policy(GRand *random, struct arena *arena) {
  struct policy policy = {.attempts_max = g_rand_int(random) % 1001,
                          .kind = (enum backoff_kind)g_rand_int_range(random, 0, BACKOFF_LIST + 1),
                          .initial_ms = random_time(random) % 31536000000,
                          .multiplier = g_rand_double_range(random, 1, 100),
                          .delay_max_ms = random_time(random) % 31536000000,
                          .has_jitter = one_in(random, 2),
                          .has_attempt_timeout = one_in(random, 2)};
  policy.jitter = policy.has_jitter ? g_rand_double(random) : 0;
  policy.attempt_timeout_ms = policy.has_attempt_timeout ? random_time(random) % 31536000000 : 0;
  if (policy.kind == BACKOFF_LIST) {
    policy.delays = (size_t)g_rand_int_range(random, 1, POLICY_DELAYS_MAX + 1);
    int64_t *delays = arena_alloc(arena, policy.delays * sizeof *delays);
    for (size_t i = 0; i < policy.delays; i++)
      delays[i] = random_time(random) % 31536000000;
    policy.delays_ms = delays;
  }
  return policy;
}

static void random_labels(GRand *random, struct arena *arena, struct job *job) {
  const int count = one_in(random, 2) ? 0 : g_rand_int_range(random, 0, JOB_LABELS_MAX + 1);
  struct label *labels = arena_alloc(arena, (size_t)count * sizeof *labels);
  for (int i = 0; i < count; i++) /* keys differ by their number */
    labels[i] = (struct label){arena_printf(arena, "%d%.60s", i, random_text(random, arena, 60)), maybe_text(random, arena, 256)};
  job->labels = count ? labels : NULL;
  job->label_count = (size_t)count;
}

static void random_history(GRand *random, struct arena *arena, struct job *job) {
  const int count = g_rand_int_range(random, 0, JOB_HISTORY_MAX + 1);
  struct attempt *attempts = arena_alloc(arena, (size_t)count * sizeof *attempts);
  for (int i = 0; i < count; i++)
    attempts[i] = (struct attempt){.delivery = g_rand_int(random),
                                   .session = maybe_id(random),
                                   .started_ms = random_time(random),
                                   .finished_ms = random_time(random),
                                   .outcome = (enum attempt_outcome)g_rand_int_range(random, 1, ATTEMPT_UNKNOWN_TASK + 1),
                                   .error = random_error(random, arena)};
  job->history = count ? attempts : NULL;
  job->history_count = (size_t)count;
}

static void random_place(GRand *random, struct job *job) {
  static const uint8_t priorities[] = {0, 5, 8, 10};
  job->state = (enum job_state)g_rand_int_range(random, JOB_SCHEDULED, JOB_PARKED + 1);
  job->priority = priorities[g_rand_int_range(random, 0, 4)];
  job->sequence = random_u64(random) >> g_rand_int_range(random, 0, 64);
  job->deliveries = one_in(random, 2) ? 0 : g_rand_int(random);
  job->run_at_ms = random_time(random);
  job->expires_at_ms = one_in(random, 2) ? 0 : random_time(random);
  job->deadline_ms = one_in(random, 2) ? 0 : random_time(random);
  job->delete_at_ms = random_time(random);
  job->unique_held = job->unique_key[0] && one_in(random, 2);
}

static void random_rest(GRand *random, struct arena *arena, struct job *job) {
  job->keeps_place = one_in(random, 2);
  job->generation = g_rand_int(random);
  job->attempts = g_rand_int(random);
  job->lost_count = g_rand_int(random);
  job->created_ms = random_time(random);
  job->total_timeout_ms = random_time(random);
  job->started_ms = random_time(random);
  job->finished_ms = random_time(random);
  job->retention_ms = one_in(random, 2) ? -1 : random_time(random);
  job->cancel_requested = one_in(random, 2);
  job->terminate_requested = one_in(random, 2);
  job->unique_scope = (enum unique_scope)g_rand_int_range(random, 0, UNIQUE_PERIOD + 1);
  job->unique_until_ms = random_time(random);
  job->concurrency_limit = g_rand_int(random);
  job->chain_next = maybe_id(random);
  job->chain_delay_ms = random_time(random);
  job->cancelled_by_chain = one_in(random, 2);
  job->counted = one_in(random, 2);
  job->result_apart = one_in(random, 2);
  job->result_omitted_reason = maybe_text(random, arena, 100);
  job->error = random_error(random, arena);
  job->content_hash[0] = random_u64(random);
  job->content_hash[1] = random_u64(random);
  job->unknown_task_since_ms = random_time(random);
  job->session = maybe_id(random);
  job->has_log = one_in(random, 2);
  job->attempts_max = g_rand_int(random) % 1001;
  job->has_policy = one_in(random, 2);
  job->policy = job->has_policy ? random_policy(random, arena) : (struct policy){0};
  if (one_in(random, 2)) {
    const char *text = random_text(random, arena, 1024);
    job->result = (struct bytes){(const uint8_t *)text, strlen(text)};
  }
}

struct job random_job(GRand *random, struct arena *arena) {
  struct job job = job_empty;
  job.id = random_id(random);
  job.queue = g_rand_int(random);
  job.task = g_rand_int(random);
  job.unique_key = maybe_text(random, arena, 256);
  job.concurrency_key = maybe_text(random, arena, 256);
  job.chain_id = maybe_id(random);
  job.chain_index = g_rand_int(random);
  job.batch_id = maybe_id(random);
  job.schedule_uid = maybe_id(random);
  job.schedule_name = maybe_text(random, arena, 128);
  random_labels(random, arena, &job);
  random_history(random, arena, &job);
  random_rest(random, arena, &job);
  random_place(random, &job);
  return job;
}

struct job random_change(GRand *random, struct arena *arena, const struct job *job) {
  struct job changed = *job;
  if (!one_in(random, 4))
    random_place(random, &changed);
  if (one_in(random, 4))
    random_labels(random, arena, &changed);
  if (one_in(random, 4))
    random_history(random, arena, &changed);
  if (one_in(random, 4))
    random_rest(random, arena, &changed);
  return changed;
}

struct job plain_job(unsigned number) {
  struct job job = job_empty;
  job.id = id_make_v7(1700000000000 + number, 0, number);
  job.state = JOB_PENDING;
  job.queue = 1;
  job.task = 2;
  job.priority = 5;
  job.sequence = 1000 + number;
  job.generation = 1;
  job.created_ms = 1700000000000 + number;
  job.run_at_ms = job.created_ms;
  return job;
}
