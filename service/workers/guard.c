/* SPDX-License-Identifier: Apache-2.0 */
/* The guard of all ports. gRPC's listener dies of one EMFILE, nng's spins on it, neither counts connections, and nng waits for a
 * request head for ever. Both accept through functions of the C library: `accept4` (gRPC) and `accept` (nng). Those defined here
 * take their place in a program that calls guard_init; they take what waits, close at once what is too much, and never tell of a
 * lack of descriptors.
 *
 * Who closes a connection does not tell us. So the table below may hold connections that are gone: an entry counts as gone when
 * its descriptor is another socket now. It is swept once a second and when a limit seems reached. Descriptors are given lowest
 * first: one numbered n means that n are open, which is how the reserve is kept without knowing who uses the others.
 *
 * A TCP connection on which nothing was sent for HEAD_TICKS seconds after it was accepted has not finished its request head (or
 * its handshake), as the first thing that a served peer gets is an answer: it is shut down. On the workers' port an answer is not
 * enough: encryption answers before the head is there, and who was told 404 may stay connected. There a connection is shut down
 * unless the hub has welcomed it. Seconds are counted by the thread
 * that sweeps: a process that was stopped itself blames nobody. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "workers/hub.h"

enum {
  DESCRIPTORS_RESERVED_MIN = 64,  /* for the store and all else that opens files */
  DESCRIPTORS_RESERVED_SHARE = 8, /* or one in so many, if that is more */
  HEAD_TICKS = 5,
  NEW_BURST_S = 20,    /* so many seconds' worth of new connections may come at once */
  SWEEP_MS_MIN = 50,   /* between two sweeps that a full house asks for */
  NAP_MS = 10,         /* when there is not even a descriptor to refuse with */
  HANG_UP_NAP_MS = 2,  /* between two looks whether all have gone */
  PREFIX_BYTES_V6 = 8, /* a /64 is one address: its owner has all of it */
};

/* Who is at the other end; zero: nobody that has an address (unix sockets). */
struct peer {
  uint8_t bytes[16];
};

struct connection {
  int fd; /* its key */
  ino_t inode;
  struct peer peer;
  in_port_t peer_port;
  bool is_tcp;
  bool needs_welcome;
  bool is_rpc; /* gRPC's */
  bool is_welcome;
  bool answered;
  int ticks; /* sweeps by the second since it was accepted */
};

static struct {
  pthread_mutex_t mutex;
  pthread_t thread;
  pthread_cond_t stops;
  bool on;
  struct guard_limits limits;
  in_port_t welcome_port;  /* in network order; 0: none */
  int fd_max;              /* accepted ones from here on are refused */
  int spare;               /* given up for a moment to refuse when there is no other; -1: gone */
  GHashTable *connections; /* fd -> struct connection */
  GHashTable *peers;       /* struct peer -> struct record */
  int64_t swept_ms;
  bool hung_up; /* gRPC's are not wanted any more */
  int bars;     /* more than 0: no new one is wanted on the workers' port */
} guard = {.mutex = PTHREAD_MUTEX_INITIALIZER, .stops = PTHREAD_COND_INITIALIZER, .spare = -1};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- peers ---- */

static guint peer_hash(gconstpointer peer) {
  const uint8_t *bytes = ((const struct peer *)peer)->bytes;
  guint hash = 5381;
  for (size_t i = 0; i < sizeof(struct peer); i++)
    hash = hash * 33 + bytes[i];
  return hash;
}

static gboolean peer_equal(gconstpointer a, gconstpointer b) {
  return memcmp(a, b, sizeof(struct peer)) == 0;
}

static bool peer_is_counted(const struct peer *peer) {
  static const struct peer nobody;
  return !peer_equal(peer, &nobody);
}

static in_port_t port_of(const struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET)
    return ((const struct sockaddr_in *)address)->sin_port;
  return address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port : 0;
}

