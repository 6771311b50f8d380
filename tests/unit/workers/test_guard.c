/* SPDX-License-Identifier: Apache-2.0 */
/* The guard in front of a real nng HTTP server, with peers that half-open connections or send too much; each test in a process of
 * its own, because the guard and its limits belong to the process. */
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>

#include "workers/guard.h"

enum { ATTACKERS = 300, RESERVED = 64, WAIT_MS = 60000, HEAD_MS_MIN = 3500, HEAD_BYTES = 8192, IDLE_BYTES = 8192 };
static const char whole_request[] = "GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
static const char half_request[] = "GET /here HTTP/1.1\r\nHost:";

static nng_http_server *server;

/* Whom getpeername tells of instead of the real peer: an IPv6 address, all with the same port. NULL: the real one. */
static _Atomic(const char *) pretended;
enum { PRETENDED_PORT = 4242 };

static struct sockaddr_storage pretended_peer(const char *text) {
  struct sockaddr_storage peer = {.ss_family = AF_INET6};
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&peer;
  v6->sin6_port = htons(PRETENDED_PORT);
  g_assert(inet_pton(AF_INET6, text, &v6->sin6_addr) == 1);
  return peer;
}

/* In place of the C library's. */
int getpeername(int fd, __SOCKADDR_ARG address, socklen_t *restrict length) {
  const char *text = atomic_load(&pretended);
  if (!text)
    return (int)syscall(SYS_getpeername, fd, address.__sockaddr__, length);
  struct sockaddr_storage peer = pretended_peer(text);
  memcpy(address.__sockaddr__, &peer, MIN(*length, sizeof(struct sockaddr_in6)));
  *length = sizeof(struct sockaddr_in6);
  return 0;
}

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

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert(fd >= 0);
  return fd;
}

/* Who is refused at once may learn it from connect already: still a descriptor to ask. */
static void reach(int fd, uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  g_assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == ECONNRESET);
}

static int dial(uint16_t port) {
  int fd = open_socket();
  reach(fd, port);
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

/* Begins what is said to this request with this? */
static bool is_answered(int fd, const char *request, const char *beginning) {
  char text[512];
  say(fd, request);
  ssize_t length = stirs(fd, WAIT_MS) ? recv(fd, text, sizeof text - 1, 0) : -1;
  text[MAX(length, 0)] = '\0';
  return g_str_has_prefix(text, beginning);
}

static bool is_served(uint16_t port) {
  int fd = dial(port);
  bool served = is_answered(fd, whole_request, "HTTP/1.1 200");
  close(fd);
  return served;
}

static struct sockaddr_storage own_address(int fd) {
  struct sockaddr_storage own;
  socklen_t length = sizeof own;
  g_assert(getsockname(fd, (struct sockaddr *)&own, &length) == 0);
  return own;
}

/* A connection that the server on this port of ours has accepted? */
static bool is_accepted(int fd, uint16_t port) {
  struct sockaddr_in own = {.sin_family = AF_UNSPEC};
  socklen_t length = sizeof own, flag_length = sizeof(int);
  int listens = 0;
  return getsockname(fd, (struct sockaddr *)&own, &length) == 0 && own.sin_family == AF_INET && own.sin_port == htons(port) &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_length) == 0 && !listens;
}

