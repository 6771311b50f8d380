/* SPDX-License-Identifier: Apache-2.0 */
/* A store of another format is never opened in passing: it is refused in words, or brought up when that was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>
#include <string.h>

#include "store/format.h"
#include "store/keys.h"
#include "store/records.h"

enum { OLDER = STORE_FORMAT - 1 };

static void write_format(struct store *store, uint32_t format, uint32_t shard) {
  struct arena *arena = arena_new(0);
  struct store_batch *batch = store_batch_new();
  Millrace__Store__V1__StoreRecord record = MILLRACE__STORE__V1__STORE_RECORD__INIT;
  record.format = format;
  record.shard = shard;
  struct key key;
  key_meta(&key, "store");
  store_batch_put(batch, FAMILY_META, key_slice(&key), record_pack(&record.base, arena));
  uint64_t ticket;
  assert_int_equal(store_write(store, batch, &ticket, NULL), STATUS_OK);
  assert_int_equal(store_sync(store, ticket, NULL), STATUS_OK);
  store_batch_free(batch);
  arena_free(arena);
}

static void assert_refused(struct store *store, enum status status, const char *says) {
  struct error error;
  assert_int_equal(store_format_open(store, 1, 2, &error), status);
  if (!strstr(error.message, says))
    fail_msg("'%s' does not say '%s'", error.message, says);
}

static void an_empty_store_gets_the_format_once(void **state) {
  struct store *store = store_open_memory();
  struct error error;
  (void)state;
  assert_int_equal(store_format_upgrade(store, &format_steps, &error), STATUS_OK);
  assert_int_equal(store_format_open(store, 1, 2, &error), STATUS_OK);
  struct store_statistics statistics;
  store_statistics(store, &statistics);
  assert_int_equal(statistics.synced_ticket, statistics.last_ticket);
  const uint64_t ticket = statistics.last_ticket;
  assert_int_equal(store_format_upgrade(store, &format_steps, &error), STATUS_OK);
  assert_int_equal(store_format_open(store, 3, 4, &error), STATUS_OK);
  store_statistics(store, &statistics);
  assert_int_equal(statistics.last_ticket, ticket);
  store_close(store);
}

static void another_format_or_shard_is_refused(void **state) {
  struct store *store = store_open_memory();
  struct error error;
  (void)state;
  write_format(store, STORE_FORMAT + 1, 0);
  assert_refused(store, STATUS_FAILED_PRECONDITION, "format 2");
  assert_int_equal(store_format_upgrade(store, &format_steps, &error), STATUS_OK); /* there is no way back either */
  assert_refused(store, STATUS_FAILED_PRECONDITION, "start the version that wrote it");
  write_format(store, OLDER, 0);
  assert_refused(store, STATUS_FAILED_PRECONDITION, "--upgrade-store");
  write_format(store, STORE_FORMAT, 1);
  assert_refused(store, STATUS_FAILED_PRECONDITION, "shard 1");
  store_close(store);
}

static void rows_without_a_format_are_data_loss(void **state) {
  struct store *store = store_open_memory();
  struct store_batch *batch = store_batch_new();
  uint64_t ticket;
  (void)state;
  store_batch_put(batch, FAMILY_LABELS, (struct slice){"x", 1}, (struct slice){"", 0});
  assert_int_equal(store_write(store, batch, &ticket, NULL), STATUS_OK);
  assert_refused(store, STATUS_DATA_LOSS, "labels");
  store_batch_free(batch);
  store_close(store);
}

/* ---- steps ---- */

static unsigned runs;
static bool fails;

static enum status step(struct store *store, struct error *error) {
  assert_non_null(store);
  runs++;
  return fails ? error_set(error, STATUS_UNAVAILABLE, NULL, "the disk is gone") : STATUS_OK;
}

static void an_older_store_is_brought_up_by_its_step_once(void **state) {
  static const struct format_step list[] = {{OLDER, step}};
  static const struct format_steps steps = {list, G_N_ELEMENTS(list)};
  struct store *store = store_open_memory();
  struct error error;
  (void)state;
  write_format(store, OLDER, 0);
  runs = 0;
  fails = true;
  assert_int_equal(store_format_upgrade(store, &steps, &error), STATUS_UNAVAILABLE);
  assert_refused(store, STATUS_FAILED_PRECONDITION, "--upgrade-store"); /* it is as old as before, and can be tried again */
  fails = false;
  assert_int_equal(store_format_upgrade(store, &steps, &error), STATUS_OK);
  assert_int_equal(store_format_upgrade(store, &steps, &error), STATUS_OK);
  assert_int_equal(runs, 2);
  assert_int_equal(store_format_open(store, 1, 2, &error), STATUS_OK);
  struct store_statistics statistics;
  store_statistics(store, &statistics);
  assert_int_equal(statistics.synced_ticket, statistics.last_ticket);
  store_close(store);
}

static void without_its_step_nothing_changes(void **state) {
  struct store *store = store_open_memory();
  struct error error;
  (void)state;
  write_format(store, OLDER, 0);
  assert_int_equal(store_format_upgrade(store, &format_steps, &error), STATUS_FAILED_PRECONDITION);
  assert_non_null(strstr(error.message, "can't bring it from format 0 to 1"));
  assert_refused(store, STATUS_FAILED_PRECONDITION, "format 0");
  store_close(store);
}

/* ---- the server ---- */

/* What millraced says on a store of this format, at whose opening it ends. */
static void assert_server_says(uint32_t format, const char *flag, const char *says) {
  char *directory = g_dir_make_tmp("millrace-XXXXXX", NULL);
  const struct store_options options = {.directory = directory, .create_if_missing = true};
  struct store *store;
  assert_int_equal(store_open_rocks(&options, &store, NULL), STATUS_OK);
  write_format(store, format, 0);
  store_close(store);
  char *command[] = {"timeout",         "60",          MILLRACED,          "--data-dir",  directory,    "--listen", "127.0.0.1:0",
                     "--worker-listen", "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0", (char *)flag, NULL};
  char *said;
  int code;
  assert_true(g_spawn_sync(NULL, command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said, &code, NULL));
  if (g_spawn_check_wait_status(code, NULL) || !strstr(said, says))
    fail_msg("it said: %s", said);
  g_free(said);
  char *remove[] = {"rm", "-rf", directory, NULL};
  assert_true(g_spawn_sync(NULL, remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  g_free(directory);
}

static void the_server_refuses_another_format_in_words(void **state) {
  (void)state;
  assert_server_says(STORE_FORMAT + 1, NULL, "knows formats up to");
  assert_server_says(STORE_FORMAT + 1, "--upgrade-store", "knows formats up to");
  assert_server_says(OLDER, NULL, "start this one with --upgrade-store");
  assert_server_says(OLDER, "--upgrade-store", "can't bring it from format");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_store_gets_the_format_once), cmocka_unit_test(another_format_or_shard_is_refused),
      cmocka_unit_test(rows_without_a_format_are_data_loss), cmocka_unit_test(an_older_store_is_brought_up_by_its_step_once),
      cmocka_unit_test(without_its_step_nothing_changes),    cmocka_unit_test(the_server_refuses_another_format_in_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