static struct peer peer_of_address(const struct sockaddr_storage *address) {
  struct peer peer = {{0}};
  if (address->ss_family == AF_INET) {
    memcpy(peer.bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    peer.bytes[10] = peer.bytes[11] = 0xFF; /* as IPv6 writes it */
  } else if (address->ss_family == AF_INET6) {
    const struct in6_addr *full = &((const struct sockaddr_in6 *)address)->sin6_addr;
    memcpy(peer.bytes, full, IN6_IS_ADDR_V4MAPPED(full) || IN6_IS_ADDR_LOOPBACK(full) ? sizeof peer.bytes : PREFIX_BYTES_V6);
  }
  return peer;
}

static struct peer peer_of(int fd, in_port_t *out_port) {
  struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
  socklen_t length = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &length) != 0)
    address.ss_family = AF_UNSPEC;
  *out_port = port_of(&address);
  return peer_of_address(&address);
}

static in_port_t own_port(int fd) {
  struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
  socklen_t length = sizeof address;
  return getsockname(fd, (struct sockaddr *)&address, &length) == 0 ? port_of(&address) : 0;
}

/* Accepted on the workers' port? */
static bool is_for_workers(int fd) {
  return guard.welcome_port != 0 && own_port(fd) == guard.welcome_port;
}

/* What is known of an address: kept as long as it has connections, or opened some lately. */
struct record {
  unsigned connections;
  double tokens; /* each new connection takes one, time brings them back */
  int64_t filled_ms;
};

/* Of an address that counts; made if need be. */
static struct record *record_of(const struct peer *peer) {
  struct record *record = g_hash_table_lookup(guard.peers, peer);
  double most = NEW_BURST_S * (double)guard.limits.new_per_second_max;
  int64_t now = now_ms();
  if (!record) {
    record = g_new0(struct record, 1);
    record->tokens = most;
    g_hash_table_insert(guard.peers, g_memdup2(peer, sizeof *peer), record);
  } else {
    double back = (double)(now - record->filled_ms) / 1000 * guard.limits.new_per_second_max;
    record->tokens = MIN(most, record->tokens + back);
  }
  record->filled_ms = now;
  return record;
}

static unsigned peer_count(const struct peer *peer) {
  const struct record *record = g_hash_table_lookup(guard.peers, peer);
  return record ? record->connections : 0;
}

static void peer_add(const struct peer *peer, int change) {
  if (peer_is_counted(peer))
    record_of(peer)->connections += (unsigned)change;
}

/* May it open one more now? */
static bool peer_takes_token(const struct peer *peer) {
  if (guard.limits.new_per_second_max == 0 || !peer_is_counted(peer))
    return true;
  struct record *record = record_of(peer);
  if (record->tokens < 1)
    return false;
  record->tokens--;
  return true;
}

static void forget_peers(void) {
  GHashTableIter iterator;
  gpointer value;
  int64_t now = now_ms();
  g_hash_table_iter_init(&iterator, guard.peers);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    const struct record *record = value;
    if (record->connections == 0 && now - record->filled_ms >= NEW_BURST_S * 1000)
      g_hash_table_iter_remove(&iterator);
  }
}

/* ---- the table; under the mutex ---- */

static bool inode_of(int fd, ino_t *out_inode) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode))
    return false;
  *out_inode = status.st_ino;
  return true;
}

static void forget(int fd) {
  struct connection *connection = g_hash_table_lookup(guard.connections, GINT_TO_POINTER(fd));
  if (!connection)
    return;
  peer_add(&connection->peer, -1);
  g_hash_table_remove(guard.connections, GINT_TO_POINTER(fd));
}

