/* SPDX-License-Identifier: Apache-2.0 */
/* Two locks. `gate` makes one order of everything that the engine is told: who learns something (a WebSocket, a report, a stream)
 * holds it from the change of state to the end of the call. `lock` guards the state and is all that the engine's calls into the
 * hub take, so that the engine never waits for a call of its own. Order: gate, lock, those of the listeners and the outboxes.
 * Plain pthread mutexes: GLib's are invisible to the thread sanitizer.
 *
 * Nothing of nng's that is called under the locks calls back on the same thread, and nng holds no lock of its own when it calls
 * us. */
#include "workers/hub.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/transport/ws/websocket.h>
#include <pthread.h>
#include <string.h>

#include "core/limits.h"
#include "workers/listeners.h"
#include "workers/peer.h"
#include "workers/seat.h"

struct hub {
  struct hub_options options;
  struct listeners *listeners;
  nng_socket reports;
  nng_aio *receiving;
  struct outboxes *outboxes;

  pthread_mutex_t gate;
  pthread_mutex_t lock;
  struct engine *engine; /* changed under both, read under either; NULL: nobody may join */
  GHashTable *seats;     /* struct id of the session -> struct seat */
  GHashTable *by_token;  /* its hash -> the same */
  GHashTable *pipes;     /* id of a reports pipe let in -> struct id of its session, which may have ended */
  uint64_t connections;  /* numbers given so far */
  size_t early_bytes;    /* of all seats */
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

static struct seat *seat_of_pipe(struct hub *hub, nng_pipe pipe) {
  const struct id *id = g_hash_table_lookup(hub->pipes, GUINT_TO_POINTER(pipe.id));
  return id ? g_hash_table_lookup(hub->seats, id) : NULL;
}

/* Takes the gate and `lock`. Returns the seat whose token this is, and whose worker is welcome from now on; NULL: nobody may join
 * by it, or not this session. `session` is that of a jobs path; NULL: the reports path. */
static struct seat *answer_knock(struct hub *hub, const char *authorization, const struct id *session, const nng_sockaddr *peer) {
  uint8_t hash[SECRET_HASH_BYTES];
  bool has_token = peer_hash_token(authorization, hash);
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = hub->engine && has_token ? g_hash_table_lookup(hub->by_token, hash) : NULL;
  if (seat && session && !id_equal(&seat->id, session))
    seat = NULL;
  if (seat)
    peer_welcome(peer, session ? JOBS_IDLE_BYTES_MAX : hub->options.reports_bytes_max + REPORTS_IDLE_BYTES_MAX, session != NULL);
  return seat;
}

/* Tells of what a WebSocket that was taken in has ended and begun. Gives `lock` and the gate back. */
static void joined(struct hub *hub, struct seat *seat, uint64_t ended, uint64_t begun) {
  struct id id = seat->id;
  GQueue early = G_QUEUE_INIT;
  if (begun) {
    hub->connections = begun;
    seat_take_early(seat, &early);
  }
  pthread_mutex_unlock(&hub->lock);
  tell(hub, &id, ended, begun, "nng");
  nng_msg *message;
  while ((message = g_queue_pop_head(&early))) {
    tell_reports(hub, &id, begun, message);
    nng_msg_free(message);
  }
  pthread_mutex_unlock(&hub->gate);
}

/* Nobody was taken in. Gives `lock` and the gate back. */
static void turned_away(struct hub *hub) {
  pthread_mutex_unlock(&hub->lock);
  pthread_mutex_unlock(&hub->gate);
}

static void jobs_knock(void *context, const struct id *id, nng_stream *take_stream) {
  struct hub *hub = context;
  nng_sockaddr address;
  char *authorization = NULL;
  if (nng_stream_get_string(take_stream, NNG_OPT_WS_REQUEST_HEADER "Authorization", &authorization) != 0 ||
      nng_stream_get_addr(take_stream, NNG_OPT_REMADDR, &address) != 0)
    address.s_family = NNG_AF_UNSPEC;
  struct seat *seat = answer_knock(hub, authorization, id, &address);
  struct outbox *jobs = seat ? outbox_new(hub->outboxes, take_stream, id) : NULL;
  if (jobs) {
    uint64_t ended;
    uint64_t begun = seat_join_jobs(seat, jobs, hub->connections + 1, &ended);
    joined(hub, seat, ended, begun);
    outbox_watch(jobs);
  } else {
    turned_away(hub);
    if (!seat)
      outbox_refuse(take_stream);
  }
  nng_strfree(authorization);
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
  struct seat *seat = g_hash_table_lookup(hub->seats, id);
  parted(hub, id, seat ? seat_part_jobs(seat, jobs) : 0);
  pthread_mutex_unlock(&hub->gate);
}

/* The pipe is still invisible to its socket. */
static void reports_knock(struct hub *hub, nng_pipe pipe) {
  nng_sockaddr address;
  char *authorization = NULL;
  if (nng_pipe_get_string(pipe, NNG_OPT_WS_REQUEST_HEADER "Authorization", &authorization) != 0 ||
      nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address) != 0)
    address.s_family = NNG_AF_UNSPEC;
  struct seat *seat = answer_knock(hub, authorization, NULL, &address);
  if (seat) {
    uint64_t ended;
    g_hash_table_insert(hub->pipes, GUINT_TO_POINTER(pipe.id), g_memdup2(&seat->id, sizeof seat->id));
    uint64_t begun = seat_join_reports(seat, pipe, hub->connections + 1, &ended);
    joined(hub, seat, ended, begun);
  } else {
    turned_away(hub);
    nng_pipe_close(pipe);
  }
  nng_strfree(authorization);
}

