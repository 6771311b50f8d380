/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/outbox.h"

#include <glib.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/transport/ws/websocket.h>
#include <pthread.h>

/* A worker has nothing to say on the jobs path. */
enum { UNEXPECTED_BYTES_MAX = 1024 };

struct outbox {
  nng_socket socket;
  nng_listener listener; /* id 0: none */
  char *url;
  nng_aio *aio; /* one send at a time: what waits stays ours, and can be forgotten */
  atomic_size_t *total_bytes;
  pthread_mutex_t mutex;
  GQueue waiting; /* nng_msg */
  size_t bytes;   /* of those waiting and of the one being sent */
  size_t sending_bytes;
  bool sending;
};

static size_t cost(const nng_msg *message) {
  return nng_msg_len(message) + OUTBOX_MESSAGE_OVERHEAD_BYTES;
}

static void discharge(struct outbox *outbox, size_t bytes) {
  outbox->bytes -= bytes;
  atomic_fetch_sub(outbox->total_bytes, bytes);
}

static void send_next(struct outbox *outbox) {
  nng_msg *message = g_queue_pop_head(&outbox->waiting);
  outbox->sending = message != NULL;
  if (!message)
    return;
  outbox->sending_bytes = cost(message);
  nng_aio_set_msg(outbox->aio, message);
  nng_send_aio(outbox->socket, outbox->aio);
}

static void sent(void *context) {
  struct outbox *outbox = context;
  pthread_mutex_lock(&outbox->mutex);
  int result = nng_aio_result(outbox->aio);
  if (result != 0) /* cancelled or closed: the message is still ours */
    nng_msg_free(nng_aio_get_msg(outbox->aio));
  discharge(outbox, outbox->sending_bytes);
  outbox->sending_bytes = 0;
  if (result == NNG_ECLOSED)
    outbox->sending = false;
  else
    send_next(outbox);
  pthread_mutex_unlock(&outbox->mutex);
}

static enum status failed(struct error *error, const char *url, int code) {
  return error_set(error, STATUS_UNAVAILABLE, NULL, "cannot listen on %s: %s", url, nng_strerror(code));
}

enum status outbox_open(const struct outbox_options *options, struct outbox **out_outbox, struct error *error) {
  nng_socket socket;
  int code = nng_push0_open(&socket);
  if (code != 0)
    return failed(error, options->url, code);
  struct outbox *outbox = g_new0(struct outbox, 1);
  outbox->socket = socket;
  outbox->url = g_strdup(options->url);
  outbox->total_bytes = options->total_bytes;
  pthread_mutex_init(&outbox->mutex, NULL);
  g_queue_init(&outbox->waiting);
  if ((code = nng_aio_alloc(&outbox->aio, sent, outbox)) == 0 &&
      (code = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, UNEXPECTED_BYTES_MAX)) == 0 &&
      (code = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, options->on_pipe, options->context)) == 0 &&
      (code = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, options->on_pipe, options->context)) == 0 &&
      (code = nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, options->on_pipe, options->context)) == 0) {
    *out_outbox = outbox;
    return STATUS_OK;
  }
  outbox_close(outbox);
  return failed(error, options->url, code);
}

enum status outbox_listen(struct outbox *outbox, nng_tls_config *tls, struct error *error) {
  nng_listener listener;
  int code = nng_listener_create(&listener, outbox->socket, outbox->url);
  if (code != 0)
    return failed(error, outbox->url, code);
  if (tls)
    code = nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, tls);
  if (code == 0)
    code = nng_listener_start(listener, 0);
  if (code != 0) {
    nng_listener_close(listener);
    return failed(error, outbox->url, code);
  }
  outbox->listener = listener;
  return STATUS_OK;
}

nng_listener outbox_take_listener(struct outbox *outbox) {
  nng_listener listener = outbox->listener;
  outbox->listener = (nng_listener)NNG_LISTENER_INITIALIZER;
  return listener;
}

/* Charges a message of `bytes`, unless that would pass a limit. */
static bool charge(struct outbox *outbox, size_t bytes) {
  if (outbox->bytes + bytes > OUTBOX_BYTES_MAX)
    return false;
  if (atomic_fetch_add(outbox->total_bytes, bytes) + bytes > OUTBOXES_BYTES_MAX) {
    atomic_fetch_sub(outbox->total_bytes, bytes);
    return false;
  }
  outbox->bytes += bytes;
  return true;
}

bool outbox_send(struct outbox *outbox, const uint8_t *bytes, size_t length) {
  nng_msg *message;
  if (nng_msg_alloc(&message, 0) != 0)
    return false;
  if (nng_msg_append(message, bytes, length) != 0) {
    nng_msg_free(message);
    return false;
  }
  pthread_mutex_lock(&outbox->mutex);
  bool taken = charge(outbox, cost(message));
  if (taken) {
    g_queue_push_tail(&outbox->waiting, message);
    if (!outbox->sending)
      send_next(outbox);
  }
  pthread_mutex_unlock(&outbox->mutex);
  if (!taken)
    nng_msg_free(message);
  return taken;
}

void outbox_clear(struct outbox *outbox) {
  pthread_mutex_lock(&outbox->mutex);
  nng_msg *message;
  while ((message = g_queue_pop_head(&outbox->waiting))) {
    discharge(outbox, cost(message));
    nng_msg_free(message);
  }
  /* Takes the one being sent out of the socket at once, if it still waits there for a pipe; `sent` frees it a little later. */
  if (outbox->sending)
    nng_aio_cancel(outbox->aio);
  pthread_mutex_unlock(&outbox->mutex);
}

void outbox_close(struct outbox *outbox) {
  if (!outbox)
    return;
  nng_close(outbox->socket);
  if (outbox->aio)
    nng_aio_stop(outbox->aio);
  outbox_clear(outbox);
  nng_aio_free(outbox->aio);
  pthread_mutex_destroy(&outbox->mutex);
  g_free(outbox->url);
  g_free(outbox);
}
