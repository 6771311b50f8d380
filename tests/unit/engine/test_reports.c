/* SPDX-License-Identifier: Apache-2.0 */
/* Reports that come faster than they can be taken. */
#include "harness.h"

#include <pthread.h>

#include "core/limits.h"
#include "millrace/v1/worker_service.pb-c.h"

enum { MESSAGES = 100, PATIENCE_S = 60 }; /* messages of nearly 4 MiB: more than may wait */

struct world {
  pthread_mutex_t clock; /* held: the engine's thread waits for it at the start of its turn */
  pthread_mutex_t mutex;
  pthread_cond_t change;
  unsigned drops;
};

static int64_t wall_ms(void *context) {
  struct world *world = context;
  pthread_mutex_lock(&world->clock);
  pthread_mutex_unlock(&world->clock);
  return g_get_real_time() / 1000;
}

static void drop(void *context, const struct id *session, uint64_t connection) {
  struct world *world = context;
  (void)session, (void)connection;
  pthread_mutex_lock(&world->mutex);
  world->drops++;
  pthread_cond_broadcast(&world->change);
  pthread_mutex_unlock(&world->mutex);
}

static void wait_for_drop(struct world *world) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock(&world->mutex);
  while (world->drops == 0)
    assert_int_equal(pthread_cond_timedwait(&world->change, &world->mutex, &until), 0);
  pthread_mutex_unlock(&world->mutex);
}

static GByteArray *long_log(void) {
  Millrace__V1__LogLine line = MILLRACE__V1__LOG_LINE__INIT;
  Millrace__V1__LogLine *lines[] = {&line};
  Millrace__V1__LogLines log = MILLRACE__V1__LOG_LINES__INIT;
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Report *list[] = {&report};
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  line.text = g_strnfill(REPORTS_BYTES_MAX - 1024, 'x');
  log.n_lines = reports.n_reports = 1;
  log.lines = lines;
  report.event_case = MILLRACE__V1__REPORT__EVENT_LOG;
  report.log = &log;
  reports.reports = list;
  GByteArray *packed = g_byte_array_new();
  g_byte_array_set_size(packed, (guint)millrace__v1__reports__get_packed_size(&reports));
  millrace__v1__reports__pack(&reports, packed->data);
  g_free(line.text);
  return packed;
}

/* Memory is bounded: the worker is cut off, and sends again what was not taken. */
static void test_reports_that_wait_have_a_limit(void **state) {
  (void)state;
  struct world world = {
      .clock = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};
  struct harness harness;
  harness_open_with(&harness,
                    &(struct engine_options){
                        .seed = 1, .wall_ms = wall_ms, .clock_context = &world, .transport = {.context = &world, .drop = drop}});
  struct id session = harness_add_worker(&harness, "default", 1);
  GByteArray *message = long_log();
  pthread_mutex_lock(&world.clock);
  for (int i = 0; i < MESSAGES; i++)
    engine_session_reports(harness.engine, &session, 1, message->data, message->len);
  pthread_mutex_unlock(&world.clock);
  wait_for_drop(&world);
  g_byte_array_unref(message);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_reports_that_wait_have_a_limit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
