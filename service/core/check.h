/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: the checks of single fields that validation is made of. Private to core/. `field` is the field's path within the
 * message at hand. Threads: any. Errors: INVALID_ARGUMENT. */
#ifndef MILLRACE_CORE_CHECK_H
#define MILLRACE_CORE_CHECK_H

#include <protobuf-c/protobuf-c.h>

#include "core/error.h"
#include "google/protobuf/duration.pb-c.h"

/* Walks the whole message: texts are UTF-8, enum values known, numbers finite, timestamps and durations in the range of their
 * type. */
enum status check_message(const ProtobufCMessage *message, struct error *error) STATUS_CHECK;

/* [A-Za-z0-9._:/-]{1,NAME_BYTES_MAX}. "" only when not required. */
enum status check_name(const char *text, const char *field, bool required, struct error *error) STATUS_CHECK;
/* A UUID. "" only when not required. */
enum status check_id(const char *text, const char *field, bool required, struct error *error) STATUS_CHECK;
/* Any text of at most `bytes_max`. */
enum status check_text(const char *text, const char *field, size_t bytes_max, struct error *error) STATUS_CHECK;
/* The same, visible ASCII and blanks only: it may become a header. */
enum status check_header(const char *text, const char *field, size_t bytes_max, struct error *error) STATUS_CHECK;
enum status check_range(uint64_t value, const char *field, uint64_t min, uint64_t max, struct error *error) STATUS_CHECK;
/* How many items a list has. */
enum status check_count(size_t count, const char *field, size_t min, size_t max, struct error *error) STATUS_CHECK;
enum status check_fraction(double value, const char *field, double min, double max, struct error *error) STATUS_CHECK;
/* NULL is fine. */
enum status check_duration(const Google__Protobuf__Duration *duration, const char *field, int64_t min_ms, int64_t max_ms,
                           struct error *error) STATUS_CHECK;
/* A map<string, string> of labels; `entries` is the generated array of its entries. */
enum status check_labels(size_t count, const void *entries, const char *field, size_t count_max,
                         struct error *error) STATUS_CHECK;
/* Refuses what is set although it must not be here; `why` ends the sentence "must not be set ...". */
enum status check_unset(bool is_set, const char *field, const char *why, struct error *error) STATUS_CHECK;

#endif
