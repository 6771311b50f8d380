/* SPDX-License-Identifier: Apache-2.0 */
/* call.h: unary calls with protobuf messages. The asynchronous form is the core; the other one waits for it. gRPC itself tries
 * again when the server can't be reached, as proto/service_config.json says. Threads: any. */
#ifndef MILLRACE_CLIENT_CALL_H
#define MILLRACE_CLIENT_CALL_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>

#include "box.h"
#include "millrace.h"

/* A method: its path and what it answers. */
struct method {
  const char *path;
  const ProtobufCMessageDescriptor *response;
};
#define METHOD(service, name, stem)                                                                                              \
  ((struct method){"/millrace.v1." #service "/" #name, &millrace__v1__##stem##_response__descriptor})

/* Called on the client's thread, exactly once. On success `error` is NULL and `response` lives in `take_box`; otherwise both are
 * NULL. */
typedef void call_done(void *context, struct box *take_box, void *response, const struct millrace_error *error);

/* timeout_ms 0: the client's. */
void call_start(struct millrace_client *client, struct method method, const void *request, int64_t timeout_ms, call_done *done,
                void *context);
/* The same for a request that is packed already, within the client's time. */
void call_start_bytes(struct millrace_client *client, struct method method, const void *bytes, size_t length, call_done *done,
                      void *context);
/* Gives out the response and the box it lives in. */
enum millrace_code call(struct millrace_client *client, struct method method, const void *request, int64_t timeout_ms,
                        struct box **out_box, void *out_response, struct millrace_error *error);

/* FAILED_PRECONDITION in a child of the process that made the client: the threads that would hear the answers are not there. */
enum millrace_code client_check_process(const struct millrace_client *client, struct millrace_error *error);
/* The host to dial for the worker port: 127.0.0.1 for localhost and unix sockets. Free with g_free. */
char *client_dialled_host(const struct millrace_client *client);
/* The name in the server's certificate. */
char *client_server_name(const struct millrace_client *client);
/* For connections besides the client's own. */
const struct tls *client_tls(const struct millrace_client *client);
/* NULL: each create is a call of its own. */
struct coalescer *client_coalescer(const struct millrace_client *client);

/* Shared with stream.c. */
grpc_byte_buffer *call_pack(const ProtobufCMessage *message);
grpc_byte_buffer *call_copy(const void *bytes, size_t length); /* of a message that is packed already */
void *call_unpack(struct box *box, const ProtobufCMessageDescriptor *type, grpc_byte_buffer *buffer);
/* What a call ended with, as an error for people. */
void call_fault(struct millrace_client *client, struct millrace_error *out_error, grpc_status_code code, grpc_slice message,
                const grpc_metadata_array *trailers);

#endif
