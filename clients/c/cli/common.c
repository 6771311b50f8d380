/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, calls and the values of options. */
#include <stdarg.h>
#include <stdio.h>

#include "cli.h"
#include "fault.h"

int cli_fail(int exit_code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *text = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  fprintf(stderr, "millrace: %s\n", text);
  return exit_code;
}

int cli_explain(const struct millrace_error *error) {
  if (strcmp(error->reason, "UNREACHABLE") == 0)
    return cli_fail(CLI_UNREACHABLE, "%s; start one: millraced --dev", error->message);
  if (error->code == MILLRACE_UNAVAILABLE)
    return cli_fail(CLI_UNREACHABLE, "%s", error->message);
  bool is_named = error->field[0] && !strstr(error->message, error->field);
  return cli_fail(CLI_FAILED, "%s%s%s (%s%s%s)", is_named ? error->field : "", is_named ? ": " : "", error->message,
                  millrace_code_name(error->code), error->reason[0] ? " " : "", error->reason);
}

void cli_explain_outcome(const Millrace__V1__CreateOutcome *outcome) {
  struct millrace_error error;
  fault_from_status(&error, outcome->error);
  cli_explain(&error);
}

int cli_call(struct cli *cli, struct method method, const void *request, void *out_response) {
  struct millrace_error error;
  struct box *box;
  if (call(cli->client, method, request, 0, &box, out_response, &error) != MILLRACE_OK)
    return cli_explain(&error);
  g_ptr_array_add(cli->answers, box);
  return CLI_OK;
}

int cli_call_page(struct cli *cli, struct method method, const void *request, void *out_response) {
  guint before = cli->answers->len;
  int code = cli_call(cli, method, request, out_response);
  if (code == CLI_OK)
    g_ptr_array_remove_range(cli->answers, 0, before);
  return code;
}

bool cli_duration(const char *name, const char *text, int64_t *out_ms) {
  if (!text || text_parse_duration(text, out_ms))
    return true;
  cli_fail(CLI_USAGE, "--%s: '%s' is not a duration such as 250ms, 10s, 5m, 2h or 7d", name, text);
  return false;
}

bool cli_wait_timeout(const char *name, const char *text, int64_t *out_ms) {
  int64_t ms = 0;
  if (!cli_duration(name, text, &ms))
    return false;
  *out_ms = text ? MAX(ms, 1) : 0; /* the library waits for ever at 0 */
  return true;
}

bool cli_time(const char *name, const char *text, int64_t *out_ms) {
  if (!text || text_parse_time(text, out_ms))
    return true;
  cli_fail(CLI_USAGE, "--%s: '%s' is not a time such as 2026-03-01T12:00:00Z", name, text);
  return false;
}

bool cli_enum(const char *name, const ProtobufCEnumDescriptor *type, const char *text, void *out_value) {
  if (!text)
    return true;
  g_autofree char *wanted = g_strdelimit(g_ascii_strdown(text, -1), "-", '_');
  GString *names = g_string_new(NULL);
  for (unsigned i = 0; i < type->n_values; i++) {
    const char *known = convert_enum_name(type, type->values[i].value);
    if (*known && strcmp(known, wanted) == 0) {
      *(int *)out_value = type->values[i].value;
      g_string_free(names, TRUE);
      return true;
    }
    g_string_append_printf(names, "%s%s", names->len && *known ? ", " : "", known);
  }
  cli_fail(CLI_USAGE, "--%s: '%s' is none of %s", name, text, names->str);
  g_string_free(names, TRUE);
  return false;
}

bool cli_labels(char **texts, struct millrace_label **out_labels, size_t *out_count, struct box *box) {
  size_t count = texts ? g_strv_length(texts) : 0;
  struct millrace_label *labels = box_alloc(box, count * sizeof *labels);
  for (size_t i = 0; i < count; i++) {
    const char *equals = strchr(texts[i], '=');
    if (!equals) {
      cli_fail(CLI_USAGE, "--label: '%s' is not key=value", texts[i]);
      return false;
    }
    char *key = box_strdup(box, texts[i]);
    key[equals - texts[i]] = '\0';
    labels[i] = (struct millrace_label){key, box_strdup(box, equals + 1)};
  }
  *out_labels = labels;
  *out_count = count;
  return true;
}
