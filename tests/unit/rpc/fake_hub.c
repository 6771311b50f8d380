/* SPDX-License-Identifier: Apache-2.0 */
/* A hub with one rule: the token must be "secret". It sends every Reports message back as Deliveries with the same bytes; one
 * with report_seq 99 makes it close the stream; one with report_seq 7 is answered without end. */
#include <glib.h>

#include "millrace/v1/worker_service.pb-c.h"
#include "workers/guard.h"
#include "workers/hub.h"

enum { CLOSES = 99, FLOODS = 7, FLOOD_BYTES = 16 * 1024, FLOOD_COUNT = 4000 };

static struct hub_stream attached;

/* Nobody guards these ports. */
void guard_hang_up(int64_t wait_ms) {
  (void)wait_ms;
}

bool hub_attach(struct hub *hub, const struct id *session, const char *token, const struct hub_stream *stream,
                uint64_t *out_connection) {
  (void)hub;
  (void)session;
  if (g_strcmp0(token, "secret") != 0)
    return false;
  attached = *stream;
  *out_connection = 1;
  return true;
}

void hub_attach_reports(struct hub *hub, const struct id *session, uint64_t connection, const uint8_t *bytes, size_t length) {
  (void)hub;
  (void)session;
  g_assert(connection == 1);
  Millrace__V1__Reports *reports = millrace__v1__reports__unpack(NULL, length, bytes);
  g_assert(reports);
  uint64_t number = reports->report_seq;
  millrace__v1__reports__free_unpacked(reports, NULL);
  if (number == CLOSES) {
    attached.close(attached.context);
    return;
  }
  if (number != FLOODS) {
    attached.send(attached.context, g_memdup2(bytes, length), length);
    return;
  }
  /* An unknown field 15 full of zeros, its length in three bytes of varint. */
  static const uint8_t head[] = {15 << 3 | 2, 0x80, 0x80, 1};
  for (int i = 0; i < FLOOD_COUNT; i++) {
    uint8_t *flood = g_malloc0(sizeof head + FLOOD_BYTES);
    for (size_t j = 0; j < sizeof head; j++)
      flood[j] = head[j];
    attached.send(attached.context, flood, sizeof head + FLOOD_BYTES);
  }
}

void hub_detach(struct hub *hub, const struct id *session, uint64_t connection) {
  (void)hub;
  (void)session;
  (void)connection;
}
