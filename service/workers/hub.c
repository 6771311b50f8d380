/* SPDX-License-Identifier: Apache-2.0 */
/* Two locks. `gate` makes one order of everything that the engine is told: who learns something (a WebSocket, a report, a stream)
 * holds it from the change of state to the end of the call. `lock` guards the state and is all that the engine's calls into the
 * hub take, so that the engine never waits for a call of its own. Order: gate, lock, an outbox's. Plain pthread mutexes: GLib's
 * are invisible to the thread sanitizer.
 *
 * Nothing of nng's that is called under the locks calls back on the same thread, and nng holds no lock of its own when it calls
 * us. */
#include "workers/hub.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/supplemental/tls/tls.h>
#include <nng/transport/ws/websocket.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "workers/bind.h"
#include "workers/peer.h"
#include "workers/seat.h"

enum {
  URL_BYTES = 256,
  REBIND_TRIES = 100,
  REBIND_NAP_US = 20 * 1000,
  CLOSE_EVERY_MS = 5000, /* see run_closer */
  CLOSE_PATIENCE_MS = 1000,
  CLOSE_WAIT_MS = 10 * 1000,
};

struct hub {
  struct hub_options options;
  struct sockaddr_storage address; /* to bind */
  char base_url[URL_BYTES];        /* scheme, host and port */
  uint16_t port;
  nng_socket reports;
  nng_listener reports_listener;
  nng_aio *receiving;
  struct outboxes *outboxes;

  pthread_mutex_t gate;
  pthread_mutex_t lock;
  struct engine *engine;  /* changed under both, read under either; NULL: nobody may join */
  GHashTable *sessions;   /* struct id -> struct seat */
  GHashTable *by_token;   /* its hash -> the same */
  GHashTable *pipes;      /* id of a reports pipe let in -> struct id of its session, which may have ended */
  uint64_t connections;   /* numbers given so far */
  nng_tls_config *tls;    /* NULL: no encryption */
  bool is_changing_hands; /* between the old listeners and the new ones */

  /* Closing a path blocks until nng's threads have left our callbacks: a thread of its own does it, without a lock. */
  pthread_t closer;
  pthread_cond_t closer_wakes;
  GQueue closing; /* struct seat */
  bool closer_ends;
};

/* ---- what the engine is told; under the gate, not under the lock ---- */

static void tell(struct hub *hub, const struct id *session, uint64_t ended, uint64_t begun, const char *transport_name) {
  if (ended)
    engine_session_disconnected(hub->engine, session, ended);
  if (begun)
    engine_session_connected(hub->engine, session, begun, transport_name);
}

static void tell_reports(struct hub *hub, const struct id *session, uint64_t connection, nng_msg *message) {
  engine_session_reports(hub->engine, session, connection, nng_msg_body(message), nng_msg_len(message));
}

/* ---- WebSockets ---- */

static struct seat *session_of_pipe(struct hub *hub, nng_pipe pipe) {
  const struct id *id = g_hash_table_lookup(hub->pipes, GUINT_TO_POINTER(pipe.id));
  return id ? g_hash_table_lookup(hub->sessions, id) : NULL;
}

/* The session whose token this is, if anybody may join. Under `lock`. */
static struct seat *session_of_token(struct hub *hub, const char *authorization) {
  uint8_t hash[SECRET_HASH_BYTES];
  return hub->engine && peer_hash_token(authorization, hash) ? g_hash_table_lookup(hub->by_token, hash) : NULL;
}

/* Tells of what a WebSocket that was taken in has ended and begun. Under the gate; `lock` is held and given back. */
static void joined(struct hub *hub, struct seat *session, uint64_t ended, uint64_t begun) {
  struct id id = session->id;
  GQueue early = G_QUEUE_INIT;
  if (begun) {
    hub->connections = begun;
    seat_take_early(session, &early);
  }
  pthread_mutex_unlock(&hub->lock);
  tell(hub, &id, ended, begun, "nng");
  nng_msg *message;
  while ((message = g_queue_pop_head(&early))) {
    tell_reports(hub, &id, begun, message);
    nng_msg_free(message);
  }
}

