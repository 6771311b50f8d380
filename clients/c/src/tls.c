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

/* What this machine trusts: the file that OpenSSL's variable names, else the first that a distribution keeps. */
static enum millrace_code read_system(char **out_text, struct millrace_error *error) {
  static const char *const bundles[] = {
      "/etc/ssl/certs/ca-certificates.crt", /* Debian, Ubuntu, Arch, Alpine */
      "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, Red Hat */
      "/etc/ssl/ca-bundle.pem",             /* SUSE */
      "/etc/ssl/cert.pem",                  /* BSD, macOS */
  };
  const char *named = first_set(NULL, "SSL_CERT_FILE");
  if (named)
    return read_file(named, "ca_file", "SSL_CERT_FILE", out_text, error);
  for (size_t i = 0; i < G_N_ELEMENTS(bundles); i++)
    if (g_file_test(bundles[i], G_FILE_TEST_IS_REGULAR))
      return read_file(bundles[i], "ca_file", "MILLRACE_CA", out_text, error);
  return fault_set(error, MILLRACE_INVALID_ARGUMENT, "ca_file",
                   "this machine has no file of authorities that it trusts: install one, or name it in SSL_CERT_FILE");
}

static enum millrace_code read_authorities(const char *option, char **out_text, struct millrace_error *error) {
  const char *file = first_set(option, "MILLRACE_CA");
  if (g_strcmp0(file, "system") == 0)
    return read_system(out_text, error);
  return file ? read_file(file, "ca_file", "MILLRACE_CA", out_text, error) : MILLRACE_OK;
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
  enum millrace_code code = read_authorities(options->ca_file, &tls.ca, error);
  if (code == MILLRACE_OK)
    code = read_named(options->certificate_file, "certificate_file", "MILLRACE_CERTIFICATE", &tls.certificate, error);
  if (code == MILLRACE_OK)
    code = read_named(options->key_file, "key_file", "MILLRACE_KEY", &tls.key, error);
  if (code == MILLRACE_OK && !tls.certificate != !tls.key)
    code = fault_set(error, MILLRACE_INVALID_ARGUMENT, "certificate_file",
                     "a client certificate needs both its file (MILLRACE_CERTIFICATE) and that of its key (MILLRACE_KEY)");
  if (code == MILLRACE_OK && tls.certificate && !tls.ca)
    code = read_system(&tls.ca, error);
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
