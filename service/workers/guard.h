/* SPDX-License-Identifier: Apache-2.0 */
/* guard.h: the guard of all ports. It counts the connections accepted in the process and closes at once what is too much; shuts a
 * TCP connection that got no answer for 5 s because its request head was never finished; lets nobody send nng more than it can
 * bear; and keeps gRPC and nng from ever seeing EMFILE: it raises RLIMIT_NOFILE and keeps an eighth of it, at least 64
 * descriptors, for the rest of the process. There is one for the process: its accept, accept4 and readv (guard.c) and its
 * mbedtls_ssl_read (tls_reads.c) stand in place of those of the libraries in the program that links it, and do as they do
 * until guard_init.
 *
 * What nng reads is charged to the connection's allowance. One whose allowance is used up is reset, and what it sent beyond is
 * never seen. A connection that was not welcomed may send a request head, of which nng gets each percent sign as an underscore.
 * What follows on the workers' port is never seen; on other ports it may send another one as soon as it was answered. Who was
 * welcomed may send what guard_welcome says without anything coming of it. Its messages are given back as they are taken, and 4
 * KiB a second; but nothing is, while it does not take what was sent to it. Threads: any. Errors: none. */
#ifndef MILLRACE_WORKERS_GUARD_H
#define MILLRACE_WORKERS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* The limit for which a new connection is closed at once. */
enum refusal { REFUSED_RATE, REFUSED_ADDRESS, REFUSED_TOTAL, REFUSED_DESCRIPTORS };
enum { REFUSALS = REFUSED_DESCRIPTORS + 1 };
const char *refusal_name(enum refusal reason);

struct guard_limits {
  unsigned connections_max;
  unsigned connections_per_address_max; /* an IPv6 /64 counts as one; unix sockets have none */
  unsigned new_per_second_max;          /* from one address, and twenty times as many at once; 0: any number */
  /* Told of those refused since the last time, once a minute at most, if there were any; by a thread of the guard, which waits.
   * NULL: nobody is. */
  void (*tell_refused)(const uint64_t counts[REFUSALS]);
};

/* Once, before any port listens; again only after guard_stop. */
void guard_init(const struct guard_limits *limits);
/* Once no port listens; harmless without guard_init. */
void guard_stop(void);
/* Those that are open now, in the whole process. */
unsigned guard_connection_count(void);
/* Those that were refused so far. */
void guard_count_refused(uint64_t out_counts[REFUSALS]);

/* From now on a connection to this port of ours (in host order; 0: to none) may send `head_bytes`, above 0, and is shut down
 * after 5 s, unless its peer was welcomed. Call it before anybody may be welcome: who was accepted before is shut down. */
void guard_want_welcome(uint16_t port, size_t head_bytes);
/* The connection from this address and port to the workers' port is a worker's, and may send `idle_bytes` (above 0) of which
 * nothing comes: with room for the largest message, if it may send any. If it gets no jobs, it is reset for a ping while it does
 * not take the answers to others. Unknown peers are passed over. */
void guard_welcome(const struct sockaddr_storage *peer, size_t idle_bytes, bool gets_jobs);
/* A message of so many bytes from this peer was taken. */
void guard_give_back(const struct sockaddr_storage *peer, size_t message_bytes);

/* Until guard_unbar, the workers' port takes no new connections and has none that is not welcome yet: those that are there have
 * `patience_ms` to become so, then they are shut and may take `wait_ms` to go; after a second they count as gone. Blocks that
 * long. False: some have not. Each call is undone once. */
bool guard_bar(int64_t patience_ms, int64_t wait_ms);
void guard_unbar(void);
/* Closes the connections of gRPC, takes no new ones, and waits until they have gone, at most `wait_ms`: see rpc_server_stop. */
void guard_hang_up(int64_t wait_ms);

#endif
