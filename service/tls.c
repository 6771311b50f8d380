/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <glib.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

enum { DATE_BYTES = 16 };

static enum status read_file(const char *flag, const char *file, char **out_text, struct error *error) {
  GError *problem = NULL;
  if (g_file_get_contents(file, out_text, NULL, &problem))
    return STATUS_OK;
  error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: %s", flag, problem->message);
  g_error_free(problem);
  return STATUS_INVALID_ARGUMENT;
}

/* The first certificate of a text; NULL: it begins with none. */
static X509 *parse_certificate(const char *text) {
  BIO *bio = BIO_new_mem_buf(text, -1);
  X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
  BIO_free(bio);
  return certificate;
}

/* Never asks for a password: nobody is there to give it. */
static int no_password(char *buffer, int size, int is_write, void *context) {
  (void)buffer;
  (void)size;
  (void)is_write;
  (void)context;
  return 0;
}

static EVP_PKEY *parse_key(const char *text) {
  BIO *bio = BIO_new_mem_buf(text, -1);
  EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
  BIO_free(bio);
  return key;
}

static char *format_date(const ASN1_TIME *time) {
  struct tm parts;
  char text[DATE_BYTES] = "";
  if (ASN1_TIME_to_tm(time, &parts))
    strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return g_strdup(text);
}

static enum status check_dates(const char *file, const X509 *certificate, struct error *error) {
  bool has_begun = X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0;
  bool has_ended = X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
  if (has_begun && !has_ended)
    return STATUS_OK;
  char *date = format_date(has_ended ? X509_get0_notAfter(certificate) : X509_get0_notBefore(certificate));
  error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: the certificate %s on %s", file,
            has_ended ? "expired" : "is valid only from midnight or later", date);
  g_free(date);
  return STATUS_INVALID_ARGUMENT;
}

static enum status check_pair(const struct config *config, const struct tls_texts *texts, struct error *error) {
  X509 *certificate = parse_certificate(texts->certificate);
  EVP_PKEY *key = parse_key(texts->key);
  enum status status = STATUS_OK;
  if (!certificate)
    status =
        error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: there is no certificate in PEM form", config->tls_certificate_file);
  else if (!key)
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: there is no key in PEM form without a password",
                       config->tls_key_file);
  else if (!X509_check_private_key(certificate, key))
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: it is not the key of the certificate in %s",
                       config->tls_key_file, config->tls_certificate_file);
  else
    status = check_dates(config->tls_certificate_file, certificate, error);
  EVP_PKEY_free(key);
  X509_free(certificate);
  return status;
}

static enum status check_client_ca(const struct config *config, const struct tls_texts *texts, struct error *error) {
  X509 *certificate = texts->client_ca ? parse_certificate(texts->client_ca) : NULL;
  bool is_missing = texts->client_ca && !certificate;
  X509_free(certificate);
  if (!is_missing)
    return STATUS_OK;
  return error_set(error, STATUS_INVALID_ARGUMENT, NULL, "%s: there is no certificate in PEM form", config->tls_client_ca_file);
}

enum status tls_load(const struct config *config, struct tls_texts **out_texts, struct error *error) {
  char *certificate = NULL, *key = NULL, *client_ca = NULL;
  enum status status = read_file("--tls-cert", config->tls_certificate_file, &certificate, error);
  if (!status)
    status = read_file("--tls-key", config->tls_key_file, &key, error);
  if (!status && config->tls_client_ca_file)
    status = read_file("--tls-client-ca", config->tls_client_ca_file, &client_ca, error);
  struct tls_texts *texts = g_new(struct tls_texts, 1);
  *texts = (struct tls_texts){certificate, key, client_ca};
  if (!status)
    status = check_pair(config, texts, error);
  if (!status)
    status = check_client_ca(config, texts, error);
  if (status)
    tls_free(texts);
  else
    *out_texts = texts;
  return status;
}

void tls_free(struct tls_texts *texts) {
  if (!texts)
    return;
  if (texts->key)
    explicit_bzero((char *)texts->key, strlen(texts->key));
  g_free((char *)texts->certificate);
  g_free((char *)texts->key);
  g_free((char *)texts->client_ca);
  g_free(texts);
}

char *tls_expiry(const struct tls_texts *texts) {
  X509 *certificate = parse_certificate(texts->certificate);
  char *date = format_date(X509_get0_notAfter(certificate));
  X509_free(certificate);
  return date;
}
