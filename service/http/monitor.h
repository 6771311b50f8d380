/* SPDX-License-Identifier: Apache-2.0 */
/* monitor.h: the monitor port, plain HTTP: /livez, /readyz (with reasons), /metrics (Prometheus text). For probes and scrapers;
 * no secrets, no payloads, GET only. Threads: any. Errors: STATUS_UNAVAILABLE when the port can't be bound. */
#ifndef MILLRACE_HTTP_MONITOR_H
#define MILLRACE_HTTP_MONITOR_H

#include "engine/engine.h"

struct monitor;

struct monitor_options {
  const char *host;        /* default 127.0.0.1 */
  uint16_t port;           /* 0: any free one */
  uint64_t disk_low_bytes; /* not ready below; 0: 512 MiB */
};
enum status monitor_open(const struct monitor_options *options, struct monitor **out_monitor, struct error *error) STATUS_CHECK;
uint16_t monitor_port(const struct monitor *monitor);
/* Until then /readyz says "starting". NULL engine: stopping. */
void monitor_set_engine(struct monitor *monitor, struct engine *engine, struct store *store);
void monitor_close(struct monitor *monitor); /* NULL is fine */

#endif
