/* SPDX-License-Identifier: Apache-2.0 */
/* Closing has a rule: nng 1.5 frees a listener of a port that goes on even while it handles a request for its path
 * (ws_listener_free beside ws_handler), and dies of it. So the port is barred first (guard_bar), until no request is under way;
 * where that can't be had, nothing is closed. That takes seconds, and so does nng's wait for those who knock: a thread of its own
 * does it, without `lock`.
 *
 * Whoever closes holds `closes`, which is taken before `lock`. So there is nothing half closed when all is closed for new
 * certificates: one path left over would keep the port's HTTP server alive, and with it the old ones. */
#include "workers/listeners.h"

#include <glib.h>
#include <nng/supplemental/tls/tls.h>
#include <pthread.h>
#include <time.h>

#include "workers/bind.h"
#include "workers/guard.h"
#include "workers/hub.h"
#include "workers/jobs_path.h"
#include "workers/peer.h"

enum {
  URL_BYTES = 256,
  REBIND_TRIES = 100,
  REBIND_NAP_US = 20 * 1000,
  CLOSE_EVERY_MS = 5000, /* each time the port is barred for a moment */
  CLOSE_PATIENCE_MS = 1000,
  CLOSE_WAIT_MS = 10 * 1000,
};

static const nng_listener no_listener = NNG_LISTENER_INITIALIZER;

struct listeners {
  struct listeners_options options;
  struct sockaddr_storage address; /* to bind */
  char base_url[URL_BYTES];        /* scheme, host and port */
  uint16_t port;

  pthread_mutex_t closes;
  pthread_mutex_t lock;
  nng_tls_config *tls; /* NULL: no encryption */
  nng_listener reports;
  bool is_open;        /* the port is bound, by `reports` */
  GHashTable *paths;   /* struct id of a session -> struct jobs_path; NULL: not served */
  GPtrArray *unwanted; /* struct jobs_path, to be closed */

  pthread_t closer;
  pthread_cond_t closer_wakes;
  bool closer_ends;
};

static GPtrArray *paths_new(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)jobs_path_free);
}

/* ---- opening ---- */

/* nng's URL has always the wildcard of the address' family: bind.h tells why. */
static void set_base_url(struct listeners *listeners) {
  g_snprintf(listeners->base_url, sizeof listeners->base_url, "%s://%s:%u", listeners->tls ? "wss" : "ws",
             listeners->address.ss_family == AF_INET ? "*" : "[::]", (unsigned)listeners->port);
}

/* The port that the listener got. */
static int find_port(nng_listener listener, uint16_t *out_port) {
  nng_sockaddr address;
  int code = nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address);
  if (code != 0)
    return code;
  /* Both kinds have it at the same place in network order. */
  *out_port = g_ntohs(address.s_family == NNG_AF_INET6 ? address.s_in6.sa_port : address.s_in.sa_port);
  return 0;
}

/* Binds the port and listens for reports; 0 or nng's code. */
static int bind_port(struct listeners *listeners) {
  char url[URL_BYTES];
  g_snprintf(url, sizeof url, "%s/reports", listeners->base_url);
  nng_listener listener;
  int code = nng_listener_create(&listener, listeners->options.reports, url);
  if (code != 0)
    return code;
  if (listeners->tls)
    code = nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, listeners->tls);
  bind_instead_of_wildcard(&listeners->address);
  if (code == 0)
    code = nng_listener_start(listener, 0);
  if (code == 0 && !bind_was_replaced())
    code = NNG_EADDRINUSE; /* an HTTP server of this process, with what it was made with, has the port still */
  bind_instead_of_wildcard(NULL);
  if (code == 0)
    code = find_port(listener, &listeners->port);
  if (code != 0) {
    nng_listener_close(listener);
    return code;
  }
  listeners->reports = listener;
  return 0;
}

/* The port may stay in use for a moment after its last listener was closed. */
static int bind_port_again(struct listeners *listeners) {
  int code = bind_port(listeners);
  for (int tries = 0; tries < REBIND_TRIES && code == NNG_EADDRINUSE; tries++) {
    g_usleep(REBIND_NAP_US);
    code = bind_port(listeners);
  }
  return code;
}

/* NULL: it can't be served. Such a session can still attach over gRPC. Under `lock`, with an open port: a path would open one by
 * itself otherwise, to the whole world. */
