/* SPDX-License-Identifier: Apache-2.0 */
/* The hub with real sockets on both sides and an engine that only takes notes. */
#include "rig.h"

#include <glib.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "workers/outbox.h"

enum { SEVERAL = 100, MANY = SESSIONS_OF_RIG };

/* ---- messages ---- */

static void messages_go_both_ways_in_order(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  uint64_t connection = expect_connected(&session, "nng");
  char text[32];
  for (int i = 0; i < MANY; i++) {
    g_snprintf(text, sizeof text, "delivery %d", i);
    send_text(&session, connection, text);
  }
  for (int i = 0; i < MANY; i++) {
    g_snprintf(text, sizeof text, "delivery %d", i);
    expect_delivery(&worker, text);
    g_snprintf(text, sizeof text, "report %d", i);
    worker_report(&worker, text);
  }
  for (int i = 0; i < MANY; i++) {
    g_snprintf(text, sizeof text, "report %d", i);
    expect_report(&session, connection, text);
  }
  worker_close(&worker);
  expect_disconnected(&session, connection);
}

static void early_reports_wait_for_the_jobs_pipe(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct worker worker;
  worker_init(&worker);
  char path[64], token[64];
  jobs_path(&session, path);
  token_of(&session, token);
  dial(worker.reports, "/reports", token, NULL);
  worker_report(&worker, "heartbeat");
  worker_report(&worker, "second");
  assert_int_equal(fake_engine_pending(), 0);
  dial(worker.jobs, path, token, NULL);
  uint64_t connection = expect_connected(&session, "nng");
  expect_report(&session, connection, "heartbeat");
  expect_report(&session, connection, "second");
  worker_close(&worker);
  expect_disconnected(&session, connection);
}

static void an_oversize_report_ends_the_connection(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  uint64_t connection = expect_connected(&session, "nng");
  char *large = g_malloc0(REPORTS_BYTES_MAX + 1);
  assert_int_equal(nng_send(worker.reports, large, REPORTS_BYTES_MAX + 1, 0), 0);
  g_free(large);
  expect_disconnected(&session, connection);
  worker_close(&worker);
}

/* ---- who may join ---- */

/* Its connection is closed, each time that it dials. */
static void expect_refused(const char *path, const char *token, bool jobs) {
  nng_socket socket;
  atomic_int closed = 0;
  assert_int_equal(jobs ? nng_pull0_open(&socket) : nng_push0_open(&socket), 0);
  for (int times = 1; times <= 2; times++) {
    dial(socket, path, token, &closed);
    wait_for_count(&closed, times);
    assert_int_equal(atomic_load(&closed), times);
  }
  nng_close(socket);
}

static void a_wrong_token_is_refused(void **state) {
  (void)state;
  struct id mine = session_number(1), foreign = session_number(2);
  open_session(&mine);
  open_session(&foreign);
  char path[64], token[64];
  jobs_path(&mine, path);
  token_of(&foreign, token);
  expect_refused(path, token, true); /* another session's */
  expect_refused(path, "", true);
  expect_refused(path, NULL, true);
  expect_refused("/reports", "guess", false);
  expect_refused("/reports", NULL, false);
  assert_int_equal(fake_engine_pending(), 0);
}

static void nobody_joins_before_start_nor_after_the_session(void **state) {
  (void)state;
  struct id session = session_number(1);
  char path[64], token[64];
  jobs_path(&session, path);
  token_of(&session, token);
  hub_start(rig.hub, NULL);
  open_session(&session);
  expect_refused(path, token, true);
  expect_refused("/reports", token, false);
  hub_start(rig.hub, fake_engine());
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  expect_connected(&session, "nng");
  rig.transport.session_close(rig.transport.context, &session);
  expect_refused("/reports", token, false);
  assert_int_equal(fake_engine_pending(), 0);
  worker_close(&worker);
}

/* Opened again at once, their paths are still the old ones': they can't be served, and nothing stands still for that. */
static void sessions_whose_paths_are_taken_harm_nobody(void **state) {
  (void)state;
  for (unsigned i = 0; i < SEVERAL; i++) {
    struct id session = session_number(i);
    open_session(&session);
    struct worker worker;
    worker_init(&worker);
    worker_dial(&worker, &session);
    expect_connected(&session, "nng");
    rig.transport.session_close(rig.transport.context, &session);
    open_session(&session);
    worker_close(&worker);
  }
  struct id session = session_number(SEVERAL);
  open_session(&session);
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  uint64_t connection = expect_connected(&session, "nng");
  worker_close(&worker);
  expect_disconnected(&session, connection);
}

/* ---- connections ---- */

