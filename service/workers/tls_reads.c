/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/tls_reads.h"

#include <dlfcn.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>

enum { MBEDTLS_ERR_SSL_CONN_EOF = -0x7280 };

static size_t (*_Atomic shown_to)(const void *tls, size_t asked, uint8_t *bytes, size_t length);
static _Thread_local const void *reads_for;

/* The library's declaration needs its headers, which nothing else of ours does. */
int mbedtls_ssl_read(void *tls, unsigned char *buffer, size_t asked);

bool tls_reads_show(size_t (*show)(const void *tls, size_t asked, uint8_t *bytes, size_t length)) {
  shown_to = show;
  return dlsym(RTLD_NEXT, "mbedtls_ssl_read") != NULL;
}

const void *tls_reads_for(void) {
  return reads_for;
}

int mbedtls_ssl_read(void *tls, unsigned char *buffer, size_t asked) {
  static int (*_Atomic real)(void *, unsigned char *, size_t);
  int (*found)(void *, unsigned char *, size_t) = real;
  if (!found) {
    void *symbol = dlsym(RTLD_NEXT, "mbedtls_ssl_read");
    g_assert(symbol);
    memcpy(&found, &symbol, sizeof found);
    real = found;
  }
  reads_for = tls;
  int length = found(tls, buffer, asked);
  reads_for = NULL;
  size_t (*show)(const void *, size_t, uint8_t *, size_t) = shown_to;
  if (length <= 0 || !show)
    return length;
  size_t kept = show(tls, asked, buffer, (size_t)length);
  return kept > 0 ? (int)kept : MBEDTLS_ERR_SSL_CONN_EOF;
}
