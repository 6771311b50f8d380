/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/attach.h"

#include "core/limits.h"
#include "millrace/v1/worker_service.pb-c.h"
#include "rpc/codec.h"
#include "rpc/stream.h"

enum { HELLO_ARENA_BYTES_MAX = 64 << 10 };

struct attach {
  struct stream stream;
  struct id session;
  uint64_t connection; /* 0: not joined */
};

static void hub_sends(void *context, uint8_t *take_bytes, size_t length) {
  struct attach *attach = context;
  struct error error;
  bool fits = stream_send(&attach->stream, codec_wrap(1, take_bytes, length)); /* AttachResponse.deliveries */
  g_free(take_bytes);
  if (fits)
    return;
  error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL, "the worker does not read its deliveries; attach again");
  stream_abort(&attach->stream, &error);
}

static void hub_closes(void *context) {
  struct attach *attach = context;
  struct error error;
  error_set(&error, STATUS_UNAVAILABLE, NULL,
            "the connection was closed or replaced by a newer one; register with the session to resume it");
  error_reason(&error, "SESSION_CONNECTION_CLOSED", NULL);
  stream_abort(&attach->stream, &error);
}

static enum status join(struct attach *attach, const uint8_t *bytes, size_t length, struct error *error) {
  struct hub_stream hub_stream = {.context = attach, .send = hub_sends, .close = hub_closes};
  struct arena *arena = arena_new(HELLO_ARENA_BYTES_MAX);
  ProtobufCMessage *message;
  enum status status = codec_unpack_bytes(bytes, length, &millrace__v1__attach_hello__descriptor, arena, &message, error);
  if (!status) {
    const Millrace__V1__AttachHello *hello = (const Millrace__V1__AttachHello *)message;
    if (!id_parse(hello->session_id, &attach->session))
      status = error_set(error, STATUS_INVALID_ARGUMENT, "hello.session_id", "hello.session_id is not a UUID");
    else if (!hub_attach(attach->stream.call.route->server->hub, &attach->session, hello->session_token, &hub_stream,
                         &attach->connection)) {
      status = error_set(error, STATUS_NOT_FOUND, NULL, "no such session, or a wrong session token; register anew");
      error_reason(error, "SESSION_NOT_FOUND", NULL);
    }
  }
  arena_free(arena);
  return status;
}

/* One AttachRequest: field 1 is the hello, field 2 reports. */
static enum status handle(struct attach *attach, const uint8_t *bytes, size_t length, struct error *error) {
  const uint8_t *position = bytes;
  struct codec_field field;
  struct codec_field found = {.number = 0};
  while (codec_next_field(&position, bytes + length, &field)) {
    if ((field.number == 1 || field.number == 2) && field.wire_type == 2)
      found = field;
  }
  if (position != bytes + length)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "the message of %zu bytes is not a valid AttachRequest", length);
  if (attach->connection == 0 && found.number != 1)
    return error_set(error, STATUS_INVALID_ARGUMENT, "hello", "the first message on Attach must be `hello`");
  if (attach->connection == 0)
    return join(attach, found.data, found.length, error);
  if (found.number == 1)
    return error_set(error, STATUS_INVALID_ARGUMENT, "hello", "`hello` can be said only once");
  if (found.length > REPORTS_BYTES_MAX)
    return error_set(error, STATUS_INVALID_ARGUMENT, "reports", "reports take %zu bytes, at most %d are allowed", found.length,
                     REPORTS_BYTES_MAX);
  if (found.number == 2)
    hub_attach_reports(attach->stream.call.route->server->hub, &attach->session, attach->connection, found.data, found.length);
  return STATUS_OK;
}

static void attach_message(struct stream *stream, grpc_byte_buffer *buffer) {
  struct error error;
  grpc_slice slice = grpc_empty_slice();
  if (!buffer) {
    stream_end(stream, NULL);
    return;
  }
  enum status status = call_count_message(&stream->call, &error);
  if (!status)
    status = codec_flatten(buffer, &slice, &error);
  if (!status) {
    status = handle((struct attach *)stream, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), &error);
    grpc_slice_unref(slice);
  }
  if (status)
    stream_end(stream, &error);
  else
    stream_read(stream);
}

static void attach_left(struct stream *stream) {
  struct attach *attach = (struct attach *)stream;
  if (attach->connection != 0)
    hub_detach(stream->call.route->server->hub, &attach->session, attach->connection);
  stream_unref(stream);
}

static const struct stream_events attach_events = {.message = attach_message, .left = attach_left};

static void attach_accept(struct call *call, const struct error *refused) {
  struct stream *stream = (struct stream *)call;
  stream_open(stream, &attach_events);
  if (refused)
    stream_end(stream, refused);
  else
    stream_read(stream);
}

void attach_route(struct route *route) {
  route->path = "/millrace.v1.WorkerService/Attach";
  route->role = ROLE_WORKER;
  route->call_bytes = sizeof(struct attach);
  route->accept = attach_accept;
}
