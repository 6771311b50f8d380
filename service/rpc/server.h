/* SPDX-License-Identifier: Apache-2.0 */
/* server.h: the gRPC front. One poller thread; every method of the engine's table is served by a generic adapter driven by
 * protobuf-c's descriptors; streams, Attach, health and reflection by hand. It decides nothing: requests go to the engine,
 * replies come back. Threads: open/start/stop/free from one. Errors: STATUS_UNAVAILABLE when the address can't be bound. */
#ifndef MILLRACE_RPC_SERVER_H
#define MILLRACE_RPC_SERVER_H

#include "core/tls.h"
#include "engine/engine.h"
#include "workers/hub.h"

struct rpc_server;
struct grants; /* see grants.h */

/* Something for the record: an administrative action, or a call that was refused to its caller. Texts live during the call. */
struct rpc_record {
  const char *event;  /* "audit", "call_refused" */
  const char *who;    /* name of the grant, or of the certificate; "-": nobody in particular */
  const char *from;   /* address */
  const char *method; /* "QueueService/PurgeQueue" */
  const char *target; /* name or id; "": none */
  const char *result; /* "OK", "NOT_FOUND" */
  const char *reason; /* the sentence that was answered; "": none */
};

/* Who is told of such things; from any thread, must not block. */
struct rpc_audience {
  void (*tell)(void *context, const struct rpc_record *record); /* NULL: nobody */
  void *context;
};

struct rpc_options {
  const char *const *addresses; /* "127.0.0.1:7070", "unix:/run/millrace.sock", NULL-terminated */
  struct engine *engine;        /* borrowed */
  struct hub *hub;              /* borrowed; for Attach */
  struct grants *take_grants;   /* NULL: whoever reaches a port may do everything */
  const struct tls_texts *tls;  /* NULL: nothing is encrypted. Unix sockets never are */
  struct rpc_audience audience;
  size_t request_bytes_max;         /* 0: 4 MiB */
  size_t metadata_bytes_max;        /* 0: 16 KiB */
  unsigned streams_max;             /* per connection; 0: 1,000 */
  uint32_t messages_per_second_max; /* from one address; 0: any number */
  size_t stream_backlog_bytes_max;  /* unsent on one stream before it is ended; 0: 32 MiB */
  size_t backlogs_bytes_max;        /* unsent on all streams; 0: 256 MiB */
  size_t answers_bytes_max;         /* big answers to unary calls that are not read; 0: 256 MiB */
  int64_t answer_wait_ms;           /* how long such an answer may wait for its reader; 0: 60,000 */
};

enum status rpc_server_open(const struct rpc_options *options, struct rpc_server **out_server, struct error *error) STATUS_CHECK;
/* Port bound for address number `index` (for ":0"); 0 for a unix socket. */
uint16_t rpc_server_port(const struct rpc_server *server, size_t index);
void rpc_server_start(struct rpc_server *server);
/* Health SERVING or NOT_SERVING, told to watchers. NOT_SERVING until first called with true; requests before are UNAVAILABLE. */
void rpc_server_set_serving(struct rpc_server *server, bool serving);
/* In place of the grants at opening (which were not NULL). Calls under way whose grant is gone or different are ended. */
void rpc_server_set_grants(struct rpc_server *server, struct grants *take_grants);
/* For new connections, in place of what was given at opening (which was not NULL). */
void rpc_server_set_tls(struct rpc_server *server, const struct tls_texts *tls);
/* Refuses new calls, gives running ones `grace_ms`, cancels the rest, joins. */
void rpc_server_stop(struct rpc_server *server, int64_t grace_ms);
void rpc_server_free(struct rpc_server *server); /* NULL is fine */

#endif
