/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h: figures as Prometheus text (format 0.0.4). Private to the monitor.
 * Threads: any. Errors: what the system does not tell is left out. */
#ifndef MILLRACE_HTTP_METRICS_H
#define MILLRACE_HTTP_METRICS_H

#include <glib.h>

#include "engine/meters.h"
#include "workers/guard.h"

/* NULL: the engine did not answer, and that is all that is told of it. */
void metrics_add_engine(GString *out_text, const struct readings *readings);
void metrics_add_store(GString *out_text, const struct store_statistics *statistics);
void metrics_add_refused(GString *out_text, const uint64_t counts[REFUSALS]);
/* This process, and what was built. */
void metrics_add_process(GString *out_text);
void metrics_add_build(GString *out_text);

/* One metric without labels. */
void metrics_add_counter(GString *out_text, const char *name, const char *help, double value);
void metrics_add_gauge(GString *out_text, const char *name, const char *help, double value);

#endif
