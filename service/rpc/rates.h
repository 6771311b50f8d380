/* SPDX-License-Identifier: Apache-2.0 */
/* rates.h: how many calls and stream messages one address may send a second. Each address has a bucket of as many tokens as it
 * may send a second; who finds it empty is refused. An IPv6 /64 is one address; unix sockets are not counted. Memory: PEERS_MAX
 * addresses; when more than so many are busy at once, those beyond share one bucket. Threads: any. */
#ifndef MILLRACE_RPC_RATES_H
#define MILLRACE_RPC_RATES_H

#include <stdbool.h>
#include <stdint.h>

enum { PEERS_MAX = 10 * 1000 };

struct rates;

struct rates *rates_new(uint32_t per_second);
void rates_free(struct rates *rates); /* NULL is fine */
/* Takes a token. `peer` as libgrpc names it: "ipv4:192.0.2.1:4711". False: there is none; *out_wait_ms: until there is. */
bool rates_take(struct rates *rates, const char *peer, int64_t now_ms, int64_t *out_wait_ms);

#endif
