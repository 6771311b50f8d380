/* SPDX-License-Identifier: Apache-2.0 */
/* The guard in front of a real nng HTTP server, with peers that half-open connections; each test in a process of its own, because
 * the guard and its limits belong to the process. */
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>

#include "workers/hub.h"

enum { ATTACKERS = 300, WAIT_MS = 60000, HEAD_MS_MIN = 3500 };
static const char whole_request[] = "GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
static const char half_request[] = "GET /here HTTP/1.1\r\nHost:";

static nng_http_server *server;

static void answer(nng_aio *aio) {
  nng_http_res *response;
  g_assert(nng_http_res_alloc(&response) == 0);
  g_assert(nng_http_res_copy_data(response, "here", 4) == 0);
  nng_aio_set_output(aio, 0, response);
  nng_aio_finish(aio, 0);
}

static uint16_t start_server(void) {
  nng_url *url;
  nng_http_handler *handler;
  nng_sockaddr address;
  g_assert(nng_url_parse(&url, "http://127.0.0.1:0") == 0);
  g_assert(nng_http_server_hold(&server, url) == 0);
  g_assert(nng_http_handler_alloc(&handler, "/here", answer) == 0);
  g_assert(nng_http_server_add_handler(server, handler) == 0);
  g_assert(nng_http_server_start(server) == 0);
  g_assert(nng_http_server_get_addr(server, &address) == 0);
  nng_url_free(url);
  return ntohs(address.s_in.sa_port);
}

static void stop_server(void) {
  nng_http_server_stop(server);
  nng_http_server_release(server);
  guard_stop();
}

/* Who is refused at once may learn it from connect already: still a descriptor to ask. */
static int dial(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert(fd >= 0);
  g_assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == ECONNRESET);
  return fd;
}

static void say(int fd, const char *text) {
  g_assert(send(fd, text, strlen(text), MSG_NOSIGNAL) >= 0 || errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN);
}

/* Waits until the other side has said or ended something. False: it did not in time. */
static bool stirs(int fd, int within_ms) {
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  return poll(&wait, 1, within_ms) == 1;
}

static bool is_closed(int fd) {
  char byte;
  ssize_t length = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return length == 0 || (length < 0 && errno != EAGAIN);
}

static bool is_served(uint16_t port) {
  char text[512];
  int fd = dial(port);
  say(fd, whole_request);
  ssize_t length = stirs(fd, WAIT_MS) ? recv(fd, text, sizeof text - 1, 0) : -1;
  close(fd);
  text[MAX(length, 0)] = '\0';
  return g_str_has_prefix(text, "HTTP/1.1 200");
}

static void wait_for_count(unsigned count) {
  gint64 deadline = g_get_monotonic_time() + WAIT_MS * 1000LL;
  while (guard_connection_count() != count) {
    if (g_get_monotonic_time() > deadline)
      g_error("%u connections counted instead of %u", guard_connection_count(), count);
    g_usleep(1000);
  }
}

static void wait_until_served(uint16_t port) {
  gint64 deadline = g_get_monotonic_time() + WAIT_MS * 1000LL;
  while (!is_served(port))
    g_assert(g_get_monotonic_time() < deadline);
}

/* ---- what happens, in a child ---- */

static void connections_are_limited_and_come_back(void) {
  struct guard_limits limits = {.connections_max = 10, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port = start_server();
  int attackers[ATTACKERS];
  for (int i = 0; i < ATTACKERS; i++) {
    attackers[i] = dial(port);
    say(attackers[i], half_request);
  }
  int refused = 0;
  for (int i = 10; i < ATTACKERS; i++)
    refused += stirs(attackers[i], WAIT_MS) && is_closed(attackers[i]);
  g_assert_cmpint(refused, ==, ATTACKERS - 10);
  g_assert_cmpuint(guard_connection_count(), ==, 10);
  g_assert(!is_served(port));
  for (int i = 0; i < ATTACKERS; i++)
    close(attackers[i]);
  wait_until_served(port);
  wait_for_count(0);
  stop_server();
}

static void one_address_leaves_room_for_others(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 5};
  guard_init(&limits);
  uint16_t port = start_server();
  int attackers[20];
  for (int i = 0; i < 20; i++)
    attackers[i] = dial(port);
  for (int i = 5; i < 20; i++)
    g_assert(stirs(attackers[i], WAIT_MS) && is_closed(attackers[i]));
  /* Another address of the same machine. */
  struct sockaddr_in mine = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F000002)};
  struct sockaddr_in server_address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert(bind(other, (struct sockaddr *)&mine, sizeof mine) == 0);
  g_assert(connect(other, (struct sockaddr *)&server_address, sizeof server_address) == 0);
  say(other, whole_request);
  g_assert(stirs(other, WAIT_MS) && !is_closed(other));
  close(other);
  for (int i = 0; i < 20; i++)
    close(attackers[i]);
  stop_server();
}

