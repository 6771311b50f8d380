/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <pthread.h>

#include "convert.h"
#include "fault.h"
#include "link.h"
#include "stream.h"

/* A reader and a writer thread around a stream: the stream's calls wait, a link's must not. */
struct grpc_link {
  struct link base;
  struct link_events events;
  struct stream *stream;
  pthread_t reader;
  pthread_t writer;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GByteArray *outgoing; /* the message to write; NULL: none */
  bool is_closing;
};

static void *read_deliveries(void *data) {
  struct grpc_link *self = data;
  struct box *box;
  Millrace__V1__AttachResponse *response;
  while (stream_read(self->stream, &box, &response, NULL) == MILLRACE_OK && response) {
    if (response->deliveries)
      self->events.received(self->events.context, box, response->deliveries);
    else
      box_unref(box);
  }
  self->events.broken(self->events.context);
  return NULL;
}

static void *write_reports(void *data) {
  struct grpc_link *self = data;
  pthread_mutex_lock(&self->lock);
  for (;;) {
    while (!self->outgoing && !self->is_closing)
      pthread_cond_wait(&self->changed, &self->lock);
    if (self->is_closing)
      break;
    GByteArray *message = self->outgoing;
    self->outgoing = NULL;
    pthread_mutex_unlock(&self->lock);
    bool ok = stream_write_bytes(self->stream, message->data, message->len, NULL) == MILLRACE_OK;
    g_byte_array_unref(message);
    if (ok)
      self->events.sent(self->events.context);
    pthread_mutex_lock(&self->lock);
  }
  pthread_mutex_unlock(&self->lock);
  return NULL;
}

static size_t put_varint(uint8_t *at, uint64_t value) {
  size_t length = 0;
  for (; value >= 0x80; value >>= 7)
    at[length++] = (uint8_t)(value | 0x80);
  at[length++] = (uint8_t)value;
  return length;
}

static void grpc_link_send(struct link *link, const uint8_t *bytes, size_t length) {
  struct grpc_link *self = (struct grpc_link *)link;
  /* AttachRequest { reports = 2 }, around a message that is packed already. */
  uint8_t head[16];
  size_t head_bytes = put_varint(head, 2U << 3 | 2U);
  head_bytes += put_varint(head + head_bytes, length);
  GByteArray *message = g_byte_array_sized_new((guint)(head_bytes + length));
  g_byte_array_append(message, head, (guint)head_bytes);
  g_byte_array_append(message, bytes, (guint)length);
  pthread_mutex_lock(&self->lock);
  g_assert(!self->outgoing);
  self->outgoing = message;
  pthread_cond_signal(&self->changed);
  pthread_mutex_unlock(&self->lock);
}

static void grpc_link_close(struct link *link) {
  struct grpc_link *self = (struct grpc_link *)link;
  stream_cancel(self->stream);
  pthread_mutex_lock(&self->lock);
  self->is_closing = true;
  pthread_cond_signal(&self->changed);
  pthread_mutex_unlock(&self->lock);
  pthread_join(self->reader, NULL);
  pthread_join(self->writer, NULL);
  stream_free(self->stream);
  if (self->outgoing)
    g_byte_array_unref(self->outgoing);
  pthread_mutex_destroy(&self->lock);
  pthread_cond_destroy(&self->changed);
  g_free(self);
}

struct link *link_open_grpc(const struct link_target *target, const struct link_events *events) {
  struct grpc_link *self = g_new0(struct grpc_link, 1);
  self->base = (struct link){grpc_link_send, grpc_link_close};
  self->events = *events;
  pthread_mutex_init(&self->lock, NULL);
  pthread_cond_init(&self->changed, NULL);
  self->stream = stream_open(target->client, METHOD(WorkerService, Attach, attach), -1);
  Millrace__V1__AttachHello hello = MILLRACE__V1__ATTACH_HELLO__INIT;
  Millrace__V1__AttachRequest request = MILLRACE__V1__ATTACH_REQUEST__INIT;
  hello.session_id = convert_text(target->session_id);
  hello.session_token = convert_text(target->session_token);
  request.message_case = MILLRACE__V1__ATTACH_REQUEST__MESSAGE_HELLO;
  request.hello = &hello;
  (void)!stream_write(self->stream, &request, NULL); /* its failure shows in the reader */
  if (pthread_create(&self->reader, NULL, read_deliveries, self) || pthread_create(&self->writer, NULL, write_reports, self))
    g_error("no thread left for a worker's connection");
  return &self->base;
}
