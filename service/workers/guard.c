/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's listener dies of one EMFILE, nng's spins on it, neither counts connections, nng waits for a request head for ever, takes
 * any number of headers and walks through all of them for each. Both accept through functions of the C library: `accept4` (gRPC)
 * and `accept` (nng); and nng reads by `readv` alone, and what was encrypted as tls_reads.h tells. Those defined here take their
 * place: they take what waits, close at once what is too much, never tell of a lack of descriptors, read no more than the
 * allowance, and keep from nng what it can't bear.
 *
 * Descriptors are given lowest first: one numbered n means that n are open, which is how the reserve is kept without knowing who
 * uses the others. The table is swept once a second and when a limit seems reached.
 *
 * A TCP connection on which nothing was sent for HEAD_TICKS seconds after it was accepted has not finished its request head (or
 * its handshake), as the first thing that a served peer gets is an answer: it is shut down. On the workers' port an answer is not
 * enough: encryption answers before the head is there, and who was told 404 may stay connected. There a connection is shut down
 * unless the hub has welcomed it. Seconds are counted by the thread that sweeps: a process that was stopped itself blames nobody.
 */
#include "workers/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/limits.h"
#include "workers/connections.h"
#include "workers/tls_reads.h"

enum {
  DESCRIPTORS_RESERVED_MIN = 64,  /* for the store and all else that opens files */
  DESCRIPTORS_RESERVED_SHARE = 8, /* or one in so many, if that is more */
  HEAD_TICKS = 5,
  LACKING_NAP_MS = 10,      /* when there is not even a descriptor to refuse with */
  PATIENT_NAP_MS = 20,      /* between two looks whether all have gone by themselves */
  SHUT_NAP_MS = 5,          /* the same, of those that were shut */
  OVER_MS = 1000,           /* after which nothing is at work any more for one that was shut */
  READ_PARTS_MAX = 16,      /* nng has no more */
  UNTAKEN_BYTES_MAX = 4096, /* sent to a peer, and on its way */
  TAKEN_SHARE = 8,          /* or it has taken so many times its allowance since that came back */
};

static struct {
  pthread_mutex_t mutex;
  pthread_t thread;
  pthread_cond_t stops;
  bool on;
  in_port_t welcome_port; /* in network order; 0: none */
  size_t head_bytes;      /* of connections to that port */
  int fd_max;             /* accepted ones from here on are refused */
  int spare;              /* given up for a moment to refuse when there is no other; -1: gone */
  struct connections *connections;
  bool knows_tls; /* mbedTLS is there: whatever is encrypted has a reader */
  bool hung_up;   /* gRPC's are not wanted any more */
  int bars;       /* more than 0: no new one is wanted on the workers' port */
} guard = {.mutex = PTHREAD_MUTEX_INITIALIZER, .stops = PTHREAD_COND_INITIALIZER, .spare = -1};

static void nap(int64_t ms) {
  const struct timespec duration = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
  nanosleep(&duration, NULL);
}

/* ---- accepting ---- */

/* Accepted on the workers' port? */
static bool is_for_workers(int fd) {
  struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
  socklen_t length = sizeof address;
  if (guard.welcome_port == 0 || getsockname(fd, (struct sockaddr *)&address, &length) != 0)
    return false;
  return endpoint_of(&address).port == guard.welcome_port;
}

/* May this newly accepted one stay? */
static bool admit(int fd) {
  bool for_workers = is_for_workers(fd);
  if (guard.bars > 0 && for_workers)
    return false;
  if (fd >= guard.fd_max) {
    guard.connections->refused[REFUSED_DESCRIPTORS]++;
    return false;
  }
  struct connection *connection = connections_admit(guard.connections, fd, for_workers);
  if (connection)
    allowance_set(&connection->allowance, for_workers ? guard.head_bytes : HEAD_BYTES_MAX, guard_now_ms());
  return connection != NULL;
}