static gint64 cpu_ms(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (gint64)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void wait_for_count(unsigned count) {
  gint64 deadline = g_get_monotonic_time() + WAIT_MS * 1000LL;
  while (guard_connection_count() != count) {
    if (g_get_monotonic_time() > deadline)
      g_error("%u connections counted instead of %u", guard_connection_count(), count);
    g_usleep(1000);
  }
}

/* For this reason; for others none was. */
static uint64_t count_refused(enum refusal reason) {
  uint64_t counts[REFUSALS];
  guard_count_refused(counts);
  for (int i = 0; i < REFUSALS; i++)
    g_assert(i == (int)reason || counts[i] == 0);
  return counts[reason];
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
  g_assert_cmpuint(count_refused(REFUSED_TOTAL), ==, ATTACKERS - 10);
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
  g_assert_cmpuint(count_refused(REFUSED_ADDRESS), ==, 15);
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
  /* The reserve is there while the house is full. One more is open for the moment in which it is refused. */
  int status, highest = 0;
  do {
    for (int fd = 0; fd < ATTACKERS; fd++)
      highest = is_accepted(fd, port) ? MAX(highest, fd) : highest;
  } while (waitpid(child, &status, WNOHANG) == 0);
  g_assert_cmpint(status, ==, 0);
  g_assert_cmpint(highest, >, ATTACKERS / 2);
  g_assert_cmpint(highest, <=, ATTACKERS - RESERVED);
  g_assert_cmpuint(count_refused(REFUSED_DESCRIPTORS), >=, ATTACKERS);
  wait_until_served(port);
  /* Nothing left at all: still no spin, and service as soon as there is. */
  int last, late = open_socket();
  GArray *rest = g_array_new(FALSE, FALSE, sizeof(int));
  while ((last = dup(0)) >= 0)
    g_array_append_val(rest, last);
  g_assert_cmpint(errno, ==, EMFILE);
  reach(late, port);
  gint64 before_ms = cpu_ms();
  g_usleep(300000);
  g_assert_cmpint(cpu_ms() - before_ms, <, 150);
  for (guint i = 0; i < rest->len; i++)
    close(g_array_index(rest, int, i));
  g_array_free(rest, TRUE);
  close(late);
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

/* Answered, but no worker's. */
static void who_is_not_welcome_is_cut_off(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port, HEAD_BYTES);
  int guest = dial(port), silent = dial(port), stranger = dial(port);
  struct sockaddr_storage own = own_address(guest);
  wait_for_count(3);
  guard_welcome(&own, IDLE_BYTES, true);
  g_assert(is_answered(stranger, whole_request, "HTTP/1.1 200"));
  g_assert(stirs(stranger, WAIT_MS) && is_closed(stranger));
  g_assert(stirs(silent, WAIT_MS) && is_closed(silent));
  g_assert(is_answered(guest, whole_request, "HTTP/1.1 200"));
  g_assert(is_answered(guest, whole_request, "HTTP/1.1 200"));
  close(guest);
  close(silent);
  close(stranger);
  wait_for_count(0);
  stop_server();
}

/* Whoever is welcome stays, whoever has not finished is cut off, and who comes is refused until the bar is lifted. */
static void a_bar_leaves_only_the_welcome(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port, HEAD_BYTES);
  int welcome = dial(port), unfinished = dial(port);
  say(unfinished, half_request);
  wait_for_count(2);
  struct sockaddr_storage own = own_address(welcome);
  guard_welcome(&own, IDLE_BYTES, true);
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

/* A port of the workers whose connections the test itself accepts. */
static int listen_here(uint16_t *out_port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 1) == 0);
  g_assert(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  *out_port = ntohs(address.sin_port);
  guard_want_welcome(*out_port, HEAD_BYTES);
  return listener;
}

/* One that does not go, as its owner keeps it open, is waited for, but not for ever. */
static void a_bar_tells_of_who_does_not_go(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port;
  int listener = listen_here(&port), peer = dial(port), kept = accept(listener, NULL, NULL);
  g_assert(kept >= 0);
  g_assert(!guard_bar(0, 50));
  g_assert(stirs(peer, WAIT_MS) && is_closed(peer));
  guard_unbar();
  g_assert(guard_bar(0, WAIT_MS));
  guard_unbar();
  close(kept);
  close(peer);
  close(listener);
  guard_stop();
}

/* Addresses of a network count together, but each is welcomed by itself. */
static void a_neighbour_is_not_welcome_with_another(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 2};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port, HEAD_BYTES);
  atomic_store(&pretended, "2001:db8::1");
  int guest = dial(port);
  wait_for_count(1);
  atomic_store(&pretended, "2001:db8::2");
  int neighbour = dial(port);
  wait_for_count(2);
  int third = dial(port);
  g_assert(stirs(third, WAIT_MS) && is_closed(third));
  struct sockaddr_storage peer = pretended_peer("2001:db8::1");
  guard_welcome(&peer, IDLE_BYTES, true);
  g_assert(stirs(neighbour, WAIT_MS) && is_closed(neighbour));
  g_assert(!is_closed(guest));
  close(guest);
  close(neighbour);
  close(third);
  stop_server();
}

/* Heads of 300 kB, each header with a name of its own, in pieces that end with a line: nng would go through all for each. */
static void flood_with_headers(uint16_t port) {
  enum { FLOODS = 20, HEADERS = 40000 };
  GString *head = g_string_new("GET /here?xxx HTTP/1.1\r\n");
  for (int i = 0; i < HEADERS; i++)
    g_string_append_printf(head, "%05x:\r\n", (unsigned)i);
  int floods[FLOODS];
  gint64 before_ms = cpu_ms();
  for (int i = 0; i < FLOODS; i++) {
    floods[i] = dial(port);
    say(floods[i], head->str);
  }
  g_assert(is_served(port));
  for (int i = 0; i < FLOODS; i++) {
    g_assert(stirs(floods[i], WAIT_MS) && is_closed(floods[i]));
    close(floods[i]);
  }
  g_assert_cmpint(cpu_ms() - before_ms, <, 3000);
  g_string_free(head, TRUE);
}

