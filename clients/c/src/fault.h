/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h: fills struct millrace_error, by hand or from what a server answered (grpc-status-details-bin). */
#ifndef MILLRACE_CLIENT_FAULT_H
#define MILLRACE_CLIENT_FAULT_H

#include "google/rpc/status.pb-c.h"
#include "millrace.h"

/* Fills *error (NULL is fine) and returns `code`. `field` may be NULL. */
enum millrace_code fault_set(struct millrace_error *error, enum millrace_code code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Copies a fault to the caller's struct (NULL is fine) and returns its code. */
enum millrace_code fault_copy(struct millrace_error *error, const struct millrace_error *from);
/* From the details of a status; its own code and message count. */
void fault_from_status(struct millrace_error *error, const Google__Rpc__Status *status);

#endif
