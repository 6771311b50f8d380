/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sessions.h"

#include <string.h>

#include "core/time.h"
#include "engine/dispatch.h"
#include "engine/queues.h"
#include "engine/reports.h"
#include "engine/running.h"
#include "engine/turn.h"

enum {
  PING_MS = 5000,
  PINGS_MISSED_MAX = 3,
  END_SLICE = 500,
  UNRECEIVED_MAX = 2 * (WORKER_CONCURRENCY_MAX + WORKER_PREFETCH_MAX)
};

static unsigned held_hash(const void *pointer) {
  const struct held *held = pointer;
  return id_hash(&held->id) ^ held->delivery;
}

static int held_equal(const void *a, const void *b) {
  const struct held *x = a, *y = b;
  return id_equal(&x->id, &y->id) && x->delivery == y->delivery;
}

static GHashTable *held_set_new(void) {
  return g_hash_table_new_full(held_hash, held_equal, g_free, NULL);
}

struct session *session_find(struct engine *engine, const struct id *id) {
  return g_hash_table_lookup(engine->sessions, id);
}

const struct policy *session_policy(const struct session *session, const char *task) {
  const struct policy *policy = g_hash_table_lookup(session->tasks, task);
  return policy ? policy : session->all_policy;
}

bool session_handles(const struct session *session, const struct task *task) {
  if (session->unknown_tasks && g_hash_table_contains(session->unknown_tasks, task))
    return false;
  return session->handles_all || g_hash_table_contains(session->tasks, task->name);
}

unsigned session_free_slots(const struct session *session) {
  if (session->live_bytes >= SESSION_BYTES_MAX)
    return 0;
  unsigned revoked = g_hash_table_size(session->revoked);
  if (revoked >= session->registration->concurrency)
    return 0; /* nothing it gets could begin */
  unsigned used = session->live + revoked;
  return used < session->concurrency ? session->concurrency - used : 0;
}

static void sent_free(void *pointer) {
  struct sent *sent = pointer;
  g_ptr_array_free(sent->running, TRUE);
  g_free(sent);
}

static void policy_free(void *pointer) {
  struct policy *policy = pointer;
  if (policy)
    g_free((void *)policy->delays_ms);
  g_free(policy);
}

static struct policy *policy_new(const Millrace__V1__WorkerTask *task) {
  struct arena *arena = arena_new(0);
  struct policy *policy = g_new(struct policy, 1);
  *policy = policy_from_api(task->retry_policy, task->attempt_timeout, arena);
  policy->delays_ms = g_memdup2(policy->delays_ms, policy->delays * sizeof *policy->delays_ms);
  arena_free(arena);
  return policy;
}

/* A session as registered, subscribed to nothing yet. Copies the registration, without the resume fields. */
static struct session *session_new(const struct id *id, const Millrace__V1__RegisterRequest *registration,
                                   const uint8_t token_hash[32]) {
  struct session *session = g_new0(struct session, 1);
  session->id = *id;
  memcpy(session->token_hash, token_hash, sizeof session->token_hash);
  Millrace__V1__RegisterRequest copy = *registration;
  copy.resume_session_id = copy.resume_session_token = (char *)protobuf_c_empty_string;
  size_t bytes = millrace__v1__register_request__get_packed_size(&copy);
  uint8_t *packed = g_malloc(bytes + 1);
  millrace__v1__register_request__pack(&copy, packed);
  session->registration = millrace__v1__register_request__unpack(NULL, bytes, packed);
  g_free(packed);
  session->subscriptions = g_ptr_array_new_with_free_func(g_free);
  session->tasks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, policy_free);
  for (size_t i = 0; i < session->registration->n_tasks; i++) {
    Millrace__V1__WorkerTask *task = session->registration->tasks[i];
    if (strcmp(task->name, "*") == 0 && !session->handles_all) {
      session->handles_all = true;
      session->all_policy = policy_new(task);
    } else {
      g_hash_table_replace(session->tasks, task->name, policy_new(task));
    }
  }
  session->concurrency = registration->concurrency + registration->prefetch;
  session->sent = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, sent_free);
  session->revoked = held_set_new();
  session->suspects = held_set_new();
  session->outgoing = g_ptr_array_new();
  session->commands = g_array_new(FALSE, FALSE, sizeof(struct command));
  return session;
}

