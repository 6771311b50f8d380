/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint may take long: everybody else is served meanwhile. */
#include "harness.h"

#include <pthread.h>
#include <time.h>

#include "millrace/v1/admin_service.pb-c.h"
#include "store/backend.h"

enum { PATIENCE_S = 20 };

/* What the store's checkpoint waits for. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool begun, may_end, ran_out;
} hold = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool hold_wait(const bool *fact) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock(&hold.lock);
  while (!*fact && pthread_cond_timedwait(&hold.changed, &hold.lock, &until) == 0) {
  }
  const bool is_so = *fact;
  pthread_mutex_unlock(&hold.lock);
  return is_so;
}

static void hold_set(bool *fact) {
  pthread_mutex_lock(&hold.lock);
  *fact = true;
  pthread_cond_broadcast(&hold.changed);
  pthread_mutex_unlock(&hold.lock);
}

static enum status slow_checkpoint(struct store *store, const char *directory, struct error *error) {
  (void)store, (void)directory, (void)error;
  hold_set(&hold.begun);
  if (!hold_wait(&hold.may_end))
    hold_set(&hold.ran_out);
  return STATUS_OK;
}

static void test_others_are_served_while_one_is_made(void **state) {
  (void)state;
  struct store *store = store_open_memory();
  struct backend slow = *store->backend;
  slow.checkpoint = slow_checkpoint;
  store->backend = &slow;
  struct harness harness;
  harness_open_with(&harness, &(struct engine_options){.seed = 1, .store = store, .checkpoint_directory = "/nowhere"});
  Millrace__V1__CheckpointRequest message = MILLRACE__V1__CHECKPOINT_REQUEST__INIT;
  Millrace__V1__GetServerInfoRequest question = MILLRACE__V1__GET_SERVER_INFO_REQUEST__INIT;
  message.name = "first";
  struct harness_stream *first = harness_stream_open(&harness, "AdminService/Checkpoint", &message.base);
  assert_true(hold_wait(&hold.begun));
  assert_non_null(harness_call(&harness, "AdminService/GetServerInfo", &question.base));
  message.name = "second";
  assert_null(harness_call(&harness, "AdminService/Checkpoint", &message.base));
  assert_int_equal(harness.error.status, STATUS_RESOURCE_EXHAUSTED);
  pthread_mutex_lock(&hold.lock);
  assert_false(hold.ran_out);
  pthread_mutex_unlock(&hold.lock);
  hold_set(&hold.may_end);
  assert_null(harness_stream_next(first)); /* its answer */
  const Millrace__V1__CheckpointResponse *response = harness_call(&harness, "AdminService/Checkpoint", &message.base);
  assert_non_null(response);
  assert_string_equal(response->path, "/nowhere/second");
  harness_stream_close(&harness, first);
  harness_close(&harness);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_others_are_served_while_one_is_made)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
