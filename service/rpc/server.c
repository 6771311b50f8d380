/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/server.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/limits.h"
#include "rpc/attach.h"
#include "rpc/audit.h"
#include "rpc/auth.h"
#include "rpc/call.h"
#include "rpc/health.h"
#include "rpc/rates.h"
#include "rpc/reflection.h"
#include "rpc/scaler.h"
#include "rpc/secure.h"
#include "rpc/stream.h"
#include "rpc/streams.h"
#include "rpc/unary.h"
#include "workers/guard.h"

enum {
  STREAMS_MAX_DEFAULT = 1000, /* calls at a time on one connection */
  STREAM_BACKLOG_BYTES_DEFAULT = 32 << 20,
  BACKLOGS_BYTES_DEFAULT = 256 << 20,
  ANSWERS_BYTES_DEFAULT = 256 << 20,
  ANSWER_WAIT_MS_DEFAULT = 60 * 1000,
  TRANSPORT_BYTES_MAX = 512 << 20, /* what libgrpc may hold for all connections */
  HANDSHAKE_TIMEOUT_MS = 5000,
  IDLE_MS_MAX = 15 * 60 * 1000, /* a connection without calls is closed; its client makes a new one when it needs one */
  KEEPALIVE_MS = 30 * 1000,     /* a peer that is silent for so long is asked whether it lives */
  KEEPALIVE_TIMEOUT_MS = 10 * 1000,
  CLIENT_PING_INTERVAL_MIN_MS = 5000, /* clients that ask more often are sent away */
  HANG_UP_MS = 5000,                  /* for connections to notice that they are closed */
  CALLS_POSTED = 16,                  /* per route, ahead of their arrival */
  EVENTS_BETWEEN_LOOKS = 1024,        /* for answers that nobody reads; sooner when there are fewer events: */
  LOOKS_PER_WAIT = 12,
  STANDARD_ROUTES = 6 + SCALER_ROUTES, /* Attach, health, reflection, KEDA, and the rest of the world */
};

static const long ns_per_ms = 1000000;

/* ---- calls as they come in ---- */

static void call_arrived(struct tag *tag, bool ok);

static void post_call(struct route *route) {
  struct rpc_server *server = route->server;
  struct call *call = g_malloc0(route->call_bytes);
  grpc_call_error refused;
  call->route = route;
  call->requested.ready = call_arrived;
  grpc_metadata_array_init(&call->metadata);
  tag_release(&call->requested);
  if (route->path) {
    refused = grpc_server_request_registered_call(server->server, route->registered, &call->call, &call->deadline,
                                                  &call->metadata, route->payload ? &call->payload : NULL, server->queue,
                                                  server->queue, &call->requested);
  } else {
    grpc_call_details_init(&call->details);
    refused = grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata, server->queue, server->queue,
                                       &call->requested);
  }
  g_assert(refused == GRPC_CALL_OK);
}

static void call_discard(struct call *call) {
  grpc_metadata_array_destroy(&call->metadata);
  if (!call->route->path)
    grpc_call_details_destroy(&call->details);
  g_free(call);
}

static enum status check_call(struct call *call, struct error *error) {
  const struct route *route = call->route;
  if (!route->always && !g_atomic_int_get(&route->server->serving)) {
    call_stopping_error(error);
    return STATUS_UNAVAILABLE;
  }
  enum status status = call_count_message(call, error);
  if (status)
    return status;
  status = auth_allow(route, call, error);
  if (status)
    audit_refusal(call, error);
  return status;
}

static void call_arrived(struct tag *tag, bool ok) {
  struct call *call = (struct call *)((char *)tag - offsetof(struct call, requested));
  struct rpc_server *server = call->route->server;
  struct error error;
  if (!ok) { /* the server stops */
    call_discard(call);
    return;
  }
  pthread_mutex_lock(&server->lock);
  server->calls++;
  call->served = !g_atomic_int_get(&server->stopping);
  if (call->served)
    server->served++;
  pthread_mutex_unlock(&server->lock);
  if (!g_atomic_int_get(&server->closing))
    post_call(call->route);
  call->route->accept(call, check_call(call, &error) ? &error : NULL);
}