static void subscribe(struct session *session, struct queue *queue, uint32_t weight) {
  for (guint i = 0; i < session->subscriptions->len; i++)
    if (((struct subscription *)g_ptr_array_index(session->subscriptions, i))->queue == queue)
      return;
  struct subscription *subscription = g_new0(struct subscription, 1);
  *subscription = (struct subscription){.session = session, .queue = queue, .weight = weight ? weight : 1};
  g_ptr_array_add(session->subscriptions, subscription);
  g_ptr_array_add(queue->subscriptions, subscription);
}

static void session_touch(struct turn *turn, struct session *session) {
  session->dirty = true;
  g_hash_table_add(turn->engine->dirty_sessions, session);
}

static void session_speak_later(struct turn *turn, struct session *session) {
  session->speaks = true;
  g_hash_table_add(turn->engine->dirty_sessions, session);
}

struct session *session_add(struct turn *turn, const struct id *id, const Millrace__V1__RegisterRequest *registration,
                            const uint8_t token_hash[32]) {
  struct engine *engine = turn->engine;
  struct session *session = session_new(id, registration, token_hash);
  session->registered_ms = session->last_seen_ms = turn->now_ms;
  session->ends_ms = engine->silence_ms + engine->options.session_timeout_ms;
  g_hash_table_insert(engine->sessions, &session->id, session);
  session_touch(turn, session);
  struct release_item *item = release_add(turn->release, RELEASE_OPEN);
  item->session = *id;
  item->bytes = g_memdup2(token_hash, 32);
  for (size_t i = 0; i < registration->n_queues; i++) {
    struct error error;
    struct queue *queue = queue_get(turn, registration->queues[i]->name, &error);
    if (queue)
      subscribe(session, queue, registration->queues[i]->weight);
  }
  return session;
}

void session_free(struct session *session) {
  if (!session)
    return;
  for (guint i = 0; i < session->subscriptions->len; i++) {
    struct subscription *subscription = g_ptr_array_index(session->subscriptions, i);
    g_ptr_array_remove(subscription->queue->subscriptions, subscription);
    subscription->queue->servers_changed = true;
  }
  g_ptr_array_free(session->subscriptions, TRUE);
  g_hash_table_destroy(session->tasks);
  policy_free(session->all_policy);
  if (session->unknown_tasks)
    g_hash_table_destroy(session->unknown_tasks);
  g_hash_table_destroy(session->sent);
  g_hash_table_destroy(session->revoked);
  g_hash_table_destroy(session->suspects);
  g_ptr_array_free(session->outgoing, TRUE);
  g_array_free(session->commands, TRUE);
  millrace__v1__register_request__free_unpacked(session->registration, NULL);
  g_free(session);
}

/* Every running job of the session; a copy, since handling one takes it out. */
static GPtrArray *session_running(struct session *session) {
  GPtrArray *all = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, session->sent);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct sent *sent = value;
    for (guint i = 0; i < sent->running->len; i++)
      g_ptr_array_add(all, g_ptr_array_index(sent->running, i));
  }
  return all;
}

static struct delivery_end end_of(struct turn *turn, const struct running *running) {
  return (struct delivery_end){
      .now_ms = turn->now_ms, .started_ms = running->started_ms, .session = running->session->id, .arena = turn->arena};
}

static void lose(struct turn *turn, struct running *running) {
  struct entry *entry = turn_job(turn, &running->id);
  struct delivery_end end = end_of(turn, running);
  struct job next = entry->now;
  job_lose(&next, &end, &running->policy, engine_random_fraction(turn->engine));
  turn_update(turn, entry, &next);
}

