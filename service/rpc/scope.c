/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/scope.h"

#include <glib.h>
#include <string.h>

#include "core/limits.h"
#include "millrace/v1/job.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

/* What an absent name means. */
enum absent { ABSENT_IS_DEFAULT, ABSENT_IS_ALL };

/* Every field of a request that names queues. */
static const struct {
  const ProtobufCMessageDescriptor *type;
  const char *field;
  enum absent absent;
} queue_fields[] = {
    {&millrace__v1__job_spec__descriptor, "queue", ABSENT_IS_DEFAULT},
    {&millrace__v1__job_filter__descriptor, "queues", ABSENT_IS_ALL},
    {&millrace__v1__worker_queue__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__list_workers_request__descriptor, "queue", ABSENT_IS_ALL},
    {&millrace__v1__get_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__update_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__pause_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__resume_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__purge_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
    {&millrace__v1__delete_queue_request__descriptor, "name", ABSENT_IS_DEFAULT},
};

bool scope_is_wide(const char *path) {
  static const char *const prefixes[] = {"/millrace.v1.BatchService/", "/millrace.v1.AdminService/"};
  if (strcmp(path, "/millrace.v1.AdminService/GetServerInfo") == 0)
    return false;
  for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
    if (g_str_has_prefix(path, prefixes[i]))
      return true;
  }
  return false;
}

static enum status check_name(const struct request *request, const char *name, enum absent absent, struct error *error) {
  if (!name[0] && absent == ABSENT_IS_ALL) {
    error_set(error, STATUS_PERMISSION_DENIED, NULL, "this token is for some queues only: name the queues that you mean");
    return error_reason(error, "QUEUE_NOT_GRANTED", NULL);
  }
  return request_check_queue(request, name[0] ? name : QUEUE_DEFAULT, error);
}

/* Of a field of strings; `member` is where protobuf-c keeps it. */
static enum status check_strings(const struct request *request, const ProtobufCFieldDescriptor *field, const void *member,
                                 size_t count, enum absent absent, struct error *error) {
  if (field->label != PROTOBUF_C_LABEL_REPEATED)
    return check_name(request, *(char *const *)member, absent, error);
  char *const *names = *(char **const *)member;
  enum status status = count == 0 ? check_name(request, "", absent, error) : STATUS_OK;
  for (size_t i = 0; i < count && !status; i++)
    status = check_name(request, names[i], absent, error);
  return status;
}

static bool names_queues(const ProtobufCMessageDescriptor *type, const char *field, enum absent *out_absent) {
  for (size_t i = 0; i < G_N_ELEMENTS(queue_fields); i++) {
    if (queue_fields[i].type == type && strcmp(queue_fields[i].field, field) == 0) {
      *out_absent = queue_fields[i].absent;
      return true;
    }
  }
  return false;
}

static enum status check_message(const struct request *request, const ProtobufCMessage *message, struct error *error);

/* A message that is absent counts as an empty one where empty means "all queues". */
static enum status check_child(const struct request *request, const ProtobufCFieldDescriptor *field,
                               const ProtobufCMessage *child, struct error *error) {
  if (child)
    return check_message(request, child, error);
  return field->descriptor == &millrace__v1__job_filter__descriptor ? check_name(request, "", ABSENT_IS_ALL, error) : STATUS_OK;
}

/* Requests do not nest without end: no message contains its own kind. */
static enum status check_message(const struct request *request, const ProtobufCMessage *message, struct error *error) {
  const ProtobufCMessageDescriptor *type = message->descriptor;
  enum status status = STATUS_OK;
  for (unsigned i = 0; i < type->n_fields && !status; i++) {
    const ProtobufCFieldDescriptor *field = &type->fields[i];
    const uint8_t *base = (const uint8_t *)message;
    const void *member = base + field->offset;
    bool is_repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    size_t count = is_repeated ? *(const size_t *)(const void *)(base + field->quantifier_offset) : 1;
    enum absent absent;
    if (is_oneof && *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id)
      continue;
    if (field->type == PROTOBUF_C_TYPE_STRING && names_queues(type, field->name, &absent)) {
      status = check_strings(request, field, member, count, absent, error);
    } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
      ProtobufCMessage *const *children = is_repeated ? *(ProtobufCMessage * *const *)member : member;
      for (size_t j = 0; j < count && !status; j++)
        status = check_child(request, field, children[j], error);
    }
  }
  return status;
}

enum status scope_check(const struct grant *grant, struct request *request, struct error *error) {
  const ProtobufCMessageDescriptor *type = request->message->descriptor;
  request->queues = g_strdupv((char **)grant->queues);
  if (type == &millrace__v1__create_jobs_request__descriptor || type == &millrace__v1__create_jobs_stream_request__descriptor)
    return STATUS_OK; /* each job has an outcome of its own: the engine asks for each */
  return check_message(request, request->message, error);
}
