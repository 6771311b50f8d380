/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/streams.h"

#include "rpc/audit.h"
#include "rpc/codec.h"
#include "rpc/stream.h"

enum { DRAINED_BYTES = 4 << 20 };

/* ---- METHOD_SERVER_STREAM ---- */

/* Two references: of the caller's side (until `left`) and of the engine's (until `done`). */
struct watch {
  struct stream stream;
  struct intake intake;
};

static bool watch_event(struct request *request, const ProtobufCMessage *message) {
  struct watch *watch = request->context;
  return stream_send(&watch->stream, codec_pack(message));
}

static bool watch_drained(struct request *request, int64_t wait_ms) {
  struct watch *watch = request->context;
  return stream_wait(&watch->stream, DRAINED_BYTES, wait_ms);
}

static void watch_done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  struct watch *watch = request->context;
  (void)response;
  audit_action(&watch->stream.call, request, error);
  if (error && error->status == STATUS_RESOURCE_EXHAUSTED)
    stream_abort(&watch->stream, error);
  else
    stream_end(&watch->stream, error);
  stream_unref(&watch->stream);
}

static void watch_left(struct stream *stream) {
  struct watch *watch = (struct watch *)stream;
  if (watch->intake.request)
    engine_cancel(stream->call.route->server->engine, watch->intake.request);
  stream_unref(stream);
}

static void watch_freed(struct stream *stream) {
  intake_close(stream->call.route->server, &((struct watch *)stream)->intake);
}

static const struct stream_events watch_events = {.left = watch_left, .freed = watch_freed};

static void watch_accept(struct call *call, const struct error *refused) {
  struct watch *watch = (struct watch *)call;
  struct error error;
  if (!refused && intake_open(call, call->payload, &watch->intake, &error))
    refused = &error;
  stream_open(&watch->stream, &watch_events);
  if (refused) {
    stream_end(&watch->stream, refused);
    return;
  }
  struct request *request = watch->intake.request;
  request->context = watch;
  request->event = watch_event;
  request->drained = watch_drained;
  request->done = watch_done;
  stream_ref(&watch->stream);
  engine_submit(call->route->server->engine, request);
}

/* ---- METHOD_MESSAGE_STREAM ---- */

struct pipeline;

/* An inbound message at work. Holds a reference to the stream. */
struct work {
  struct pipeline *pipeline;
  struct intake intake;
  grpc_byte_buffer *answer;
  bool is_done;
  bool has_failed;
  struct error error;
};

struct pipeline {
  struct stream stream;
  pthread_mutex_t lock; /* of what follows; taken before the stream's */
  GQueue works;         /* in the order of arrival; answered ones leave at the head */
  unsigned unsent;      /* messages read whose answers have not gone out */
  bool reading;
  bool half_closed;
  bool stopping; /* and told so at the end */
  bool ended;
};

/* Passes on the answer of the oldest message, or, after the end, forgets it. Called with the lock held. */
static void work_finish(struct pipeline *pipeline, struct work *work) {
  struct stream *stream = &pipeline->stream;
  bool is_sent = false;
  if (pipeline->ended) {
    if (work->answer)
      grpc_byte_buffer_destroy(work->answer);
  } else if (work->has_failed) {
    stream_end(stream, &work->error);
  } else {
    is_sent = stream_send(stream, work->answer);
    if (!is_sent) {
      error_set(&work->error, STATUS_RESOURCE_EXHAUSTED, NULL, "too many answers wait to be read: read them while sending");
      stream_abort(stream, &work->error);
    }
  }
  pipeline->ended = pipeline->ended || !is_sent;
  g_free(work);
  stream_unref(stream);
}

/* Sends what can be sent in order and reads on if there is room. Called with the lock held and a reference besides those of the
 * works. */
static void advance(struct pipeline *pipeline) {
  struct work *work;
  while ((work = g_queue_peek_head(&pipeline->works)) && work->is_done)
    work_finish(pipeline, g_queue_pop_head(&pipeline->works));
  if (pipeline->ended)
    return;
  if ((pipeline->half_closed || pipeline->stopping) && !work) {
    struct error error;
    pipeline->ended = true;
    call_stopping_error(&error);
    stream_end(&pipeline->stream, pipeline->half_closed ? NULL : &error);
  } else if (!pipeline->half_closed && !pipeline->stopping && !pipeline->reading && pipeline->unsent < MESSAGES_AT_WORK_MAX) {
    pipeline->reading = true;
    stream_read(&pipeline->stream);
  }
}

