/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log_lines.h"

#include "core/text.h"

enum {
  ROW_BYTES = 64,                 /* what a row takes beside its value */
  LINE_BYTES = 4,                 /* and a line within it */
  ROOM_BYTES = LOG_BYTES_MAX / 4, /* made at a time in a log of many rows, so that not each turn has to look at all of them */
  ROWS_AT_ONCE = 4096,            /* old logs may have more of them than the limit allows now: as many as are read at a time go */
};

struct log_line {
  struct log_line *next;
  size_t bytes;
  Millrace__V1__LogLine *message;
};

/* What a job is given in a turn; the oldest first. */
struct log_lines {
  struct log_line *first, *last;
  size_t count;
  size_t bytes;
};

static void append(struct turn *turn, struct log_lines *lines, Millrace__V1__LogLine *message) {
  struct log_line *line = arena_alloc(turn->arena, sizeof *line);
  *line = (struct log_line){.message = message, .bytes = millrace__v1__log_line__get_packed_size(message) + LINE_BYTES};
  if (lines->first)
    lines->last->next = line;
  else
    lines->first = line;
  lines->last = line;
  lines->count++;
  lines->bytes += line->bytes;
  while (lines->first && lines->bytes > LOG_BYTES_MAX - ROW_BYTES) {
    lines->bytes -= lines->first->bytes;
    lines->count--;
    lines->first = lines->first->next;
  }
}

void log_lines_add(struct turn *turn, struct entry *entry, uint32_t delivery, const Millrace__V1__LogLines *lines) {
  if (lines->n_lines == 0)
    return;
  if (!entry->log) {
    entry->log = arena_zalloc(turn->arena, sizeof *entry->log);
    g_ptr_array_add(turn->logged, entry);
  }
  for (size_t i = 0; i < lines->n_lines; i++) {
    Millrace__V1__LogLine *line = MESSAGE(turn->arena, Millrace__V1__LogLine, millrace__v1__log_line__descriptor);
    line->time_unix_ms = lines->lines[i]->time_unix_ms;
    line->text = (char *)text_clean(turn->arena, lines->lines[i]->text, LOG_LINE_BYTES_MAX);
    line->delivery = delivery;
    append(turn, entry->log, line);
  }
  if (!entry->now.has_log) {
    struct job next = entry->now;
    next.has_log = true;
    turn_update(turn, entry, &next);
  }
}

void log_lines_remove(struct turn *turn, struct entry *entry) {
  struct error error;
  entry->log = NULL;
  if (entry->now.has_log && changes_delete_log(turn->batch, turn->engine->store, &entry->id, &error) != STATUS_OK)
    engine_fail(turn->engine, &error);
}

/* Makes room for a row of so many bytes by deleting the oldest ones. Returns what the log then has, the row included. */
static size_t make_room(struct turn *turn, const struct id *id, size_t bytes) {
  struct key from, until;
  key_log(&from, id, 0);
  key_log(&until, id, UINT64_MAX);
  const struct store_range range = {FAMILY_LOGS, key_slice(&from), key_slice(&until), true, ROWS_AT_ONCE};
  struct store_rows rows;
  if (!turn_scan(turn, &range, &rows))
    return bytes;
  size_t all = bytes;
  for (size_t i = 0; i < rows.count; i++)
    all += rows.rows[i].value.length + ROW_BYTES;
  const size_t most = LOG_BYTES_MAX - (all > LOG_BYTES_MAX ? MIN(ROOM_BYTES, rows.count * ROW_BYTES) : 0);
  size_t i = 0;
  for (; i < rows.count && bytes + rows.rows[i].value.length + ROW_BYTES <= most; i++)
    bytes += rows.rows[i].value.length + ROW_BYTES;
  for (; i < rows.count; i++)
    store_batch_delete(turn->batch, FAMILY_LOGS, rows.rows[i].key);
  store_rows_release(&rows);
  return bytes;
}

static void write_row(struct turn *turn, struct entry *entry) {
  Millrace__Store__V1__LogRecord record = MILLRACE__STORE__V1__LOG_RECORD__INIT;
  record.lines = arena_alloc(turn->arena, entry->log->count * sizeof *record.lines);
  for (const struct log_line *line = entry->log->first; line; line = line->next)
    record.lines[record.n_lines++] = line->message;
  const struct slice value = record_pack(&record.base, turn->arena);
  size_t bytes = value.length + ROW_BYTES;
  struct running *running = g_hash_table_lookup(turn->engine->running, &entry->id);
  const size_t before = running ? running->log_bytes : 0;
  if (entry->before.has_log && (before == 0 || before + bytes > LOG_BYTES_MAX))
    bytes = make_room(turn, &entry->id, bytes);
  else
    bytes += before;
  if (running)
    running->log_bytes = bytes;
  struct key key;
  key_log(&key, &entry->id, engine_sequence(turn));
  store_batch_put(turn->batch, FAMILY_LOGS, key_slice(&key), value);
}

void log_lines_write(struct turn *turn) {
  for (guint i = 0; i < turn->logged->len; i++) {
    struct entry *entry = g_ptr_array_index(turn->logged, i);
    if (entry->log)
      write_row(turn, entry);
    entry->log = NULL; /* one whose job was removed, and came again, may stand here twice */
  }
}
