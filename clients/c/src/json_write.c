/* SPDX-License-Identifier: Apache-2.0 */
#include <yajl/yajl_parse.h>

#include "convert.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "json.h"
#include "text.h"

const struct json_bytes *json_bytes;

/* A value of a field: what its offset points at, or one element of a repeated field. */
static void write_value(yajl_gen gen, const ProtobufCFieldDescriptor *field, const void *at);

static void write_text(yajl_gen gen, const char *text) {
  yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void write_bytes(yajl_gen gen, const ProtobufCBinaryData *bytes) {
  g_autofree char *text = g_base64_encode(bytes->data, bytes->len);
  write_text(gen, text);
}

static void write_unsigned(yajl_gen gen, uint64_t value) {
  char text[24];
  g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, value);
  yajl_gen_number(gen, text, strlen(text));
}

static void write_double(yajl_gen gen, double value) {
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  for (int digits = 15; digits <= 17; digits += 2) {
    char format[8];
    g_snprintf(format, sizeof format, "%%.%dg", digits);
    g_ascii_formatd(text, sizeof text, format, value);
    if (g_ascii_strtod(text, NULL) == value)
      break;
  }
  yajl_gen_number(gen, text, strlen(text));
}

static void write_payload(yajl_gen gen, const Millrace__V1__Payload *payload) {
  yajl_gen_map_open(gen);
  if (*payload->content_type) {
    write_text(gen, "content_type");
    write_text(gen, payload->content_type);
  }
  if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON) {
    g_autofree char *value = json_compact(payload->json, strlen(payload->json));
    write_text(gen, "json");
    /* Goes out as it is: the value itself. */
    yajl_gen_number(gen, value ? value : "null", strlen(value ? value : "null"));
  } else if (payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_DATA) {
    write_text(gen, "data");
    write_bytes(gen, &payload->data);
  }
  yajl_gen_map_close(gen);
}

static void write_status(yajl_gen gen, const Google__Rpc__Status *status) {
  g_autofree char *code = g_ascii_strdown(millrace_code_name((enum millrace_code)status->code), -1);
  yajl_gen_map_open(gen);
  write_text(gen, "code");
  write_text(gen, code);
  write_text(gen, "message");
  write_text(gen, status->message);
  yajl_gen_map_close(gen);
}

static bool is_wrapper(const ProtobufCMessageDescriptor *type) {
  return g_str_has_prefix(type->name, "google.protobuf.") && g_str_has_suffix(type->name, "Value") && type->n_fields == 1;
}

void json_write(yajl_gen gen, const ProtobufCMessage *message) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  char text[TEXT_TIME_BYTES];
  if (type == &google__protobuf__timestamp__descriptor) {
    text_format_time(convert_from_time((const Google__Protobuf__Timestamp *)message), text);
    write_text(gen, text);
  } else if (type == &google__protobuf__duration__descriptor) {
    text_format_duration(convert_from_duration((const Google__Protobuf__Duration *)message), text);
    write_text(gen, text);
  } else if (type == &millrace__v1__payload__descriptor) {
    write_payload(gen, (const Millrace__V1__Payload *)message);
  } else if (type == &google__rpc__status__descriptor) {
    write_status(gen, (const Google__Rpc__Status *)message);
  } else if (is_wrapper(type)) {
    write_value(gen, &type->fields[0], (const char *)message + type->fields[0].offset);
  } else {
    yajl_gen_map_open(gen);
    for (unsigned i = 0; i < type->n_fields; i++) {
      const ProtobufCFieldDescriptor *field = &type->fields[i];
      const char *at = (const char *)message + field->offset;
      const void *quantifier = (const char *)message + field->quantifier_offset;
      bool is_repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
      if (is_repeated && *(const size_t *)quantifier == 0)
        continue;
      if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && *(const uint32_t *)quantifier != field->id)
        continue;
      bool is_empty = (field->type == PROTOBUF_C_TYPE_MESSAGE && !*(void *const *)at) ||
                      (field->type == PROTOBUF_C_TYPE_STRING && !is_repeated && !**(char *const *)at) ||
                      (field->type == PROTOBUF_C_TYPE_BYTES && !is_repeated && ((const ProtobufCBinaryData *)at)->len == 0) ||
                      (field->type == PROTOBUF_C_TYPE_ENUM && !is_repeated && *(const int *)at == 0);
      if (is_empty)
        continue;
      write_text(gen, field->name);
      write_value(gen, field, at);
    }
    yajl_gen_map_close(gen);
  }
}

static void write_one(yajl_gen gen, const ProtobufCFieldDescriptor *field, const void *at) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_BOOL:
    yajl_gen_bool(gen, *(const protobuf_c_boolean *)at);
    break;
  case PROTOBUF_C_TYPE_INT32:
    yajl_gen_integer(gen, *(const int32_t *)at);
    break;
  case PROTOBUF_C_TYPE_UINT32:
    yajl_gen_integer(gen, *(const uint32_t *)at);
    break;
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
    yajl_gen_integer(gen, *(const int64_t *)at);
    break;
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    write_unsigned(gen, *(const uint64_t *)at);
    break;
  case PROTOBUF_C_TYPE_DOUBLE:
    write_double(gen, *(const double *)at);
    break;
  case PROTOBUF_C_TYPE_ENUM:
    write_text(gen, convert_enum_name(field->descriptor, *(const int *)at));
    break;
  case PROTOBUF_C_TYPE_STRING:
    write_text(gen, *(char *const *)at);
    break;
  case PROTOBUF_C_TYPE_BYTES:
    if (!json_bytes || !json_bytes->write(gen, field, at))
      write_bytes(gen, at);
    break;
  case PROTOBUF_C_TYPE_MESSAGE:
    json_write(gen, *(ProtobufCMessage *const *)at);
    break;
  default:
    g_assert_not_reached(); /* the API has no other types */
  }
}

