/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h: figures as Prometheus text (format 0.0.4). Private to the monitor.
 * Threads: any. Errors: what the system does not tell is left out. */
#ifndef MILLRACE_HTTP_METRICS_H
#define MILLRACE_HTTP_METRICS_H

#include <glib.h>

#include "engine/engine.h"

void metrics_add_engine(GString *out_text, const struct engine_statistics *statistics);
void metrics_add_store(GString *out_text, const struct store_statistics *statistics);
/* This process, and what was built. */
void metrics_add_process(GString *out_text);

#endif
