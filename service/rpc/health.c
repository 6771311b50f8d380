/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/health.h"

#include "grpc/health/v1/health.pb-c.h"
#include "rpc/codec.h"
#include "rpc/reflection.h"
#include "rpc/stream.h"

enum { HEALTH_ARENA_BYTES_MAX = 64 << 10, HEALTH_WATCHERS_MAX = 10 * 1000 };

struct health {
  pthread_mutex_t lock; /* taken before a stream's */
  bool serving;
  GQueue watchers; /* of struct health_watch */
};

struct health_watch {
  struct stream stream;
  GList link;
  bool watching;
};

static grpc_byte_buffer *response(Grpc__Health__V1__HealthCheckResponse__ServingStatus status) {
  Grpc__Health__V1__HealthCheckResponse message = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
  message.status = status;
  return codec_pack(&message.base);
}

static Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status(bool serving) {
  return serving ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                 : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

/* Which service is asked for, and whether there is one. */
static enum status read_request(struct call *call, bool *out_known, struct error *error) {
  struct arena *arena = arena_new(HEALTH_ARENA_BYTES_MAX);
  ProtobufCMessage *message;
  enum status status = codec_unpack(call->payload, &grpc__health__v1__health_check_request__descriptor, arena, &message, error);
  if (!status) {
    const char *service = ((const Grpc__Health__V1__HealthCheckRequest *)message)->service;
    *out_known = service[0] == '\0' || reflection_has_service(call->route->server->reflection, service);
    if (!*out_known)
      error_set(error, STATUS_NOT_FOUND, "service", "there is no service '%.100s'", service);
  }
  arena_free(arena);
  return status;
}

static void check_left(struct stream *stream) {
  stream_unref(stream);
}

static const struct stream_events check_events = {.left = check_left};

static void check_accept(struct call *call, const struct error *refused) {
  struct stream *stream = (struct stream *)call;
  struct health *health = call->route->server->health;
  struct error error;
  bool known = false;
  if (!refused && (read_request(call, &known, &error) || !known))
    refused = &error;
  stream_open(stream, &check_events);
  if (!refused) {
    pthread_mutex_lock(&health->lock);
    stream_send(stream, response(serving_status(health->serving)));
    pthread_mutex_unlock(&health->lock);
  }
  stream_end(stream, refused);
}

static void watch_left(struct stream *stream) {
  struct health_watch *watch = (struct health_watch *)stream;
  struct health *health = stream->call.route->server->health;
  pthread_mutex_lock(&health->lock);
  if (watch->watching)
    g_queue_unlink(&health->watchers, &watch->link);
  pthread_mutex_unlock(&health->lock);
  stream_unref(stream);
}

static const struct stream_events watch_events = {.left = watch_left};

static void watch_accept(struct call *call, const struct error *refused) {
  struct health_watch *watch = (struct health_watch *)call;
  struct health *health = call->route->server->health;
  struct error error;
  bool known = false;
  if (!refused && read_request(call, &known, &error))
    refused = &error;
  stream_open(&watch->stream, &watch_events);
  pthread_mutex_lock(&health->lock);
  if (!refused && health->watchers.length >= HEALTH_WATCHERS_MAX) {
    error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL, "%d clients watch the server's health already", HEALTH_WATCHERS_MAX);
    refused = &error;
  }
  if (refused) {
    stream_end(&watch->stream, refused);
  } else if (known) {
    watch->link.data = watch;
    watch->watching = true;
    g_queue_push_tail_link(&health->watchers, &watch->link);
    stream_send(&watch->stream, response(serving_status(health->serving)));
  } else {
    stream_send(&watch->stream, response(GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN));
  }
  pthread_mutex_unlock(&health->lock);
}

struct health *health_new(void) {
  struct health *health = g_new0(struct health, 1);
  pthread_mutex_init(&health->lock, NULL);
  g_queue_init(&health->watchers);
  return health;
}

void health_free(struct health *health) {
  if (!health)
    return;
  pthread_mutex_destroy(&health->lock);
  g_free(health);
}

void health_set_serving(struct health *health, bool serving) {
  pthread_mutex_lock(&health->lock);
  if (health->serving != serving) {
    health->serving = serving;
    for (GList *link = health->watchers.head; link; link = link->next) {
      struct health_watch *watch = link->data;
      stream_send(&watch->stream, response(serving_status(serving)));
    }
  }
  pthread_mutex_unlock(&health->lock);
}

static void health_route(struct route *route, const char *path) {
  route->path = path;
  route->role = ROLE_NONE;
  route->always = true;
  route->payload = true;
}

void health_check_route(struct route *route) {
  health_route(route, "/grpc.health.v1.Health/Check");
  route->call_bytes = sizeof(struct stream);
  route->accept = check_accept;
}

void health_watch_route(struct route *route) {
  health_route(route, "/grpc.health.v1.Health/Watch");
  route->call_bytes = sizeof(struct health_watch);
  route->accept = watch_accept;
}
