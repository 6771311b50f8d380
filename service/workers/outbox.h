/* SPDX-License-Identifier: Apache-2.0 */
/* outbox.h: a WebSocket on which jobs go out to one worker, and the messages that wait for it. It keeps their order, never blocks
 * the sender and refuses to hold more than its limit. A worker has nothing to say there: what it says, and its end, is the end.
 *
 * When all of them together hold their limit, room is made for the next message by closing whichever holds most: never one that
 * holds nothing, however many others read nothing. So what waits takes OUTBOXES_BYTES_MAX at most; nng may keep the one message
 * that it is sending on a connection that was closed, for the moment until it notices.
 *
 * nng's streams and not its push sockets: those of nng 1.5 keep a connection that has ended and write to it after it was freed.
 * Threads: any. on_end comes from nng's threads, without a lock. Errors: none. */
#ifndef MILLRACE_WORKERS_OUTBOX_H
#define MILLRACE_WORKERS_OUTBOX_H

#include <nng/nng.h>

#include "core/id.h"

enum {
  OUTBOX_BYTES_MAX = 64 * 1024 * 1024,    /* unsent, of one */
  OUTBOXES_BYTES_MAX = 256 * 1024 * 1024, /* unsent, of all together */
  OUTBOX_MESSAGE_OVERHEAD_BYTES = 256,    /* what an unsent message costs beside its bytes */
  OUTBOX_UNEXPECTED_BYTES_MAX = 1024,     /* what a worker may say before it is cut off */
};

struct outbox;
struct outboxes; /* all of a hub's */

/* `on_end` is told of each, once, after its connection has ended, whoever ended it; then it is no more. */
struct outboxes *outboxes_new(void (*on_end)(void *context, struct outbox *outbox), void *context);
/* Blocks until none is left: closed is enough. */
void outboxes_free(struct outboxes *outboxes);

/* Of a session's worker that has just come, whose stream it takes. NULL: no memory; the stream is gone. */
struct outbox *outbox_new(struct outboxes *outboxes, nng_stream *take_stream, const struct id *session);
/* From now on on_end may come, even before this has returned. Call it once. */
void outbox_watch(struct outbox *outbox);
const struct id *outbox_session(const struct outbox *outbox);
/* Sends after all sent before. Copies. False: its limit would be passed, or no memory; nothing was taken. What is sent after the
 * end is lost. */
bool outbox_send(struct outbox *outbox, const uint8_t *bytes, size_t length);
/* Ends the connection, and forgets what was not sent yet. */
void outbox_close(struct outbox *outbox);
/* Ends a stream that has no outbox. */
void outbox_refuse(nng_stream *take_stream);

#endif