static void jobs_knock(void *context, const struct id *id, nng_stream *take_stream) {
  struct hub *hub = context;
  struct outbox *jobs = NULL;
  nng_sockaddr address;
  char *authorization = NULL;
  if (nng_stream_get_string(take_stream, NNG_OPT_WS_REQUEST_HEADER "Authorization", &authorization) != 0 ||
      nng_stream_get_addr(take_stream, NNG_OPT_REMADDR, &address) != 0)
    address.s_family = NNG_AF_UNSPEC;
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_of_token(hub, authorization);
  bool fits = session && id_equal(&session->id, id);
  if (fits && (jobs = outbox_new(hub->outboxes, take_stream, id))) {
    uint64_t ended;
    peer_welcome(&address);
    uint64_t begun = seat_join_jobs(session, jobs, hub->connections + 1, &ended);
    joined(hub, session, ended, begun);
  } else {
    pthread_mutex_unlock(&hub->lock);
  }
  pthread_mutex_unlock(&hub->gate);
  nng_strfree(authorization);
  if (jobs)
    outbox_watch(jobs);
  else if (!fits)
    outbox_refuse(take_stream);
}

/* Under the gate; `lock` is held and given back. */
static void parted(struct hub *hub, const struct id *session, uint64_t ended) {
  pthread_mutex_unlock(&hub->lock);
  if (ended && hub->engine)
    tell(hub, session, ended, 0, NULL);
}

static void jobs_gone(void *context, struct outbox *jobs) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  const struct id *id = outbox_session(jobs);
  struct seat *session = g_hash_table_lookup(hub->sessions, id);
  parted(hub, id, session ? seat_part_jobs(session, jobs) : 0);
  pthread_mutex_unlock(&hub->gate);
}

/* The pipe is still invisible to its socket. */
static void reports_knock(struct hub *hub, nng_pipe pipe) {
  nng_sockaddr address;
  char *authorization = NULL;
  if (nng_pipe_get_string(pipe, NNG_OPT_WS_REQUEST_HEADER "Authorization", &authorization) != 0 ||
      nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address) != 0)
    address.s_family = NNG_AF_UNSPEC;
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_of_token(hub, authorization);
  if (session) {
    uint64_t ended;
    peer_welcome(&address);
    g_hash_table_insert(hub->pipes, GUINT_TO_POINTER(pipe.id), g_memdup2(&session->id, sizeof session->id));
    uint64_t begun = seat_join_reports(session, pipe, hub->connections + 1, &ended);
    joined(hub, session, ended, begun);
  } else {
    pthread_mutex_unlock(&hub->lock);
  }
  pthread_mutex_unlock(&hub->gate);
  nng_strfree(authorization);
  if (!session)
    nng_pipe_close(pipe);
}

static void reports_gone(struct hub *hub, nng_pipe pipe) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_of_pipe(hub, pipe);
  struct id id = session ? session->id : (struct id){0};
  g_hash_table_remove(hub->pipes, GUINT_TO_POINTER(pipe.id));
  parted(hub, &id, session ? seat_part_reports(session, pipe) : 0);
  pthread_mutex_unlock(&hub->gate);
}

static void on_reports_pipe(nng_pipe pipe, nng_pipe_ev event, void *context) {
  if (event == NNG_PIPE_EV_ADD_PRE)
    reports_knock(context, pipe);
  else
    reports_gone(context, pipe);
}

