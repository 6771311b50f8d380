/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h: where worker processes are connected. It joins each session to one connection at a time: a pair of WebSockets over nng
 * (on the paths /sessions/<id>/jobs and /reports of one port) or a gRPC Attach stream that rpc hands in; the engine does not care
 * which. It checks the session token before anything else, sends what the engine releases, passes on what workers report, and
 * refuses to know what is in either. Threads: any. Callbacks towards the engine come from nng's threads. hub_close blocks until
 * those have left them. */
#ifndef MILLRACE_WORKERS_HUB_H
#define MILLRACE_WORKERS_HUB_H

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

#endif
