/* SPDX-License-Identifier: Apache-2.0 */
/* outbox.h: one session's PUSH socket with its path, and the messages that wait for it. It keeps their order, never blocks the
 * sender and refuses to hold more than its limits. Threads: any, except outbox_close, which blocks (nng_close takes up to 50 ms).
 * Errors: STATUS_UNAVAILABLE when the path can't be served. */
#ifndef MILLRACE_WORKERS_OUTBOX_H
#define MILLRACE_WORKERS_OUTBOX_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>

#include "core/error.h"

enum {
  OUTBOX_BYTES_MAX = 64 * 1024 * 1024,    /* unsent, of one session */
  OUTBOXES_BYTES_MAX = 256 * 1024 * 1024, /* unsent, of all sessions together */
  OUTBOX_MESSAGE_OVERHEAD_BYTES = 256,    /* what an unsent message costs beside its bytes */
};

struct outbox;

struct outbox_options {
  const char *url;                                           /* to listen on, path included */
  void (*on_pipe)(nng_pipe pipe, nng_pipe_ev event, void *); /* told of pipes about to be added and of pipes gone */
  void *context;
  atomic_size_t *total_bytes; /* unsent bytes of all outboxes; outlives them */
};

/* Heap. Listens to nobody yet. */
enum status outbox_open(const struct outbox_options *options, struct outbox **out_outbox, struct error *error) STATUS_CHECK;
/* Listens on its path. Pipes may knock as soon as this runs, before it has returned. `tls` NULL: no encryption. */
enum status outbox_listen(struct outbox *outbox, nng_tls_config *tls, struct error *error) STATUS_CHECK;
/* The listener, which is the caller's to close from now on: that blocks until nobody is knocking, and closes the pipes. */
nng_listener outbox_take_listener(struct outbox *outbox);
/* Sends to whichever pipe stands, after all sent before. Copies. False: a limit would be passed; nothing was taken. */
bool outbox_send(struct outbox *outbox, const uint8_t *bytes, size_t length);
/* Forgets what was not handed to a pipe yet: none of it reaches a pipe that is added after this returns. */
void outbox_clear(struct outbox *outbox);
/* Blocks until no callback runs any more; frees. NULL is fine. */
void outbox_close(struct outbox *outbox);

#endif
