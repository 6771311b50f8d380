/* SPDX-License-Identifier: Apache-2.0 */
/* Two hold an outbox: the watch for its end, from outbox_new until on_end has returned, and the send that is under way. The last
 * one frees it, from nng's callbacks, where an operation can't be waited for: nng's reaper does that.
 *
 * The stream is freed as soon as its end is known: that is what ends a send whose peer has stopped reading.
 *
 * Two mutexes: that of all, which keeps each of them from being freed, and before which an outbox's own is never taken. */
#include "workers/outbox.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

struct outboxes {
  void (*on_end)(void *context, struct outbox *outbox);
  void *context;
  atomic_size_t bytes;
  pthread_mutex_t mutex;
  pthread_cond_t none_left;
  GQueue list; /* struct outbox */
};

struct outbox {
  struct outboxes *all;
  GList link;
  struct id session;
  nng_aio *send; /* one message at a time: what waits stays ours, and can be forgotten */
  nng_aio *receive;
  pthread_mutex_t mutex;
  nng_stream *stream;  /* NULL: freed */
  GQueue waiting;      /* nng_msg */
  atomic_size_t bytes; /* of those waiting and of the one being sent; 0 once it is closed. Changed under the mutex */
  size_t sending_bytes;
  bool is_sending;
  bool is_closed; /* nothing is begun on the stream any more */
  bool has_ended; /* on_end has returned */
};

/* ---- all of them ---- */

struct outboxes *outboxes_new(void (*on_end)(void *context, struct outbox *outbox), void *context) {
  struct outboxes *outboxes = g_new0(struct outboxes, 1);
  outboxes->on_end = on_end;
  outboxes->context = context;
  pthread_mutex_init(&outboxes->mutex, NULL);
  pthread_cond_init(&outboxes->none_left, NULL);
  g_queue_init(&outboxes->list);
  return outboxes;
}

static void add(struct outboxes *outboxes, struct outbox *outbox) {
  outbox->link.data = outbox;
  pthread_mutex_lock(&outboxes->mutex);
  g_queue_push_tail_link(&outboxes->list, &outbox->link);
  pthread_mutex_unlock(&outboxes->mutex);
}

static void take_out(struct outboxes *outboxes, struct outbox *outbox) {
  pthread_mutex_lock(&outboxes->mutex);
  g_queue_unlink(&outboxes->list, &outbox->link);
  if (outboxes->list.length == 0)
    pthread_cond_signal(&outboxes->none_left);
  pthread_mutex_unlock(&outboxes->mutex);
}

void outboxes_free(struct outboxes *outboxes) {
  pthread_mutex_lock(&outboxes->mutex);
  while (outboxes->list.length > 0)
    pthread_cond_wait(&outboxes->none_left, &outboxes->mutex);
  pthread_mutex_unlock(&outboxes->mutex);
  pthread_cond_destroy(&outboxes->none_left);
  pthread_mutex_destroy(&outboxes->mutex);
  g_free(outboxes);
}

/* ---- one; under its mutex ---- */

static size_t cost(const nng_msg *message) {
  return nng_msg_len(message) + OUTBOX_MESSAGE_OVERHEAD_BYTES;
}

static void discharge(struct outbox *outbox, size_t bytes) {
  atomic_fetch_sub(&outbox->bytes, bytes);
  atomic_fetch_sub(&outbox->all->bytes, bytes);
}

static void send_next(struct outbox *outbox) {
  nng_msg *message = g_queue_pop_head(&outbox->waiting);
  outbox->is_sending = message != NULL;
  if (!message)
    return;
  outbox->sending_bytes = cost(message);
  nng_aio_set_msg(outbox->send, message);
  nng_stream_send(outbox->stream, outbox->send);
}

static void shut(struct outbox *outbox) {
  nng_msg *message;
  while ((message = g_queue_pop_head(&outbox->waiting)))
    nng_msg_free(message);
  discharge(outbox, atomic_load(&outbox->bytes));
  outbox->sending_bytes = 0;
  if (!outbox->is_closed)
    nng_stream_close(outbox->stream);
  outbox->is_closed = true;
}

/* ---- its end ---- */

/* Gives the mutex back, and frees the outbox if nobody holds it any more. */
static void let_go(struct outbox *outbox) {
  bool is_free = outbox->has_ended && !outbox->is_sending;
  pthread_mutex_unlock(&outbox->mutex);
  if (!is_free)
    return;
  nng_aio_reap(outbox->send);
  nng_aio_reap(outbox->receive);
  take_out(outbox->all, outbox);
  pthread_mutex_destroy(&outbox->mutex);
  g_free(outbox);
}

