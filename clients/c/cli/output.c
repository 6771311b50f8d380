/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, times and numbers for people; JSON for programs; a progress line for the patient. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"

enum { CELLS_AT_A_TIME = 16, CELL_BYTES = 64, FIELD_WIDTH = 18, BAR_WIDTH = 30, PROGRESS_EVERY_US = 100000 };

struct table {
  guint columns;
  int *widths;      /* of the columns: of what was printed, too */
  GPtrArray *cells; /* char *, the headings first; not printed yet */
  bool is_begun;    /* the headings are printed */
};

static void add_cells(struct table *table, const char *first, va_list arguments, guint count) {
  const char *cell = first;
  for (guint i = 0; i < count; i++) {
    g_ptr_array_add(table->cells, g_strdup(cell ? cell : ""));
    if (i + 1 < count)
      cell = va_arg(arguments, const char *);
  }
}

struct table *table_new(const char *headings) {
  struct table *table = g_new0(struct table, 1);
  table->cells = g_ptr_array_new_with_free_func(g_free);
  char **names = g_strsplit(headings, ",", -1);
  for (; names[table->columns]; table->columns++)
    g_ptr_array_add(table->cells, names[table->columns]);
  g_free(names);
  table->widths = g_new0(int, table->columns);
  return table;
}

void table_row(struct table *table, const char *first, ...) {
  va_list arguments;
  va_start(arguments, first);
  add_cells(table, first, arguments, table->columns);
  va_end(arguments);
}

static int width_of(const char *cell) {
  return g_utf8_validate(cell, -1, NULL) ? (int)g_utf8_strlen(cell, -1) : (int)strlen(cell);
}

bool table_print_rows(struct table *table) {
  if (table->cells->len > (table->is_begun ? 0 : table->columns)) {
    for (guint i = 0; i < table->cells->len; i++)
      table->widths[i % table->columns] = MAX(table->widths[i % table->columns], width_of(table->cells->pdata[i]));
    for (guint i = 0; i < table->cells->len; i++) {
      const char *cell = table->cells->pdata[i];
      bool is_last = i % table->columns == table->columns - 1;
      printf("%s%*s", cell, is_last ? 0 : table->widths[i % table->columns] - width_of(cell) + 2, is_last ? "" : " ");
      if (is_last)
        putchar('\n');
    }
    g_ptr_array_set_size(table->cells, 0);
    table->is_begun = true;
  }
  return output_is_read();
}

void table_print(struct table *table) {
  table_print_rows(table);
  g_free(table->widths);
  g_ptr_array_unref(table->cells);
  g_free(table);
}

bool output_is_read(void) {
  if (fflush(stdout) == 0)
    return !ferror(stdout);
  if (errno != EPIPE)
    cli_fail(CLI_FAILED, "standard output: %s", g_strerror(errno));
  return false;
}

static char *next_cell(void) {
  static char cells[CELLS_AT_A_TIME][CELL_BYTES];
  static unsigned next;
  return cells[next++ % CELLS_AT_A_TIME];
}

const char *show_duration(int64_t ms) {
  static const struct {
    int64_t ms;
    const char *unit;
  } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};
  char *cell = next_cell();
  int64_t size = ABS(ms);
  if (size < 1000) {
    g_snprintf(cell, CELL_BYTES, "%dms", (int)ms);
    return cell;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
    if (size >= units[i].ms) {
      int64_t rest = i + 1 < G_N_ELEMENTS(units) ? size % units[i].ms / units[i + 1].ms : 0;
      g_snprintf(cell, CELL_BYTES, "%s%d%s", ms < 0 ? "-" : "", (int)(size / units[i].ms), units[i].unit);
      if (rest > 0)
        g_snprintf(cell + strlen(cell), CELL_BYTES - strlen(cell), "%d%s", (int)rest, units[i + 1].unit);
      break;
    }
  return cell;
}

const char *show_age(const Google__Protobuf__Timestamp *time) {
  if (!time)
    return "";
  int64_t age_ms = g_get_real_time() / 1000 - convert_from_time(time);
  const char *size = show_duration(ABS(age_ms));
  char *cell = next_cell();
  g_snprintf(cell, CELL_BYTES, age_ms >= 0 ? "%s ago" : "in %s", size);
  return cell;
}

const char *show_time(const Google__Protobuf__Timestamp *time) {
  if (!time)
    return "";
  char *cell = next_cell();
  char text[TEXT_TIME_BYTES];
  text_format_time(convert_from_time(time), text);
  const char *age = show_age(time);
  g_snprintf(cell, CELL_BYTES, "%s (%s)", text, age);
  return cell;
}

const char *show_number(uint64_t number) {
  char *cell = next_cell();
  char digits[32];
  size_t length = (size_t)g_snprintf(digits, sizeof digits, "%" G_GUINT64_FORMAT, number);
  size_t at = 0;
  for (size_t i = 0; i < length; i++) {
    if (i > 0 && (length - i) % 3 == 0)
      cell[at++] = ',';
    cell[at++] = digits[i];
  }
  cell[at] = '\0';
  return cell;
}

const char *show_enum(const ProtobufCEnumDescriptor *type, int value) {
  return convert_enum_name(type, value);
}

void print_field(const char *name, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *text = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  if (*text)
    printf("%s:%*s%s\n", name, MAX(1, FIELD_WIDTH - (int)strlen(name)), " ", text);
}

void print_payload(const char *name, const Millrace__V1__Payload *payload) {
  if (!payload || payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT__NOT_SET)
    return;
  if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON)
    print_field(name, "%s", payload->json);
  else if (g_utf8_validate_len((const char *)payload->data.data, payload->data.len, NULL))
    print_field(name, "%.*s", (int)payload->data.len, (const char *)payload->data.data);
  else
    print_field(name, "(%s bytes of %s)", show_number(payload->data.len),
                *payload->content_type ? payload->content_type : "application/octet-stream");
}

void print_json(const void *message, bool pretty) {
  g_autofree char *text = json_text(message, pretty);
  g_strchomp(text);
  puts(text);
}

static struct {
  int64_t began_us;
  int64_t shown_us;
  bool is_shown;
} progress;

void progress_show(const char *what, uint64_t done, uint64_t total) {
  int64_t now_us = g_get_monotonic_time();
  if (!isatty(STDERR_FILENO) || now_us - progress.shown_us < PROGRESS_EVERY_US)
    return;
  if (!progress.is_shown)
    progress.began_us = now_us;
  progress.is_shown = true;
  progress.shown_us = now_us;
  if (total == 0) {
    double seconds = MAX((double)(now_us - progress.began_us) / G_USEC_PER_SEC, 0.1);
    fprintf(stderr, "\r%s %s (%s/s)\033[K", what, show_number(done), show_number((uint64_t)((double)done / seconds)));
    return;
  }
  int filled = (int)(MIN(done, total) * BAR_WIDTH / total);
  char bar[BAR_WIDTH + 1];
  memset(bar, '#', (size_t)filled);
  memset(bar + filled, '.', (size_t)(BAR_WIDTH - filled));
  bar[BAR_WIDTH] = '\0';
  fprintf(stderr, "\r%s [%s] %s of %s\033[K", what, bar, show_number(done), show_number(total));
}

void progress_end(void) {
  if (progress.is_shown)
    fprintf(stderr, "\r\033[K");
  progress.is_shown = false;
}
