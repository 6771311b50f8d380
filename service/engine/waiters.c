/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/waiters.h"

#include <string.h>

#include "core/time.h"
#include "engine/answer.h"
#include "engine/batches.h"
#include "engine/chains.h"
#include "engine/filter.h"
#include "engine/turn.h"
#include "millrace/v1/job_service.pb-c.h"

static void waiter_free(struct engine *engine, struct waiter *waiter) {
  heap_remove(&engine->wait_timeouts, &waiter->node);
  GPtrArray *others = g_hash_table_lookup(engine->waits[waiter->kind], &waiter->id);
  g_ptr_array_remove_fast(others, waiter);
  if (others->len == 0)
    g_hash_table_remove(engine->waits[waiter->kind], &waiter->id);
  waiter->request->state = NULL;
  engine->statistics.waiters--;
  g_free(waiter);
}

void wait_add(struct turn *turn, enum wait_kind kind, const struct id *id, struct request *request, int64_t timeout_ms) {
  struct engine *engine = turn->engine;
  if (engine->statistics.waiters >= WAITERS_MAX) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL,
                  "%d callers wait already, the most that can; poll with Get instead", WAITERS_MAX);
    return;
  }
  struct waiter *waiter = g_new0(struct waiter, 1);
  waiter->request = request;
  waiter->id = *id;
  waiter->kind = kind;
  request->state = waiter;
  GPtrArray *others = g_hash_table_lookup(engine->waits[kind], id);
  if (!others) {
    others = g_ptr_array_new();
    g_hash_table_insert(engine->waits[kind], g_memdup2(id, sizeof *id), others);
  }
  g_ptr_array_add(others, waiter);
  heap_set(&engine->wait_timeouts, &waiter->node, (uint64_t)(turn->monotonic_ms + timeout_ms));
  engine->statistics.waiters++;
}

static void answer(struct turn *turn, struct waiter *waiter, bool timed_out) {
  struct request *request = waiter->request;
  struct id id = waiter->id;
  enum wait_kind kind = (enum wait_kind)waiter->kind;
  waiter_free(turn->engine, waiter);
  if (kind == WAIT_CHAIN) {
    chain_answer_wait(turn, request, &id, timed_out);
  } else if (kind == WAIT_BATCH) {
    batch_answer_wait(turn, request, &id, timed_out);
  } else {
    struct entry *entry = turn_job(turn, &id);
    const Millrace__V1__WaitJobRequest *message = (const void *)request->message;
    Millrace__V1__WaitJobResponse *response =
        MESSAGE(turn->arena, Millrace__V1__WaitJobResponse, millrace__v1__wait_job_response__descriptor);
    response->timed_out = timed_out;
    if (entry)
      response->job = answer_job(turn, entry, message->view != MILLRACE__V1__VIEW__VIEW_BASIC);
    reply(turn, request, response);
  }
}

static void answer_all(struct turn *turn, enum wait_kind kind, const struct id *id) {
  GPtrArray *waiting;
  while ((waiting = g_hash_table_lookup(turn->engine->waits[kind], id)))
    answer(turn, g_ptr_array_index(waiting, 0), false);
}

void waiters_job_ended(struct turn *turn, struct entry *entry) {
  answer_all(turn, WAIT_JOB, &entry->id);
}

void waiters_chain_ended(struct turn *turn, const struct id *chain) {
  answer_all(turn, WAIT_CHAIN, chain);
}

void waiters_batch_ended(struct turn *turn, const struct id *batch) {
  answer_all(turn, WAIT_BATCH, batch);
}

/* ---- watches ---- */

struct watch {
  struct request *request;
  struct filter *filter;
  bool full;
};

static void watch_free(struct engine *engine, struct watch *watch) {
  g_ptr_array_remove(engine->watches, watch);
  watch->request->state = NULL;
  filter_free(watch->filter);
  g_free(watch);
  engine->statistics.watches = engine->watches->len;
}

static Millrace__V1__WatchJobsResponse *watch_message(struct turn *turn) {
  return MESSAGE(turn->arena, Millrace__V1__WatchJobsResponse, millrace__v1__watch_jobs_response__descriptor);
}

static void send_state(struct turn *turn, const struct watch *watch, struct entry *entry, bool deleted) {
  Millrace__V1__WatchJobsResponse *message = watch_message(turn);
  message->job = answer_job(turn, entry, watch->full && !deleted);
  message->deleted = deleted;
  send_event(turn, watch->request, &message->base);
}

