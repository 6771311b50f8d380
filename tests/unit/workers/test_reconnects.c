/* SPDX-License-Identifier: Apache-2.0 */
/* The hub beside workers whose connections end in any moment: while they are taken in, and while jobs are sent to them. The
 * engine here sends jobs to whoever joins. */
#include <arpa/inet.h>
#include <glib.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/secret.h"
#include "workers/hub.h"

enum {
  THREADS = 4,
  SESSIONS = 100,
  ROUNDS = 2500,
  CONNECTIONS_MIN = THREADS * ROUNDS / 5, /* the others are cut off, or replaced by another thread, before they stand */
  JOBS = 3,
  JOBS_READ_MIN = THREADS * ROUNDS / 20,
  REQUEST_BYTES = 512,
  PATIENCE_S = 60,
  GLANCE_MS = 20, /* so long is waited for jobs that may not come */
};

static struct hub *hub;
static struct transport transport;
static atomic_int connected, disconnected;
static atomic_int at_work; /* threads */
static atomic_int jobs_read;

/* What was sent over the newest connection of each session. */
static struct {
  pthread_mutex_t mutex; /* held while it is sent, for the order */
  uint64_t connection;
  unsigned jobs;
} newest[SESSIONS];

static struct id session_number(unsigned number) {
  return id_make_v7(1700000000000, 0, number);
}

/* Its number says which connection's it is, and which in order. Under the session's mutex. */
static void send_job(unsigned number) {
  struct id session = session_number(number);
  uint64_t connection = newest[number].connection;
  char *job = g_strdup_printf("%" PRIu64 " %u", connection, newest[number].jobs++);
  transport.send(transport.context, &session, connection, (uint8_t *)job, strlen(job));
}

static void send_jobs(unsigned number, unsigned count) {
  pthread_mutex_lock(&newest[number].mutex);
  for (unsigned i = 0; i < count; i++)
    send_job(number);
  pthread_mutex_unlock(&newest[number].mutex);
}

void engine_session_connected(struct engine *engine, const struct id *session, uint64_t connection, const char *transport_name) {
  (void)engine;
  (void)transport_name;
  atomic_fetch_add(&connected, 1);
  for (unsigned i = 0; i < SESSIONS; i++) {
    struct id id = session_number(i);
    if (!id_equal(&id, session))
      continue;
    pthread_mutex_lock(&newest[i].mutex);
    newest[i].connection = connection;
    newest[i].jobs = 0;
    pthread_mutex_unlock(&newest[i].mutex);
    send_jobs(i, JOBS);
  }
}

void engine_session_disconnected(struct engine *engine, const struct id *session, uint64_t connection) {
  (void)engine;
  (void)session;
  (void)connection;
  atomic_fetch_add(&disconnected, 1);
}

void engine_session_reports(struct engine *engine, const struct id *session, uint64_t connection, const uint8_t *bytes,
                            size_t length) {
  (void)engine;
  (void)session;
  (void)connection;
  (void)bytes;
  (void)length;
}

/* Sends an upgrade request for one of a session's two paths; the answer is not read yet. */
static int knock(unsigned number, bool jobs) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(hub_port(hub)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct timeval patience = {.tv_sec = PATIENCE_S};
  struct id session = session_number(number);
  char text[ID_TEXT_BYTES], path[64] = "/reports", request[REQUEST_BYTES];
  id_format(&session, text);
  if (jobs)
    g_snprintf(path, sizeof path, "/sessions/%s/jobs", text);
  int length = g_snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWlsbHJhY2UgcmVjb25uZQ==\r\n"
                          "Sec-WebSocket-Protocol: %s.sp.nanomsg.org\r\nAuthorization: Bearer %s\r\n\r\n",
                          path, jobs ? "push" : "pull", text);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
  g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), ==, 0);
  g_assert_cmpint(send(fd, request, (size_t)length, MSG_NOSIGNAL), ==, length);
  return fd;
}

/* False: another took its place already. */
static bool wait_for_answer(int fd) {
  char byte;
  ssize_t got = recv(fd, &byte, 1, 0);
  g_assert_cmpint(got, >=, 0);
  return got == 1;
}

/* Reads so many bytes. False: the connection has ended, or nothing comes for now. */
static bool read_all(int fd, char *out_bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t got = recv(fd, out_bytes + done, length - done, 0);
    if (got <= 0)
      return false;
    done += (size_t)got;
  }
  return true;
}

/* The rest of the answer whose first byte was read, up to its empty line. */
static bool read_head(int fd) {
  char last[4] = {0};
  while (memcmp(last, "\r\n\r\n", sizeof last) != 0) {
    memmove(last, last + 1, sizeof last - 1);
    if (!read_all(fd, &last[3], 1))
      return false;
  }
  return true;
}

