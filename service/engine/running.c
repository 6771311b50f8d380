/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/running.h"

#include <string.h>

#include "core/time.h"
#include "engine/bodies.h"
#include "engine/dispatch.h"
#include "engine/queues.h"
#include "engine/sessions.h"
#include "engine/turn.h"
#include "store/walk.h"

enum {
  DELIVERY_OVERHEAD_BYTES =
      1536,              /* beside its payload, the result of the step before and what its record has (labels); at most */
  TIME_OUT_SLICE = 1000, /* of those that come at one moment, in a turn */
};

static unsigned concurrency_hash(const void *pointer) {
  const struct concurrency *concurrency = pointer;
  return g_str_hash(concurrency->key) ^ concurrency->queue;
}

static int concurrency_equal(const void *a, const void *b) {
  const struct concurrency *x = a, *y = b;
  return x->queue == y->queue && strcmp(x->key, y->key) == 0;
}

static void concurrency_free(void *pointer) {
  struct concurrency *concurrency = pointer;
  g_free(concurrency->key);
  g_free(concurrency);
}

GHashTable *concurrencies_new(void) {
  return g_hash_table_new_full(concurrency_hash, concurrency_equal, NULL, concurrency_free);
}

struct concurrency *concurrencies_at(GHashTable *concurrencies, uint32_t queue, const char *key) {
  struct concurrency name = {.queue = queue, .key = (char *)key};
  struct concurrency *concurrency = g_hash_table_lookup(concurrencies, &name);
  if (!concurrency) {
    concurrency = g_new0(struct concurrency, 1);
    concurrency->queue = queue;
    concurrency->key = g_strdup(key);
    g_hash_table_add(concurrencies, concurrency);
  }
  return concurrency;
}

static struct concurrency *concurrency_hold(struct engine *engine, const struct job *job) {
  if (!job->concurrency_key[0])
    return NULL;
  struct concurrency *concurrency = concurrencies_at(engine->concurrencies, job->queue, job->concurrency_key);
  concurrency->holders++;
  return concurrency;
}

/* Job or update > worker's declaration > queue > server. */
static struct policy effective_policy(const struct job *job, const struct spec *spec, const struct session *session,
                                      const struct queue *queue, const struct task *task) {
  struct policy policy = job->has_policy ? policy_merge(job->policy, &spec->policy) : spec->policy;
  const struct policy *declared = session_policy(session, task->name);
  if (declared)
    policy = policy_merge(policy, declared);
  policy = policy_merge(policy, &queue->settings.policy);
  return policy_merge(policy, &policy_default);
}

static void set_record(struct running *running, struct slice record) {
  g_free((void *)running->record.data);
  running->record = (struct bytes){g_memdup2(record.data, record.length), record.length};
}

void running_set_record(struct turn *turn, struct running *running, const struct job *job) {
  set_record(running, record_pack_job(job, turn->arena));
}

/* `previous_bytes`: of the previous result, if it stands beside the step before. */
static struct running *running_new(struct engine *engine, struct session *session, const struct job *job, const struct spec *spec,
                                   size_t previous_bytes, struct slice record, int64_t leased_ms) {
  struct running *running = g_new0(struct running, 1);
  running->id = job->id;
  running->delivery = job->deliveries + 1;
  running->created_ms = job->created_ms;
  running->session = session;
  running->queue = queue_by_number(engine, job->queue);
  running->task = task_by_number(running->queue, job->task);
  running->priority = job->priority;
  running->leased_ms = leased_ms;
  running->policy = effective_policy(job, spec, session, running->queue, running->task);
  running->policy.delays_ms = g_memdup2(running->policy.delays_ms, running->policy.delays * sizeof *running->policy.delays_ms);
  running->concurrency = concurrency_hold(engine, job);
  set_record(running, record);
  running->bytes = spec->payload.length + spec->previous_result.length + previous_bytes + record.length;
  session->live_bytes += running->bytes;
  session->live++;
  g_hash_table_insert(engine->running, &running->id, running);
  return running;
}

