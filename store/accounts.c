/* SPDX-License-Identifier: Apache-2.0 */
#include "store/accounts.h"

#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "millrace/v1/batch_service.pb-c.h"
#include "store/keys.h"
#include "store/records.h"

struct queue {
  uint32_t number;
  uint32_t next_task;
  bool is_there;
  uint64_t stored[JOB_STATES]; /* as QueueCountersRecord says; pending includes parked */
  uint64_t counted[JOB_STATES];
};

struct lane {
  uint32_t queue;
  uint32_t task;
  uint8_t priority;
  uint64_t ready_stored;
  uint64_t head_stored;
  uint64_t ready_counted;
  uint64_t head_counted;
};

struct session {
  struct id id;
  uint64_t delivery_seq;
};

struct lease {
  struct id session;
  uint64_t delivery_seq;
  uint64_t live;
};

/* One delivery of a lease; those of the same job form a list. */
struct entry {
  struct id job;
  uint32_t delivery;
  int64_t created_ms;
  struct lease *lease;
  struct entry *next;
};

/* A batch that has not ended. */
struct group {
  struct id id;
  uint64_t total;
  uint64_t ended; /* as counted by the record, all states together */
  uint64_t stored[JOB_STATES];
  uint64_t members;
  uint64_t members_ended;
  uint64_t members_by_state[JOB_STATES]; /* first generation only: a later end is not counted */
};

struct accounts {
  void (*tell)(void *context, const char *sentence);
  void *context;
  struct arena *arena;   /* all that the tables hold */
  struct arena *scratch; /* the row being read */
  GHashTable *queues;    /* number -> struct queue */
  GHashTable *tasks;     /* set of queue << 32 | task */
  GHashTable *lanes;     /* set of struct lane */
  GHashTable *sessions;  /* set of struct session */
  GHashTable *entries;   /* job id -> struct entry */
  GHashTable *batches;   /* set of struct group */
  GPtrArray *leases;
  uint64_t live;
  uint64_t sequence_max;
  uint64_t sequence_mark;
  uint32_t queue_mark;
};

static void tell(struct accounts *accounts, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct accounts *accounts, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *sentence = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  accounts->tell(accounts->context, sentence);
  g_free(sentence);
}

struct id_text {
  char text[ID_TEXT_BYTES];
};

static struct id_text text_of(const struct id *id) {
  struct id_text text;
  id_format(id, text.text);
  return text;
}

static guint lane_hash(gconstpointer pointer) {
  const struct lane *lane = pointer;
  return (lane->queue * 31 + lane->task) * 31 + lane->priority;
}

static gboolean lane_equal(gconstpointer a, gconstpointer b) {
  const struct lane *x = a;
  const struct lane *y = b;
  return x->queue == y->queue && x->task == y->task && x->priority == y->priority;
}

struct accounts *accounts_new(void (*tell_)(void *context, const char *sentence), void *context) {
  struct accounts *accounts = g_new0(struct accounts, 1);
  accounts->tell = tell_;
  accounts->context = context;
  accounts->arena = arena_new(0);
  accounts->scratch = arena_new(0);
  accounts->queues = g_hash_table_new(g_direct_hash, g_direct_equal);
  accounts->tasks = g_hash_table_new(g_int64_hash, g_int64_equal);
  accounts->lanes = g_hash_table_new(lane_hash, lane_equal);
  accounts->sessions = g_hash_table_new(id_hash, id_equal_pointers);
  accounts->entries = g_hash_table_new(id_hash, id_equal_pointers);
  accounts->batches = g_hash_table_new(id_hash, id_equal_pointers);
  accounts->leases = g_ptr_array_new();
  return accounts;
}

void accounts_free(struct accounts *accounts) {
  if (!accounts)
    return;
  g_hash_table_destroy(accounts->queues);
  g_hash_table_destroy(accounts->tasks);
  g_hash_table_destroy(accounts->lanes);
  g_hash_table_destroy(accounts->sessions);
  g_hash_table_destroy(accounts->entries);
  g_hash_table_destroy(accounts->batches);
  g_ptr_array_free(accounts->leases, TRUE);
  arena_free(accounts->scratch);
  arena_free(accounts->arena);
  g_free(accounts);
}