static void remember(int fd, const struct peer *peer, in_port_t peer_port) {
  forget(fd); /* a descriptor given again: the one before is gone */
  struct connection *connection = g_new0(struct connection, 1);
  int domain = 0;
  socklen_t length = sizeof domain;
  connection->fd = fd;
  connection->peer = *peer;
  connection->peer_port = peer_port;
  connection->needs_welcome = is_for_workers(fd);
  connection->is_tcp = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain != AF_UNIX;
  if (!inode_of(fd, &connection->inode)) {
    g_free(connection);
    return;
  }
  g_hash_table_insert(guard.connections, GINT_TO_POINTER(fd), connection);
  peer_add(peer, 1);
}

static void sweep(void) {
  guard.swept_ms = now_ms();
  GHashTableIter iterator;
  gpointer value;
  g_hash_table_iter_init(&iterator, guard.connections);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct connection *connection = value;
    ino_t inode;
    if (inode_of(connection->fd, &inode) && inode == connection->inode)
      continue;
    peer_add(&connection->peer, -1);
    g_hash_table_iter_remove(&iterator);
  }
}

static bool house_is_full(const struct peer *peer) {
  return g_hash_table_size(guard.connections) >= guard.limits.connections_max ||
         (peer_is_counted(peer) && peer_count(peer) >= guard.limits.connections_per_address_max);
}

/* May this newly accepted one stay? */
static bool admit(int fd) {
  if (fd >= guard.fd_max || (guard.bars > 0 && is_for_workers(fd)))
    return false;
  in_port_t peer_port;
  struct peer peer = peer_of(fd, &peer_port);
  forget(fd);
  if (!peer_takes_token(&peer))
    return false;
  if (house_is_full(&peer) && now_ms() - guard.swept_ms >= SWEEP_MS_MIN)
    sweep();
  if (house_is_full(&peer))
    return false;
  remember(fd, &peer, peer_port);
  return true;
}

/* Without a FIN's long farewell: nothing of it stays in the kernel. */
static void refuse(int fd) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