static void release(struct turn *turn, const struct running *running) {
  struct entry *entry = turn_job(turn, &running->id);
  struct delivery_end end = end_of(turn, running);
  struct job next = entry->now;
  job_release(&next, &end);
  turn_update(turn, entry, &next);
}

/* ---- the end ---- */

/* A session that nobody finds any more, and whose jobs are taken from it a slice a turn. After a crash amid it, it is a session
 * that does not come back. */
struct ending {
  struct slice_work slice; /* first member */
  struct session *session;
  bool left; /* the worker deregistered */
};

/* A worker that leaves can't give back what it has not got yet, and such a delivery says nothing about the job. */
static bool on_its_way(const struct session *session, const struct running *running) {
  return running->delivery_seq > session->received_up_to && running->started_ms == 0;
}

static void ending_free(struct slice_work *work) {
  struct ending *ending = (struct ending *)work;
  session_free(ending->session);
  g_free(ending);
}

static bool ending_step(struct turn *turn, struct slice_work *work) {
  struct engine *engine = turn->engine;
  const struct ending *ending = (const struct ending *)work;
  struct session *session = ending->session;
  GPtrArray *all = session_running(session);
  const unsigned cost_max = turn->cost + END_SLICE;
  guint done = 0;
  for (; done < all->len && turn->cost < cost_max; done++) {
    struct running *running = g_ptr_array_index(all, done);
    if (ending->left && on_its_way(session, running))
      release(turn, running);
    else
      lose(turn, running);
  }
  bool more = done < all->len;
  g_ptr_array_free(all, TRUE);
  if (more)
    return true;
  struct key key;
  key_id(&key, &session->id);
  store_batch_delete(turn->batch, FAMILY_SESSIONS, key_slice(&key));
  g_hash_table_remove(engine->dirty_sessions, session);
  return false;
}

static void end_session(struct turn *turn, struct session *session, const char *why, bool left) {
  struct engine *engine = turn->engine;
  char text[ID_TEXT_BYTES];
  id_format(&session->id, text);
  engine_log(engine, 1, "session ended", "session=%s reason=\"%s\" running=%u", text, why, session->live);
  session->quiet = true;
  session->synced = false;
  session->ends_ms = engine->silence_ms;
  release_add(turn->release, RELEASE_CLOSE)->session = session->id;
  heap_remove(&engine->round, &session->node);
  g_hash_table_remove(engine->sessions, &session->id);
  dispatch_servers_changed(engine, session);
  engine->dispatch_due = true;
  struct ending *ending = g_new0(struct ending, 1);
  ending->slice = (struct slice_work){.step = ending_step, .free = ending_free};
  ending->session = session;
  ending->left = left;
  if (ending_step(turn, &ending->slice))
    engine_add_slice(engine, &ending->slice);
  else
    ending_free(&ending->slice);
}

void session_end(struct turn *turn, struct session *session, const char *why) {
  end_session(turn, session, why, false);
}

void session_leave(struct turn *turn, struct session *session) {
  end_session(turn, session, "it deregistered", true);
}

static int64_t ping_interval_ms(const struct engine *engine) {
  return MIN(PING_MS, engine->options.heartbeat_ms);
}

void session_connect(struct turn *turn, struct session *session, uint64_t connection, const char *transport) {
  struct engine *engine = turn->engine;
  if (connection <= session->connection)
    return;
  session->connection = connection;
  session->transport = transport;
  session->synced = false;
  session->ends_ms = 0;
  session->heard_ms = engine->silence_ms;
  session->next_ping_ms = engine->silence_ms + ping_interval_ms(engine);
  session->ping_echoed = session->ping_sent;
  session->last_seen_ms = turn->now_ms;
  char text[ID_TEXT_BYTES];
  id_format(&session->id, text);
  engine_log(engine, 1, "worker connected", "session=%s transport=%s", text, transport);
}

