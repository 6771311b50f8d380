/* SPDX-License-Identifier: Apache-2.0 */
#include "core/error.h"

#include <glib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Like g_strlcpy, but never leaves half a character, not even where a format has cut one: these texts go into protobuf strings,
 * which must be valid UTF-8. */
static void copy_text(char *out, size_t out_bytes, const char *text) {
  if (!g_utf8_validate(text, -1, NULL)) {
    char *valid = g_utf8_make_valid(text, -1);
    copy_text(out, out_bytes, valid);
    g_free(valid);
    return;
  }
  size_t length = strlen(text);
  if (length >= out_bytes) {
    length = out_bytes - 1;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
      length--;
  }
  memmove(out, text, length);
  out[length] = '\0';
}

/* The longest text made here before it is cut to its field's size. */
enum { FORMATTED_BYTES = 1024 };

enum status error_set(struct error *error, enum status status, const char *field, const char *format, ...) {
  if (!error)
    return status;
  char text[FORMATTED_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  /* Through a copy: an argument may be a part of *error itself. */
  char at[sizeof error->field];
  copy_text(at, sizeof at, field ? field : "");
  error->status = status;
  error->retry_after_ms = 0;
  error->reason[0] = '\0';
  error->subject[0] = '\0';
  copy_text(error->field, sizeof error->field, at);
  copy_text(error->message, sizeof error->message, text);
  return status;
}

enum status error_reason(struct error *error, const char *reason, const char *subject) {
  g_assert(error);
  if (reason)
    copy_text(error->reason, sizeof error->reason, reason);
  if (subject)
    copy_text(error->subject, sizeof error->subject, subject);
  return error->status;
}

void error_prefix_field(struct error *error, const char *format, ...) {
  if (!error)
    return;
  char text[FORMATTED_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text - sizeof error->field, format, arguments);
  va_end(arguments);
  size_t length = strlen(text);
  if (!error->field[0] && length > 0 && text[length - 1] == '.') /* nothing is inside */
    text[length - 1] = '\0';
  g_strlcat(text, error->field, sizeof text);
  copy_text(error->field, sizeof error->field, text);
}

const char *status_name(enum status status) {
  switch (status) {
  case STATUS_OK:
    return "OK";
  case STATUS_CANCELLED:
    return "CANCELLED";
  case STATUS_INVALID_ARGUMENT:
    return "INVALID_ARGUMENT";
  case STATUS_DEADLINE_EXCEEDED:
    return "DEADLINE_EXCEEDED";
  case STATUS_NOT_FOUND:
    return "NOT_FOUND";
  case STATUS_ALREADY_EXISTS:
    return "ALREADY_EXISTS";
  case STATUS_PERMISSION_DENIED:
    return "PERMISSION_DENIED";
  case STATUS_RESOURCE_EXHAUSTED:
    return "RESOURCE_EXHAUSTED";
  case STATUS_FAILED_PRECONDITION:
    return "FAILED_PRECONDITION";
  case STATUS_UNIMPLEMENTED:
    return "UNIMPLEMENTED";
  case STATUS_INTERNAL:
    return "INTERNAL";
  case STATUS_UNAVAILABLE:
    return "UNAVAILABLE";
  case STATUS_DATA_LOSS:
    return "DATA_LOSS";
  case STATUS_UNAUTHENTICATED:
    return "UNAUTHENTICATED";
  }
  return "UNKNOWN";
}
