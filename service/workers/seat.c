/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/seat.h"

#include <string.h>

static const nng_pipe no_pipe = NNG_PIPE_INITIALIZER;

static bool pipe_stands(nng_pipe pipe) {
  return pipe.id != 0;
}

struct seat *seat_new(const struct id *id, const uint8_t token_hash[SECRET_HASH_BYTES], size_t *early_bytes_of_all) {
  struct seat *seat = g_new0(struct seat, 1);
  seat->id = *id;
  memcpy(seat->token_hash, token_hash, SECRET_HASH_BYTES);
  g_queue_init(&seat->early);
  seat->early_bytes_of_all = early_bytes_of_all;
  return seat;
}

void seat_take_early(struct seat *seat, GQueue *out_messages) {
  *out_messages = seat->early;
  g_queue_init(&seat->early);
  *seat->early_bytes_of_all -= seat->early_bytes;
  seat->early_bytes = 0;
}

static void forget_early(struct seat *seat) {
  GQueue messages;
  seat_take_early(seat, &messages);
  nng_msg *message;
  while ((message = g_queue_pop_head(&messages)))
    nng_msg_free(message);
}

void seat_free(struct seat *seat) {
  forget_early(seat);
  g_free(seat);
}

static void close_jobs(struct seat *seat) {
  if (seat->jobs)
    outbox_close(seat->jobs);
  seat->jobs = NULL;
}

static void close_reports(struct seat *seat) {
  if (!pipe_stands(seat->reports))
    return;
  nng_pipe_close(seat->reports);
  seat->reports = no_pipe;
  forget_early(seat);
}

/* Closes whatever stands. Returns the connection that ended by it, or 0. */
static uint64_t end(struct seat *seat) {
  uint64_t ended = seat->connection;
  if (seat->link == SEAT_PAIR) {
    close_jobs(seat);
    close_reports(seat);
  } else if (seat->link == SEAT_STREAM) {
    seat->stream.close(seat->stream.context);
  }
  seat->link = SEAT_APART;
  seat->connection = 0;
  return ended;
}

void seat_shut(struct seat *seat) {
  end(seat);
  close_jobs(seat);
  close_reports(seat);
}

void seat_break(struct seat *seat) {
  if (seat->link == SEAT_STREAM)
    seat->stream.close(seat->stream.context);
  if (seat->link == SEAT_PAIR) {
    outbox_close(seat->jobs);
    nng_pipe_close(seat->reports);
  }
}

void seat_break_jobs(struct seat *seat) {
  if (seat->jobs)
    outbox_close(seat->jobs);
}

/* Makes a connection of both, once they are there. */
static uint64_t pair_up(struct seat *seat, uint64_t number, uint64_t *out_ended) {
  if (!seat->jobs || !pipe_stands(seat->reports))
    return 0;
  if (seat->link == SEAT_STREAM)
    *out_ended = end(seat);
  seat->link = SEAT_PAIR;
  seat->connection = number;
  return number;
}

uint64_t seat_join_jobs(struct seat *seat, struct outbox *jobs, uint64_t number, uint64_t *out_ended) {
  *out_ended = seat->link == SEAT_PAIR ? end(seat) : 0;
  close_jobs(seat);
  seat->jobs = jobs;
  return pair_up(seat, number, out_ended);
}

uint64_t seat_join_reports(struct seat *seat, nng_pipe reports, uint64_t number, uint64_t *out_ended) {
  *out_ended = seat->link == SEAT_PAIR ? end(seat) : 0;
  close_reports(seat);
  seat->reports = reports;
  return pair_up(seat, number, out_ended);
}

uint64_t seat_part_jobs(struct seat *seat, const struct outbox *jobs) {
  if (seat->jobs != jobs)
    return 0;
  if (seat->link == SEAT_PAIR)
    return end(seat);
  close_jobs(seat);
  return 0;
}

uint64_t seat_part_reports(struct seat *seat, nng_pipe reports) {
  if (seat->reports.id != reports.id)
    return 0;
  if (seat->link == SEAT_PAIR)
    return end(seat);
  close_reports(seat);
  return 0;
}

uint64_t seat_attach(struct seat *seat, const struct hub_stream *stream, uint64_t number) {
  uint64_t ended = end(seat);
  seat->stream = *stream;
  seat->link = SEAT_STREAM;
  seat->connection = number;
  return ended;
}

void seat_forget_stream(struct seat *seat) {
  seat->link = SEAT_APART;
  seat->connection = 0;
}

bool seat_send(struct seat *seat, uint8_t *take_bytes, size_t length) {
  if (seat->link == SEAT_STREAM) {
    seat->stream.send(seat->stream.context, take_bytes, length);
    return true;
  }
  bool sent = outbox_send(seat->jobs, take_bytes, length);
  g_free(take_bytes);
  return sent;
}

bool seat_count_message(struct seat *seat, uint32_t per_second_max) {
  int64_t second = g_get_monotonic_time() / G_USEC_PER_SEC;
  if (seat->second != second)
    seat->second_messages = 0;
  seat->second = second;
  seat->second_messages++;
  return per_second_max == 0 || seat->second_messages <= per_second_max;
}

bool seat_keep_early(struct seat *seat, nng_msg *take_message, size_t bytes_max) {
  size_t bytes = nng_msg_len(take_message);
  if (seat->early.length >= SEAT_EARLY_MESSAGES_MAX || seat->early_bytes + bytes > bytes_max)
    return false;
  seat->early_bytes += bytes;
  *seat->early_bytes_of_all += bytes;
  g_queue_push_tail(&seat->early, take_message);
  return true;
}
