/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h: what the hub would tell the engine, written down. Waiting is by condition, and fails the test when nothing has
 * happened for 60 s. */
#ifndef MILLRACE_TESTS_FAKE_ENGINE_H
#define MILLRACE_TESTS_FAKE_ENGINE_H

#include "workers/hub.h"

enum event_kind { EVENT_CONNECTED = 1, EVENT_DISCONNECTED, EVENT_REPORTS };

struct event {
  enum event_kind kind;
  struct id session;
  uint64_t connection;
  const char *transport_name; /* EVENT_CONNECTED */
  uint8_t *bytes;             /* EVENT_REPORTS */
  size_t length;
};

/* Any pointer will do: the hub never looks inside. */
struct engine *fake_engine(void);
void fake_engine_reset(void);
/* The next event of this session (NULL: of any), taken out. The caller frees `bytes`. */
struct event fake_engine_next(const struct id *session);
/* How many have not been taken. */
size_t fake_engine_pending(void);
/* Waits for the number of connections that stand, of all sessions. */
void fake_engine_wait_connected(size_t count);

#endif
