/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: how a call ends on the wire: code, sentence, and google.rpc.Status details in the trailer grpc-status-details-bin
 * (ErrorInfo, BadRequest, RetryInfo), made from a struct error. Threads: any. */
#ifndef MILLRACE_RPC_STATUS_H
#define MILLRACE_RPC_STATUS_H

#include <grpc/grpc.h>

#include "core/error.h"

/* Must stay where it is until the operation that uses it is over. */
struct status_trailer {
  grpc_status_code code;
  grpc_slice message;
  grpc_metadata details;
  size_t details_count; /* 0: nothing to tell beyond code and sentence */
};

/* error NULL: OK. */
void status_trailer_init(struct status_trailer *trailer, const struct error *error);
/* The operation that sends it. */
grpc_op status_trailer_operation(struct status_trailer *trailer);
void status_trailer_fini(struct status_trailer *trailer);

#endif
