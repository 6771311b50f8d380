/* SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"
#include "fault.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "json.h"
#include "text.h"

/* Where the reader is; `path` is that of the value at hand, for errors. */
struct reader {
  struct box *box;
  GString *path;
  struct millrace_error *error;
};

static bool read_message(struct reader *self, ProtobufCMessage *message, yajl_val value);

static bool refuse(struct reader *self, const char *what) {
  fault_set(self->error, MILLRACE_INVALID_ARGUMENT, self->path->str, "%s: %s",
            self->path->len ? self->path->str : "the JSON value", what);
  return false;
}

static void write_tree(yajl_gen gen, yajl_val value) {
  if (YAJL_IS_STRING(value)) {
    yajl_gen_string(gen, (const unsigned char *)value->u.string, strlen(value->u.string));
  } else if (YAJL_IS_NUMBER(value)) {
    yajl_gen_number(gen, value->u.number.r, strlen(value->u.number.r));
  } else if (YAJL_IS_OBJECT(value)) {
    yajl_gen_map_open(gen);
    for (size_t i = 0; i < value->u.object.len; i++) {
      yajl_gen_string(gen, (const unsigned char *)value->u.object.keys[i], strlen(value->u.object.keys[i]));
      write_tree(gen, value->u.object.values[i]);
    }
    yajl_gen_map_close(gen);
  } else if (YAJL_IS_ARRAY(value)) {
    yajl_gen_array_open(gen);
    for (size_t i = 0; i < value->u.array.len; i++)
      write_tree(gen, value->u.array.values[i]);
    yajl_gen_array_close(gen);
  } else if (YAJL_IS_NULL(value)) {
    yajl_gen_null(gen);
  } else {
    yajl_gen_bool(gen, YAJL_IS_TRUE(value));
  }
}

/* Before parsing: the tree is freed recursively. */
static bool is_too_deep(const char *text) {
  unsigned depth = 0;
  bool in_string = false;
  for (; *text; text++) {
    if (in_string && *text == '\\' && text[1])
      text++;
    else if (*text == '"')
      in_string = !in_string;
    else if (!in_string && (*text == '[' || *text == '{') && ++depth > JSON_DEPTH_MAX)
      return true;
    else if (!in_string && (*text == ']' || *text == '}') && depth > 0)
      depth--;
  }
  return false;
}

static char *text_of_tree(struct box *box, yajl_val value) {
  yajl_gen gen = yajl_gen_alloc(NULL);
  write_tree(gen, value);
  const unsigned char *text;
  size_t length;
  yajl_gen_get_buf(gen, &text, &length);
  char *copy = box_alloc(box, length + 1);
  memcpy(copy, text, length);
  yajl_gen_free(gen);
  return copy;
}

static bool read_bytes(struct reader *self, ProtobufCBinaryData *out, yajl_val value) {
  if (!YAJL_IS_STRING(value))
    return refuse(self, "must be bytes in base64");
  gsize length;
  g_autofree guchar *bytes = g_base64_decode(value->u.string, &length);
  if (length == 0 && *value->u.string)
    return refuse(self, "is not base64");
  out->len = length;
  out->data = box_alloc(self->box, length + 1);
  memcpy(out->data, bytes, length);
  return true;
}

static bool read_payload(struct reader *self, Millrace__V1__Payload *payload, yajl_val value) {
  if (!YAJL_IS_OBJECT(value))
    return refuse(self, "must be {\"json\": …} or {\"data\": \"<base64>\"}");
  for (size_t i = 0; i < value->u.object.len; i++) {
    const char *key = value->u.object.keys[i];
    yajl_val content = value->u.object.values[i];
    if (strcmp(key, "content_type") == 0 && YAJL_IS_STRING(content)) {
      payload->content_type = box_strdup(self->box, content->u.string);
    } else if (strcmp(key, "json") == 0) {
      payload->content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
      payload->json = text_of_tree(self->box, content);
    } else if (strcmp(key, "data") == 0) {
      payload->content_case = MILLRACE__V1__PAYLOAD__CONTENT_DATA;
      if (!read_bytes(self, &payload->data, content))
        return false;
    } else {
      return refuse(self, "must be {\"json\": …} or {\"data\": \"<base64>\"}");
    }
  }
  return true;
}