static struct jobs_path *serve(struct listeners *listeners, const struct id *session) {
  char text[ID_TEXT_BYTES], url[URL_BYTES];
  id_format(session, text);
  g_snprintf(url, sizeof url, "%s/sessions/%s/jobs", listeners->base_url, text);
  struct jobs_path_options options = {.url = url,
                                      .session = session,
                                      .tls = listeners->tls,
                                      .on_knock = listeners->options.on_knock,
                                      .context = listeners->options.context};
  struct jobs_path *path;
  struct error error;
  return jobs_path_open(&options, &path, &error) == STATUS_OK ? path : NULL;
}

/* The port is bound: serves all sessions that there are. */
static void serve_all(struct listeners *listeners) {
  GHashTableIter iterator;
  gpointer session;
  pthread_mutex_lock(&listeners->lock);
  listeners->is_open = true;
  g_hash_table_iter_init(&iterator, listeners->paths);
  while (g_hash_table_iter_next(&iterator, &session, NULL))
    g_hash_table_iter_replace(&iterator, serve(listeners, session));
  pthread_mutex_unlock(&listeners->lock);
}

void listeners_add(struct listeners *listeners, const struct id *session) {
  pthread_mutex_lock(&listeners->lock);
  g_hash_table_insert(listeners->paths, g_memdup2(session, sizeof *session),
                      listeners->is_open ? serve(listeners, session) : NULL);
  pthread_mutex_unlock(&listeners->lock);
}

/* ---- closing ---- */

void listeners_remove(struct listeners *listeners, const struct id *session) {
  pthread_mutex_lock(&listeners->lock);
  struct jobs_path *path = g_hash_table_lookup(listeners->paths, session);
  g_hash_table_remove(listeners->paths, session);
  if (path) {
    g_ptr_array_add(listeners->unwanted, path);
    pthread_cond_signal(&listeners->closer_wakes);
  }
  pthread_mutex_unlock(&listeners->lock);
}

/* Under `lock`. */
static GPtrArray *take_unwanted(struct listeners *listeners) {
  GPtrArray *paths = listeners->unwanted;
  listeners->unwanted = paths_new();
  return paths;
}

/* Those that have come until the port is barred. If it can't be, they wait for the next time. */
static void close_unwanted(struct listeners *listeners) {
  pthread_mutex_lock(&listeners->closes);
  if (guard_bar(CLOSE_PATIENCE_MS, CLOSE_WAIT_MS)) {
    pthread_mutex_lock(&listeners->lock);
    GPtrArray *paths = take_unwanted(listeners);
    pthread_mutex_unlock(&listeners->lock);
    g_ptr_array_unref(paths);
  }
  guard_unbar();
  pthread_mutex_unlock(&listeners->closes);
}

/* Under the bar and `closes`. */
static void close_all(struct listeners *listeners) {
  GHashTableIter iterator;
  gpointer path;
  pthread_mutex_lock(&listeners->lock);
  GPtrArray *paths = take_unwanted(listeners);
  g_hash_table_iter_init(&iterator, listeners->paths);
  while (g_hash_table_iter_next(&iterator, NULL, &path)) {
    if (path)
      g_ptr_array_add(paths, path);
    g_hash_table_iter_replace(&iterator, NULL);
  }
  listeners->is_open = false;
  pthread_mutex_unlock(&listeners->lock);
  nng_listener_close(listeners->reports); /* none does no harm */
  listeners->reports = no_listener;
  g_ptr_array_unref(paths);
}

/* Waits for the time of the next closing. Under `lock`. */
static void pause_closer(struct listeners *listeners) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += CLOSE_EVERY_MS / 1000;
  while (!listeners->closer_ends &&
         pthread_cond_clockwait(&listeners->closer_wakes, &listeners->lock, CLOCK_MONOTONIC, &until) == 0)
    ;
}

static void *run_closer(void *context) {
  struct listeners *listeners = context;
  pthread_mutex_lock(&listeners->lock);
  while (!listeners->closer_ends) {
    if (listeners->unwanted->len == 0) {
      pthread_cond_wait(&listeners->closer_wakes, &listeners->lock);
      continue;
    }
    pthread_mutex_unlock(&listeners->lock);
    close_unwanted(listeners);
    pthread_mutex_lock(&listeners->lock);
    pause_closer(listeners);
  }
  pthread_mutex_unlock(&listeners->lock);
  return NULL;
}

/* ---- other certificates ---- */

