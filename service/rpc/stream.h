/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: the mechanics of a call with more than one message: a bounded queue of messages to send, one of them under way at a
 * time; reading one message at a time, when its user asks; the end. Watches, message streams, Attach, health and reflection are
 * built on it; so is every call that is answered by a status alone.
 *
 *   OPEN --stream_end--> ENDING (flushes, sends the status) --> LEFT --last unref--> freed
 *     `------ peer leaves, deadline, cancel, stream_abort ------^
 *
 * Threads: any; the events come from the poller, `message` and `sent` never two at once, `left` once and last.
 * Memory: reference counted; the user's reference is the one from stream_open. */
#ifndef MILLRACE_RPC_STREAM_H
#define MILLRACE_RPC_STREAM_H

#include "rpc/call.h"
#include "rpc/status.h"

struct stream_events {
  /* What stream_read asked for; NULL: the peer sends no more. The buffer is the stream's. */
  void (*message)(struct stream *stream, grpc_byte_buffer *buffer);
  /* A message given to stream_send has gone out; may be NULL. */
  void (*sent)(struct stream *stream);
  /* The server stops, and holds its lock: end soon. NULL: stream_end with call_stopping_error. */
  void (*stop)(struct stream *stream);
  /* The call is over. */
  void (*left)(struct stream *stream);
  /* Before the memory goes; may be NULL. */
  void (*freed)(struct stream *stream);
};

/* Users embed it as their first member. */
struct stream {
  struct call call;
  const struct stream_events *events;
  struct tag sent, received, finished, closed;
  gint references;
  grpc_byte_buffer *inbound;
  int cancelled;
  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t moved; /* a message has gone out, or the end has come */
  GQueue queue;
  size_t queue_bytes; /* with the one under way */
  size_t sending_bytes;
  struct status_trailer trailer;
  bool greeted; /* initial metadata has been sent */
  bool sending; /* a message is under way */
  bool reading;
  bool ending;    /* the trailer is set */
  bool finishing; /* and on its way */
  bool over;
};

/* Begins to serve an accepted call. */
void stream_open(struct stream *stream, const struct stream_events *events);
void stream_ref(struct stream *stream);
void stream_unref(struct stream *stream);
/* Asks for the next message; only when none is asked for. */
void stream_read(struct stream *stream);
/* Queues a message. False: more than the server's stream_backlog_bytes_max would wait, or more than its backlogs_bytes_max with
 * all other streams (an empty queue takes any message); nothing is queued. After the end it takes and forgets. */
bool stream_send(struct stream *stream, grpc_byte_buffer *take_message);
/* Waits until at most so many bytes wait to go out. False: the call ends, or nothing went out for `wait_ms`. Not from an event.
 */
bool stream_wait(struct stream *stream, size_t bytes_max, int64_t wait_ms);
/* Ends the call when all that is queued has gone out. error NULL: OK. A later end is ignored. */
void stream_end(struct stream *stream, const struct error *error);
/* Ends the call now, without what is still queued. */
void stream_abort(struct stream *stream, const struct error *error);

#endif
