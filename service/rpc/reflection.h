/* SPDX-License-Identifier: Apache-2.0 */
/* reflection.h: grpc.reflection v1 and v1alpha (the same messages under two names), answered from the embedded descriptor set, so
 * that grpcurl needs no .proto files. Files are passed on byte for byte, each with all that it imports. Threads: any after
 * reflection_new. */
#ifndef MILLRACE_RPC_REFLECTION_H
#define MILLRACE_RPC_REFLECTION_H

#include "rpc/call.h"

struct reflection *reflection_new(void);
void reflection_free(struct reflection *reflection); /* NULL is fine */
bool reflection_has_service(const struct reflection *reflection, const char *name);

/* `path` tells the version. */
void reflection_route(struct route *route, const char *path);

#endif