/* ---- methods that nobody knows ---- */

static void unknown_left(struct stream *stream) {
  stream_unref(stream);
}

static const struct stream_events unknown_events = {.left = unknown_left};

static void unknown_accept(struct call *call, const struct error *refused) {
  struct stream *stream = (struct stream *)call;
  struct error error;
  char *path = grpc_slice_to_c_string(call->details.method);
  (void)refused;
  error_set(&error, STATUS_UNIMPLEMENTED, NULL,
            "there is no method '%.200s'; list what there is: grpcurl -plaintext ADDRESS list", path);
  gpr_free(path);
  stream_open(stream, &unknown_events);
  stream_end(stream, &error);
}

/* ---- opening ---- */

static void add_routes(struct rpc_server *server) {
  server->routes = g_new0(struct route, method_count + STANDARD_ROUTES);
  struct route *route = server->routes;
  for (size_t i = 0; i < method_count; i++, route++) {
    route->path = methods[i].path;
    route->method = &methods[i];
    if (methods[i].shape == METHOD_UNARY)
      unary_route(route);
    else
      streams_route(route);
  }
  attach_route(route++);
  health_check_route(route++);
  health_watch_route(route++);
  reflection_route(route++, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
  reflection_route(route++, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
  scaler_routes(route);
  route += SCALER_ROUTES;
  *route++ = (struct route){.always = true, .call_bytes = sizeof(struct stream), .accept = unknown_accept};
  server->route_count = (size_t)(route - server->routes);
  for (size_t i = 0; i < server->route_count; i++) {
    route = &server->routes[i];
    route->server = server;
    if (route->path)
      route->registered =
          grpc_server_register_method(server->server, route->path, NULL,
                                      route->payload ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
  }
}

static grpc_arg integer(const char *name, size_t value) {
  return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)name, .value.integer = (int)value};
}

static void create_server(struct rpc_server *server, const struct rpc_options *options) {
  grpc_resource_quota *quota = grpc_resource_quota_create("millraced");
  grpc_resource_quota_resize(quota, TRANSPORT_BYTES_MAX);
  grpc_arg arguments[] = {
      integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, server->request_bytes_max),
      integer(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0), /* it knows no limit; see codec_flatten */
      integer(GRPC_ARG_MAX_METADATA_SIZE, options->metadata_bytes_max ? options->metadata_bytes_max : METADATA_BYTES_MAX),
      integer(GRPC_ARG_MAX_CONCURRENT_STREAMS, options->streams_max ? options->streams_max : STREAMS_MAX_DEFAULT),
      integer(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS),
      integer(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS_MAX),
      integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
      integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
      integer(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
      integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
      integer(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, CLIENT_PING_INTERVAL_MIN_MS),
      integer(GRPC_ARG_ALLOW_REUSEPORT, 0),
      {.type = GRPC_ARG_POINTER,
       .key = (char *)GRPC_ARG_RESOURCE_QUOTA,
       .value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()}},
  };
  grpc_channel_args channel_args = {.num_args = G_N_ELEMENTS(arguments), .args = arguments};
  server->server = grpc_server_create(&channel_args, NULL);
  grpc_resource_quota_unref(quota);
  server->queue = grpc_completion_queue_create_for_next(NULL);
  grpc_server_register_completion_queue(server->server, server->queue, NULL);
}

static enum status bind_addresses(struct rpc_server *server, const char *const *addresses, struct error *error) {
  enum status status = STATUS_OK;
  server->port_count = g_strv_length((char **)addresses);
  server->ports = g_new0(uint16_t, server->port_count);
  for (size_t i = 0; i < server->port_count && !status; i++) {
    bool is_local = g_str_has_prefix(addresses[i], "unix:"); /* never leaves the machine */
    grpc_server_credentials *credentials =
        server->secure && !is_local ? secure_credentials(server->secure) : grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->server, addresses[i], credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0)
      status =
          error_set(error, STATUS_UNAVAILABLE, NULL,
                    "can't listen on %s: the address is in use by another program, or is none of this machine's", addresses[i]);
    else if (!is_local)
      server->ports[i] = (uint16_t)port;
  }
  return status;
}

