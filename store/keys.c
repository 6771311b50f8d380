/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keys.h"

#include <glib.h>
#include <string.h>

/* ---- writing ---- */

static void put(struct key *key, const void *bytes, size_t length) {
  g_assert(length <= KEY_BYTES_MAX - key->length);
  memcpy(key->bytes + key->length, bytes, length);
  key->length += length;
}

static void put_u8(struct key *key, uint8_t value) {
  put(key, &value, sizeof value);
}

static void put_u16(struct key *key, uint16_t value) {
  const uint16_t big = GUINT16_TO_BE(value);
  put(key, &big, sizeof big);
}

static void put_u32(struct key *key, uint32_t value) {
  const uint32_t big = GUINT32_TO_BE(value);
  put(key, &big, sizeof big);
}

static void put_u64(struct key *key, uint64_t value) {
  const uint64_t big = GUINT64_TO_BE(value);
  put(key, &big, sizeof big);
}

static void put_time(struct key *key, int64_t time_ms) {
  put_u64(key, time_ms > 0 ? (uint64_t)time_ms : 0);
}

static void put_id(struct key *key, const struct id *id) {
  put(key, id->bytes, ID_BYTES);
}

static void put_text(struct key *key, const char *text) {
  const size_t length = strlen(text);
  g_assert(length <= KEY_BYTES_MAX);
  put_u16(key, (uint16_t)length);
  put(key, text, length);
}

/* ---- reading: a cursor that turns bad at the first byte missing ---- */

struct cursor {
  const uint8_t *at;
  size_t left;
  bool bad;
};

static struct cursor cursor_of(struct slice key) {
  return (struct cursor){.at = key.data, .left = key.length};
}

static bool take(struct cursor *cursor, void *out, size_t length) {
  if (cursor->bad || cursor->left < length) {
    cursor->bad = true;
    memset(out, 0, length);
    return false;
  }
  memcpy(out, cursor->at, length);
  cursor->at += length;
  cursor->left -= length;
  return true;
}

static uint8_t take_u8(struct cursor *cursor) {
  uint8_t value;
  take(cursor, &value, sizeof value);
  return value;
}

static uint16_t take_u16(struct cursor *cursor) {
  uint16_t big;
  take(cursor, &big, sizeof big);
  return GUINT16_FROM_BE(big);
}

static uint32_t take_u32(struct cursor *cursor) {
  uint32_t big;
  take(cursor, &big, sizeof big);
  return GUINT32_FROM_BE(big);
}

static uint64_t take_u64(struct cursor *cursor) {
  uint64_t big;
  take(cursor, &big, sizeof big);
  return GUINT64_FROM_BE(big);
}

static int64_t take_time(struct cursor *cursor) {
  const uint64_t value = take_u64(cursor);
  if (value > INT64_MAX)
    cursor->bad = true;
  return cursor->bad ? 0 : (int64_t)value;
}

static struct id take_id(struct cursor *cursor) {
  struct id id;
  take(cursor, id.bytes, ID_BYTES);
  return id;
}

static void skip(struct cursor *cursor, size_t length) {
  if (cursor->bad || cursor->left < length) {
    cursor->bad = true;
    return;
  }
  cursor->at += length;
  cursor->left -= length;
}

static bool is_complete(const struct cursor *cursor) {
  return !cursor->bad && cursor->left == 0;
}

/* ---- the forms ---- */

enum family family_ready(uint8_t priority) {
  switch (priority) {
  case 0:
    return FAMILY_READY_LOW;
  case 5:
    return FAMILY_READY_NORMAL;
  case 8:
    return FAMILY_READY_HIGH;
  case 10:
    return FAMILY_READY_CRITICAL;
  default:
    g_assert_not_reached();
  }
}

void key_ready(struct key *out_key, uint32_t queue, uint32_t task, uint64_t sequence) {
  out_key->length = 0;
  put_u32(out_key, queue);
  put_u32(out_key, task);
  put_u64(out_key, sequence);
}

bool key_read_ready(struct slice key, uint32_t *out_queue, uint32_t *out_task, uint64_t *out_sequence) {
  struct cursor cursor = cursor_of(key);
  const uint32_t queue = take_u32(&cursor);
  const uint32_t task = take_u32(&cursor);
  const uint64_t sequence = take_u64(&cursor);
  if (!is_complete(&cursor))
    return false;
  *out_queue = queue;
  *out_task = task;
  *out_sequence = sequence;
  return true;
}

void key_id(struct key *out_key, const struct id *id) {
  out_key->length = 0;
  put_id(out_key, id);
}

