/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h: who calls, and whether they may: the only place where roles are compared. Without a table of grants the listener has
 * decided already (loopback, unix sockets, client certificates), and everybody who reaches it may do everything.
 * Threads: any. Errors: STATUS_UNAUTHENTICATED, STATUS_PERMISSION_DENIED. */
#ifndef MILLRACE_RPC_AUTH_H
#define MILLRACE_RPC_AUTH_H

#include "rpc/call.h"

enum { CALLER_BYTES = 160 };

/* Finds the call's grant, if there are grants at all, and compares it with the route. */
enum status auth_allow(const struct route *route, struct call *call, struct error *error) STATUS_CHECK;
/* Replaces the table (taken) and ends the calls under way whose grant is not in the new one. */
void auth_set_grants(struct rpc_server *server, struct grants *take_grants);
/* Ends a lasting call whose grant is not in the table any more. Under the server's lock. */
void auth_check_lasting(const struct call *call);
/* Who called, for people: the name of the grant, else the common name of the certificate, else "-"; and the address. */
void auth_caller(const struct call *call, char out_name[static CALLER_BYTES], char out_address[static CALLER_BYTES]);

#endif
