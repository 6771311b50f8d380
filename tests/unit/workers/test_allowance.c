/* SPDX-License-Identifier: Apache-2.0 */
/* What is charged and what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/allowance.h"

enum { KIB = 1024, MIB = 1024 * 1024 };
static const uint8_t binary = 0x82, fragment = 0x00, ping = 0x89;

enum { HEAD_BYTES = 6 };

static void read_frame(struct allowance *allowance, uint8_t first, size_t payload_bytes) {
  allowance_charge_frame(allowance, first);
  allowance_charge(allowance, HEAD_BYTES + payload_bytes);
}

static void a_message_comes_back_whole_however_it_was_cut(void **state) {
  (void)state;
  struct allowance allowance;
  allowance_set(&allowance, 8 * MIB, 0);
  for (int message = 0; message < 1000; message++) {
    read_frame(&allowance, binary, 2 * KIB);
    for (int i = 1; i < 1000; i++)
      read_frame(&allowance, fragment, 2 * KIB);
    assert_true(allowance.left > 0);
    allowance_give_back(&allowance, 1000 * 2 * KIB);
    allowance_settle(&allowance, 0);
  }
  assert_true(allowance.left >= 7 * MIB);
}

static void small_messages_never_run_out(void **state) {
  (void)state;
  struct allowance allowance;
  allowance_set(&allowance, 64 * KIB, 0);
  for (int message = 0; message < 100000; message++) {
    read_frame(&allowance, binary, 20);
    assert_true(allowance.left > 0);
    allowance_give_back(&allowance, 20);
    if (allowance_is_low(&allowance))
      allowance_settle(&allowance, 0);
  }
}

static void pings_are_paid_by_time_alone(void **state) {
  (void)state;
  struct allowance allowance;
  allowance_set(&allowance, 64 * KIB, 0);
  int pings = 0;
  for (; allowance.left > 0; pings++) {
    assert_true(pings < 1000);
    read_frame(&allowance, ping, 0);
    read_frame(&allowance, binary, 20);
    allowance_give_back(&allowance, 20);
    allowance_settle(&allowance, 0);
  }
  assert_true(pings > 100);
  allowance_settle(&allowance, 10 * 1000);
  assert_in_range(allowance.left, 38 * KIB, 40 * KIB);
  allowance_settle(&allowance, 1000 * 1000);
  assert_int_equal(allowance.left, 64 * KIB);
}

static void tiny_fragments_run_out_soon(void **state) {
  (void)state;
  struct allowance allowance;
  allowance_set(&allowance, 8 * MIB, 0);
  read_frame(&allowance, binary, 0);
  int frames = 1;
  for (; allowance.left > 0; frames++)
    read_frame(&allowance, fragment, 0);
  assert_true(frames < 10000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_message_comes_back_whole_however_it_was_cut),
      cmocka_unit_test(small_messages_never_run_out),
      cmocka_unit_test(pings_are_paid_by_time_alone),
      cmocka_unit_test(tiny_fragments_run_out_soon),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