static struct queue *queue_of(struct accounts *accounts, uint32_t number) {
  struct queue *queue = g_hash_table_lookup(accounts->queues, GUINT_TO_POINTER(number));
  if (!queue) {
    queue = arena_zalloc(accounts->arena, sizeof *queue);
    queue->number = number;
    g_hash_table_insert(accounts->queues, GUINT_TO_POINTER(number), queue);
  }
  return queue;
}

static struct lane *lane_of(struct accounts *accounts, uint32_t queue, uint8_t priority, uint32_t task) {
  const struct lane wanted = {.queue = queue, .priority = priority, .task = task};
  struct lane *lane = g_hash_table_lookup(accounts->lanes, &wanted);
  if (!lane) {
    lane = arena_memdup(accounts->arena, &wanted, sizeof wanted);
    lane->head_counted = UINT64_MAX;
    g_hash_table_add(accounts->lanes, lane);
  }
  return lane;
}

/* ---- loading ---- */

static const void *unpack(struct accounts *accounts, const ProtobufCMessageDescriptor *type, struct slice value) {
  arena_reset(accounts->scratch);
  ProtobufCMessage *message = NULL;
  if (record_unpack(type, value, accounts->scratch, &message, NULL) != STATUS_OK)
    tell(accounts, "A %s of %zu bytes cannot be read.", type->short_name, value.length);
  return message;
}

static void load_counters(struct accounts *accounts, uint32_t number, struct slice value) {
  const Millrace__Store__V1__QueueCountersRecord *record =
      unpack(accounts, &millrace__store__v1__queue_counters_record__descriptor, value);
  if (!record)
    return;
  uint64_t *stored = queue_of(accounts, number)->stored;
  stored[JOB_PENDING] = record->pending;
  stored[JOB_SCHEDULED] = record->scheduled;
  stored[JOB_RETRYING] = record->retrying;
  stored[JOB_BLOCKED] = record->blocked;
  stored[JOB_RUNNING] = record->running;
  stored[JOB_SUCCEEDED] = record->succeeded;
  stored[JOB_FAILED] = record->failed;
  stored[JOB_CANCELLED] = record->cancelled;
  stored[JOB_EXPIRED] = record->expired;
  stored[JOB_PARKED] = record->parked;
}

static void load_queue(struct accounts *accounts, uint32_t number, struct slice value) {
  const Millrace__Store__V1__QueueRecord *record = unpack(accounts, &millrace__store__v1__queue_record__descriptor, value);
  struct queue *queue = queue_of(accounts, number);
  queue->is_there = true;
  queue->next_task = record ? record->next_task : UINT32_MAX;
}

static void load_task(struct accounts *accounts, uint32_t queue, uint32_t task) {
  const uint64_t number = (uint64_t)queue << 32 | task;
  g_hash_table_add(accounts->tasks, arena_memdup(accounts->arena, &number, sizeof number));
}

static void load_lane(struct accounts *accounts, uint32_t queue, uint8_t priority, uint32_t task, struct slice value) {
  const Millrace__Store__V1__LaneRecord *record = unpack(accounts, &millrace__store__v1__lane_record__descriptor, value);
  if (!record)
    return;
  struct lane *lane = lane_of(accounts, queue, priority, task);
  lane->ready_stored = record->ready;
  lane->head_stored = record->head;
}

static enum status visit_queues(void *context, const struct store_row *row, struct error *error) {
  struct accounts *accounts = context;
  (void)error;
  char kind;
  uint32_t queue;
  uint8_t priority;
  uint32_t task;
  if (!key_read_queues(row->key, &kind, &queue, &priority, &task))
    tell(accounts, "Family queues holds a key of %zu bytes that is not of its form.", row->key.length);
  else if (kind == 'q')
    load_queue(accounts, queue, row->value);
  else if (kind == 't')
    load_task(accounts, queue, task);
  else if (kind == 'c')
    load_counters(accounts, queue, row->value);
  else
    load_lane(accounts, queue, priority, task, row->value);
  return STATUS_OK;
}

static enum status visit_session(void *context, const struct store_row *row, struct error *error) {
  struct accounts *accounts = context;
  (void)error;
  struct session session = {0};
  const Millrace__Store__V1__SessionRecord *record =
      unpack(accounts, &millrace__store__v1__session_record__descriptor, row->value);
  if (!key_read_id(row->key, &session.id)) {
    tell(accounts, "Family sessions holds a key that is not an id.");
  } else {
    session.delivery_seq = record ? record->delivery_seq : UINT64_MAX;
    g_hash_table_add(accounts->sessions, arena_memdup(accounts->arena, &session, sizeof session));
  }
  return STATUS_OK;
}

