/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/jobs_path.h"

#include <glib.h>
#include <nng/transport/ws/websocket.h>

#include "workers/outbox.h"

/* Whole messages instead of a stream of bytes: nng's own transport asks its streams for them by this name, no header has it. */
static const char message_mode[] = "ws:msgmode";

struct jobs_path {
  struct id session;
  void (*on_knock)(void *context, const struct id *session, nng_stream *take_stream);
  void *context;
  nng_stream_listener *listener;
  nng_aio *accept;
};

static void accepted(void *context) {
  struct jobs_path *path = context;
  if (nng_aio_result(path->accept) != 0) /* the path is closed */
    return;
  path->on_knock(path->context, &path->session, nng_aio_get_output(path->accept, 0));
  nng_stream_listener_accept(path->listener, path->accept);
}

static int listen_on(struct jobs_path *path, const struct jobs_path_options *options) {
  int code = nng_stream_listener_alloc(&path->listener, options->url);
  if (code != 0)
    return code;
  nng_stream_listener *listener = path->listener;
  if ((code = nng_aio_alloc(&path->accept, accepted, path)) != 0 ||
      (code = nng_stream_listener_set_bool(listener, message_mode, true)) != 0 ||
      (code = nng_stream_listener_set_string(listener, NNG_OPT_WS_PROTOCOL, "push.sp.nanomsg.org")) != 0 ||
      (code = nng_stream_listener_set_size(listener, NNG_OPT_RECVMAXSZ, OUTBOX_UNEXPECTED_BYTES_MAX)) != 0 ||
      (code = nng_stream_listener_set_size(listener, NNG_OPT_WS_RECVMAXFRAME, OUTBOX_UNEXPECTED_BYTES_MAX)) != 0)
    return code;
  if (options->tls && (code = nng_stream_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, options->tls)) != 0)
    return code;
  return nng_stream_listener_listen(listener);
}

enum status jobs_path_open(const struct jobs_path_options *options, struct jobs_path **out_path, struct error *error) {
  struct jobs_path *path = g_new0(struct jobs_path, 1);
  path->session = *options->session;
  path->on_knock = options->on_knock;
  path->context = options->context;
  int code = listen_on(path, options);
  if (code != 0) {
    jobs_path_free(path);
    return error_set(error, STATUS_UNAVAILABLE, NULL, "cannot listen on %s: %s", options->url, nng_strerror(code));
  }
  nng_stream_listener_accept(path->listener, path->accept);
  *out_path = path;
  return STATUS_OK;
}

void jobs_path_free(struct jobs_path *path) {
  if (!path)
    return;
  if (path->listener)
    nng_stream_listener_close(path->listener);
  if (path->accept)
    nng_aio_stop(path->accept);
  if (path->listener)
    nng_stream_listener_free(path->listener);
  nng_aio_free(path->accept);
  g_free(path);
}
