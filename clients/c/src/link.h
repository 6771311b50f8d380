/* SPDX-License-Identifier: Apache-2.0 */
/* link.h: a connection of a worker's session: deliveries come in, reports go out. Two kinds: a pair of WebSockets over nng, or an
 * Attach stream over gRPC. It knows nothing of what is in the messages. Threads: events come from threads of the link and must
 * not block for long; send one message at a time, the next one after `sent`; link_close from a thread that is not one of the
 * link's, while nobody is in link_send. */
#ifndef MILLRACE_CLIENT_LINK_H
#define MILLRACE_CLIENT_LINK_H

#include "box.h"
#include "millrace.h"
#include "millrace/v1/worker_service.pb-c.h"

struct link_events {
  void *context;
  void (*received)(void *context, struct box *take_box, const Millrace__V1__Deliveries *message);
  void (*sent)(void *context);
  void (*broken)(void *context); /* at least once when the connection has broken; link_close is still due */
};

struct link_target {
  struct millrace_client *client;
  const char *url; /* "ws://host:port" */
  const char *jobs_path;
  const char *reports_path;
  const char *session_id;
  const char *session_token;
};

struct link {
  void (*send)(struct link *link, const uint8_t *bytes, size_t length);
  void (*close)(struct link *link);
};

enum { LINK_RECEIVE_BYTES_MAX = 8 * 1024 * 1024 };

/* Dials; UNAVAILABLE when refused. */
enum millrace_code link_open_nng(const struct link_target *target, const struct link_events *events, struct link **out_link,
                                 struct millrace_error *error);
/* Never fails at once: a refusal shows as `broken`. */
struct link *link_open_grpc(const struct link_target *target, const struct link_events *events);
/* Copies the bytes of a packed Reports message. */
void link_send(struct link *link, const uint8_t *bytes, size_t length);
/* No event comes after it returned. NULL is fine. */
void link_close(struct link *link);

#endif
