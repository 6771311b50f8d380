/* SPDX-License-Identifier: Apache-2.0 */
/* connections.h: the table of the guard: which connections there are, whose they are, and how many an address has and may have.
 * Who closes a connection does not tell us: an entry whose descriptor is another socket by now is gone. Private to the guard.
 * Threads: the guard's mutex. Errors: none. */
#ifndef MILLRACE_WORKERS_CONNECTIONS_H
#define MILLRACE_WORKERS_CONNECTIONS_H

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "workers/allowance.h"
#include "workers/guard.h"
#include "workers/head.h"

/* As IPv6 writes it. All zero: nobody that has an address (unix sockets). */
struct address {
  uint8_t bytes[16];
};

struct endpoint {
  struct address address;
  in_port_t port; /* in network order */
};

struct connection {
  int fd; /* its key */
  ino_t inode;
  struct endpoint peer;
  struct address counted; /* to whom it is counted: an IPv6 address' /64 */
  bool is_tcp;
  bool is_for_workers; /* accepted on the workers' port */
  bool is_welcome;
  bool gets_jobs; /* is sent more than pongs */
  bool is_rpc;    /* gRPC's */
  bool is_shut;
  int64_t shut_ms;    /* when */
  bool has_answer;    /* its head is done with: it is welcome, was answered, or is shut */
  int ticks;          /* of the guard's thread since it was accepted, until it has an answer */
  const void *reader; /* which TLS state reads it; NULL: not known */
  struct head head;   /* what it sends until it is welcome */
  struct allowance allowance;
  uint64_t settled_bytes; /* what had gone to it when its allowance last came back */
};

struct connections {
  struct guard_limits limits;
  GHashTable *by_fd;     /* struct connection */
  GHashTable *by_peer;   /* struct endpoint -> the same; those on the workers' port */
  GHashTable *by_reader; /* the same; those of which it is known */
  GHashTable *addresses; /* struct address -> struct record */
  int64_t swept_ms;
  uint64_t refused[REFUSALS]; /* so far */
  uint64_t told[REFUSALS];    /* of them, when they were last taken */
  int64_t told_ms;
};

struct endpoint endpoint_of(const struct sockaddr_storage *address);
/* Milliseconds of the monotonic clock. */
int64_t guard_now_ms(void);

struct connections *connections_new(const struct guard_limits *limits);
void connections_free(struct connections *connections);
/* Enters a newly accepted one, if its address may have another. NULL: not entered, but counted as refused. The entry is the
 * table's. */
struct connection *connections_admit(struct connections *connections, int fd, bool is_for_workers);
/* What is entered for this descriptor, which may be another socket by now; or NULL. */
struct connection *connections_find(struct connections *connections, int fd);
/* The newest on the workers' port with this peer, or NULL. */
struct connection *connections_find_peer(struct connections *connections, const struct endpoint *peer);
/* Notes who reads it (NULL: not known), or that this reader reads one that is not entered (NULL); and finds the connection again,
 * or NULL. */
void connections_set_reader(struct connections *connections, struct connection *connection, const void *reader);
struct connection *connections_find_reader(struct connections *connections, const void *reader);
/* Stores those refused since they were last taken. False: there are none, or that was less than a minute ago. */
bool connections_take_refused(struct connections *connections, uint64_t out_counts[REFUSALS]);
bool connection_is_there(const struct connection *connection);
void connections_forget(struct connections *connections, int fd);
/* Forgets those that are gone. One system call for each. */
void connections_sweep(struct connections *connections);
/* Forgets addresses without connections that opened none lately. */
void connections_sweep_addresses(struct connections *connections);

#endif
