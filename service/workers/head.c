/* SPDX-License-Identifier: Apache-2.0 */
#include "workers/head.h"

#include <glib.h>

static void filter(struct head *head, char *byte) {
  if (*byte == '%')
    *byte = '_';
  if (*byte == '\n')
    head->is_over = head->is_only && !head->is_in_line;
  if (*byte != '\r')
    head->is_in_line = *byte != '\n';
}

size_t head_filter(struct head *head, const struct iovec *parts, size_t length) {
  size_t kept = 0;
  for (; kept < length && !head->is_over; parts++) {
    size_t end = kept + MIN(parts->iov_len, length - kept);
    for (char *byte = parts->iov_base; kept < end && !head->is_over; kept++)
      filter(head, byte++);
  }
  return kept;
}