/* One message, which is short, as text. */
static bool read_message(int fd, char out_text[128]) {
  unsigned char head[2];
  if (!read_all(fd, (char *)head, sizeof head) || head[0] == 0x88) /* it says farewell */
    return false;
  g_assert_cmpint(head[0], ==, 0x82);
  g_assert_cmpint(head[1], <, 126);
  out_text[head[1]] = '\0';
  return read_all(fd, out_text, head[1]);
}

/* What arrives on a jobs path is of one connection, from its first job on, each once and in order. */
static void read_jobs(int fd) {
  struct timeval glance = {.tv_usec = GLANCE_MS * 1000};
  char text[128], expected[128];
  uint64_t connection = 0;
  g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &glance, sizeof glance), ==, 0);
  if (!read_head(fd))
    return;
  for (unsigned i = 0; i < JOBS && read_message(fd, text); i++) {
    if (i == 0)
      connection = g_ascii_strtoull(text, NULL, 10);
    g_snprintf(expected, sizeof expected, "%" PRIu64 " %u", connection, i);
    g_assert_cmpstr(text, ==, expected);
    atomic_fetch_add(&jobs_read, 1);
  }
}

static void cut(int fd, bool at_once) {
  struct linger linger = {.l_onoff = at_once};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(fd);
}

/* Joins sessions again and again, and leaves them early or late, politely or not. */
static void *reconnect(void *seed) {
  GRand *random = g_rand_new_with_seed(GPOINTER_TO_UINT(seed));
  for (int i = 0; i < ROUNDS; i++) {
    unsigned number = (unsigned)g_rand_int_range(random, 0, SESSIONS);
    int jobs = knock(number, true), reports = knock(number, false);
    bool answered = g_rand_boolean(random) && wait_for_answer(jobs);
    if (g_rand_boolean(random))
      wait_for_answer(reports);
    if (answered && g_rand_boolean(random))
      read_jobs(jobs);
    cut(jobs, g_rand_boolean(random));
    cut(reports, g_rand_boolean(random));
  }
  g_rand_free(random);
  atomic_fetch_sub(&at_work, 1);
  return NULL;
}

static int open_hub(void **state) {
  (void)state;
  static char something; /* the hub never looks inside */
  struct hub_options options = {.listen_host = "127.0.0.1", .reports_bytes_max = 1024, .sessions_max = SESSIONS};
  struct error error;
  if (hub_open(&options, &hub, &error) != STATUS_OK)
    return -1;
  atomic_store(&connected, 0);
  atomic_store(&disconnected, 0);
  atomic_store(&jobs_read, 0);
  transport = hub_transport(hub);
  hub_start(hub, (struct engine *)&something);
  for (unsigned i = 0; i < SESSIONS; i++) {
    struct id session = session_number(i);
    pthread_mutex_init(&newest[i].mutex, NULL);
    newest[i].connection = 0;
    char text[ID_TEXT_BYTES];
    uint8_t hash[SECRET_HASH_BYTES];
    id_format(&session, text);
    secret_hash(text, strlen(text), hash);
    transport.session_open(transport.context, &session, hash);
  }
  return 0;
}

static int close_hub(void **state) {
  (void)state;
  hub_close(hub);
  for (unsigned i = 0; i < SESSIONS; i++)
    pthread_mutex_destroy(&newest[i].mutex);
  return 0;
}

/* Waits until the connections that have begun are `begun` or more, and those that have ended as many as have begun. */
static void wait_for(int begun, bool ended) {
  gint64 deadline = g_get_monotonic_time() + PATIENCE_S * G_USEC_PER_SEC;
  bool done;
  while (!(done = atomic_load(&connected) >= begun && (!ended || atomic_load(&disconnected) == atomic_load(&connected))) &&
         g_get_monotonic_time() < deadline)
    g_usleep(1000);
  assert_true(done);
}

static void connections_may_end_in_any_moment(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  atomic_store(&at_work, THREADS);
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, reconnect, GUINT_TO_POINTER(i)), 0);
  for (unsigned i = 0; atomic_load(&at_work) > 0; i = (i + 1) % SESSIONS)
    send_jobs(i, 1);
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  wait_for(CONNECTIONS_MIN, true);
  assert_true(atomic_load(&jobs_read) >= JOBS_READ_MIN);
  print_message("%d connections, %d jobs read\n", atomic_load(&connected), atomic_load(&jobs_read));
}

static void who_speaks_on_the_jobs_path_is_cut_off(void **state) {
  (void)state;
  static const char frame[] = {(char)0x82, (char)0x82, 0, 0, 0, 0, 'h', 'i'}; /* one binary message */
  int jobs = knock(0, true), reports = knock(0, false);
  wait_for(1, false);
  assert_int_equal(send(jobs, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
  wait_for(1, true);
  cut(jobs, true);
  cut(reports, true);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_hub, close_hub)
  const struct CMUnitTest tests[] = {TEST(connections_may_end_in_any_moment), TEST(who_speaks_on_the_jobs_path_is_cut_off)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
