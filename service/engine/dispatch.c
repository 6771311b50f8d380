/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dispatch.h"

#include <string.h>

#include "engine/queues.h"
#include "engine/running.h"
#include "engine/sessions.h"
#include "engine/turn.h"
#include "millrace/v1/common.pb-c.h"

/* Jobs that one turn's dealing may change: more wait for the next, so that reports and creates get their turn too. */
enum { DISPATCH_MAX = 2000, UNPARK_SCAN = 16, UNPARK_UNSERVED_MAX = 1000, UNPARK_KEYS = 100, UNPARK_COST_MAX = 1000 };

/* Shares of HIGH, NORMAL and LOW in a weighted queue, by priority index. */
static const int shares[PRIORITIES] = {1, 3, 6, 0};

/* ---- who serves what ---- */

void dispatch_servers_changed(struct engine *engine, struct session *session) {
  for (guint i = 0; i < session->subscriptions->len; i++)
    ((struct subscription *)g_ptr_array_index(session->subscriptions, i))->queue->servers_changed = true;
  engine->dispatch_due = true;
}

static bool session_takes(const struct session *session) {
  return session->synced && !session->quiet;
}

static bool any_session(const struct queue *queue) {
  for (guint i = 0; i < queue->subscriptions->len; i++)
    if (session_takes(((struct subscription *)g_ptr_array_index(queue->subscriptions, i))->session))
      return true;
  return false;
}

static bool task_is_served(const struct queue *queue, const struct task *task) {
  for (guint i = 0; i < queue->subscriptions->len; i++) {
    const struct session *session = ((struct subscription *)g_ptr_array_index(queue->subscriptions, i))->session;
    if (session_takes(session) && session_handles(session, task))
      return true;
  }
  return false;
}

void dispatch_refresh_served(struct engine *engine, struct queue *queue) {
  if (!queue->servers_changed)
    return;
  queue->servers_changed = false;
  const bool was_attended = queue->attended;
  queue->attended = any_session(queue);
  if (!was_attended && queue->attended && queue->counts[JOB_PARKED])
    dispatch_unpark_later(engine); /* while nobody came, ready jobs of any task kept their keys; some will not be served now */
  for (guint i = 0; i < queue->tasks->len; i++) {
    struct task *task = task_by_number(queue, i);
    if (!task)
      continue;
    bool was_served = task->served;
    task->served = task_is_served(queue, task);
    if (was_served && !task->served && queue->counts[JOB_PARKED] && queue->attended)
      dispatch_unpark_later(engine); /* a ready job of it may stand in the way of parked ones of other tasks */
    for (int p = 0; p < PRIORITIES; p++)
      if (task->lanes[p])
        lane_sort(engine, task->lanes[p]);
  }
}

/* ---- limits of a queue ---- */

static bool queue_is_full(const struct queue *queue) {
  return queue->settings.running_max && queue->counts[JOB_RUNNING] >= queue->settings.running_max;
}

static bool queue_has_token(struct turn *turn, struct queue *queue) {
  if (queue->settings.rate <= 0)
    return true;
  int64_t passed_ms = turn->monotonic_ms - queue->tokens_ms;
  if (passed_ms > 0) {
    queue->tokens = MIN(queue->settings.burst, queue->tokens + queue->settings.rate * (double)passed_ms / 1000);
    queue->tokens_ms = turn->monotonic_ms;
  }
  return queue->tokens >= 1;
}

static bool queue_is_open(struct turn *turn, struct queue *queue) {
  if (queue->paused || queue_is_full(queue))
    return false;
  if (queue_has_token(turn, queue))
    return true;
  struct engine *engine = turn->engine;
  int64_t wait_ms = (int64_t)((1 - queue->tokens) / queue->settings.rate * 1000) + 1;
  engine->rate_due_ms = MIN(engine->rate_due_ms, turn->monotonic_ms + wait_ms);
  return false;
}

/* ---- choosing ---- */

/* The lane with the oldest job that the session handles, as far as is known. */
static struct lane *oldest_lane(const struct session *session, const struct heap *active) {
  struct heap_node *first = heap_first(active);
  if (!first)
    return NULL;
  struct lane *best = HEAP_OBJECT(first, struct lane, node);
  if (session_handles(session, best->task))
    return best;
  best = NULL;
  for (size_t i = 1; i < active->count; i++) {
    struct lane *lane = HEAP_OBJECT(active->nodes[i], struct lane, node);
    if ((!best || lane->node.key < best->node.key) && session_handles(session, lane->task))
      best = lane;
  }
  return best;
}

