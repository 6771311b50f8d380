/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <glib.h>
#include <stdarg.h>
#include <stdio.h>

#include "google/rpc/error_details.pb-c.h"

const char *millrace_code_name(enum millrace_code code) {
  static const char *const names[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  return (size_t)code < G_N_ELEMENTS(names) ? names[code] : "UNKNOWN";
}

const char *millrace_version(void) {
  return MILLRACE_VERSION;
}

enum millrace_code fault_set(struct millrace_error *error, enum millrace_code code, const char *field, const char *format, ...) {
  if (!error)
    return code;
  *error = (struct millrace_error){.code = code};
  if (field)
    g_strlcpy(error->field, field, sizeof error->field);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return code;
}

enum millrace_code fault_copy(struct millrace_error *error, const struct millrace_error *from) {
  if (error)
    *error = *from;
  return from->code;
}

static bool is_type(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *type) {
  const char *slash = strrchr(any->type_url, '/');
  return strcmp(slash ? slash + 1 : any->type_url, type->name) == 0;
}

static void take_info(struct millrace_error *error, const Google__Rpc__ErrorInfo *info) {
  g_strlcpy(error->reason, info->reason, sizeof error->reason);
  for (size_t i = 0; i < info->n_metadata; i++) {
    const char *key = info->metadata[i]->key;
    if (strcmp(key, "subject") == 0 || error->subject[0] == '\0')
      g_strlcpy(error->subject, info->metadata[i]->value, sizeof error->subject);
  }
}

static void take_detail(struct millrace_error *error, const Google__Protobuf__Any *any) {
  if (is_type(any, &google__rpc__error_info__descriptor)) {
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(NULL, any->value.len, any->value.data);
    if (info)
      take_info(error, info);
    google__rpc__error_info__free_unpacked(info, NULL);
  } else if (is_type(any, &google__rpc__bad_request__descriptor)) {
    Google__Rpc__BadRequest *bad = google__rpc__bad_request__unpack(NULL, any->value.len, any->value.data);
    if (bad && bad->n_field_violations > 0)
      g_strlcpy(error->field, bad->field_violations[0]->field, sizeof error->field);
    google__rpc__bad_request__free_unpacked(bad, NULL);
  } else if (is_type(any, &google__rpc__retry_info__descriptor)) {
    Google__Rpc__RetryInfo *retry = google__rpc__retry_info__unpack(NULL, any->value.len, any->value.data);
    if (retry && retry->retry_delay)
      error->retry_after_ms = retry->retry_delay->seconds * 1000 + retry->retry_delay->nanos / 1000000;
    google__rpc__retry_info__free_unpacked(retry, NULL);
  }
}

void fault_from_status(struct millrace_error *error, const Google__Rpc__Status *status) {
  *error = (struct millrace_error){.code = (enum millrace_code)status->code};
  g_strlcpy(error->message, status->message, sizeof error->message);
  for (size_t i = 0; i < status->n_details; i++)
    take_detail(error, status->details[i]);
}
