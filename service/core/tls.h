/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h: what a port proves with and whom it trusts, as PEM texts. They belong to whoever made the struct. */
#ifndef MILLRACE_CORE_TLS_H
#define MILLRACE_CORE_TLS_H

struct tls_texts {
  const char *certificate; /* and those between it and its authority */
  const char *key;
  const char *client_ca; /* NULL: clients need no certificate */
};

#endif