static void no_lack_of_descriptors_is_seen(void) {
  struct rlimit limit = {.rlim_cur = ATTACKERS, .rlim_max = ATTACKERS};
  uint16_t port;
  int pipes[2];
  g_assert(pipe(pipes) == 0);
  /* The attackers live in a process of their own: they have descriptors enough. */
  struct guard_limits limits = {.connections_max = 100000, .connections_per_address_max = 100000};
  pid_t child = fork();
  if (child == 0) {
    int attackers[2 * ATTACKERS];
    g_assert(read(pipes[0], &port, sizeof port) == sizeof port);
    for (int i = 0; i < 2 * ATTACKERS; i++) {
      attackers[i] = dial(port);
      say(attackers[i], half_request);
    }
    /* Those for whom there is no descriptor left are refused; then all leave. */
    int refused = 0;
    for (int i = ATTACKERS; i < 2 * ATTACKERS; i++)
      refused += stirs(attackers[i], WAIT_MS) && is_closed(attackers[i]);
    _exit(refused >= ATTACKERS ? 0 : 1);
  }
  g_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  guard_init(&limits);
  port = start_server();
  g_assert(write(pipes[1], &port, sizeof port) == sizeof port);
  int status;
  g_assert(waitpid(child, &status, 0) == child);
  g_assert_cmpint(status, ==, 0);
  wait_until_served(port);
  /* The reserve is there while the house is full. */
  int fds[ATTACKERS], opened = 0;
  for (int i = 0; i < ATTACKERS; i++) {
    fds[i] = dial(port);
    if (fds[i] > ATTACKERS - 10)
      break;
    opened++;
  }
  g_assert_cmpint(opened, >, 20);
  /* Nothing left at all: still no spin, and service as soon as there is. */
  int last;
  GArray *rest = g_array_new(FALSE, FALSE, sizeof(int));
  while ((last = dup(0)) >= 0)
    g_array_append_val(rest, last);
  g_assert_cmpint(errno, ==, EMFILE);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  g_usleep(300000);
  getrusage(RUSAGE_SELF, &after);
  long busy_us = (after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) * 1000000L +
                 after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec;
  g_assert_cmpint(busy_us, <, 150000);
  for (guint i = 0; i < rest->len; i++)
    close(g_array_index(rest, int, i));
  g_array_free(rest, TRUE);
  for (int i = 0; i <= opened && i < ATTACKERS; i++)
    close(fds[i]);
  wait_until_served(port);
  stop_server();
}

static void half_a_head_is_cut_off(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  int silent = dial(port), half = dial(port), kept = dial(port);
  gint64 start = g_get_monotonic_time();
  say(half, half_request);
  say(kept, whole_request);
  g_assert(stirs(kept, WAIT_MS));
  char text[512];
  g_assert(recv(kept, text, sizeof text, 0) > 0);
  g_assert(stirs(half, WAIT_MS) && is_closed(half));
  g_assert(stirs(silent, WAIT_MS) && is_closed(silent));
  gint64 took_ms = (g_get_monotonic_time() - start) / 1000;
  g_assert_cmpint(took_ms, >=, HEAD_MS_MIN);
  g_assert(!stirs(kept, 1500)); /* it was answered: it may stay */
  say(kept, whole_request);
  g_assert(stirs(kept, WAIT_MS) && !is_closed(kept));
  close(silent);
  close(half);
  close(kept);
  wait_for_count(0);
  stop_server();
}

