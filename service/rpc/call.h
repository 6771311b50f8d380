/* SPDX-License-Identifier: Apache-2.0 */
/* call.h: what the parts of rpc/ share: the server, its routes, a call as it comes in, and the tags of the completion queue. Not
 * for other folders.
 *
 *   route --posted ahead--> call --arrives--> route->accept(call) --> unary.c, or stream.c and its users --> call_release
 *
 * Threads: locks are POSIX's, which ThreadSanitizer understands (GLib's it does not). Tags become ready on the poller's thread,
 * one at a time. Counters are atomic. */
#ifndef MILLRACE_RPC_CALL_H
#define MILLRACE_RPC_CALL_H

#include <glib.h>
#include <grpc/grpc.h>
#include <pthread.h>

#include "rpc/grants.h"
#include "rpc/server.h"

/* When there is no room for a call at the moment. */
enum { BUSY_RETRY_MS = 500 };

struct call;
struct health;
struct reflection;
struct scaler;
struct stream;

/* What the completion queue hands back. The owner embeds one for each operation that it has outstanding. */
struct tag {
  void (*ready)(struct tag *tag, bool ok);
};

/* The queue orders the one who starts an operation before the poller, but inside libgrpc, where ThreadSanitizer does not look. */
void tag_release(struct tag *tag);
void tag_acquire(struct tag *tag);

/* Starts a batch on a call. A refused batch is a mistake of ours. */
void call_start(struct call *call, const grpc_op *operations, size_t count, struct tag *tag);

/* Something that starts an operation, when its turn comes. The owner embeds it. */
struct deferred {
  struct deferred *next;
  void (*start)(struct deferred *deferred);
};

struct deferred_list {
  struct deferred *first;
  struct deferred **end;
};

struct rpc_server {
  struct engine *engine;
  struct hub *hub;
  size_t request_bytes_max;
  size_t stream_backlog_bytes_max;
  size_t backlogs_bytes_max;
  size_t answers_bytes_max;
  int64_t answer_wait_ms;
  grpc_server *server;
  grpc_completion_queue *queue;
  GThread *poller;
  struct route *routes;
  size_t route_count;
  uint16_t *ports;
  size_t port_count;
  struct rpc_audience audience;
  struct secure *secure; /* NULL: nothing is encrypted */
  struct rates *rates;   /* NULL: any number of calls */
  bool asks_who;         /* there are grants, now and for good */
  struct health *health;
  struct reflection *reflection;
  struct scaler *scaler;
  gint serving;
  gint stopping;        /* calls under way are being ended */
  gint closing;         /* and none is taken any more */
  gsize requests_bytes; /* unpacked requests not yet answered */
  gsize answers_bytes;  /* big answers to unary calls that have not gone out */
  gsize backlogs_bytes; /* messages of streams that have not */
  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t changed;
  unsigned calls;  /* accepted and not released yet */
  unsigned served; /* those of them that were not refused because the server stops */
  bool shut_down;
  struct tag shut_down_tag;
  GQueue lasting;                /* struct call: those that a stop has to end */
  pthread_mutex_t grants_lock;   /* of what follows; taken after `lock` */
  struct grants *grants;         /* NULL: everybody may do everything */
  pthread_mutex_t deferred_lock; /* of what follows */
  struct deferred_list gathered; /* not let go yet */
  struct deferred_list rest;     /* left to the poller: an event is on its way to it */
  pthread_mutex_t answers_lock;  /* of what follows */
  GQueue answers;                /* struct unary: those that answers_bytes counts, the oldest first */
};

/* Answers that become ready together: each is deferred, then all are let go. The first is started by the caller; its completion
 * wakes the poller, which starts the rest: it needs no waking for theirs, and reads more requests at a time. Without this a
 * create costs the server a tenth more. From any thread. */
void call_init_deferred(struct rpc_server *server);
void call_defer(struct rpc_server *server, struct deferred *deferred);
void call_let_go(struct rpc_server *server);
/* The poller's side, after each event. */
void call_start_rest(struct rpc_server *server);

/* One registered path, or (path NULL) all others. */
struct route {
  struct rpc_server *server;
  const char *path;
  void *registered;
  const struct method *method;                                    /* NULL: not in the engine's table */
  enum role role;                                                 /* who may call; NONE: everybody */
  bool always;                                                    /* also while the server is not serving */
  bool payload;                                                   /* the first message comes with the call */
  size_t call_bytes;                                              /* of the structure that begins with struct call */
  void (*accept)(struct call *call, const struct error *refused); /* takes the call; `refused`: answer with it */
};

struct call {
  struct tag requested;
  struct route *route;
  grpc_call *call;
  gpr_timespec deadline;
  grpc_metadata_array metadata;
  grpc_call_details details; /* unknown methods only */
  grpc_byte_buffer *payload; /* NULL: the client sent none */
  struct grant *grant;       /* the caller's; NULL: nobody asked */
  bool served;               /* counted among server->served */
  GList link;                /* among server->lasting */
  void (*stop)(struct call *call);
};

/* Ends the life of an accepted call: frees it with all that came with it. */
void call_release(struct call *call);

/* Counts a message that came in on the call (the call itself is one). RESOURCE_EXHAUSTED: its address sends too many. */
enum status call_count_message(const struct call *call, struct error *error) STATUS_CHECK;

/* From now on `stop` is called when the server stops, with its lock held: it makes the call end soon and releases nothing. */
void call_lasts(struct call *call, void (*stop)(struct call *call));
void call_lasts_no_more(struct call *call);
/* What callers are told at a stop. */
void call_stopping_error(struct error *error);

/* A request made of an inbound message, counted among those under way until it is closed. */
struct intake {
  struct request *request; /* one reference; NULL: none */
  gsize bytes;
};
/* `payload` may be NULL (an empty message). RESOURCE_EXHAUSTED: too much under way. PERMISSION_DENIED: it concerns a queue that
 * is not the caller's to use. */
enum status intake_open(const struct call *call, grpc_byte_buffer *payload, struct intake *out_intake,
                        struct error *error) STATUS_CHECK;
void intake_close(struct rpc_server *server, struct intake *intake);

#endif
