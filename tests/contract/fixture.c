/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

char *directory_new(void) {
  GError *failure = NULL;
  char *directory = g_dir_make_tmp("millrace-store-XXXXXX", &failure);
  if (directory == NULL) {
    fail_msg("no temporary directory: %s", failure->message);
  }
  return directory;
}

static void tree_remove(const char *path) {
  GDir *directory = g_dir_open(path, 0, NULL);
  if (directory != NULL) {
    for (const char *name = g_dir_read_name(directory); name != NULL; name = g_dir_read_name(directory)) {
      g_autofree char *child = g_build_filename(path, name, NULL);
      tree_remove(child);
    }
    g_dir_close(directory);
  }
  g_remove(path);
}

void directory_remove(char *directory) {
  if (directory != NULL) {
    tree_remove(directory);
    g_free(directory);
  }
}

struct store *rocks_open(const char *directory) {
  struct store_options options = {.directory = directory, .create_if_missing = true};
  struct store *store = NULL;
  struct error error = {0};
  assert_ok(store_open_rocks(&options, &store, &error), error);
  return store;
}

struct slice text(const char *string) {
  return (struct slice){string, string == NULL ? 0 : strlen(string)};
}

void put(struct store_batch *batch, enum family family, const char *key, const char *value) {
  store_batch_put(batch, family, text(key), text(value));
}

uint64_t write_batch(struct store *store, const struct store_batch *batch) {
  struct error error = {0};
  uint64_t ticket = 0;
  assert_ok(store_write(store, batch, &ticket, &error), error);
  return ticket;
}

uint64_t write_put(struct store *store, enum family family, const char *key, const char *value) {
  struct store_batch *batch = store_batch_new();
  put(batch, family, key, value);
  uint64_t ticket = write_batch(store, batch);
  store_batch_free(batch);
  return ticket;
}

uint64_t write_delete(struct store *store, enum family family, const char *key) {
  struct store_batch *batch = store_batch_new();
  store_batch_delete(batch, family, text(key));
  uint64_t ticket = write_batch(store, batch);
  store_batch_free(batch);
  return ticket;
}

char *read_text(struct store *store, struct store_view *view, enum family family, const char *key) {
  struct store_get get = {.family = family, .key = text(key)};
  struct error error = {0};
  assert_ok(store_get_many(store, view, &get, 1, &error), error);
  char *value = get.value.data == NULL ? NULL : g_strndup(get.value.data, get.value.length);
  store_gets_release(&get, 1);
  return value;
}

void assert_value(struct store *store, struct store_view *view, enum family family, const char *key, const char *expected) {
  g_autofree char *value = read_text(store, view, family, key);
  if (expected == NULL || value == NULL) {
    assert_true(expected == NULL && value == NULL);
  } else {
    assert_string_equal(value, expected);
  }
}

char *read_keys(struct store *store, struct store_view *view, enum family family, const char *from, const char *until,
                bool backwards, size_t limit) {
  struct store_range range = {.family = family, .from = text(from), .until = text(until), .backwards = backwards, .limit = limit};
  struct store_rows rows = {0};
  struct error error = {0};
  assert_ok(store_scan(store, view, &range, &rows, &error), error);
  GString *keys = g_string_new(NULL);
  for (size_t i = 0; i < rows.count; i++) {
    g_string_append(keys, i == 0 ? "" : " ");
    g_string_append_len(keys, rows.rows[i].key.data, (gssize)rows.rows[i].key.length);
  }
  store_rows_release(&rows);
  return g_string_free(keys, FALSE);
}

size_t count_rows(struct store *store, enum family family) {
  struct store_range range = {.family = family, .limit = SIZE_MAX};
  struct store_rows rows = {0};
  struct error error = {0};
  assert_ok(store_scan(store, NULL, &range, &rows, &error), error);
  size_t count = rows.count;
  store_rows_release(&rows);
  return count;
}