/* The lane of this priority with the oldest job that the session handles. */
static struct lane *lane_for(struct turn *turn, const struct session *session, struct queue *queue, unsigned priority) {
  struct lane *lane;
  do {
    lane = oldest_lane(session, &queue->active[priority]);
  } while (lane && lane_look(turn, lane));
  return lane;
}

/* A weighted queue competes at its highest waiting priority and shares inside itself; CRITICAL is outside of that. With `take`
 * the choice counts: one that only competes, and may lose to another queue, must not use up a share. */
static struct lane *weighted_lane_for(struct turn *turn, const struct session *session, struct queue *queue, unsigned priority,
                                      bool take) {
  struct lane *lanes[PRIORITIES] = {NULL};
  int credit[PRIORITIES];
  int total = 0, best = -1;
  for (int p = PRIORITIES - 2; p >= 0; p--) {
    lanes[p] = lane_for(turn, session, queue, (unsigned)p);
    if (lanes[p] && (unsigned)p > priority)
      return NULL; /* it competed higher up already */
  }
  if (!lanes[priority])
    return NULL;
  for (int p = 0; p < PRIORITIES - 1; p++) {
    if (!lanes[p])
      continue;
    credit[p] = queue->credit[p] + shares[p];
    total += shares[p];
    if (best < 0 || credit[p] > credit[best])
      best = p;
  }
  for (int p = 0; take && p < PRIORITIES - 1; p++)
    if (lanes[p])
      queue->credit[p] = credit[p] - (p == best ? total : 0);
  return lanes[best];
}

static struct lane *queue_lane_for(struct turn *turn, const struct session *session, struct queue *queue, unsigned priority,
                                   bool take) {
  if (!queue_is_open(turn, queue))
    return NULL;
  if (queue->settings.weighted && priority < PRIORITIES - 1)
    return weighted_lane_for(turn, session, queue, priority, take);
  return lane_for(turn, session, queue, priority);
}

/* Smooth weighted round-robin over the session's queues that have something at this priority. */
static struct lane *choose_lane(struct turn *turn, struct session *session, unsigned priority) {
  if (session->subscriptions->len == 1)
    return queue_lane_for(turn, session, ((struct subscription *)g_ptr_array_index(session->subscriptions, 0))->queue, priority,
                          true);
  struct subscription *best = NULL;
  int64_t total = 0;
  for (guint i = 0; i < session->subscriptions->len; i++) {
    struct subscription *subscription = g_ptr_array_index(session->subscriptions, i);
    if (!queue_lane_for(turn, session, subscription->queue, priority, false))
      continue;
    subscription->credit += subscription->weight;
    total += subscription->weight;
    if (!best || subscription->credit > best->credit)
      best = subscription;
  }
  if (!best)
    return NULL;
  best->credit -= total;
  return queue_lane_for(turn, session, best->queue, priority, true);
}

/* ---- leasing ---- */

/* Among the free sessions, or out when it has no slot left. */
static void round_place(struct engine *engine, struct session *session) {
  unsigned free_slots = session_free_slots(session);
  if (session_takes(session) && free_slots)
    heap_set(&engine->round, &session->node, 1000000 - (uint64_t)free_slots * 1000000 / session->concurrency);
  else
    heap_remove(&engine->round, &session->node);
}

static void round_fill(struct engine *engine) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, engine->sessions);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    round_place(engine, value);
}

static bool key_is_full(struct engine *engine, const struct job *job) {
  if (!job->concurrency_key[0])
    return false;
  struct concurrency name = {.queue = job->queue, .key = (char *)job->concurrency_key};
  const struct concurrency *concurrency = g_hash_table_lookup(engine->concurrencies, &name);
  return concurrency && concurrency->holders >= job->concurrency_limit;
}

/* The first job of the lane with its body. What follows it in the lane will most likely go out in this turn too: one read for
 * all. */
static struct entry *first_entry(struct turn *turn, struct session *session, struct lane *lane) {
  const struct ready *first = lane_first(turn, lane);
  if (!first)
    return NULL;
  struct id id = first->id;
  struct entry *entry = g_hash_table_lookup(turn->entries, &id);
  if (!entry || !entry->spec_loaded) {
    struct id ahead[DELIVERIES_PER_MESSAGE_MAX];
    size_t count = lane_ahead(lane, ahead, MIN(session_free_slots(session), DELIVERIES_PER_MESSAGE_MAX));
    turn_fetch_bodies(turn, ahead, count);
    entry = turn_job(turn, &id);
  }
  return entry && entry->spec_loaded ? entry : NULL;
}

