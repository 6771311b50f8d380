/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stream.h"

#include <time.h>

#define OWNER(tag, member) ((struct stream *)((char *)(tag)-offsetof(struct stream, member)))

enum {
  ROOM_BYTES = 64 << 10, /* each stream's own, however much the others hold */
};

static void start(struct stream *stream, const grpc_op *operations, size_t count, struct tag *tag) {
  stream_ref(stream);
  call_start(&stream->call, operations, count, tag);
}

/* Sends what is due next, if nothing is under way. Called with the lock held. */
static void pump(struct stream *stream) {
  grpc_op operations[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
  size_t count = stream->greeted ? 0 : 1;
  if (stream->over || stream->sending || stream->finishing)
    return;
  grpc_byte_buffer *message = g_queue_pop_head(&stream->queue);
  if (message) {
    stream->sending = true;
    stream->greeted = true;
    stream->sending_bytes = grpc_byte_buffer_length(message);
    operations[count] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
    operations[count++].data.send_message.send_message = message;
    start(stream, operations, count, &stream->sent);
    grpc_byte_buffer_destroy(message);
  } else if (stream->ending) {
    stream->finishing = true;
    stream->greeted = true;
    operations[count++] = status_trailer_operation(&stream->trailer);
    start(stream, operations, count, &stream->finished);
  }
}

static void count_bytes(struct stream *stream, gssize bytes) {
  stream->queue_bytes += (size_t)bytes;
  g_atomic_pointer_add(&stream->call.route->server->backlogs_bytes, bytes);
}

static void drop_queue(struct stream *stream) {
  grpc_byte_buffer *message;
  while ((message = g_queue_pop_head(&stream->queue)))
    grpc_byte_buffer_destroy(message);
  count_bytes(stream, -(gssize)(stream->queue_bytes - stream->sending_bytes));
}

/* Is there room for a message, on this stream and among all? */
static bool has_room(const struct stream *stream, size_t bytes) {
  const struct rpc_server *server = stream->call.route->server;
  if (stream->queue_bytes == 0)
    return true;
  if (bytes > server->stream_backlog_bytes_max - MIN(server->stream_backlog_bytes_max, stream->queue_bytes))
    return false;
  return stream->queue_bytes + bytes <= ROOM_BYTES ||
         (gsize)g_atomic_pointer_get(&server->backlogs_bytes) + bytes <= server->backlogs_bytes_max;
}

static void message_sent(struct tag *tag, bool ok) {
  struct stream *stream = OWNER(tag, sent);
  pthread_mutex_lock(&stream->lock);
  stream->sending = false;
  count_bytes(stream, -(gssize)stream->sending_bytes);
  stream->sending_bytes = 0;
  if (ok)
    pump(stream);
  else
    drop_queue(stream); /* the peer has left; `closed` follows */
  pthread_cond_broadcast(&stream->moved);
  pthread_mutex_unlock(&stream->lock);
  if (ok && stream->events->sent)
    stream->events->sent(stream);
  stream_unref(stream);
}

static void message_received(struct tag *tag, bool ok) {
  struct stream *stream = OWNER(tag, received);
  grpc_byte_buffer *buffer = ok ? stream->inbound : NULL;
  pthread_mutex_lock(&stream->lock);
  stream->reading = false;
  stream->inbound = NULL;
  pthread_mutex_unlock(&stream->lock);
  stream->events->message(stream, buffer);
  if (buffer)
    grpc_byte_buffer_destroy(buffer);
  stream_unref(stream);
}

static void status_sent(struct tag *tag, bool ok) {
  (void)ok;
  stream_unref(OWNER(tag, finished));
}

static void call_closed(struct tag *tag, bool ok) {
  struct stream *stream = OWNER(tag, closed);
  (void)ok;
  pthread_mutex_lock(&stream->lock);
  stream->over = true;
  drop_queue(stream);
  pthread_cond_broadcast(&stream->moved);
  pthread_mutex_unlock(&stream->lock);
  call_lasts_no_more(&stream->call);
  stream->events->left(stream);
  stream_unref(stream);
}

static void stop(struct call *call) {
  struct stream *stream = (struct stream *)call;
  struct error error;
  if (stream->events->stop) {
    stream->events->stop(stream);
    return;
  }
  call_stopping_error(&error);
  stream_end(stream, &error);
}

void stream_open(struct stream *stream, const struct stream_events *events) {
  grpc_op operation = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
  stream->events = events;
  stream->references = 1;
  stream->sent.ready = message_sent;
  stream->received.ready = message_received;
  stream->finished.ready = status_sent;
  stream->closed.ready = call_closed;
  status_trailer_init(&stream->trailer, NULL);
  pthread_mutex_init(&stream->lock, NULL);
  pthread_cond_init(&stream->moved, NULL);
  g_queue_init(&stream->queue);
  call_lasts(&stream->call, stop);
  operation.data.recv_close_on_server.cancelled = &stream->cancelled;
  start(stream, &operation, 1, &stream->closed);
}

void stream_ref(struct stream *stream) {
  g_atomic_int_inc(&stream->references);
}

void stream_unref(struct stream *stream) {
  if (!g_atomic_int_dec_and_test(&stream->references))
    return;
  if (stream->events->freed)
    stream->events->freed(stream);
  drop_queue(stream);
  status_trailer_fini(&stream->trailer);
  pthread_mutex_destroy(&stream->lock);
  pthread_cond_destroy(&stream->moved);
  call_release(&stream->call);
}

void stream_read(struct stream *stream) {
  grpc_op operation = {.op = GRPC_OP_RECV_MESSAGE};
  operation.data.recv_message.recv_message = &stream->inbound;
  pthread_mutex_lock(&stream->lock);
  g_assert(!stream->reading);
  if (!stream->over) {
    stream->reading = true;
    start(stream, &operation, 1, &stream->received);
  }
  pthread_mutex_unlock(&stream->lock);
}

bool stream_send(struct stream *stream, grpc_byte_buffer *take_message) {
  size_t bytes = grpc_byte_buffer_length(take_message);
  bool fits = true;
  bool taken = false;
  pthread_mutex_lock(&stream->lock);
  if (!stream->over && !stream->ending) {
    fits = has_room(stream, bytes);
    taken = fits;
  }
  if (taken) {
    g_queue_push_tail(&stream->queue, take_message);
    count_bytes(stream, (gssize)bytes);
    pump(stream);
  }
  pthread_mutex_unlock(&stream->lock);
  if (!taken)
    grpc_byte_buffer_destroy(take_message);
  return fits;
}

bool stream_wait(struct stream *stream, size_t bytes_max, int64_t wait_ms) {
  bool moves = true;
  pthread_mutex_lock(&stream->lock);
  while (moves && !stream->over && !stream->ending && stream->queue_bytes > bytes_max) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    moves = pthread_cond_clockwait(&stream->moved, &stream->lock, CLOCK_MONOTONIC, &until) == 0;
  }
  bool goes_on = moves && !stream->over && !stream->ending;
  pthread_mutex_unlock(&stream->lock);
  return goes_on;
}

static void end(struct stream *stream, const struct error *error, bool at_once) {
  bool stuck = false;
  pthread_mutex_lock(&stream->lock);
  if (!stream->over && !stream->ending) {
    stream->ending = true;
    status_trailer_init(&stream->trailer, error);
    if (at_once)
      drop_queue(stream);
    stuck = at_once && stream->sending;
    pthread_cond_broadcast(&stream->moved);
    pump(stream);
  }
  pthread_mutex_unlock(&stream->lock);
  /* A trailer waits for the message before it, and that one for a reader who does not read. */
  if (stuck)
    grpc_call_cancel_with_status(stream->call.call, (grpc_status_code)error->status, error->message, NULL);
}

void stream_end(struct stream *stream, const struct error *error) {
  end(stream, error, false);
}

void stream_abort(struct stream *stream, const struct error *error) {
  end(stream, error, true);
}
