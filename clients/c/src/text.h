/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: times and durations as people and JSON write them. Pure. */
#ifndef MILLRACE_CLIENT_TEXT_H
#define MILLRACE_CLIENT_TEXT_H

#include <stdbool.h>
#include <stdint.h>

enum { TEXT_TIME_BYTES = 32, TEXT_DURATION_BYTES = 32 };

/* "250ms", "10s", "1.5s", "5m", "2h", "7d", also together ("1h30m"); a bare number is seconds. False: none of these. */
bool text_parse_duration(const char *text, int64_t *out_ms);
/* RFC 3339. False: not a time. */
bool text_parse_time(const char *text, int64_t *out_ms);
/* "2026-03-01T12:00:00.250Z". */
void text_format_time(int64_t ms, char out_text[static TEXT_TIME_BYTES]);
/* Seconds: "90s", "0.25s". */
void text_format_duration(int64_t ms, char out_text[static TEXT_DURATION_BYTES]);

#endif
