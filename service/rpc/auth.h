/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h: who may call what. Today the listener decides (loopback and unix sockets unless --insecure), and everybody who reaches
 * it may do everything; roles of tokens are checked here and nowhere else. Threads: any. Errors: STATUS_UNAUTHENTICATED,
 * STATUS_PERMISSION_DENIED. */
#ifndef MILLRACE_RPC_AUTH_H
#define MILLRACE_RPC_AUTH_H

#include "rpc/call.h"

enum status auth_allow(const struct route *route, const struct call *call, struct error *error) STATUS_CHECK;

#endif
