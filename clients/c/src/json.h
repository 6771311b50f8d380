/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: protobuf messages as JSON, driven by their descriptors. Names are those of the API; enum values lower case without
 * their prefix; times RFC 3339; durations "90s"; bytes base64; maps objects; wrappers their value; a payload is {"json": <the
 * value itself>} or
 * {"data": "<base64>"}, with "content_type" where it is not the usual one. Strings, messages and lists that are empty are left
 * out. Limits: depth JSON_DEPTH_MAX, payloads included. Pure. */
#ifndef MILLRACE_CLIENT_JSON_H
#define MILLRACE_CLIENT_JSON_H

#include <glib.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

#include "box.h"
#include "millrace.h"

/* A payload may be 64 deep; around it go a list, a spec, the payload's own braces. */
enum { JSON_DEPTH_MAX = 64 + 6 };

/* How bytes of some fields are told, where base64 would say nothing to anybody. Set once, before the first use; NULL: none are.
 */
struct json_bytes {
  /* False: as base64. */
  bool (*write)(yajl_gen gen, const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *bytes);
  bool (*read)(struct box *box, const ProtobufCFieldDescriptor *field, yajl_val value, ProtobufCBinaryData *out_bytes);
};
extern const struct json_bytes *json_bytes;

void json_write(yajl_gen gen, const ProtobufCMessage *message);
/* The same as a text of its own; `pretty`: over several lines. */
char *json_text(const ProtobufCMessage *message, bool pretty);
/* INVALID_ARGUMENT names the field. The message lives in the box. */
enum millrace_code json_read(struct box *box, const ProtobufCMessageDescriptor *type, const char *text, void *out_message,
                             struct millrace_error *error);
/* A tree, to be freed with yajl_tree_free. NULL: not JSON, or (`out_problem` empty) nested too deep. */
yajl_val json_parse(const char *text, char *out_problem, size_t problem_bytes);
/* The same from a tree. */
enum millrace_code json_read_value(struct box *box, const ProtobufCMessageDescriptor *type, yajl_val value, void *out_message,
                                   struct millrace_error *error);
/* Any JSON value without blanks; NULL: not JSON. */
char *json_compact(const char *text, size_t length);
/* Of a repeated field: whether it is a map, and the size of an element in memory. Shared by the reader and the writer. */
bool json_is_map(const ProtobufCFieldDescriptor *field);
size_t json_element_bytes(const ProtobufCFieldDescriptor *field);
/* Whether the bytes are one JSON value. */
bool json_is_valid(const char *text, size_t length);

#endif
