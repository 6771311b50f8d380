/* SPDX-License-Identifier: Apache-2.0 */
#include "call.h"

#include <grpc/byte_buffer_reader.h>

#include "client.h"
#include "fault.h"

struct call {
  struct operation operation;
  struct live_call live;
  struct millrace_client *client;
  struct method method;
  call_done *done;
  void *context;
  grpc_byte_buffer *response;
  grpc_metadata_array headers;
  grpc_metadata_array trailers;
  grpc_status_code status;
  grpc_slice message;
};

grpc_byte_buffer *call_pack(const ProtobufCMessage *message) {
  size_t bytes = protobuf_c_message_get_packed_size(message);
  grpc_slice slice = grpc_slice_malloc(bytes);
  protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
  grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

grpc_byte_buffer *call_copy(const void *bytes, size_t length) {
  grpc_slice slice = grpc_slice_from_copied_buffer(bytes, length);
  grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

void *call_unpack(struct box *box, const ProtobufCMessageDescriptor *type, grpc_byte_buffer *buffer) {
  grpc_byte_buffer_reader reader;
  if (!buffer || !grpc_byte_buffer_reader_init(&reader, buffer))
    return NULL;
  grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
  grpc_byte_buffer_reader_destroy(&reader);
  void *message = box_unpack(box, type, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
  grpc_slice_unref(slice);
  return message;
}

static Google__Rpc__Status *details_of(const grpc_metadata_array *trailers) {
  for (size_t i = 0; i < trailers->count; i++) {
    const grpc_metadata *entry = &trailers->metadata[i];
    if (grpc_slice_str_cmp(entry->key, "grpc-status-details-bin") == 0)
      return google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(entry->value), GRPC_SLICE_START_PTR(entry->value));
  }
  return NULL;
}

void call_fault(struct millrace_client *client, struct millrace_error *out_error, grpc_status_code code, grpc_slice message,
                const grpc_metadata_array *trailers) {
  g_autofree char *text = g_strndup((const char *)GRPC_SLICE_START_PTR(message), GRPC_SLICE_LENGTH(message));
  Google__Rpc__Status *status = details_of(trailers);
  if (status) {
    fault_from_status(out_error, status);
    google__rpc__status__free_unpacked(status, NULL);
    out_error->code = (enum millrace_code)code;
    if (out_error->message[0] == '\0')
      g_strlcpy(out_error->message, text, sizeof out_error->message);
  } else if (code == GRPC_STATUS_UNKNOWN) {
    /* The server never says so: it is how gRPC tells of a connection that broke in the middle of a call. */
    fault_set(out_error, MILLRACE_UNAVAILABLE, NULL, "the connection to %s was lost: %s", client->address, text);
  } else if (code == GRPC_STATUS_UNAVAILABLE) {
    /* gRPC tells the whole story of its connection; the last part says what is wrong. */
    const char *last = strrchr(text, ':');
    fault_set(out_error, MILLRACE_UNAVAILABLE, NULL, "cannot reach %s (MILLRACE_ADDRESS): %s", client->address,
              last && last[1] == ' ' ? last + 2 : text);
    g_strlcpy(out_error->reason, "UNREACHABLE", sizeof out_error->reason);
  } else {
    fault_set(out_error, (enum millrace_code)code, NULL, "%s", text);
  }
}

static void call_completed(struct operation *operation, bool ok) {
  struct call *self = (struct call *)operation;
  (void)ok; /* the status tells */
  struct millrace_error error;
  struct box *box = NULL;
  void *response = NULL;
  if (self->status == GRPC_STATUS_OK) {
    box = box_new();
    response = call_unpack(box, self->method.response, self->response);
    if (!response)
      fault_set(&error, MILLRACE_INTERNAL, NULL, "the server's answer to %s can't be read", self->method.path);
  } else {
    call_fault(self->client, &error, self->status, self->message, &self->trailers);
  }
  if (response) {
    self->done(self->context, box, response, NULL);
  } else {
    box_unref(box);
    self->done(self->context, NULL, NULL, &error);
  }
  grpc_byte_buffer_destroy(self->response);
  grpc_metadata_array_destroy(&self->headers);
  grpc_metadata_array_destroy(&self->trailers);
  grpc_slice_unref(self->message);
  client_end(self->client, &self->live);
  g_free(self);
}

static void start(struct millrace_client *client, struct method method, grpc_byte_buffer *take_request, int64_t timeout_ms,
                  call_done *done, void *context) {
  struct millrace_error error;
  if (client_check_process(client, &error) != MILLRACE_OK) {
    grpc_byte_buffer_destroy(take_request);
    done(context, NULL, NULL, &error);
    return;
  }
  struct call *self = g_new0(struct call, 1);
  self->operation.completed = call_completed;
  self->client = client;
  self->method = method;
  self->done = done;
  self->context = context;
  self->message = grpc_empty_slice();
  grpc_metadata_array_init(&self->headers);
  grpc_metadata_array_init(&self->trailers);
  client_begin(client, method.path, timeout_ms, &self->live);
  grpc_metadata metadata;
  size_t metadata_count = client_metadata(client, &metadata);
  grpc_op ops[] = {
      {.op = GRPC_OP_SEND_INITIAL_METADATA, .data.send_initial_metadata = {.count = metadata_count, .metadata = &metadata}},
      {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = take_request},
      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
      {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &self->headers},
      {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &self->response},
      {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
       .data.recv_status_on_client = {.trailing_metadata = &self->trailers,
                                      .status = &self->status,
                                      .status_details = &self->message}},
  };
  /* The batch takes the slices out of the buffer; once started the call may be gone. */
  client_start(&self->live, ops, G_N_ELEMENTS(ops), &self->operation);
  grpc_byte_buffer_destroy(take_request);
}

void call_start(struct millrace_client *client, struct method method, const void *request, int64_t timeout_ms, call_done *done,
                void *context) {
  start(client, method, call_pack(request), timeout_ms, done, context);
}

void call_start_bytes(struct millrace_client *client, struct method method, const void *bytes, size_t length, call_done *done,
                      void *context) {
  start(client, method, call_copy(bytes, length), 0, done, context);
}

struct waiter {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool done;
  struct box *box;
  void *response;
  struct millrace_error error;
};

static void wake_waiter(void *context, struct box *take_box, void *response, const struct millrace_error *error) {
  struct waiter *waiter = context;
  pthread_mutex_lock(&waiter->lock);
  waiter->box = take_box;
  waiter->response = response;
  if (error)
    waiter->error = *error;
  waiter->done = true;
  pthread_cond_signal(&waiter->changed);
  pthread_mutex_unlock(&waiter->lock);
}

enum millrace_code call(struct millrace_client *client, struct method method, const void *request, int64_t timeout_ms,
                        struct box **out_box, void *out_response, struct millrace_error *error) {
  struct waiter waiter = {.done = false};
  pthread_mutex_init(&waiter.lock, NULL);
  pthread_cond_init(&waiter.changed, NULL);
  call_start(client, method, request, timeout_ms, wake_waiter, &waiter);
  pthread_mutex_lock(&waiter.lock);
  while (!waiter.done)
    pthread_cond_wait(&waiter.changed, &waiter.lock);
  pthread_mutex_unlock(&waiter.lock);
  pthread_mutex_destroy(&waiter.lock);
  pthread_cond_destroy(&waiter.changed);
  if (!waiter.response)
    return fault_copy(error, &waiter.error);
  *out_box = waiter.box;
  *(void **)out_response = waiter.response;
  return MILLRACE_OK;
}