/* Without a FIN's long farewell: nothing of it stays in the kernel. */
static void forgo_farewell(int fd) {
  const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static void refuse(int fd) {
  forgo_farewell(fd);
  close(fd);
}

static int open_spare(void) {
  return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: refuses one connection with the spare one. False: there was nothing to refuse, or no way to, as others
 * were faster to use it. */
static bool refuse_with_spare(int listener, bool *out_lacking) {
  if (guard.spare >= 0)
    close(guard.spare);
  int fd = (int)syscall(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  *out_lacking = fd < 0 && errno != EAGAIN;
  if (fd >= 0) {
    refuse(fd);
    guard.connections->refused[REFUSED_DESCRIPTORS]++;
  }
  guard.spare = open_spare();
  return fd >= 0;
}

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
  bool lacking = false;
  pthread_mutex_lock(&guard.mutex);
  if (guard.on && fd >= 0 && !admit(fd)) {
    refuse(fd);
    result = -2;
  } else if (guard.on && fd < 0 && lacks_resources(code)) {
    result = refuse_with_spare(listener, &lacking) ? -2 : -1;
    code = EAGAIN;
  } else if (guard.on && fd < 0 && concerns_one(code)) {
    result = -2;
  }
  pthread_mutex_unlock(&guard.mutex);
  if (lacking) /* better slow than spinning */
    nap(LACKING_NAP_MS);
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
  struct connection *connection = guard.on ? connections_find(guard.connections, fd) : NULL;
  if (!wanted) {
    connections_forget(guard.connections, fd);
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

/* ---- reading ----
 * nng reads the two bytes that begin a frame by themselves: by readv, or from mbedTLS, whose mbedtls_ssl_read then calls nng for
 * more of the connection, and nng readv. That is how it is learnt whose frames those are, by the first call already: nothing was
 * read before it. With another TLS library only bytes are charged.
 *
 * Of a stranger nng reads nothing but heads (head.h): it reads frames only once their worker is welcome, and no client sends any
 * before it was answered. */

enum { FRAME_HEAD_BYTES = 2 };

/* A copy of its descriptor, to be closed, which keeps that from becoming another one's in between; -1: it is gone. */
static int copy_of(const struct connection *connection) {
  int copy = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
  if (copy >= 0 && connection_is_there(connection))
    return copy;
  if (copy >= 0)
    close(copy);
  return -1;
}

/* Shuts it both ways: one that can only not be read from any more goes unnoticed while its peer keeps sending. Nothing more of it
 * is read, not even what has arrived. `fd` is its descriptor or a copy. */
static void shut(struct connection *connection, int fd) {
  shutdown(fd, SHUT_RDWR);
  connection->is_shut = connection->has_answer = true;
  connection->shut_ms = guard_now_ms();
}

/* What went to it so far, if the kernel tells: before 4.19 it gives less. */
static bool traffic_of(int fd, struct tcp_info *out_info) {
  socklen_t length = sizeof *out_info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, out_info, &length) == 0 &&
         length >= offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof out_info->tcpi_bytes_sent;
}

/* Who fetches pages may ask anew once it was answered. */
static void settle_stranger(struct connection *connection) {
  struct tcp_info info = {0};
  if (connection->is_for_workers || (traffic_of(connection->fd, &info) && info.tcpi_bytes_sent == connection->settled_bytes))
    return;
  connection->settled_bytes = info.tcpi_bytes_sent;
  allowance_set(&connection->allowance, HEAD_BYTES_MAX, guard_now_ms());
}

/* Does it leave what was sent to it? */
static bool is_behind(int fd) {
  int untaken = 0;
  return ioctl(fd, SIOCOUTQ, &untaken) != 0 || untaken > UNTAKEN_BYTES_MAX;
}

/* Nothing comes back to a worker that does not take what it is sent: what nng can't send, it keeps. One that has many jobs on a
 * slow line takes them as fast as it can. */
static void settle_worker(struct connection *connection) {
  struct tcp_info info = {0};
  uint64_t taken = traffic_of(connection->fd, &info) ? info.tcpi_bytes_acked - connection->settled_bytes : 0;
  if (is_behind(connection->fd) && taken < TAKEN_SHARE * connection->allowance.most)
    return;
  connection->settled_bytes = info.tcpi_bytes_acked;
  allowance_settle(&connection->allowance, guard_now_ms());
}

/* Is there nothing that may come from it any more? On the workers' port who was answered is a worker, or leaves: nng would go
 * through the paths of all sessions for each further request. */
static bool has_asked(const struct connection *connection) {
  return connection->head.is_over && !connection->is_welcome;
}

/* How much may be read from this descriptor? 0: it is to be reset. */
static size_t readable_bytes(int fd) {
  size_t most = SIZE_MAX;
  pthread_mutex_lock(&guard.mutex);
  struct connection *connection = guard.on ? connections_find(guard.connections, fd) : NULL;
  if (connection && !connection_is_there(connection))
    connection = NULL;
  if (guard.on)
    connections_set_reader(guard.connections, connection, tls_reads_for());
  if (connection && connection->is_tcp) {
    bool is_low = allowance_is_low(&connection->allowance);
    if (is_low && connection->is_welcome)
      settle_worker(connection);
    else if (is_low)
      settle_stranger(connection);
    if (has_asked(connection) && !connection->reader && !connection->is_shut)
      shut(connection, fd);
    most = connection->is_shut ? 0 : (size_t)MAX(connection->allowance.left, 0);
    if (most == 0 && !connection->is_shut) {
      forgo_farewell(fd);
      shut(connection, fd);
    }
  }
  pthread_mutex_unlock(&guard.mutex);
  return most;
}

/* A control frame came from it. nng 1.5 never frees the pongs that wait when it has sent a close frame, which goes before them.
 * On a path on which nothing but pongs goes out, whoever lets them wait wants nothing good. */
static void check_pongs(struct connection *connection) {
  int copy = connection->is_welcome && !connection->gets_jobs && !connection->is_shut ? copy_of(connection) : -1;
  if (copy < 0)
    return;
  if (is_behind(copy)) {
    forgo_farewell(copy);
    shut(connection, copy);
  }
  close(copy);
}

/* Charges the frame that begins with this byte. */
static void charge_frame(struct connection *connection, uint8_t first) {
  allowance_charge_frame(&connection->allowance, first);
  if (allowance_is_control(first))
    check_pongs(connection);
}

/* Once for all bytes that nng is to see, decrypted ones if they were encrypted, of which it asked for `asked`. Returns how many
 * it gets. */
static size_t inspect(struct connection *connection, size_t asked, const struct iovec *parts, size_t length) {
  if (asked <= FRAME_HEAD_BYTES)
    charge_frame(connection, *(const uint8_t *)parts->iov_base);
  bool is_stranger = guard.knows_tls && !connection->is_welcome && !connection->is_rpc;
  return is_stranger ? head_filter(&connection->head, parts, length) : length;
}

/* Charges a read for `asked` that got `length` bytes, into these parts; returns how many of them nng gets. The reader holds the
 * descriptor open: it is still the same connection, unless the table has forgotten it. */
static size_t charge(int fd, size_t asked, const struct iovec *parts, size_t length) {
  pthread_mutex_lock(&guard.mutex);
  struct connection *connection = guard.on ? connections_find(guard.connections, fd) : NULL;
  if (connection) {
    allowance_charge(&connection->allowance, length);
    if (!connection->reader)
      length = inspect(connection, asked, parts, length);
  }
  pthread_mutex_unlock(&guard.mutex);
  return length;
}

/* Copies as many of the parts as hold `most` bytes; returns their number. `*out_asked` is what all of them hold. */
static int cut_parts(const struct iovec *parts, int count, size_t most, struct iovec *out_parts, size_t *out_asked) {
  int kept = 0;
  *out_asked = 0;
  for (int i = 0; i < count; i++) {
    size_t length = MIN(parts[i].iov_len, most);
    if (length > 0)
      out_parts[kept++] = (struct iovec){.iov_base = parts[i].iov_base, .iov_len = length};
    most -= length;
    *out_asked += parts[i].iov_len;
  }
  return kept;
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
  size_t most = count > 0 && count <= READ_PARTS_MAX ? readable_bytes(fd) : SIZE_MAX;
  if (most == SIZE_MAX)
    return syscall(SYS_readv, fd, parts, count);
  if (most == 0) {
    errno = ECONNRESET;
    return -1;
  }
  struct iovec kept[READ_PARTS_MAX];
  size_t asked;
  int kept_count = cut_parts(parts, count, most, kept, &asked);
  ssize_t length = syscall(SYS_readv, fd, kept, kept_count);
  int code = errno;
  if (length > 0)
    length = (ssize_t)charge(fd, asked, kept, (size_t)length);
  errno = code;
  return length;
}

static size_t inspect_decrypted(const void *tls, size_t asked, uint8_t *bytes, size_t length) {
  pthread_mutex_lock(&guard.mutex);
  struct connection *connection = guard.on ? connections_find_reader(guard.connections, tls) : NULL;
  if (connection)
    length = inspect(connection, asked, &(struct iovec){.iov_base = bytes, .iov_len = length}, length);
  pthread_mutex_unlock(&guard.mutex);
  return length;
}

/* ---- by the second ---- */

/* Shuts it if nothing was ever sent on it, or if it has to be welcome and is not. */
static void check_head(struct connection *connection) {
  struct tcp_info info;
  int copy = copy_of(connection);
  if (copy < 0)
    return;
  if (connection->is_for_workers || (traffic_of(copy, &info) && info.tcpi_bytes_sent == 0))
    shut(connection, copy);
  connection->has_answer = true;
  close(copy);
}

static void tick(void) {
  connections_sweep(guard.connections);
  connections_sweep_addresses(guard.connections);
  GHashTableIter iterator;
  gpointer value;
  g_hash_table_iter_init(&iterator, guard.connections->by_fd);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct connection *connection = value;
    if (connection->is_tcp && !connection->has_answer && ++connection->ticks > HEAD_TICKS)
      check_head(connection);
  }
}

/* Gives the mutex back while it tells. */
static void tell_refused(void) {
  void (*tell)(const uint64_t counts[REFUSALS]) = guard.connections->limits.tell_refused;
  uint64_t counts[REFUSALS];
  if (!tell || !connections_take_refused(guard.connections, counts))
    return;
  pthread_mutex_unlock(&guard.mutex);
  tell(counts);
  pthread_mutex_lock(&guard.mutex);
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
    if (guard.on) {
      tick();
      tell_refused();
    }
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
  guard.knows_tls = tls_reads_show(inspect_decrypted);
  guard.hung_up = false;
  guard.fd_max = descriptors - reserved;
  guard.spare = open_spare();
  guard.connections = connections_new(limits);
  guard.on = true;
  int failure = pthread_create(&guard.thread, NULL, run_guard, NULL);
  g_assert(failure == 0);
  pthread_mutex_unlock(&guard.mutex);
}

/* Under the mutex. */
static struct connection *find_worker(const struct sockaddr_storage *peer) {
  struct endpoint endpoint = endpoint_of(peer);
  return guard.on ? connections_find_peer(guard.connections, &endpoint) : NULL;
}

void guard_welcome(const struct sockaddr_storage *peer, size_t idle_bytes, bool gets_jobs) {
  pthread_mutex_lock(&guard.mutex);
  struct connection *connection = find_worker(peer);
  if (connection) {
    connection->has_answer = connection->is_welcome = true;
    connection->gets_jobs = gets_jobs;
    allowance_set(&connection->allowance, idle_bytes, guard_now_ms());
  }
  pthread_mutex_unlock(&guard.mutex);
}

void guard_give_back(const struct sockaddr_storage *peer, size_t message_bytes) {
  pthread_mutex_lock(&guard.mutex);
  struct connection *connection = find_worker(peer);
  if (connection && connection->is_welcome)
    allowance_give_back(&connection->allowance, message_bytes);
  pthread_mutex_unlock(&guard.mutex);
}

unsigned guard_connection_count(void) {
  pthread_mutex_lock(&guard.mutex);
  unsigned count = 0;
  if (guard.on) {
    connections_sweep(guard.connections);
    count = g_hash_table_size(guard.connections->by_fd);
  }
  pthread_mutex_unlock(&guard.mutex);
  return count;
}

void guard_count_refused(uint64_t out_counts[REFUSALS]) {
  pthread_mutex_lock(&guard.mutex);
  for (int i = 0; i < REFUSALS; i++)
    out_counts[i] = guard.on ? guard.connections->refused[i] : 0;
  pthread_mutex_unlock(&guard.mutex);
}

static bool is_rpc(const struct connection *connection) {
  return connection->is_rpc;
}

/* Of one that was shut nothing is read any more, and what was at work for it ends in a moment, even if its owner keeps it open:
 * nng does not always notice that a peer has left in the middle of TLS. */
static bool is_unfinished(const struct connection *connection) {
  bool is_over = connection->is_shut && guard_now_ms() - connection->shut_ms >= OVER_MS;
  return connection->is_for_workers && !connection->is_welcome && !is_over;
}

/* Is there none of this kind? Looks only at those, and shuts them if told to. Under the mutex. */
static bool has_none(bool (*is_meant)(const struct connection *), bool shuts) {
  bool none = true;
  GHashTableIter iterator;
  gpointer value;
  g_hash_table_iter_init(&iterator, guard.connections->by_fd);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct connection *connection = value;
    if (!is_meant(connection) || !connection_is_there(connection))
      continue;
    none = false;
    int copy = shuts && !connection->is_shut ? copy_of(connection) : -1;
    if (copy < 0)
      continue;
    shut(connection, copy);
    close(copy);
  }
  return none;
}

/* Waits until there is none of them, at most `wait_ms`. Under the mutex, which is given back meanwhile. */
static bool wait_for_none(bool (*is_meant)(const struct connection *), bool shuts, int64_t wait_ms) {
  const int64_t deadline_ms = guard_now_ms() + wait_ms;
  bool none;
  while (!(none = !guard.on || has_none(is_meant, shuts)) && guard_now_ms() < deadline_ms) {
    pthread_mutex_unlock(&guard.mutex);
    nap(shuts ? SHUT_NAP_MS : PATIENT_NAP_MS);
    pthread_mutex_lock(&guard.mutex);
  }
  return none;
}

/* Connections of this port from before it was the workers': they could never be welcome. */
static bool is_early(const struct connection *connection) {
  return !connection->is_for_workers && is_for_workers(connection->fd);
}

void guard_want_welcome(uint16_t port, size_t head_bytes) {
  pthread_mutex_lock(&guard.mutex);
  guard.welcome_port = htons(port);
  guard.head_bytes = head_bytes;
  if (guard.on)
    has_none(is_early, true);
  pthread_mutex_unlock(&guard.mutex);
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
  connections_free(guard.connections);
  if (guard.spare >= 0)
    close(guard.spare);
}
