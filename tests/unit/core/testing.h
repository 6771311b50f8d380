/* SPDX-License-Identifier: Apache-2.0 */
/* testing.h: what every unit test of the core includes. */
#ifndef MILLRACE_TESTS_TESTING_H
#define MILLRACE_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <glib.h>

#endif