void running_free(struct running *running) {
  if (!running)
    return;
  g_free((void *)running->record.data);
  g_free((void *)running->policy.delays_ms);
  g_free(running->progress_message);
  g_free(running);
}

/* Packed; the result of the step before, or what a callback was created with. */
static struct bytes previous_result(struct turn *turn, const struct spec *spec) {
  if (spec->previous_result.length || id_is_zero(&spec->previous_id))
    return spec->previous_result;
  struct entry *previous = turn_job(turn, &spec->previous_id);
  return previous ? turn_result(turn, previous) : spec->previous_result;
}

/* ---- attempt time-outs ---- */

static void arm(struct engine *engine, struct running *running, int64_t since_ms) {
  if (running->policy.attempt_timeout_ms > 0)
    heap_set(&engine->timeouts, &running->timeout, (uint64_t)(since_ms + running->policy.attempt_timeout_ms));
}

/* Deliveries that take, or may take, a slot of the worker's. */
static unsigned slots_used(const struct session *session) {
  return session->live - session->ahead.length + g_hash_table_size(session->revoked);
}

/* The worker has got, or will get, more than it has slots: this one starts when one of those before it has ended. */
static void stay_ahead(struct running *running) {
  running->is_ahead = true;
  running->ahead.data = running;
  g_queue_push_tail_link(&running->session->ahead, &running->ahead);
}

static void leave_ahead(struct running *running) {
  if (running->is_ahead)
    g_queue_unlink(&running->session->ahead, &running->ahead);
  running->is_ahead = false;
}

/* It starts now, or started then, unless it is prefetched. */
static void arm_unless_ahead(struct engine *engine, struct running *running, int64_t since_ms) {
  if (slots_used(running->session) > running->session->registration->concurrency)
    stay_ahead(running);
  else
    arm(engine, running, since_ms);
}

void running_started(struct turn *turn, struct running *running) {
  leave_ahead(running);
  arm(turn->engine, running, turn->now_ms);
}

/* Are all slots taken by handlers that were told to stop, and have not? */
static bool is_deaf(const struct session *session) {
  return g_hash_table_size(session->revoked) >= session->registration->concurrency;
}

/* What waits behind such handlers waits as long as an attempt may take, and then goes elsewhere, unless one has stopped. */
static void arm_ahead(struct turn *turn, struct session *session) {
  for (GList *link = session->ahead.head; link; link = link->next)
    arm(turn->engine, link->data, turn->now_ms);
}

static gint by_message(gconstpointer a, gconstpointer b) {
  const struct running *first = *(struct running *const *)a, *second = *(struct running *const *)b;
  return (first->delivery_seq > second->delivery_seq) - (first->delivery_seq < second->delivery_seq);
}

void running_find_ahead(struct turn *turn, struct session *session, GPtrArray *all) {
  g_ptr_array_sort(all, by_message);
  for (guint i = all->len; i > 0 && slots_used(session) > session->registration->concurrency; i--) {
    struct running *running = g_ptr_array_index(all, i - 1);
    if (running->is_ahead || running->started_ms)
      continue;
    heap_remove(&turn->engine->timeouts, &running->timeout);
    running->is_ahead = true;
    running->ahead.data = running;
    g_queue_push_head_link(&session->ahead, &running->ahead);
  }
  if (is_deaf(session))
    arm_ahead(turn, session);
}

void running_slots_freed(struct turn *turn, struct session *session) {
  while (session->ahead.length && slots_used(session) < session->registration->concurrency) {
    struct running *next = session->ahead.head->data;
    leave_ahead(next);
    arm(turn->engine, next, turn->now_ms);
  }
}

/* ---- leases ---- */