bool key_read_id(struct slice key, struct id *out_id) {
  if (key.length != ID_BYTES)
    return false;
  memcpy(out_id->bytes, key.data, ID_BYTES);
  return true;
}

void key_lease(struct key *out_key, const struct id *session, uint64_t delivery_seq) {
  out_key->length = 0;
  put_id(out_key, session);
  put_u64(out_key, delivery_seq);
}

bool key_read_lease(struct slice key, struct id *out_session, uint64_t *out_delivery_seq) {
  struct cursor cursor = cursor_of(key);
  const struct id session = take_id(&cursor);
  const uint64_t delivery_seq = take_u64(&cursor);
  if (!is_complete(&cursor))
    return false;
  *out_session = session;
  *out_delivery_seq = delivery_seq;
  return true;
}

void key_timer(struct key *out_key, int64_t time_ms, enum timer_kind kind, const struct id *id) {
  out_key->length = 0;
  put_time(out_key, time_ms);
  put_u8(out_key, (uint8_t)kind);
  put_id(out_key, id);
}

bool key_read_timer(struct slice key, int64_t *out_time_ms, enum timer_kind *out_kind, struct id *out_id) {
  struct cursor cursor = cursor_of(key);
  const int64_t time_ms = take_time(&cursor);
  const uint8_t kind = take_u8(&cursor);
  const struct id id = take_id(&cursor);
  if (!is_complete(&cursor) || kind < TIMER_RUN || kind > TIMER_BATCH_END)
    return false;
  *out_time_ms = time_ms;
  *out_kind = (enum timer_kind)kind;
  *out_id = id;
  return true;
}

void key_parked(struct key *out_key, uint32_t queue, const char *concurrency_key, uint8_t priority, uint64_t sequence) {
  key_parked_prefix(out_key, queue, concurrency_key);
  put_u8(out_key, (uint8_t)(255 - priority)); /* the most urgent first */
  put_u64(out_key, sequence);
}

void key_parked_prefix(struct key *out_key, uint32_t queue, const char *concurrency_key) {
  out_key->length = 0;
  put_u32(out_key, queue);
  put_text(out_key, concurrency_key);
}

bool key_read_parked(struct slice key, uint32_t *out_queue, char out_concurrency_key[static 257], uint8_t *out_priority,
                     uint64_t *out_sequence) {
  struct cursor cursor = cursor_of(key);
  const uint32_t queue = take_u32(&cursor);
  const uint16_t length = take_u16(&cursor);
  const uint8_t *text = cursor.at;
  skip(&cursor, length);
  const uint8_t rank = take_u8(&cursor);
  const uint64_t sequence = take_u64(&cursor);
  if (!is_complete(&cursor) || length > 256 || memchr(text, 0, length))
    return false;
  *out_queue = queue;
  memcpy(out_concurrency_key, text, length);
  out_concurrency_key[length] = '\0';
  *out_priority = (uint8_t)(255 - rank);
  *out_sequence = sequence;
  return true;
}

void key_ended(struct key *out_key, uint32_t queue, int64_t delete_at_ms, const struct id *id) {
  out_key->length = 0;
  put_u32(out_key, queue);
  put_time(out_key, delete_at_ms);
  put_id(out_key, id);
}

bool key_read_ended(struct slice key, uint32_t *out_queue, int64_t *out_delete_at_ms, struct id *out_id) {
  struct cursor cursor = cursor_of(key);
  const uint32_t queue = take_u32(&cursor);
  const int64_t delete_at_ms = take_time(&cursor);
  const struct id id = take_id(&cursor);
  if (!is_complete(&cursor))
    return false;
  *out_queue = queue;
  *out_delete_at_ms = delete_at_ms;
  *out_id = id;
  return true;
}

void key_log(struct key *out_key, const struct id *id, uint64_t number) {
  out_key->length = 0;
  put_id(out_key, id);
  put_u64(out_key, number);
}

bool key_read_log(struct slice key, struct id *out_id, uint64_t *out_number) {
  return key_read_lease(key, out_id, out_number); /* the same form */
}

void key_queue(struct key *out_key, uint32_t queue) {
  out_key->length = 0;
  put_u8(out_key, 'q');
  put_u32(out_key, queue);
}

void key_task(struct key *out_key, uint32_t queue, uint32_t task) {
  out_key->length = 0;
  put_u8(out_key, 't');
  put_u32(out_key, queue);
  put_u32(out_key, task);
}

void key_counters(struct key *out_key, uint32_t queue) {
  out_key->length = 0;
  put_u8(out_key, 'c');
  put_u32(out_key, queue);
}

