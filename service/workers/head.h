/* SPDX-License-Identifier: Apache-2.0 */
/* head.h: what nng gets of the heads of HTTP requests that strangers send: an underscore for each percent sign, as nng 1.5
 * decodes a path that ends in %XX beyond its end, and no path of ours has one; and where only one request is wanted, nothing
 * behind its head, which ends with the first empty line. A line feed alone ends a line, as for nng. Private to the guard.
 * Threads: the guard's mutex. Errors: none. */
#ifndef MILLRACE_WORKERS_HEAD_H
#define MILLRACE_WORKERS_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* All zero but `is_only`: nothing was read. */
struct head {
  bool is_only; /* no other one is wanted behind it */
  bool is_in_line;
  bool is_over; /* it is the only one, and all of it was read */
};

/* Goes on with the first `length` bytes of these parts, and changes them. Returns how many of them nng gets. */
size_t head_filter(struct head *head, const struct iovec *parts, size_t length);

#endif
