/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MILLRACE_TESTS_CLIENT_TESTING_H
#define MILLRACE_TESTS_CLIENT_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#endif
