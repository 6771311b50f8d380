/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h: what a client proves with, and whom it trusts: PEM texts, read once. Threads: any; they never change. */
#ifndef MILLRACE_CLIENT_TLS_H
#define MILLRACE_CLIENT_TLS_H

#include <stdbool.h>

#include "millrace.h"

struct tls {
  char *ca; /* NULL: no encryption */
  char *certificate;
  char *key;
};

/* From the files of the options, else of MILLRACE_CA, MILLRACE_CERTIFICATE and MILLRACE_KEY. */
enum millrace_code tls_read(const struct millrace_client_options *options, struct tls *out_tls, struct millrace_error *error);
void tls_fini(struct tls *tls);

/* The token of the options, else of MILLRACE_TOKEN, else of the file of MILLRACE_TOKEN_FILE; NULL: there is none. To be freed. */
enum millrace_code token_read(const struct millrace_client_options *options, char **out_token, struct millrace_error *error);

#endif