static void load_entry(struct accounts *accounts, struct lease *lease, const Millrace__Store__V1__LeaseEntry *stored) {
  if (stored->job_id.len != ID_BYTES) {
    tell(accounts, "Lease %s | %" PRIu64 " names a job by %zu bytes.", text_of(&lease->session).text, lease->delivery_seq,
         stored->job_id.len);
    return;
  }
  struct entry *entry = arena_zalloc(accounts->arena, sizeof *entry);
  memcpy(entry->job.bytes, stored->job_id.data, ID_BYTES);
  entry->delivery = stored->delivery;
  entry->created_ms = stored->created_ms;
  entry->lease = lease;
  entry->next = g_hash_table_lookup(accounts->entries, &entry->job);
  g_hash_table_replace(accounts->entries, &entry->job, entry);
}

static enum status visit_lease(void *context, const struct store_row *row, struct error *error) {
  struct accounts *accounts = context;
  (void)error;
  struct lease *lease = arena_zalloc(accounts->arena, sizeof *lease);
  if (!key_read_lease(row->key, &lease->session, &lease->delivery_seq)) {
    tell(accounts, "Family leases holds a key that is not of its form.");
    return STATUS_OK;
  }
  const Millrace__Store__V1__LeaseRecord *record = unpack(accounts, &millrace__store__v1__lease_record__descriptor, row->value);
  if (!record)
    return STATUS_OK;
  const struct session *session = g_hash_table_lookup(accounts->sessions, &lease->session);
  if (!session)
    tell(accounts, "Lease %s | %" PRIu64 " belongs to no session.", text_of(&lease->session).text, lease->delivery_seq);
  else if (lease->delivery_seq > session->delivery_seq)
    tell(accounts, "Session %s gave out message %" PRIu64 ", but a lease has number %" PRIu64 ".", text_of(&lease->session).text,
         session->delivery_seq, lease->delivery_seq);
  g_ptr_array_add(accounts->leases, lease);
  for (size_t i = 0; i < record->n_entries; i++)
    load_entry(accounts, lease, record->entries[i]);
  return STATUS_OK;
}

static bool batch_has_ended(const Millrace__Store__V1__BatchRecord *record) {
  return record->state != MILLRACE__V1__BATCH_STATE__BATCH_STATE_OPEN &&
         record->state != MILLRACE__V1__BATCH_STATE__BATCH_STATE_SEALED;
}

static enum status visit_batch(void *context, const struct store_row *row, struct error *error) {
  struct accounts *accounts = context;
  (void)error;
  struct group group = {0};
  const Millrace__Store__V1__BatchRecord *record = unpack(accounts, &millrace__store__v1__batch_record__descriptor, row->value);
  if (!key_read_id(row->key, &group.id)) {
    tell(accounts, "Family batches holds a key that is not an id.");
    return STATUS_OK;
  }
  if (!record)
    return STATUS_OK;
  group.total = record->total;
  group.stored[JOB_SUCCEEDED] = record->succeeded;
  group.stored[JOB_FAILED] = record->failed;
  group.stored[JOB_CANCELLED] = record->cancelled;
  group.stored[JOB_EXPIRED] = record->expired;
  group.ended = (uint64_t)record->succeeded + record->failed + record->cancelled + record->expired;
  const bool has_ended = batch_has_ended(record);
  if (has_ended && group.ended != group.total)
    tell(accounts, "Batch %s has ended with %" PRIu64 " of %" PRIu64 " members counted.", text_of(&group.id).text, group.ended,
         group.total);
  if (has_ended != (record->delete_at_ms != 0))
    tell(accounts, "Batch %s %s, but its retention says otherwise.", text_of(&group.id).text,
         has_ended ? "has ended" : "has not ended");
  const bool is_open = record->state == MILLRACE__V1__BATCH_STATE__BATCH_STATE_OPEN;
  if (is_open != (record->seal_at_ms != 0))
    tell(accounts, "Batch %s %s, but its sealing time says otherwise.", text_of(&group.id).text,
         is_open ? "is open" : "is sealed");
  if (!has_ended)
    g_hash_table_add(accounts->batches, arena_memdup(accounts->arena, &group, sizeof group));
  return STATUS_OK;
}

