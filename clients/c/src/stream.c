/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "client.h"
#include "fault.h"

enum { READ_AHEAD = 8 };

/* Four tags may be out at a time: begin, read, write, end. */
struct tag {
  struct operation operation;
  struct stream *stream;
};

struct stream {
  struct live_call live;
  struct millrace_client *client;
  struct method method;
  struct tag begin, reading, writing, ending;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned tags_out;
  bool read_is_out;
  bool write_is_out;
  bool reads_ended;
  bool reads_without_limit;
  bool ended;      /* status, message, trailers are known */
  GQueue messages; /* grpc_byte_buffer */
  grpc_byte_buffer *incoming;
  grpc_metadata_array headers;
  grpc_metadata_array trailers;
  grpc_status_code status;
  grpc_slice message;
};

static void start(struct tag *tag, const grpc_op *ops, size_t count) {
  tag->stream->tags_out++;
  client_start(&tag->stream->live, ops, count, &tag->operation);
}

static struct stream *lock_for(struct operation *operation) {
  struct stream *stream = ((struct tag *)operation)->stream;
  pthread_mutex_lock(&stream->lock);
  stream->tags_out--;
  return stream;
}

static void unlock(struct stream *stream) {
  pthread_cond_broadcast(&stream->changed);
  pthread_mutex_unlock(&stream->lock);
}

static void read_on(struct stream *stream) {
  bool is_full = !stream->reads_without_limit && g_queue_get_length(&stream->messages) >= READ_AHEAD;
  if (stream->read_is_out || stream->reads_ended || is_full)
    return;
  stream->read_is_out = true;
  grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->incoming};
  start(&stream->reading, &op, 1);
}

static void begin_completed(struct operation *operation, bool ok) {
  struct stream *stream = lock_for(operation);
  (void)ok;
  unlock(stream);
}

static void read_completed(struct operation *operation, bool ok) {
  struct stream *stream = lock_for(operation);
  stream->read_is_out = false;
  if (ok && stream->incoming)
    g_queue_push_tail(&stream->messages, stream->incoming);
  else
    stream->reads_ended = true;
  stream->incoming = NULL;
  read_on(stream);
  unlock(stream);
}

static void write_completed(struct operation *operation, bool ok) {
  struct stream *stream = lock_for(operation);
  (void)ok; /* the status tells */
  stream->write_is_out = false;
  unlock(stream);
}

static void end_completed(struct operation *operation, bool ok) {
  struct stream *stream = lock_for(operation);
  (void)ok;
  stream->ended = true;
  unlock(stream);
}

/* The stream of a client that this process can't use: it has ended with this. */
static void end_at_once(struct stream *stream, const struct millrace_error *error) {
  stream->status = (grpc_status_code)error->code;
  stream->message = grpc_slice_from_copied_string(error->message);
  stream->ended = stream->reads_ended = true;
}

struct stream *stream_open(struct millrace_client *client, struct method method, int64_t timeout_ms) {
  struct stream *stream = g_new0(struct stream, 1);
  stream->client = client;
  stream->method = method;
  stream->begin = (struct tag){{begin_completed}, stream};
  stream->reading = (struct tag){{read_completed}, stream};
  stream->writing = (struct tag){{write_completed}, stream};
  stream->ending = (struct tag){{end_completed}, stream};
  pthread_mutex_init(&stream->lock, NULL);
  pthread_cond_init(&stream->changed, NULL);
  g_queue_init(&stream->messages);
  stream->message = grpc_empty_slice();
  grpc_metadata_array_init(&stream->headers);
  grpc_metadata_array_init(&stream->trailers);
  struct millrace_error error;
  if (client_check_process(client, &error) != MILLRACE_OK) {
    end_at_once(stream, &error);
    return stream;
  }
  client_begin(client, method.path, timeout_ms, &stream->live);
  grpc_metadata metadata;
  size_t metadata_count = client_metadata(client, &metadata);
  grpc_op begin[] = {
      {.op = GRPC_OP_SEND_INITIAL_METADATA, .data.send_initial_metadata = {.count = metadata_count, .metadata = &metadata}},
      {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &stream->headers}};
  grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                 .data.recv_status_on_client = {
                     .trailing_metadata = &stream->trailers, .status = &stream->status, .status_details = &stream->message}};
  pthread_mutex_lock(&stream->lock);
  start(&stream->begin, begin, G_N_ELEMENTS(begin));
  start(&stream->ending, &end, 1);
  read_on(stream);
  pthread_mutex_unlock(&stream->lock);
  return stream;
}

