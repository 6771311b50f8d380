/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: is a text well-formed JSON (RFC 8259), one value, nested at most JSON_DEPTH_MAX deep? It refuses NaN, comments, text
 * behind the value and invalid UTF-8. Does not keep anything, does not recurse. Threads: any. Errors: INVALID_ARGUMENT without a
 * field, with the place of the fault. */
#ifndef MILLRACE_CORE_JSON_H
#define MILLRACE_CORE_JSON_H

#include <stddef.h>

#include "core/error.h"

enum status json_check(const char *text, size_t length, struct error *error) STATUS_CHECK;

#endif
