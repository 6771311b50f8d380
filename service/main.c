/* SPDX-License-Identifier: Apache-2.0 */
/* millraced: puts the parts together in order, waits for a signal, takes them apart in the opposite order. The only place that
 * logs, prints and exits. */
#include <errno.h>
#include <ftw.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "config.h"
#include "core/limits.h"
#include "http/monitor.h"
#include "log.h"
#include "rpc/grants.h"
#include "rpc/server.h"
#include "store/format.h"
#include "tls.h"
#include "workers/guard.h"
#include "workers/hub.h"

/* As --help tells. */
enum exit_code { EXIT_STOPPED = 0, EXIT_START = 1, EXIT_USAGE = 2, EXIT_DATA_LOSS = 65, EXIT_STORE_FAILED = 70 };

enum { TREE_DESCRIPTORS_MAX = 16, SIGNAL_REPEAT_MS = 500 };

struct service {
  struct config config;
  char *directory; /* of the store */
  char *backup_directory;
  struct tls_texts *tls; /* NULL: nothing is encrypted */
  struct store *store;
  struct hub *hub;
  struct engine *engine;
  struct monitor *monitor;
  struct rpc_server *rpc;
};

/* ---- callbacks of the engine ---- */

/* Nothing more may be acknowledged, so nothing is stopped in order. */
static void engine_failed(void *context, const struct error *error) {
  (void)context;
  log_event(LOG_LEVEL_ERROR, "store_failed", "reason", error->message);
  _exit(EXIT_STORE_FAILED);
}

static void engine_logs(void *context, int level, const char *event, const char *fields) {
  (void)context;
  log_fields((enum log_level)CLAMP(level, (int)LOG_LEVEL_DEBUG, (int)LOG_LEVEL_ERROR), event, fields);
}

static void guard_tells_refused(const uint64_t counts[REFUSALS]) {
  GString *reason = g_string_new(NULL);
  for (int i = 0; i < REFUSALS; i++) {
    if (counts[i] > 0)
      g_string_append_printf(reason, "%s%s=%" G_GUINT64_FORMAT, reason->len > 0 ? " " : "", refusal_name((enum refusal)i),
                             (guint64)counts[i]);
  }
  log_event(LOG_LEVEL_WARNING, "connections_refused", "reason", reason->str);
  g_string_free(reason, TRUE);
}

static void engine_sets_log_level(void *context, int level) {
  (void)context;
  log_set_level((enum log_level)CLAMP(level, (int)LOG_LEVEL_DEBUG, (int)LOG_LEVEL_ERROR));
}

/* ---- starting ---- */

static enum status make_directory(struct service *service, struct error *error) {
  if (!service->config.dev) {
    service->directory = g_strdup(service->config.data_dir);
    if (g_mkdir_with_parents(service->directory, 0700) == 0)
      return STATUS_OK;
    return error_set(error, STATUS_UNAVAILABLE, NULL, "--data-dir: can't create '%s': %s", service->directory, g_strerror(errno));
  }
  GError *problem = NULL;
  service->directory = g_dir_make_tmp("millrace-dev-XXXXXX", &problem);
  if (service->directory)
    return STATUS_OK;
  error_set(error, STATUS_UNAVAILABLE, NULL, "can't create a temporary directory: %s", problem->message);
  g_error_free(problem);
  return STATUS_UNAVAILABLE;
}

static enum status open_store(struct service *service, struct error *error) {
  struct store_options options = {.directory = service->directory, .create_if_missing = true};
  uint64_t high = (uint64_t)g_random_int() << 32 | g_random_int();
  uint64_t low = (uint64_t)g_random_int() << 32 | g_random_int();
  enum status status = store_open_rocks(&options, &service->store, error);
  if (!status && service->config.upgrade_store)
    status = store_format_upgrade(service->store, &format_steps, error);
  return status ? status : store_format_open(service->store, high, low, error);
}

static enum status read_tls(struct service *service, struct error *error) {
  return service->config.tls_certificate_file ? tls_load(&service->config, &service->tls, error) : STATUS_OK;
}

