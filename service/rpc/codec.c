/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/codec.h"

#include <glib.h>
#include <string.h>
#include <zlib.h>

#include "core/limits.h"

enum {
  ARENA_PER_BYTE = 16,         /* what a byte of a well-meant request may grow to when unpacked */
  ARENA_BASE_BYTES = 16 << 20, /* room for the response, and for small requests */
  VARINT_BYTES_MAX = 10,
  ZLIB_GZIP = 16, /* added to the window bits: with gzip's head and tail */
};

/* Feeds all slices to zlib; the output stops at its limit. Z_STREAM_END: all was well. */
static int inflate_slices(z_stream *stream, const grpc_slice_buffer *slices) {
  int outcome = Z_OK;
  for (size_t i = 0; i < slices->count && outcome == Z_OK; i++) {
    stream->next_in = GRPC_SLICE_START_PTR(slices->slices[i]);
    stream->avail_in = (unsigned)GRPC_SLICE_LENGTH(slices->slices[i]);
    while (stream->avail_in > 0 && stream->avail_out > 0 && outcome == Z_OK)
      outcome = inflate(stream, Z_NO_FLUSH);
  }
  return outcome;
}

static enum status decompress(const grpc_byte_buffer *buffer, grpc_slice *out_slice, struct error *error) {
  bool is_gzip = buffer->data.raw.compression == GRPC_COMPRESS_GZIP;
  z_stream stream = {.avail_out = REQUEST_BYTES_MAX + 1};
  uint8_t *bytes = g_malloc(stream.avail_out);
  enum status status = STATUS_OK;
  stream.next_out = bytes;
  int outcome = inflateInit2(&stream, is_gzip ? MAX_WBITS + ZLIB_GZIP : MAX_WBITS);
  g_assert(outcome == Z_OK);
  outcome = inflate_slices(&stream, &buffer->data.raw.slice_buffer);
  if (stream.total_out > REQUEST_BYTES_MAX)
    status = error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL, "the message takes more than %d bytes when decompressed",
                       REQUEST_BYTES_MAX);
  else if (outcome != Z_STREAM_END)
    status = error_set(error, STATUS_INVALID_ARGUMENT, NULL, "the message can't be decompressed");
  else
    *out_slice = grpc_slice_from_copied_buffer((const char *)bytes, stream.total_out);
  inflateEnd(&stream);
  g_free(bytes);
  return status;
}

enum status codec_flatten(const grpc_byte_buffer *buffer, grpc_slice *out_slice, struct error *error) {
  const grpc_slice_buffer *slices = &buffer->data.raw.slice_buffer;
  if (buffer->data.raw.compression != GRPC_COMPRESS_NONE)
    return decompress(buffer, out_slice, error);
  if (slices->count == 1) {
    *out_slice = grpc_slice_ref(slices->slices[0]);
    return STATUS_OK;
  }
  *out_slice = grpc_slice_malloc(slices->length);
  uint8_t *at = GRPC_SLICE_START_PTR(*out_slice);
  for (size_t i = 0; i < slices->count; i++) {
    size_t length = GRPC_SLICE_LENGTH(slices->slices[i]);
    if (length > 0)
      memcpy(at, GRPC_SLICE_START_PTR(slices->slices[i]), length);
    at += length;
  }
  return STATUS_OK;
}

static bool read_varint(const uint8_t **position, const uint8_t *end, uint64_t *out_value) {
  uint64_t value = 0;
  for (unsigned i = 0; i < VARINT_BYTES_MAX && *position < end; i++) {
    uint8_t byte = *(*position)++;
    value |= (uint64_t)(byte & 0x7F) << (7 * i);
    if (byte < 0x80) {
      *out_value = value;
      return true;
    }
  }
  return false;
}

bool codec_next_field(const uint8_t **position, const uint8_t *end, struct codec_field *out_field) {
  const uint8_t *at = *position;
  uint64_t key;
  uint64_t length = 0;
  if (!read_varint(&at, end, &key))
    return false;
  const uint8_t *data = at;
  switch (key & 7) {
  case 0:
    if (!read_varint(&at, end, &length))
      return false;
    length = (uint64_t)(at - data);
    break;
  case 1:
    length = 8;
    break;
  case 2:
    if (!read_varint(&at, end, &length))
      return false;
    data = at;
    break;
  case 5:
    length = 4;
    break;
  default:
    return false;
  }
  if (length > (uint64_t)(end - data))
    return false;
  *out_field = (struct codec_field){(uint32_t)(key >> 3), (uint32_t)(key & 7), data, (size_t)length};
  *position = data + length;
  return true;
}

/* How many fields of this number there are. */
static unsigned count_fields(const uint8_t *bytes, const uint8_t *end, uint32_t number) {
  unsigned count = 0;
  struct codec_field field;
  while (bytes < end && codec_next_field(&bytes, end, &field))
    count += field.number == number;
  return count;
}

