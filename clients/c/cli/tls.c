/* SPDX-License-Identifier: Apache-2.0 */
/* millrace tls make-dev: an authority of one's own and what it signs, to try encryption out. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { DAYS_DEFAULT = 365, DAYS_MAX = 3650, DAY_S = 24 * 3600, NAME_BYTES_MAX = 64, SERIAL_BITS = 127 };

static struct {
  char **hosts;
  char **clients;
  int days;
} asked = {.days = DAYS_DEFAULT};

static const GOptionEntry make_options[] = {
    {"host", 0, 0, G_OPTION_ARG_STRING_ARRAY, &asked.hosts, "Another name or IP address of the server; repeatable", "HOST"},
    {"client", 0, 0, G_OPTION_ARG_STRING_ARRAY, &asked.clients,
     "A client certificate with this common name, instead of one for 'client'; repeatable", "NAME"},
    {"days", 0, 0, G_OPTION_ARG_INT, &asked.days, "How long all of it is valid (365)", "DAYS"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

/* A certificate with its key, and who signs others with them. */
struct identity {
  X509 *certificate;
  EVP_PKEY *key;
};

static void identity_fini(struct identity *identity) {
  X509_free(identity->certificate);
  EVP_PKEY_free(identity->key);
}

/* ---- making ---- */

static bool add_extension(X509 *certificate, X509 *issuer, int kind, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
  bool ok = extension && X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return ok;
}

static bool set_serial(X509 *certificate) {
  BIGNUM *number = BN_new();
  bool ok = BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
            BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
  BN_free(number);
  return ok;
}

static bool set_subject(X509 *certificate, const char *common_name) {
  return X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                    -1, -1, 0);
}

/* Signed by `authority`, or by itself (NULL). `usage` and `names` are as OpenSSL's configuration writes them; names may be NULL.
 * False: OpenSSL would not. */
static bool identity_make(const char *common_name, const struct identity *authority, const char *usage, const char *names,
                          struct identity *out_identity) {
  struct identity made = {X509_new(), EVP_EC_gen("P-256")};
  const struct identity *signer = authority ? authority : &made;
  bool ok = made.certificate && made.key && X509_set_version(made.certificate, X509_VERSION_3) && set_serial(made.certificate) &&
            X509_gmtime_adj(X509_getm_notBefore(made.certificate), -DAY_S / 24) &&
            X509_time_adj_ex(X509_getm_notAfter(made.certificate), asked.days, 0, NULL) &&
            set_subject(made.certificate, common_name) &&
            X509_set_issuer_name(made.certificate, X509_get_subject_name(signer->certificate)) &&
            X509_set_pubkey(made.certificate, made.key) &&
            add_extension(made.certificate, signer->certificate, NID_basic_constraints,
                          authority ? "critical,CA:FALSE" : "critical,CA:TRUE,pathlen:0") &&
            add_extension(made.certificate, signer->certificate, NID_key_usage,
                          authority ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign") &&
            add_extension(made.certificate, signer->certificate, NID_subject_key_identifier, "hash") &&
            (!authority || add_extension(made.certificate, signer->certificate, NID_authority_key_identifier, "keyid:always")) &&
            (!usage || add_extension(made.certificate, signer->certificate, NID_ext_key_usage, usage)) &&
            (!names || add_extension(made.certificate, signer->certificate, NID_subject_alt_name, names)) &&
            X509_sign(made.certificate, signer->key, EVP_sha256());
  if (ok)
    *out_identity = made;
  else
    identity_fini(&made);
  return ok;
}

/* ---- writing ---- */

/* Never over a file that is there. */
static FILE *create_file(const char *directory, const char *name, const char *suffix, mode_t mode) {
  g_autofree char *path = g_strdup_printf("%s/%s%s", directory, name, suffix);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
  if (!file)
    cli_fail(CLI_FAILED, "can't create %s: %s", path, g_strerror(errno));
  return file;
}

static bool identity_write(const struct identity *identity, const char *directory, const char *name) {
  FILE *file = create_file(directory, name, ".pem", 0644);
  bool ok = file && PEM_write_X509(file, identity->certificate);
  ok = (!file || fclose(file) == 0) && ok;
  file = ok ? create_file(directory, name, ".key", 0600) : NULL;
  ok = file && PEM_write_PKCS8PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL);
  return (!file || fclose(file) == 0) && ok;
}