static enum status open_hub(struct service *service, struct error *error) {
  struct hub_options options = {.listen_host = service->config.worker_listen.host,
                                .port = service->config.worker_listen.port,
                                .tls = service->tls,
                                .reports_bytes_max = REPORTS_BYTES_MAX,
                                .sessions_max = SESSIONS_MAX,
                                .messages_per_second_max = service->config.messages_per_second_max};
  enum status status = hub_open(&options, &service->hub, error);
  if (!status)
    guard_want_welcome(hub_port(service->hub), service->tls ? HEAD_TLS_BYTES_MAX : HEAD_BYTES_MAX);
  return status;
}

static enum status open_engine(struct service *service, struct error *error) {
  const struct config *config = &service->config;
  service->backup_directory = g_build_filename(service->directory, "backup", NULL);
  struct engine_options options = {.store = service->store,
                                   .transport = hub_transport(service->hub),
                                   .durability = config->durability,
                                   .durability_interval_ms = config->durability_interval_ms,
                                   .session_timeout_ms = config->session_timeout_ms,
                                   .reconnect_grace_ms = config->reconnect_grace_ms,
                                   .heartbeat_ms = config->heartbeat_ms,
                                   .worker_scheme = service->tls ? "wss" : "ws",
                                   .worker_host = config->advertise.host,
                                   .worker_port = config->advertise.port ? config->advertise.port : hub_port(service->hub),
                                   .checkpoint_directory = config->checkpoint_dir,
                                   .backup_directory = service->backup_directory,
                                   .failed = engine_failed,
                                   .log = engine_logs,
                                   .log_level = (int)config->log_level,
                                   .set_log_level = engine_sets_log_level};
  return engine_open(&options, &service->engine, error);
}

static enum status open_monitor(struct service *service, struct error *error) {
  struct monitor_options options = {.host = service->config.monitor_listen.host, .port = service->config.monitor_listen.port};
  return monitor_open(&options, &service->monitor, error);
}

static void log_record(void *context, const struct rpc_record *record) {
  (void)context;
  log_event(strcmp(record->event, "audit") == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, record->event, "who", record->who, "from",
            record->from, "method", record->method, "target", record->target, "result", record->result, "reason", record->reason);
}

static enum status open_rpc(struct service *service, struct error *error) {
  struct grants *grants = NULL;
  if (service->config.token_file && grants_load(service->config.token_file, &grants, error))
    return error->status;
  struct rpc_options options = {.addresses = (const char *const *)service->config.listen,
                                .engine = service->engine,
                                .hub = service->hub,
                                .take_grants = grants,
                                .tls = service->tls,
                                .messages_per_second_max = service->config.messages_per_second_max,
                                .audience = {.tell = log_record}};
  return rpc_server_open(&options, &service->rpc, error);
}

static enum status service_open(struct service *service, struct error *error) {
  static enum status (*const steps[])(struct service *, struct error *) = {read_tls,    make_directory, open_store, open_hub,
                                                                           open_engine, open_monitor,   open_rpc};
  guard_init(&(struct guard_limits){.connections_max = service->config.connections_max,
                                    .connections_per_address_max = service->config.connections_per_address_max,
                                    .new_per_second_max = service->config.new_connections_per_second_max,
                                    .tell_refused = guard_tells_refused});
  enum status status = STATUS_OK;
  for (size_t i = 0; i < G_N_ELEMENTS(steps) && !status; i++)
    status = steps[i](service, error);
  return status;
}

static void service_start(struct service *service) {
  rpc_server_start(service->rpc);
  hub_start(service->hub, service->engine);
  engine_start(service->engine);
  monitor_set_engine(service->monitor, service->engine, service->store);
  rpc_server_set_serving(service->rpc, true);
}

/* The first port of gRPC; 0: only unix sockets. */
static unsigned grpc_port(const struct service *service) {
  for (size_t i = 0; service->config.listen[i]; i++) {
    if (rpc_server_port(service->rpc, i) > 0)
      return rpc_server_port(service->rpc, i);
  }
  return 0;
}