static enum status load_marks(struct accounts *accounts, struct walk *walk, struct error *error) {
  struct key key;
  key_meta(&key, "marks");
  struct store_get get;
  const enum status status = walk_get(walk, FAMILY_META, key_slice(&key), &get, error);
  if (status != STATUS_OK)
    return status;
  if (get.value.data) {
    const Millrace__Store__V1__MarksRecord *record = unpack(accounts, &millrace__store__v1__marks_record__descriptor, get.value);
    accounts->sequence_mark = record ? record->sequence : UINT64_MAX;
    accounts->queue_mark = record ? record->next_queue : UINT32_MAX;
  }
  store_gets_release(&get, 1);
  return STATUS_OK;
}

enum status accounts_load(struct accounts *accounts, struct walk *walk, struct error *error) {
  enum status status = walk_family(walk, FAMILY_QUEUES, visit_queues, accounts, error);
  if (status == STATUS_OK)
    status = walk_family(walk, FAMILY_SESSIONS, visit_session, accounts, error);
  if (status == STATUS_OK)
    status = walk_family(walk, FAMILY_LEASES, visit_lease, accounts, error);
  if (status == STATUS_OK)
    status = walk_family(walk, FAMILY_BATCHES, visit_batch, accounts, error);
  return status == STATUS_OK ? load_marks(accounts, walk, error) : status;
}

/* ---- counting ---- */

static bool is_live(const struct entry *entry, const struct job *job) {
  return lease_entry_counts(entry->delivery, entry->created_ms, job);
}

void accounts_place(const struct accounts *accounts, struct job *job) {
  if (job->state != JOB_PENDING)
    return;
  for (const struct entry *entry = g_hash_table_lookup(accounts->entries, &job->id); entry; entry = entry->next)
    if (is_live(entry, job))
      job->state = JOB_RUNNING;
}

static void add_leases(struct accounts *accounts, const struct job *job) {
  uint64_t live = 0;
  for (struct entry *entry = g_hash_table_lookup(accounts->entries, &job->id); entry; entry = entry->next) {
    if (!is_live(entry, job))
      continue;
    live++;
    entry->lease->live++;
    if (entry->delivery != job->deliveries + 1)
      tell(accounts, "Job %s is leased as delivery %u after %u deliveries.", text_of(&job->id).text, entry->delivery,
           job->deliveries);
  }
  accounts->live += live;
  if (live > 1)
    tell(accounts, "Job %s is leased %" PRIu64 " times at once.", text_of(&job->id).text, live);
  if (live > 0 && job->state != JOB_PENDING)
    tell(accounts, "Job %s is leased, but its record is in state %d.", text_of(&job->id).text, job->state);
}

static void add_member(struct accounts *accounts, const struct job *job) {
  struct group *group = g_hash_table_lookup(accounts->batches, &job->batch_id);
  if (!job->counted && job_is_terminal(job->state))
    tell(accounts, "Job %s has ended, but its batch has not counted it.", text_of(&job->id).text);
  else if (!job->counted && !group)
    tell(accounts, "Job %s waits for the end of batch %s, which has ended or is not there.", text_of(&job->id).text,
         text_of(&job->batch_id).text);
  if (!group)
    return;
  group->members++;
  if (!job->counted)
    return;
  group->members_ended++;
  if (job->generation == 1)
    group->members_by_state[job->state]++;
}

void accounts_add(struct accounts *accounts, struct job *job) {
  add_leases(accounts, job);
  if (job->state == JOB_DELETED)
    return;
  accounts_place(accounts, job);
  struct queue *queue = queue_of(accounts, job->queue);
  queue->counted[job->state]++;
  if (job->state == JOB_PARKED)
    queue->counted[JOB_PENDING]++;
  const uint64_t task = (uint64_t)job->queue << 32 | job->task;
  if (!g_hash_table_contains(accounts->tasks, &task))
    tell(accounts, "Job %s has task %u of queue %u, which is not there.", text_of(&job->id).text, job->task, job->queue);
  if (job->state == JOB_PENDING) {
    struct lane *lane = lane_of(accounts, job->queue, job->priority, job->task);
    lane->ready_counted++;
    lane->head_counted = MIN(lane->head_counted, job->sequence);
  }
  accounts->sequence_max = MAX(accounts->sequence_max, job->sequence);
  if (job_is_terminal(job->state) != (job->delete_at_ms != 0))
    tell(accounts, "Job %s is in state %d, but its retention says otherwise.", text_of(&job->id).text, job->state);
  if (!id_is_zero(&job->batch_id))
    add_member(accounts, job);
}

