/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <glib.h>
#include <string.h>

static const struct {
  const char *name;
  int64_t ms;
} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

static const double DURATION_MS_MAX = 4e14; /* 12,000 years: far above every limit of the API */

bool text_parse_duration(const char *text, int64_t *out_ms) {
  double total = 0;
  const char *at = text;
  if (*at == '\0')
    return false;
  while (*at) {
    if (!g_ascii_isdigit(*at))
      return false;
    char *end;
    double number = g_ascii_strtod(at, &end);
    size_t length = strspn(end, "abcdefghijklmnopqrstuvwxyz");
    double unit_ms = length == 0 && *end == '\0' && at == text ? 1000 : 0;
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
      if (length == strlen(units[i].name) && strncmp(end, units[i].name, length) == 0)
        unit_ms = (double)units[i].ms;
    if (unit_ms == 0)
      return false;
    total += number * unit_ms;
    at = end + length;
  }
  if (!(total <= DURATION_MS_MAX))
    return false;
  *out_ms = (int64_t)(total + 0.5);
  return true;
}

bool text_parse_time(const char *text, int64_t *out_ms) {
  g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
  g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, utc);
  if (!time)
    return false;
  *out_ms = g_date_time_to_unix(time) * 1000 + g_date_time_get_microsecond(time) / 1000;
  return true;
}

void text_format_time(int64_t ms, char out_text[static TEXT_TIME_BYTES]) {
  int64_t seconds = ms / 1000 - (ms % 1000 < 0);
  g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);
  if (!time) {
    g_snprintf(out_text, TEXT_TIME_BYTES, "%" G_GINT64_FORMAT "ms", ms);
    return;
  }
  g_autofree char *text = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
  g_snprintf(out_text, TEXT_TIME_BYTES, "%s.%03dZ", text, (int)(ms - seconds * 1000));
}

void text_format_duration(int64_t ms, char out_text[static TEXT_DURATION_BYTES]) {
  const char *sign = ms < 0 ? "-" : "";
  uint64_t size = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
  if (size % 1000 == 0)
    g_snprintf(out_text, TEXT_DURATION_BYTES, "%s%" G_GUINT64_FORMAT "s", sign, size / 1000);
  else
    g_snprintf(out_text, TEXT_DURATION_BYTES, "%s%" G_GUINT64_FORMAT ".%03us", sign, size / 1000, (unsigned)(size % 1000));
}
