/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/connections.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
  NEW_BURST_S = 20,    /* so many seconds' worth of new connections may come at once */
  SWEEP_MS_MIN = 50,   /* between two sweeps that a full house asks for */
  TELL_MS_MIN = 60000, /* between two times that somebody is told of those refused */
  PREFIX_BYTES_V6 = 8, /* a /64 is one address: its owner has all of it */
};

/* What is known of an address: kept as long as it has connections, or opened some lately. */
struct record {
  unsigned connections;
  double tokens; /* each new connection takes one, time brings them back */
  int64_t filled_ms;
};

int64_t guard_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- addresses ---- */

static guint address_hash(gconstpointer address) {
  const uint8_t *bytes = ((const struct address *)address)->bytes;
  guint hash = 5381;
  for (size_t i = 0; i < sizeof(struct address); i++)
    hash = hash * 33 + bytes[i];
  return hash;
}

static gboolean address_equal(gconstpointer a, gconstpointer b) {
  return memcmp(a, b, sizeof(struct address)) == 0;
}

static bool is_counted(const struct address *address) {
  static const struct address nobody;
  return !address_equal(address, &nobody);
}

static guint endpoint_hash(gconstpointer endpoint) {
  const struct endpoint *whole = endpoint;
  return address_hash(&whole->address) * 33 + whole->port;
}

static gboolean endpoint_equal(gconstpointer a, gconstpointer b) {
  const struct endpoint *one = a, *other = b;
  return one->port == other->port && address_equal(&one->address, &other->address);
}

struct endpoint endpoint_of(const struct sockaddr_storage *address) {
  struct endpoint endpoint = {.port = 0};
  if (address->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    endpoint.port = v4->sin_port;
    memcpy(endpoint.address.bytes + 12, &v4->sin_addr, 4);
    endpoint.address.bytes[10] = endpoint.address.bytes[11] = 0xFF;
  } else if (address->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    endpoint.port = v6->sin6_port;
    memcpy(endpoint.address.bytes, &v6->sin6_addr, sizeof endpoint.address.bytes);
  }
  return endpoint;
}

static struct endpoint peer_of(int fd) {
  struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
  socklen_t length = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &length) != 0)
    address.ss_family = AF_UNSPEC;
  return endpoint_of(&address);
}

static struct address counted_as(const struct address *address) {
  struct in6_addr full;
  memcpy(&full, address->bytes, sizeof full);
  struct address counted = {{0}};
  memcpy(counted.bytes, address->bytes,
         IN6_IS_ADDR_V4MAPPED(&full) || IN6_IS_ADDR_LOOPBACK(&full) ? sizeof full : PREFIX_BYTES_V6);
  return counted;
}

/* Of an address that counts; made if need be. */
static struct record *record_of(struct connections *connections, const struct address *address) {
  struct record *record = g_hash_table_lookup(connections->addresses, address);
  const unsigned per_second = connections->limits.new_per_second_max;
  const double most = NEW_BURST_S * (double)per_second;
  int64_t now = guard_now_ms();
  if (!record) {
    record = g_new0(struct record, 1);
    record->tokens = most;
    g_hash_table_insert(connections->addresses, g_memdup2(address, sizeof *address), record);
  } else {
    double back = (double)(now - record->filled_ms) / 1000 * per_second;
    record->tokens = MIN(most, record->tokens + back);
  }
  record->filled_ms = now;
  return record;
}

static void count(struct connections *connections, const struct address *address, int change) {
  if (is_counted(address))
    record_of(connections, address)->connections += (unsigned)change;
}

/* May it open one more now? */
static bool takes_token(struct connections *connections, const struct address *address) {
  if (connections->limits.new_per_second_max == 0 || !is_counted(address))
    return true;
  struct record *record = record_of(connections, address);
  if (record->tokens < 1)
    return false;
  record->tokens--;
  return true;
}

static bool house_is_full(const struct connections *connections, const struct address *address, enum refusal *out_reason) {
  *out_reason = REFUSED_TOTAL;
  if (g_hash_table_size(connections->by_fd) >= connections->limits.connections_max)
    return true;
  *out_reason = REFUSED_ADDRESS;
  const struct record *record = is_counted(address) ? g_hash_table_lookup(connections->addresses, address) : NULL;
  return record && record->connections >= connections->limits.connections_per_address_max;
}

void connections_sweep_addresses(struct connections *connections) {
  GHashTableIter iterator;
  gpointer value;
  int64_t now = guard_now_ms();
  g_hash_table_iter_init(&iterator, connections->addresses);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    const struct record *record = value;
    if (record->connections == 0 && now - record->filled_ms >= NEW_BURST_S * 1000)
      g_hash_table_iter_remove(&iterator);
  }
}

/* ---- the table ---- */

