/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h: gRPC byte buffers <-> protobuf-c messages, and single fields of packed messages.
 * Threads: any. Errors: STATUS_INVALID_ARGUMENT for bytes that are no such message, that unpack to more than the arena may hold,
 * or that have a NUL inside a string. */
#ifndef MILLRACE_RPC_CODEC_H
#define MILLRACE_RPC_CODEC_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>

#include "core/arena.h"
#include "core/error.h"

/* The bytes of a buffer in one piece, decompressed; the slice is the caller's to unref. libgrpc would decompress without a limit,
 * so it is told not to. STATUS_RESOURCE_EXHAUSTED: more than REQUEST_BYTES_MAX. */
enum status codec_flatten(const grpc_byte_buffer *buffer, grpc_slice *out_slice, struct error *error) STATUS_CHECK;

/* Unpacks into the arena. A NULL buffer is an empty message: validation will name the field that is missing. */
enum status codec_unpack(const grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type, struct arena *arena,
                         ProtobufCMessage **out_message, struct error *error) STATUS_CHECK;
enum status codec_unpack_bytes(const uint8_t *bytes, size_t length, const ProtobufCMessageDescriptor *type, struct arena *arena,
                               ProtobufCMessage **out_message, struct error *error) STATUS_CHECK;
/* How much the arena of a request of that many bytes may hold, its response included. */
size_t codec_arena_bytes_max(const grpc_byte_buffer *buffer);

grpc_slice codec_pack_slice(const ProtobufCMessage *message);
grpc_byte_buffer *codec_pack(const ProtobufCMessage *message);
/* A message whose only field is the message `bytes`, with number `field` (1 to 15). */
grpc_byte_buffer *codec_wrap(unsigned field, const uint8_t *bytes, size_t length);

/* Walks over the fields of a packed message: */
struct codec_field {
  uint32_t number;
  uint32_t wire_type;
  const uint8_t *data; /* wire type 2: its content; otherwise the value's bytes */
  size_t length;
};
/* Reads the field at *position and moves on. False at the end, and where the bytes are broken (then *position < end). */
bool codec_next_field(const uint8_t **position, const uint8_t *end, struct codec_field *out_field);

#endif
