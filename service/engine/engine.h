/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h: the owner of the truth. One thread takes requests, reports and due timers in turns, decides with the pure core,
 * writes one batch a turn and hands its replies and deliveries to the syncer, which releases them once they are durable. Lists
 * are read by a thread of their own from the durable view.
 *
 *   any thread --engine_submit--> mailbox --turn--> store --syncer--> request->done(), transport->send()
 *
 * It refuses to know how bytes travel: gRPC, nng and HTTP call it, never the other way round except through the callbacks below.
 * Threads: engine_open/start/stop/free from one; everything else from any. Callbacks come from the engine's, syncer's or reader's
 * thread (or from engine_submit itself when the request is invalid); they must not block and may call engine_submit.
 * Errors: as in core/error.h. A store that fails stops the engine: see engine_options.failed. */
#ifndef MILLRACE_ENGINE_ENGINE_H
#define MILLRACE_ENGINE_ENGINE_H

#include <protobuf-c/protobuf-c.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/id.h"
#include "store/store.h"

struct engine;

/* Who may call a method; checked by rpc/auth. NONE: everybody; ANY: whoever is known. */
enum role { ROLE_NONE, ROLE_ANY, ROLE_VIEWER, ROLE_PRODUCER, ROLE_WORKER, ROLE_SCALER, ROLE_ADMIN };

/* Shape of a method on the wire. */
enum method_shape {
  METHOD_UNARY,
  METHOD_SERVER_STREAM,
  METHOD_MESSAGE_STREAM /* bidi: each message is a request of its own, answered in order */
};

struct turn;
struct request;

/* One row of the table of methods: the only place that lists them (methods.c). Attach and the standard services are not in it. */
struct method {
  const char *path; /* "/millrace.v1.JobService/CreateJob" */
  const ProtobufCMessageDescriptor *request;
  const ProtobufCMessageDescriptor *response;
  enum role role;
  enum method_shape shape;
  bool reader; /* runs on the reader thread */
  bool urgent; /* goes ahead of creates */
  /* Private to the engine: names what will be read (may be NULL), then does it. */
  void (*prepare)(struct turn *turn, struct request *request);
  void (*apply)(struct turn *turn, struct request *request);
};
extern const struct method methods[];
extern const size_t method_count;

/* One call. Heap, reference counted: the submitter has one reference, the engine takes its own. */
struct request {
  /* Set by the submitter. */
  const struct method *method;
  struct arena *arena;             /* owned by the request: the message lives here; freed with it */
  const ProtobufCMessage *message; /* of type method->request */
  char **queues;                   /* patterns of the queues that the caller may use (owned); NULL: all */
  /* Exactly once; error NULL: OK. Error and response are valid during the call. */
  void (*done)(struct request *request, const struct error *error, const ProtobufCMessage *response);
  /* Answers that become durable together are given out together: `all_done(group)` follows the last `done` of them, on the same
   * thread. NULL: whoever answers does not care. `group` must outlive the request. */
  void (*all_done)(void *group);
  void *group;
  /* METHOD_SERVER_STREAM only: one message, valid during the call. False: the reader is too slow, end it (done follows). */
  bool (*event)(struct request *request, const ProtobufCMessage *message);
  /* For a stream longer than memory, from a thread of its own: waits until little of it waits for the reader. False: that has
   * left, or took nothing for `wait_ms`. NULL: need not wait. */
  bool (*drained)(struct request *request, int64_t wait_ms);
  void (*released)(struct request *request); /* last reference dropped, before memory goes; may be NULL */
  void *context;
  /* Private to the engine. */
  void *state;
  int references;
  int cancelled; /* atomic */
  bool finished;
};

/* A request with one reference and an arena of at most `bytes_max` (0: no limit). */
struct request *request_new(const struct method *method, size_t bytes_max);
struct request *request_ref(struct request *request);
void request_unref(struct request *request);
/* May its caller use this queue? */
bool request_may_use(const struct request *request, const char *queue);
/* The same as an error. */
static inline enum status request_check_queue(const struct request *request, const char *queue, struct error *error) {
  if (request_may_use(request, queue))
    return STATUS_OK;
  error_set(error, STATUS_PERMISSION_DENIED, NULL, "this token is not for the queue '%.128s'", queue);
  return error_reason(error, "QUEUE_NOT_GRANTED", NULL);
}
/* done, then all_done: for a group of one. */
void request_finish(struct request *request, const struct error *error, const ProtobufCMessage *response);

/* How deliveries leave and sessions are known: implemented by workers/hub. Called from the engine's or syncer's thread, in order.
 */