void key_lane(struct key *out_key, uint32_t queue, uint8_t priority, uint32_t task) {
  out_key->length = 0;
  put_u8(out_key, 'l');
  put_u32(out_key, queue);
  put_u8(out_key, priority);
  put_u32(out_key, task);
}

bool key_read_queues(struct slice key, char *out_kind, uint32_t *out_queue, uint8_t *out_priority, uint32_t *out_task) {
  struct cursor cursor = cursor_of(key);
  const char kind = (char)take_u8(&cursor);
  if (kind != 'q' && kind != 't' && kind != 'c' && kind != 'l')
    return false;
  const uint32_t queue = take_u32(&cursor);
  const uint8_t priority = kind == 'l' ? take_u8(&cursor) : 0;
  const uint32_t task = kind == 'l' || kind == 't' ? take_u32(&cursor) : 0;
  if (!is_complete(&cursor))
    return false;
  *out_kind = kind;
  *out_queue = queue;
  *out_priority = priority;
  *out_task = task;
  return true;
}

void key_name(struct key *out_key, const char *name) {
  out_key->length = 0;
  put(out_key, name, strlen(name));
}

void key_unique(struct key *out_key, uint32_t queue, const char *unique_key) {
  out_key->length = 0;
  put_u32(out_key, queue);
  put_text(out_key, unique_key);
}

void key_label(struct key *out_key, const char *label_key, const char *value, const struct id *id) {
  key_label_prefix(out_key, label_key, value);
  put_id(out_key, id);
}

void key_label_prefix(struct key *out_key, const char *label_key, const char *value) {
  out_key->length = 0;
  put_u8(out_key, 'l');
  put_text(out_key, label_key);
  put_text(out_key, value);
}

static void key_group_prefix(struct key *out_key, char kind, const struct id *group) {
  out_key->length = 0;
  put_u8(out_key, (uint8_t)kind);
  put_id(out_key, group);
}

void key_batch_member(struct key *out_key, const struct id *batch, const struct id *id) {
  key_batch_prefix(out_key, batch);
  put_id(out_key, id);
}

void key_batch_prefix(struct key *out_key, const struct id *batch) {
  key_group_prefix(out_key, 'b', batch);
}

void key_chain_member(struct key *out_key, const struct id *chain, uint32_t index, const struct id *id) {
  key_chain_prefix(out_key, chain);
  put_u32(out_key, index);
  put_id(out_key, id);
}

void key_chain_prefix(struct key *out_key, const struct id *chain) {
  key_group_prefix(out_key, 'c', chain);
}

void key_schedule_member(struct key *out_key, const struct id *schedule_uid, const struct id *id) {
  key_schedule_prefix(out_key, schedule_uid);
  put_id(out_key, id);
}

void key_schedule_prefix(struct key *out_key, const struct id *schedule_uid) {
  key_group_prefix(out_key, 's', schedule_uid);
}

bool key_read_member(struct slice key, struct id *out_id) {
  struct cursor cursor = cursor_of(key);
  switch (take_u8(&cursor)) {
  case 'l':
    skip(&cursor, take_u16(&cursor));
    skip(&cursor, take_u16(&cursor));
    break;
  case 'c':
    skip(&cursor, ID_BYTES + sizeof(uint32_t));
    break;
  case 'b':
  case 's':
    skip(&cursor, ID_BYTES);
    break;
  default:
    return false;
  }
  const struct id id = take_id(&cursor);
  if (!is_complete(&cursor))
    return false;
  *out_id = id;
  return true;
}

void key_meta(struct key *out_key, const char *name) {
  key_name(out_key, name);
}

bool key_after_prefix(const struct key *prefix, struct key *out_key) {
  size_t length = prefix->length;
  while (length > 0 && prefix->bytes[length - 1] == 0xff)
    length--;
  if (length == 0)
    return false;
  memmove(out_key->bytes, prefix->bytes, length);
  out_key->bytes[length - 1]++;
  out_key->length = length;
  return true;
}

int key_compare(struct slice a, struct slice b) {
  const size_t length = MIN(a.length, b.length);
  const int order = length ? memcmp(a.data, b.data, length) : 0;
  return order ? order : (a.length > b.length) - (a.length < b.length);
}

/* ---- which keys a record has ---- */

static const struct slice nothing = {"", 0};

static void visit_timer(const struct key_visitor *visitor, int64_t time_ms, enum timer_kind kind, const struct id *id,
                        struct slice value) {
  struct key key;
  key_timer(&key, time_ms, kind, id);
  visitor->visit(visitor->context, FAMILY_TIMERS, &key, value);
}

