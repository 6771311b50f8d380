/* SPDX-License-Identifier: Apache-2.0 */
/* Reports are packed one by one and gathered as bytes; what comes while a message is on its way goes out together as the next
 * one. */
#include "convert.h"
#include "worker.h"

enum { MANY_REPORTS = 250, VARINT_BYTES_MAX = 10, TAG_SEQ = 1 << 3 | 0, TAG_REPORT = 2 << 3 | 2 };

static void put_varint(GByteArray *bytes, uint64_t value) {
  uint8_t digits[VARINT_BYTES_MAX];
  guint count = 0;
  for (; value >= 0x80; value >>= 7)
    digits[count++] = (uint8_t)(value | 0x80);
  digits[count++] = (uint8_t)value;
  g_byte_array_append(bytes, digits, count);
}

static struct chunk *chunk_new(void) {
  struct chunk *chunk = g_new0(struct chunk, 1);
  chunk->bytes = g_byte_array_new();
  return chunk;
}

static void chunk_free(struct chunk *chunk) {
  g_byte_array_unref(chunk->bytes);
  g_free(chunk);
}

void reports_init(struct millrace_worker *worker) {
  worker->filling = chunk_new();
}

void reports_clear(struct millrace_worker *worker) {
  chunk_free(worker->filling);
  for (struct chunk *chunk; (chunk = g_queue_pop_head(&worker->full));)
    chunk_free(chunk);
  for (struct chunk *chunk; (chunk = g_queue_pop_head(&worker->unaccepted));)
    chunk_free(chunk);
}

static struct chunk *append_locked(struct millrace_worker *worker, const uint8_t *report, size_t bytes) {
  struct chunk *chunk = worker->filling;
  size_t bytes_max = worker->session.reports_bytes_max - (size_t)2 * (VARINT_BYTES_MAX + 1);
  if (chunk->count == REPORTS_MAX || (chunk->count > 0 && chunk->bytes->len + bytes + VARINT_BYTES_MAX + 1 > bytes_max)) {
    g_queue_push_tail(&worker->full, chunk);
    chunk = worker->filling = chunk_new();
  }
  put_varint(chunk->bytes, TAG_REPORT);
  put_varint(chunk->bytes, bytes);
  g_byte_array_append(chunk->bytes, report, (guint)bytes);
  chunk->count++;
  return chunk;
}

void reports_final_locked(struct millrace_context *context, const uint8_t *report, size_t bytes) {
  context->state = DELIVERY_REPORTED;
  struct chunk *chunk = append_locked(context->worker, report, bytes);
  context->next_final = chunk->finals;
  chunk->finals = context;
}

void reports_news_locked(struct millrace_context *context, const uint8_t *report, size_t bytes) {
  struct millrace_worker *worker = context->worker;
  if (context->is_orphan || context->state == DELIVERY_REPORTED || worker->news_bytes + bytes > NEWS_BYTES_MAX)
    return;
  worker->news_bytes += bytes;
  append_locked(worker, report, bytes)->news_bytes += bytes;
  reports_flush_locked(worker, true);
}

uint8_t *reports_pack(const struct millrace_context *context, Millrace__V1__Report *report, size_t *out_bytes) {
  Google__Protobuf__Timestamp started = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
  report->job_id = (char *)context->delivery.job_id;
  report->delivery = context->delivery.delivery;
  if (context->started_ms) {
    started.seconds = context->started_ms / 1000;
    started.nanos = (int32_t)(context->started_ms % 1000 * 1000000);
    report->started_at = &started;
  }
  *out_bytes = millrace__v1__report__get_packed_size(report);
  uint8_t *bytes = g_malloc(*out_bytes);
  millrace__v1__report__pack(report, bytes);
  report->started_at = NULL;
  return bytes;
}

void reports_release_locked(struct millrace_context *context, Millrace__V1__ReleaseReason reason) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Released released = MILLRACE__V1__RELEASED__INIT;
  released.reason = reason;
  report.event_case = MILLRACE__V1__REPORT__EVENT_RELEASED;
  report.released = &released;
  size_t bytes;
  uint8_t *packed = reports_pack(context, &report, &bytes);
  reports_final_locked(context, packed, bytes);
  g_free(packed);
}

void reports_cancelled_locked(struct millrace_context *context) {
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  Millrace__V1__Failed failed = MILLRACE__V1__FAILED__INIT;
  failed.cancelled = true;
  report.event_case = MILLRACE__V1__REPORT__EVENT_FAILED;
  report.failed = &failed;
  size_t bytes;
  uint8_t *packed = reports_pack(context, &report, &bytes);
  reports_final_locked(context, packed, bytes);
  g_free(packed);
}

int64_t reports_started_locked(struct millrace_worker *worker) {
  int64_t now_ms = g_get_real_time() / 1000;
  struct millrace_context *context;
  while ((context = g_queue_peek_head(&worker->unstarted))) {
    int64_t age_ms = now_ms - context->started_ms;
    /* A clock that was put back must not hold it up. */
    if (age_ms >= 0 && age_ms < STARTED_AFTER_MS)
      return STARTED_AFTER_MS - age_ms;
    g_queue_unlink(&worker->unstarted, &context->link);
    Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
    Millrace__V1__Started started = MILLRACE__V1__STARTED__INIT;
    Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    at.seconds = context->started_ms / 1000;
    at.nanos = (int32_t)(context->started_ms % 1000 * 1000000);
    started.started_at = &at;
    report.event_case = MILLRACE__V1__REPORT__EVENT_STARTED;
    report.started = &started;
    size_t bytes;
    uint8_t *packed = reports_pack(context, &report, &bytes);
    append_locked(worker, packed, bytes);
    g_free(packed);
  }
  return -1;
}