static void end(struct outbox *outbox) {
  pthread_mutex_lock(&outbox->mutex);
  shut(outbox);
  nng_stream_free(outbox->stream);
  outbox->stream = NULL;
  pthread_mutex_unlock(&outbox->mutex);
  outbox->all->on_end(outbox->all->context, outbox);
  pthread_mutex_lock(&outbox->mutex);
  outbox->has_ended = true;
  let_go(outbox);
}

static void sent(void *context) {
  struct outbox *outbox = context;
  pthread_mutex_lock(&outbox->mutex);
  if (nng_aio_result(outbox->send) != 0) {
    nng_msg_free(nng_aio_get_msg(outbox->send)); /* still ours */
    nng_aio_set_msg(outbox->send, NULL);
    shut(outbox);
  }
  discharge(outbox, outbox->sending_bytes);
  outbox->sending_bytes = 0;
  send_next(outbox); /* nothing waits once it is shut */
  let_go(outbox);
}

static void received(void *context) {
  struct outbox *outbox = context;
  if (nng_aio_result(outbox->receive) == 0)
    nng_msg_free(nng_aio_get_msg(outbox->receive));
  end(outbox);
}

/* ---- what others call ---- */

void outbox_refuse(nng_stream *take_stream) {
  nng_stream_close(take_stream);
  nng_stream_free(take_stream);
}

struct outbox *outbox_new(struct outboxes *outboxes, nng_stream *take_stream, const struct id *session) {
  struct outbox *outbox = g_new0(struct outbox, 1);
  if (nng_aio_alloc(&outbox->send, sent, outbox) != 0 || nng_aio_alloc(&outbox->receive, received, outbox) != 0) {
    nng_aio_free(outbox->send);
    g_free(outbox);
    outbox_refuse(take_stream);
    return NULL;
  }
  outbox->all = outboxes;
  outbox->session = *session;
  outbox->stream = take_stream;
  pthread_mutex_init(&outbox->mutex, NULL);
  g_queue_init(&outbox->waiting);
  add(outboxes, outbox);
  return outbox;
}

void outbox_watch(struct outbox *outbox) {
  pthread_mutex_lock(&outbox->mutex);
  bool is_closed = outbox->is_closed; /* nng would never tell of an end that it has told of already */
  if (!is_closed)
    nng_stream_recv(outbox->stream, outbox->receive);
  pthread_mutex_unlock(&outbox->mutex);
  if (is_closed)
    end(outbox);
}

const struct id *outbox_session(const struct outbox *outbox) {
  return &outbox->session;
}

/* Closes the one that holds most. False: none holds anything. */
static bool close_fullest(struct outboxes *outboxes) {
  struct outbox *fullest = NULL;
  size_t most = 0;
  pthread_mutex_lock(&outboxes->mutex);
  for (GList *item = outboxes->list.head; item; item = item->next) {
    struct outbox *outbox = item->data;
    size_t bytes = atomic_load(&outbox->bytes);
    if (bytes > most) {
      fullest = outbox;
      most = bytes;
    }
  }
  if (fullest)
    outbox_close(fullest);
  pthread_mutex_unlock(&outboxes->mutex);
  return fullest != NULL;
}

/* Charges all of them for a message that no outbox holds yet: whoever is to get it is not taken for one that holds much. */
static void make_room(struct outboxes *outboxes, size_t bytes) {
  atomic_fetch_add(&outboxes->bytes, bytes);
  while (atomic_load(&outboxes->bytes) > OUTBOXES_BYTES_MAX && close_fullest(outboxes))
    ;
}

/* Takes a message that is charged already. */
static void enqueue(struct outbox *outbox, nng_msg *take_message) {
  const size_t bytes = cost(take_message);
  pthread_mutex_lock(&outbox->mutex);
  if (outbox->is_closed) {
    atomic_fetch_sub(&outbox->all->bytes, bytes);
    nng_msg_free(take_message);
  } else {
    atomic_fetch_add(&outbox->bytes, bytes);
    g_queue_push_tail(&outbox->waiting, take_message);
    if (!outbox->is_sending)
      send_next(outbox);
  }
  pthread_mutex_unlock(&outbox->mutex);
}

bool outbox_send(struct outbox *outbox, const uint8_t *bytes, size_t length) {
  nng_msg *message;
  if (nng_msg_alloc(&message, 0) != 0)
    return false;
  if (nng_msg_append(message, bytes, length) != 0 || atomic_load(&outbox->bytes) + cost(message) > OUTBOX_BYTES_MAX) {
    nng_msg_free(message);
    return false;
  }
  make_room(outbox->all, cost(message));
  enqueue(outbox, message);
  return true;
}

void outbox_close(struct outbox *outbox) {
  pthread_mutex_lock(&outbox->mutex);
  shut(outbox);
  pthread_mutex_unlock(&outbox->mutex);
}
