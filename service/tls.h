/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h: reads and checks the files of --tls-cert, --tls-key and --tls-client-ca, so that a mistake in them is told as a sentence
 * and never reaches a port. Threads: one. Errors: STATUS_INVALID_ARGUMENT, naming the file. */
#ifndef MILLRACE_TLS_H
#define MILLRACE_TLS_H

#include "config.h"
#include "core/tls.h"

/* Heap. config->tls_certificate_file is set. */
enum status tls_load(const struct config *config, struct tls_texts **out_texts, struct error *error) STATUS_CHECK;
/* The key's memory is overwritten. NULL is fine. */
void tls_free(struct tls_texts *texts);
/* When the certificate ends, as "2027-01-31"; to be freed. */
char *tls_expiry(const struct tls_texts *texts);

#endif