static int open_spare(void) {
  return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: refuses one connection with the spare one. False: there was nothing to refuse, or no way to. */
static bool refuse_with_spare(int listener) {
  if (guard.spare >= 0)
    close(guard.spare);
  int fd = (int)syscall(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  bool lacking = fd < 0 && errno != EAGAIN;
  if (fd >= 0)
    refuse(fd);
  guard.spare = open_spare();
  if (lacking) { /* others are faster than us: better slow than spinning */
    struct timespec nap = {.tv_nsec = NAP_MS * 1000000L};
    nanosleep(&nap, NULL);
  }
  return fd >= 0;
}

/* ---- in place of the C library's ---- */

/* Only this connection is broken, or none came at all: the next may be well. */
static bool concerns_one(int code) {
  return code == EINTR || code == ECONNABORTED || code == EPROTO || code == ENETDOWN || code == EHOSTDOWN || code == ENONET ||
         code == EHOSTUNREACH || code == ENETUNREACH;
}

static bool lacks_resources(int code) {
  return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}

/* One try. A descriptor; -1 with errno: answer so; -2: try again. */
static int try_accept(int listener, struct sockaddr *address, socklen_t *length, int flags) {
  int fd = (int)syscall(SYS_accept4, listener, address, length, flags);
  int code = errno;
  int result = fd;
  pthread_mutex_lock(&guard.mutex);
  if (guard.on && fd >= 0 && !admit(fd)) {
    refuse(fd);
    result = -2;
  } else if (guard.on && fd < 0 && lacks_resources(code)) {
    result = refuse_with_spare(listener) ? -2 : -1;
    code = EAGAIN;
  } else if (guard.on && fd < 0 && concerns_one(code)) {
    result = -2;
  }
  pthread_mutex_unlock(&guard.mutex);
  errno = code;
  return result;
}

/* Goes on until one may stay or none waits: both callers come back only when a further one has arrived. */
static int guarded_accept(int listener, struct sockaddr *address, socklen_t *length, int flags) {
  socklen_t room = length ? *length : 0;
  int fd;
  do {
    if (length)
      *length = room;
    fd = try_accept(listener, address, length, flags);
  } while (fd == -2);
  return fd;
}

/* Notes that this one is gRPC's. False: it is refused. */
static bool admit_to_rpc(int fd) {
  pthread_mutex_lock(&guard.mutex);
  bool wanted = !(guard.on && guard.hung_up);
  struct connection *connection = guard.on ? g_hash_table_lookup(guard.connections, GINT_TO_POINTER(fd)) : NULL;
  if (!wanted) {
    forget(fd);
    refuse(fd);
  } else if (connection) {
    connection->is_rpc = true;
  }
  pthread_mutex_unlock(&guard.mutex);
  return wanted;
}

int accept4(int listener, __SOCKADDR_ARG address, socklen_t *restrict length, int flags) {
  int fd;
  do {
    fd = guarded_accept(listener, address.__sockaddr__, length, flags);
  } while (fd >= 0 && !admit_to_rpc(fd));
  return fd;
}

int accept(int listener, __SOCKADDR_ARG address, socklen_t *restrict length) {
  return guarded_accept(listener, address.__sockaddr__, length, 0);
}

/* ---- by the second ---- */

/* A copy of its descriptor, to be closed, which keeps that from becoming another one's in between; -1: it is gone. */
static int copy_of(const struct connection *connection) {
  int copy = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
  ino_t inode;
  if (copy >= 0 && inode_of(copy, &inode) && inode == connection->inode)
    return copy;
  if (copy >= 0)
    close(copy);
  return -1;
}

/* Shuts it down if nothing was ever sent on it, or if it has to be welcome and is not. */
static void check_head(struct connection *connection) {
  int copy = copy_of(connection);
  if (copy >= 0) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    /* A kernel too old to tell (before 4.19) gives less: nobody is blamed. */
    bool told = getsockopt(copy, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
                length >= offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof info.tcpi_bytes_sent;
    if (connection->needs_welcome || (told && info.tcpi_bytes_sent == 0))
      shutdown(copy, SHUT_RDWR);
    connection->answered = true;
    close(copy);
  }
}

static void tick(void) {
  sweep();
  forget_peers();
  GHashTableIter iterator;
  gpointer value;
  g_hash_table_iter_init(&iterator, guard.connections);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct connection *connection = value;
    if (connection->is_tcp && !connection->answered && ++connection->ticks > HEAD_TICKS)
      check_head(connection);
  }
}

static void *run_guard(void *unused) {
  (void)unused;
  pthread_mutex_lock(&guard.mutex);
  while (guard.on) {
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    next.tv_sec++;
    while (guard.on && pthread_cond_clockwait(&guard.stops, &guard.mutex, CLOCK_MONOTONIC, &next) == 0)
      ;
    if (guard.on)
      tick();
  }
  pthread_mutex_unlock(&guard.mutex);
  return NULL;
}

/* ---- life ---- */

static int raise_descriptor_limit(void) {
  struct rlimit limit;
  int failure = getrlimit(RLIMIT_NOFILE, &limit);
  g_assert(failure == 0);
  limit.rlim_cur = limit.rlim_max;
  failure = setrlimit(RLIMIT_NOFILE, &limit);
  g_assert(failure == 0);
  return limit.rlim_cur > G_MAXINT ? G_MAXINT : (int)limit.rlim_cur;
}

void guard_init(const struct guard_limits *limits) {
  int descriptors = raise_descriptor_limit();
  int reserved = MAX(DESCRIPTORS_RESERVED_MIN, descriptors / DESCRIPTORS_RESERVED_SHARE);
  pthread_mutex_lock(&guard.mutex);
  g_assert(!guard.on);
  guard.limits = *limits;
  guard.hung_up = false;
  guard.fd_max = descriptors - reserved;
  guard.spare = open_spare();
  guard.connections = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  guard.peers = g_hash_table_new_full(peer_hash, peer_equal, g_free, g_free);
  guard.on = true;
  int failure = pthread_create(&guard.thread, NULL, run_guard, NULL);
  g_assert(failure == 0);
  pthread_mutex_unlock(&guard.mutex);
}

void guard_want_welcome(uint16_t port) {
  pthread_mutex_lock(&guard.mutex);
  guard.welcome_port = htons(port);
  pthread_mutex_unlock(&guard.mutex);
}

void guard_welcome(const struct sockaddr_storage *peer) {
  struct peer wanted = peer_of_address(peer);
  GHashTableIter iterator;
  gpointer value;
  pthread_mutex_lock(&guard.mutex);
  if (guard.on)
    g_hash_table_iter_init(&iterator, guard.connections);
  while (guard.on && g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct connection *connection = value;
    if (connection->needs_welcome && connection->peer_port == port_of(peer) && peer_equal(&connection->peer, &wanted))
      connection->answered = connection->is_welcome = true;
  }
  pthread_mutex_unlock(&guard.mutex);
}

unsigned guard_connection_count(void) {
  pthread_mutex_lock(&guard.mutex);
  unsigned count = 0;
  if (guard.on) {
    sweep();
    count = g_hash_table_size(guard.connections);
  }
  pthread_mutex_unlock(&guard.mutex);
  return count;
}

static bool is_rpc(const struct connection *connection) {
  return connection->is_rpc;
}

static bool is_unfinished(const struct connection *connection) {
  return connection->needs_welcome && !connection->is_welcome;
}

/* Is there none of this kind? With `shut`, those are closed both ways: one that can only not be read from any more goes unnoticed
 * while its peer keeps sending. Under the mutex. */
static bool has_none(bool (*is_meant)(const struct connection *), bool shut) {
  bool none = true;
  GHashTableIter iterator;
  gpointer value;
  sweep();
  g_hash_table_iter_init(&iterator, guard.connections);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    int copy = is_meant(value) ? copy_of(value) : -1;
    if (copy < 0)
      continue;
    if (shut)
      shutdown(copy, SHUT_RDWR);
    close(copy);
    none = false;
  }
  return none;
}