static void exchange_tls(struct listeners *listeners, nng_tls_config *take_config) {
  pthread_mutex_lock(&listeners->lock);
  nng_tls_config_free(listeners->tls);
  listeners->tls = take_config;
  pthread_mutex_unlock(&listeners->lock);
}

static enum status set_tls(struct listeners *listeners, nng_tls_config *take_config, struct error *error) {
  bool is_barred = guard_bar(0, CLOSE_WAIT_MS);
  if (is_barred)
    close_all(listeners);
  guard_unbar();
  if (!is_barred) {
    nng_tls_config_free(take_config);
    return error_set(error, STATUS_UNAVAILABLE, NULL,
                     "connections to the worker port %u would not end within %d s: the old certificates stay; try again",
                     (unsigned)listeners->port, CLOSE_WAIT_MS / 1000);
  }
  exchange_tls(listeners, take_config);
  listeners->options.on_closed(listeners->options.context);
  int code = bind_port_again(listeners);
  if (code != 0)
    return error_set(error, STATUS_UNAVAILABLE, NULL,
                     "the worker port %u could not be opened again: %s; reload once more, or restart the server",
                     (unsigned)listeners->port, nng_strerror(code));
  serve_all(listeners);
  return STATUS_OK;
}

enum status listeners_set_tls(struct listeners *listeners, const struct tls_texts *tls, struct error *error) {
  nng_tls_config *config;
  g_assert(listeners->tls);
  int code = peer_tls_config(tls, &config);
  if (code != 0)
    return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "the worker port can't use these certificates: %s",
                     nng_strerror(code));
  pthread_mutex_lock(&listeners->closes);
  enum status status = set_tls(listeners, config, error);
  pthread_mutex_unlock(&listeners->closes);
  return status;
}

/* ---- life ---- */

static void release(struct listeners *listeners) {
  if (listeners->tls)
    nng_tls_config_free(listeners->tls);
  g_ptr_array_unref(listeners->unwanted);
  g_hash_table_destroy(listeners->paths);
  pthread_cond_destroy(&listeners->closer_wakes);
  pthread_mutex_destroy(&listeners->lock);
  pthread_mutex_destroy(&listeners->closes);
  g_free(listeners);
}

enum status listeners_open(const struct listeners_options *options, struct listeners **out_listeners, struct error *error) {
  struct sockaddr_storage address;
  if (!bind_parse_address(options->host, &address))
    return error_set(error, STATUS_INVALID_ARGUMENT, "listen", "'%s' is no IP address to listen on", options->host);
  struct listeners *listeners = g_new0(struct listeners, 1);
  listeners->options = *options;
  listeners->options.host = NULL; /* the caller's */
  listeners->options.tls = NULL;
  listeners->address = address;
  listeners->port = options->port;
  pthread_mutex_init(&listeners->closes, NULL);
  pthread_mutex_init(&listeners->lock, NULL);
  pthread_cond_init(&listeners->closer_wakes, NULL);
  listeners->paths = g_hash_table_new_full(id_hash, id_equal_pointers, g_free, NULL);
  listeners->unwanted = paths_new();
  int code = options->tls ? peer_tls_config(options->tls, &listeners->tls) : 0;
  set_base_url(listeners);
  if (code == 0)
    code = bind_port(listeners);
  if (code != 0) {
    release(listeners);
    return error_set(error, STATUS_UNAVAILABLE, NULL, "cannot listen for workers on %s port %u: %s",
                     options->host ? options->host : "localhost", (unsigned)options->port, nng_strerror(code));
  }
  set_base_url(listeners); /* with the port */
  listeners->is_open = true;
  int failure = pthread_create(&listeners->closer, NULL, run_closer, listeners);
  g_assert(failure == 0);
  *out_listeners = listeners;
  return STATUS_OK;
}

uint16_t listeners_port(const struct listeners *listeners) {
  return listeners->port;
}

void listeners_free(struct listeners *listeners) {
  if (!listeners)
    return;
  pthread_mutex_lock(&listeners->lock);
  listeners->closer_ends = true;
  pthread_cond_signal(&listeners->closer_wakes);
  pthread_mutex_unlock(&listeners->lock);
  /* The process ends: what will not go by now is closed all the same. */
  if (!guard_bar(0, CLOSE_WAIT_MS))
    g_debug("connections to the workers' port would not go within %d ms", CLOSE_WAIT_MS);
  pthread_join(listeners->closer, NULL);
  close_all(listeners);
  guard_unbar();
  release(listeners);
}
