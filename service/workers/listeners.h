/* SPDX-License-Identifier: Apache-2.0 */
/* listeners.h: what listens on the workers' port: a listener for the reports of all sessions, and for each session a path on
 * which its worker fetches jobs. nng serves them all by one HTTP server, which lasts as long as any of them does. What is not
 * wanted any more is closed in the background, many at a time. It refuses to know who may join. Private to the hub.
 *
 * Threads: add and remove may be called by any, the others by one at a time. */
#ifndef MILLRACE_WORKERS_LISTENERS_H
#define MILLRACE_WORKERS_LISTENERS_H

#include <nng/nng.h>

#include "core/error.h"
#include "core/id.h"
#include "core/tls.h"

struct listeners;

struct listeners_options {
  const char *host;            /* see hub_options */
  uint16_t port;               /* 0: any free one */
  const struct tls_texts *tls; /* NULL: no encryption */
  nng_socket reports;          /* outlives the listeners, of which it gets one */
  /* As in jobs_path.h. */
  void (*on_knock)(void *context, const struct id *session, nng_stream *take_stream);
  /* From listeners_set_tls: nobody listens, and the connections for reports were closed; those for jobs go on. */
  void (*on_closed)(void *context);
  void *context;
};

/* Binds the port. Somebody may knock before this has returned. INVALID_ARGUMENT, UNAVAILABLE. */
enum status listeners_open(const struct listeners_options *options, struct listeners **out_listeners,
                           struct error *error) STATUS_CHECK;
uint16_t listeners_port(const struct listeners *listeners);
/* Serves the path of a session from now on, if it can be served. */
void listeners_add(struct listeners *listeners, const struct id *session);
/* Serves it no more: the path is closed some seconds later. */
void listeners_remove(struct listeners *listeners, const struct id *session);
/* Closes everything and listens anew with other certificates; only where there were some. INVALID_ARGUMENT: they are of no use.
 * UNAVAILABLE: connections to the port would not go; or it could not be bound again, and a later call may. Except in this last
 * case nothing has changed. */
enum status listeners_set_tls(struct listeners *listeners, const struct tls_texts *tls, struct error *error) STATUS_CHECK;
/* Blocks until nobody is knocking. NULL is fine. */
void listeners_free(struct listeners *listeners);

#endif
