/* SPDX-License-Identifier: Apache-2.0 */
/* secure.h: the certificates of the gRPC ports. libgrpc asks for them at each new connection, so they can be replaced at any
 * time; connections that stand keep what they began with. At least TLS 1.2. Threads: any. */
#ifndef MILLRACE_RPC_SECURE_H
#define MILLRACE_RPC_SECURE_H

#include <grpc/grpc_security.h>

#include "core/tls.h"

struct secure;

/* Copies the texts. */
struct secure *secure_new(const struct tls_texts *texts);
void secure_set(struct secure *secure, const struct tls_texts *texts);
/* Once no port uses it any more. NULL is fine. */
void secure_free(struct secure *secure);
/* For one port; the caller releases it. */
grpc_server_credentials *secure_credentials(struct secure *secure);

#endif
