/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker claims in its heartbeats to have read. The clock is the test's: a second goes by at each step. */
#include "harness.h"

#include "core/limits.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

enum { A_MINUTE = 60, A_PING_S = 6 };

struct world {
  struct harness harness;
  int64_t now_ms;
  struct id session;
  uint64_t connection;
  uint64_t ping;         /* the last one that was sent */
  uint64_t delivery_seq; /* of the last message with deliveries */
  unsigned drops, closes;
};

static int64_t now_ms(void *context) {
  return ((struct world *)context)->now_ms;
}

static void sent(void *context, const struct id *session, uint64_t connection, uint8_t *take_bytes, size_t length) {
  struct world *world = context;
  (void)session, (void)connection;
  Millrace__V1__Deliveries *message = millrace__v1__deliveries__unpack(NULL, length, take_bytes);
  assert_non_null(message);
  if (message->ping)
    world->ping = message->ping;
  if (message->delivery_seq)
    world->delivery_seq = message->delivery_seq;
  millrace__v1__deliveries__free_unpacked(message, NULL);
  g_free(take_bytes);
}

static void dropped(void *context, const struct id *session, uint64_t connection) {
  (void)session, (void)connection;
  ((struct world *)context)->drops++;
}

static void closed(void *context, const struct id *session) {
  (void)session;
  ((struct world *)context)->closes++;
}

static void step(struct world *world) {
  world->now_ms += SECOND_MS;
  engine_step(world->harness.engine);
  engine_sync(world->harness.engine);
}

static void beat(struct world *world, uint64_t received_up_to, uint64_t ping) {
  Millrace__V1__Heartbeat heartbeat = MILLRACE__V1__HEARTBEAT__INIT;
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  heartbeat.received_up_to = received_up_to;
  heartbeat.ping = ping;
  reports.heartbeat = &heartbeat;
  uint8_t packed[64];
  engine_session_reports(world->harness.engine, &world->session, world->connection, packed,
                         millrace__v1__reports__pack(&reports, packed));
  step(world);
}

static int open_world(void **state) {
  struct world *world = g_new0(struct world, 1);
  *state = world;
  world->harness = (struct harness){.store = store_open_memory(), .arena = arena_new(0), .is_stepped = true};
  world->now_ms = HOUR_MS;
  world->connection = 1;
  const struct engine_options options = {
      .seed = 1,
      .store = world->harness.store,
      .wall_ms = now_ms,
      .monotonic_ms = now_ms,
      .clock_context = world,
      .transport = {.context = world, .send = sent, .drop = dropped, .session_close = closed},
  };
  assert_int_equal(engine_open(&options, &world->harness.engine, &world->harness.error), STATUS_OK);
  world->session = harness_add_worker(&world->harness, "default", 1);
  return 0;
}

static int close_world(void **state) {
  struct world *world = *state;
  harness_close(&world->harness);
  g_free(world);
  return 0;
}

static void test_who_echoes_pings_stays(void **state) {
  struct world *world = *state;
  for (int i = 0; i < A_MINUTE; i++)
    beat(world, 0, world->ping);
  assert_true(world->ping > A_MINUTE / A_PING_S);
  assert_int_equal(world->drops, 0);
}

static void test_a_ping_that_was_never_sent_is_no_echo(void **state) {
  struct world *world = *state;
  for (int i = 0; i < A_MINUTE; i++)
    beat(world, 0, UINT64_MAX);
  assert_int_equal(world->drops, 1);
}

/* A worker that was started anew has seen none; it is given the time that all have. */
static void test_a_new_connection_owes_no_old_pings(void **state) {
  struct world *world = *state;
  for (int i = 0; i < A_MINUTE; i++)
    beat(world, 0, world->ping);
  engine_session_connected(world->harness.engine, &world->session, ++world->connection, "nng");
  beat(world, 0, 0);
  for (int i = 0; i < A_PING_S; i++)
    step(world);
  assert_int_equal(world->drops, 0);
}

static const Millrace__V1__Job *create(struct world *world) {
  Millrace__V1__JobSpec spec = MILLRACE__V1__JOB_SPEC__INIT;
  Millrace__V1__CreateJobRequest message = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  spec.task = "t";
  message.job = &spec;
  const Millrace__V1__CreateJobResponse *response = harness_call(&world->harness, "JobService/CreateJob", &message.base);
  assert_non_null(response);
  while (world->delivery_seq == 0)
    step(world);
  return response->job;
}

static Millrace__V1__JobState state_of(struct world *world, const Millrace__V1__Job *job) {
  Millrace__V1__GetJobRequest message = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  message.id = job->id;
  const Millrace__V1__GetJobResponse *response = harness_call(&world->harness, "JobService/GetJob", &message.base);
  assert_non_null(response);
  return response->job->state;
}

/* The session ends at once, and its jobs are given to others: no lease hangs on a number that was made up. */
static void test_a_message_that_was_never_sent_was_not_received(void **state) {
  struct world *world = *state;
  const Millrace__V1__Job *job = create(world);
  assert_int_equal(state_of(world, job), MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  beat(world, 0, world->ping); /* it is on its way still */
  assert_int_equal(state_of(world, job), MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
  assert_int_equal(world->closes, 0);
  beat(world, world->delivery_seq + 1, world->ping);
  assert_int_equal(world->closes, 1);
  assert_int_not_equal(state_of(world, job), MILLRACE__V1__JOB_STATE__JOB_STATE_RUNNING);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
  const struct CMUnitTest tests[] = {
      TEST(test_who_echoes_pings_stays),
      TEST(test_a_ping_that_was_never_sent_is_no_echo),
      TEST(test_a_new_connection_owes_no_old_pings),
      TEST(test_a_message_that_was_never_sent_was_not_received),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