static void a_redialled_pipe_makes_a_new_connection(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct worker worker, again;
  worker_init(&worker);
  worker_dial(&worker, &session);
  uint64_t first = expect_connected(&session, "nng");
  /* The same worker from elsewhere: its old half must not come back in between. */
  nng_dialer_close(worker.dialers[1]);
  expect_disconnected(&session, first);
  worker_close(&worker);
  worker_init(&again);
  worker_dial(&again, &session);
  uint64_t second = expect_connected(&session, "nng");
  assert_true(second > first);
  send_text(&session, first, "for nobody");
  send_text(&session, second, "for you");
  expect_delivery(&again, "for you");
  worker_close(&again);
  expect_disconnected(&session, second);
}

static void the_newest_replaces_the_old(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  pid_t old = start_plain_worker(&session, "stuck");
  uint64_t first = expect_connected(&session, "nng");
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  expect_disconnected(&session, first);
  uint64_t second = expect_connected(&session, "nng");
  send_text(&session, second, "for the newest");
  expect_delivery(&worker, "for the newest");
  stop_program(old);
  worker_close(&worker);
  expect_disconnected(&session, second);
}

static void a_plain_websocket_is_a_worker(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  pid_t pid = start_plain_worker(&session, "echo");
  uint64_t connection = expect_connected(&session, "nng");
  char *large = g_strnfill(300 * 1000, 'x');
  send_text(&session, connection, "small");
  send_text(&session, connection, large);
  expect_report(&session, connection, "small");
  expect_report(&session, connection, large);
  g_free(large);
  stop_program(pid);
  expect_disconnected(&session, connection);
}

static void a_slow_reader_is_bounded_and_dropped(void **state) {
  (void)state;
  struct id slow = session_number(1), other = session_number(2);
  open_session(&slow);
  open_session(&other);
  pid_t pid = start_plain_worker(&slow, "stuck");
  uint64_t connection = expect_connected(&slow, "nng");
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &other);
  uint64_t standing = expect_connected(&other, "nng");
  flood(&slow, connection, 2 * OUTBOX_BYTES_MAX / (1024 * 1024));
  expect_disconnected(&slow, connection);
  send_text(&other, standing, "still served");
  expect_delivery(&worker, "still served");
  stop_program(pid);
  worker_close(&worker);
  expect_disconnected(&other, standing);
}

static void nothing_of_an_old_connection_reaches_the_new_one(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  pid_t pid = start_plain_worker(&session, "stuck");
  uint64_t first = expect_connected(&session, "nng");
  flood(&session, first, OUTBOX_BYTES_MAX / 2 / (1024 * 1024));
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  expect_disconnected(&session, first);
  uint64_t second = expect_connected(&session, "nng");
  send_text(&session, second, "first message");
  expect_delivery(&worker, "first message");
  stop_program(pid);
  worker_close(&worker);
  expect_disconnected(&session, second);
}

static void a_dropped_worker_may_come_back(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  uint64_t first = expect_connected(&session, "nng");
  rig.transport.drop(rig.transport.context, &session, first);
  expect_disconnected(&session, first);
  worker_dial(&worker, &session);
  uint64_t second = expect_connected(&session, "nng");
  rig.transport.drop(rig.transport.context, &session, first); /* a late one: harmless */
  send_text(&session, second, "hello");
  expect_delivery(&worker, "hello");
  worker_close(&worker);
  expect_disconnected(&session, second);
}

/* This program again, as a thousand workers that do one job each: killed like a machine that goes down. */
static void be_many_workers(const char *port) {
  static struct worker workers[MANY];
  rig.port = (uint16_t)atoi(port);
  rig.dials_again = true;
  for (unsigned i = 0; i < MANY; i++) {
    struct id session = session_number(i);
    worker_init(&workers[i]);
    worker_dial(&workers[i], &session);
  }
  for (unsigned i = 0; i < MANY; i++)
    worker_report(&workers[i], "hello");
  for (unsigned i = 0; i < MANY; i++) {
    expect_delivery(&workers[i], "job");
    worker_report(&workers[i], "done");
  }
  pause();
}

/* The connection that its worker speaks on: one may have been given up before, while it was made. */
static uint64_t expect_hello(const struct id *session) {
  struct event event;
  do
    event = fake_engine_next(session);
  while (event.kind != EVENT_REPORTS);
  assert_int_equal(event.length, strlen("hello"));
  assert_memory_equal(event.bytes, "hello", event.length);
  g_free(event.bytes);
  return event.connection;
}

static void a_thousand_sessions(void **state) {
  (void)state;
  gint64 start = g_get_monotonic_time();
  for (unsigned i = 0; i < MANY; i++) {
    struct id session = session_number(i);
    open_session(&session);
  }
  gint64 opened = g_get_monotonic_time();
  char port[8];
  g_snprintf(port, sizeof port, "%u", (unsigned)rig.port);
  pid_t pid = start_program((char *[]){"/proc/self/exe", port, NULL});
  uint64_t connections[MANY];
  for (unsigned i = 0; i < MANY; i++) {
    struct id session = session_number(i);
    connections[i] = expect_hello(&session);
    send_text(&session, connections[i], "job");
  }
  for (unsigned i = 0; i < MANY; i++) {
    struct id session = session_number(i);
    expect_report(&session, connections[i], "done");
  }
  gint64 served = g_get_monotonic_time();
  stop_program(pid);
  fake_engine_wait_connected(0);
  print_message("1,000 sessions: opened in %d ms, connected and served in %d ms, their end noticed in %d ms\n",
                (int)((opened - start) / 1000), (int)((served - opened) / 1000), (int)((g_get_monotonic_time() - served) / 1000));
}

