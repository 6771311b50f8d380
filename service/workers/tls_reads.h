/* SPDX-License-Identifier: Apache-2.0 */
/* tls_reads.h: what nng reads through mbedTLS. The mbedtls_ssl_read defined here stands in place of the library's, to which it
 * leaves the work; nothing else of mbedTLS is known. Private to the guard. Threads: any. Errors: none. */
#ifndef MILLRACE_WORKERS_TLS_READS_H
#define MILLRACE_WORKERS_TLS_READS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on `show` is called, on the thread that reads, with what was decrypted by the state `tls` before its reader sees it.
 * The reader has asked for `asked` bytes and gets as many as `show` returns; if that is 0, the connection is over for it. False:
 * there is no mbedTLS in this process. */
bool tls_reads_show(size_t (*show)(const void *tls, size_t asked, uint8_t *bytes, size_t length));
/* The state for which this thread reads now; NULL: for none. */
const void *tls_reads_for(void);

#endif
