/* SPDX-License-Identifier: Apache-2.0 */
/* What the hub holds for all workers together has limits, and these cost those that hold much their connection, nobody else. */
#include "rig.h"

#include <glib.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include "workers/outbox.h"
#include "workers/seat.h"

enum {
  STUCK = 5,
  CALM_ROUNDS = 30, /* of the stuck ones' floods: far from the limit still */
  BIG_BYTES = 32 * MESSAGE_BYTES,
  ABSORBED_MESSAGES = 12, /* by the kernel's buffers of one connection, at most */
  TOO_MANY_EARLY = 6,
};

static void expect_big_delivery(struct worker *worker, const struct id *session, uint64_t connection) {
  char *bytes;
  size_t length;
  rig.transport.send(rig.transport.context, session, connection, g_malloc0(BIG_BYTES), BIG_BYTES);
  assert_int_equal(nng_recv(worker->jobs, &bytes, &length, NNG_FLAG_ALLOC), 0);
  assert_int_equal(length, BIG_BYTES);
  nng_free(bytes, length);
}

/* Sends to workers that read nothing, and to one that reads all, until one of those loses its connection. Returns after how many
 * messages to each. */
static int fill(unsigned first_number, struct worker *healthy, const struct id *session, uint64_t connection) {
  pid_t pids[STUCK];
  uint64_t connections[STUCK];
  int rounds = 0;
  for (unsigned i = 0; i < STUCK; i++) {
    struct id stuck = session_number(first_number + i);
    open_session(&stuck);
    pids[i] = start_plain_worker(&stuck, "stuck");
    connections[i] = expect_connected(&stuck, "nng");
  }
  for (; fake_engine_pending() == 0 && rounds < OUTBOX_BYTES_MAX / MESSAGE_BYTES; rounds++) {
    for (unsigned i = 0; i < STUCK; i++) {
      struct id stuck = session_number(first_number + i);
      flood(&stuck, connections[i], 1);
    }
    if (rounds >= CALM_ROUNDS)
      expect_big_delivery(healthy, session, connection);
  }
  for (unsigned i = 0; i < STUCK; i++) {
    struct id stuck = session_number(first_number + i);
    stop_program(pids[i]);
    expect_disconnected(&stuck, connections[i]);
  }
  assert_true(rounds < OUTBOX_BYTES_MAX / MESSAGE_BYTES); /* not by the limit of one */
  return rounds;
}

static void slow_workers_do_not_cost_a_healthy_one_its_connection(void **state) {
  (void)state;
  struct id session = session_number(0);
  struct worker worker;
  open_session(&session);
  worker_init(&worker);
  assert_int_equal(nng_socket_set_size(worker.jobs, NNG_OPT_RECVMAXSZ, 0), 0);
  worker_dial(&worker, &session);
  uint64_t connection = expect_connected(&session, "nng");
  int first = fill(1, &worker, &session, connection);
  int second = fill(1 + STUCK, &worker, &session, connection); /* what the first ones held is free again */
  assert_true(second > first - ABSORBED_MESSAGES);
  send_text(&session, connection, "still served");
  expect_delivery(&worker, "still served");
  assert_int_equal(fake_engine_pending(), 0);
  worker_close(&worker);
  expect_disconnected(&session, connection);
}

/* Joins the reports of a session alone, and reports. */
static nng_socket report_early(const struct id *session, size_t bytes, atomic_int *count_gone) {
  char token[64];
  nng_socket socket;
  open_session(session);
  token_of(session, token);
  assert_int_equal(nng_push0_open(&socket), 0);
  dial(socket, "/reports", token, count_gone);
  char *report = g_malloc0(bytes);
  assert_int_equal(nng_send(socket, report, bytes, 0), 0);
  g_free(report);
  return socket;
}

/* Joins its jobs, too: what was reported early is told. */
static void expect_early_report(const struct id *session, size_t bytes) {
  char path[64], token[64];
  jobs_path(session, path);
  token_of(session, token);
  nng_socket socket;
  assert_int_equal(nng_pull0_open(&socket), 0);
  dial(socket, path, token, NULL);
  uint64_t connection = expect_connected(session, "nng");
  struct event event = fake_engine_next(session);
  assert_int_equal(event.kind, EVENT_REPORTS);
  assert_int_equal(event.length, bytes);
  g_free(event.bytes);
  nng_close(socket);
  expect_disconnected(session, connection);
}

static void early_reports_of_many_sessions_are_bounded(void **state) {
  (void)state;
  enum { FIT = SEATS_EARLY_BYTES_MAX / REPORTS_BYTES_MAX };
  nng_socket sockets[FIT + TOO_MANY_EARLY];
  atomic_int gone = 0;
  for (unsigned i = 0; i < FIT + TOO_MANY_EARLY; i++) {
    struct id session = session_number(i);
    sockets[i] = report_early(&session, REPORTS_BYTES_MAX, &gone);
  }
  wait_for_count(&gone, TOO_MANY_EARLY);
  assert_int_equal(atomic_load(&gone), TOO_MANY_EARLY);
  struct id newcomer = session_number(FIT + TOO_MANY_EARLY);
  nng_socket reports = report_early(&newcomer, 1, NULL);
  expect_early_report(&newcomer, 1);
  nng_close(reports);
  for (unsigned i = 0; i < FIT + TOO_MANY_EARLY; i++) {
    struct id session = session_number(i);
    close_session(&session);
    nng_close(sockets[i]);
  }
  /* What they held is free again. */
  for (unsigned i = 0; i < FIT; i++) {
    struct id session = session_number(SESSIONS_OF_RIG + i);
    sockets[i] = report_early(&session, REPORTS_BYTES_MAX, NULL);
  }
  for (unsigned i = 0; i < FIT; i++) {
    struct id session = session_number(SESSIONS_OF_RIG + i);
    expect_early_report(&session, REPORTS_BYTES_MAX);
    nng_close(sockets[i]);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(slow_workers_do_not_cost_a_healthy_one_its_connection),
      TEST(early_reports_of_many_sessions_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