void running_begin(struct turn *turn, struct session *session, struct entry *entry) {
  struct job next = entry->now;
  job_lease(&next);
  struct slice record = record_pack_job(&next, turn->arena);
  size_t previous_bytes = id_is_zero(&entry->spec.previous_id) ? 0 : previous_result(turn, &entry->spec).length;
  struct running *running = running_new(turn->engine, session, &next, &entry->spec, previous_bytes, record, turn->now_ms);
  arm_unless_ahead(turn->engine, running, running->leased_ms);
  turn_update(turn, entry, &next);
  bodies_drop(turn->engine->bodies, &entry->id);
  g_ptr_array_add(session->outgoing, running);
  g_hash_table_add(turn->engine->dirty_sessions, session);
  turn->engine->statistics.deliveries++;
  histogram_add(&running->queue->meter->wait_ms[priority_index(next.priority)], &scale_ms,
                turn->now_ms - sequence_time_ms(next.sequence));
}

uint32_t running_attempts_max(const struct engine *engine, const struct id *id) {
  const struct running *running = g_hash_table_lookup(engine->running, id);
  return running->policy.attempts_max;
}

void running_end(struct turn *turn, struct running *running) {
  struct engine *engine = turn->engine;
  struct session *session = running->session;
  histogram_add(&task_meter(engine, running->queue, running->task)->run_ms, &scale_ms,
                turn->now_ms - (running->started_ms ? running->started_ms : running->leased_ms));
  heap_remove(&engine->timeouts, &running->timeout);
  leave_ahead(running);
  if (running->concurrency && --running->concurrency->holders == 0)
    g_hash_table_remove(engine->concurrencies, running->concurrency);
  struct sent *sent = g_hash_table_lookup(session->sent, &running->delivery_seq);
  if (sent && g_ptr_array_remove_fast(sent->running, running) && sent->running->len == 0) {
    struct key key;
    key_lease(&key, &session->id, sent->seq);
    store_batch_delete(turn->batch, FAMILY_LEASES, key_slice(&key));
    g_hash_table_remove(session->sent, &sent->seq);
  }
  g_ptr_array_remove(session->outgoing, running);
  session->live--;
  session->live_bytes -= running->bytes;
  running_slots_freed(turn, session);
  engine->dispatch_due = true;
  g_hash_table_remove(engine->running, &running->id);
  running_free(running);
}

void running_keep_slot(struct turn *turn, struct session *session, const struct held *name) {
  g_hash_table_add(session->revoked, g_memdup2(name, sizeof *name));
  if (g_hash_table_size(session->revoked) == session->registration->concurrency)
    arm_ahead(turn, session);
}

void running_revoke(struct turn *turn, struct running *running, struct delivery_end *out_end) {
  struct session *session = running->session;
  *out_end = (struct delivery_end){
      .now_ms = turn->now_ms, .started_ms = running->started_ms, .session = session->id, .arena = turn->arena};
  struct held name = {running->id, running->delivery};
  running_keep_slot(turn, session, &name);
  session_command(turn, session, MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST, &running->id, running->delivery);
}

void running_time_outs(struct turn *turn) {
  struct engine *engine = turn->engine;
  const unsigned cost_max = turn->cost + TIME_OUT_SLICE;
  struct heap_node *node;
  while ((node = heap_first(&engine->timeouts)) && node->key <= (uint64_t)turn->now_ms) {
    if (turn->cost >= cost_max) {
      engine->again = true;
      return;
    }
    struct running *running = HEAP_OBJECT(node, struct running, timeout);
    heap_remove(&engine->timeouts, node);
    if (running->is_ahead && !is_deaf(running->session))
      continue;
    struct entry *entry = turn_job(turn, &running->id);
    struct policy policy = running->policy;
    policy.delays_ms = arena_memdup(turn->arena, policy.delays_ms, policy.delays * sizeof *policy.delays_ms);
    const bool has_begun = !running->is_ahead;
    struct delivery_end end;
    running_revoke(turn, running, &end);
    struct job next = entry->now;
    if (has_begun)
      job_time_out(&next, &end, &policy, engine_random_fraction(engine));
    else
      job_release(&next, &end);
    turn_update(turn, entry, &next);
  }
}