static void silence(gpr_log_func_args *arguments) {
  (void)arguments;
}

enum status rpc_server_open(const struct rpc_options *options, struct rpc_server **out_server, struct error *error) {
  if (!getenv("GRPC_VERBOSITY")) /* libgrpc would write to standard error what any peer can make it say */
    gpr_set_log_function(silence);
  grpc_init();
  struct rpc_server *server = g_new0(struct rpc_server, 1);
  server->engine = options->engine;
  server->hub = options->hub;
  server->grants = options->take_grants;
  server->asks_who = options->take_grants != NULL;
  server->audience = options->audience;
  server->rates = options->messages_per_second_max ? rates_new(options->messages_per_second_max) : NULL;
  server->secure = options->tls ? secure_new(options->tls) : NULL;
  pthread_mutex_init(&server->grants_lock, NULL);
  server->request_bytes_max = options->request_bytes_max ? options->request_bytes_max : REQUEST_BYTES_MAX;
  server->stream_backlog_bytes_max =
      options->stream_backlog_bytes_max ? options->stream_backlog_bytes_max : STREAM_BACKLOG_BYTES_DEFAULT;
  server->backlogs_bytes_max = options->backlogs_bytes_max ? options->backlogs_bytes_max : BACKLOGS_BYTES_DEFAULT;
  server->answers_bytes_max = options->answers_bytes_max ? options->answers_bytes_max : ANSWERS_BYTES_DEFAULT;
  server->answer_wait_ms = options->answer_wait_ms ? options->answer_wait_ms : ANSWER_WAIT_MS_DEFAULT;
  pthread_mutex_init(&server->lock, NULL);
  pthread_mutex_init(&server->answers_lock, NULL);
  g_queue_init(&server->answers);
  call_init_deferred(server);
  pthread_cond_init(&server->changed, NULL);
  g_queue_init(&server->lasting);
  server->health = health_new();
  server->reflection = reflection_new();
  server->scaler = scaler_new();
  create_server(server, options);
  add_routes(server);
  enum status status = bind_addresses(server, options->addresses, error);
  if (status)
    rpc_server_free(server);
  else
    *out_server = server;
  return status;
}

uint16_t rpc_server_port(const struct rpc_server *server, size_t index) {
  g_assert(index < server->port_count);
  return server->ports[index];
}

/* ---- running ---- */

static gpr_timespec next_look(const struct rpc_server *server) {
  gpr_timespec wait = gpr_time_from_millis(server->answer_wait_ms / LOOKS_PER_WAIT, GPR_TIMESPAN);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), wait);
}

static gpointer poll_queue(gpointer context) {
  struct rpc_server *server = context;
  gpr_timespec look = next_look(server);
  for (unsigned events = 1;; events++) {
    grpc_event event = grpc_completion_queue_next(server->queue, look, NULL);
    if (event.type == GRPC_QUEUE_SHUTDOWN)
      return NULL;
    if (event.type == GRPC_QUEUE_TIMEOUT || events % EVENTS_BETWEEN_LOOKS == 0) {
      unary_end_unread(server);
      look = next_look(server);
    }
    if (event.type == GRPC_QUEUE_TIMEOUT)
      continue;
    struct tag *tag = event.tag;
    tag_acquire(tag);
    tag->ready(tag, event.success != 0);
    call_start_rest(server);
  }
}

void rpc_server_start(struct rpc_server *server) {
  grpc_server_start(server->server);
  for (size_t i = 0; i < server->route_count; i++) {
    for (unsigned j = 0; j < CALLS_POSTED; j++)
      post_call(&server->routes[i]);
  }
  server->poller = g_thread_new("rpc", poll_queue, server);
}

void rpc_server_set_grants(struct rpc_server *server, struct grants *take_grants) {
  auth_set_grants(server, take_grants);
}

void rpc_server_set_tls(struct rpc_server *server, const struct tls_texts *tls) {
  secure_set(server->secure, tls);
}

void rpc_server_set_serving(struct rpc_server *server, bool serving) {
  g_atomic_int_set(&server->serving, serving);
  health_set_serving(server->health, serving);
}

/* ---- stopping ---- */

