/* SPDX-License-Identifier: Apache-2.0 */
/* client.h: a connection to the server and the thread that polls it. Everything that happens on the completion queue is an
 * operation with a function to call. Private to the library; the only parts that see gRPC are client.c, call.c, stream.c.
 * Threads: any; completions run on the client's thread and must not block. */
#ifndef MILLRACE_CLIENT_CLIENT_H
#define MILLRACE_CLIENT_CLIENT_H

#include <glib.h>
#include <grpc/grpc.h>
#include <pthread.h>
#include <sys/types.h>

#include "coalesce.h"
#include "millrace.h"
#include "tls.h"

/* The tag of a batch of gRPC operations. */
struct operation {
  void (*completed)(struct operation *operation, bool ok);
};

/* A call under way, so that millrace_client_free can cancel it. */
struct live_call {
  grpc_call *call;
  GList link;
};

struct millrace_client {
  pid_t pid; /* of the process that made it */
  char *address;
  struct tls tls;
  bool has_token;
  grpc_slice authorization; /* "Bearer …" */
  int64_t timeout_ms;
  struct coalescer *coalescer; /* NULL: turned off */
  grpc_channel *channel;
  grpc_completion_queue *queue;
  pthread_t poller;
  pthread_mutex_t lock;
  pthread_cond_t idle;
  GQueue live; /* struct live_call */
  bool closing;
};

/* Makes a call to `path` ("/millrace.v1.JobService/GetJob", must stay valid) and counts it among the live ones. timeout_ms 0: the
 * client's; < 0: none. */
void client_begin(struct millrace_client *client, const char *path, int64_t timeout_ms, struct live_call *out_live);
void client_end(struct millrace_client *client, struct live_call *live);
/* Starts operations; `operation->completed` follows, exactly once, also when the call breaks. */
void client_start(const struct live_call *live, const grpc_op *ops, size_t count, struct operation *operation);
/* The metadata of each call: at most one entry. Returns how many. */
size_t client_metadata(const struct millrace_client *client, grpc_metadata *out_entry);
#endif