/* ---- the command ---- */

/* Addresses as names too: some TLS libraries, as that of nng, compare names only. */
static char *server_names(void) {
  GString *names = g_string_new("DNS:localhost,IP:127.0.0.1,DNS:127.0.0.1,IP:::1");
  const char *own = g_get_host_name();
  if (strcmp(own, "localhost") != 0)
    g_string_append_printf(names, ",DNS:%s", own);
  for (char **host = asked.hosts; host && *host; host++) {
    bool is_address = g_hostname_is_ip_address(*host);
    g_string_append_printf(names, ",%s:%s", is_address ? "IP" : "DNS", *host);
    if (is_address && !strchr(*host, ':'))
      g_string_append_printf(names, ",DNS:%s", *host);
  }
  return g_string_free(names, FALSE);
}

static bool is_name(const char *text) {
  size_t length = strlen(text);
  return length > 0 && length <= NAME_BYTES_MAX &&
         strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:") == length && text[0] != '.';
}

static bool make_one(const char *directory, const char *common_name, const char *file, const struct identity *authority,
                     const char *usage, const char *names) {
  struct identity identity;
  if (!identity_make(common_name, authority, usage, names, &identity))
    return false;
  bool ok = identity_write(&identity, directory, file);
  identity_fini(&identity);
  return ok;
}

static bool make_all(const char *directory) {
  static char *default_clients[] = {"client", NULL};
  struct identity authority;
  g_autofree char *names = server_names();
  if (!identity_make("Millrace development CA", NULL, NULL, NULL, &authority))
    return false;
  bool ok =
      identity_write(&authority, directory, "ca") && make_one(directory, "localhost", "server", &authority, "serverAuth", names);
  for (char **client = asked.clients ? asked.clients : default_clients; ok && *client; client++)
    ok = make_one(directory, *client, *client, &authority, "clientAuth", NULL);
  identity_fini(&authority);
  return ok;
}

static int run_make_dev(struct cli *cli, int argc, char **argv) {
  const char *directory = argv[0];
  (void)cli;
  (void)argc;
  if (asked.days < 1 || asked.days > DAYS_MAX)
    return cli_fail(CLI_USAGE, "--days is 1 to %d", DAYS_MAX);
  for (char **list = asked.hosts; list && *list; list++)
    if (!is_name(*list))
      return cli_fail(CLI_USAGE, "--host: '%s' is neither a host name nor an IP address", *list);
  for (char **list = asked.clients; list && *list; list++)
    if (!is_name(*list) || strcmp(*list, "ca") == 0 || strcmp(*list, "server") == 0)
      return cli_fail(CLI_USAGE, "--client: '%s' can't be: 1 to 64 of A-Z a-z 0-9 . _ - :, and neither ca nor server", *list);
  if (g_mkdir_with_parents(directory, 0700) != 0)
    return cli_fail(CLI_FAILED, "can't create %s: %s", directory, g_strerror(errno));
  if (!make_all(directory))
    return cli_fail(CLI_FAILED, "the certificates could not all be made; look at %s", directory);
  printf("For trying out and for tests, not for production. Encrypted, for clients with a certificate of this authority only:\n\n"
         "  millraced --tls-cert %s/server.pem --tls-key %s/server.key --tls-client-ca %s/ca.pem\n"
         "  MILLRACE_CA=%s/ca.pem MILLRACE_CERTIFICATE=%s/%s.pem MILLRACE_KEY=%s/%s.key millrace server info\n",
         directory, directory, directory, directory, directory, asked.clients ? asked.clients[0] : "client", directory,
         asked.clients ? asked.clients[0] : "client");
  return CLI_OK;
}

const struct command tls_commands[] = {{"tls", "make-dev", "DIR",
                                        "Make a development authority with certificates for a server and clients",
                                        "Writes ca, server and client (.pem and .key) into DIR; never over files that are there.",
                                        make_options, NULL, 1, 1, true, run_make_dev},
                                       {0}};