/* Deals jobs of one priority until nobody is free, nothing is left, or the turn has cost so much. */
static void deal(struct turn *turn, unsigned priority, unsigned cost_max) {
  struct engine *engine = turn->engine;
  struct heap_node *node;
  round_fill(engine);
  while (turn->cost < cost_max && (node = heap_first(&engine->round)) && !engine->failed) {
    struct session *session = HEAP_OBJECT(node, struct session, node);
    struct lane *lane = choose_lane(turn, session, priority);
    struct entry *entry = lane ? first_entry(turn, session, lane) : NULL;
    if (!entry) {
      heap_remove(&engine->round, node);
      continue;
    }
    struct job next = entry->now;
    if (job_end_late(&next, turn->now_ms)) { /* its timer comes too late: it was created so, or a storm of timers is on */
      turn_update(turn, entry, &next);
      continue;
    }
    if (key_is_full(engine, &next)) {
      job_park(&next);
      turn_update(turn, entry, &next);
      continue;
    }
    if (lane->queue->settings.rate > 0)
      lane->queue->tokens -= 1;
    running_begin(turn, session, entry);
    round_place(engine, session);
  }
  while ((node = heap_first(&engine->round)))
    heap_remove(&engine->round, node);
}

/* ---- parked jobs ---- */

void dispatch_unpark(struct turn *turn, uint32_t queue, const char *concurrency_key) {
  if (queue_by_number(turn->engine, queue)->counts[JOB_PARKED] == 0)
    return;
  if (!turn->unpark)
    turn->unpark = concurrencies_new();
  concurrencies_at(turn->unpark, queue, concurrency_key)->lost++;
}

/* Ready, it would keep its key from jobs of other tasks and not run itself. */
static bool stands_in_the_way(struct queue *queue, const struct job *job) {
  return !task_by_number(queue, job->task)->served && any_session(queue);
}

/* The next `count` parked jobs of the key become ready, whatever else this turn has done to those in front of them. One whose
 * task nobody serves, while other tasks are served, becomes ready too but does not count. False: so many of these came that there
 * may be more to do in another turn. */
static bool unpark(struct turn *turn, uint32_t queue, const char *concurrency_key, unsigned count) {
  unsigned unserved = 0;
  struct key from, until;
  key_parked_prefix(&from, queue, concurrency_key);
  bool bounded = key_after_prefix(&from, &until);
  struct store_range range = {FAMILY_PARKED, key_slice(&from), bounded ? key_slice(&until) : (struct slice){NULL, 0}, false,
                              UNPARK_SCAN};
  for (bool more = true; more && count;) {
    struct store_rows rows;
    if (!turn_scan(turn, &range, &rows))
      return true;
    for (size_t i = 0; i < rows.count && count; i++) {
      struct id id;
      memcpy(id.bytes, rows.rows[i].value.data, ID_BYTES);
      struct entry *entry = turn_job(turn, &id);
      if (!entry || entry->now.state != JOB_PARKED)
        continue;
      struct job next = entry->now;
      job_unpark(&next);
      turn_update(turn, entry, &next);
      if (stands_in_the_way(queue_by_number(turn->engine, queue), &next))
        unserved++;
      else
        count--;
    }
    more = rows.count == range.limit;
    if (more && count && unserved >= UNPARK_UNSERVED_MAX) {
      store_rows_release(&rows);
      return false;
    }
    if (more) { /* go on right behind the last one: its key and a zero byte */
      struct slice last = rows.rows[rows.count - 1].key;
      memcpy(from.bytes, last.data, last.length);
      from.bytes[last.length] = 0;
      from.length = last.length + 1;
      range.from = key_slice(&from);
    }
    store_rows_release(&rows);
  }
  return true;
}

static void unpark_all(struct turn *turn) {
  if (!turn->unpark)
    return;
  GHashTableIter iter;
  gpointer item;
  g_hash_table_iter_init(&iter, turn->unpark);
  while (g_hash_table_iter_next(&iter, &item, NULL)) {
    const struct concurrency *concurrency = item;
    if (!unpark(turn, concurrency->queue, concurrency->key, concurrency->lost))
      dispatch_unpark_later(turn->engine);
  }
  g_hash_table_remove_all(turn->unpark);
}

