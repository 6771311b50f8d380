/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <glib.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/supplemental/tls/tls.h>
#include <nng/transport/ws/websocket.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "core/secret.h"

enum { REDIAL_MS = 20, URL_BYTES = 200 };

struct rig rig;

/* nng 1.5.2 leaks the message that is half written to a peer when its pipe is closed; ours are freed or handed over. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libnng.so";
}

int rig_open(const struct tls_texts *tls) {
  struct hub_options options = {
      .listen_host = "127.0.0.1", .tls = tls, .reports_bytes_max = REPORTS_BYTES_MAX, .sessions_max = SESSIONS_OF_RIG};
  struct error error;
  fake_engine_reset();
  rig = (struct rig){.trust = tls ? tls->certificate : NULL};
  if (hub_open(&options, &rig.hub, &error) != STATUS_OK)
    return -1;
  rig.transport = hub_transport(rig.hub);
  rig.port = hub_port(rig.hub);
  hub_start(rig.hub, fake_engine());
  return 0;
}

void rig_close(void) {
  hub_close(rig.hub);
  rig.hub = NULL;
  fake_engine_reset();
}

int rig_set_up(void **state) {
  (void)state;
  return rig_open(NULL);
}

int rig_tear_down(void **state) {
  (void)state;
  rig_close();
  return 0;
}

/* ---- sessions ---- */

struct id session_number(unsigned number) {
  return id_make_v7(1700000000000, 0, number);
}

void token_of(const struct id *session, char out_token[64]) {
  char text[ID_TEXT_BYTES];
  id_format(session, text);
  g_snprintf(out_token, 64, "secret-%s", text);
}

void open_session(const struct id *session) {
  char token[64];
  uint8_t hash[SECRET_HASH_BYTES];
  token_of(session, token);
  secret_hash(token, strlen(token), hash);
  rig.transport.session_open(rig.transport.context, session, hash);
}

void close_session(const struct id *session) {
  rig.transport.session_close(rig.transport.context, session);
}

void jobs_path(const struct id *session, char out_path[64]) {
  char text[ID_TEXT_BYTES];
  id_format(session, text);
  g_snprintf(out_path, 64, "/sessions/%s/jobs", text);
}

void send_text(const struct id *session, uint64_t connection, const char *text) {
  rig.transport.send(rig.transport.context, session, connection, (uint8_t *)g_strdup(text), strlen(text));
}

void flood(const struct id *session, uint64_t connection, size_t count) {
  for (size_t i = 0; i < count; i++)
    rig.transport.send(rig.transport.context, session, connection, g_malloc0(MESSAGE_BYTES), MESSAGE_BYTES);
}

/* ---- workers over nng ---- */

/* nng would dial again, whatever times are set; without its dialer it can't. Counts what is gone. */
static void gone(nng_pipe pipe, nng_pipe_ev event, void *count) {
  (void)event;
  nng_dialer_close(nng_pipe_dialer(pipe));
  if (count)
    atomic_fetch_add((atomic_int *)count, 1);
}

/* Its certificates are made for this name. */
static void encrypt(nng_dialer dialer) {
  nng_tls_config *config;
  assert_int_equal(nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT), 0);
  assert_int_equal(nng_tls_config_server_name(config, "localhost"), 0);
  assert_int_equal(nng_tls_config_ca_chain(config, rig.trust, NULL), 0);
  assert_int_equal(nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED), 0);
  assert_int_equal(nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config), 0);
  nng_tls_config_free(config);
}

int try_dial(nng_socket socket, const char *path, const char *token, atomic_int *count_gone, nng_dialer *out_dialer) {
  char url[URL_BYTES], header[URL_BYTES];
  g_snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", rig.trust ? "wss" : "ws", (unsigned)rig.port, path);
  nng_dialer dialer;
  assert_int_equal(nng_dialer_create(&dialer, socket, url), 0);
  g_snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", token ? token : "");
  if (token)
    assert_int_equal(nng_dialer_set_string(dialer, NNG_OPT_WS_REQUEST_HEADERS, header), 0);
  if (rig.trust)
    encrypt(dialer);
  int code;
  if (rig.dials_again) {
    assert_int_equal(nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, REDIAL_MS), 0);
    assert_int_equal(nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, REDIAL_MS), 0);
  } else {
    assert_int_equal(nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, gone, count_gone), 0);
  }
  do
    code = nng_dialer_start(dialer, 0);
  while (code == NNG_ETIMEDOUT); /* nng gives a handshake two seconds, and the machine may be busy */
  if (code != 0)
    nng_dialer_close(dialer);
  *out_dialer = dialer;
  return code;
}