/* ---- comparing ---- */

static void compare_queue(struct accounts *accounts, const struct queue *queue) {
  static const char *const names[JOB_STATES] = {"?",         "scheduled", "pending",   "running", "retrying", "blocked",
                                                "succeeded", "failed",    "cancelled", "expired", "deleted",  "parked"};
  for (int state = 0; state < JOB_STATES; state++)
    if (queue->stored[state] != queue->counted[state])
      tell(accounts, "Queue %u counts %" PRIu64 " %s, there are %" PRIu64 ".", queue->number, queue->stored[state], names[state],
           queue->counted[state]);
  if (!queue->is_there)
    tell(accounts, "Queue %u has jobs or counters, but no record.", queue->number);
  else if (queue->number >= accounts->queue_mark)
    tell(accounts, "Queue %u is there, but the mark says that the next number is %u.", queue->number, accounts->queue_mark);
}

static void compare_lane(struct accounts *accounts, const struct lane *lane) {
  if (lane->ready_stored != lane->ready_counted)
    tell(accounts, "Lane (queue %u, priority %u, task %u) counts %" PRIu64 " ready jobs, there are %" PRIu64 ".", lane->queue,
         lane->priority, lane->task, lane->ready_stored, lane->ready_counted);
  if (lane->ready_counted > 0 && lane->head_counted < lane->head_stored)
    tell(accounts, "Lane (queue %u, priority %u, task %u) starts at %" PRIu64 ", but a job waits at %" PRIu64 ".", lane->queue,
         lane->priority, lane->task, lane->head_stored, lane->head_counted);
}

static void compare_batch(struct accounts *accounts, const struct group *group) {
  if (group->total != group->members)
    tell(accounts, "Batch %s counts %" PRIu64 " members, there are %" PRIu64 ".", text_of(&group->id).text, group->total,
         group->members);
  if (group->ended != group->members_ended)
    tell(accounts, "Batch %s counts %" PRIu64 " ended members, there are %" PRIu64 ".", text_of(&group->id).text, group->ended,
         group->members_ended);
  for (int state = JOB_SUCCEEDED; state <= JOB_EXPIRED; state++)
    if (group->members_by_state[state] > group->stored[state])
      tell(accounts, "Batch %s counts %" PRIu64 " members in state %d, there are %" PRIu64 ".", text_of(&group->id).text,
           group->stored[state], state, group->members_by_state[state]);
}

uint64_t accounts_compare(struct accounts *accounts) {
  GHashTableIter iterator;
  void *value;
  g_hash_table_iter_init(&iterator, accounts->queues);
  while (g_hash_table_iter_next(&iterator, NULL, &value))
    compare_queue(accounts, value);
  g_hash_table_iter_init(&iterator, accounts->lanes);
  while (g_hash_table_iter_next(&iterator, NULL, &value))
    compare_lane(accounts, value);
  g_hash_table_iter_init(&iterator, accounts->batches);
  while (g_hash_table_iter_next(&iterator, NULL, &value))
    compare_batch(accounts, value);
  g_hash_table_iter_init(&iterator, accounts->tasks);
  while (g_hash_table_iter_next(&iterator, &value, NULL)) {
    const uint64_t number = *(const uint64_t *)value;
    const struct queue *queue = queue_of(accounts, (uint32_t)(number >> 32));
    if ((uint32_t)number >= queue->next_task)
      tell(accounts, "Queue %u has task %u, but its record says that the next number is %u.", queue->number, (uint32_t)number,
           queue->next_task);
  }
  for (guint i = 0; i < accounts->leases->len; i++) {
    const struct lease *lease = accounts->leases->pdata[i];
    if (lease->live == 0)
      tell(accounts, "Lease %s | %" PRIu64 " holds nothing any more.", text_of(&lease->session).text, lease->delivery_seq);
  }
  if (accounts->sequence_max > 0 && accounts->sequence_max >= accounts->sequence_mark)
    tell(accounts, "A job has sequence %" PRIu64 ", but the mark says that none at or above %" PRIu64 " was given out.",
         accounts->sequence_max, accounts->sequence_mark);
  return accounts->live;
}
