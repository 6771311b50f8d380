/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h: what the tests of the store share: opening each backend, short words for puts and reads, temporary directories. */
#ifndef MILLRACE_TESTS_CONTRACT_FIXTURE_H
#define MILLRACE_TESTS_CONTRACT_FIXTURE_H

/* cmocka wants these four first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "store/faulty.h"

/* A new directory; directory_remove deletes and frees it. NULL is fine. */
char *directory_new(void);
void directory_remove(char *directory);

/* Fails the test with the error's message. */
#define assert_ok(expression, error)                                                                                             \
  do {                                                                                                                           \
    enum status status_ = (expression);                                                                                          \
    if (status_ != STATUS_OK) {                                                                                                  \
      fail_msg("%s: %s: %s", #expression, status_name(status_), (error).message);                                                \
    }                                                                                                                            \
  } while (0)

struct store *rocks_open(const char *directory);

struct slice text(const char *string);
void put(struct store_batch *batch, enum family family, const char *key, const char *value);
/* Each writes one batch and answers its ticket. */
uint64_t write_batch(struct store *store, const struct store_batch *batch);
uint64_t write_put(struct store *store, enum family family, const char *key, const char *value);
uint64_t write_delete(struct store *store, enum family family, const char *key);

/* The value as text, or NULL; the caller frees. */
char *read_text(struct store *store, struct store_view *view, enum family family, const char *key);
void assert_value(struct store *store, struct store_view *view, enum family family, const char *key, const char *expected);
/* The keys of a range joined by spaces; the caller frees. NULL bounds are open. */
char *read_keys(struct store *store, struct store_view *view, enum family family, const char *from, const char *until,
                bool backwards, size_t limit);
size_t count_rows(struct store *store, enum family family);

#endif