static bool read_number(struct reader *self, const ProtobufCFieldDescriptor *field, void *at, yajl_val value) {
  const char *text = YAJL_IS_NUMBER(value) ? value->u.number.r : YAJL_IS_STRING(value) ? value->u.string : "";
  gint64 number;
  guint64 natural;
  bool ok;
  switch (field->type) {
  case PROTOBUF_C_TYPE_INT32:
    ok = g_ascii_string_to_signed(text, 10, INT32_MIN, INT32_MAX, &number, NULL);
    if (ok)
      *(int32_t *)at = (int32_t)number;
    return ok || refuse(self, "must be a whole number");
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
    ok = g_ascii_string_to_signed(text, 10, INT64_MIN, INT64_MAX, &number, NULL);
    if (ok)
      *(int64_t *)at = number;
    return ok || refuse(self, "must be a whole number");
  case PROTOBUF_C_TYPE_UINT32:
    ok = g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX, &natural, NULL);
    if (ok)
      *(uint32_t *)at = (uint32_t)natural;
    return ok || refuse(self, "must be a whole number from 0 to 4294967295");
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    ok = g_ascii_string_to_unsigned(text, 10, 0, UINT64_MAX, &natural, NULL);
    if (ok)
      *(uint64_t *)at = natural;
    return ok || refuse(self, "must be a whole number from 0");
  default: /* double */
    if (!YAJL_IS_NUMBER(value))
      return refuse(self, "must be a number");
    *(double *)at = g_ascii_strtod(text, NULL);
    return true;
  }
}

static bool read_enum(struct reader *self, const ProtobufCEnumDescriptor *type, int *out, yajl_val value) {
  if (YAJL_IS_STRING(value))
    for (unsigned i = 0; i < type->n_values; i++) {
      const char *full = type->values[i].name;
      if (strcmp(full, value->u.string) == 0 ||
          g_ascii_strcasecmp(convert_enum_name(type, type->values[i].value), value->u.string) == 0) {
        *out = type->values[i].value;
        return true;
      }
    }
  GString *names = g_string_new("must be one of");
  for (unsigned i = 0; i < type->n_values; i++)
    if (type->values[i].value != 0)
      g_string_append_printf(names, " %s", convert_enum_name(type, type->values[i].value));
  refuse(self, names->str);
  g_string_free(names, TRUE);
  return false;
}

static bool read_one(struct reader *self, const ProtobufCFieldDescriptor *field, void *at, yajl_val value) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_BOOL:
    if (!YAJL_IS_TRUE(value) && !YAJL_IS_FALSE(value))
      return refuse(self, "must be true or false");
    *(protobuf_c_boolean *)at = YAJL_IS_TRUE(value);
    return true;
  case PROTOBUF_C_TYPE_STRING:
    if (!YAJL_IS_STRING(value))
      return refuse(self, "must be a string");
    *(char **)at = box_strdup(self->box, value->u.string);
    return true;
  case PROTOBUF_C_TYPE_BYTES:
    return (json_bytes && json_bytes->read(self->box, field, value, at)) || read_bytes(self, at, value);
  case PROTOBUF_C_TYPE_ENUM:
    return read_enum(self, field->descriptor, at, value);
  case PROTOBUF_C_TYPE_MESSAGE: {
    ProtobufCMessage *message = convert_message(self->box, field->descriptor);
    *(ProtobufCMessage **)at = message;
    return read_message(self, message, value);
  }
  default:
    return read_number(self, field, at, value);
  }
}

static bool read_map(struct reader *self, const ProtobufCFieldDescriptor *field, void *at, size_t *count, yajl_val value) {
  if (!YAJL_IS_OBJECT(value))
    return refuse(self, "must be an object of strings");
  size_t length = value->u.object.len;
  struct millrace_label *labels = box_alloc(self->box, length * sizeof *labels);
  for (size_t i = 0; i < length; i++) {
    if (!YAJL_IS_STRING(value->u.object.values[i]))
      return refuse(self, "must be an object of strings");
    labels[i] = (struct millrace_label){box_strdup(self->box, value->u.object.keys[i]),
                                        box_strdup(self->box, value->u.object.values[i]->u.string)};
  }
  *count = length;
  *(void **)at = convert_labels(self->box, labels, length, field->descriptor);
  return true;
}

static bool read_repeated(struct reader *self, const ProtobufCFieldDescriptor *field, void *at, size_t *count, yajl_val value) {
  if (json_is_map(field))
    return read_map(self, field, at, count, value);
  if (!YAJL_IS_ARRAY(value))
    return refuse(self, "must be a list");
  size_t element_bytes = json_element_bytes(field);
  char *elements = box_alloc(self->box, value->u.array.len * element_bytes);
  *(void **)at = elements;
  *count = value->u.array.len;
  size_t path_length = self->path->len;
  for (size_t i = 0; i < value->u.array.len; i++) {
    g_string_append_printf(self->path, "[%zu]", i);
    if (!read_one(self, field, elements + i * element_bytes, value->u.array.values[i]))
      return false;
    g_string_truncate(self->path, path_length);
  }
  return true;
}