nng_dialer dial(nng_socket socket, const char *path, const char *token, atomic_int *count_gone) {
  nng_dialer dialer;
  assert_int_equal(try_dial(socket, path, token, count_gone, &dialer), 0);
  return dialer;
}

void worker_init(struct worker *worker) {
  assert_int_equal(nng_pull0_open(&worker->jobs), 0);
  assert_int_equal(nng_push0_open(&worker->reports), 0);
  assert_int_equal(nng_socket_set_ms(worker->jobs, NNG_OPT_RECVTIMEO, RECEIVE_MS), 0);
  assert_int_equal(nng_socket_set_ms(worker->reports, NNG_OPT_SENDTIMEO, RECEIVE_MS), 0);
}

void worker_dial(struct worker *worker, const struct id *session) {
  char path[64], token[64];
  jobs_path(session, path);
  token_of(session, token);
  worker->dialers[0] = dial(worker->jobs, path, token, NULL);
  worker->dialers[1] = dial(worker->reports, "/reports", token, NULL);
}

void worker_close(struct worker *worker) {
  nng_close(worker->jobs);
  nng_close(worker->reports);
}

void worker_report(struct worker *worker, const char *text) {
  assert_int_equal(nng_send(worker->reports, (void *)text, strlen(text), 0), 0);
}

void expect_delivery(struct worker *worker, const char *text) {
  char *bytes;
  size_t length;
  assert_int_equal(nng_recv(worker->jobs, &bytes, &length, NNG_FLAG_ALLOC), 0);
  assert_int_equal(length, strlen(text));
  assert_memory_equal(bytes, text, length);
  nng_free(bytes, length);
}

/* ---- what the engine is told ---- */

uint64_t expect_connected(const struct id *session, const char *name) {
  struct event event = fake_engine_next(session);
  assert_int_equal(event.kind, EVENT_CONNECTED);
  assert_string_equal(event.transport_name, name);
  return event.connection;
}

void expect_disconnected(const struct id *session, uint64_t connection) {
  struct event event = fake_engine_next(session);
  assert_int_equal(event.kind, EVENT_DISCONNECTED);
  assert_int_equal(event.connection, connection);
}

void expect_report(const struct id *session, uint64_t connection, const char *text) {
  struct event event = fake_engine_next(session);
  assert_int_equal(event.kind, EVENT_REPORTS);
  assert_int_equal(event.connection, connection);
  assert_int_equal(event.length, strlen(text));
  assert_memory_equal(event.bytes, text, event.length);
  g_free(event.bytes);
}

void wait_for_count(atomic_int *count, int least) {
  gint64 deadline = g_get_monotonic_time() + RECEIVE_MS * 1000LL;
  while (atomic_load(count) < least && g_get_monotonic_time() < deadline)
    g_usleep(1000);
  assert_true(atomic_load(count) >= least);
}

/* ---- plain workers ---- */

/* Descriptors left open: GLib then spawns without a fork, which the thread sanitizer does not survive beside threads. */
pid_t start_program(char **arguments) {
  GPid pid;
  assert_true(
      g_spawn_async(NULL, arguments, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_LEAVE_DESCRIPTORS_OPEN, NULL, NULL, &pid, NULL));
  return pid;
}

/* A program that reads nothing, or answers everything. */
pid_t start_plain_worker(const struct id *session, const char *mode) {
  char text[ID_TEXT_BYTES], token[64], port[8];
  id_format(session, text);
  token_of(session, token);
  g_snprintf(port, sizeof port, "%u", (unsigned)rig.port);
  return start_program((char *[]){"/usr/bin/python3", PLAIN_WORKER, port, text, token, (char *)mode, NULL});
}

void stop_program(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}
