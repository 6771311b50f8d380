/* SPDX-License-Identifier: Apache-2.0 */
/* The millrace tool: finds the command, parses its options, makes the client. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "cli.h"

const struct command *const all_commands[] = {job_commands,    schedule_commands, chain_commands,      batch_commands,
                                              queue_commands,  worker_commands,   server_commands,     top_commands,
                                              backup_commands, check_commands,    repair_commands,     dump_commands,
                                              token_commands,  tls_commands,      completion_commands, NULL};

static struct {
  char *address;
  char *token_file;
  char *output;
} global;

static const GOptionEntry global_options[] = {
    {"address", 0, 0, G_OPTION_ARG_STRING, &global.address,
     "Server: host:port or unix:/path (MILLRACE_ADDRESS; default 127.0.0.1:7070)", "ADDRESS"},
    {"token-file", 0, 0, G_OPTION_ARG_FILENAME, &global.token_file,
     "File with the token (MILLRACE_TOKEN_FILE, or the token itself: MILLRACE_TOKEN)", "FILE"},
    {"output", 'o', 0, G_OPTION_ARG_STRING, &global.output, "table (default) or json", "FORMAT"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

static const char footer[] = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 server not reached,\n"
                             "            4 what was waited for did not succeed, 5 not ended in time.";

static bool is_single(const struct command *command) {
  return *command->name == '\0';
}

static void print_commands(const char *group) {
  for (const struct command *const *list = all_commands; *list; list++)
    for (const struct command *command = *list; command->name; command++) {
      if (group && strcmp(group, command->group) != 0)
        continue;
      g_autofree char *words =
          is_single(command) ? g_strdup(command->group) : g_strdup_printf("%s %s", command->group, command->name);
      printf("  %-20s %s\n", words, command->summary);
    }
}

static void print_help(void) {
  printf("millrace: create jobs, run them, look after them.\n\nUsage: millrace COMMAND [OPTION…]\n\n");
  print_commands(NULL);
  printf("\n`millrace COMMAND --help` tells more. Environment: MILLRACE_ADDRESS, MILLRACE_WORKER_URL,\n"
         "MILLRACE_TOKEN or MILLRACE_TOKEN_FILE; files for encryption: MILLRACE_CA (or the word system),\n"
         "MILLRACE_CERTIFICATE, MILLRACE_KEY.\n%s\n",
         footer);
}

static bool group_exists(const char *group) {
  for (const struct command *const *list = all_commands; *list; list++)
    if (strcmp((*list)->group, group) == 0)
      return true;
  return false;
}

/* *argc counts the words used up. */
static const struct command *find_command(int argc, char **argv, int *out_used) {
  for (const struct command *const *list = all_commands; *list; list++)
    for (const struct command *command = *list; command->name; command++) {
      if (argc < 2 || strcmp(argv[1], command->group) != 0)
        continue;
      *out_used = is_single(command) ? 2 : 3;
      if (is_single(command) || (argc > 2 && strcmp(argv[2], command->name) == 0))
        return command;
    }
  return NULL;
}

static int no_command(int argc, char **argv) {
  bool wants_help =
      argc < 2 || strcmp(argv[argc - 1], "--help") == 0 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "-h") == 0;
  if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
    printf("millrace %s\n", millrace_version());
    return CLI_OK;
  }
  if (argc >= 2 && group_exists(argv[1])) {
    if (argc > 2 && !wants_help)
      cli_fail(CLI_USAGE, "there is no `%s %s`; there are:", argv[1], argv[2]);
    print_commands(argv[1]);
    return wants_help ? CLI_OK : CLI_USAGE;
  }
  if (!wants_help)
    return cli_fail(CLI_USAGE, "there is no command '%s'; `millrace --help` lists them", argv[1]);
  print_help();
  return argc < 2 ? CLI_USAGE : CLI_OK;
}

/* The global options, without the short names that the command has for its own. */
static void add_global_options(GOptionContext *context, const GOptionEntry *own) {
  GOptionEntry entries[G_N_ELEMENTS(global_options)];
  memcpy(entries, global_options, sizeof entries);
  for (; own && own->long_name; own++)
    for (GOptionEntry *entry = entries; entry->long_name; entry++)
      if (entry->short_name == own->short_name)
        entry->short_name = 0;
  g_option_context_add_main_entries(context, entries, NULL);
}

/* Removes the words used up, so that argv[0] stays the program and the options follow. */
static bool parse_options(const struct command *command, int used, int *argc, char ***argv) {
  g_autofree char *words = g_strdup_printf("%s%s%s", command->group, is_single(command) ? "" : " ", command->name);
  g_autofree char *program = g_strdup_printf("millrace %s", words);
  g_autofree char *more = g_strdup_printf("%s%s%s", command->more ? command->more : "", command->more ? "\n\n" : "", footer);
  GOptionContext *context = g_option_context_new(command->arguments);
  g_option_context_set_summary(context, command->summary);
  g_option_context_set_description(context, more);
  if (command->options)
    g_option_context_add_main_entries(context, command->options, NULL);
  if (command->shared)
    g_option_context_add_main_entries(context, command->shared, NULL);
  if (!command->is_local)
    add_global_options(context, command->options);
  g_set_prgname(program);
  for (int i = used; i < *argc; i++)
    (*argv)[i - used + 1] = (*argv)[i];
  *argc -= used - 1;
  (*argv)[*argc] = NULL;
  g_autoptr(GError) problem = NULL;
  bool ok = g_option_context_parse(context, argc, argv, &problem);
  g_option_context_free(context);
  if (!ok)
    cli_fail(CLI_USAGE, "%s; `%s --help` tells more", problem->message, program);
  return ok;
}

static int run_command(const struct command *command, int argc, char **argv) {
  struct cli cli = {.json = g_strcmp0(global.output, "json") == 0};
  if (global.output && !cli.json && strcmp(global.output, "table") != 0)
    return cli_fail(CLI_USAGE, "--output is table or json, not '%s'", global.output);
  if (argc - 1 < command->arguments_min || (command->arguments_max >= 0 && argc - 1 > command->arguments_max))
    return cli_fail(CLI_USAGE, "usage: %s %s", g_get_prgname(), command->arguments ? command->arguments : "");
  struct millrace_error error;
  const struct millrace_client_options options = {.address = global.address, .token_file = global.token_file};
  if (!command->is_local && millrace_client_new(&options, &cli.client, &error) != MILLRACE_OK)
    return cli_fail(CLI_USAGE, "%s", error.message);
  cli.box = box_new();
  cli.answers = g_ptr_array_new_with_free_func((GDestroyNotify)box_unref);
  int code = command->run(&cli, argc - 1, argv + 1);
  g_ptr_array_unref(cli.answers);
  box_unref(cli.box);
  millrace_client_free(cli.client);
  return code;
}

int main(int argc, char **argv) {
  setlocale(LC_ALL, "");
  signal(SIGPIPE, SIG_IGN);
  /* The system's resolver knows every name that the system knows; gRPC's own does not. */
  g_setenv("GRPC_DNS_RESOLVER", "native", FALSE);
  int used = 0;
  const struct command *command = find_command(argc, argv, &used);
  if (!command)
    return no_command(argc, argv);
  if (!parse_options(command, used, &argc, &argv))
    return CLI_USAGE;
  int code = run_command(command, argc, argv);
  if (!output_is_read() && code == CLI_OK)
    code = CLI_FAILED;
  return code;
}