/* ---- messages ---- */

static Millrace__V1__Payload *payload_of(struct turn *turn, struct bytes packed) {
  if (packed.length == 0)
    return NULL;
  return millrace__v1__payload__unpack(arena_protobuf(turn->arena), packed.length, packed.data);
}

static Millrace__V1__Delivery *delivery_of(struct turn *turn, struct running *running) {
  struct arena *arena = turn->arena;
  struct entry *entry = turn_job(turn, &running->id);
  const struct spec *spec = turn_spec(turn, entry);
  if (!spec)
    return NULL;
  const struct job *job = &entry->now;
  Millrace__V1__Delivery *delivery = MESSAGE(arena, Millrace__V1__Delivery, millrace__v1__delivery__descriptor);
  delivery->job_id = id_text(arena, &running->id);
  delivery->delivery = running->delivery;
  delivery->task = running->task->name;
  delivery->queue = running->queue->name;
  delivery->priority = job->priority ? job->priority : MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW;
  delivery->payload = payload_of(turn, spec->payload);
  delivery->attempt = job->attempts + 1;
  delivery->max_attempts = running->policy.attempts_max;
  if (running->policy.attempt_timeout_ms)
    delivery->attempt_timeout = duration_new(arena, running->policy.attempt_timeout_ms);
  delivery->deadline = timestamp_new(arena, job->deadline_ms);
  delivery->created_at = timestamp_new(arena, job->created_ms);
  delivery->traceparent = (char *)spec->traceparent;
  delivery->tracestate = (char *)spec->tracestate;
  delivery->previous_result = payload_of(turn, previous_result(turn, spec));
  delivery->n_labels = job->label_count;
  if (job->label_count)
    delivery->labels = arena_alloc(arena, job->label_count * sizeof *delivery->labels);
  for (size_t i = 0; i < job->label_count; i++) {
    Millrace__V1__Delivery__LabelsEntry *label =
        MESSAGE(arena, Millrace__V1__Delivery__LabelsEntry, millrace__v1__delivery__labels_entry__descriptor);
    label->key = (char *)job->labels[i].key;
    label->value = (char *)job->labels[i].value;
    delivery->labels[i] = label;
  }
  delivery->chain_id = id_text(arena, &job->chain_id);
  delivery->batch_id = id_text(arena, &job->batch_id);
  return delivery;
}

static void send_message(struct turn *turn, struct session *session, const Millrace__V1__Deliveries *message) {
  struct release_item *item = release_add(turn->release, RELEASE_SEND);
  item->session = session->id;
  item->connection = session->connection;
  item->length = millrace__v1__deliveries__get_packed_size(message);
  item->bytes = g_malloc(item->length + 1);
  millrace__v1__deliveries__pack(message, item->bytes);
}

/* Builds and sends the message of `sent`, whose deliveries may be fewer than at first. */
static void send_deliveries(struct turn *turn, struct session *session, struct sent *sent, uint64_t seq) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  message.delivery_seq = seq;
  guint count = sent ? sent->running->len : 0;
  message.deliveries = arena_alloc(turn->arena, (count + 1) * sizeof *message.deliveries);
  for (guint i = 0; i < count; i++) {
    Millrace__V1__Delivery *delivery = delivery_of(turn, g_ptr_array_index(sent->running, i));
    if (delivery)
      message.deliveries[message.n_deliveries++] = delivery;
  }
  send_message(turn, session, &message);
}

void session_resend(struct turn *turn, struct session *session, uint64_t received_up_to) {
  for (uint64_t seq = received_up_to + 1; seq <= session->delivery_seq; seq++)
    send_deliveries(turn, session, g_hash_table_lookup(session->sent, &seq), seq);
}

