/* SPDX-License-Identifier: Apache-2.0 */
/* millrace completion bash|zsh: made from the table of commands, so it is never out of date. */
#include <stdio.h>

#include "cli.h"

static void print_options(const GOptionEntry *entries) {
  for (; entries && entries->long_name; entries++)
    printf(" --%s", entries->long_name);
}

static void print_groups(void) {
  for (const struct command *const *list = all_commands; *list; list++)
    printf(" %s", (*list)->group);
}

/* case "$group" … names of its commands; then case "$group $name" … options. */
static void print_cases(void) {
  printf("  case \"$1\" in\n");
  for (const struct command *const *list = all_commands; *list; list++) {
    printf("    %s) names=\"", (*list)->group);
    for (const struct command *command = *list; command->name; command++)
      printf("%s ", command->name);
    printf("\" ;;\n");
  }
  printf("  esac\n  case \"$1 $2\" in\n");
  for (const struct command *const *list = all_commands; *list; list++)
    for (const struct command *command = *list; command->name; command++) {
      printf("    \"%s %s\"%s) options=\"--help", command->group, command->name, *command->name ? "" : "*");
      print_options(command->options);
      print_options(command->shared);
      if (!command->is_local)
        printf(" --address --token-file --output");
      printf("\" ;;\n");
    }
  printf("  esac\n");
}

static int run_completion(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  bool is_zsh = strcmp(argv[0], "zsh") == 0;
  if (!is_zsh && strcmp(argv[0], "bash") != 0)
    return cli_fail(CLI_USAGE, "bash or zsh, not '%s'", argv[0]);
  if (is_zsh)
    printf("#compdef millrace\nautoload -U +X bashcompinit && bashcompinit\n");
  printf("_millrace_words() {\n  names=\"\" options=\"--help --address --token-file --output\"\n");
  print_cases();
  printf("}\n_millrace() {\n  local word=\"${COMP_WORDS[COMP_CWORD]}\" names options\n"
         "  _millrace_words \"${COMP_WORDS[1]}\" \"${COMP_WORDS[2]}\"\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"");
  print_groups();
  printf("\" -- \"$word\"))\n"
         "  elif [[ $word == -* ]]; then COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "  elif [ \"$COMP_CWORD\" -eq 2 ] && [ -n \"${names// /}\" ]; then COMPREPLY=($(compgen -W \"$names\" -- \"$word\"))\n"
         "  else COMPREPLY=($(compgen -f -- \"$word\")); fi\n}\ncomplete -F _millrace millrace\n");
  return CLI_OK;
}

const struct command completion_commands[] = {
    {"completion", "", "bash|zsh", "Print a completion script for the shell",
     "bash: source <(millrace completion bash)\nzsh:  millrace completion zsh > \"${fpath[1]}/_millrace\"", NULL, NULL, 1, 1,
     true, run_completion},
    {0}};
