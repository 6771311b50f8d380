/* SPDX-License-Identifier: Apache-2.0 */
/* audit.h: tells the server's audience who did what: each administrative action with its outcome, and each call that was refused
 * to its caller (at most REFUSALS_PER_SECOND_MAX: a flood of them must not become a flood of log lines). Never a payload, a token
 * or another header. Threads: any. */
#ifndef MILLRACE_RPC_AUDIT_H
#define MILLRACE_RPC_AUDIT_H

#include "rpc/call.h"

enum { REFUSALS_PER_SECOND_MAX = 10 };

/* The request was answered; error NULL: it was done. Nothing is told of a method that is not administrative. */
void audit_action(const struct call *call, const struct request *request, const struct error *error);
void audit_refusal(const struct call *call, const struct error *error);

#endif
