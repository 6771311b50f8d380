/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing leaves before it is durable and seen by lists, however turns are gathered. */
#include "harness.h"

#include <pthread.h>

#include "engine/syncer.h"

enum { PATIENCE_S = 60, MIB = 1 << 20, FLOOD = 200, HELD_MAX = 65, NOTHING_HAPPENS_MS = 100 };

struct world {
  struct store *store;
  struct syncer *syncer;
  pthread_mutex_t mutex;
  pthread_cond_t change;
  bool first_is_out; /* the syncer's thread lets the first release out, and */
  bool may_go_on;    /* ... waits for this, so that what follows is gathered */
  bool all_is_out;
  uint64_t synced_ticket; /* when the reply of the gathered write was let out */
  bool view_has_key;
  bool answered;
  bool freed_after_answer;
};

static void world_open(struct world *world) {
  world->store = store_open_memory();
  pthread_mutex_init(&world->mutex, NULL);
  pthread_cond_init(&world->change, NULL);
  world->syncer = syncer_new(NULL, &(struct engine_options){.store = world->store, .durability = DURABILITY_SYNC});
  syncer_start(world->syncer);
}

/* Its syncer was stopped. */
static void world_close(struct world *world) {
  syncer_free(world->syncer);
  store_close(world->store);
  pthread_cond_destroy(&world->change);
  pthread_mutex_destroy(&world->mutex);
}

static void wait_for(struct world *world, const bool *flag) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock(&world->mutex);
  while (!*flag)
    assert_int_equal(pthread_cond_timedwait(&world->change, &world->mutex, &until), 0);
  pthread_mutex_unlock(&world->mutex);
}

static void set(struct world *world, bool *flag) {
  pthread_mutex_lock(&world->mutex);
  *flag = true;
  pthread_cond_broadcast(&world->change);
  pthread_mutex_unlock(&world->mutex);
}

static const struct slice key = {"key", 3};

static void hold(void *data) {
  struct world *world = data;
  set(world, &world->first_is_out);
  wait_for(world, &world->may_go_on);
}

/* Keeps the syncer's thread at a release, so that what follows is gathered. */
static void hold_up(struct world *world) {
  struct release *first = release_new();
  release_call(first, hold, world);
  syncer_submit(world->syncer, first, false);
  wait_for(world, &world->first_is_out);
}

static void look(void *data) {
  struct world *world = data;
  struct store_statistics statistics;
  store_statistics(world->store, &statistics);
  world->synced_ticket = statistics.synced_ticket;
  struct store_view *view = syncer_view(world->syncer);
  struct store_get get = {.family = FAMILY_META, .key = key};
  struct error error;
  assert_int_equal(store_get_many(world->store, view, &get, 1, &error), STATUS_OK);
  world->view_has_key = get.value.data != NULL;
  store_gets_release(&get, 1);
  store_view_unref(view);
}

static void all_out(void *data) {
  struct world *world = data;
  set(world, &world->all_is_out);
}

/* A turn that wrote, then one that only answered, gathered by one sync. */
static void test_a_turn_that_writes_nothing_hides_no_write(void **state) {
  (void)state;
  struct world world = {.store = NULL};
  world_open(&world);
  hold_up(&world);

  struct release *wrote = release_new();
  struct store_batch *batch = store_batch_new();
  struct error error;
  store_batch_put(batch, FAMILY_META, key, key);
  assert_int_equal(store_write(world.store, batch, &wrote->ticket, &error), STATUS_OK);
  const uint64_t ticket = wrote->ticket;
  wrote->view = store_view_open(world.store);
  release_call(wrote, look, &world);
  syncer_submit(world.syncer, wrote, false);
  struct release *only_answered = release_new();
  release_call(only_answered, all_out, &world);
  syncer_submit(world.syncer, only_answered, false);
  set(&world, &world.may_go_on);
  wait_for(&world, &world.all_is_out);

  assert_true(world.synced_ticket >= ticket);
  assert_true(world.view_has_key);

  syncer_stop(world.syncer);
  world_close(&world);
  store_batch_free(batch);
}