static void reports_gone(struct hub *hub, nng_pipe pipe) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = seat_of_pipe(hub, pipe);
  struct id id = seat ? seat->id : (struct id){0};
  g_hash_table_remove(hub->pipes, GUINT_TO_POINTER(pipe.id));
  parted(hub, &id, seat ? seat_part_reports(seat, pipe) : 0);
  pthread_mutex_unlock(&hub->gate);
}

static void on_reports_pipe(nng_pipe pipe, nng_pipe_ev event, void *context) {
  if (event == NNG_PIPE_EV_ADD_PRE)
    reports_knock(context, pipe);
  else
    reports_gone(context, pipe);
}

/* Whoever keeps most of what can't be told yet; NULL: nobody keeps anything. Under `lock`. */
static struct seat *fullest_of_early(struct hub *hub) {
  GHashTableIter iterator;
  gpointer value;
  struct seat *fullest = NULL;
  size_t most = 0;
  g_hash_table_iter_init(&iterator, hub->seats);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    struct seat *seat = value;
    if (seat->early_bytes > most) {
      fullest = seat;
      most = seat->early_bytes;
    }
  }
  return fullest;
}

/* Makes room for a message that can't be told yet: those that keep most lose their reports, not whoever comes when the room is
 * used up. Under `lock`. */
static void make_early_room(struct hub *hub, size_t bytes) {
  struct seat *fullest;
  while (hub->early_bytes + bytes > SEATS_EARLY_BYTES_MAX && (fullest = fullest_of_early(hub)))
    seat_part_reports(fullest, fullest->reports);
}

/* A message came in on the reports path. */
static void take_reports(struct hub *hub, nng_msg *take_message) {
  peer_give_back(take_message);
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  nng_pipe pipe = nng_msg_get_pipe(take_message);
  struct seat *seat = seat_of_pipe(hub, pipe);
  if (!seat || seat->reports.id != pipe.id || !hub->engine) {
    pthread_mutex_unlock(&hub->lock);
  } else if (!seat_count_message(seat, hub->options.messages_per_second_max)) {
    nng_pipe_close(pipe);
    pthread_mutex_unlock(&hub->lock);
  } else if (seat->link == SEAT_PAIR) {
    struct id id = seat->id;
    uint64_t connection = seat->connection;
    pthread_mutex_unlock(&hub->lock);
    tell_reports(hub, &id, connection, take_message);
  } else {
    make_early_room(hub, nng_msg_len(take_message));
    if (seat->reports.id == pipe.id && seat_keep_early(seat, take_message, hub->options.reports_bytes_max))
      take_message = NULL;
    else
      seat_part_reports(seat, pipe);
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

static void transport_session_open(void *context, const struct id *id, const uint8_t token_hash[32]) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  if (g_hash_table_size(hub->seats) < hub->options.sessions_max && !g_hash_table_contains(hub->seats, id)) {
    struct seat *seat = seat_new(id, token_hash, &hub->early_bytes);
    g_hash_table_insert(hub->seats, &seat->id, seat);
    g_hash_table_insert(hub->by_token, seat->token_hash, seat);
    listeners_add(hub->listeners, id);
  }
  pthread_mutex_unlock(&hub->lock);
}

/* Under `lock`. */
static void retire(struct hub *hub, struct seat *seat) {
  seat_shut(seat);
  g_hash_table_remove(hub->by_token, seat->token_hash);
  g_hash_table_remove(hub->seats, &seat->id);
  listeners_remove(hub->listeners, &seat->id);
  seat_free(seat);
}

static void transport_session_close(void *context, const struct id *id) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = g_hash_table_lookup(hub->seats, id);
  if (seat)
    retire(hub, seat);
  pthread_mutex_unlock(&hub->lock);
}

/* The session, if this is the connection that stands. Under `lock`. */
static struct seat *seat_connected(struct hub *hub, const struct id *id, uint64_t connection) {
  struct seat *seat = g_hash_table_lookup(hub->seats, id);
  return seat && connection != 0 && seat->connection == connection ? seat : NULL;
}

static void transport_send(void *context, const struct id *id, uint64_t connection, uint8_t *take_bytes, size_t length) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = seat_connected(hub, id, connection);
  if (!seat)
    g_free(take_bytes);
  else if (!seat_send(seat, take_bytes, length))
    seat_break(seat);
  pthread_mutex_unlock(&hub->lock);
}

