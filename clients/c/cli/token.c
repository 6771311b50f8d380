/* SPDX-License-Identifier: Apache-2.0 */
/* millrace token create: a new token for somebody, and the lines that make it known to the server. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli.h"

enum { TOKEN_RANDOM_BYTES = 32, NAME_BYTES_MAX = 64, VALUES_MAX = 64, VALUE_BYTES_MAX = 256 };

static struct {
  char *name;
  char **roles;
  char **queues;
  char **certificates;
  char *file;
} asked;

static const GOptionEntry create_options[] = {
    {"name", 0, 0, G_OPTION_ARG_STRING, &asked.name, "Whose it is, as the log will say", "NAME"},
    {"role", 0, 0, G_OPTION_ARG_STRING_ARRAY, &asked.roles, "viewer, producer, worker, scaler or admin; repeatable", "ROLE"},
    {"queue", 0, 0, G_OPTION_ARG_STRING_ARRAY, &asked.queues, "For these queues only; * and ? stand for anything; repeatable",
     "PATTERN"},
    {"certificate", 0, 0, G_OPTION_ARG_STRING_ARRAY, &asked.certificates,
     "No token: whoever has a client certificate with this common name; repeatable", "NAME"},
    {"file", 0, 0, G_OPTION_ARG_FILENAME, &asked.file, "Add it to this file, and print the token alone", "FILE"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

static bool is_role(const char *text) {
  static const char *const roles[] = {"viewer", "producer", "worker", "scaler", "admin", NULL};
  return g_strv_contains(roles, text);
}

/* Can it stand in the file as it is? */
static bool is_plain(const char *text, size_t bytes_max) {
  size_t length = strlen(text);
  if (length == 0 || length > bytes_max || !g_utf8_validate(text, -1, NULL) || text[0] == ' ' || text[length - 1] == ' ')
    return false;
  for (const char *at = text; *at; at++)
    if ((unsigned char)*at < ' ' || strchr("[];\\\x7F", *at))
      return false;
  return true;
}

static int check_list(const char *option, char **list, bool (*fits)(const char *text), const char *sentence) {
  if (list && g_strv_length(list) > VALUES_MAX)
    return cli_fail(CLI_USAGE, "%s can be given at most %d times", option, VALUES_MAX);
  for (; list && *list; list++)
    if (!fits(*list))
      return cli_fail(CLI_USAGE, "%s: '%s' %s", option, *list, sentence);
  return CLI_OK;
}

static bool is_value(const char *text) {
  return is_plain(text, VALUE_BYTES_MAX);
}

static int check_asked(void) {
  if (!asked.name || !asked.roles)
    return cli_fail(CLI_USAGE, "say whose the token is and what it may do: --name NAME --role ROLE");
  if (!is_plain(asked.name, NAME_BYTES_MAX))
    return cli_fail(CLI_USAGE, "--name: 1 to %d bytes, without brackets, semicolons, backslashes and control characters",
                    NAME_BYTES_MAX);
  int code = check_list("--role", asked.roles, is_role, "is none of viewer, producer, worker, scaler and admin");
  if (code == CLI_OK)
    code = check_list("--queue", asked.queues, is_value, "can't be a pattern of queue names");
  if (code == CLI_OK)
    code = check_list("--certificate", asked.certificates, is_value, "can't be written into the file");
  return code;
}

/* "mrt_" and 256 random bits, so that a plain hash is enough to keep. */
static char *token_make(void) {
  guchar bytes[TOKEN_RANDOM_BYTES];
  while (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    ;
  g_autofree char *text = g_base64_encode(bytes, sizeof bytes);
  text[strcspn(text, "=")] = '\0';
  g_strdelimit(text, "+", '-');
  g_strdelimit(text, "/", '_');
  return g_strconcat("mrt_", text, NULL);
}

static void append_list(GString *text, const char *key, char **values) {
  if (!values)
    return;
  g_autofree char *joined = g_strjoinv(";", values);
  g_string_append_printf(text, "%s=%s\n", key, joined);
}

/* As the server reads it. */
static char *section_make(const char *token) {
  GString *text = g_string_new(NULL);
  g_string_append_printf(text, "[%s]\n", asked.name);
  append_list(text, "roles", asked.roles);
  append_list(text, "queues", asked.queues);
  append_list(text, "certificate", asked.certificates);
  if (token) {
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
    g_string_append_printf(text, "token-sha256=%s\n", hash);
  }
  return g_string_free(text, FALSE);
}

static int append(const char *section) {
  g_autoptr(GKeyFile) before = g_key_file_new();
  g_autoptr(GError) problem = NULL;
  if (!g_key_file_load_from_file(before, asked.file, G_KEY_FILE_NONE, &problem) &&
      !g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT))
    return cli_fail(CLI_FAILED, "%s is no token file: %s", asked.file, problem->message);
  if (g_key_file_has_group(before, asked.name))
    return cli_fail(CLI_FAILED, "%s has a grant '%s' already: choose another name, or remove it first", asked.file, asked.name);
  int fd = open(asked.file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return cli_fail(CLI_FAILED, "can't write %s: %s", asked.file, g_strerror(errno));
  g_autofree char *text = g_strconcat(lseek(fd, 0, SEEK_END) > 0 ? "\n" : "", section, NULL);
  size_t length = strlen(text);
  bool is_written = write(fd, text, length) == (ssize_t)length;
  if (close(fd) != 0 || !is_written)
    return cli_fail(CLI_FAILED, "can't write %s: %s", asked.file, g_strerror(errno));
  return CLI_OK;
}

static int run_create(struct cli *cli, int argc, char **argv) {
  (void)cli;
  (void)argc;
  (void)argv;
  int code = check_asked();
  if (code != CLI_OK)
    return code;
  g_autofree char *token = asked.certificates ? NULL : token_make();
  g_autofree char *section = section_make(token);
  if (asked.file) {
    code = append(section);
    if (code == CLI_OK && token)
      printf("%s\n", token);
    return code;
  }
  if (token)
    printf("The token, shown only now:\n\n%s\n\n", token);
  printf("Add this to the server's --token-file, and send the server SIGHUP:\n\n%s", section);
  return CLI_OK;
}

const struct command token_commands[] = {
    {"token", "create", "", "Make a token, or a grant for a certificate, for the server's --token-file",
     "The file gets a hash only: the token is shown once. Example:\n"
     "  millrace token create --name shop --role producer --queue 'shop-*' --file /etc/millrace/tokens >shop.token",
     create_options, NULL, 0, 0, true, run_create},
    {0}};