static void chunk_accepted_locked(struct millrace_worker *worker, struct chunk *chunk) {
  worker->news_bytes -= chunk->news_bytes;
  for (struct millrace_context *context = chunk->finals, *next; context; context = next) {
    next = context->next_final;
    intake_drop_locked(context);
  }
  chunk_free(chunk);
}

void reports_accepted_locked(struct millrace_worker *worker, uint64_t seq) {
  struct chunk *chunk;
  while ((chunk = g_queue_peek_head(&worker->unaccepted)) && chunk->seq <= seq) {
    if (worker->resend == worker->unaccepted.head)
      worker->resend = worker->resend->next;
    g_queue_pop_head(&worker->unaccepted);
    chunk_accepted_locked(worker, chunk);
  }
}

void reports_forget_locked(struct millrace_worker *worker) {
  g_queue_push_tail(&worker->full, worker->filling);
  worker->filling = chunk_new();
  for (struct chunk *chunk; (chunk = g_queue_pop_head(&worker->unaccepted));)
    chunk_accepted_locked(worker, chunk);
  for (struct chunk *chunk; (chunk = g_queue_pop_head(&worker->full));)
    chunk_accepted_locked(worker, chunk);
  worker->resend = NULL;
  worker->report_seq = 0;
}

bool reports_are_pending_locked(const struct millrace_worker *worker) {
  return worker->filling->count > 0 || worker->full.length > 0 || worker->unaccepted.length > 0;
}

void reports_restart_locked(struct millrace_worker *worker) {
  worker->sending = false;
  worker->heartbeat_is_due = true;
  worker->resend = worker->unaccepted.head;
}

/* ---- sending ---- */

static GByteArray *heartbeat_locked(struct millrace_worker *worker) {
  Millrace__V1__Reports message = MILLRACE__V1__REPORTS__INIT;
  Millrace__V1__Heartbeat heartbeat = MILLRACE__V1__HEARTBEAT__INIT;
  struct box *scratch = box_new();
  heartbeat.received_up_to = worker->received_up_to;
  heartbeat.ping = worker->ping;
  heartbeat.n_held = worker->held.length;
  heartbeat.held = box_alloc(scratch, worker->held.length * sizeof(void *));
  size_t i = 0;
  for (const GList *link = worker->held.head; link; link = link->next) {
    const struct millrace_context *context = link->data;
    Millrace__V1__HeldDelivery *held = MESSAGE(scratch, Millrace__V1__HeldDelivery, held_delivery);
    held->job_id = (char *)context->delivery.job_id;
    held->delivery = context->delivery.delivery;
    heartbeat.held[i++] = held;
  }
  unsigned busy = MIN(worker->held.length, worker->options.concurrency);
  heartbeat.free_slots = worker->options.concurrency - busy;
  message.heartbeat = &heartbeat;
  GByteArray *bytes = g_byte_array_new();
  g_byte_array_set_size(bytes, (guint)millrace__v1__reports__get_packed_size(&message));
  millrace__v1__reports__pack(&message, bytes->data);
  box_unref(scratch);
  return bytes;
}

static GByteArray *chunk_message(const struct chunk *chunk) {
  GByteArray *bytes = g_byte_array_sized_new(chunk->bytes->len + VARINT_BYTES_MAX + 1);
  put_varint(bytes, TAG_SEQ);
  put_varint(bytes, chunk->seq);
  g_byte_array_append(bytes, chunk->bytes->data, chunk->bytes->len);
  return bytes;
}

/* Quick jobs are queued: their reports will be there in a moment and make one message with these. */
static bool others_follow_locked(const struct millrace_worker *worker) {
  return worker->queue.length > 0 && worker->usual_us < SLOW_US && worker->filling->count < MANY_REPORTS;
}

static GByteArray *next_message_locked(struct millrace_worker *worker, bool at_once) {
  if (worker->heartbeat_is_due) {
    worker->heartbeat_is_due = false;
    return heartbeat_locked(worker);
  }
  if (worker->resend) {
    struct chunk *chunk = worker->resend->data;
    worker->resend = worker->resend->next;
    return chunk_message(chunk);
  }
  struct chunk *chunk = g_queue_pop_head(&worker->full);
  if (!chunk && worker->filling->count > 0 && (at_once || !others_follow_locked(worker))) {
    chunk = worker->filling;
    worker->filling = chunk_new();
  }
  if (!chunk)
    return NULL;
  chunk->seq = ++worker->report_seq;
  g_queue_push_tail(&worker->unaccepted, chunk);
  return chunk_message(chunk);
}

void reports_flush_locked(struct millrace_worker *worker, bool at_once) {
  if (worker->sending || !worker->link)
    return;
  GByteArray *message = next_message_locked(worker, at_once);
  if (!message)
    return;
  struct link *link = worker->link;
  worker->sending = true;
  worker->link_users++;
  pthread_mutex_unlock(&worker->lock);
  link_send(link, message->data, message->len);
  g_byte_array_unref(message);
  pthread_mutex_lock(&worker->lock);
  if (--worker->link_users == 0 && !worker->link)
    pthread_cond_broadcast(&worker->news);
}

void reports_sent(void *data) {
  struct millrace_worker *worker = data;
  pthread_mutex_lock(&worker->lock);
  worker->sending = false;
  reports_flush_locked(worker, false);
  pthread_mutex_unlock(&worker->lock);
}