/* The leases of one message: one record. */
static void lease_write(struct turn *turn, struct session *session, const struct sent *sent) {
  Millrace__Store__V1__LeaseRecord record = MILLRACE__STORE__V1__LEASE_RECORD__INIT;
  record.leased_ms = sent->leased_ms;
  record.n_entries = sent->running->len;
  record.entries = arena_alloc(turn->arena, (record.n_entries + 1) * sizeof *record.entries);
  Millrace__Store__V1__LeaseEntry *entries = arena_alloc(turn->arena, (record.n_entries + 1) * sizeof *entries);
  for (size_t i = 0; i < record.n_entries; i++) {
    struct running *running = g_ptr_array_index(sent->running, i);
    millrace__store__v1__lease_entry__init(&entries[i]);
    entries[i].job_id = (ProtobufCBinaryData){ID_BYTES, running->id.bytes};
    entries[i].delivery = running->delivery;
    entries[i].created_ms = running->created_ms;
    record.entries[i] = &entries[i];
  }
  struct key key;
  key_lease(&key, &session->id, sent->seq);
  store_batch_put(turn->batch, FAMILY_LEASES, key_slice(&key), record_pack(&record.base, turn->arena));
}

/* Splits what was leased into messages, each with its number and its lease record. */
static void speak_deliveries(struct turn *turn, struct session *session) {
  guint next = 0;
  while (next < session->outgoing->len) {
    struct sent *sent = g_new0(struct sent, 1);
    sent->seq = ++session->delivery_seq;
    sent->leased_ms = turn->now_ms;
    sent->running = g_ptr_array_new();
    size_t bytes = 0;
    while (next < session->outgoing->len && sent->running->len < DELIVERIES_PER_MESSAGE_MAX) {
      struct running *running = g_ptr_array_index(session->outgoing, next);
      bytes += running->bytes + DELIVERY_OVERHEAD_BYTES;
      if (sent->running->len && bytes > DELIVERY_MESSAGE_BYTES_MAX)
        break;
      running->delivery_seq = sent->seq;
      g_ptr_array_add(sent->running, running);
      next++;
    }
    g_hash_table_insert(session->sent, &sent->seq, sent);
    lease_write(turn, session, sent);
    send_deliveries(turn, session, sent, sent->seq);
  }
  if (session->outgoing->len)
    session->dirty = true;
  g_ptr_array_set_size(session->outgoing, 0);
}

/* Commands, acknowledgement and ping in a message without a number. */
static void speak_control(struct turn *turn, struct session *session) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  message.n_commands = session->commands->len;
  message.commands = arena_alloc(turn->arena, (message.n_commands + 1) * sizeof *message.commands);
  for (guint i = 0; i < session->commands->len; i++) {
    const struct command *from = &g_array_index(session->commands, struct command, i);
    Millrace__V1__Command *command = MESSAGE(turn->arena, Millrace__V1__Command, millrace__v1__command__descriptor);
    command->kind = (Millrace__V1__CommandKind)from->kind;
    command->job_id = id_text(turn->arena, &from->held.id);
    command->delivery = from->held.delivery;
    message.commands[i] = command;
  }
  message.accepted_report_seq = session->report_seq;
  message.ping = session->ping_sent;
  session->ack_sent = session->report_seq;
  g_array_set_size(session->commands, 0);
  send_message(turn, session, &message);
}

void sessions_speak(struct turn *turn) {
  GHashTableIter iter;
  gpointer item;
  g_hash_table_iter_init(&iter, turn->engine->dirty_sessions);
  while (g_hash_table_iter_next(&iter, &item, NULL)) {
    struct session *session = item;
    if (session->speaks && session->synced)
      speak_control(turn, session);
    else if (session->speaks)
      g_array_set_size(session->commands, 0); /* derived from state again once it is back */
    session->speaks = false;
    speak_deliveries(turn, session);
  }
}