static void transport_drop(void *context, const struct id *id, uint64_t connection) {
  struct hub *hub = context;
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = seat_connected(hub, id, connection);
  if (seat)
    seat_break(seat);
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
  struct seat *seat = hub->engine ? g_hash_table_lookup(hub->seats, id) : NULL;
  bool fits = seat && secret_equal(seat->token_hash, hash);
  uint64_t ended = 0;
  if (fits) {
    ended = seat_attach(seat, stream, ++hub->connections);
    *out_connection = seat->connection;
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
  bool stands = seat_connected(hub, id, connection) != NULL;
  pthread_mutex_unlock(&hub->lock);
  if (stands && hub->engine)
    engine_session_reports(hub->engine, id, connection, bytes, length);
  pthread_mutex_unlock(&hub->gate);
}

void hub_detach(struct hub *hub, const struct id *id, uint64_t connection) {
  pthread_mutex_lock(&hub->gate);
  pthread_mutex_lock(&hub->lock);
  struct seat *seat = seat_connected(hub, id, connection);
  if (seat)
    seat_forget_stream(seat);
  pthread_mutex_unlock(&hub->lock);
  if (seat && hub->engine)
    tell(hub, id, connection, 0, NULL);
  pthread_mutex_unlock(&hub->gate);
}

/* ---- life ---- */

/* The port is closed for a moment: the jobs' WebSockets end, too. */
static void port_closed(void *context) {
  struct hub *hub = context;
  GHashTableIter iterator;
  gpointer seat;
  pthread_mutex_lock(&hub->lock);
  g_hash_table_iter_init(&iterator, hub->seats);
  while (g_hash_table_iter_next(&iterator, NULL, &seat))
    seat_break_jobs(seat);
  pthread_mutex_unlock(&hub->lock);
}

/* 0 or nng's code. */
static int open_reports(struct hub *hub) {
  int code = nng_pull0_open(&hub->reports);
  if (code != 0)
    return code;
  if ((code = nng_aio_alloc(&hub->receiving, received, hub)) != 0 ||
      (code = nng_socket_set_size(hub->reports, NNG_OPT_RECVMAXSZ, hub->options.reports_bytes_max)) != 0 ||
      (code = nng_pipe_notify(hub->reports, NNG_PIPE_EV_ADD_PRE, on_reports_pipe, hub)) != 0 ||
      (code = nng_pipe_notify(hub->reports, NNG_PIPE_EV_REM_POST, on_reports_pipe, hub)) != 0)
    nng_close(hub->reports);
  return code;
}

static void hub_free(struct hub *hub) {
  nng_aio_free(hub->receiving);
  outboxes_free(hub->outboxes);
  g_hash_table_destroy(hub->pipes);
  g_hash_table_destroy(hub->by_token);
  g_hash_table_destroy(hub->seats);
  pthread_mutex_destroy(&hub->lock);
  pthread_mutex_destroy(&hub->gate);
  g_free(hub);
}

enum status hub_open(const struct hub_options *options, struct hub **out_hub, struct error *error) {
  struct hub *hub = g_new0(struct hub, 1);
  hub->options = *options;
  hub->options.listen_host = NULL; /* the caller's */
  hub->options.tls = NULL;
  pthread_mutex_init(&hub->gate, NULL);
  pthread_mutex_init(&hub->lock, NULL);
  hub->seats = g_hash_table_new(id_hash, id_equal_pointers);
  hub->by_token = g_hash_table_new(secret_key_hash, secret_key_equal);
  hub->pipes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  hub->outboxes = outboxes_new(jobs_gone, hub);
  int code = open_reports(hub);
  if (code != 0) {
    hub_free(hub);
    return error_set(error, STATUS_UNAVAILABLE, NULL, "cannot make a socket for workers: %s", nng_strerror(code));
  }
  struct listeners_options listening = {.host = options->listen_host,
                                        .port = options->port,
                                        .tls = options->tls,
                                        .reports = hub->reports,
                                        .on_knock = jobs_knock,
                                        .on_closed = port_closed,
                                        .context = hub};
  enum status status = listeners_open(&listening, &hub->listeners, error);
  if (status != STATUS_OK) {
    nng_close(hub->reports);
    hub_free(hub);
    return status;
  }
  nng_recv_aio(hub->reports, hub->receiving);
  *out_hub = hub;
  return STATUS_OK;
}

enum status hub_set_tls(struct hub *hub, const struct tls_texts *tls, struct error *error) {
  return listeners_set_tls(hub->listeners, tls, error);
}

uint16_t hub_port(const struct hub *hub) {
  return listeners_port(hub->listeners);
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
  set_engine(hub, NULL); /* nobody may join any more */
  pthread_mutex_lock(&hub->lock);
  GList *seats = g_hash_table_get_values(hub->seats);
  for (GList *item = seats; item; item = item->next)
    retire(hub, item->data);
  g_list_free(seats);
  pthread_mutex_unlock(&hub->lock);
  listeners_free(hub->listeners);
  nng_close(hub->reports);
  nng_aio_stop(hub->receiving);
  hub_free(hub);
}