static void answer(struct request *request, const struct error *error, const ProtobufCMessage *message) {
  (void)error;
  (void)message;
  ((struct world *)request->context)->answered = true;
}

static void free_borrowed(void *data) {
  struct world *world = data;
  world->freed_after_answer = world->answered;
}

/* A report ends a job, then the turn's end answers those who wait for it: with words of the report. */
static void test_what_a_turn_borrows_outlives_all_its_answers(void **state) {
  (void)state;
  struct world world = {.store = NULL};
  world_open(&world);
  struct request *request = request_new(NULL, 0);
  request->done = answer;
  request->context = &world;

  struct release *release = release_new();
  release_call(release, free_borrowed, &world);
  release_add(release, RELEASE_REPLY)->request = request;
  syncer_submit(world.syncer, release, true);
  syncer_stop(world.syncer);
  assert_true(world.freed_after_answer);

  world_close(&world);
}

/* With a weaker durability a crash may lose something, an orderly stop must not. */
static void test_a_stop_leaves_nothing_unsynced(void **state) {
  const enum durability *durability = *state;
  struct store *store = store_open_memory();
  const struct engine_options options = {.store = store, .durability = *durability, .durability_interval_ms = 3600 * 1000};
  struct syncer *syncer = syncer_new(NULL, &options);
  syncer_start(syncer);
  struct store_batch *batch = store_batch_new();
  struct release *wrote = release_new();
  struct error error;
  store_batch_put(batch, FAMILY_META, key, key);
  assert_int_equal(store_write(store, batch, &wrote->ticket, &error), STATUS_OK);
  const uint64_t ticket = wrote->ticket;
  syncer_submit(syncer, wrote, true);
  syncer_stop(syncer);
  struct store_statistics statistics;
  store_statistics(store, &statistics);
  assert_true(statistics.synced_ticket >= ticket);
  syncer_free(syncer);
  store_batch_free(batch);
  store_close(store);
}

struct flood {
  struct syncer *syncer;
  int submitted;
};

static gpointer flood(gpointer data) {
  struct flood *self = data;
  for (int i = 0; i < FLOOD; i++) {
    struct release *release = release_new();
    assert_non_null(arena_alloc(release->arena, MIB));
    syncer_submit(self->syncer, release, false);
    g_atomic_int_inc(&self->submitted);
  }
  return NULL;
}

/* While nothing gets out, whoever makes more has to wait: 64 MiB, and the one that passes them. */
static void test_what_is_not_out_is_bounded(void **state) {
  (void)state;
  struct world world = {.store = NULL};
  world_open(&world);
  hold_up(&world);

  struct flood producer = {.syncer = world.syncer};
  GThread *thread = g_thread_new("flood", flood, &producer);
  const gint64 last_us = g_get_monotonic_time() + PATIENCE_S * G_USEC_PER_SEC;
  while (g_atomic_int_get(&producer.submitted) < HELD_MAX && g_get_monotonic_time() < last_us)
    g_usleep(1000);
  for (int ms = 0; ms < NOTHING_HAPPENS_MS; ms++, g_usleep(1000))
    assert_int_equal(g_atomic_int_get(&producer.submitted), HELD_MAX);
  set(&world, &world.may_go_on);
  g_thread_join(thread);
  assert_int_equal(producer.submitted, FLOOD);

  syncer_stop(world.syncer);
  world_close(&world);
}

int main(void) {
  static enum durability interval = DURABILITY_INTERVAL, none = DURABILITY_NONE;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_a_turn_borrows_outlives_all_its_answers),
      cmocka_unit_test_prestate(test_a_stop_leaves_nothing_unsynced, &interval),
      cmocka_unit_test_prestate(test_a_stop_leaves_nothing_unsynced, &none),
      cmocka_unit_test(test_a_turn_that_writes_nothing_hides_no_write),
      cmocka_unit_test(test_what_is_not_out_is_bounded),
  };
  return cmocka_run_group_tests_name("syncer", tests, NULL, NULL);
}
