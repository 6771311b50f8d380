/* SPDX-License-Identifier: Apache-2.0 */
#include "store/walk.h"

#include <glib.h>
#include <string.h>

enum { CHUNK_ROWS = 1000 };

enum status walk_family(struct walk *walk, enum family family,
                        enum status (*visit)(void *context, const struct store_row *row, struct error *error), void *context,
                        struct error *error) {
  GByteArray *next = g_byte_array_new();
  struct store_range range = {.family = family, .limit = CHUNK_ROWS};
  enum status status = STATUS_OK;
  bool more = true;
  while (more && status == STATUS_OK) {
    struct store_rows rows;
    status = store_scan(walk->store, walk->view, &range, &rows, error);
    if (status != STATUS_OK)
      break;
    for (size_t i = 0; i < rows.count && status == STATUS_OK; i++)
      status = visit(context, &rows.rows[i], error);
    walk->rows += rows.count;
    more = rows.count == CHUNK_ROWS;
    if (more) { /* go on right behind the last one: its key and a zero byte */
      const struct slice last = rows.rows[rows.count - 1].key;
      g_byte_array_set_size(next, 0);
      g_byte_array_append(next, last.data, (guint)last.length);
      g_byte_array_append(next, (const guint8 *)"", 1);
      range.from = (struct slice){next->data, next->len};
    }
    store_rows_release(&rows);
    if (walk->progress)
      walk->progress(walk->context, walk->rows);
  }
  g_byte_array_free(next, TRUE);
  return status;
}

enum status walk_get(struct walk *walk, enum family family, struct slice key, struct store_get *out_get, struct error *error) {
  *out_get = (struct store_get){.family = family, .key = key};
  return store_get_many(walk->store, walk->view, out_get, 1, error);
}