void dispatch_run(struct turn *turn) {
  struct engine *engine = turn->engine;
  unpark_all(turn);
  if (turn->monotonic_ms >= engine->rate_due_ms)
    engine->dispatch_due = true;
  if (!engine->dispatch_due || __atomic_load_n(&engine->stopping, __ATOMIC_ACQUIRE))
    return;
  engine->dispatch_due = false;
  engine->rate_due_ms = INT64_MAX;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, engine->queues_by_name);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    dispatch_refresh_served(engine, value);
  const unsigned cost_max = turn->cost + DISPATCH_MAX;
  for (int p = PRIORITIES - 1; p >= 0; p--)
    if (engine->active_lanes[p])
      deal(turn, (unsigned)p, cost_max);
  if (turn->cost >= cost_max)
    engine->dispatch_due = engine->again = true;
  unpark_all(turn);
}

/* ---- why does it wait? ---- */

int dispatch_waiting_reason(struct turn *turn, const struct job *job) {
  switch (job->state) {
  case JOB_SCHEDULED:
  case JOB_RETRYING:
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_SCHEDULED;
  case JOB_BLOCKED:
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_BLOCKED;
  case JOB_PARKED:
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_CONCURRENCY_KEY;
  case JOB_PENDING:
    break;
  default:
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_UNSPECIFIED;
  }
  struct queue *queue = queue_by_number(turn->engine, job->queue);
  const struct task *task = task_by_number(queue, job->task);
  if (queue->paused)
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_QUEUE_PAUSED;
  if (!any_session(queue))
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_NO_WORKER_FOR_QUEUE;
  if (!task_is_served(queue, task))
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_NO_WORKER_FOR_TASK;
  if (queue_is_full(queue))
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_QUEUE_LIMIT;
  if (!queue_has_token(turn, queue))
    return MILLRACE__V1__WAITING_REASON__WAITING_REASON_RATE_LIMITED;
  return MILLRACE__V1__WAITING_REASON__WAITING_REASON_NO_FREE_SLOT;
}

/* ---- all keys ---- */

struct unpark_work {
  struct slice_work work;
  struct engine *engine;
  struct key from;
};

static void unpark_work_free(struct slice_work *work) {
  ((struct unpark_work *)(void *)work)->engine->unparking = false;
  g_free(work);
}

/* Of some keys with parked jobs, as many become ready as their limits allow; they park again if a key has its holders. False: no
 * key is left. */
static bool unpark_keys(struct turn *turn, struct unpark_work *self) {
  const unsigned cost_max = turn->cost + UNPARK_COST_MAX;
  for (int keys = 0; keys < UNPARK_KEYS && turn->cost < cost_max; keys++) {
    struct store_range range = {.family = FAMILY_PARKED, .from = key_slice(&self->from), .limit = 1};
    struct store_rows rows;
    if (!turn_scan(turn, &range, &rows))
      return false;
    uint32_t queue;
    char name[257];
    uint8_t priority;
    uint64_t sequence;
    bool found = rows.count == 1 && key_read_parked(rows.rows[0].key, &queue, name, &priority, &sequence);
    struct id id;
    if (found)
      memcpy(id.bytes, rows.rows[0].value.data, ID_BYTES);
    store_rows_release(&rows);
    if (!found)
      return false;
    const struct entry *entry = turn_job(turn, &id);
    if (!unpark(turn, queue, name, entry ? entry->now.concurrency_limit : 1))
      return true; /* with this key again */
    struct key prefix;
    key_parked_prefix(&prefix, queue, name);
    if (!key_after_prefix(&prefix, &self->from))
      return false;
  }
  return true;
}

static bool unpark_step(struct turn *turn, struct slice_work *work) {
  struct unpark_work *self = (struct unpark_work *)(void *)work;
  if (unpark_keys(turn, self))
    return true;
  const bool again = turn->engine->unpark_again && !turn->engine->failed;
  turn->engine->unpark_again = false;
  self->from.length = 0;
  return again;
}

void dispatch_unpark_later(struct engine *engine) {
  engine->unpark_again = engine->unparking; /* the slice may be past those that it is wanted for */
  if (engine->unparking)
    return;
  engine->unparking = true;
  struct unpark_work *work = g_new0(struct unpark_work, 1);
  work->engine = engine;
  work->work = (struct slice_work){unpark_step, unpark_work_free};
  engine_add_slice(engine, &work->work);
}
