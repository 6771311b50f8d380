/* SPDX-License-Identifier: Apache-2.0 */
#include "core/calendar.h"

#include <glib.h>
#include <string.h>

#include "core/limits.h"

/* A GTimeZone by another name; never given back, so that pointers to it stay good. There are as many as the system has zones. */
struct zone {
  GTimeZone *glib;
};

static GMutex zones_lock;
static GHashTable *zones; /* name -> struct zone */

/* GLib also reads offsets and POSIX rules, which are no names: a name begins with a capital letter, and has a digit in its first
 * part only if it is one of these. */
static const char *const names_with_digits[] = {"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "GMT+0", "GMT-0", NULL};

static bool has_form_of_name(const char *name) {
  if (!g_ascii_isupper(name[0]) || strlen(name) > TIME_ZONE_BYTES_MAX)
    return false;
  bool digit_in_first = false, in_first = true;
  for (const char *c = name; *c; c++) {
    if (*c == '/') {
      in_first = false;
      if (c[1] == '/' || c[1] == '\0')
        return false;
    } else if (!g_ascii_isalnum(*c) && *c != '_' && *c != '+' && *c != '-') {
      return false;
    }
    digit_in_first = digit_in_first || (in_first && g_ascii_isdigit(*c));
  }
  return !digit_in_first || g_strv_contains(names_with_digits, name);
}

enum status calendar_zone(const char *name, struct zone **out_zone, struct error *error) {
  if (*name == '\0')
    name = "UTC";
  struct zone *zone = NULL;
  if (has_form_of_name(name)) {
    g_mutex_lock(&zones_lock);
    if (!zones)
      zones = g_hash_table_new(g_str_hash, g_str_equal);
    zone = g_hash_table_lookup(zones, name);
    GTimeZone *glib = zone ? NULL : g_time_zone_new_identifier(name);
    if (glib) {
      zone = g_new0(struct zone, 1);
      zone->glib = glib;
      g_hash_table_insert(zones, g_strdup(name), zone);
    }
    g_mutex_unlock(&zones_lock);
  }
  if (!zone)
    return error_set(error, STATUS_INVALID_ARGUMENT, "time_zone",
                     "time zone '%.64s' is not known; use an IANA name such as 'Europe/Berlin', or leave it unset for UTC", name);
  *out_zone = zone;
  return STATUS_OK;
}

static int span_number(const struct zone *zone, int64_t utc_s) {
  return g_time_zone_find_interval(zone->glib, G_TIME_TYPE_UNIVERSAL, utc_s);
}

void calendar_span(const struct zone *zone, int64_t utc_s, struct calendar_span *out_span) {
  int number = span_number(zone, utc_s);
  out_span->number = number;
  out_span->offset_s = g_time_zone_get_offset(zone->glib, number);
  out_span->offset_before_s = number > 0 ? g_time_zone_get_offset(zone->glib, number - 1) : out_span->offset_s;
}

int64_t calendar_span_end(const struct zone *zone, int64_t from_s, int64_t to_s) {
  int number = span_number(zone, from_s);
  g_assert(span_number(zone, to_s) > number);
  int64_t inside = from_s, outside = to_s;
  while (outside - inside > 1) {
    int64_t middle = inside + (outside - inside) / 2;
    if (span_number(zone, middle) > number)
      outside = middle;
    else
      inside = middle;
  }
  return outside;
}