bool json_is_map(const ProtobufCFieldDescriptor *field) {
  const ProtobufCMessageDescriptor *type = field->descriptor;
  return field->type == PROTOBUF_C_TYPE_MESSAGE && g_str_has_suffix(type->name, "Entry") &&
         strcmp(type->fields[0].name, "key") == 0;
}

size_t json_element_bytes(const ProtobufCFieldDescriptor *field) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_ENUM:
    return sizeof(int);
  case PROTOBUF_C_TYPE_INT64:
    return sizeof(int64_t);
  case PROTOBUF_C_TYPE_BYTES:
    return sizeof(ProtobufCBinaryData);
  case PROTOBUF_C_TYPE_MESSAGE:
  case PROTOBUF_C_TYPE_STRING:
    return sizeof(void *);
  default:
    g_assert_not_reached(); /* the API repeats nothing else */
  }
}

static void write_value(yajl_gen gen, const ProtobufCFieldDescriptor *field, const void *at) {
  if (field->label != PROTOBUF_C_LABEL_REPEATED) {
    write_one(gen, field, at);
    return;
  }
  const char *elements = *(void *const *)at;
  size_t count = *(const size_t *)((const char *)at - field->offset + field->quantifier_offset);
  if (json_is_map(field)) {
    yajl_gen_map_open(gen);
    for (size_t i = 0; i < count; i++) {
      const Millrace__V1__Job__LabelsEntry *entry = ((Millrace__V1__Job__LabelsEntry *const *)elements)[i];
      write_text(gen, entry->key);
      write_text(gen, entry->value);
    }
    yajl_gen_map_close(gen);
    return;
  }
  yajl_gen_array_open(gen);
  for (size_t i = 0; i < count; i++)
    write_one(gen, field, elements + i * json_element_bytes(field));
  yajl_gen_array_close(gen);
}

static char *take_text(yajl_gen gen) {
  const unsigned char *text;
  size_t length;
  yajl_gen_get_buf(gen, &text, &length);
  char *copy = g_strndup((const char *)text, length);
  yajl_gen_free(gen);
  return copy;
}

char *json_text(const ProtobufCMessage *message, bool pretty) {
  yajl_gen gen = yajl_gen_alloc(NULL);
  yajl_gen_config(gen, yajl_gen_beautify, pretty);
  yajl_gen_config(gen, yajl_gen_indent_string, "  ");
  json_write(gen, message);
  return take_text(gen);
}

/* ---- from JSON to the same JSON without blanks ---- */

static int copy_null(void *gen) {
  return yajl_gen_null(gen) == yajl_gen_status_ok;
}
static int copy_boolean(void *gen, int value) {
  return yajl_gen_bool(gen, value) == yajl_gen_status_ok;
}
static int copy_number(void *gen, const char *text, size_t length) {
  return yajl_gen_number(gen, text, length) == yajl_gen_status_ok;
}
static int copy_string(void *gen, const unsigned char *text, size_t length) {
  return yajl_gen_string(gen, text, length) == yajl_gen_status_ok;
}
static int copy_map_open(void *gen) {
  return yajl_gen_map_open(gen) == yajl_gen_status_ok;
}
static int copy_map_close(void *gen) {
  return yajl_gen_map_close(gen) == yajl_gen_status_ok;
}
static int copy_array_open(void *gen) {
  return yajl_gen_array_open(gen) == yajl_gen_status_ok;
}
static int copy_array_close(void *gen) {
  return yajl_gen_array_close(gen) == yajl_gen_status_ok;
}

char *json_compact(const char *text, size_t length) {
  static const yajl_callbacks copy = {.yajl_null = copy_null,
                                      .yajl_boolean = copy_boolean,
                                      .yajl_number = copy_number,
                                      .yajl_string = copy_string,
                                      .yajl_start_map = copy_map_open,
                                      .yajl_map_key = copy_string,
                                      .yajl_end_map = copy_map_close,
                                      .yajl_start_array = copy_array_open,
                                      .yajl_end_array = copy_array_close};
  yajl_gen gen = yajl_gen_alloc(NULL);
  yajl_handle parser = yajl_alloc(&copy, NULL, gen);
  bool ok =
      yajl_parse(parser, (const unsigned char *)text, length) == yajl_status_ok && yajl_complete_parse(parser) == yajl_status_ok;
  yajl_free(parser);
  char *compact = take_text(gen);
  if (ok)
    return compact;
  g_free(compact);
  return NULL;
}

bool json_is_valid(const char *text, size_t length) {
  yajl_handle parser = yajl_alloc(NULL, NULL, NULL);
  bool ok =
      yajl_parse(parser, (const unsigned char *)text, length) == yajl_status_ok && yajl_complete_parse(parser) == yajl_status_ok;
  yajl_free(parser);
  return ok;
}
