/* SPDX-License-Identifier: Apache-2.0 */
/* millrace dump and load: a store that no server has open as lines of JSON, and a store made of such lines. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "rows.h"
#include "store/format.h"
#include "store/implied.h"
#include "store/records.h"
#include "store/walk.h"
#include "tarball.h"

enum { ROWS_PER_BATCH = 1000 };

static struct { char *family; } set;

/* ---- dump ---- */

static enum status print_row(void *context, const struct store_row *row, struct error *error) {
  enum family family = *(const enum family *)context;
  g_autofree char *line = row_to_line(family, row);
  if (!line)
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family %s holds a row that can't be read; `millrace check` tells more",
                     family_names[family]);
  return puts(line) < 0 ? error_set(error, STATUS_UNAVAILABLE, NULL, "can't write: %s", g_strerror(errno)) : STATUS_OK;
}

static void tell_progress(void *context, uint64_t rows) {
  (void)context;
  progress_show("dumped", rows, 0);
}

static int dump_store(struct store *store) {
  struct walk walk = {.store = store, .progress = isatty(STDOUT_FILENO) ? NULL : tell_progress};
  struct error error;
  enum status status = STATUS_OK;
  bool any = false;
  for (enum family family = 0; family < FAMILIES && status == STATUS_OK; family++) {
    if (!rows_has_family(family) || (set.family && strcmp(set.family, family_names[family]) != 0))
      continue;
    any = true;
    status = walk_family(&walk, family, print_row, &family, &error);
  }
  progress_end();
  if (status != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  return any ? CLI_OK : cli_fail(CLI_USAGE, "--family: there is no '%s' (docs/storage.md names them)", set.family);
}

static int run_dump(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  struct error error;
  struct store *store;
  const struct store_options options = {.directory = argv[0], .read_only = true};
  if (store_open_rocks(&options, &store, &error) != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  int code = dump_store(store);
  store_close(store);
  return code;
}

/* ---- load ---- */

struct loader {
  struct store *store;
  struct store_batch *batch;
  uint64_t rows;
  uint64_t ticket;
};

static int write_batch(struct loader *loader, size_t least) {
  struct error error;
  if (store_batch_count(loader->batch) < least)
    return CLI_OK;
  if (store_write(loader->store, loader->batch, &loader->ticket, &error) != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  store_batch_clear(loader->batch);
  return CLI_OK;
}

static int load_line(struct loader *loader, const char *line) {
  struct box *box = box_new();
  enum family family;
  struct key key;
  struct slice value;
  const char *problem;
  int code = CLI_OK;
  if (!row_from_line(box, line, &family, &key, &value, &problem)) {
    code = cli_fail(CLI_FAILED, "line %s: %s", show_number(loader->rows + 1), problem);
  } else {
    store_batch_put(loader->batch, family, key_slice(&key), value);
    progress_show("loaded", ++loader->rows, 0);
    code = write_batch(loader, ROWS_PER_BATCH);
  }
  box_unref(box);
  return code;
}

/* The records as they come, then what follows from them. */
static int load_rows(struct loader *loader, FILE *lines) {
  char *line = NULL;
  size_t capacity = 0;
  int code = CLI_OK;
  while (code == CLI_OK && getline(&line, &capacity, lines) >= 0)
    if (*g_strchomp(line))
      code = load_line(loader, line);
  if (code == CLI_OK && ferror(lines))
    code = cli_fail(CLI_FAILED, "can't read on after line %s: %s", show_number(loader->rows), g_strerror(errno));
  free(line);
  progress_end();
  if (code == CLI_OK)
    code = write_batch(loader, 1);
  struct error error;
  if (code == CLI_OK && (implied_write(loader->store, &error) != STATUS_OK ||
                         (loader->ticket && store_sync(loader->store, loader->ticket, &error) != STATUS_OK) ||
                         store_format_open(loader->store, 0, 0, &error) != STATUS_OK))
    code = cli_fail(CLI_FAILED, "%s", error.message);
  return code;
}

static int load_into(const char *directory, FILE *lines) {
  struct error error;
  const struct store_options options = {.directory = directory, .create_if_missing = true};
  struct loader loader = {.batch = store_batch_new()};
  int code = CLI_FAILED;
  if (store_open_rocks(&options, &loader.store, &error) != STATUS_OK)
    cli_fail(code, "%s", error.message);
  else
    code = load_rows(&loader, lines);
  store_batch_free(loader.batch);
  store_close(loader.store);
  return code == CLI_OK ? check_store(directory) : code;
}

static int run_load(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  const char *directory = argv[1];
  g_autofree char *part = g_strconcat(directory, ".part", NULL);
  bool from_stdin = strcmp(argv[0], "-") == 0;
  if (g_file_test(directory, G_FILE_TEST_EXISTS))
    return cli_fail(CLI_FAILED, "%s is there already; load into a directory that is not", directory);
  FILE *lines = from_stdin ? stdin : fopen(argv[0], "re");
  if (!lines)
    return cli_fail(CLI_FAILED, "can't open %s: %s", argv[0], g_strerror(errno));
  int code = load_into(part, lines);
  if (!from_stdin)
    fclose(lines);
  if (code == CLI_OK && rename(part, directory) != 0)
    code = cli_fail(CLI_FAILED, "can't rename %s: %s", part, g_strerror(errno));
  if (code != CLI_OK)
    tarball_remove_directory(part);
  return code;
}

static const GOptionEntry dump_options[] = {
    {"family", 0, 0, G_OPTION_ARG_STRING, &set.family, "Only this one, such as jobs or schedules", "NAME"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

const struct command dump_commands[] = {
    {"dump", "", "DIR", "Print a store that no server has open as lines of JSON",
     "Every record, payloads included: keep the output as safe as the server's disk. Of a server that runs:\n"
     "millrace backup -o - | millrace restore - COPY && millrace dump COPY",
     dump_options, NULL, 1, 1, true, run_dump},
    {"load", "", "FILE|- DIR", "Make a data directory from the lines of a dump, and check it",
     "Indexes are made anew from the records.", NULL, NULL, 2, 2, true, run_load},
    {0}};
