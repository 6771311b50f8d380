/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { VALUE_BYTES_MAX = 2048, LINE_BYTES_MAX = 16 * 1024 };

static const char *const level_names[] = {"debug", "info", "warning", "error"};

static enum log_format chosen_format = LOG_FORMAT_TEXT; /* set once, before there are threads */
static atomic_int least_level = LOG_LEVEL_INFO;

void log_init(enum log_format format, enum log_level level) {
  chosen_format = format;
  log_set_level(level);
}

void log_set_level(enum log_level level) {
  atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

static bool is_wanted(enum log_level level) {
  return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

/* Terminals obey the controls of both kinds; the others begin a line of their own or turn the order of the text around. */
static bool is_unsafe(gunichar c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* In quotes, as JSON wants it; what is no UTF-8 becomes U+FFFD. */
static void append_quoted(GString *line, const char *text) {
  char *valid = g_utf8_make_valid(text, (gssize)strnlen(text, VALUE_BYTES_MAX));
  g_string_append_c(line, '"');
  for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
    gunichar c = g_utf8_get_char(at);
    if (c == '"' || c == '\\')
      g_string_append_printf(line, "\\%c", (char)c);
    else if (c == '\n')
      g_string_append(line, "\\n");
    else if (is_unsafe(c))
      g_string_append_printf(line, "\\u%04x", c);
    else
      g_string_append_unichar(line, c);
  }
  g_string_append_c(line, '"');
  g_free(valid);
}

static bool is_plain(const char *text) {
  if (!text[0])
    return false;
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\' || c == '=')
      return false;
  }
  return true;
}

static void append_pair(GString *line, const char *key, const char *value) {
  if (line->len > LINE_BYTES_MAX)
    return;
  if (chosen_format == LOG_FORMAT_JSON) {
    g_string_append_c(line, ',');
    append_quoted(line, key);
    g_string_append_c(line, ':');
    append_quoted(line, value);
    return;
  }
  g_string_append_printf(line, " %s=", key);
  if (is_plain(value) && strlen(value) < VALUE_BYTES_MAX)
    g_string_append(line, value);
  else
    append_quoted(line, value);
}

static GString *line_new(enum log_level level, const char *event) {
  GString *line = g_string_sized_new(256);
  gint64 now_us = g_get_real_time();
  GDateTime *now = g_date_time_new_from_unix_utc(now_us / G_USEC_PER_SEC);
  char *second = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
  int millisecond = (int)(now_us % G_USEC_PER_SEC / 1000);
  if (chosen_format == LOG_FORMAT_JSON)
    g_string_append_printf(line, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":\"%s\"", second, millisecond,
                           level_names[level], event);
  else
    g_string_append_printf(line, "%s.%03dZ %s %s", second, millisecond, level_names[level], event);
  g_free(second);
  g_date_time_unref(now);
  return line;
}

/* One write, so that lines of several threads do not mix. */
static void line_finish(GString *line) {
  g_string_append(line, chosen_format == LOG_FORMAT_JSON ? "}\n" : "\n");
  ssize_t written = write(STDERR_FILENO, line->str, line->len);
  (void)written;
  g_string_free(line, TRUE);
}

void log_texts(enum log_level level, const char *const *event_and_pairs) {
  if (!is_wanted(level))
    return;
  GString *line = line_new(level, event_and_pairs[0]);
  for (const char *const *pair = event_and_pairs + 1; pair[0]; pair += 2)
    append_pair(line, pair[0], pair[1]);
  line_finish(line);
}

/* Takes one value off the text, quoted or up to the next space. */
static char *take_value(const char **at) {
  GString *value = g_string_new(NULL);
  bool quoted = **at == '"';
  const char *p = *at + (quoted ? 1 : 0);
  while (*p && *p != (quoted ? '"' : ' ')) {
    if (quoted && *p == '\\' && p[1])
      p++;
    g_string_append_c(value, *p++);
  }
  *at = quoted && *p ? p + 1 : p;
  return g_string_free(value, FALSE);
}

void log_fields(enum log_level level, const char *event, const char *fields) {
  if (!is_wanted(level))
    return;
  GString *line = line_new(level, event);
  for (const char *at = fields; at && *at;) {
    size_t key_length = strcspn(at, "= ");
    char *key = g_strndup(at, key_length);
    at += key_length;
    if (*at == '=') {
      at++;
      char *value = take_value(&at);
      append_pair(line, key, value);
      g_free(value);
    } else if (key_length > 0) {
      append_pair(line, key, "");
    }
    at += strspn(at, " ");
    g_free(key);
  }
  line_finish(line);
}