void stream_read_without_limit(struct stream *stream) {
  pthread_mutex_lock(&stream->lock);
  stream->reads_without_limit = true;
  read_on(stream);
  pthread_mutex_unlock(&stream->lock);
}

/* Waits for the status; with the lock held. */
static enum millrace_code how_it_ended(struct stream *stream, struct millrace_error *error) {
  while (!stream->ended)
    pthread_cond_wait(&stream->changed, &stream->lock);
  if (stream->status == GRPC_STATUS_OK)
    return MILLRACE_OK;
  struct millrace_error fault;
  call_fault(stream->client, &fault, stream->status, stream->message, &stream->trailers);
  return fault_copy(error, &fault);
}

static enum millrace_code write_buffer(struct stream *stream, grpc_byte_buffer *take_buffer, struct millrace_error *error) {
  enum millrace_code code = MILLRACE_OK;
  pthread_mutex_lock(&stream->lock);
  while (stream->write_is_out && !stream->ended)
    pthread_cond_wait(&stream->changed, &stream->lock);
  if (stream->ended) {
    code = how_it_ended(stream, error);
    if (code == MILLRACE_OK)
      code = fault_set(error, MILLRACE_UNAVAILABLE, NULL, "the server has ended the stream");
  } else {
    stream->write_is_out = true;
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = take_buffer};
    start(&stream->writing, &op, 1);
  }
  pthread_mutex_unlock(&stream->lock);
  grpc_byte_buffer_destroy(take_buffer);
  return code;
}

enum millrace_code stream_write(struct stream *stream, const void *message, struct millrace_error *error) {
  return write_buffer(stream, call_pack(message), error);
}

enum millrace_code stream_write_bytes(struct stream *stream, const void *bytes, size_t length, struct millrace_error *error) {
  return write_buffer(stream, call_copy(bytes, length), error);
}

void stream_close_writes(struct stream *stream) {
  pthread_mutex_lock(&stream->lock);
  while (stream->write_is_out && !stream->ended)
    pthread_cond_wait(&stream->changed, &stream->lock);
  if (!stream->ended) {
    stream->write_is_out = true;
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    start(&stream->writing, &op, 1);
  }
  pthread_mutex_unlock(&stream->lock);
}

enum millrace_code stream_read(struct stream *stream, struct box **out_box, void *out_message, struct millrace_error *error) {
  pthread_mutex_lock(&stream->lock);
  while (g_queue_is_empty(&stream->messages) && !(stream->reads_ended && stream->ended))
    pthread_cond_wait(&stream->changed, &stream->lock);
  grpc_byte_buffer *buffer = g_queue_pop_head(&stream->messages);
  enum millrace_code code = MILLRACE_OK;
  if (buffer)
    read_on(stream);
  else
    code = how_it_ended(stream, error);
  pthread_mutex_unlock(&stream->lock);
  *(void **)out_message = NULL;
  if (!buffer)
    return code;
  struct box *box = box_new();
  void *message = call_unpack(box, stream->method.response, buffer);
  grpc_byte_buffer_destroy(buffer);
  if (!message) {
    box_unref(box);
    return fault_set(error, MILLRACE_INTERNAL, NULL, "a message of %s can't be read", stream->method.path);
  }
  *out_box = box;
  *(void **)out_message = message;
  return MILLRACE_OK;
}

void stream_cancel(struct stream *stream) {
  if (stream->live.call)
    grpc_call_cancel(stream->live.call, NULL);
}

void stream_free(struct stream *stream) {
  if (!stream)
    return;
  stream_cancel(stream);
  pthread_mutex_lock(&stream->lock);
  while (stream->tags_out > 0)
    pthread_cond_wait(&stream->changed, &stream->lock);
  pthread_mutex_unlock(&stream->lock);
  if (stream->live.call)
    client_end(stream->client, &stream->live);
  for (grpc_byte_buffer *buffer; (buffer = g_queue_pop_head(&stream->messages));)
    grpc_byte_buffer_destroy(buffer);
  grpc_metadata_array_destroy(&stream->headers);
  grpc_metadata_array_destroy(&stream->trailers);
  grpc_slice_unref(stream->message);
  pthread_mutex_destroy(&stream->lock);
  pthread_cond_destroy(&stream->changed);
  g_free(stream);
}
