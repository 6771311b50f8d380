/* SPDX-License-Identifier: Apache-2.0 */
/* config.h: what millraced is told: flags before environment (MILLRACED_…) before the key file (--config) before defaults. One
 * table (config.c) names every setting, and makes --help of it. Threads: one. Errors: STATUS_INVALID_ARGUMENT with a sentence
 * that names where the wrong value stands. */
#ifndef MILLRACE_CONFIG_H
#define MILLRACE_CONFIG_H

#include "engine/engine.h"
#include "log.h"

struct config_address {
  char *host; /* without brackets */
  uint16_t port;
};

/* Owns its texts. */
struct config {
  char **listen; /* as gRPC takes them: "127.0.0.1:7070", "unix:/run/millrace.sock" */
  struct config_address worker_listen;
  struct config_address monitor_listen;
  struct config_address advertise; /* host NULL: none; port 0: the worker port's own */
  char *data_dir;
  char *checkpoint_dir;       /* NULL: no checkpoints */
  char *port_file;            /* NULL: none */
  char *token_file;           /* NULL: nobody is asked who calls */
  char *tls_certificate_file; /* NULL: nothing is encrypted */
  char *tls_key_file;
  char *tls_client_ca_file; /* NULL: clients need no certificate */
  enum durability durability;
  int64_t durability_interval_ms;
  int64_t session_timeout_ms;
  int64_t reconnect_grace_ms;
  int64_t heartbeat_ms;
  int64_t shutdown_grace_ms;
  uint32_t connections_max;
  uint32_t connections_per_address_max;
  uint32_t new_connections_per_second_max;
  uint32_t messages_per_second_max; /* 0: any number */
  enum log_format log_format;
  enum log_level log_level;
  bool insecure;
  bool monitor_public;
  bool upgrade_store;
  bool dev;
  bool show_version; /* print the version and exit: nothing else is set */
  char **warnings;   /* sentences to log */
};

/* Reads the command line (--help prints and exits with 0). */
enum status config_read(int argument_count, char **arguments, struct config *out_config, struct error *error) STATUS_CHECK;
void config_fini(struct config *config);

#endif
