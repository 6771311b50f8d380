/* SPDX-License-Identifier: Apache-2.0 */
#include "http/monitor.h"

#include <arpa/inet.h>
#include <glib.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "http/metrics.h"

enum {
  METRICS_WAIT_MS = 2000, /* for the engine's figures; Prometheus itself waits 10 s */
  SCRAPES_MAX = 16,       /* that wait at a time */
  URL_BYTES = 256,
  ALIVE_WITHIN_MS = 5000,
  DISK_LOW_BYTES = 512 * 1024 * 1024,
};

/* Reference counted: nng may still be answering a request when the server has been stopped. */
struct monitor {
  atomic_int references; /* the owner's, and one of each page */
  nng_http_server *server;
  uint16_t port;
  uint64_t disk_low_bytes;
  pthread_rwlock_t lock; /* read while a page looks into the engine or the store: who takes them away waits for it */
  struct engine *engine;
  struct store *store;
  bool was_started;
  /* Metrics wait for the engine, and nng's threads serve the workers too: they have a thread of their own. */
  GThread *scraper;
  pthread_mutex_t mutex; /* of what follows */
  pthread_cond_t changed;
  GQueue scrapes; /* of nng_aio */
  bool closing;
};

/* A page: fills `out_text` and answers the HTTP status. Under the lock. */
struct page {
  const char *path;
  const char *content_type;
  uint16_t (*fill)(struct monitor *monitor, GString *out_text);
  bool waits; /* for the engine */
};

/* ---- the pages ---- */

static uint16_t fill_livez(struct monitor *monitor, GString *out_text) {
  bool silent = monitor->engine && !engine_is_alive(monitor->engine, ALIVE_WITHIN_MS);
  g_string_append(out_text, silent ? "engine silent\n" : "ok\n");
  return silent ? NNG_HTTP_STATUS_SERVICE_UNAVAILABLE : NNG_HTTP_STATUS_OK;
}

/* Any read tells: a store that has failed answers UNAVAILABLE to everything. */
static bool store_answers(struct store *store) {
  struct store_get get = {.family = FAMILY_META, .key = {"readyz", 6}};
  struct error error;
  if (store_get_many(store, NULL, &get, 1, &error) != STATUS_OK)
    return false;
  store_gets_release(&get, 1);
  return true;
}

static void add_store_reasons(struct monitor *monitor, GString *out_text) {
  struct store_statistics statistics;
  store_statistics(monitor->store, &statistics);
  if (!store_answers(monitor->store))
    g_string_append(out_text, "store failed\n");
  if (statistics.write_stalled)
    g_string_append(out_text, "write stalled\n");
  if (statistics.disk_free_bytes < monitor->disk_low_bytes)
    g_string_append_printf(out_text, "disk low: %" G_GUINT64_FORMAT " bytes free\n", (guint64)statistics.disk_free_bytes);
}

static uint16_t fill_readyz(struct monitor *monitor, GString *out_text) {
  if (!monitor->engine)
    g_string_append(out_text, monitor->was_started ? "stopping\n" : "starting\n");
  else if (!engine_is_alive(monitor->engine, ALIVE_WITHIN_MS))
    g_string_append(out_text, "engine silent\n");
  if (monitor->engine && monitor->store)
    add_store_reasons(monitor, out_text);
  if (out_text->len > 0)
    return NNG_HTTP_STATUS_SERVICE_UNAVAILABLE;
  g_string_append(out_text, "ok\n");
  return NNG_HTTP_STATUS_OK;
}

static uint16_t fill_metrics(struct monitor *monitor, GString *out_text) {
  if (monitor->engine) {
    struct readings *readings = engine_read_meters(monitor->engine, METRICS_WAIT_MS);
    metrics_add_engine(out_text, readings);
    readings_free(readings);
  }
  if (monitor->engine && monitor->store) {
    struct store_statistics statistics;
    store_statistics(monitor->store, &statistics);
    metrics_add_store(out_text, &statistics);
  }
  uint64_t refused[REFUSALS];
  guard_count_refused(refused);
  metrics_add_refused(out_text, refused);
  metrics_add_process(out_text);
  metrics_add_build(out_text);
  return NNG_HTTP_STATUS_OK;
}

