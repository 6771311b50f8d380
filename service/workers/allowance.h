/* SPDX-License-Identifier: Apache-2.0 */
/* allowance.h: how much a peer may still send. What it sends is charged; what came of it is given back, up to the most it may
 * have. It knows no sockets and no clock. Sizes are bytes, times are milliseconds of any clock that only goes forward. Threads:
 * the caller's lock. Errors: none. */
#ifndef MILLRACE_WORKERS_ALLOWANCE_H
#define MILLRACE_WORKERS_ALLOWANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct allowance {
  int64_t left; /* below 0: it owes for frames */
  size_t most;
  size_t framing; /* charged for the frames of messages that were not taken yet */
  size_t owed;    /* comes back at the next settlement */
  int64_t settled_ms;
};

/* From now on at most `bytes`, and all of them are left. */
void allowance_set(struct allowance *allowance, size_t bytes, int64_t now_ms);
void allowance_charge(struct allowance *allowance, size_t bytes);
/* Charges what a frame costs nng beside its bytes; `first` is its first byte. */
void allowance_charge_frame(struct allowance *allowance, uint8_t first);
/* Is it a ping, a pong or a close frame that begins so? */
bool allowance_is_control(uint8_t first);
/* A message of so many bytes was taken: they come back, with their framing, at the next settlement. */
void allowance_give_back(struct allowance *allowance, size_t message_bytes);
/* Time to settle: less than half is left. */
bool allowance_is_low(const struct allowance *allowance);
/* Adds what was given back, and what time brings. */
void allowance_settle(struct allowance *allowance, int64_t now_ms);

#endif