/* Answered, but no worker's: it may stay no longer than who never finished a request. */
static void who_is_not_welcome_is_cut_off(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port);
  int guest = dial(port), stranger = dial(port);
  struct sockaddr_storage own;
  socklen_t length = sizeof own;
  g_assert(getsockname(guest, (struct sockaddr *)&own, &length) == 0);
  say(guest, whole_request);
  say(stranger, whole_request);
  char text[512];
  g_assert(stirs(guest, WAIT_MS) && recv(guest, text, sizeof text, 0) > 0);
  g_assert(stirs(stranger, WAIT_MS) && recv(stranger, text, sizeof text, 0) > 0);
  guard_welcome(&own);
  g_assert(stirs(stranger, WAIT_MS) && is_closed(stranger));
  say(guest, whole_request);
  g_assert(stirs(guest, WAIT_MS) && !is_closed(guest));
  close(guest);
  close(stranger);
  wait_for_count(0);
  stop_server();
}

/* Whoever is welcome stays, whoever has not finished is cut off, and who comes is refused until the bar is lifted. */
static void a_bar_leaves_only_the_welcome(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port);
  int welcome = dial(port), unfinished = dial(port);
  say(unfinished, half_request);
  wait_for_count(2);
  struct sockaddr_storage own;
  socklen_t length = sizeof own;
  g_assert(getsockname(welcome, (struct sockaddr *)&own, &length) == 0);
  guard_welcome(&own);
  g_assert(guard_bar(0, WAIT_MS));
  g_assert(stirs(unfinished, WAIT_MS) && is_closed(unfinished));
  g_assert(!is_closed(welcome) && guard_connection_count() == 1);
  g_assert(!is_served(port));
  guard_unbar();
  g_assert(is_served(port));
  close(welcome);
  close(unfinished);
  stop_server();
}

static void new_connections_are_counted_by_the_second(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000, .new_per_second_max = 1};
  guard_init(&limits);
  uint16_t port = start_server();
  wait_until_served(port);
  unsigned served = 0;
  for (int i = 0; i < 60; i++)
    served += is_served(port) ? 1 : 0;
  g_assert_cmpuint(served, >=, 10);
  g_assert_cmpuint(served, <, 50);
  wait_until_served(port); /* the next second */
  stop_server();
}

/* gRPC calls accept4, and its unix sockets have no address. */
static void unix_sockets_count_in_total_only(void) {
  struct guard_limits limits = {.connections_max = 3, .connections_per_address_max = 1};
  guard_init(&limits);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char *directory = g_dir_make_tmp("millrace-guard-XXXXXX", NULL);
  g_snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  g_assert(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 10) == 0);
  int peers[5], taken[5];
  for (int i = 0; i < 5; i++) {
    peers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert(connect(peers[i], (struct sockaddr *)&address, sizeof address) == 0);
    taken[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert((taken[i] >= 0) == (i < 3));
    g_assert(i < 3 || errno == EAGAIN);
  }
  close(taken[0]);
  wait_for_count(2);
  for (int i = 0; i < 5; i++)
    close(peers[i]);
  unlink(address.sun_path);
  rmdir(directory);
  g_free(directory);
  guard_stop();
}

/* ---- */

struct scene {
  const char *name;
  void (*happens)(void);
};

static void in_a_child(void **state) {
  const struct scene *scene = *state;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    scene->happens();
    exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

int main(void) {
#define SCENE(name)                                                                                                              \
  { #name, name }
  static struct scene scenes[] = {
      SCENE(connections_are_limited_and_come_back), SCENE(one_address_leaves_room_for_others),
      SCENE(no_lack_of_descriptors_is_seen),        SCENE(half_a_head_is_cut_off),
      SCENE(who_is_not_welcome_is_cut_off),         SCENE(new_connections_are_counted_by_the_second),
      SCENE(unix_sockets_count_in_total_only),      SCENE(a_bar_leaves_only_the_welcome),
  };
  struct CMUnitTest tests[G_N_ELEMENTS(scenes)];
  for (size_t i = 0; i < G_N_ELEMENTS(scenes); i++)
    tests[i] = (struct CMUnitTest){.name = scenes[i].name, .test_func = in_a_child, .initial_state = &scenes[i]};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