static void heads_without_end_are_cut_off(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  flood_with_headers(port);
  guard_want_welcome(port, HEAD_BYTES);
  flood_with_headers(port);
  stop_server();
}

/* nng would decode them, and go on behind the end of a path that ends in one. */
static void no_percent_sign_gets_through(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port = start_server();
  int fd = dial(port);
  g_assert(is_answered(fd, "GET /here%00x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"));
  g_assert(is_answered(fd, whole_request, "HTTP/1.1 200"));
  g_assert(is_answered(fd, "GET /her%65 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"));
  g_assert(is_answered(fd, "GET /here?%41 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"));
  close(fd);
  stop_server();
}

/* What a worker sends reaches nng as it is; what was sent before the port was the workers' can be no worker's. */
static void a_worker_may_send_percent_signs(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port;
  int listener = listen_here(&port), peer = dial(port), kept = accept(listener, NULL, NULL);
  struct sockaddr_storage own = own_address(peer);
  char first[5], rest[5];
  struct iovec parts[2] = {{.iov_base = first, .iov_len = sizeof first}, {.iov_base = rest, .iov_len = sizeof rest}};
  say(peer, "%a%b%c%d%");
  g_assert(readv(kept, parts, 2) == 9);
  g_assert(memcmp(first, "_a_b_", 5) == 0 && memcmp(rest, "c_d_", 4) == 0);
  guard_welcome(&own, IDLE_BYTES, true);
  say(peer, "%a%b%c%d%");
  g_assert(readv(kept, parts, 2) == 9);
  g_assert(memcmp(first, "%a%b%", 5) == 0 && memcmp(rest, "c%d%", 4) == 0);
  guard_want_welcome(0, HEAD_BYTES);
  int early = dial(port), early_kept = accept(listener, NULL, NULL);
  guard_want_welcome(port, HEAD_BYTES);
  g_assert(stirs(early, WAIT_MS) && is_closed(early) && !is_closed(peer));
  close(early);
  close(early_kept);
  close(kept);
  close(peer);
  close(listener);
  guard_stop();
}

/* A request of 1 KiB. False: there is no answer. */
static bool asks_at_length(int fd) {
  char text[512], request[1024];
  int length = g_snprintf(request, sizeof request, "GET /here HTTP/1.1\r\nHost: x\r\nX: %0960d\r\n\r\n", 0);
  g_assert(length > 980 && length < (int)sizeof request);
  say(fd, request);
  return stirs(fd, WAIT_MS) && recv(fd, text, sizeof text, 0) > 0;
}

/* Answers bring a stranger's allowance back on other ports, but not on the workers'. */
static void who_was_answered_may_ask_again(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  int fd = dial(port);
  for (int i = 0; i < 100; i++)
    g_assert(asks_at_length(fd));
  close(fd);
  guard_want_welcome(port, HEAD_BYTES);
  fd = dial(port);
  g_assert(asks_at_length(fd));
  g_assert(!asks_at_length(fd));
  close(fd);
  stop_server();
}

static void a_worker_may_send_as_much_as_is_taken(void) {
  struct guard_limits limits = {.connections_max = 1000, .connections_per_address_max = 1000};
  guard_init(&limits);
  uint16_t port = start_server();
  guard_want_welcome(port, HEAD_BYTES);
  int fd = dial(port), asked = 0;
  struct sockaddr_storage own = own_address(fd);
  wait_for_count(1);
  guard_welcome(&own, IDLE_BYTES, true);
  for (int i = 0; i < 200; i++) {
    g_assert(asks_at_length(fd));
    guard_give_back(&own, 1024);
  }
  while (asked < 1000 && asks_at_length(fd))
    asked++;
  g_assert_cmpint(asked, <, 1000);
  g_assert_cmpint(asked, >=, 3);
  close(fd);
  stop_server();
}

/* Sends 1 KiB, which is read and given back. False: the guard has reset it. */
static bool gets_through(int from, int to, const struct sockaddr_storage *address) {
  char block[1024] = {0};
  struct iovec part = {.iov_base = block, .iov_len = sizeof block};
  g_assert(send(from, block, sizeof block, MSG_NOSIGNAL) == sizeof block);
  ssize_t length = readv(to, &part, 1);
  g_assert(length > 0 || errno == ECONNRESET);
  guard_give_back(address, sizeof block);
  return length > 0;
}

