/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h: who is at the other end of a WebSocket: token, address and certificate. Private to the hub. Threads: any. */
#ifndef MILLRACE_WORKERS_PEER_H
#define MILLRACE_WORKERS_PEER_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "core/secret.h"
#include "core/tls.h"

/* Hash of the bearer token in an Authorization header. False: there is none. NULL is fine. */
bool peer_hash_token(const char *authorization, uint8_t out_hash[SECRET_HASH_BYTES]);
/* Tells the guard that the connection from this address is a worker's: see guard_welcome. */
void peer_welcome(const nng_sockaddr *address, size_t idle_bytes, bool gets_jobs);
/* Tells the guard that a message was taken from its connection. */
void peer_give_back(const nng_msg *message);
/* At least TLS 1.2; 1.3 where nng's engine has it. 0 or nng's code. */
int peer_tls_config(const struct tls_texts *texts, nng_tls_config **out_config);

#endif