void session_disconnect(struct turn *turn, struct session *session, uint64_t connection) {
  struct engine *engine = turn->engine;
  if (session->connection != connection || session->ends_ms != 0)
    return;
  session->synced = false;
  session->ends_ms = engine->silence_ms + engine->options.reconnect_grace_ms;
  dispatch_servers_changed(engine, session);
  char text[ID_TEXT_BYTES];
  id_format(&session->id, text);
  engine_log(engine, 1, "worker disconnected", "session=%s running=%u", text, session->live);
}

static void drop(struct turn *turn, struct session *session, const char *why) {
  char text[ID_TEXT_BYTES];
  id_format(&session->id, text);
  engine_log(turn->engine, 2, "connection dropped", "session=%s reason=\"%s\"", text, why);
  struct release_item *item = release_add(turn->release, RELEASE_DROP);
  item->session = session->id;
  item->connection = session->connection;
  session_disconnect(turn, session, session->connection);
}

void session_command(struct turn *turn, struct session *session, int kind, const struct id *id, uint32_t delivery) {
  struct command command = {.kind = kind};
  if (id)
    command.held = (struct held){*id, delivery};
  g_array_append_val(session->commands, command);
  session_speak_later(turn, session);
}

void session_forget_task(struct turn *turn, struct session *session, struct task *task) {
  if (!session->unknown_tasks)
    session->unknown_tasks = g_hash_table_new(NULL, NULL);
  g_hash_table_add(session->unknown_tasks, task);
  dispatch_servers_changed(turn->engine, session);
}

void session_quiet(struct turn *turn, struct session *session, bool drain) {
  session->quiet = true;
  session->drain |= drain;
  session_touch(turn, session);
  dispatch_servers_changed(turn->engine, session);
  session_command(
      turn, session,
      session->drain ? MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_DRAIN : MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_QUIET, NULL, 0);
}

/* ---- heartbeats ---- */

/* Deliveries at or below the mark that the worker neither holds nor has reported never reached it. */
static void find_lost(struct turn *turn, struct session *session, GHashTable *held, uint64_t received_up_to) {
  GPtrArray *all = session_running(session);
  for (guint i = 0; i < all->len; i++) {
    struct running *running = g_ptr_array_index(all, i);
    struct held name = {running->id, running->delivery};
    if (running->delivery_seq <= received_up_to && !g_hash_table_contains(held, &name))
      lose(turn, running);
  }
  g_ptr_array_free(all, TRUE);
  GHashTableIter iter;
  gpointer key;
  g_hash_table_iter_init(&iter, session->revoked);
  while (g_hash_table_iter_next(&iter, &key, NULL))
    if (!g_hash_table_contains(held, key))
      g_hash_table_iter_remove(&iter);
  running_slots_freed(turn, session);
}

/* Held, but not leased: taken away, or its final report is on the way to being acknowledged. One seen twice is told to stop. */
static void find_foreign(struct turn *turn, struct session *session, GHashTable *held) {
  GHashTable *suspects = held_set_new();
  GHashTableIter iter;
  gpointer key;
  g_hash_table_iter_init(&iter, held);
  while (g_hash_table_iter_next(&iter, &key, NULL)) {
    struct held *name = key;
    struct running *running = g_hash_table_lookup(turn->engine->running, &name->id);
    if (running && running->session == session && running->delivery == name->delivery)
      continue;
    bool known = g_hash_table_contains(session->revoked, name);
    if (session->recovered && !known)
      running_keep_slot(turn, session, name);
    if (known || session->recovered || g_hash_table_contains(session->suspects, name))
      session_command(turn, session, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST, &name->id, name->delivery);
    g_hash_table_add(suspects, g_memdup2(name, sizeof *name));
  }
  g_hash_table_destroy(session->suspects);
  session->suspects = suspects;
}

