/* SPDX-License-Identifier: Apache-2.0 */
/* bind.h: lets nng listen on one address without its check of the Host header. An nng listener whose URL names an address
 * compares it with that header, once per path of the port and each time by getaddrinfo: with 1,000 sessions a request took 70 ms,
 * and any other name for the server was answered 404. A wildcard URL has no such check; so nng gets the wildcard, and the `bind`
 * that it calls, defined in bind.c, puts the address in its place. Threads: any; an address holds for the calling thread. */
#ifndef MILLRACE_WORKERS_BIND_H
#define MILLRACE_WORKERS_BIND_H

#include <stdbool.h>
#include <sys/socket.h>

/* From now on, a wildcard that this thread binds becomes `address` (the port stays); NULL: no longer. */
void bind_instead_of_wildcard(const struct sockaddr_storage *address);
/* Has that happened since the last call of bind_instead_of_wildcard? */
bool bind_was_replaced(void);
/* Reads an IP address; NULL, '' and 'localhost' are 127.0.0.1. False: it is none. */
bool bind_parse_address(const char *host, struct sockaddr_storage *out_address);

#endif