/* A message came in on the reports path. */
static void take_reports(struct hub *hub, nng_msg *take_message) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  nng_pipe pipe = nng_msg_get_pipe(take_message);
  struct seat *session = session_of_pipe(hub, pipe);
  if (!session || session->reports.id != pipe.id || !hub->engine) {
    pthread_mutex_unlock(&hub->lock);
  } else if (!seat_count_message(session, hub->options.messages_per_second_max)) {
    nng_pipe_close(pipe);
    pthread_mutex_unlock(&hub->lock);
  } else if (session->link == SESSION_PAIR) {
    struct id id = session->id;
    uint64_t connection = session->connection;
    pthread_mutex_unlock(&hub->lock);
    tell_reports(hub, &id, connection, take_message);
  } else {
    if (seat_keep_early(session, take_message, hub->options.reports_bytes_max))
      take_message = NULL;
    else
      seat_part_reports(session, pipe);
    pthread_mutex_unlock(&hub->lock);
  }
  pthread_mutex_unlock(&hub->gate);
  if (take_message)
    nng_msg_free(take_message);
}

static void received(void *context) {
  struct hub *hub = context;
  if (nng_aio_result(hub->receiving) != 0) /* cancelled or closed */
    return;
  take_reports(hub, nng_aio_get_msg(hub->receiving));
  nng_recv_aio(hub->reports, hub->receiving);
}

/* ---- what the engine asks for: under `lock` alone ---- */

/* A session whose path can't be served can still attach over gRPC. While the port changes hands, hub_set_tls does it later. */
static void serve_path(struct hub *hub, struct seat *session) {
  if (hub->is_changing_hands)
    return;
  char text[ID_TEXT_BYTES], url[URL_BYTES];
  id_format(&session->id, text);
  g_snprintf(url, sizeof url, "%s/sessions/%s/jobs", hub->base_url, text);
  struct jobs_path_options options = {
      .url = url, .session = &session->id, .tls = hub->tls, .on_knock = jobs_knock, .context = hub};
  struct error error;
  if (jobs_path_open(&options, &session->path, &error) != STATUS_OK)
    session->path = NULL;
}

static void transport_session_open(void *context, const struct id *id, const uint8_t token_hash[32]) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  if (g_hash_table_size(hub->sessions) < hub->options.sessions_max && !g_hash_table_contains(hub->sessions, id)) {
    struct seat *session = seat_new(id, token_hash);
    serve_path(hub, session);
    g_hash_table_insert(hub->sessions, &session->id, session);
    g_hash_table_insert(hub->by_token, session->token_hash, session);
  }
  pthread_mutex_unlock(&hub->lock);
}

/* Hands it to the closer. Under `lock`. */
static void retire(struct hub *hub, struct seat *session) {
  seat_shut(session);
  g_hash_table_remove(hub->by_token, session->token_hash);
  g_hash_table_remove(hub->sessions, &session->id);
  g_queue_push_tail(&hub->closing, session);
  pthread_cond_signal(&hub->closer_wakes);
}

static void transport_session_close(void *context, const struct id *id) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *session = g_hash_table_lookup(hub->sessions, id);
  if (session)
    retire(hub, session);
  pthread_mutex_unlock(&hub->lock);
}

/* The session, if this is the connection that stands. Under `lock`. */
static struct seat *session_connected(struct hub *hub, const struct id *id, uint64_t connection) {
  struct seat *session = g_hash_table_lookup(hub->sessions, id);
  return session && connection != 0 && session->connection == connection ? session : NULL;
}

static void transport_send(void *context, const struct id *id, uint64_t connection, uint8_t *take_bytes, size_t length) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_connected(hub, id, connection);
  if (!session)
    g_free(take_bytes);
  else if (!seat_send(session, take_bytes, length))
    seat_break(session);
  pthread_mutex_unlock(&hub->lock);
}

static void transport_drop(void *context, const struct id *id, uint64_t connection) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_connected(hub, id, connection);
  if (session)
    seat_break(session);
  pthread_mutex_unlock(&hub->lock);
}

struct transport hub_transport(struct hub *hub) {
  return (struct transport){
      .context = hub,
      .session_open = transport_session_open,
      .session_close = transport_session_close,
      .send = transport_send,
      .drop = transport_drop,
  };
}

/* ---- gRPC streams ---- */

