/* SPDX-License-Identifier: Apache-2.0 */
/* nng 1.5 keeps about 220 bytes for a frame: of a message that is not whole yet, through which it walks for each further frame;
 * and for each answer to a ping that was not sent yet. So frames have a price of their own. */
#include "workers/allowance.h"

#include <glib.h>

enum {
  FRAME_IS_CONTROL = 0x08, /* a bit of its first byte */
  CONTROL_FRAME_PRICE = 256,
  DATA_FRAME_PRICE = 1024,
  MESSAGE_FRAMING_BYTES = 192, /* of WebSocket and TLS, of a message in one piece */
  FRAMING_SHARE = 64,          /* and one in so many bytes of it */
  BACK_BYTES_PER_SECOND = 4096,
};

void allowance_set(struct allowance *allowance, size_t bytes, int64_t now_ms) {
  *allowance = (struct allowance){.left = (int64_t)bytes, .most = bytes, .settled_ms = now_ms};
}

void allowance_charge(struct allowance *allowance, size_t bytes) {
  allowance->left -= (int64_t)bytes;
}

bool allowance_is_control(uint8_t first) {
  return first & FRAME_IS_CONTROL;
}

void allowance_charge_frame(struct allowance *allowance, uint8_t first) {
  bool is_control = allowance_is_control(first);
  allowance->left -= is_control ? CONTROL_FRAME_PRICE : DATA_FRAME_PRICE;
  if (!is_control)
    allowance->framing += DATA_FRAME_PRICE;
}

void allowance_give_back(struct allowance *allowance, size_t message_bytes) {
  size_t back = message_bytes + message_bytes / FRAMING_SHARE + MESSAGE_FRAMING_BYTES + allowance->framing;
  allowance->owed = MIN(allowance->most, allowance->owed + back);
  allowance->framing = 0;
}

bool allowance_is_low(const struct allowance *allowance) {
  return allowance->left < (int64_t)(allowance->most / 2);
}

void allowance_settle(struct allowance *allowance, int64_t now_ms) {
  int64_t of_time = (now_ms - allowance->settled_ms) * BACK_BYTES_PER_SECOND / 1000;
  allowance->left = MIN((int64_t)allowance->most, allowance->left + (int64_t)allowance->owed + of_time);
  allowance->owed = 0;
  allowance->settled_ms = now_ms;
}
