/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/call.h"

#include <grpc/support/alloc.h>

#include "rpc/auth.h"
#include "rpc/codec.h"
#include "rpc/rates.h"
#include "rpc/scope.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_THREAD_SANITIZER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define WITH_THREAD_SANITIZER 1
#endif
#ifdef WITH_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

/* Unpacked requests that may be under way at once, all calls together. */
#define REQUESTS_BYTES_MAX ((gsize)512 << 20)
enum { STOPPING_RETRY_MS = 1000 };

void tag_release(struct tag *tag) {
#ifdef WITH_THREAD_SANITIZER
  __tsan_release(tag);
#else
  (void)tag;
#endif
}

void tag_acquire(struct tag *tag) {
#ifdef WITH_THREAD_SANITIZER
  __tsan_acquire(tag);
#else
  (void)tag;
#endif
}

void call_start(struct call *call, const grpc_op *operations, size_t count, struct tag *tag) {
  tag_release(tag);
  grpc_call_error refused = grpc_call_start_batch(call->call, operations, count, tag, NULL);
  g_assert(refused == GRPC_CALL_OK);
}

static void list_append(struct deferred_list *list, struct deferred *first, struct deferred **end) {
  *list->end = first;
  list->end = end;
}

static void list_empty(struct deferred_list *list) {
  list->first = NULL;
  list->end = &list->first;
}

void call_defer(struct rpc_server *server, struct deferred *deferred) {
  deferred->next = NULL;
  pthread_mutex_lock(&server->deferred_lock);
  list_append(&server->gathered, deferred, &deferred->next);
  pthread_mutex_unlock(&server->deferred_lock);
}

void call_let_go(struct rpc_server *server) {
  pthread_mutex_lock(&server->deferred_lock);
  struct deferred *first = server->gathered.first;
  if (first && first->next)
    list_append(&server->rest, first->next, server->gathered.end);
  list_empty(&server->gathered);
  pthread_mutex_unlock(&server->deferred_lock);
  if (first)
    first->start(first);
}

void call_start_rest(struct rpc_server *server) {
  pthread_mutex_lock(&server->deferred_lock);
  struct deferred *first = server->rest.first;
  list_empty(&server->rest);
  pthread_mutex_unlock(&server->deferred_lock);
  while (first) {
    struct deferred *next = first->next; /* it may be freed once it is started */
    first->start(first);
    first = next;
  }
}

void call_init_deferred(struct rpc_server *server) {
  pthread_mutex_init(&server->deferred_lock, NULL);
  list_empty(&server->gathered);
  list_empty(&server->rest);
}

void call_release(struct call *call) {
  struct rpc_server *server = call->route->server;
  if (call->payload)
    grpc_byte_buffer_destroy(call->payload);
  grpc_metadata_array_destroy(&call->metadata);
  if (!call->route->path)
    grpc_call_details_destroy(&call->details);
  grpc_call_unref(call->call);
  grant_unref(call->grant);
  bool served = call->served;
  g_free(call);
  pthread_mutex_lock(&server->lock);
  server->calls--;
  if (served)
    server->served--;
  if (server->served == 0)
    pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

enum status call_count_message(const struct call *call, struct error *error) {
  struct rates *rates = call->route->server->rates;
  int64_t wait_ms;
  if (!rates)
    return STATUS_OK;
  char *peer = grpc_call_get_peer(call->call);
  bool fits = rates_take(rates, peer, g_get_monotonic_time() / 1000, &wait_ms);
  gpr_free(peer);
  if (fits)
    return STATUS_OK;
  error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL,
            "your address sends more messages a second than this server takes (--max-messages-per-second); send fewer");
  error_reason(error, "TOO_MANY_MESSAGES", NULL);
  error->retry_after_ms = wait_ms;
  return STATUS_RESOURCE_EXHAUSTED;
}

void call_lasts(struct call *call, void (*stop)(struct call *call)) {
  struct rpc_server *server = call->route->server;
  call->link.data = call;
  call->stop = stop;
  pthread_mutex_lock(&server->lock);
  g_queue_push_tail_link(&server->lasting, &call->link);
  auth_check_lasting(call); /* the grants may have changed since it came in */
  pthread_mutex_unlock(&server->lock);
}

void call_lasts_no_more(struct call *call) {
  struct rpc_server *server = call->route->server;
  pthread_mutex_lock(&server->lock);
  g_queue_unlink(&server->lasting, &call->link);
  pthread_mutex_unlock(&server->lock);
}

void call_stopping_error(struct error *error) {
  error_set(error, STATUS_UNAVAILABLE, NULL, "the server is starting or stopping; try again in a moment");
  error_reason(error, "NOT_SERVING", NULL);
  error->retry_after_ms = STOPPING_RETRY_MS;
}

enum status intake_open(const struct call *call, grpc_byte_buffer *payload, struct intake *out_intake, struct error *error) {
  struct rpc_server *server = call->route->server;
  const struct method *method = call->route->method;
  struct request *request = request_new(method, codec_arena_bytes_max(payload));
  ProtobufCMessage *message = NULL;
  enum status status = codec_unpack(payload, method->request, request->arena, &message, error);
  gsize bytes = arena_used(request->arena);
  if (!status && (gsize)g_atomic_pointer_add(&server->requests_bytes, (gssize)bytes) + bytes > REQUESTS_BYTES_MAX) {
    g_atomic_pointer_add(&server->requests_bytes, -(gssize)bytes);
    status = error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL,
                       "the server is busy: the requests under way take more than %zu MiB; try again", REQUESTS_BYTES_MAX >> 20);
    if (error)
      error->retry_after_ms = BUSY_RETRY_MS;
  }
  request->message = message;
  if (!status && call->grant && call->grant->queues) {
    status = scope_check(call->grant, request, error);
    if (status)
      g_atomic_pointer_add(&server->requests_bytes, -(gssize)bytes);
  }
  if (status) {
    request_unref(request);
    return status;
  }
  *out_intake = (struct intake){request, bytes};
  return STATUS_OK;
}

void intake_close(struct rpc_server *server, struct intake *intake) {
  if (!intake->request)
    return;
  g_atomic_pointer_add(&server->requests_bytes, -(gssize)intake->bytes);
  request_unref(intake->request);
  intake->request = NULL;
}