/* The first heartbeat on a connection: what it missed is sent again, and what is asked of it is derived from state. */
static void sync_up(struct turn *turn, struct session *session, uint64_t received_up_to) {
  session->synced = true;
  session->ack_sent = 0;
  session_speak_later(turn, session);
  session_resend(turn, session, received_up_to);
  GPtrArray *all = session_running(session);
  for (guint i = 0; i < all->len; i++) {
    struct running *running = g_ptr_array_index(all, i);
    struct entry *entry = turn_job(turn, &running->id);
    if (entry && entry->now.cancel_requested)
      session_command(turn, session,
                      entry->now.terminate_requested ? MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE
                                                     : MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_CANCEL,
                      &running->id, running->delivery);
  }
  g_ptr_array_free(all, TRUE);
  if (session->quiet)
    session_quiet(turn, session, session->drain);
  dispatch_servers_changed(turn->engine, session);
}

/* A worker and a server that do not mean the same session: the server has gone back to a copy of its store, or the worker is
 * broken. No reconnect cures it, so the session ends and the worker registers anew. What never reached the worker is live still,
 * or was revoked and takes a slot: messages beyond that were received. */
static bool marks_agree(const struct session *session, uint64_t received_up_to) {
  return received_up_to <= session->delivery_seq && (session->synced || session->delivery_seq - received_up_to <= UNRECEIVED_MAX);
}

static void heartbeat(struct turn *turn, struct session *session, const Millrace__V1__Heartbeat *message) {
  if (!marks_agree(session, message->received_up_to)) {
    session_end(turn, session, "its numbers are not ours");
    return;
  }
  session->received_up_to = message->received_up_to;
  if (message->ping <= session->ping_sent) /* who makes up numbers has not read them */
    session->ping_echoed = MAX(session->ping_echoed, message->ping);
  GHashTable *held = held_set_new();
  for (size_t i = 0; i < message->n_held; i++) {
    struct held name = {.delivery = message->held[i]->delivery};
    if (id_parse(message->held[i]->job_id, &name.id))
      g_hash_table_add(held, g_memdup2(&name, sizeof name));
  }
  find_lost(turn, session, held, message->received_up_to);
  find_foreign(turn, session, held);
  g_hash_table_destroy(held);
  if (session->recovered) {
    GPtrArray *all = session_running(session);
    running_find_ahead(turn, session, all);
    g_ptr_array_free(all, TRUE);
  }
  session->recovered = false;
  if (!session->synced)
    sync_up(turn, session, message->received_up_to);
  turn->engine->dispatch_due = true;
  if (session->drain && session->live == 0 && g_hash_table_size(session->revoked) == 0 &&
      session->ack_sent == session->report_seq)
    session_speak_later(turn, session);
}

void session_reports(struct turn *turn, struct session *session, uint64_t connection, const Millrace__V1__Reports *reports) {
  if (session->connection != connection || session->ends_ms != 0)
    return;
  session->heard_ms = turn->engine->silence_ms;
  session->last_seen_ms = turn->now_ms;
  if (reports->report_seq > session->report_seq + 1) {
    /* A new connection begins with what was not accepted. When that leaves a gap again, the server has gone back to a copy of its
     * store, and no reconnect cures it. */
    if (session->gap) {
      session_end(turn, session, "its numbers are not ours");
    } else {
      session->gap = true;
      drop(turn, session, "a report message is missing before this one");
    }
    return;
  }
  if (reports->report_seq && reports->report_seq == session->report_seq + 1) {
    for (size_t i = 0; i < reports->n_reports; i++)
      report_apply(turn, session, reports->reports[i]);
    session->report_seq = reports->report_seq;
    session->gap = false;
    session_touch(turn, session);
  }
  if (reports->report_seq)
    session_speak_later(turn, session);
  if (reports->heartbeat)
    heartbeat(turn, session, reports->heartbeat);
}