struct transport {
  void *context;
  /* A session came into being (or was found in the store at start): its paths may be joined with this token. */
  void (*session_open)(void *context, const struct id *session, const uint8_t token_hash[32]);
  /* It is gone: close its connections. */
  void (*session_close)(void *context, const struct id *session);
  /* Send a packed Deliveries message over connection `connection` of the session; dropped when that one is gone. Takes `bytes`
   * (g_malloc). */
  void (*send)(void *context, const struct id *session, uint64_t connection, uint8_t *take_bytes, size_t length);
  /* Close this connection: its peer broke the protocol. The worker dials again. */
  void (*drop)(void *context, const struct id *session, uint64_t connection);
};

enum durability { DURABILITY_SYNC = 1, DURABILITY_INTERVAL = 2, DURABILITY_NONE = 3 };

struct engine_options {
  struct store *store;        /* borrowed; must outlive the engine */
  struct transport transport; /* all NULL: no workers (tests) */
  enum durability durability;
  int64_t durability_interval_ms;
  /* Clock; NULL: the system's. */
  int64_t (*wall_ms)(void *context);
  int64_t (*monotonic_ms)(void *context);
  void *clock_context;
  uint64_t seed;              /* of ids, tokens' salt and jitter; 0: from the system */
  int64_t session_timeout_ms; /* 0: 15,000 */
  int64_t reconnect_grace_ms; /* 0: 5,000 */
  int64_t heartbeat_ms;       /* 0: 5,000 */
  const char *worker_scheme;  /* told by Register: "ws" */
  const char *worker_host;    /* advertised host; NULL: the one dialled */
  uint16_t worker_port;
  const char *checkpoint_directory; /* NULL: no checkpoints */
  const char *backup_directory;     /* made and removed for each backup, on the store's file system; NULL: no backups */
  uint64_t disk_low_bytes;          /* creates refused below; 0: 512 MiB */
  uint64_t disk_stop_bytes;         /* the engine stops below; 0: 64 MiB */
  /* The store failed, or the disk is full: nothing will be answered any more; the process must stop. From any engine thread. */
  void (*failed)(void *context, const struct error *error);
  /* One event worth a log line (job ids, no payloads): key=value pairs. NULL: none. level: 0 debug, 1 info, 2 warning, 3 error.
   */
  void (*log)(void *context, int level, const char *event, const char *fields);
  int log_level;                                   /* nothing below it is worth telling; SetLogLevel changes it */
  void (*set_log_level)(void *context, int level); /* NULL: nobody needs to know */
  void *callback_context;
};

/* Recovers from the store: queues, lanes, sessions with their leases, schedules, marks. Takes no requests yet. */
enum status engine_open(const struct engine_options *options, struct engine **out_engine, struct error *error) STATUS_CHECK;
/* Starts its threads: the turns, and what they let out, go by themselves. */
void engine_start(struct engine *engine);
/* In place of engine_start, for a host that gives it no threads, such as a simulation: reads what lists ask for, takes the mail
 * and does one turn. Returns for how many ms nothing will be due; 0: the next turn is. */
int64_t engine_step(struct engine *engine);
/* Makes what the turns wrote durable, and lets out what they decided. */
void engine_sync(struct engine *engine);
/* Refuses new requests (UNAVAILABLE), finishes those at hand, answers all waits and watches with UNAVAILABLE, syncs, joins the
 * threads. */
void engine_stop(struct engine *engine);
void engine_free(struct engine *engine); /* NULL is fine */
/* Gives up the long work that callers wait for, such as a purge, and answers them with UNAVAILABLE: the server has no more time.
 */
void engine_abandon(struct engine *engine);

/* Validates and hands in a request. `done` is called exactly once, later or (invalid request) at once. */
void engine_submit(struct engine *engine, struct request *request);
/* The caller has left: a wait or watch ends now, with CANCELLED. Harmless at any time before the last unref. */
void engine_cancel(struct engine *engine, struct request *request);

/* ---- for the hub ---- */
/* The session's pair of paths (or its Attach stream) stands: `connection` is a number never used before. A newer one replaces it.
 * `transport_name` is a constant: "nng" or "grpc". */
void engine_session_connected(struct engine *engine, const struct id *session, uint64_t connection, const char *transport_name);
void engine_session_disconnected(struct engine *engine, const struct id *session, uint64_t connection);
/* A packed Reports message came in; copied. A message that can't be read, leaves a gap, or comes when too many wait,
 * makes the engine ask for the connection's end by transport.drop. */
void engine_session_reports(struct engine *engine, const struct id *session, uint64_t connection, const uint8_t *bytes,
                            size_t length);

/* ---- for the monitor ---- */
/* Since the start; part of a reading (meters.h). */
struct engine_statistics {
  uint64_t turns, requests, deliveries, reports;
  uint64_t mailbox_depth, waiters, watches; /* now */
  int64_t turn_ms_max;                      /* longest since the last reading */
};
/* A turn was completed within the last `within_ms` of monotonic time (an idle engine wakes up once a second). */
bool engine_is_alive(struct engine *engine, int64_t within_ms);

#endif