static void work_done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  struct work *work = request->context;
  struct pipeline *pipeline = work->pipeline;
  stream_ref(&pipeline->stream); /* beyond the life of `work` */
  if (error)
    work->error = *error;
  else
    work->answer = codec_pack(response);
  intake_close(pipeline->stream.call.route->server, &work->intake);
  pthread_mutex_lock(&pipeline->lock);
  work->has_failed = error != NULL;
  work->is_done = true;
  advance(pipeline);
  pthread_mutex_unlock(&pipeline->lock);
  stream_unref(&pipeline->stream);
}

/* The next message; NULL: there is none. */
static struct work *work_new(struct pipeline *pipeline, grpc_byte_buffer *buffer) {
  struct work *work = g_new0(struct work, 1);
  work->pipeline = pipeline;
  if (call_count_message(&pipeline->stream.call, &work->error) ||
      intake_open(&pipeline->stream.call, buffer, &work->intake, &work->error)) {
    work->has_failed = true;
    work->is_done = true;
  } else {
    work->intake.request->context = work;
    work->intake.request->done = work_done;
  }
  stream_ref(&pipeline->stream);
  return work;
}

static void pipeline_message(struct stream *stream, grpc_byte_buffer *buffer) {
  struct pipeline *pipeline = (struct pipeline *)stream;
  struct work *work = buffer ? work_new(pipeline, buffer) : NULL;
  /* `work` may be gone before engine_submit returns. */
  struct request *request = work && work->intake.request ? request_ref(work->intake.request) : NULL;
  pthread_mutex_lock(&pipeline->lock);
  pipeline->reading = false;
  if (work) {
    g_queue_push_tail(&pipeline->works, work);
    pipeline->unsent++;
  } else {
    pipeline->half_closed = true;
  }
  if (!request)
    advance(pipeline);
  pthread_mutex_unlock(&pipeline->lock);
  if (!request)
    return;
  engine_submit(stream->call.route->server->engine, request);
  request_unref(request);
  pthread_mutex_lock(&pipeline->lock);
  advance(pipeline);
  pthread_mutex_unlock(&pipeline->lock);
}

static void pipeline_sent(struct stream *stream) {
  struct pipeline *pipeline = (struct pipeline *)stream;
  pthread_mutex_lock(&pipeline->lock);
  pipeline->unsent--;
  advance(pipeline);
  pthread_mutex_unlock(&pipeline->lock);
}

/* What was read is still answered. */
static void pipeline_stop(struct stream *stream) {
  struct pipeline *pipeline = (struct pipeline *)stream;
  pthread_mutex_lock(&pipeline->lock);
  pipeline->stopping = true;
  advance(pipeline);
  pthread_mutex_unlock(&pipeline->lock);
}

static void pipeline_left(struct stream *stream) {
  struct pipeline *pipeline = (struct pipeline *)stream;
  pthread_mutex_lock(&pipeline->lock);
  pipeline->ended = true;
  pthread_mutex_unlock(&pipeline->lock);
  stream_unref(stream);
}

static void pipeline_freed(struct stream *stream) {
  pthread_mutex_destroy(&((struct pipeline *)stream)->lock);
}

static const struct stream_events pipeline_events = {
    .message = pipeline_message, .sent = pipeline_sent, .stop = pipeline_stop, .left = pipeline_left, .freed = pipeline_freed};

static void pipeline_accept(struct call *call, const struct error *refused) {
  struct pipeline *pipeline = (struct pipeline *)call;
  pthread_mutex_init(&pipeline->lock, NULL);
  g_queue_init(&pipeline->works);
  stream_open(&pipeline->stream, &pipeline_events);
  pthread_mutex_lock(&pipeline->lock);
  if (refused) {
    pipeline->ended = true;
    stream_end(&pipeline->stream, refused);
  } else {
    advance(pipeline);
  }
  pthread_mutex_unlock(&pipeline->lock);
}

void streams_route(struct route *route) {
  bool is_watch = route->method->shape == METHOD_SERVER_STREAM;
  route->role = route->method->role;
  route->payload = is_watch;
  route->call_bytes = is_watch ? sizeof(struct watch) : sizeof(struct pipeline);
  route->accept = is_watch ? watch_accept : pipeline_accept;
}
