/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/reflection.h"

#include <string.h>

#include "core/text.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "rpc/codec.h"
#include "rpc/stream.h"

enum { NAME_BYTES_TOLD = 200 }; /* of a name that is not known */

extern const unsigned char millrace_descriptor_set[];
extern const size_t millrace_descriptor_set_bytes;

/* protobuf-c's names are too long to read. */
#define REQUEST(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name
#define Request Grpc__Reflection__V1__ServerReflectionRequest
#define Response Grpc__Reflection__V1__ServerReflectionResponse

struct file {
  ProtobufCBinaryData bytes; /* as in the set */
  char **imports;
};

struct reflection {
  struct arena *arena;  /* of all texts */
  GHashTable *files;    /* name -> struct file */
  GHashTable *symbols;  /* full name -> struct file */
  GHashTable *messages; /* full names of messages only */
  GPtrArray *services;  /* full names */
};

/* ---- the index ---- */

static const char *add_symbol(struct reflection *reflection, struct file *file, const char *scope, const char *name) {
  const char *full = scope[0] ? arena_printf(reflection->arena, "%s.%s", scope, name) : name;
  g_hash_table_insert(reflection->symbols, (gpointer)full, file);
  return full;
}

static void add_enum(struct reflection *reflection, struct file *file, const char *scope,
                     const Google__Protobuf__EnumDescriptorProto *type) {
  add_symbol(reflection, file, scope, type->name);
  for (size_t i = 0; i < type->n_value; i++)
    add_symbol(reflection, file, scope, type->value[i]->name);
}

/* Recursion: the set is our own. */
static void add_message(struct reflection *reflection, struct file *file, const char *scope,
                        const Google__Protobuf__DescriptorProto *type) {
  const char *full = add_symbol(reflection, file, scope, type->name);
  g_hash_table_add(reflection->messages, (gpointer)full);
  for (size_t i = 0; i < type->n_field; i++)
    add_symbol(reflection, file, full, type->field[i]->name);
  for (size_t i = 0; i < type->n_oneof_decl; i++)
    add_symbol(reflection, file, full, type->oneof_decl[i]->name);
  for (size_t i = 0; i < type->n_nested_type; i++)
    add_message(reflection, file, full, type->nested_type[i]);
  for (size_t i = 0; i < type->n_enum_type; i++)
    add_enum(reflection, file, full, type->enum_type[i]);
}

static void add_file(struct reflection *reflection, const struct codec_field *field) {
  ProtobufCMessage *message = protobuf_c_message_unpack(&google__protobuf__file_descriptor_proto__descriptor,
                                                        arena_protobuf(reflection->arena), field->length, field->data);
  g_assert(message);
  const Google__Protobuf__FileDescriptorProto *proto = (const Google__Protobuf__FileDescriptorProto *)message;
  const char *package = proto->package ? proto->package : "";
  struct file *file = arena_alloc(reflection->arena, sizeof *file);
  file->bytes = (ProtobufCBinaryData){field->length, (uint8_t *)field->data};
  file->imports = arena_zalloc(reflection->arena, (proto->n_dependency + 1) * sizeof *file->imports);
  for (size_t i = 0; i < proto->n_dependency; i++)
    file->imports[i] = proto->dependency[i];
  g_hash_table_insert(reflection->files, proto->name, file);
  for (size_t i = 0; i < proto->n_message_type; i++)
    add_message(reflection, file, package, proto->message_type[i]);
  for (size_t i = 0; i < proto->n_enum_type; i++)
    add_enum(reflection, file, package, proto->enum_type[i]);
  for (size_t i = 0; i < proto->n_service; i++) {
    const char *service = add_symbol(reflection, file, package, proto->service[i]->name);
    g_ptr_array_add(reflection->services, (gpointer)service);
    for (size_t j = 0; j < proto->service[i]->n_method; j++)
      add_symbol(reflection, file, service, proto->service[i]->method[j]->name);
  }
}

struct reflection *reflection_new(void) {
  struct reflection *reflection = g_new0(struct reflection, 1);
  const uint8_t *position = millrace_descriptor_set;
  struct codec_field field;
  reflection->arena = arena_new(0);
  reflection->files = g_hash_table_new(g_str_hash, g_str_equal);
  reflection->symbols = g_hash_table_new(g_str_hash, g_str_equal);
  reflection->messages = g_hash_table_new(g_str_hash, g_str_equal);
  reflection->services = g_ptr_array_new();
  while (codec_next_field(&position, millrace_descriptor_set + millrace_descriptor_set_bytes, &field))
    add_file(reflection, &field);
  return reflection;
}

void reflection_free(struct reflection *reflection) {
  if (!reflection)
    return;
  g_ptr_array_free(reflection->services, TRUE);
  g_hash_table_destroy(reflection->messages);
  g_hash_table_destroy(reflection->symbols);
  g_hash_table_destroy(reflection->files);
  arena_free(reflection->arena);
  g_free(reflection);
}

bool reflection_has_service(const struct reflection *reflection, const char *name) {
  for (guint i = 0; i < reflection->services->len; i++) {
    if (strcmp(reflection->services->pdata[i], name) == 0)
      return true;
  }
  return false;
}

/* ---- answers: they live in the arena of the question ---- */

static void answer_error(Response *response, struct arena *arena, enum status status, const char *sentence, const char *name) {
  Grpc__Reflection__V1__ErrorResponse *error = arena_alloc(arena, sizeof *error);
  grpc__reflection__v1__error_response__init(error);
  error->error_code = (int32_t)status;
  error->error_message = arena_printf(arena, sentence, text_clean(arena, name, NAME_BYTES_TOLD));
  response->message_response_case = RESPONSE(ERROR_RESPONSE);
  response->error_response = error;
}

