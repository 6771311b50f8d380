/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include "cli.h"
#include "store/implied.h"

/* ---- bytes within records ---- */

static const struct {
  const ProtobufCMessageDescriptor *record;
  const char *field;
  const ProtobufCMessageDescriptor *content;
} packed_fields[] = {
    {&millrace__store__v1__job_record__descriptor, "result", &millrace__v1__payload__descriptor},
    {&millrace__store__v1__spec_record__descriptor, "payload", &millrace__v1__payload__descriptor},
    {&millrace__store__v1__spec_record__descriptor, "previous_result", &millrace__v1__payload__descriptor},
    {&millrace__store__v1__result_record__descriptor, "payload", &millrace__v1__payload__descriptor},
    {&millrace__store__v1__chain_record__descriptor, "on_failure", &millrace__v1__job_spec__descriptor},
    {&millrace__store__v1__batch_record__descriptor, "defaults", &millrace__v1__job_spec__descriptor},
    {&millrace__store__v1__batch_record__descriptor, "on_success", &millrace__v1__job_spec__descriptor},
    {&millrace__store__v1__batch_record__descriptor, "on_complete", &millrace__v1__job_spec__descriptor},
};

/* What the field holds packed; NULL: plain bytes. */
static const ProtobufCMessageDescriptor *content_of(const ProtobufCFieldDescriptor *field) {
  for (size_t i = 0; i < G_N_ELEMENTS(packed_fields); i++)
    if (protobuf_c_message_descriptor_get_field_by_name(packed_fields[i].record, packed_fields[i].field) == field)
      return packed_fields[i].content;
  return NULL;
}

static ProtobufCBinaryData pack(struct box *box, const ProtobufCMessage *message) {
  ProtobufCBinaryData bytes = {.len = protobuf_c_message_get_packed_size(message)};
  bytes.data = box_alloc(box, bytes.len + 1);
  protobuf_c_message_pack(message, bytes.data);
  return bytes;
}