/* ---- gRPC streams ---- */

struct stream {
  int sent, closed;
};

static void stream_send(void *context, uint8_t *take_bytes, size_t length) {
  (void)length;
  g_free(take_bytes);
  ((struct stream *)context)->sent++;
}

static void stream_close(void *context) {
  ((struct stream *)context)->closed++;
}

static void streams_and_pipes_replace_each_other(void **state) {
  (void)state;
  struct id session = session_number(1);
  open_session(&session);
  struct stream one = {0, 0}, two = {0, 0};
  struct hub_stream first = {.context = &one, .send = stream_send, .close = stream_close};
  struct hub_stream second = {.context = &two, .send = stream_send, .close = stream_close};
  char token[64];
  token_of(&session, token);
  uint64_t connection = 0, newer = 0;
  assert_false(hub_attach(rig.hub, &session, "guess", &first, &connection));
  assert_true(hub_attach(rig.hub, &session, token, &first, &connection));
  assert_int_equal(expect_connected(&session, "grpc"), connection);
  hub_attach_reports(rig.hub, &session, connection, (const uint8_t *)"report", 6);
  expect_report(&session, connection, "report");
  send_text(&session, connection, "delivery");
  assert_int_equal(one.sent, 1);

  assert_true(hub_attach(rig.hub, &session, token, &second, &newer));
  expect_disconnected(&session, connection);
  assert_int_equal(expect_connected(&session, "grpc"), newer);
  assert_int_equal(one.closed, 1);
  hub_detach(rig.hub, &session, connection); /* the old one leaves: says nothing */
  hub_attach_reports(rig.hub, &session, connection, (const uint8_t *)"stale", 5);
  assert_int_equal(fake_engine_pending(), 0);

  struct worker worker;
  worker_init(&worker);
  worker_dial(&worker, &session);
  expect_disconnected(&session, newer);
  uint64_t pair = expect_connected(&session, "nng");
  assert_int_equal(two.closed, 1);
  worker_close(&worker);
  expect_disconnected(&session, pair);

  assert_true(hub_attach(rig.hub, &session, token, &first, &connection));
  assert_int_equal(expect_connected(&session, "grpc"), connection);
  rig.transport.drop(rig.transport.context, &session, connection);
  assert_int_equal(one.closed, 2);
  hub_detach(rig.hub, &session, connection);
  expect_disconnected(&session, connection);
}

/* ---- the end ---- */

static void *close_in_background(void *closed) {
  rig_close();
  atomic_store((atomic_int *)closed, 1);
  return NULL;
}

static void a_hub_closes_beside_a_send_that_is_stuck(void **state) {
  (void)state;
  struct id stuck = session_number(1), healthy = session_number(2), half = session_number(3);
  open_session(&stuck);
  open_session(&healthy);
  open_session(&half);
  pid_t pid = start_plain_worker(&stuck, "stuck");
  flood(&stuck, expect_connected(&stuck, "nng"), OUTBOX_BYTES_MAX / 2 / MESSAGE_BYTES);
  struct worker worker, other;
  worker_init(&worker);
  worker_dial(&worker, &healthy);
  uint64_t connection = expect_connected(&healthy, "nng");
  send_text(&healthy, connection, "served");
  expect_delivery(&worker, "served");
  char token[64];
  token_of(&half, token);
  worker_init(&other);
  dial(other.reports, "/reports", token, NULL);
  atomic_int closed = 0;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, close_in_background, &closed), 0);
  wait_for_count(&closed, 1);
  pthread_join(thread, NULL);
  stop_program(pid);
  worker_close(&worker);
  worker_close(&other);
}

int main(int count, char **arguments) {
  struct rlimit descriptors;
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  if (count > 1)
    be_many_workers(arguments[1]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(messages_go_both_ways_in_order),
      TEST(early_reports_wait_for_the_jobs_pipe),
      TEST(an_oversize_report_ends_the_connection),
      TEST(a_wrong_token_is_refused),
      TEST(nobody_joins_before_start_nor_after_the_session),
      TEST(sessions_whose_paths_are_taken_harm_nobody),
      TEST(a_redialled_pipe_makes_a_new_connection),
      TEST(the_newest_replaces_the_old),
      TEST(a_plain_websocket_is_a_worker),
      TEST(a_slow_reader_is_bounded_and_dropped),
      TEST(nothing_of_an_old_connection_reaches_the_new_one),
      TEST(a_dropped_worker_may_come_back),
      TEST(a_thousand_sessions),
      TEST(streams_and_pipes_replace_each_other),
      TEST(a_hub_closes_beside_a_send_that_is_stuck),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
