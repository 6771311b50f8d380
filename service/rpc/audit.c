/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/audit.h"

#include <string.h>

#include "rpc/auth.h"

/* What the request is about, as far as one field can say it. */
static const char *target_of(const ProtobufCMessage *message) {
  static const char *const names[] = {"name", "session_id", "id"};
  for (size_t i = 0; message && i < G_N_ELEMENTS(names); i++) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, names[i]);
    if (field && field->type == PROTOBUF_C_TYPE_STRING && field->label != PROTOBUF_C_LABEL_REPEATED)
      return *(char *const *)(const void *)((const uint8_t *)message + field->offset);
  }
  return "";
}

static void tell(const struct call *call, const char *event, const char *target, const struct error *error) {
  const struct rpc_audience *audience = &call->route->server->audience;
  char who[CALLER_BYTES], from[CALLER_BYTES];
  if (!audience->tell)
    return;
  auth_caller(call, who, from);
  const char *package_end = call->route->path ? strrchr(call->route->path, '.') : NULL;
  const struct rpc_record record = {
      .event = event,
      .who = who,
      .from = from,
      .method = package_end ? package_end + 1 : "",
      .target = target,
      .result = error ? status_name(error->status) : "OK",
      .reason = error ? error->message : "",
  };
  audience->tell(audience->context, &record);
}

/* Also what workers may do themselves, but is told of others. */
static bool is_administrative(const struct route *route) {
  return route->role == ROLE_ADMIN || strcmp(route->path, "/millrace.v1.WorkerService/QuietWorker") == 0;
}

void audit_action(const struct call *call, const struct request *request, const struct error *error) {
  if (is_administrative(call->route))
    tell(call, "audit", target_of(request->message), error);
}

void audit_refusal(const struct call *call, const struct error *error) {
  static gint second, count;
  gint now = (gint)(g_get_monotonic_time() / G_USEC_PER_SEC);
  if (g_atomic_int_get(&second) != now) {
    g_atomic_int_set(&second, now);
    g_atomic_int_set(&count, 0);
  }
  if (g_atomic_int_add(&count, 1) < REFUSALS_PER_SECOND_MAX)
    tell(call, "call_refused", "", error);
}
