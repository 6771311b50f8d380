/* SPDX-License-Identifier: Apache-2.0 */
/* Other certificates for the workers' port while it serves. */
#include "rig.h"

#include <arpa/inet.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <nng/protocol/pipeline0/pull.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workers/guard.h"

enum { HEAD_BYTES = 8192 };

/* Two of them, each its own authority. */
static struct tls_texts old, new;

static char *read_and_remove(const char *path) {
  char *text;
  assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_unlink(path);
  return text;
}

static struct tls_texts make_certificate(void) {
  char *folder = g_dir_make_tmp("millrace-test-XXXXXX", NULL);
  assert_non_null(folder);
  char *key = g_build_filename(folder, "key", NULL), *certificate = g_build_filename(folder, "certificate", NULL);
  char *arguments[] = {"openssl",
                       "req",
                       "-x509",
                       "-newkey",
                       "ec",
                       "-pkeyopt",
                       "ec_paramgen_curve:P-256",
                       "-nodes",
                       "-days",
                       "2",
                       "-subj",
                       "/CN=localhost",
                       "-keyout",
                       key,
                       "-out",
                       certificate,
                       NULL};
  int status;
  assert_true(
      g_spawn_sync(NULL, arguments, NULL,
                   G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                   NULL, NULL, NULL, NULL, &status, NULL));
  assert_int_equal(status, 0);
  struct tls_texts texts = {.certificate = read_and_remove(certificate), .key = read_and_remove(key)};
  g_rmdir(folder);
  g_free(certificate);
  g_free(key);
  g_free(folder);
  return texts;
}

static int make_certificates(void **state) {
  (void)state;
  old = make_certificate();
  new = make_certificate();
  return 0;
}

static int free_certificates(void **state) {
  (void)state;
  const char *const texts[] = {old.certificate, old.key, new.certificate, new.key};
  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
    g_free((char *)texts[i]);
  return 0;
}

static int open_hub(void **state) {
  (void)state;
  return rig_open(&old);
}

/* Does anybody answer on the path of a session, trusted as rig.trust says? */
static bool is_served(const struct id *session) {
  char path[64], token[64];
  jobs_path(session, path);
  token_of(session, token);
  nng_socket socket;
  nng_dialer dialer;
  assert_int_equal(nng_pull0_open(&socket), 0);
  int code = try_dial(socket, path, token, NULL, &dialer);
  nng_close(socket);
  return code == 0;
}

static void wait_until_unserved(const struct id *session) {
  gint64 deadline = g_get_monotonic_time() + RECEIVE_MS * 1000LL;
  bool served;
  while ((served = is_served(session)) && g_get_monotonic_time() < deadline)
    g_usleep(1000);
  assert_false(served);
}

static uint64_t join(struct worker *worker, const struct id *session) {
  worker_init(worker);
  worker_dial(worker, session);
  return expect_connected(session, "nng");
}

static void expect_exchange(const struct id *session, struct worker *worker, uint64_t connection) {
  send_text(session, connection, "delivery");
  expect_delivery(worker, "delivery");
  worker_report(worker, "report");
  expect_report(session, connection, "report");
}

static void new_certificates_take_all_paths_along(void **state) {
  (void)state;
  struct id closed = session_number(1), closing = session_number(2), session = session_number(3);
  struct worker worker;
  struct error error;
  open_session(&closed);
  open_session(&closing);
  open_session(&session);
  uint64_t first = join(&worker, &session);
  close_session(&closed);
  wait_until_unserved(&closed);
  close_session(&closing); /* it will be closed in the next round, some seconds from now */
  assert_int_equal(hub_set_tls(rig.hub, &new, &error), STATUS_OK);
  expect_disconnected(&session, first);
  worker_close(&worker);
  assert_false(is_served(&session)); /* with the old one */
  rig.trust = new.certificate;
  assert_false(is_served(&closing));
  uint64_t second = join(&worker, &session);
  expect_exchange(&session, &worker, second);
  worker_close(&worker);
  expect_disconnected(&session, second);
}

static void sessions_that_come_with_new_certificates_are_served(void **state) {
  (void)state;
  struct error error;
  const struct tls_texts broken = {.certificate = "none", .key = "none"};
  assert_int_equal(hub_set_tls(rig.hub, &broken, &error), STATUS_INVALID_ARGUMENT);
  for (unsigned i = 0; i < 4; i++) {
    const struct tls_texts *next = i % 2 ? &old : &new;
    struct id session = session_number(i);
    struct worker worker;
    assert_int_equal(hub_set_tls(rig.hub, next, &error), STATUS_OK);
    rig.trust = next->certificate;
    open_session(&session);
    uint64_t connection = join(&worker, &session);
    expect_exchange(&session, &worker, connection);
    worker_close(&worker);
    expect_disconnected(&session, connection);
    close_session(&session);
  }
}

/* A connection that the guard takes for one to the workers' port which says nothing and does not go: we have both ends. */
static void open_lingering(int out_ends[2]) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
  assert_int_equal(listen(listener, 1), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
  guard_want_welcome(ntohs(address.sin_port), HEAD_BYTES);
  out_ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(out_ends[0], (struct sockaddr *)&address, length), 0);
  out_ends[1] = accept(listener, NULL, NULL);
  assert_true(out_ends[1] >= 0);
  close(listener);
}

static void a_connection_that_will_not_go_holds_nothing_up(void **state) {
  (void)state;
  const struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  struct id session = session_number(1), gone = session_number(2);
  struct worker worker;
  struct error error;
  int ends[2];
  guard_init(&limits);
  open_lingering(ends);
  guard_want_welcome(rig.port, HEAD_BYTES); /* the one that lingers stays one of those of the workers' port */
  open_session(&session);
  open_session(&gone);
  uint64_t first = join(&worker, &session);
  close_session(&gone);
  wait_until_unserved(&gone);
  expect_exchange(&session, &worker, first);
  assert_int_equal(hub_set_tls(rig.hub, &new, &error), STATUS_OK);
  expect_disconnected(&session, first);
  worker_close(&worker);
  rig.trust = new.certificate;
  uint64_t second = join(&worker, &session);
  expect_exchange(&session, &worker, second);
  worker_close(&worker);
  expect_disconnected(&session, second);
  rig_close();
  close(ends[0]);
  close(ends[1]);
  guard_stop();
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_hub, rig_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(new_certificates_take_all_paths_along),
      TEST(sessions_that_come_with_new_certificates_are_served),
      TEST(a_connection_that_will_not_go_holds_nothing_up),
  };
  return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
