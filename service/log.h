/* SPDX-License-Identifier: Apache-2.0 */
/* log.h: one line per event on standard error, as text (time level event key=value …) or JSON. Values are escaped, so that nobody
 * can forge a line; payloads are never logged. Only main and what it passes as callbacks log. Threads: any, after log_init.
 * Errors: none; what can't be written is lost. */
#ifndef MILLRACE_LOG_H
#define MILLRACE_LOG_H

#include <stddef.h>

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* Until called: text, from LOG_LEVEL_INFO. */
void log_init(enum log_format format, enum log_level level);
/* From which level on; any time. */
void log_set_level(enum log_level level);
/* log_event(LOG_LEVEL_INFO, "event", "key", value, "key", value). */
#define log_event(level, ...) log_texts(level, (const char *const[]){__VA_ARGS__, NULL})
void log_texts(enum log_level level, const char *const *event_and_pairs);
/* The pairs in one text: key=value or key="value with \"escapes\"", apart by spaces. */
void log_fields(enum log_level level, const char *event, const char *fields);

#endif
