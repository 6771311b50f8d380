/* SPDX-License-Identifier: Apache-2.0 */
/* box.h: memory given back all at once. Every object that the library gives out is the lid of a box: what it points at lives in
 * the same box, and millrace_free(object) frees all of it. Unpacked messages and deliveries live in boxes too. Threads: one at a
 * time; box_ref and box_unref from any. */
#ifndef MILLRACE_CLIENT_BOX_H
#define MILLRACE_CLIENT_BOX_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct box;

/* One reference. */
struct box *box_new(void);
struct box *box_ref(struct box *box);
void box_unref(struct box *box); /* NULL is fine */
/* Cleared memory, aligned for any type; never NULL. */
void *box_alloc(struct box *box, size_t bytes);
char *box_strdup(struct box *box, const char *text);
/* An object whose millrace_free drops one reference of the box. */
void *box_lid(struct box *box, size_t bytes);
/* Unpacks into the box; NULL if the bytes are no such message. */
void *box_unpack(struct box *box, const ProtobufCMessageDescriptor *type, const void *bytes, size_t length);

#endif
