/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cron.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "core/limits.h"

#define INVALID(error, ...) error_set(error, STATUS_INVALID_ARGUMENT, "cron", __VA_ARGS__)

enum { DAY_S = 86400, HOUR_S = 3600, MINUTE_S = 60 };
/* 29 February is eight years apart around 2100. */
enum { SEARCH_DAYS_MAX = 9 * 366 };
/* GDate's day number of 1970-01-01. */
enum { EPOCH_JULIAN = 719163, YEAR_MAX = 9999, FIELDS = 6 };

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

/* What a field may hold. Sunday is 0 and 7; its set is folded when it is complete. */
static const struct field {
  const char *name;
  unsigned min, max;
  const char *const *names; /* NULL: numbers only */
  bool takes_question_mark;
} fields[FIELDS] = {
    {"second", 0, 59, NULL, false},      {"minute", 0, 59, NULL, false},       {"hour", 0, 23, NULL, false},
    {"day of month", 1, 31, NULL, true}, {"month", 1, 12, month_names, false}, {"day of week", 0, 7, weekday_names, true},
};
enum { DAY = 3, MONTH = 4, WEEKDAY = 5 };

static const struct {
  const char *name;
  const char *text;
} macros[] = {
    {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
};

static enum status refuse_value(const struct field *field, const char *item, struct error *error) {
  const char *hint = "";
  if (strpbrk(item, "LlWw#") && field->takes_question_mark)
    hint = " (L, W and # are not supported)";
  const char *names = field->names == month_names ? " or jan to dec" : field->names ? " or sun to sat" : "";
  return INVALID(error, "cron field '%s' is %u to %u%s, '*', lists, ranges and steps; '%.32s' is none of these%s", field->name,
                 field->min, field->max, names, item, hint);
}

/* Reads a number or a name; moves *text behind it. False: neither, or out of range. */
static bool read_value(const struct field *field, const char **text, unsigned *out_value) {
  const char *at = *text;
  for (unsigned i = 0; field->names && field->names[i]; i++)
    if (g_ascii_strncasecmp(at, field->names[i], 3) == 0) {
      *text = at + 3;
      *out_value = i + (field->names == month_names);
      return true;
    }
  unsigned value = 0;
  if (!g_ascii_isdigit(*at))
    return false;
  for (; g_ascii_isdigit(*at) && value <= field->max; at++)
    value = value * 10 + (unsigned)(*at - '0');
  *text = at;
  *out_value = value;
  return value >= field->min && value <= field->max;
}

/* Reads the step after a slash. */
static enum status read_step(const struct field *field, const char *item, const char *text, unsigned *out_step,
                             struct error *error) {
  unsigned step = 0;
  const char *at = text;
  for (; g_ascii_isdigit(*at) && step <= field->max; at++)
    step = step * 10 + (unsigned)(*at - '0');
  if (at == text || *at != '\0' || step == 0 || step > field->max)
    return INVALID(error, "cron field '%s': the step in '%.32s' is a number from 1 to %u", field->name, item, field->max);
  *out_step = step;
  return STATUS_OK;
}

/* One item of a list: `*`, `a`, `a-b`, each with or without a step. */
static enum status read_item(const struct field *field, const char *item, uint64_t *set, struct error *error) {
  unsigned first = field->min, last = field->max, step = 1;
  bool is_weekday = field->names == weekday_names;
  const char *at = item;
  if (*at == '*' || (*at == '?' && field->takes_question_mark)) {
    at++;
    last = is_weekday ? 6 : last;
  } else {
    if (!read_value(field, &at, &first))
      return refuse_value(field, item, error);
    if (*at == '-') {
      at++;
      if (!read_value(field, &at, &last))
        return refuse_value(field, item, error);
      if (is_weekday && last == 0 && first > 0)
        last = 7; /* fri-sun */
      if (last < first)
        return INVALID(error, "cron field '%s': the range '%.32s' runs backwards; write two, such as '%u-%u,%u-%u'", field->name,
                       item, first, field->max, field->min, last);
    } else if (*at == '\0') {
      last = first;
    } else {
      last = is_weekday && first < 7 ? 6 : last; /* a/n: from a on */
    }
  }
  if (*at == '/') {
    enum status status = read_step(field, item, at + 1, &step, error);
    if (status)
      return status;
  } else if (*at != '\0') {
    return refuse_value(field, item, error);
  }
  for (unsigned value = first; value <= last; value += step)
    *set |= UINT64_C(1) << value;
  return STATUS_OK;
}

static enum status read_field(const struct field *field, const char *text, uint64_t *out_set, struct error *error) {
  char **items = g_strsplit(text, ",", -1);
  uint64_t set = 0;
  enum status status = STATUS_OK;
  for (char **item = items; *item && !status; item++)
    status = read_item(field, *item, &set, error);
  g_strfreev(items);
  if (field->names == weekday_names && (set & UINT64_C(1) << 7))
    set = (set | 1) & 0x7F;
  *out_set = set;
  return status;
}

static bool is_any(const char *text) {
  return strcmp(text, "*") == 0 || strcmp(text, "?") == 0 || strcmp(text, "*/1") == 0;
}

/* Does some day of the set exist in some month of the set? */
static bool names_a_day(const struct cron *cron) {
  if (!cron->weekdays_any || cron->days_any)
    return true;
  for (unsigned month = 1; month <= 12; month++) {
    unsigned days = g_date_get_days_in_month((GDateMonth)month, 2024);
    if ((cron->months & UINT64_C(1) << month) && (cron->days & ((UINT64_C(2) << days) - 2)))
      return true;
  }
  return false;
}

static enum status read_fields(char **texts, size_t count, struct cron *out_cron, struct error *error) {
  if (count != 5 && count != 6)
    return INVALID(error,
                   "a cron expression has five fields (minute, hour, day of month, month, day of week), or six with seconds in "
                   "front; this one has %zu",
                   count);
  uint64_t sets[FIELDS] = {1};
  const char *at[FIELDS] = {"0"};
  for (size_t i = 0; i < count; i++) {
    size_t field = i + FIELDS - count;
    at[field] = texts[i];
    enum status status = read_field(&fields[field], texts[i], &sets[field], error);
    if (status)
      return status;
  }
  struct cron cron = {
      .seconds = sets[0],
      .minutes = sets[1],
      .hours = sets[2],
      .days = sets[DAY],
      .months = sets[MONTH],
      .weekdays = sets[WEEKDAY],
      .days_any = is_any(at[DAY]),
      .weekdays_any = is_any(at[WEEKDAY]),
      .hours_any = at[2][0] == '*' && !strchr(at[2], ','),
  };
  if (!names_a_day(&cron))
    return INVALID(error, "the cron expression never comes true: no month in '%.32s' has a day '%.32s'", at[MONTH], at[DAY]);
  *out_cron = cron;
  return STATUS_OK;
}

static const char *macro_text(const char *name) {
  for (size_t i = 0; i < G_N_ELEMENTS(macros); i++)
    if (g_ascii_strcasecmp(name, macros[i].name) == 0)
      return macros[i].text;
  return NULL;
}

enum status cron_parse(const char *text, struct cron *out_cron, struct error *error) {
  size_t length = strlen(text);
  if (length > CRON_BYTES_MAX)
    return INVALID(error, "a cron expression has at most %d bytes; this one has %zu", CRON_BYTES_MAX, length);
  char *line = g_strstrip(g_strdup(text));
  enum status status;
  if (line[0] == '@') {
    const char *macro = macro_text(line);
    status = macro ? cron_parse(macro, out_cron, error)
                   : INVALID(error, "'%.32s' is not known; there are @hourly @daily @midnight @weekly @monthly @yearly @annually",
                             line);
  } else {
    char **parts = g_strsplit_set(line, " \t", -1);
    size_t count = 0;
    for (size_t i = 0; parts[i]; i++) { /* several blanks are one: empty parts go */
      if (*parts[i])
        parts[count++] = parts[i];
      else
        g_free(parts[i]);
    }
    parts[count] = NULL;
    status = read_fields(parts, count, out_cron, error);
    g_strfreev(parts);
  }
  g_free(line);
  return status;
}

/* The smallest member of `set` at or above `from`; 64 when there is none. */
static unsigned next_member(uint64_t set, unsigned from) {
  uint64_t rest = from < 64 ? set >> from << from : 0;
  return rest ? (unsigned)__builtin_ctzll(rest) : 64;
}

/* The first time of a day at or after `from_s`, in seconds since midnight. */
static bool next_in_day(const struct cron *cron, unsigned from_s, unsigned *out_s) {
  unsigned from_hour = from_s / HOUR_S;
  for (unsigned hour = next_member(cron->hours, from_hour); hour < 24; hour = next_member(cron->hours, hour + 1)) {
    unsigned from_minute = hour == from_hour ? from_s % HOUR_S / MINUTE_S : 0;
    unsigned minute = next_member(cron->minutes, from_minute);
    unsigned from_second = hour == from_hour && minute == from_minute ? from_s % MINUTE_S : 0;
    unsigned second = next_member(cron->seconds, from_second);
    if (minute < 60 && second >= 60) {
      minute = next_member(cron->minutes, minute + 1);
      second = next_member(cron->seconds, 0);
    }
    if (minute < 60) {
      *out_s = hour * HOUR_S + minute * MINUTE_S + second;
      return true;
    }
  }
  return false;
}

static bool day_matches(const struct cron *cron, const GDate *date) {
  bool day = cron->days & UINT64_C(1) << g_date_get_day(date);
  bool weekday = cron->weekdays & UINT64_C(1) << (g_date_get_weekday(date) % 7);
  if (cron->days_any || cron->weekdays_any)
    return day && weekday; /* the one that is any is full */
  return day || weekday;
}

bool cron_next(const struct cron *cron, int64_t local_s, int64_t *out_local_s) {
  local_s = MAX(local_s, TIMESTAMP_MIN_MS / 1000);
  int64_t day = local_s / DAY_S - (local_s % DAY_S < 0);
  unsigned from_s = (unsigned)(local_s - day * DAY_S);
  GDate date;
  g_date_clear(&date, 1);
  if (day + EPOCH_JULIAN > (int64_t)(YEAR_MAX + 1) * 366)
    return false;
  g_date_set_julian(&date, (guint32)(day + EPOCH_JULIAN));
  for (int i = 0; i < SEARCH_DAYS_MAX && g_date_get_year(&date) <= YEAR_MAX; i++) {
    unsigned second;
    if (!(cron->months & UINT64_C(1) << g_date_get_month(&date))) {
      g_date_set_day(&date, 1);
      g_date_add_months(&date, 1);
    } else if (day_matches(cron, &date) && next_in_day(cron, from_s, &second)) {
      *out_local_s = ((int64_t)g_date_get_julian(&date) - EPOCH_JULIAN) * DAY_S + second;
      return true;
    } else {
      g_date_add_days(&date, 1);
    }
    from_s = 0;
  }
  return false;
}
