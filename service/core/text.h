/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: text that came from outside. Threads: any. */
#ifndef MILLRACE_CORE_TEXT_H
#define MILLRACE_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"

/* Is it valid UTF-8? Fast for plain ASCII. */
bool text_is_utf8(const char *text, size_t length);
/* The same text, at most `bytes_max` long, cut between characters, each invalid byte replaced by U+FFFD; NULL counts as "". It is
 * `text` itself when nothing had to change, otherwise it lives in the arena (which has no limit). */
const char *text_clean(struct arena *arena, const char *text, size_t bytes_max);

#endif
