/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/seat.h"

#include <string.h>

static const nng_pipe no_pipe = NNG_PIPE_INITIALIZER;

static bool pipe_stands(nng_pipe pipe) {
  return pipe.id != 0;
}

struct seat *seat_new(const struct id *id, const uint8_t token_hash[SECRET_HASH_BYTES]) {
  struct seat *session = g_new0(struct seat, 1);
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
  forget_early(session);
  g_free(session);
}

struct jobs_path *seat_take_path(struct seat *session) {
  struct jobs_path *path = session->path;
  session->path = NULL;
  return path;
}

static void close_jobs(struct seat *session) {
  if (session->jobs)
    outbox_close(session->jobs);
  session->jobs = NULL;
}

static void close_reports(struct seat *session) {
  if (!pipe_stands(session->reports))
    return;
  nng_pipe_close(session->reports);
  session->reports = no_pipe;
  forget_early(session);
}

uint64_t seat_end(struct seat *session) {
  uint64_t ended = session->connection;
  if (session->link == SESSION_PAIR) {
    close_jobs(session);
    close_reports(session);
  } else if (session->link == SESSION_STREAM) {
    session->stream.close(session->stream.context);
  }
  session->link = SESSION_APART;
  session->connection = 0;
  return ended;
}

void seat_shut(struct seat *session) {
  seat_end(session);
  close_jobs(session);
  close_reports(session);
}

void seat_break(struct seat *session) {
  if (session->link == SESSION_STREAM)
    session->stream.close(session->stream.context);
  if (session->link == SESSION_PAIR) {
    outbox_close(session->jobs);
    nng_pipe_close(session->reports);
  }
}

void seat_break_jobs(struct seat *session) {
  if (session->jobs)
    outbox_close(session->jobs);
}

/* Makes a connection of both, once they are there. */
static uint64_t pair_up(struct seat *session, uint64_t number, uint64_t *out_ended) {
  if (!session->jobs || !pipe_stands(session->reports))
    return 0;
  if (session->link == SESSION_STREAM)
    *out_ended = seat_end(session);
  session->link = SESSION_PAIR;
  session->connection = number;
  return number;
}

uint64_t seat_join_jobs(struct seat *session, struct outbox *jobs, uint64_t number, uint64_t *out_ended) {
  *out_ended = session->link == SESSION_PAIR ? seat_end(session) : 0;
  close_jobs(session);
  session->jobs = jobs;
  return pair_up(session, number, out_ended);
}

uint64_t seat_join_reports(struct seat *session, nng_pipe reports, uint64_t number, uint64_t *out_ended) {
  *out_ended = session->link == SESSION_PAIR ? seat_end(session) : 0;
  close_reports(session);
  session->reports = reports;
  return pair_up(session, number, out_ended);
}

uint64_t seat_part_jobs(struct seat *session, const struct outbox *jobs) {
  if (session->jobs != jobs)
    return 0;
  if (session->link == SESSION_PAIR)
    return seat_end(session);
  close_jobs(session);
  return 0;
}

uint64_t seat_part_reports(struct seat *session, nng_pipe reports) {
  if (session->reports.id != reports.id)
    return 0;
  if (session->link == SESSION_PAIR)
    return seat_end(session);
  close_reports(session);
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
  bool sent = outbox_send(session->jobs, take_bytes, length);
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