static void server_shut_down(struct tag *tag, bool ok) {
  struct rpc_server *server = (struct rpc_server *)((char *)tag - offsetof(struct rpc_server, shut_down_tag));
  (void)ok;
  pthread_mutex_lock(&server->lock);
  server->shut_down = true;
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

static bool none_served(const struct rpc_server *server) {
  return server->served == 0;
}

static bool none_left(const struct rpc_server *server) {
  return server->shut_down && server->calls == 0;
}

/* Deadline NULL: for ever. */
static bool wait_until(struct rpc_server *server, bool (*is_so)(const struct rpc_server *server),
                       const struct timespec *deadline) {
  bool in_time = true;
  pthread_mutex_lock(&server->lock);
  while (in_time && !is_so(server)) {
    if (!deadline)
      pthread_cond_wait(&server->changed, &server->lock);
    else
      in_time = pthread_cond_clockwait(&server->changed, &server->lock, CLOCK_MONOTONIC, deadline) == 0;
  }
  pthread_mutex_unlock(&server->lock);
  return in_time;
}

static void end_lasting_calls(struct rpc_server *server) {
  pthread_mutex_lock(&server->lock);
  for (GList *link = server->lasting.head; link; link = link->next) {
    struct call *call = link->data;
    call->stop(call);
  }
  pthread_mutex_unlock(&server->lock);
}

/* libgrpc ends calls that reach it after its shutdown has begun with CANCELLED, which no client tries again. So first all are
 * answered UNAVAILABLE, until those that came before have ended, and then the connections are closed: to a client, that is
 * UNAVAILABLE too. */
void rpc_server_stop(struct rpc_server *server, int64_t grace_ms) {
  struct timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += grace_ms / 1000;
  deadline.tv_nsec += grace_ms % 1000 * ns_per_ms;
  if (deadline.tv_nsec >= 1000 * ns_per_ms) {
    deadline.tv_sec++;
    deadline.tv_nsec -= 1000 * ns_per_ms;
  }
  g_assert(server->poller);
  g_atomic_int_set(&server->stopping, 1);
  rpc_server_set_serving(server, false);
  end_lasting_calls(server);
  bool in_time = wait_until(server, none_served, &deadline);
  if (!in_time)
    engine_abandon(server->engine);
  guard_hang_up(HANG_UP_MS);
  g_atomic_int_set(&server->closing, 1);
  server->shut_down_tag.ready = server_shut_down;
  tag_release(&server->shut_down_tag);
  grpc_server_shutdown_and_notify(server->server, server->queue, &server->shut_down_tag);
  end_lasting_calls(server);
  if (!in_time || !wait_until(server, none_left, &deadline)) {
    grpc_server_cancel_all_calls(server->server);
    wait_until(server, none_left, NULL);
  }
  grpc_completion_queue_shutdown(server->queue);
  g_thread_join(server->poller);
  server->poller = NULL;
}

/* Never started: the queue has nothing but the notice of the shutdown. */
static void shut_down_unstarted(struct rpc_server *server) {
  server->shut_down_tag.ready = server_shut_down;
  grpc_server_shutdown_and_notify(server->server, server->queue, &server->shut_down_tag);
  grpc_completion_queue_shutdown(server->queue);
  poll_queue(server);
}

void rpc_server_free(struct rpc_server *server) {
  if (!server)
    return;
  g_assert(!server->poller); /* rpc_server_stop comes first */
  if (!server->shut_down)
    shut_down_unstarted(server);
  grpc_server_destroy(server->server);
  grpc_completion_queue_destroy(server->queue);
  scaler_free(server->scaler);
  reflection_free(server->reflection);
  health_free(server->health);
  grants_free(server->grants);
  rates_free(server->rates);
  pthread_mutex_destroy(&server->grants_lock);
  g_free(server->routes);
  g_free(server->ports);
  pthread_mutex_destroy(&server->lock);
  pthread_mutex_destroy(&server->deferred_lock);
  pthread_mutex_destroy(&server->answers_lock);
  pthread_cond_destroy(&server->changed);
  struct secure *secure = server->secure;
  g_free(server);
  grpc_shutdown_blocking(); /* until then ports may ask for certificates */
  secure_free(secure);
}
