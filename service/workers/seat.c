/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/seat.h"

#include <string.h>

static const nng_pipe no_pipe = NNG_PIPE_INITIALIZER;

static bool pipe_stands(nng_pipe pipe) {
  return pipe.id != 0;
}

struct seat *seat_new(struct hub *hub, const struct id *id, const uint8_t token_hash[SECRET_HASH_BYTES]) {
  struct seat *session = g_new0(struct seat, 1);
  session->hub = hub;
  session->id = *id;
  memcpy(session->token_hash, token_hash, SECRET_HASH_BYTES);
  g_queue_init(&session->early);
  return session;
}

static void forget_early(struct seat *session) {
  nng_msg *message;
  while ((message = g_queue_pop_head(&session->early)))
    nng_msg_free(message);
  session->early_bytes = 0;
}

void seat_free(struct seat *session) {
  outbox_close(session->outbox);
  forget_early(session);
  g_free(session);
}

/* nng 1.5 puts a pipe that is closed while its push socket takes it in on that socket's list for good, and it dies of what is
 * there when the pipe is freed: such a pipe is closed by seat_started. */
static void shut_pipe(struct seat *session, nng_pipe pipe) {
  if (pipe.id == session->starting)
    session->is_doomed = true;
  else
    nng_pipe_close(pipe);
}

static void close_pipe(struct seat *session, enum pipe_kind kind) {
  if (!pipe_stands(session->pipes[kind]))
    return;
  shut_pipe(session, session->pipes[kind]);
  session->pipes[kind] = no_pipe;
  if (kind == PIPE_REPORTS)
    forget_early(session);
}

uint64_t seat_end(struct seat *session) {
  uint64_t ended = session->connection;
  if (session->link == SESSION_PAIR) {
    close_pipe(session, PIPE_JOBS);
    close_pipe(session, PIPE_REPORTS);
    outbox_clear(session->outbox);
  } else if (session->link == SESSION_STREAM) {
    session->stream.close(session->stream.context);
  }
  session->link = SESSION_APART;
  session->connection = 0;
  return ended;
}

void seat_shut(struct seat *session) {
  seat_end(session);
  close_pipe(session, PIPE_JOBS);
  close_pipe(session, PIPE_REPORTS);
}

void seat_break(struct seat *session) {
  if (session->link == SESSION_STREAM)
    session->stream.close(session->stream.context);
  if (session->link == SESSION_PAIR) {
    shut_pipe(session, session->pipes[PIPE_JOBS]);
    shut_pipe(session, session->pipes[PIPE_REPORTS]);
  }
}

void seat_break_pipe(struct seat *session, enum pipe_kind kind) {
  if (pipe_stands(session->pipes[kind]))
    shut_pipe(session, session->pipes[kind]);
}

void seat_join(struct seat *session, enum pipe_kind kind, nng_pipe pipe, uint64_t number, uint64_t *out_ended,
               uint64_t *out_begun) {
  *out_ended = session->link == SESSION_PAIR ? seat_end(session) : 0;
  *out_begun = 0;
  close_pipe(session, kind);
  session->pipes[kind] = pipe;
  if (kind == PIPE_JOBS) {
    session->starting = pipe.id; /* the only one: a listener takes in one after the other */
    session->is_doomed = false;
  }
  if (!pipe_stands(session->pipes[PIPE_JOBS]) || !pipe_stands(session->pipes[PIPE_REPORTS]))
    return;
  if (session->link == SESSION_STREAM)
    *out_ended = seat_end(session);
  session->link = SESSION_PAIR;
  session->connection = *out_begun = number;
}

void seat_started(struct seat *session, nng_pipe pipe) {
  if (session->starting != pipe.id)
    return;
  session->starting = 0;
  if (session->is_doomed)
    nng_pipe_close(pipe);
}

uint64_t seat_part(struct seat *session, nng_pipe pipe) {
  if (session->starting == pipe.id)
    session->starting = 0;
  for (enum pipe_kind kind = PIPE_JOBS; kind < PIPE_KINDS; kind++) {
    if (session->pipes[kind].id != pipe.id)
      continue;
    if (session->link == SESSION_PAIR)
      return seat_end(session);
    close_pipe(session, kind);
  }
  return 0;
}

uint64_t seat_attach(struct seat *session, const struct hub_stream *stream, uint64_t number) {
  uint64_t ended = seat_end(session);
  session->stream = *stream;
  session->link = SESSION_STREAM;
  session->connection = number;
  return ended;
}

void seat_forget_stream(struct seat *session) {
  session->link = SESSION_APART;
  session->connection = 0;
}

bool seat_send(struct seat *session, uint8_t *take_bytes, size_t length) {
  if (session->link == SESSION_STREAM) {
    session->stream.send(session->stream.context, take_bytes, length);
    return true;
  }
  bool sent = outbox_send(session->outbox, take_bytes, length);
  g_free(take_bytes);
  return sent;
}

bool seat_count_message(struct seat *session, uint32_t per_second_max) {
  int64_t second = g_get_monotonic_time() / G_USEC_PER_SEC;
  if (session->second != second)
    session->second_messages = 0;
  session->second = second;
  session->second_messages++;
  return per_second_max == 0 || session->second_messages <= per_second_max;
}

bool seat_keep_early(struct seat *session, nng_msg *take_message, size_t bytes_max) {
  size_t bytes = nng_msg_len(take_message);
  if (session->early.length >= SESSION_EARLY_MESSAGES_MAX || session->early_bytes + bytes > bytes_max)
    return false;
  session->early_bytes += bytes;
  g_queue_push_tail(&session->early, take_message);
  return true;
}

void seat_take_early(struct seat *session, GQueue *out_messages) {
  *out_messages = session->early;
  g_queue_init(&session->early);
  session->early_bytes = 0;
}