/* Waits until there is none of them, at most `wait_ms`. Under the mutex, which is given back meanwhile. */
static bool wait_for_none(bool (*is_meant)(const struct connection *), bool shut, int64_t wait_ms) {
  const int64_t deadline_ms = now_ms() + wait_ms;
  const struct timespec nap = {.tv_nsec = HANG_UP_NAP_MS * 1000000L};
  bool none;
  while (!(none = !guard.on || has_none(is_meant, shut)) && now_ms() < deadline_ms) {
    pthread_mutex_unlock(&guard.mutex);
    nanosleep(&nap, NULL);
    pthread_mutex_lock(&guard.mutex);
  }
  return none;
}

void guard_hang_up(int64_t wait_ms) {
  pthread_mutex_lock(&guard.mutex);
  guard.hung_up = true;
  wait_for_none(is_rpc, true, wait_ms);
  pthread_mutex_unlock(&guard.mutex);
}

bool guard_bar(int64_t patience_ms, int64_t wait_ms) {
  pthread_mutex_lock(&guard.mutex);
  bool none = wait_for_none(is_unfinished, false, patience_ms);
  guard.bars++;
  none = none || wait_for_none(is_unfinished, true, wait_ms);
  pthread_mutex_unlock(&guard.mutex);
  return none;
}

void guard_unbar(void) {
  pthread_mutex_lock(&guard.mutex);
  guard.bars--;
  pthread_mutex_unlock(&guard.mutex);
}

void guard_stop(void) {
  pthread_mutex_lock(&guard.mutex);
  bool was_on = guard.on;
  guard.on = false;
  pthread_cond_signal(&guard.stops);
  pthread_mutex_unlock(&guard.mutex);
  if (!was_on)
    return;
  pthread_join(guard.thread, NULL);
  g_hash_table_destroy(guard.connections);
  g_hash_table_destroy(guard.peers);
  if (guard.spare >= 0)
    close(guard.spare);
}
