/* SPDX-License-Identifier: Apache-2.0 */
/* millrace repair DIR --accept-loss: opens a store although durable writes are missing, so that a server will open it again. */
#include "store/store.h"

#include <stdio.h>

#include "cli.h"

static gboolean accept_loss;

static int run_repair(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  struct error error;
  struct store *store;
  if (!accept_loss)
    return cli_fail(CLI_USAGE, "repair gives up acknowledged writes that are missing; say --accept-loss, and keep a copy of %s",
                    argv[0]);
  const struct store_options options = {.directory = argv[0], .accept_loss = true};
  if (store_open_rocks(&options, &store, &error) != STATUS_OK)
    return cli_fail(CLI_FAILED, "%s", error.message);
  store_close(store);
  printf("%s opens again; `millrace check %s` tells whether it is whole\n", argv[0], argv[0]);
  return CLI_OK;
}

static const GOptionEntry options[] = {{"accept-loss", 0, 0, G_OPTION_ARG_NONE, &accept_loss, "Go on with what is there", NULL},
                                       {NULL, 0, 0, 0, NULL, NULL, NULL}};

const struct command repair_commands[] = {
    {"repair", "", "DIR --accept-loss", "Make a store open again that has lost durable writes",
     "After damage to the disk millraced refuses to start and tells how many acknowledged writes are missing.\n"
     "This accepts that they are gone. Keep a copy of the directory first.",
     options, NULL, 1, 1, true, run_repair},
    {0}};