/* Written beside and renamed, so that a reader sees all of it or nothing. */
static enum status write_port_file(const struct service *service, struct error *error) {
  GError *problem = NULL;
  enum status status = STATUS_OK;
  if (!service->config.port_file)
    return STATUS_OK;
  char *text = g_strdup_printf("{\"grpc\": %u, \"worker\": %u, \"monitor\": %u}\n", grpc_port(service),
                               (unsigned)hub_port(service->hub), (unsigned)monitor_port(service->monitor));
  if (!g_file_set_contents(service->config.port_file, text, -1, &problem)) {
    status = error_set(error, STATUS_UNAVAILABLE, NULL, "--port-file: %s", problem->message);
    g_error_free(problem);
  }
  g_free(text);
  return status;
}

static void say_ready(const struct service *service) {
  const struct config *config = &service->config;
  for (size_t i = 0; config->listen[i]; i++) {
    char *port = g_strdup_printf("%u", (unsigned)rpc_server_port(service->rpc, i));
    log_event(LOG_LEVEL_INFO, "listening", "for", "grpc", "address", config->listen[i], "port", port);
    g_free(port);
  }
  char *worker = g_strdup_printf("%u", (unsigned)hub_port(service->hub));
  char *monitor = g_strdup_printf("%u", (unsigned)monitor_port(service->monitor));
  log_event(LOG_LEVEL_INFO, "listening", "for", "workers", "address", config->worker_listen.host, "port", worker);
  log_event(LOG_LEVEL_INFO, "listening", "for", "monitor", "address", config->monitor_listen.host, "port", monitor);
  g_free(worker);
  g_free(monitor);
  if (config->durability != DURABILITY_SYNC)
    log_event(LOG_LEVEL_WARNING, "durability_reduced", "reason",
              "calls are acknowledged before they are on disk: a crash loses the last ones");
  if (config->insecure)
    log_event(LOG_LEVEL_WARNING, "insecure", "encrypted", config->tls_certificate_file ? "yes" : "no", "asks_who",
              config->token_file || config->tls_client_ca_file ? "yes" : "no", "reason",
              "addresses that other machines reach are allowed whatever protects them");
  log_event(LOG_LEVEL_INFO, "serving", "version", MILLRACE_VERSION, "store", service->directory);
}

static void say_what_to_try(const struct service *service) {
  unsigned port = grpc_port(service);
  char *address = port > 0 && port != 7070 ? g_strdup_printf("MILLRACE_ADDRESS=localhost:%u ", port) : g_strdup("");
  printf("Millrace is ready; what it stores is gone when it ends. Paste these into other terminals:\n\n"
         "  %smillrace job create greet name=world\n"
         "  %smillrace worker run --queue default --handler greet=/bin/cat\n"
         "  %smillrace job wait <the id that was printed>\n\n",
         address, address, address);
  fflush(stdout);
  g_free(address);
}

/* ---- stopping ---- */

static const char *signal_name(int number) {
  return number == SIGTERM ? "SIGTERM" : number == SIGINT ? "SIGINT" : "SIGHUP";
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where) {
  (void)about;
  (void)kind;
  (void)where;
  return remove(path);
}

/* Also what is open only in part. */
static void service_close(struct service *service) {
  if (service->monitor)
    monitor_set_engine(service->monitor, NULL, NULL);
  rpc_server_free(service->rpc);
  monitor_close(service->monitor);
  hub_close(service->hub);
  engine_free(service->engine);
  store_close(service->store);
  tls_free(service->tls);
  guard_stop();
  if (service->config.dev && service->directory &&
      nftw(service->directory, remove_entry, TREE_DESCRIPTORS_MAX, FTW_DEPTH | FTW_PHYS) != 0)
    log_event(LOG_LEVEL_WARNING, "store_left_behind", "directory", service->directory);
  g_free(service->directory);
  g_free(service->backup_directory);
}

/* A second signal, from somebody who means it: supervisors send the first one to the process and to its group, so that it comes
 * twice. */
static gpointer end_at_once(gpointer context) {
  const sigset_t *signals = context;
  const gint64 meant_us = g_get_monotonic_time() + SIGNAL_REPEAT_MS * 1000;
  int number;
  do {
    sigwait(signals, &number);
  } while (number == SIGHUP || g_get_monotonic_time() < meant_us);
  log_event(LOG_LEVEL_WARNING, "ended_at_once", "signal", signal_name(number));
  _exit(EXIT_START);
}

static void service_stop(struct service *service) {
  rpc_server_set_serving(service->rpc, false);
  monitor_set_engine(service->monitor, NULL, NULL);
  rpc_server_stop(service->rpc, service->config.shutdown_grace_ms);
  engine_stop(service->engine);
}

