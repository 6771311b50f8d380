/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <glib.h>
#include <string.h>

#include "fault.h"

static const char *first_set(const char *option, const char *variable) {
  const char *value = option && *option ? option : g_getenv(variable);
  return value && *value ? value : NULL;
}

static enum millrace_code read_file(const char *file, const char *field, const char *variable, char **out_text,
                                    struct millrace_error *error) {
  g_autoptr(GError) problem = NULL;
  gsize length;
  if (g_file_get_contents(file, out_text, &length, &problem))
    return MILLRACE_OK;
  return fault_set(error, MILLRACE_INVALID_ARGUMENT, field, "%s (%s)", problem->message, variable);
}

/* A file that may be named; *out_text NULL: it is not. */
static enum millrace_code read_named(const char *option, const char *field, const char *variable, char **out_text,
                                     struct millrace_error *error) {
  const char *file = first_set(option, variable);
  *out_text = NULL;
  return file ? read_file(file, field, variable, out_text, error) : MILLRACE_OK;
}

enum millrace_code tls_read(const struct millrace_client_options *options, struct tls *out_tls, struct millrace_error *error) {
  struct tls tls = {NULL, NULL, NULL};
  enum millrace_code code = read_named(options->ca_file, "ca_file", "MILLRACE_CA", &tls.ca, error);
  if (code == MILLRACE_OK)
    code = read_named(options->certificate_file, "certificate_file", "MILLRACE_CERTIFICATE", &tls.certificate, error);
  if (code == MILLRACE_OK)
    code = read_named(options->key_file, "key_file", "MILLRACE_KEY", &tls.key, error);
  if (code == MILLRACE_OK && !tls.certificate != !tls.key)
    code = fault_set(error, MILLRACE_INVALID_ARGUMENT, "certificate_file",
                     "a client certificate needs both its file (MILLRACE_CERTIFICATE) and that of its key (MILLRACE_KEY)");
  if (code == MILLRACE_OK && tls.certificate && !tls.ca)
    code = fault_set(error, MILLRACE_INVALID_ARGUMENT, "ca_file",
                     "a client certificate needs encryption: name the authority that signed the server's (MILLRACE_CA)");
  if (code == MILLRACE_OK)
    *out_tls = tls;
  else
    tls_fini(&tls);
  return code;
}

void tls_fini(struct tls *tls) {
  g_free(tls->ca);
  g_free(tls->certificate);
  g_free(tls->key);
}

enum millrace_code token_read(const struct millrace_client_options *options, char **out_token, struct millrace_error *error) {
  bool has_file = options->token_file && *options->token_file;
  const char *token = has_file ? options->token : first_set(options->token, "MILLRACE_TOKEN");
  const char *file = first_set(options->token_file, "MILLRACE_TOKEN_FILE");
  enum millrace_code code = MILLRACE_OK;
  *out_token = NULL;
  if (token && *token)
    *out_token = g_strdup(token);
  else if (file)
    code = read_file(file, "token_file", "MILLRACE_TOKEN_FILE", out_token, error);
  if (*out_token)
    g_strstrip(*out_token);
  return code;
}
