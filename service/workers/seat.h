/* SPDX-License-Identifier: Apache-2.0 */
/* seat.h: what the hub knows of one session: its token and how it is connected. Private to the hub, which calls everything under
 * its lock.
 *
 *   APART --both WebSockets stand--> PAIR      APART --hub_attach--> STREAM
 *   PAIR --one goes, another knocks, drop--> APART: both are closed, a new one waits for its partner
 *   STREAM --it goes, drop--> APART;  a pair or a newer stream takes its place
 *
 * A connection is a pair or a stream and has a number of its own; it ends as a whole. A lone WebSocket is none.
 * Threads: the hub's lock. */
#ifndef MILLRACE_WORKERS_SEAT_H
#define MILLRACE_WORKERS_SEAT_H

#include <glib.h>

#include "core/secret.h"
#include "workers/hub.h"
#include "workers/outbox.h"

enum {
  SEAT_EARLY_MESSAGES_MAX = 16,             /* kept of a reports pipe that waits for its partner */
  SEATS_EARLY_BYTES_MAX = 64 * 1024 * 1024, /* kept by all of a hub's together */
};

enum seat_link { SEAT_APART, SEAT_PAIR, SEAT_STREAM };

struct seat {
  struct id id;
  uint8_t token_hash[SECRET_HASH_BYTES];
  enum seat_link link;
  uint64_t connection;      /* 0: apart */
  struct outbox *jobs;      /* NULL: none; until its end is known */
  nng_pipe reports;         /* id 0: none */
  struct hub_stream stream; /* while link is SEAT_STREAM */
  GQueue early;             /* nng_msg: came before the partner did */
  size_t early_bytes;
  size_t *early_bytes_of_all;
  int64_t second; /* the current one, and what came in it */
  uint32_t second_messages;
};

/* What it keeps of early messages is counted in `*early_bytes_of_all`, too, which outlives it. */
struct seat *seat_new(const struct id *id, const uint8_t token_hash[SECRET_HASH_BYTES], size_t *early_bytes_of_all);
void seat_free(struct seat *seat);

/* Takes one of the two WebSockets in; what is replaced is closed. Returns the connection that began by it, which is called
 * `number`, or 0; `*out_ended` is the one that ended by it, or 0. */
uint64_t seat_join_jobs(struct seat *seat, struct outbox *jobs, uint64_t number, uint64_t *out_ended);
uint64_t seat_join_reports(struct seat *seat, nng_pipe reports, uint64_t number, uint64_t *out_ended);
/* One of them is gone. Returns the connection that ended by it, or 0. */
uint64_t seat_part_jobs(struct seat *seat, const struct outbox *jobs);
uint64_t seat_part_reports(struct seat *seat, nng_pipe reports);
/* A stream takes the place of whatever stands. Returns the connection that ended by it, or 0. */
uint64_t seat_attach(struct seat *seat, const struct hub_stream *stream, uint64_t number);
/* The stream is gone: not touched any more. */
void seat_forget_stream(struct seat *seat);
/* Closes whatever stands, a lone WebSocket too. */
void seat_shut(struct seat *seat);
/* Closes the pair or the stream, and leaves it to the news of their end to end the connection. */
void seat_break(struct seat *seat);
/* The same for the jobs, paired or not. */
void seat_break_jobs(struct seat *seat);
/* Sends over the connection that stands. False: it holds too much that is unsent. */
bool seat_send(struct seat *seat, uint8_t *take_bytes, size_t length);
/* Counts a message that came in. False: more than `per_second_max` did in this second (0: any number may). */
bool seat_count_message(struct seat *seat, uint32_t per_second_max);
/* Keeps a message of a reports pipe that has no partner yet. False: too much of this one; not taken. */
bool seat_keep_early(struct seat *seat, nng_msg *take_message, size_t bytes_max);
/* Moves them to an empty queue, in order. */
void seat_take_early(struct seat *seat, GQueue *out_messages);

#endif