static const struct page pages[] = {
    {"/livez", "text/plain; charset=utf-8", fill_livez, false},
    {"/readyz", "text/plain; charset=utf-8", fill_readyz, false},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", fill_metrics, true},
};

/* ---- serving ---- */

/* What a handler knows. */
struct serving {
  struct monitor *monitor;
  const struct page *page;
};

static void monitor_unref(struct monitor *monitor) {
  if (atomic_fetch_sub(&monitor->references, 1) > 1)
    return;
  pthread_rwlock_destroy(&monitor->lock);
  pthread_mutex_destroy(&monitor->mutex);
  pthread_cond_destroy(&monitor->changed);
  g_free(monitor);
}

static struct serving *serving_new(struct monitor *monitor, const struct page *page) {
  struct serving *serving = g_new(struct serving, 1);
  *serving = (struct serving){monitor, page};
  atomic_fetch_add(&monitor->references, 1);
  return serving;
}

static void serving_free(void *context) {
  struct serving *serving = context;
  monitor_unref(serving->monitor);
  g_free(serving);
}

static int make_response(const struct page *page, uint16_t status, const GString *text, nng_http_res **out_response) {
  nng_http_res *response;
  int code = nng_http_res_alloc(&response);
  if (code != 0)
    return code;
  if ((code = nng_http_res_copy_data(response, text->str, text->len)) != 0 ||
      (code = nng_http_res_set_header(response, "Content-Type", page->content_type)) != 0 ||
      (code = nng_http_res_set_header(response, "Cache-Control", "no-store")) != 0 ||
      (code = nng_http_res_set_status(response, status)) != 0) {
    nng_http_res_free(response);
    return code;
  }
  *out_response = response;
  return 0;
}

static void answer(struct monitor *monitor, const struct page *page, nng_aio *aio) {
  GString *text = g_string_new(NULL);
  pthread_rwlock_rdlock(&monitor->lock);
  uint16_t status = page->fill(monitor, text);
  pthread_rwlock_unlock(&monitor->lock);
  nng_http_res *response;
  int code = make_response(page, status, text, &response);
  g_string_free(text, TRUE);
  if (code == 0)
    nng_aio_set_output(aio, 0, response);
  nng_aio_finish(aio, code);
}

static uint16_t fill_busy(struct monitor *monitor, GString *out_text) {
  (void)monitor;
  g_string_append(out_text, "too many scrapes at a time\n");
  return NNG_HTTP_STATUS_SERVICE_UNAVAILABLE;
}

static void serve(nng_aio *aio) {
  static const struct page busy = {NULL, "text/plain; charset=utf-8", fill_busy, false};
  const struct serving *serving = nng_http_handler_get_data(nng_aio_get_input(aio, 1));
  struct monitor *monitor = serving->monitor;
  bool taken = false;
  if (serving->page->waits) {
    pthread_mutex_lock(&monitor->mutex);
    taken = !monitor->closing && monitor->scrapes.length < SCRAPES_MAX;
    if (taken)
      g_queue_push_tail(&monitor->scrapes, aio);
    pthread_cond_signal(&monitor->changed);
    pthread_mutex_unlock(&monitor->mutex);
  }
  if (!taken)
    answer(monitor, serving->page->waits ? &busy : serving->page, aio);
}