static void tick(struct turn *turn, struct session *session) {
  struct engine *engine = turn->engine;
  if (session->ends_ms) {
    if (engine->silence_ms >= session->ends_ms)
      session_end(turn, session, "its connection did not come back");
    return;
  }
  if (engine->silence_ms - session->heard_ms >= engine->options.session_timeout_ms) {
    session_end(turn, session, "silent for too long");
    return;
  }
  if (engine->silence_ms < session->next_ping_ms)
    return;
  session->next_ping_ms = engine->silence_ms + ping_interval_ms(engine);
  if (session->ping_sent - session->ping_echoed >= PINGS_MISSED_MAX) {
    drop(turn, session, "it did not answer three pings");
    return;
  }
  session->ping_sent++;
  session_speak_later(turn, session);
}

void sessions_tick(struct turn *turn) {
  GPtrArray *all = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->engine->sessions);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_ptr_array_add(all, value);
  for (guint i = 0; i < all->len; i++)
    tick(turn, g_ptr_array_index(all, i));
  g_ptr_array_free(all, TRUE);
}

void sessions_write(struct turn *turn) {
  struct engine *engine = turn->engine;
  GHashTableIter iter;
  gpointer item;
  g_hash_table_iter_init(&iter, engine->dirty_sessions);
  while (g_hash_table_iter_next(&iter, &item, NULL)) {
    struct session *session = item;
    if (!session->dirty)
      continue;
    Millrace__Store__V1__SessionRecord record = MILLRACE__STORE__V1__SESSION_RECORD__INIT;
    record.token_hash = (ProtobufCBinaryData){sizeof session->token_hash, session->token_hash};
    record.registration = session->registration;
    record.registered_ms = session->registered_ms;
    record.delivery_seq = session->delivery_seq;
    record.report_seq = session->report_seq;
    record.quiet = session->quiet;
    record.drain = session->drain;
    struct key key;
    key_id(&key, &session->id);
    store_batch_put(turn->batch, FAMILY_SESSIONS, key_slice(&key), record_pack(&record.base, turn->arena));
    session->dirty = false;
  }
  g_hash_table_remove_all(engine->dirty_sessions);
}

/* ---- recovery ---- */

static enum status recover_session(struct engine *engine, const struct store_row *row, struct arena *arena, struct error *error) {
  struct id id;
  ProtobufCMessage *message;
  if (!key_read_id(row->key, &id))
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family sessions holds a key that is none of ours");
  enum status status = record_unpack(&millrace__store__v1__session_record__descriptor, row->value, arena, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__SessionRecord *record = (void *)message;
  if (!record->registration || record->token_hash.len != 32)
    return error_set(error, STATUS_DATA_LOSS, NULL, "a session's record is incomplete");
  struct session *session = session_new(&id, record->registration, record->token_hash.data);
  session->registered_ms = session->last_seen_ms = record->registered_ms;
  session->delivery_seq = session->received_up_to = record->delivery_seq; /* until it is heard: it may have got all */
  session->report_seq = record->report_seq;
  session->quiet = record->quiet;
  session->drain = record->drain;
  session->recovered = true;
  session->ends_ms = engine->silence_ms + engine->options.session_timeout_ms;
  g_hash_table_insert(engine->sessions, &session->id, session);
  for (size_t i = 0; i < record->registration->n_queues; i++) {
    struct queue *queue = queue_find(engine, record->registration->queues[i]->name);
    if (queue)
      subscribe(session, queue, record->registration->queues[i]->weight);
  }
  if (engine->options.transport.session_open)
    engine->options.transport.session_open(engine->options.transport.context, &id, session->token_hash);
  return STATUS_OK;
}

enum status sessions_recover(struct engine *engine, struct error *error) {
  struct store_range range = {.family = FAMILY_SESSIONS, .limit = SESSIONS_MAX};
  struct store_rows rows;
  enum status status = store_scan(engine->store, NULL, &range, &rows, error);
  if (status != STATUS_OK)
    return status;
  struct arena *arena = arena_new(0);
  for (size_t i = 0; i < rows.count && status == STATUS_OK; i++)
    status = recover_session(engine, &rows.rows[i], arena, error);
  arena_free(arena);
  store_rows_release(&rows);
  return status;
}
