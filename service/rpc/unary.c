/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/unary.h"

#include "rpc/audit.h"
#include "rpc/codec.h"
#include "rpc/status.h"

/* What is smaller weighs no more than the call itself, of which a connection may have so many. */
enum { BIG_ANSWER_BYTES = 16 << 10 };

/* A call that only reads or writes learns that its caller has left together with its answer: one batch. One that may wait for
 * long watches out for that from the start, at the price of a second batch. */
struct unary {
  struct call call;
  struct tag answered;
  struct tag closed;
  struct intake intake;
  grpc_byte_buffer *message; /* of the answer; NULL: an error */
  struct status_trailer trailer;
  struct deferred start;
  int cancelled;
  unsigned outstanding; /* tags not ready yet, counted before they can be; the poller's alone */
  gsize answer_bytes;   /* counted among server->answers_bytes; 0: the answer is not big */
  GList link;           /* among server->answers; data NULL: not there */
  gint64 answered_us;   /* monotonic: since when it is there */
};

/* WaitJob and its like: their request has a time-out of its own. */
static bool may_wait(const struct method *method) {
  return protobuf_c_message_descriptor_get_field_by_name(method->request, "timeout") != NULL;
}

static grpc_op recv_close(struct unary *unary) {
  grpc_op operation = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
  operation.data.recv_close_on_server.cancelled = &unary->cancelled;
  return operation;
}

/* A peer may open calls and read nothing: what waits for it in libgrpc is limited. Answers that are smaller than their requests,
 * which are counted for as long, need no room: a create that is done must not be refused. */
static enum status count_answer(struct unary *unary, struct error *error) {
  struct rpc_server *server = unary->call.route->server;
  gsize bytes = grpc_byte_buffer_length(unary->message);
  if (bytes < BIG_ANSWER_BYTES)
    return STATUS_OK;
  gsize all = (gsize)g_atomic_pointer_add(&server->answers_bytes, (gssize)bytes) + bytes;
  unary->answer_bytes = bytes;
  if (all <= server->answers_bytes_max || bytes <= unary->intake.bytes)
    return STATUS_OK;
  g_atomic_pointer_add(&server->answers_bytes, -(gssize)bytes);
  unary->answer_bytes = 0;
  error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL,
            "the server is busy: the answers that callers have not read yet take more than %zu MiB; ask again",
            server->answers_bytes_max >> 20);
  error->retry_after_ms = BUSY_RETRY_MS;
  return STATUS_RESOURCE_EXHAUSTED;
}

static void wait_for_reader(struct unary *unary) {
  struct rpc_server *server = unary->call.route->server;
  unary->link.data = unary;
  unary->answered_us = g_get_monotonic_time();
  pthread_mutex_lock(&server->answers_lock);
  g_queue_push_tail_link(&server->answers, &unary->link);
  pthread_mutex_unlock(&server->answers_lock);
}

/* Called with the lock held. */
static void wait_no_more(struct rpc_server *server, struct unary *unary) {
  g_queue_unlink(&server->answers, &unary->link);
  unary->link.data = NULL;
}

static void answer_has_gone(struct unary *unary) {
  struct rpc_server *server = unary->call.route->server;
  g_atomic_pointer_add(&server->answers_bytes, -(gssize)unary->answer_bytes);
  pthread_mutex_lock(&server->answers_lock);
  if (unary->link.data)
    wait_no_more(server, unary);
  pthread_mutex_unlock(&server->answers_lock);
}

void unary_end_unread(struct rpc_server *server) {
  gint64 since_us = g_get_monotonic_time() - server->answer_wait_ms * 1000;
  pthread_mutex_lock(&server->answers_lock);
  struct unary *oldest;
  while ((oldest = g_queue_peek_head(&server->answers)) && oldest->answered_us <= since_us) {
    wait_no_more(server, oldest);
    grpc_call_cancel_with_status(oldest->call.call, GRPC_STATUS_RESOURCE_EXHAUSTED, "nobody has read the answer in time", NULL);
  }
  pthread_mutex_unlock(&server->answers_lock);
}