bool hub_attach(struct hub *hub, const struct id *id, const char *token, const struct hub_stream *stream,
                uint64_t *out_connection) {
  uint8_t hash[SECRET_HASH_BYTES];
  secret_hash(token, strlen(token), hash);
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *session = hub->engine ? g_hash_table_lookup(hub->sessions, id) : NULL;
  bool fits = session && secret_equal(session->token_hash, hash);
  uint64_t ended = 0;
  if (fits) {
    ended = seat_attach(session, stream, ++hub->connections);
    *out_connection = session->connection;
  }
  pthread_mutex_unlock(&hub->lock);
  if (fits)
    tell(hub, id, ended, *out_connection, "grpc");
  pthread_mutex_unlock(&hub->gate);
  return fits;
}

void hub_attach_reports(struct hub *hub, const struct id *id, uint64_t connection, const uint8_t *bytes, size_t length) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  bool stands = session_connected(hub, id, connection) != NULL;
  pthread_mutex_unlock(&hub->lock);
  if (stands && hub->engine)
    engine_session_reports(hub->engine, id, connection, bytes, length);
  pthread_mutex_unlock(&hub->gate);
}

void hub_detach(struct hub *hub, const struct id *id, uint64_t connection) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *session = session_connected(hub, id, connection);
  if (session)
    seat_forget_stream(session);
  pthread_mutex_unlock(&hub->lock);
  if (session && hub->engine)
    tell(hub, id, connection, 0, NULL);
  pthread_mutex_unlock(&hub->gate);
}

/* ---- life ---- */

/* Without a lock: nng waits until nobody is knocking. nng 1.5 frees a listener of a port that goes on even while it handles a
 * request for its path (ws_listener_free beside ws_handler), and dies of it: no request may be under way. */
static void close_listeners(GPtrArray *paths, nng_listener reports, int64_t patience_ms) {
  if (!guard_bar(patience_ms, CLOSE_WAIT_MS))
    g_debug("connections to the workers' port would not go within %d ms", CLOSE_WAIT_MS);
  nng_listener_close(reports); /* none does no harm */
  for (guint i = 0; i < paths->len; i++)
    jobs_path_free(paths->pdata[i]);
  guard_unbar();
}

/* Waits for the time of the next closing. Under `lock`. */
static void pause_closer(struct hub *hub) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += CLOSE_EVERY_MS / 1000;
  while (!hub->closer_ends && pthread_cond_clockwait(&hub->closer_wakes, &hub->lock, CLOCK_MONOTONIC, &until) == 0)
    ;
}

/* Closes what has ended, many at a time: each time the port is barred for a moment. */
static void *run_closer(void *context) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  for (;;) {
    bool last = hub->closer_ends;
    GQueue seats = hub->closing;
    bool found = seats.length > 0;
    g_queue_init(&hub->closing);
    GPtrArray *paths = g_ptr_array_new();
    for (GList *item = seats.head; item; item = item->next)
      g_ptr_array_add(paths, seat_take_path(item->data));
    if (found) {
      pthread_mutex_unlock(&hub->lock);
      close_listeners(paths, (nng_listener)NNG_LISTENER_INITIALIZER, last ? 0 : CLOSE_PATIENCE_MS);
      struct seat *session;
      while ((session = g_queue_pop_head(&seats)))
        seat_free(session);
      pthread_mutex_lock(&hub->lock);
    }
    g_ptr_array_free(paths, TRUE);
    if (found)
      pause_closer(hub);
    else if (last)
      break;
    else if (!hub->closer_ends)
      pthread_cond_wait(&hub->closer_wakes, &hub->lock);
  }
  pthread_mutex_unlock(&hub->lock);
  return NULL;
}

/* nng's URL has always the wildcard of the address' family: bind.h tells why. */
static void set_base_url(struct hub *hub) {
  g_snprintf(hub->base_url, sizeof hub->base_url, "%s://%s:%u", hub->tls ? "wss" : "ws",
             hub->address.ss_family == AF_INET ? "*" : "[::]", (unsigned)hub->port);
}