/* `file` first, then what it imports, each once. */
static void collect(const struct reflection *reflection, const struct file *file, GPtrArray *files) {
  if (g_ptr_array_find(files, file, NULL))
    return;
  g_ptr_array_add(files, (gpointer)file);
  for (char **name = file->imports; *name; name++)
    collect(reflection, g_hash_table_lookup(reflection->files, *name), files);
}

static void answer_file(const struct reflection *reflection, Response *response, struct arena *arena, const struct file *file) {
  Grpc__Reflection__V1__FileDescriptorResponse *answer = arena_alloc(arena, sizeof *answer);
  GPtrArray *files = g_ptr_array_new();
  collect(reflection, file, files);
  grpc__reflection__v1__file_descriptor_response__init(answer);
  answer->n_file_descriptor_proto = files->len;
  answer->file_descriptor_proto = arena_alloc(arena, files->len * sizeof *answer->file_descriptor_proto);
  for (guint i = 0; i < files->len; i++)
    answer->file_descriptor_proto[i] = ((const struct file *)files->pdata[i])->bytes;
  g_ptr_array_free(files, TRUE);
  response->message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
  response->file_descriptor_response = answer;
}

static void answer_services(const struct reflection *reflection, Response *response, struct arena *arena) {
  Grpc__Reflection__V1__ListServiceResponse *answer = arena_alloc(arena, sizeof *answer);
  grpc__reflection__v1__list_service_response__init(answer);
  answer->n_service = reflection->services->len;
  answer->service = arena_alloc(arena, answer->n_service * sizeof(Grpc__Reflection__V1__ServiceResponse *));
  for (size_t i = 0; i < answer->n_service; i++) {
    Grpc__Reflection__V1__ServiceResponse *service = arena_alloc(arena, sizeof *service);
    grpc__reflection__v1__service_response__init(service);
    service->name = reflection->services->pdata[i];
    answer->service[i] = service;
  }
  response->message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
  response->list_services_response = answer;
}

static void answer_extensions(const struct reflection *reflection, Response *response, struct arena *arena, char *type) {
  if (!g_hash_table_contains(reflection->messages, type)) {
    answer_error(response, arena, STATUS_NOT_FOUND, "there is no message '%s'", type);
    return;
  }
  Grpc__Reflection__V1__ExtensionNumberResponse *answer = arena_alloc(arena, sizeof *answer);
  grpc__reflection__v1__extension_number_response__init(answer);
  answer->base_type_name = type;
  response->message_response_case = RESPONSE(ALL_EXTENSION_NUMBERS_RESPONSE);
  response->all_extension_numbers_response = answer;
}

static void answer(const struct reflection *reflection, Response *response, struct arena *arena, const Request *request) {
  const struct file *file;
  switch (request->message_request_case) {
  case REQUEST(FILE_BY_FILENAME):
    file = g_hash_table_lookup(reflection->files, request->file_by_filename);
    if (file)
      answer_file(reflection, response, arena, file);
    else
      answer_error(response, arena, STATUS_NOT_FOUND, "there is no file '%s'", request->file_by_filename);
    break;
  case REQUEST(FILE_CONTAINING_SYMBOL):
    file = g_hash_table_lookup(reflection->symbols, request->file_containing_symbol);
    if (file)
      answer_file(reflection, response, arena, file);
    else
      answer_error(response, arena, STATUS_NOT_FOUND, "there is no symbol '%s'", request->file_containing_symbol);
    break;
  case REQUEST(FILE_CONTAINING_EXTENSION):
    answer_error(response, arena, STATUS_NOT_FOUND, "'%s' has no extensions",
                 request->file_containing_extension->containing_type);
    break;
  case REQUEST(ALL_EXTENSION_NUMBERS_OF_TYPE):
    answer_extensions(reflection, response, arena, request->all_extension_numbers_of_type);
    break;
  case REQUEST(LIST_SERVICES):
    answer_services(reflection, response, arena);
    break;
  default:
    answer_error(response, arena, STATUS_INVALID_ARGUMENT, "%s", "the request asks for nothing that this server knows");
  }
}

/* ---- the stream ---- */

static void reflection_message(struct stream *stream, grpc_byte_buffer *buffer) {
  struct error error;
  ProtobufCMessage *message;
  if (!buffer) {
    stream_end(stream, NULL);
    return;
  }
  struct arena *arena = arena_new(codec_arena_bytes_max(buffer));
  if (call_count_message(&stream->call, &error) ||
      codec_unpack(buffer, &grpc__reflection__v1__server_reflection_request__descriptor, arena, &message, &error)) {
    stream_end(stream, &error);
  } else {
    Response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Request *request = (Request *)message;
    response.valid_host = request->host;
    response.original_request = request;
    answer(stream->call.route->server->reflection, &response, arena, request);
    stream_send(stream, codec_pack(&response.base));
  }
  arena_free(arena);
}

/* One question at a time: the next is read when the answer has gone out. */
static void reflection_sent(struct stream *stream) {
  stream_read(stream);
}

static void reflection_left(struct stream *stream) {
  stream_unref(stream);
}

static const struct stream_events reflection_events = {
    .message = reflection_message, .sent = reflection_sent, .left = reflection_left};

static void reflection_accept(struct call *call, const struct error *refused) {
  struct stream *stream = (struct stream *)call;
  stream_open(stream, &reflection_events);
  if (refused)
    stream_end(stream, refused);
  else
    stream_read(stream);
}

void reflection_route(struct route *route, const char *path) {
  route->path = path;
  route->role = ROLE_ANY;
  route->always = true;
  route->call_bytes = sizeof(struct stream);
  route->accept = reflection_accept;
}
