/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h: where worker processes are connected. It joins each session to one connection at a time: a pair of WebSockets over nng
 * (on the paths /sessions/<id>/jobs and /reports of one port) or a gRPC Attach stream that rpc hands in; the engine does not care
 * which. It checks the session token before anything else, sends what the engine releases, passes on what workers report, and
 * refuses to know what is in either. Threads: any. Callbacks towards the engine come from nng's threads. hub_close blocks until
 * those have left them. */
#ifndef MILLRACE_WORKERS_HUB_H
#define MILLRACE_WORKERS_HUB_H

#include <sys/socket.h>

#include "core/tls.h"
#include "engine/engine.h"

struct hub;

struct hub_options {
  const char *listen_host;     /* an IP address; NULL: 127.0.0.1. Any Host header is served. */
  uint16_t port;               /* 0: any free one, see hub_port */
  const struct tls_texts *tls; /* NULL: no encryption, ws instead of wss */
  size_t reports_bytes_max;
  unsigned sessions_max;
  uint32_t messages_per_second_max; /* from one session; one that sends more loses its connection. 0: any number */
};

/* Binds the port; nobody can join before hub_start, which gives it the engine. */
enum status hub_open(const struct hub_options *options, struct hub **out_hub, struct error *error) STATUS_CHECK;
uint16_t hub_port(const struct hub *hub);
/* Other certificates, for a hub that has some: listens anew, as a listener can't change its own. All WebSockets are closed; their
 * workers come back within the grace. UNAVAILABLE, and the message tells which: connections to the port would not go, and nothing
 * has changed; or the port was lost in between, and only gRPC streams go on until a later call succeeds. */
enum status hub_set_tls(struct hub *hub, const struct tls_texts *tls, struct error *error) STATUS_CHECK;
/* The callbacks for engine_options.transport. */
struct transport hub_transport(struct hub *hub);
void hub_start(struct hub *hub, struct engine *engine);
void hub_close(struct hub *hub); /* stop and free; call after engine_stop; NULL is fine */

/* A gRPC Attach stream that has said its hello. `send` takes bytes as in struct transport and must not block (it may come from
 * the engine's threads, and before hub_attach has returned); `close` ends the stream and may come more than once. Who calls the
 * functions below holds no lock that these two take. False: session or token are wrong (NOT_FOUND to the worker). On success
 * *out_connection names it in the calls below. */
struct hub_stream {
  void *context;
  void (*send)(void *context, uint8_t *take_bytes, size_t length);
  void (*close)(void *context);
};
bool hub_attach(struct hub *hub, const struct id *session, const char *token, const struct hub_stream *stream,
                uint64_t *out_connection);
void hub_attach_reports(struct hub *hub, const struct id *session, uint64_t connection, const uint8_t *bytes, size_t length);
/* The stream is gone; `stream` is not used any more when this returns. */
void hub_detach(struct hub *hub, const struct id *session, uint64_t connection);

/* Guard of all ports: counts the connections accepted in the process, closes at once what is too much, shuts a TCP connection
 * that has got no answer for 5 s because its request head was never finished (on the workers' port: that is no session's), and
 * keeps gRPC and nng from ever seeing EMFILE. It raises RLIMIT_NOFILE and keeps an eighth of it, at least 64 descriptors, for the
 * rest of the process. Its accept and accept4 (guard.c) stand in place of the C library's in the program that calls this. */
struct guard_limits {
  unsigned connections_max;
  unsigned connections_per_address_max; /* an IPv6 /64 counts as one; unix sockets have none */
  unsigned new_per_second_max;          /* from one address, and twenty times as many at once; 0: any number */
};
void guard_init(const struct guard_limits *limits);
unsigned guard_connection_count(void);
/* From now on a connection to this port of ours is shut down after 5 s unless its peer was welcomed. */
void guard_want_welcome(uint16_t port);
void guard_welcome(const struct sockaddr_storage *peer);
/* Until guard_unbar, the workers' port takes no new connections and has none that is not welcome yet: those that are there have
 * `patience_ms` to become so, then they are shut and may take `wait_ms` to go. False: some have not. Each call is undone once. */
bool guard_bar(int64_t patience_ms, int64_t wait_ms);
void guard_unbar(void);
/* Closes the connections of gRPC, takes no new ones, and waits until they have gone, at most `wait_ms`: see rpc_server_stop. */
void guard_hang_up(int64_t wait_ms);
void guard_stop(void); /* accept is the C library's again; call once no port listens; harmless without guard_init */

#endif