/* ---- recovery ---- */

struct recovery {
  struct engine *engine;
  struct arena *arena;
  struct sent *sent;
  struct session *session;
};

static enum status recover_lease(struct recovery *recovery, const Millrace__Store__V1__LeaseRecord *record, struct error *error) {
  size_t count = record->n_entries;
  struct store_get *gets = g_new0(struct store_get, 2 * count + 1);
  for (size_t i = 0; i < count; i++) {
    struct slice key = {record->entries[i]->job_id.data, record->entries[i]->job_id.len};
    gets[i] = (struct store_get){.family = FAMILY_JOBS, .key = key};
    gets[count + i] = (struct store_get){.family = FAMILY_SPECS, .key = key};
  }
  enum status status = store_get_many(recovery->engine->store, NULL, gets, 2 * count, error);
  if (status != STATUS_OK) {
    g_free(gets);
    return status;
  }
  for (size_t i = 0; i < count && status == STATUS_OK; i++) {
    struct id id;
    struct job job;
    struct spec spec;
    if (!gets[i].value.data || !gets[count + i].value.data || gets[i].key.length != ID_BYTES)
      continue;
    memcpy(id.bytes, gets[i].key.data, ID_BYTES);
    status = record_unpack_job(&id, gets[i].value, recovery->arena, &job, error);
    if (status == STATUS_OK)
      status = record_unpack_spec(&id, gets[count + i].value, recovery->arena, &spec, error);
    const Millrace__Store__V1__LeaseEntry *entry = record->entries[i];
    if (status != STATUS_OK || job.state != JOB_PENDING || !lease_entry_counts(entry->delivery, entry->created_ms, &job))
      continue;
    job.state = JOB_RUNNING;
    struct running *running =
        running_new(recovery->engine, recovery->session, &job, &spec, id_is_zero(&spec.previous_id) ? 0 : RESULT_BYTES_MAX,
                    gets[i].value, recovery->sent->leased_ms);
    running->delivery_seq = recovery->sent->seq;
    g_ptr_array_add(recovery->sent->running, running);
    /* The worker starts them in order: the ones in front are those that run. How long one that was prefetched has is not known.
     */
    const bool prefetches = recovery->session->registration->prefetch > 0;
    arm_unless_ahead(recovery->engine, running, prefetches ? recovery->engine->started_wall_ms : running->leased_ms);
  }
  store_gets_release(gets, 2 * count);
  g_free(gets);
  return status;
}

static enum status recover_row(void *context, const struct store_row *row, struct error *error) {
  struct recovery *recovery = context;
  arena_reset(recovery->arena);
  struct id session_id;
  uint64_t seq;
  ProtobufCMessage *message;
  if (!key_read_lease(row->key, &session_id, &seq))
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family leases holds a key that is none of ours");
  recovery->session = session_find(recovery->engine, &session_id);
  if (!recovery->session)
    return error_set(error, STATUS_DATA_LOSS, NULL, "there is a lease of a session that has no record");
  enum status status =
      record_unpack(&millrace__store__v1__lease_record__descriptor, row->value, recovery->arena, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__LeaseRecord *record = (void *)message;
  recovery->sent = g_new0(struct sent, 1);
  recovery->sent->seq = seq;
  recovery->sent->leased_ms = record->leased_ms;
  recovery->sent->running = g_ptr_array_new();
  g_hash_table_insert(recovery->session->sent, &recovery->sent->seq, recovery->sent);
  return recover_lease(recovery, record, error);
}

enum status running_recover(struct engine *engine, struct error *error) {
  struct recovery recovery = {.engine = engine, .arena = arena_new(0)};
  struct walk walk = {.store = engine->store};
  enum status status = walk_family(&walk, FAMILY_LEASES, recover_row, &recovery, error);
  arena_free(recovery.arena);
  return status;
}
