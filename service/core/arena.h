/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h: memory that is given back all at once. One arena per request or per turn; everything made for it lives exactly as
 * long. Threads: one at a time. Errors: arena_alloc returns NULL when the limit would be passed; a real lack of memory aborts, as
 * in GLib. */
#ifndef MILLRACE_CORE_ARENA_H
#define MILLRACE_CORE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena;

/* An arena that hands out at most `bytes_max` in all (0: no limit). Heap; free with arena_free. */
struct arena *arena_new(size_t bytes_max);
/* Frees the arena and all that it gave out. NULL is fine. */
void arena_free(struct arena *arena);
/* Forgets all that it gave out and keeps one block for the next use. */
void arena_reset(struct arena *arena);
/* Memory aligned for any type, not cleared. NULL only beyond the limit. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* The same, cleared. Only for arenas without a limit or where NULL is checked. */
void *arena_zalloc(struct arena *arena, size_t bytes);
/* Copies. */
char *arena_strdup(struct arena *arena, const char *text);
void *arena_memdup(struct arena *arena, const void *bytes, size_t length);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Bytes given out since the last reset. */
size_t arena_used(const struct arena *arena);
/* An allocator for protobuf-c whose objects live in the arena and are never freed one by one. Valid as long as the arena. */
ProtobufCAllocator *arena_protobuf(struct arena *arena);

#endif