/* protobuf-c ends strings with a NUL and forgets their length: "a\0b" would silently become "a". Puts the field's path, such as
 * "jobs[3].task", before what is in `path`. */
static bool has_nul_in_string(const uint8_t *bytes, size_t length, const ProtobufCMessageDescriptor *type, unsigned depth,
                              GString *path) {
  const uint8_t *position = bytes;
  struct codec_field field;
  if (depth > MESSAGE_DEPTH_MAX || !memchr(bytes, 0, length))
    return false;
  for (const uint8_t *start = bytes; codec_next_field(&position, bytes + length, &field); start = position) {
    const ProtobufCFieldDescriptor *known = protobuf_c_message_descriptor_get_field(type, field.number);
    if (!known || field.wire_type != 2)
      continue;
    bool is_text = known->type == PROTOBUF_C_TYPE_STRING, is_message = known->type == PROTOBUF_C_TYPE_MESSAGE;
    if (!(is_text && memchr(field.data, 0, field.length)) &&
        !(is_message && has_nul_in_string(field.data, field.length, known->descriptor, depth + 1, path)))
      continue;
    if (path->len > 0)
      g_string_prepend_c(path, '.');
    if (known->label == PROTOBUF_C_LABEL_REPEATED) {
      g_autofree char *index = g_strdup_printf("[%u]", count_fields(bytes, start, field.number));
      g_string_prepend(path, index);
    }
    g_string_prepend(path, known->name);
    return true;
  }
  return false;
}

static enum status check_strings(const uint8_t *bytes, size_t length, const ProtobufCMessageDescriptor *type,
                                 struct error *error) {
  enum status status = STATUS_OK;
  GString *path = g_string_new(NULL);
  if (has_nul_in_string(bytes, length, type, 0, path))
    status = error_set(error, STATUS_INVALID_ARGUMENT, path->str, "%s contains a NUL character", path->str);
  g_string_free(path, TRUE);
  return status;
}

enum status codec_unpack_bytes(const uint8_t *bytes, size_t length, const ProtobufCMessageDescriptor *type, struct arena *arena,
                               ProtobufCMessage **out_message, struct error *error) {
  if (length > 0 && memchr(bytes, 0, length)) {
    enum status status = check_strings(bytes, length, type, error);
    if (status)
      return status;
  }
  ProtobufCMessage *message = protobuf_c_message_unpack(type, arena_protobuf(arena), length, bytes);
  if (!message)
    return error_set(
        error, STATUS_INVALID_ARGUMENT, NULL,
        "the message of %zu bytes is not a valid %s, or takes too much memory when unpacked; check that client and server "
        "use the same .proto files",
        length, type->name);
  *out_message = message;
  return STATUS_OK;
}

enum status codec_unpack(const grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type, struct arena *arena,
                         ProtobufCMessage **out_message, struct error *error) {
  if (!buffer)
    return codec_unpack_bytes((const uint8_t *)"", 0, type, arena, out_message, error);
  grpc_slice slice = grpc_empty_slice();
  enum status status = codec_flatten(buffer, &slice, error);
  if (status)
    return status;
  status = codec_unpack_bytes(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), type, arena, out_message, error);
  grpc_slice_unref(slice);
  return status;
}

size_t codec_arena_bytes_max(const grpc_byte_buffer *buffer) {
  size_t length = buffer ? buffer->data.raw.slice_buffer.length : 0;
  if (buffer && buffer->data.raw.compression != GRPC_COMPRESS_NONE)
    length = REQUEST_BYTES_MAX;
  return ARENA_BASE_BYTES + MIN(length * ARENA_PER_BYTE, (size_t)REQUEST_ARENA_BYTES_MAX);
}

grpc_slice codec_pack_slice(const ProtobufCMessage *message) {
  grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
  protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
  return slice;
}

static grpc_byte_buffer *take_slice(grpc_slice slice) {
  grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

grpc_byte_buffer *codec_pack(const ProtobufCMessage *message) {
  return take_slice(codec_pack_slice(message));
}

grpc_byte_buffer *codec_wrap(unsigned field, const uint8_t *bytes, size_t length) {
  uint8_t head[1 + VARINT_BYTES_MAX];
  size_t head_length = 0;
  head[head_length++] = (uint8_t)(field << 3 | 2);
  size_t rest = length;
  for (; rest >= 0x80; rest >>= 7)
    head[head_length++] = (uint8_t)(rest | 0x80);
  head[head_length++] = (uint8_t)rest;
  grpc_slice slice = grpc_slice_malloc(head_length + length);
  memcpy(GRPC_SLICE_START_PTR(slice), head, head_length);
  if (length > 0)
    memcpy(GRPC_SLICE_START_PTR(slice) + head_length, bytes, length);
  return take_slice(slice);
}
