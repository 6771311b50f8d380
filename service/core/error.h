/* SPDX-License-Identifier: Apache-2.0 */
/* error.h: how every part says that something went wrong. `enum status` tells a program what to do (the values are gRPC's),
 * `struct error` tells a person what was wrong, where, and what would be right. A function either handles an error or returns it;
 * library layers never log, print or exit. Threads: values only, no shared state. */
#ifndef MILLRACE_CORE_ERROR_H
#define MILLRACE_CORE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

enum status {
  STATUS_OK = 0,
  STATUS_CANCELLED = 1,
  STATUS_INVALID_ARGUMENT = 3,
  STATUS_DEADLINE_EXCEEDED = 4,
  STATUS_NOT_FOUND = 5,
  STATUS_ALREADY_EXISTS = 6,
  STATUS_PERMISSION_DENIED = 7,
  STATUS_RESOURCE_EXHAUSTED = 8,
  STATUS_FAILED_PRECONDITION = 9,
  STATUS_UNIMPLEMENTED = 12,
  STATUS_INTERNAL = 13,
  STATUS_UNAVAILABLE = 14,
  STATUS_DATA_LOSS = 15,
  STATUS_UNAUTHENTICATED = 16,
};

#define STATUS_CHECK __attribute__((warn_unused_result))

/* The caller owns it; it holds no pointers. Undefined after STATUS_OK. */
struct error {
  enum status status;
  int64_t retry_after_ms; /* 0: no advice */
  char field[192];        /* path of the field at fault, such as "jobs[3].task"; empty: none */
  char reason[48];        /* constant for programs, such as "JOB_DELETED"; empty: none */
  char subject[64];       /* id or name of the object in the way; empty: none */
  char message[640];      /* a sentence */
};

/* Fills *error (which may be NULL) and returns `status`, so that one can write `return error_set(...)`. `field` may be NULL. */
enum status error_set(struct error *error, enum status status, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds the reason and the subject (either may be NULL) to an error already set. Returns its status. */
enum status error_reason(struct error *error, const char *reason, const char *subject);

/* Puts a prefix (such as "jobs[3].") before the field; its closing dot is left out when there is none. */
void error_prefix_field(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "INVALID_ARGUMENT" and so on; a constant string. */
const char *status_name(enum status status);

#endif
