/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/status.h"

#include <glib.h>
#include <string.h>

#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "rpc/codec.h"

enum { DETAILS_MAX = 3, DETAIL_BYTES_MAX = 2048 };

/* Space for one detail: struct error bounds all of its texts. */
struct detail {
  Google__Protobuf__Any any;
  uint8_t bytes[DETAIL_BYTES_MAX];
  char type_url[96];
};

static void detail_init(struct detail *detail, const ProtobufCMessage *message) {
  google__protobuf__any__init(&detail->any);
  g_assert(protobuf_c_message_get_packed_size(message) <= sizeof detail->bytes);
  g_snprintf(detail->type_url, sizeof detail->type_url, "type.googleapis.com/%s", message->descriptor->name);
  detail->any.type_url = detail->type_url;
  detail->any.value.data = detail->bytes;
  detail->any.value.len = protobuf_c_message_pack(message, detail->bytes);
}

static void detail_error_info(struct detail *detail, const struct error *error) {
  Google__Rpc__ErrorInfo__MetadataEntry subject = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
  Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&subject};
  Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
  info.reason = (char *)error->reason;
  info.domain = (char *)"millrace";
  if (error->subject[0]) {
    subject.key = (char *)"subject";
    subject.value = (char *)error->subject;
    info.metadata = entries;
    info.n_metadata = 1;
  }
  detail_init(detail, &info.base);
}

static void detail_bad_request(struct detail *detail, const struct error *error) {
  Google__Rpc__BadRequest__FieldViolation violation = GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
  Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
  Google__Rpc__BadRequest request = GOOGLE__RPC__BAD_REQUEST__INIT;
  violation.field = (char *)error->field;
  violation.description = (char *)error->message;
  request.field_violations = violations;
  request.n_field_violations = 1;
  detail_init(detail, &request.base);
}

static void detail_retry_info(struct detail *detail, const struct error *error) {
  Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
  Google__Rpc__RetryInfo info = GOOGLE__RPC__RETRY_INFO__INIT;
  delay.seconds = error->retry_after_ms / 1000;
  delay.nanos = (int32_t)(error->retry_after_ms % 1000 * 1000000);
  info.retry_delay = &delay;
  detail_init(detail, &info.base);
}

void status_trailer_init(struct status_trailer *trailer, const struct error *error) {
  *trailer = (struct status_trailer){.code = GRPC_STATUS_OK, .message = grpc_empty_slice()};
  if (!error)
    return;
  struct detail details[DETAILS_MAX];
  Google__Protobuf__Any *pointers[DETAILS_MAX];
  size_t count = 0;
  if (error->reason[0] || error->subject[0])
    detail_error_info(&details[count++], error);
  if (error->field[0])
    detail_bad_request(&details[count++], error);
  if (error->retry_after_ms > 0)
    detail_retry_info(&details[count++], error);
  trailer->code = (grpc_status_code)error->status;
  trailer->message = grpc_slice_from_copied_string(error->message);
  if (count == 0)
    return;
  for (size_t i = 0; i < count; i++)
    pointers[i] = &details[i].any;
  Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
  status.code = (int32_t)error->status;
  status.message = (char *)error->message;
  status.details = pointers;
  status.n_details = count;
  trailer->details.key = grpc_slice_from_static_string("grpc-status-details-bin");
  trailer->details.value = codec_pack_slice(&status.base);
  trailer->details_count = 1;
}

grpc_op status_trailer_operation(struct status_trailer *trailer) {
  grpc_op operation = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
  operation.data.send_status_from_server.status = trailer->code;
  operation.data.send_status_from_server.status_details = &trailer->message;
  operation.data.send_status_from_server.trailing_metadata = &trailer->details;
  operation.data.send_status_from_server.trailing_metadata_count = trailer->details_count;
  return operation;
}

void status_trailer_fini(struct status_trailer *trailer) {
  grpc_slice_unref(trailer->message);
  if (trailer->details_count > 0)
    grpc_slice_unref(trailer->details.value);
}