static bool same_bytes(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b) {
  return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Whether reading the JSON again gives the same bytes. */
static bool is_exact(struct box *box, const ProtobufCMessage *message, const ProtobufCBinaryData *bytes) {
  g_autofree char *text = json_text(message, false);
  struct millrace_error error;
  ProtobufCMessage *again;
  if (json_read(box, message->descriptor, text, &again, &error) != MILLRACE_OK)
    return false;
  ProtobufCBinaryData packed = pack(box, again);
  return same_bytes(&packed, bytes);
}

static void write_text(yajl_gen gen, const char *text) {
  yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static bool write_content(yajl_gen gen, const ProtobufCMessageDescriptor *type, const ProtobufCBinaryData *bytes) {
  struct box *box = box_new();
  ProtobufCMessage *message = box_unpack(box, type, bytes->data, bytes->len);
  const Millrace__V1__Payload *payload = type == &millrace__v1__payload__descriptor ? (const void *)message : NULL;
  bool told = message != NULL;
  if (told && is_exact(box, message, bytes)) {
    json_write(gen, message);
  } else if (payload && payload->content_case == MILLRACE__V1__PAYLOAD__CONTENT_JSON) {
    yajl_gen_map_open(gen);
    write_text(gen, "content_type");
    write_text(gen, payload->content_type);
    write_text(gen, "json_text");
    write_text(gen, payload->json);
    yajl_gen_map_close(gen);
  } else {
    told = false;
  }
  box_unref(box);
  return told;
}

static bool write_bytes(yajl_gen gen, const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *bytes) {
  const ProtobufCMessageDescriptor *content = content_of(field);
  if (content)
    return write_content(gen, content, bytes);
  if (bytes->len != ID_BYTES)
    return false;
  char text[ID_TEXT_BYTES];
  id_format((const struct id *)(const void *)bytes->data, text);
  write_text(gen, text);
  return true;
}

static bool read_content(struct box *box, const ProtobufCMessageDescriptor *type, yajl_val value, ProtobufCBinaryData *out) {
  static const char *const text_path[] = {"json_text", NULL}, *const content_type_path[] = {"content_type", NULL};
  yajl_val text = yajl_tree_get(value, (const char **)text_path, yajl_t_string);
  if (text) {
    yajl_val content_type = yajl_tree_get(value, (const char **)content_type_path, yajl_t_string);
    Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT;
    payload.content_type = content_type ? YAJL_GET_STRING(content_type) : "";
    payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
    payload.json = YAJL_GET_STRING(text);
    *out = pack(box, &payload.base);
    return true;
  }
  struct millrace_error error;
  ProtobufCMessage *message;
  if (json_read_value(box, type, value, &message, &error) != MILLRACE_OK)
    return false;
  *out = pack(box, message);
  return true;
}

static bool read_bytes(struct box *box, const ProtobufCFieldDescriptor *field, yajl_val value, ProtobufCBinaryData *out) {
  const ProtobufCMessageDescriptor *content = content_of(field);
  if (content && YAJL_IS_OBJECT(value))
    return read_content(box, content, value, out);
  struct id *id = box_alloc(box, sizeof *id);
  if (!YAJL_IS_STRING(value) || !id_parse(YAJL_GET_STRING(value), id))
    return false;
  *out = (ProtobufCBinaryData){ID_BYTES, id->bytes};
  return true;
}

static const struct json_bytes record_bytes = {write_bytes, read_bytes};

/* ---- keys ---- */

/* The parts of a key, whatever its family. */
struct parts {
  struct id id;
  uint64_t number;
  char kind; /* of family queues */
  uint32_t queue, task;
  uint8_t priority;
  char name[KEY_BYTES_MAX + 1];
};

enum part { PART_ID = 1, PART_NUMBER = 2, PART_NAME = 4, PART_KIND = 8 };

static unsigned parts_of(enum family family) {
  switch (family) {
  case FAMILY_LEASES:
  case FAMILY_LOGS:
    return PART_ID | PART_NUMBER;
  case FAMILY_SCHEDULES:
  case FAMILY_META:
    return PART_NAME;
  case FAMILY_QUEUES:
    return PART_KIND;
  default:
    return PART_ID;
  }
}

bool rows_has_family(enum family family) {
  return !family_is_index(family);
}

static bool parts_read(enum family family, struct slice key, struct parts *parts) {
  switch (parts_of(family)) {
  case PART_ID | PART_NUMBER:
    return family == FAMILY_LEASES ? key_read_lease(key, &parts->id, &parts->number)
                                   : key_read_log(key, &parts->id, &parts->number);
  case PART_NAME:
    if (key.length >= sizeof parts->name)
      return false;
    memcpy(parts->name, key.data, key.length);
    return true;
  case PART_KIND:
    return key_read_queues(key, &parts->kind, &parts->queue, &parts->priority, &parts->task);
  default:
    return key_read_id(key, &parts->id);
  }
}

static void parts_to_key(enum family family, const struct parts *parts, struct key *out_key) {
  switch (parts_of(family)) {
  case PART_ID | PART_NUMBER:
    if (family == FAMILY_LEASES)
      key_lease(out_key, &parts->id, parts->number);
    else
      key_log(out_key, &parts->id, parts->number);
    break;
  case PART_NAME:
    if (family == FAMILY_META)
      key_meta(out_key, parts->name);
    else
      key_name(out_key, parts->name);
    break;
  case PART_KIND:
    if (parts->kind == 'q')
      key_queue(out_key, parts->queue);
    else if (parts->kind == 't')
      key_task(out_key, parts->queue, parts->task);
    else if (parts->kind == 'c')
      key_counters(out_key, parts->queue);
    else
      key_lane(out_key, parts->queue, parts->priority, parts->task);
    break;
  default:
    key_id(out_key, &parts->id);
  }
}

static const struct {
  char kind;
  const char *name;
} kinds[] = {{'q', "queue"}, {'t', "task"}, {'c', "counters"}, {'l', "lane"}};

static const ProtobufCMessageDescriptor *record_of(enum family family, const struct parts *parts) {
  static const ProtobufCMessageDescriptor *const records[FAMILIES] = {
      [FAMILY_JOBS] = &millrace__store__v1__job_record__descriptor,
      [FAMILY_SPECS] = &millrace__store__v1__spec_record__descriptor,
      [FAMILY_RESULTS] = &millrace__store__v1__result_record__descriptor,
      [FAMILY_LEASES] = &millrace__store__v1__lease_record__descriptor,
      [FAMILY_LOGS] = &millrace__store__v1__log_record__descriptor,
      [FAMILY_SCHEDULES] = &millrace__store__v1__schedule_record__descriptor,
      [FAMILY_CHAINS] = &millrace__store__v1__chain_record__descriptor,
      [FAMILY_BATCHES] = &millrace__store__v1__batch_record__descriptor,
      [FAMILY_SESSIONS] = &millrace__store__v1__session_record__descriptor,
  };
  if (family == FAMILY_META)
    return strcmp(parts->name, "store") == 0 ? &millrace__store__v1__store_record__descriptor
                                             : &millrace__store__v1__marks_record__descriptor;
  if (family == FAMILY_QUEUES)
    return parts->kind == 'q'   ? &millrace__store__v1__queue_record__descriptor
           : parts->kind == 't' ? &millrace__store__v1__task_record__descriptor
           : parts->kind == 'c' ? &millrace__store__v1__queue_counters_record__descriptor
                                : &millrace__store__v1__lane_record__descriptor;
  return records[family];
}

/* ---- lines ---- */

static void write_number(yajl_gen gen, const char *name, uint64_t number) {
  char text[24];
  g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, number);
  write_text(gen, name);
  yajl_gen_number(gen, text, strlen(text));
}

static void write_parts(yajl_gen gen, enum family family, const struct parts *parts) {
  unsigned which = parts_of(family);
  char id[ID_TEXT_BYTES];
  if (which & PART_ID) {
    id_format(&parts->id, id);
    write_text(gen, "id");
    write_text(gen, id);
  }
  if (which & PART_NUMBER)
    write_number(gen, "number", parts->number);
  if (which & PART_NAME) {
    write_text(gen, "name");
    write_text(gen, parts->name);
  }
  if (!(which & PART_KIND))
    return;
  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
    if (kinds[i].kind == parts->kind) {
      write_text(gen, "kind");
      write_text(gen, kinds[i].name);
    }
  write_number(gen, "queue", parts->queue);
  if (parts->kind == 't' || parts->kind == 'l')
    write_number(gen, "task", parts->task);
  if (parts->kind == 'l')
    write_number(gen, "priority", parts->priority);
}

char *row_to_line(enum family family, const struct store_row *row) {
  struct parts parts = {.number = 0};
  json_bytes = &record_bytes;
  if (!parts_read(family, row->key, &parts))
    return NULL;
  struct box *box = box_new();
  const ProtobufCMessage *record = box_unpack(box, record_of(family, &parts), row->value.data, row->value.length);
  char *line = NULL;
  if (record) {
    yajl_gen gen = yajl_gen_alloc(NULL);
    yajl_gen_map_open(gen);
    write_text(gen, "family");
    write_text(gen, family_names[family]);
    write_parts(gen, family, &parts);
    write_text(gen, "record");
    json_write(gen, record);
    yajl_gen_map_close(gen);
    const unsigned char *text;
    size_t length;
    yajl_gen_get_buf(gen, &text, &length);
    line = g_strndup((const char *)text, length);
    yajl_gen_free(gen);
  }
  box_unref(box);
  return line;
}

static const char *text_at(yajl_val tree, const char *name) {
  const char *path[] = {name, NULL};
  yajl_val value = yajl_tree_get(tree, path, yajl_t_string);
  return value ? YAJL_GET_STRING(value) : "";
}

static bool number_at(yajl_val tree, const char *name, uint64_t max, uint64_t *out_number) {
  const char *path[] = {name, NULL};
  yajl_val value = yajl_tree_get(tree, path, yajl_t_number);
  guint64 number;
  if (!value || !g_ascii_string_to_unsigned(YAJL_GET_NUMBER(value), 10, 0, max, &number, NULL))
    return false;
  *out_number = number;
  return true;
}

static bool find_kind(yajl_val tree, struct parts *parts) {
  uint64_t queue, task = 0, priority = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
    if (strcmp(kinds[i].name, text_at(tree, "kind")) == 0)
      parts->kind = kinds[i].kind;
  bool ok = parts->kind && number_at(tree, "queue", UINT32_MAX, &queue);
  if (ok && (parts->kind == 't' || parts->kind == 'l'))
    ok = number_at(tree, "task", UINT32_MAX, &task);
  if (ok && parts->kind == 'l')
    ok = number_at(tree, "priority", 10, &priority);
  if (!ok)
    return false;
  parts->queue = (uint32_t)queue;
  parts->task = (uint32_t)task;
  parts->priority = (uint8_t)priority;
  return true;
}

static bool find_parts(yajl_val tree, enum family family, struct parts *parts) {
  unsigned which = parts_of(family);
  if ((which & PART_ID) && !id_parse(text_at(tree, "id"), &parts->id))
    return false;
  if ((which & PART_NUMBER) && !number_at(tree, "number", UINT64_MAX, &parts->number))
    return false;
  if (which & PART_NAME)
    g_strlcpy(parts->name, text_at(tree, "name"), sizeof parts->name);
  if ((which & PART_NAME) && (parts->name[0] == '\0' || strlen(parts->name) > KEY_BYTES_MAX / 2))
    return false;
  return !(which & PART_KIND) || find_kind(tree, parts);
}

static bool find_family(yajl_val tree, enum family *out_family) {
  for (enum family family = 0; family < FAMILIES; family++)
    if (rows_has_family(family) && strcmp(family_names[family], text_at(tree, "family")) == 0) {
      *out_family = family;
      return true;
    }
  return false;
}

static bool read_tree(struct box *box, yajl_val tree, enum family *out_family, struct key *out_key, struct slice *out_value,
                      const char **out_problem) {
  static const char *const record_path[] = {"record", NULL};
  struct parts parts = {.number = 0};
  struct millrace_error error;
  ProtobufCMessage *record;
  *out_problem = "its family is none";
  if (!find_family(tree, out_family))
    return false;
  *out_problem = "its key is not whole";
  if (!find_parts(tree, *out_family, &parts))
    return false;
  yajl_val value = yajl_tree_get(tree, (const char **)record_path, yajl_t_object);
  *out_problem = "it has no record";
  if (!value)
    return false;
  if (json_read_value(box, record_of(*out_family, &parts), value, &record, &error) != MILLRACE_OK) {
    *out_problem = box_strdup(box, error.message);
    return false;
  }
  parts_to_key(*out_family, &parts, out_key);
  ProtobufCBinaryData bytes = pack(box, record);
  *out_value = (struct slice){bytes.data, bytes.len};
  return true;
}

bool row_from_line(struct box *box, const char *line, enum family *out_family, struct key *out_key, struct slice *out_value,
                   const char **out_problem) {
  char problem[256] = "";
  json_bytes = &record_bytes;
  *out_problem = "it is nested too deep";
  yajl_val tree = json_parse(line, problem, sizeof problem);
  if (!tree) {
    if (problem[0])
      *out_problem = box_strdup(box, problem);
    return false;
  }
  bool ok = read_tree(box, tree, out_family, out_key, out_value, out_problem);
  yajl_tree_free(tree);
  return ok;
}