/* The port that the listener got. */
static int find_port(nng_listener listener, uint16_t *out_port) {
  nng_sockaddr address;
  int code = nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address);
  if (code != 0)
    return code;
  /* Both kinds have it at the same place in network order. */
  *out_port = g_ntohs(address.s_family == NNG_AF_INET6 ? address.s_in6.sa_port : address.s_in.sa_port);
  return 0;
}

/* Binds the port and listens for reports; 0 or nng's code. */
static int bind_port(struct hub *hub) {
  char url[URL_BYTES];
  g_snprintf(url, sizeof url, "%s/reports", hub->base_url);
  nng_listener listener;
  int code = nng_listener_create(&listener, hub->reports, url);
  if (code != 0)
    return code;
  if (hub->tls)
    code = nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, hub->tls);
  bind_instead_of_wildcard(&hub->address);
  if (code == 0)
    code = nng_listener_start(listener, 0);
  bool replaced = bind_was_replaced();
  bind_instead_of_wildcard(NULL);
  if (code == 0)
    code = find_port(listener, &hub->port);
  if (code != 0) {
    nng_listener_close(listener);
    return code;
  }
  g_assert(replaced); /* else the port is open to the world, or in use by ourselves */
  hub->reports_listener = listener;
  return 0;
}

static int open_reports(struct hub *hub) {
  int code = nng_pull0_open(&hub->reports);
  if (code != 0)
    return code;
  if ((code = nng_socket_set_size(hub->reports, NNG_OPT_RECVMAXSZ, hub->options.reports_bytes_max)) != 0 ||
      (code = nng_pipe_notify(hub->reports, NNG_PIPE_EV_ADD_PRE, on_reports_pipe, hub)) != 0 ||
      (code = nng_pipe_notify(hub->reports, NNG_PIPE_EV_REM_POST, on_reports_pipe, hub)) != 0 || (code = bind_port(hub)) != 0)
    nng_close(hub->reports);
  return code;
}

static void hub_free(struct hub *hub) {
  nng_aio_free(hub->receiving);
  outboxes_free(hub->outboxes);
  if (hub->tls)
    nng_tls_config_free(hub->tls);
  g_hash_table_destroy(hub->pipes);
  g_hash_table_destroy(hub->by_token);
  g_hash_table_destroy(hub->sessions);
  pthread_cond_destroy(&hub->closer_wakes);
  pthread_mutex_destroy(&hub->lock);
  pthread_mutex_destroy(&hub->gate);
  g_free(hub);
}

enum status hub_open(const struct hub_options *options, struct hub **out_hub, struct error *error) {
  struct hub *hub = g_new0(struct hub, 1);
  hub->options = *options;
  hub->port = options->port;
  if (!bind_parse_address(options->listen_host, &hub->address)) {
    error_set(error, STATUS_INVALID_ARGUMENT, "listen", "'%s' is no IP address to listen on", options->listen_host);
    g_free(hub);
    return STATUS_INVALID_ARGUMENT;
  }
  hub->options.listen_host = NULL; /* the caller's */
  hub->options.tls = NULL;
  pthread_mutex_init(&hub->gate, NULL);
  pthread_mutex_init(&hub->lock, NULL);
  pthread_cond_init(&hub->closer_wakes, NULL);
  hub->sessions = g_hash_table_new(id_hash, id_equal_pointers);
  hub->by_token = g_hash_table_new(secret_key_hash, secret_key_equal);
  hub->pipes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  g_queue_init(&hub->closing);
  hub->outboxes = outboxes_new(jobs_gone, hub);
  int code = options->tls ? peer_tls_config(options->tls, &hub->tls) : 0;
  set_base_url(hub);
  if (code == 0 && (code = nng_aio_alloc(&hub->receiving, received, hub)) == 0)
    code = open_reports(hub);
  if (code != 0) {
    error_set(error, STATUS_UNAVAILABLE, NULL, "cannot listen for workers on %s port %u: %s",
              options->listen_host ? options->listen_host : "localhost", (unsigned)options->port, nng_strerror(code));
    hub_free(hub);
    return STATUS_UNAVAILABLE;
  }
  set_base_url(hub); /* with the port */
  nng_recv_aio(hub->reports, hub->receiving);
  int failure = pthread_create(&hub->closer, NULL, run_closer, hub);
  g_assert(failure == 0);
  *out_hub = hub;
  return STATUS_OK;
}