void watches_tell(struct turn *turn, struct entry *entry, bool deleted) {
  GPtrArray *watches = turn->engine->watches;
  for (guint i = 0; i < watches->len; i++) {
    const struct watch *watch = g_ptr_array_index(watches, i);
    if (filter_matches_identity(watch->filter, &entry->now))
      send_state(turn, watch, entry, deleted);
  }
}

/* The states of all matches. False: there are too many. */
static bool send_states(struct turn *turn, const struct watch *watch) {
  const size_t used = arena_used(turn->arena);
  bool all;
  GPtrArray *matches = filter_matching(turn, watch->filter, BULK_JOBS_MAX, &all);
  for (guint i = 0; i < matches->len && all; i++) {
    send_state(turn, watch, g_ptr_array_index(matches, i), false);
    all = arena_used(turn->arena) - used < FILTER_BYTES_MAX;
  }
  g_ptr_array_free(matches, TRUE);
  return all;
}

void watch_jobs_apply(struct turn *turn, struct request *request) {
  struct engine *engine = turn->engine;
  const Millrace__V1__WatchJobsRequest *message = (const void *)request->message;
  struct error error;
  if (engine->watches->len >= WATCHES_MAX) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL, "%d callers watch already, the most that can", WATCHES_MAX);
    return;
  }
  struct filter *filter = filter_new(engine, message->filter, &error);
  if (!filter) {
    reply_error(turn, request, &error);
    return;
  }
  struct watch *watch = g_new0(struct watch, 1);
  watch->request = request;
  watch->filter = filter;
  watch->full = message->view == MILLRACE__V1__VIEW__VIEW_FULL;
  /* Registered before the states are sent: what changes from now on follows them. */
  if (!send_states(turn, watch)) {
    watch_free(engine, watch);
    reply_failure(
        turn, request, STATUS_RESOURCE_EXHAUSTED, "filter",
        "too many jobs match to watch them all (%d, or %d MiB, at most); name ids, a batch, a chain or a label, or watch "
        "the basic view",
        BULK_JOBS_MAX, FILTER_BYTES_MAX >> 20);
    return;
  }
  Millrace__V1__WatchJobsResponse *done = watch_message(turn);
  done->initial_done = true;
  send_event(turn, request, &done->base);
  g_ptr_array_add(engine->watches, watch);
  request->state = watch;
  engine->statistics.watches = engine->watches->len;
}

/* ---- endings ---- */

static void watches_run(struct turn *turn) {
  GPtrArray *watches = turn->engine->watches;
  for (guint i = watches->len; i-- > 0;) {
    struct watch *watch = g_ptr_array_index(watches, i);
    struct request *request = watch->request;
    if (__atomic_load_n(&request->cancelled, __ATOMIC_ACQUIRE) != 2)
      continue;
    watch_free(turn->engine, watch);
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL,
                  "the reader is too slow: too much is waiting to be sent; watch again, with a narrower filter");
  }
}

void waiters_run(struct turn *turn) {
  struct heap_node *node;
  while ((node = heap_first(&turn->engine->wait_timeouts)) && node->key <= (uint64_t)turn->monotonic_ms)
    answer(turn, HEAP_OBJECT(node, struct waiter, node), true);
  watches_run(turn);
}

void waiters_cancel(struct turn *turn, struct request *request) {
  if (request->finished || !request->state)
    return;
  if (request->method->shape == METHOD_SERVER_STREAM)
    watch_free(turn->engine, request->state);
  else
    waiter_free(turn->engine, request->state);
  reply_failure(turn, request, STATUS_CANCELLED, NULL, "the caller left");
}

void waiters_stop(struct turn *turn) {
  struct engine *engine = turn->engine;
  struct heap_node *node;
  while ((node = heap_first(&engine->wait_timeouts))) {
    struct waiter *waiter = HEAP_OBJECT(node, struct waiter, node);
    struct request *request = waiter->request;
    waiter_free(engine, waiter);
    reply_failure(turn, request, STATUS_UNAVAILABLE, NULL, "the server is stopping; ask again");
  }
  while (engine->watches->len) {
    struct watch *watch = g_ptr_array_index(engine->watches, 0);
    struct request *request = watch->request;
    watch_free(engine, watch);
    reply_failure(turn, request, STATUS_UNAVAILABLE, NULL, "the server is stopping; watch again");
  }
}