static bool read_field(struct reader *self, ProtobufCMessage *message, const char *name, yajl_val value) {
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
  if (!field)
    return refuse(self, "there is no such field");
  void *at = (char *)message + field->offset;
  void *quantifier = (char *)message + field->quantifier_offset;
  if (field->label == PROTOBUF_C_LABEL_REPEATED)
    return read_repeated(self, field, at, quantifier, value);
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
    uint32_t *which = quantifier;
    if (*which != 0 && *which != field->id)
      return refuse(self, "another field of the same choice is set too");
    *which = field->id;
  }
  return read_one(self, field, at, value);
}

static bool read_fields(struct reader *self, ProtobufCMessage *message, yajl_val value) {
  size_t path_length = self->path->len;
  for (size_t i = 0; i < value->u.object.len; i++) {
    if (YAJL_IS_NULL(value->u.object.values[i]))
      continue;
    g_string_append_printf(self->path, "%s%s", path_length ? "." : "", value->u.object.keys[i]);
    if (!read_field(self, message, value->u.object.keys[i], value->u.object.values[i]))
      return false;
    g_string_truncate(self->path, path_length);
  }
  return true;
}

static bool read_message(struct reader *self, ProtobufCMessage *message, yajl_val value) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  int64_t ms;
  if (type == &google__protobuf__timestamp__descriptor) {
    if (!YAJL_IS_STRING(value) || !text_parse_time(value->u.string, &ms))
      return refuse(self, "must be a time such as \"2026-03-01T12:00:00Z\"");
    Google__Protobuf__Timestamp *time = convert_time(self->box, ms);
    if (time)
      *(Google__Protobuf__Timestamp *)message = *time;
    return true;
  }
  if (type == &google__protobuf__duration__descriptor) {
    const char *text = YAJL_IS_STRING(value) ? value->u.string : YAJL_IS_NUMBER(value) ? value->u.number.r : "";
    if (!text_parse_duration(text, &ms))
      return refuse(self, "must be a duration such as \"90s\" or \"2h\"");
    *(Google__Protobuf__Duration *)message = *convert_duration(self->box, ms ? ms : MILLRACE_ZERO);
    return true;
  }
  if (type == &millrace__v1__payload__descriptor)
    return read_payload(self, (Millrace__V1__Payload *)message, value);
  if (g_str_has_prefix(type->name, "google.protobuf.") && type->n_fields == 1)
    return read_one(self, &type->fields[0], (char *)message + type->fields[0].offset, value);
  if (!YAJL_IS_OBJECT(value))
    return refuse(self, "must be an object");
  return read_fields(self, message, value);
}

enum millrace_code json_read_value(struct box *box, const ProtobufCMessageDescriptor *type, yajl_val value, void *out_message,
                                   struct millrace_error *error) {
  struct reader reader = {.box = box, .path = g_string_new(NULL), .error = error};
  ProtobufCMessage *message = convert_message(box, type);
  bool ok = read_message(&reader, message, value);
  g_string_free(reader.path, TRUE);
  if (!ok)
    return MILLRACE_INVALID_ARGUMENT;
  *(void **)out_message = message;
  return MILLRACE_OK;
}

yajl_val json_parse(const char *text, char *out_problem, size_t problem_bytes) {
  *out_problem = '\0';
  return is_too_deep(text) ? NULL : yajl_tree_parse(text, out_problem, problem_bytes);
}

enum millrace_code json_read(struct box *box, const ProtobufCMessageDescriptor *type, const char *text, void *out_message,
                             struct millrace_error *error) {
  /* The tree keeps strings without their length: a NUL in one would cut it short unnoticed. */
  if (strstr(text, "\\u0000"))
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, NULL,
                     "the JSON has a string with \\u0000 in it, which can't be handed on");
  char problem[256];
  yajl_val tree = json_parse(text, problem, sizeof problem);
  if (!tree && !problem[0])
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, NULL, "the JSON is nested more than %d deep", JSON_DEPTH_MAX);
  if (!tree)
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, NULL, "not JSON: %s", g_strstrip(problem));
  enum millrace_code code = json_read_value(box, type, tree, out_message, error);
  yajl_tree_free(tree);
  return code;
}