/* SIGHUP: what is read again are the files that --token-file and --tls-… name; the other settings are read at start only. A file
 * with a mistake changes nothing. */
static void reload_grants(struct service *service) {
  struct grants *grants;
  struct error error;
  if (grants_load(service->config.token_file, &grants, &error)) {
    log_event(LOG_LEVEL_ERROR, "reload_failed", "file", service->config.token_file, "reason", error.message);
    return;
  }
  char *count = g_strdup_printf("%zu", grants_count(grants));
  rpc_server_set_grants(service->rpc, grants);
  log_event(LOG_LEVEL_INFO, "reloaded", "file", service->config.token_file, "grants", count);
  g_free(count);
}

static void reload_tls(struct service *service) {
  struct tls_texts *tls;
  struct error error;
  enum status status = tls_load(&service->config, &tls, &error);
  if (!status) {
    status = hub_set_tls(service->hub, tls, &error);
    if (status)
      tls_free(tls);
  }
  if (status) {
    log_event(LOG_LEVEL_ERROR, "reload_failed", "file", service->config.tls_certificate_file, "reason", error.message);
    return;
  }
  rpc_server_set_tls(service->rpc, tls);
  tls_free(service->tls);
  service->tls = tls;
  char *expiry = tls_expiry(tls);
  log_event(LOG_LEVEL_INFO, "reloaded", "file", service->config.tls_certificate_file, "expires", expiry);
  g_free(expiry);
}

static void service_reload(struct service *service) {
  if (service->config.token_file)
    reload_grants(service);
  if (service->tls)
    reload_tls(service);
  if (!service->config.token_file && !service->tls)
    log_event(LOG_LEVEL_INFO, "reloaded", "reason", "there is no file to read again: settings are read at start only");
}

static void wait_for_end(struct service *service, const sigset_t *signals) {
  int number;
  for (;;) {
    sigwait(signals, &number);
    if (number != SIGHUP)
      break;
    service_reload(service);
  }
  log_event(LOG_LEVEL_INFO, "stopping", "signal", signal_name(number));
}

/* ---- main ---- */

/* The memory of a process that knows secrets has them in many places: keys, tokens that callers sent and payloads around them. So
 * none of it is ever dumped, nor shown to other processes of the same user. */
static void keep_secrets(const struct config *config) {
  if (config->token_file || config->tls_key_file)
    prctl(PR_SET_DUMPABLE, 0);
}

static int run(struct service *service, const sigset_t *signals) {
  struct error error;
  enum status status = service_open(service, &error);
  if (!status) {
    service_start(service);
    status = write_port_file(service, &error);
    if (!status) {
      say_ready(service);
      if (service->config.dev)
        say_what_to_try(service);
      wait_for_end(service, signals);
    }
    g_thread_unref(g_thread_new("signals", end_at_once, (gpointer)signals));
    service_stop(service);
  }
  service_close(service);
  if (!status) {
    log_event(LOG_LEVEL_INFO, "stopped");
    return EXIT_STOPPED;
  }
  log_event(LOG_LEVEL_ERROR, "start_failed", "reason", error.message);
  return status == STATUS_DATA_LOSS ? EXIT_DATA_LOSS : EXIT_START;
}

int main(int argument_count, char **arguments) {
  /* Before there are threads: all of them inherit it. Static: a thread keeps waiting for them until the process ends. */
  static sigset_t signals;
  struct service service = {.directory = NULL};
  struct error error;
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  if (config_read(argument_count, arguments, &service.config, &error)) {
    fprintf(stderr, "millraced: %s\n", error.message);
    return EXIT_USAGE;
  }
  if (service.config.show_version) {
    printf("millraced %s\n", MILLRACE_VERSION);
    config_fini(&service.config);
    return EXIT_STOPPED;
  }
  keep_secrets(&service.config);
  log_init(service.config.log_format, service.config.log_level);
  for (char **warning = service.config.warnings; *warning; warning++)
    log_event(LOG_LEVEL_WARNING, "setting_unknown", "reason", *warning);
  int code = run(&service, &signals);
  config_fini(&service.config);
  return code;
}