static void tag_done(struct unary *unary) {
  if (--unary->outstanding > 0)
    return;
  if (unary->answer_bytes > 0)
    answer_has_gone(unary);
  intake_close(unary->call.route->server, &unary->intake);
  status_trailer_fini(&unary->trailer);
  call_release(&unary->call);
}

static void answered(struct tag *tag, bool ok) {
  (void)ok; /* the caller may have left: the same to us */
  tag_done((struct unary *)((char *)tag - offsetof(struct unary, answered)));
}

static void closed(struct tag *tag, bool ok) {
  struct unary *unary = (struct unary *)((char *)tag - offsetof(struct unary, closed));
  (void)ok;
  call_lasts_no_more(&unary->call);
  if (unary->cancelled)
    engine_cancel(unary->call.route->server->engine, unary->intake.request);
  tag_done(unary);
}

/* Nothing of *unary may be touched afterwards: the poller may have freed it. */
static void start_answer(struct unary *unary) {
  grpc_op operations[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
  size_t count = 1;
  grpc_byte_buffer *message = unary->message;
  if (unary->answer_bytes > 0)
    wait_for_reader(unary);
  if (message) {
    operations[count] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
    operations[count++].data.send_message.send_message = message;
  }
  operations[count++] = status_trailer_operation(&unary->trailer);
  if (!unary->closed.ready)
    operations[count++] = recv_close(unary);
  call_start(&unary->call, operations, count, &unary->answered);
  if (message)
    grpc_byte_buffer_destroy(message);
}

static void start_deferred(struct deferred *deferred) {
  start_answer((struct unary *)((char *)deferred - offsetof(struct unary, start)));
}

static void make_answer(struct unary *unary, const struct error *error, const ProtobufCMessage *response) {
  struct error no_room;
  unary->message = error ? NULL : codec_pack(response);
  if (unary->message && count_answer(unary, &no_room)) {
    grpc_byte_buffer_destroy(unary->message);
    unary->message = NULL;
    error = &no_room;
  }
  status_trailer_init(&unary->trailer, error);
}

static void done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  struct unary *unary = request->context;
  struct error stopping;
  if (error && error->status == STATUS_CANCELLED && g_atomic_int_get(&unary->call.route->server->stopping)) {
    call_stopping_error(&stopping);
    error = &stopping;
  }
  audit_action(&unary->call, request, error);
  make_answer(unary, error, response);
  unary->start.start = start_deferred;
  call_defer(unary->call.route->server, &unary->start);
}

static void all_done(void *group) {
  call_let_go(group);
}

static void stop(struct call *call) {
  engine_cancel(call->route->server->engine, ((struct unary *)call)->intake.request);
}

static void accept_call(struct call *call, const struct error *refused) {
  struct unary *unary = (struct unary *)call;
  struct error error;
  unary->answered.ready = answered;
  unary->outstanding = 1;
  if (!refused && intake_open(call, call->payload, &unary->intake, &error))
    refused = &error;
  if (refused) {
    make_answer(unary, refused, NULL);
    start_answer(unary);
    return;
  }
  struct request *request = unary->intake.request;
  request->context = unary;
  request->done = done;
  request->all_done = all_done;
  request->group = call->route->server;
  if (may_wait(call->route->method)) {
    grpc_op operation = recv_close(unary);
    unary->closed.ready = closed;
    unary->outstanding = 2;
    call_lasts(call, stop);
    call_start(call, &operation, 1, &unary->closed);
  }
  engine_submit(call->route->server->engine, request);
}

void unary_route(struct route *route) {
  route->role = route->method->role;
  route->payload = true;
  route->call_bytes = sizeof(struct unary);
  route->accept = accept_call;
}
