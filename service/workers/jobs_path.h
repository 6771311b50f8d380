/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_path.h: the path of one session on which its worker fetches jobs: a WebSocket listener that speaks as nng's push sockets
 * do. Threads: any. Errors: STATUS_UNAVAILABLE when the path can't be served. */
#ifndef MILLRACE_WORKERS_JOBS_PATH_H
#define MILLRACE_WORKERS_JOBS_PATH_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "core/error.h"
#include "core/id.h"

struct jobs_path;

struct jobs_path_options {
  const char *url; /* to listen on, path included */
  const struct id *session;
  nng_tls_config *tls; /* NULL: no encryption */
  /* Told of each that knocks, one after the other, from nng's threads and without a lock. */
  void (*on_knock)(void *context, const struct id *session, nng_stream *take_stream);
  void *context;
};

/* Heap. Somebody may knock before this has returned. */
enum status jobs_path_open(const struct jobs_path_options *options, struct jobs_path **out_path,
                           struct error *error) STATUS_CHECK;
/* Blocks until nobody is knocking. Those who were let in stay. NULL is fine. */
void jobs_path_free(struct jobs_path *path);

#endif