/* Ends all WebSockets too: those of the reports end with their listener. */
static void stop_listening(struct hub *hub) {
  GPtrArray *paths = g_ptr_array_new();
  pthread_mutex_lock(&hub->lock);
  GList *sessions = g_hash_table_get_values(hub->sessions);
  for (GList *item = sessions; item; item = item->next)
    g_ptr_array_add(paths, seat_take_path(item->data));
  g_list_free(sessions);
  pthread_mutex_unlock(&hub->lock);
  close_listeners(paths, hub->reports_listener, 0);
  g_ptr_array_free(paths, TRUE);
  pthread_mutex_lock(&hub->lock);
  sessions = g_hash_table_get_values(hub->sessions);
  for (GList *item = sessions; item; item = item->next)
    seat_break_jobs(item->data);
  g_list_free(sessions);
  pthread_mutex_unlock(&hub->lock);
}

/* The port may stay in use for a moment after its last listener was closed. */
static int bind_port_again(struct hub *hub) {
  int code = bind_port(hub);
  for (int tries = 0; tries < REBIND_TRIES && code == NNG_EADDRINUSE; tries++) {
    g_usleep(REBIND_NAP_US);
    code = bind_port(hub);
  }
  return code;
}

enum status hub_set_tls(struct hub *hub, const struct tls_texts *tls, struct error *error) {
  nng_tls_config *config;
  g_assert(hub->tls);
  int code = peer_tls_config(tls, &config);
  if (code != 0)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "the worker port can't use these certificates: %s",
                     nng_strerror(code));
  pthread_mutex_lock(&hub->lock);
  nng_tls_config_free(hub->tls);
  hub->tls = config;
  hub->is_changing_hands = true;
  pthread_mutex_unlock(&hub->lock);
  stop_listening(hub);
  code = bind_port_again(hub);
  pthread_mutex_lock(&hub->lock);
  hub->is_changing_hands = false;
  GList *sessions = g_hash_table_get_values(hub->sessions);
  for (GList *item = sessions; item && code == 0; item = item->next)
    serve_path(hub, item->data);
  g_list_free(sessions);
  pthread_mutex_unlock(&hub->lock);
  if (code != 0)
    return error_set(error, STATUS_UNAVAILABLE, NULL, "the worker port %u could not be opened again: %s; restart the server",
                     (unsigned)hub->port, nng_strerror(code));
  return STATUS_OK;
}

uint16_t hub_port(const struct hub *hub) {
  return hub->port;
}

static void set_engine(struct hub *hub, struct engine *engine) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  hub->engine = engine;
  pthread_mutex_unlock(&hub->lock);
  pthread_mutex_unlock(&hub->gate);
}

void hub_start(struct hub *hub, struct engine *engine) {
  set_engine(hub, engine);
}

void hub_close(struct hub *hub) {
  if (!hub)
    return;
  set_engine(hub, NULL);
  guard_bar(0, CLOSE_WAIT_MS);
  pthread_mutex_lock(&hub->lock);
  GList *sessions = g_hash_table_get_values(hub->sessions);
  for (GList *item = sessions; item; item = item->next)
    retire(hub, item->data);
  g_list_free(sessions);
  hub->closer_ends = true;
  pthread_cond_signal(&hub->closer_wakes);
  pthread_mutex_unlock(&hub->lock);
  pthread_join(hub->closer, NULL);
  nng_close(hub->reports);
  guard_unbar();
  nng_aio_stop(hub->receiving);
  hub_free(hub);
}
