/* SPDX-License-Identifier: Apache-2.0 */
/* seat.h: what the hub knows of one session: its token and how it is connected. Private to the hub, which calls everything under
 * its lock.
 *
 *   APART --both pipes stand--> PAIR      APART --hub_attach--> STREAM
 *   PAIR --a pipe goes, another knocks, drop--> APART: both pipes are closed, a new one waits for its partner
 *   STREAM --it goes, drop--> APART;  a pair or a newer stream takes its place
 *
 * A connection is a pair or a stream and has a number of its own; it ends as a whole. A lone pipe is no connection.
 * Threads: the hub's lock. */
#ifndef MILLRACE_WORKERS_SEAT_H
#define MILLRACE_WORKERS_SEAT_H

#include <glib.h>

#include "core/secret.h"
#include "workers/hub.h"
#include "workers/outbox.h"

enum {
  SESSION_EARLY_MESSAGES_MAX = 16, /* kept of a reports pipe that waits for its jobs pipe */
};

enum pipe_kind { PIPE_JOBS, PIPE_REPORTS, PIPE_KINDS };
enum session_link { SESSION_APART, SESSION_PAIR, SESSION_STREAM };

struct seat {
  struct id id;
  uint8_t token_hash[SECRET_HASH_BYTES];
  struct hub *hub;
  struct outbox *outbox;
  enum session_link link;
  uint64_t connection;        /* 0: apart */
  nng_pipe pipes[PIPE_KINDS]; /* id 0: none */
  uint32_t starting;          /* id of the jobs pipe that nng has not taken into its socket yet; 0: none */
  bool is_doomed;             /* that pipe is to be closed */
  struct hub_stream stream;   /* while link is SESSION_STREAM */
  GQueue early;               /* nng_msg: came before the jobs pipe did */
  size_t early_bytes;
  int64_t second; /* the current one, and what came in it */
  uint32_t second_messages;
};

struct seat *seat_new(struct hub *hub, const struct id *id, const uint8_t token_hash[SECRET_HASH_BYTES]);
/* Blocks: see outbox_close. */
void seat_free(struct seat *session);

/* Takes a pipe in; what is replaced is closed. `*out_ended` and `*out_begun` are the connections that ended and began by it, or
 * 0; `number` is what a new one would be called. */
void seat_join(struct seat *session, enum pipe_kind kind, nng_pipe pipe, uint64_t number, uint64_t *out_ended,
               uint64_t *out_begun);
/* nng has taken the jobs pipe into its socket. */
void seat_started(struct seat *session, nng_pipe pipe);
/* A pipe is gone. Returns the connection that ended by it, or 0. */
uint64_t seat_part(struct seat *session, nng_pipe pipe);
/* A stream takes the place of whatever stands. Returns the connection that ended by it, or 0. */
uint64_t seat_attach(struct seat *session, const struct hub_stream *stream, uint64_t number);
/* The stream is gone: not touched any more. */
void seat_forget_stream(struct seat *session);
/* Closes whatever stands. Returns the connection that ended by it, or 0. */
uint64_t seat_end(struct seat *session);
/* Closes a lone pipe too. */
void seat_shut(struct seat *session);
/* Closes pipes or stream, and leaves it to the news of their end to end the connection. */
void seat_break(struct seat *session);
/* The same for one pipe. */
void seat_break_pipe(struct seat *session, enum pipe_kind kind);
/* Sends over the connection that stands. False: it holds too much that is unsent. */
bool seat_send(struct seat *session, uint8_t *take_bytes, size_t length);
/* Counts a message that came in. False: more than `per_second_max` did in this second (0: any number may). */
bool seat_count_message(struct seat *session, uint32_t per_second_max);
/* Keeps a message of a reports pipe that has no partner yet. False: too much; not taken. */
bool seat_keep_early(struct seat *session, nng_msg *take_message, size_t bytes_max);
/* Moves them to an empty queue, in order. */
void seat_take_early(struct seat *session, GQueue *out_messages);

#endif