/* Where the job stands. */
static void visit_place(const struct job *job, const struct key_visitor *visitor) {
  const struct slice id = {job->id.bytes, ID_BYTES};
  struct key key;
  switch (job->state) {
  case JOB_PENDING:
    key_ready(&key, job->queue, job->task, job->sequence);
    visitor->visit(visitor->context, family_ready(job->priority), &key, id);
    break;
  case JOB_PARKED:
    key_parked(&key, job->queue, job->concurrency_key, job->priority, job->sequence);
    visitor->visit(visitor->context, FAMILY_PARKED, &key, id);
    break;
  case JOB_SCHEDULED:
  case JOB_RETRYING:
    visit_timer(visitor, job->run_at_ms, TIMER_RUN, &job->id, nothing);
    break;
  case JOB_FAILED:
  case JOB_SUCCEEDED:
  case JOB_CANCELLED:
  case JOB_EXPIRED:
    key_ended(&key, job->queue, job->delete_at_ms, &job->id);
    visitor->visit(visitor->context, job->state == JOB_FAILED ? FAMILY_DEAD : FAMILY_FINISHED, &key, nothing);
    break;
  case JOB_RUNNING: /* a lease, and nothing else */
  case JOB_BLOCKED: /* found through its chain */
  case JOB_DELETED:
    break;
  }
}

/* What it is found by. */
static void visit_memberships(const struct job *job, const struct key_visitor *visitor) {
  struct key key;
  for (size_t i = 0; i < job->label_count; i++) {
    key_label(&key, job->labels[i].key, job->labels[i].value, &job->id);
    visitor->visit(visitor->context, FAMILY_LABELS, &key, nothing);
  }
  if (!id_is_zero(&job->batch_id)) {
    key_batch_member(&key, &job->batch_id, &job->id);
    visitor->visit(visitor->context, FAMILY_LABELS, &key, nothing);
  }
  if (!id_is_zero(&job->chain_id)) {
    key_chain_member(&key, &job->chain_id, job->chain_index, &job->id);
    visitor->visit(visitor->context, FAMILY_LABELS, &key, nothing);
  }
  if (!id_is_zero(&job->schedule_uid)) {
    key_schedule_member(&key, &job->schedule_uid, &job->id);
    visitor->visit(visitor->context, FAMILY_LABELS, &key, nothing);
  }
}

void keys_of(const struct job *job, const struct key_visitor *visitor) {
  if (job->state == JOB_DELETED) {
    visit_timer(visitor, job->delete_at_ms, TIMER_TOMBSTONE, &job->id, nothing);
    return;
  }
  visit_place(job, visitor);
  if (!job_is_terminal(job->state)) {
    /* A blocked step is not late before its turn comes: only its deadline counts. */
    if (job->expires_at_ms && !job_has_started(job) && job->state != JOB_BLOCKED)
      visit_timer(visitor, job->expires_at_ms, TIMER_EXPIRY, &job->id, nothing);
    if (job->deadline_ms)
      visit_timer(visitor, job->deadline_ms, TIMER_DEADLINE, &job->id, nothing);
  }
  if (job->unique_held) {
    struct key key;
    key_unique(&key, job->queue, job->unique_key);
    visitor->visit(visitor->context, FAMILY_UNIQUE, &key, (struct slice){job->id.bytes, ID_BYTES});
  }
  visit_memberships(job, visitor);
}

void keys_of_chain(const struct id *id, const Millrace__Store__V1__ChainRecord *record, const struct key_visitor *visitor) {
  if (record->delete_at_ms)
    visit_timer(visitor, record->delete_at_ms, TIMER_CHAIN_END, id, nothing);
}

void keys_of_batch(const struct id *id, const Millrace__Store__V1__BatchRecord *record, const struct key_visitor *visitor) {
  if (record->seal_at_ms)
    visit_timer(visitor, record->seal_at_ms, TIMER_BATCH_SEAL, id, nothing);
  if (record->delete_at_ms)
    visit_timer(visitor, record->delete_at_ms, TIMER_BATCH_END, id, nothing);
}

void keys_of_schedule(const char *name, const Millrace__Store__V1__ScheduleRecord *record, const struct key_visitor *visitor) {
  if (!record->next_fire_ms || record->paused)
    return;
  g_assert(record->uid.len == ID_BYTES);
  struct id uid;
  memcpy(uid.bytes, record->uid.data, ID_BYTES);
  visit_timer(visitor, record->next_fire_ms, TIMER_SCHEDULE, &uid, (struct slice){name, strlen(name)});
}
