/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h: calls with many messages either way. Back-pressure both ways: a write waits for the one before, and nothing is read
 * on while READ_AHEAD messages wait for the reader. Threads: one reader and one writer at a time; stream_cancel from any. */
#ifndef MILLRACE_CLIENT_STREAM_H
#define MILLRACE_CLIENT_STREAM_H

#include "call.h"

struct stream;

/* timeout_ms 0: the client's; < 0: without limit. */
struct stream *stream_open(struct millrace_client *client, struct method method, int64_t timeout_ms);
/* Reads on however many messages wait for the reader. For a stream that has one answer to each write: a server whose answers are
 * not taken reads no more, and a writer who reads later would wait for ever. */
void stream_read_without_limit(struct stream *stream);
/* Waits until the message before is on its way, then hands this one over. An error: the stream has ended. */
enum millrace_code stream_write(struct stream *stream, const void *message, struct millrace_error *error);
/* The same for a message that is packed already. */
enum millrace_code stream_write_bytes(struct stream *stream, const void *bytes, size_t length, struct millrace_error *error);
/* No more writes. */
void stream_close_writes(struct stream *stream);
/* Waits for a message; OK with *out_message NULL: the server ended the stream in order. */
enum millrace_code stream_read(struct stream *stream, struct box **out_box, void *out_message, struct millrace_error *error);
/* Ends it: reads and writes fail from now on. */
void stream_cancel(struct stream *stream);
/* Cancels if need be, waits for its end, frees. NULL is fine. */
void stream_free(struct stream *stream);

#endif