static gpointer scrape(gpointer context) {
  struct monitor *monitor = context;
  for (;;) {
    pthread_mutex_lock(&monitor->mutex);
    while (g_queue_is_empty(&monitor->scrapes) && !monitor->closing)
      pthread_cond_wait(&monitor->changed, &monitor->mutex);
    nng_aio *aio = g_queue_pop_head(&monitor->scrapes);
    pthread_mutex_unlock(&monitor->mutex);
    if (!aio)
      return NULL;
    const struct serving *serving = nng_http_handler_get_data(nng_aio_get_input(aio, 1));
    answer(monitor, serving->page, aio);
  }
}

static int add_page(struct monitor *monitor, const struct page *page) {
  nng_http_handler *handler;
  int code = nng_http_handler_alloc(&handler, page->path, serve);
  if (code != 0)
    return code;
  struct serving *serving = serving_new(monitor, page);
  /* GET stands for HEAD too. A body is refused. */
  if ((code = nng_http_handler_set_data(handler, serving, serving_free)) != 0) {
    serving_free(serving);
  } else if ((code = nng_http_handler_set_method(handler, "GET")) == 0 &&
             (code = nng_http_handler_collect_body(handler, true, 0)) == 0 &&
             (code = nng_http_server_add_handler(monitor->server, handler)) == 0) {
    return 0;
  }
  nng_http_handler_free(handler);
  return code;
}

static int start(struct monitor *monitor, const char *url_text) {
  nng_url *url;
  int code = nng_url_parse(&url, url_text);
  if (code != 0)
    return code;
  code = nng_http_server_hold(&monitor->server, url);
  nng_url_free(url);
  for (size_t i = 0; code == 0 && i < G_N_ELEMENTS(pages); i++)
    code = add_page(monitor, &pages[i]);
  nng_sockaddr address;
  if (code == 0 && (code = nng_http_server_start(monitor->server)) == 0 &&
      (code = nng_http_server_get_addr(monitor->server, &address)) == 0)
    monitor->port = ntohs(address.s_family == NNG_AF_INET6 ? address.s_in6.sa_port : address.s_in.sa_port);
  return code;
}

enum status monitor_open(const struct monitor_options *options, struct monitor **out_monitor, struct error *error) {
  const char *host = options->host && *options->host ? options->host : "127.0.0.1";
  char url[URL_BYTES];
  g_snprintf(url, sizeof url, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host, (unsigned)options->port);
  struct monitor *monitor = g_new0(struct monitor, 1);
  atomic_init(&monitor->references, 1);
  pthread_rwlock_init(&monitor->lock, NULL);
  pthread_mutex_init(&monitor->mutex, NULL);
  pthread_cond_init(&monitor->changed, NULL);
  monitor->scraper = g_thread_new("monitor", scrape, monitor);
  monitor->disk_low_bytes = options->disk_low_bytes ? options->disk_low_bytes : DISK_LOW_BYTES;
  int code = start(monitor, url);
  if (code != 0) {
    error_set(error, STATUS_UNAVAILABLE, NULL, "cannot listen for monitoring on %s: %s", url, nng_strerror(code));
    monitor_close(monitor);
    return STATUS_UNAVAILABLE;
  }
  *out_monitor = monitor;
  return STATUS_OK;
}

uint16_t monitor_port(const struct monitor *monitor) {
  return monitor->port;
}

void monitor_set_engine(struct monitor *monitor, struct engine *engine, struct store *store) {
  pthread_rwlock_wrlock(&monitor->lock);
  monitor->engine = engine;
  monitor->store = store;
  monitor->was_started = monitor->was_started || engine;
  pthread_rwlock_unlock(&monitor->lock);
}

void monitor_close(struct monitor *monitor) {
  if (!monitor)
    return;
  monitor_set_engine(monitor, NULL, NULL);
  pthread_mutex_lock(&monitor->mutex);
  monitor->closing = true;
  pthread_cond_signal(&monitor->changed);
  pthread_mutex_unlock(&monitor->mutex);
  g_thread_join(monitor->scraper);
  if (monitor->server) {
    nng_http_server_stop(monitor->server);
    nng_http_server_release(monitor->server);
  }
  monitor_unref(monitor);
}
