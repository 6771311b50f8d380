/* SPDX-License-Identifier: Apache-2.0 */
/* millrace check DIR: verifies a store that no server has open. */
#include "store/check.h"

#include <stdio.h>

#include "cli.h"

static void tell_problem(void *context, const char *sentence) {
  (void)context;
  progress_end();
  printf("%s\n", sentence);
}

static void tell_progress(void *context, uint64_t rows) {
  (void)context;
  progress_show("checked", rows, 0);
}

int check_store(const char *directory) {
  struct error error;
  struct store *store;
  const struct store_options options = {.directory = directory, .read_only = true};
  if (store_open_rocks(&options, &store, &error) != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  const struct check_listener listener = {tell_problem, tell_progress, NULL};
  struct check_report report;
  enum status status = store_check(store, &listener, &report, &error);
  progress_end();
  store_close(store);
  if (status != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  printf("%s jobs, %s leases, %s problems\n", show_number(report.jobs), show_number(report.leases), show_number(report.problems));
  return report.problems == 0 ? CLI_OK : CLI_FAILED;
}

static int run_check(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  return check_store(argv[0]);
}

const struct command check_commands[] = {{"check", "", "DIR", "Verify a store that no server has open",
                                          "Changes nothing. Exit code 0 only if there is no problem.", NULL, NULL, 1, 1, true,
                                          run_check},
                                         {0}};