static void who_takes_nothing_gets_nothing_back(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  uint16_t port;
  int listener = listen_here(&port), peer = dial(port), kept = accept(listener, NULL, NULL), through = 0;
  struct sockaddr_storage own = own_address(peer);
  guard_welcome(&own, IDLE_BYTES, true);
  for (int i = 0; i < 100; i++)
    g_assert(gets_through(peer, kept, &own));
  char block[65536] = {0};
  while (send(kept, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
    ;
  while (through < 100 && gets_through(peer, kept, &own))
    through++;
  g_assert_cmpint(through, <, 100);
  g_assert_cmpint(through, >=, 3);
  close(kept);
  close(peer);
  close(listener);
  guard_stop();
}

/* nng never frees the pongs that wait when it closes. */
static void who_takes_no_pongs_may_not_ping(bool gets_jobs) {
  uint16_t port;
  int listener = listen_here(&port), peer = dial(port), kept = accept(listener, NULL, NULL);
  char head[2], block[65536] = {0};
  struct iovec part = {.iov_base = head, .iov_len = sizeof head};
  struct sockaddr_storage own = own_address(peer);
  guard_welcome(&own, IDLE_BYTES, gets_jobs);
  say(peer, "\x89\x80\x82\x80\x89\x80\x89\x80");
  g_assert(readv(kept, &part, 1) == sizeof head); /* a ping */
  while (send(kept, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
    ;
  g_assert(readv(kept, &part, 1) == sizeof head); /* data */
  g_assert(readv(kept, &part, 1) == sizeof head); /* a ping */
  g_assert(readv(kept, &part, 1) == (gets_jobs ? (ssize_t)sizeof head : -1));
  g_assert(gets_jobs || errno == ECONNRESET);
  close(kept);
  close(peer);
  close(listener);
}

static void pongs_that_are_not_taken_cost_the_connection(void) {
  struct guard_limits limits = {.connections_max = 100, .connections_per_address_max = 100};
  guard_init(&limits);
  who_takes_no_pongs_may_not_ping(false);
  who_takes_no_pongs_may_not_ping(true); /* jobs may be on their way */
  guard_stop();
}

static atomic_uint times_told, refused_told;

static void note_refused(const uint64_t counts[REFUSALS]) {
  atomic_fetch_add(&refused_told, (unsigned)counts[REFUSED_RATE]);
  atomic_fetch_add(&times_told, 1);
}

static void new_connections_are_counted_by_the_second(void) {
  struct guard_limits limits = {
      .connections_max = 1000, .connections_per_address_max = 1000, .new_per_second_max = 1, .tell_refused = note_refused};
  guard_init(&limits);
  uint16_t port = start_server();
  wait_until_served(port);
  unsigned served = 0;
  for (int i = 0; i < 60; i++)
    served += is_served(port) ? 1 : 0;
  g_assert_cmpuint(served, >=, 10);
  g_assert_cmpuint(served, <, 50);
  g_assert_cmpuint(count_refused(REFUSED_RATE), ==, 60 - served);
  gint64 deadline = g_get_monotonic_time() + WAIT_MS * 1000LL;
  while (atomic_load(&times_told) == 0) {
    g_assert(g_get_monotonic_time() < deadline);
    g_usleep(1000);
  }
  g_assert_cmpuint(atomic_load(&refused_told), >, 0);
  g_assert_cmpuint(atomic_load(&refused_told), <=, 60 - served);
  wait_until_served(port);                           /* the next second */
  g_assert_cmpuint(atomic_load(&times_told), ==, 1); /* so soon not again */
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
      SCENE(connections_are_limited_and_come_back),
      SCENE(one_address_leaves_room_for_others),
      SCENE(no_lack_of_descriptors_is_seen),
      SCENE(half_a_head_is_cut_off),
      SCENE(who_is_not_welcome_is_cut_off),
      SCENE(a_neighbour_is_not_welcome_with_another),
      SCENE(new_connections_are_counted_by_the_second),
      SCENE(unix_sockets_count_in_total_only),
      SCENE(a_bar_leaves_only_the_welcome),
      SCENE(a_bar_tells_of_who_does_not_go),
      SCENE(heads_without_end_are_cut_off),
      SCENE(no_percent_sign_gets_through),
      SCENE(a_worker_may_send_percent_signs),
      SCENE(who_was_answered_may_ask_again),
      SCENE(a_worker_may_send_as_much_as_is_taken),
      SCENE(who_takes_nothing_gets_nothing_back),
      SCENE(pongs_that_are_not_taken_cost_the_connection),
  };
  struct CMUnitTest tests[G_N_ELEMENTS(scenes)];
  for (size_t i = 0; i < G_N_ELEMENTS(scenes); i++)
    tests[i] = (struct CMUnitTest){.name = scenes[i].name, .test_func = in_a_child, .initial_state = &scenes[i]};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