struct connections *connections_new(const struct guard_limits *limits) {
  struct connections *connections = g_new0(struct connections, 1);
  connections->limits = *limits;
  connections->told_ms = guard_now_ms() - TELL_MS_MIN;
  connections->by_fd = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  connections->by_peer = g_hash_table_new(endpoint_hash, endpoint_equal);
  connections->by_reader = g_hash_table_new(NULL, NULL);
  connections->addresses = g_hash_table_new_full(address_hash, address_equal, g_free, g_free);
  return connections;
}

void connections_free(struct connections *connections) {
  if (!connections)
    return;
  g_hash_table_destroy(connections->by_peer);
  g_hash_table_destroy(connections->by_reader);
  g_hash_table_destroy(connections->by_fd);
  g_hash_table_destroy(connections->addresses);
  g_free(connections);
}

static bool inode_of(int fd, ino_t *out_inode) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode))
    return false;
  *out_inode = status.st_ino;
  return true;
}

bool connection_is_there(const struct connection *connection) {
  ino_t inode;
  return inode_of(connection->fd, &inode) && inode == connection->inode;
}

/* Takes it out of everything but the table by descriptor. */
static void part(struct connections *connections, const struct connection *connection) {
  count(connections, &connection->counted, -1);
  if (g_hash_table_lookup(connections->by_peer, &connection->peer) == connection)
    g_hash_table_remove(connections->by_peer, &connection->peer);
  if (g_hash_table_lookup(connections->by_reader, connection->reader) == connection)
    g_hash_table_remove(connections->by_reader, connection->reader);
}

void connections_forget(struct connections *connections, int fd) {
  const struct connection *connection = connections_find(connections, fd);
  if (!connection)
    return;
  part(connections, connection);
  g_hash_table_remove(connections->by_fd, GINT_TO_POINTER(fd));
}

void connections_sweep(struct connections *connections) {
  connections->swept_ms = guard_now_ms();
  GHashTableIter iterator;
  gpointer value;
  g_hash_table_iter_init(&iterator, connections->by_fd);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    if (connection_is_there(value))
      continue;
    part(connections, value);
    g_hash_table_iter_remove(&iterator);
  }
}

/* May this address have one more now? */
static bool has_room(struct connections *connections, const struct address *address) {
  enum refusal reason = REFUSED_RATE;
  bool may_come = takes_token(connections, address);
  if (may_come && house_is_full(connections, address, &reason) && guard_now_ms() - connections->swept_ms >= SWEEP_MS_MIN)
    connections_sweep(connections);
  if (may_come && !house_is_full(connections, address, &reason))
    return true;
  connections->refused[reason]++;
  return false;
}

struct connection *connections_admit(struct connections *connections, int fd, bool is_for_workers) {
  struct endpoint peer = peer_of(fd);
  struct address counted = counted_as(&peer.address);
  connections_forget(connections, fd); /* a descriptor given again: the one before is gone */
  ino_t inode;
  if (!has_room(connections, &counted) || !inode_of(fd, &inode))
    return NULL;
  int domain = 0;
  socklen_t length = sizeof domain;
  struct connection *connection = g_new0(struct connection, 1);
  *connection = (struct connection){
      .fd = fd,
      .inode = inode,
      .peer = peer,
      .counted = counted,
      .is_tcp = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain != AF_UNIX,
      .is_for_workers = is_for_workers,
      .head = {.is_only = is_for_workers},
  };
  g_hash_table_insert(connections->by_fd, GINT_TO_POINTER(fd), connection);
  if (is_for_workers) /* its key with it: the key is part of the connection */
    g_hash_table_replace(connections->by_peer, &connection->peer, connection);
  count(connections, &counted, 1);
  return connection;
}

const char *refusal_name(enum refusal reason) {
  static const char *const names[REFUSALS] = {"rate", "address", "total", "descriptors"};
  return names[reason];
}

bool connections_take_refused(struct connections *connections, uint64_t out_counts[REFUSALS]) {
  int64_t now_ms = guard_now_ms();
  if (now_ms - connections->told_ms < TELL_MS_MIN ||
      memcmp(connections->told, connections->refused, sizeof connections->told) == 0)
    return false;
  for (int i = 0; i < REFUSALS; i++) {
    out_counts[i] = connections->refused[i] - connections->told[i];
    connections->told[i] = connections->refused[i];
  }
  connections->told_ms = now_ms;
  return true;
}

struct connection *connections_find(struct connections *connections, int fd) {
  return g_hash_table_lookup(connections->by_fd, GINT_TO_POINTER(fd));
}

struct connection *connections_find_peer(struct connections *connections, const struct endpoint *peer) {
  return g_hash_table_lookup(connections->by_peer, peer);
}

void connections_set_reader(struct connections *connections, struct connection *connection, const void *reader) {
  if (!reader)
    return;
  if (!connection) {
    g_hash_table_remove(connections->by_reader, reader);
  } else if (connection->reader != reader) {
    connection->reader = reader;
    g_hash_table_insert(connections->by_reader, (gpointer)reader, connection);
  }
}

struct connection *connections_find_reader(struct connections *connections, const void *reader) {
  return g_hash_table_lookup(connections->by_reader, reader);
}
