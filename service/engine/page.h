/* SPDX-License-Identifier: Apache-2.0 */
/* page.h: page sizes and tokens of short lists. A token is the last key, in base64. Threads: any; page_rows the
 * engine's. */
#ifndef MILLRACE_ENGINE_PAGE_H
#define MILLRACE_ENGINE_PAGE_H

#include "engine/state.h"

static inline size_t page_size(uint32_t asked) {
  return asked ? MIN(asked, (uint32_t)PAGE_SIZE_MAX) : PAGE_SIZE_DEFAULT;
}
/* The rows of a page of a family whose list is its keys in order. False: the request has been answered with an error. */
bool page_rows(struct turn *turn, struct request *request, enum family family, const char *token, uint32_t asked,
               struct store_rows *out_rows);
/* The token after row `used - 1`; "" when the list ended there. */
char *page_next(struct turn *turn, const struct store_rows *rows, size_t used, uint32_t asked);
char *page_token(struct arena *arena, struct slice last_key);
/* The first key of the page after the token (the whole list for ""). False: not a token of ours; `error` names page_token. */
bool page_start(const char *token, struct key *out_from, struct error *error);

#endif
