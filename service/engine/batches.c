/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/batches.h"

#include <string.h>

#include "core/time.h"
#include "engine/bulk.h"
#include "engine/create.h"
#include "engine/jobs.h"
#include "engine/page.h"
#include "engine/timers.h"
#include "engine/turn.h"
#include "engine/waiters.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "store/walk.h"

enum batch_state { BATCH_OPEN = 1, BATCH_SEALED = 2, BATCH_SUCCEEDED = 3, BATCH_FAILED = 4, BATCH_CANCELLED = 5 };

struct batch {
  struct id id;
  Millrace__Store__V1__BatchRecord before; /* as stored; its texts are shared with the record, and never changed in place */
  bool existed;
  Millrace__Store__V1__BatchRecord *record;
  bool dirty;
  bool gone;
};

static struct batch *batch_put(struct turn *turn, const struct id *id, Millrace__Store__V1__BatchRecord *record, bool existed) {
  if (!turn->batches)
    turn->batches = g_hash_table_new(id_hash, id_equal_pointers);
  struct batch *batch = arena_zalloc(turn->arena, sizeof *batch);
  batch->id = *id;
  batch->before = *record;
  batch->existed = existed;
  batch->record = record;
  g_hash_table_insert(turn->batches, &batch->id, batch);
  return batch;
}

/* NULL: there is none. */
static struct batch *batch_get(struct turn *turn, const struct id *id) {
  struct batch *batch = turn->batches ? g_hash_table_lookup(turn->batches, id) : NULL;
  if (batch)
    return batch->gone ? NULL : batch;
  struct key key;
  key_id(&key, id);
  struct slice value = turn_get(turn, FAMILY_BATCHES, &key);
  ProtobufCMessage *message;
  struct error error;
  if (!value.data)
    return NULL;
  if (record_unpack(&millrace__store__v1__batch_record__descriptor, value, turn->arena, &message, &error) != STATUS_OK) {
    engine_fail(turn->engine, &error);
    return NULL;
  }
  return batch_put(turn, id, (void *)message, true);
}

static bool is_open(const struct batch *batch) {
  return batch->record->state == BATCH_OPEN || batch->record->state == BATCH_SEALED;
}

static uint32_t ended(const Millrace__Store__V1__BatchRecord *record) {
  return record->succeeded + record->failed + record->cancelled + record->expired;
}

/* ---- the end ---- */

/* What the callbacks' handlers are given as the previous result. */
static struct bytes counts_payload(struct turn *turn, const struct batch *batch) {
  const Millrace__Store__V1__BatchRecord *record = batch->record;
  Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT;
  payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
  payload.json = arena_printf(
      turn->arena, "{\"batch_id\":\"%s\",\"total\":%u,\"succeeded\":%u,\"failed\":%u,\"cancelled\":%u,\"expired\":%u}",
      id_text(turn->arena, &batch->id), record->total, record->succeeded, record->failed, record->cancelled, record->expired);
  struct slice packed = record_pack(&payload.base, turn->arena);
  return (struct bytes){packed.data, packed.length};
}

static ProtobufCBinaryData create_callback(struct turn *turn, const struct batch *batch, ProtobufCBinaryData packed,
                                           const char *purpose) {
  ProtobufCBinaryData none = {0, NULL};
  if (packed.len == 0)
    return none;
  Millrace__V1__JobSpec *spec = spec_unpack(turn, (struct bytes){packed.data, packed.len});
  struct origin origin = {
      .id = id_derive(&batch->id, purpose, 0), .internal = true, .previous_result = counts_payload(turn, batch)};
  struct created created;
  struct error error;
  if (spec && create_job(turn, spec, &origin, &created, &error) == STATUS_OK)
    return (ProtobufCBinaryData){ID_BYTES, arena_memdup(turn->arena, &origin.id, ID_BYTES)};
  engine_log(turn->engine, 3, "batch callback not created", "batch=%s callback=%s reason=\"%s\"",
             id_text(turn->arena, &batch->id), purpose, spec ? error.message : "its record can't be read");
  return none;
}

static void finish_if_done(struct turn *turn, struct batch *batch) {
  Millrace__Store__V1__BatchRecord *record = batch->record;
  if (record->state != BATCH_SEALED || ended(record) < record->total)
    return;
  bool all = record->succeeded == record->total;
  record->state = record->cancel_requested && !all ? BATCH_CANCELLED : all ? BATCH_SUCCEEDED : BATCH_FAILED;
  record->finished_ms = turn->now_ms;
  record->delete_at_ms = turn->now_ms + (all ? RETENTION_DEFAULT_MS : RETENTION_FAILED_DEFAULT_MS);
  timers_note(turn->engine, record->delete_at_ms);
  if (all)
    record->on_success_job_id = create_callback(turn, batch, record->on_success, "on_success");
  record->on_complete_job_id = create_callback(turn, batch, record->on_complete, "on_complete");
  batch->dirty = true;
  waiters_batch_ended(turn, &batch->id);
}

void batch_member_ended(struct turn *turn, struct entry *entry) {
  if (entry->now.counted)
    return;
  entry->now.counted = true;
  struct batch *batch = batch_get(turn, &entry->now.batch_id);
  if (!batch)
    return;
  Millrace__Store__V1__BatchRecord *record = batch->record;
  switch (entry->now.state) {
  case JOB_SUCCEEDED:
    record->succeeded++;
    break;
  case JOB_FAILED:
    record->failed++;
    break;
  case JOB_CANCELLED:
    record->cancelled++;
    break;
  default:
    record->expired++;
    break;
  }
  batch->dirty = true;
  finish_if_done(turn, batch);
}

static void seal(struct turn *turn, struct batch *batch) {
  if (batch->record->state != BATCH_OPEN)
    return;
  batch->record->state = BATCH_SEALED;
  batch->record->seal_at_ms = 0;
  batch->dirty = true;
  finish_if_done(turn, batch);
}

void batch_seal_due(struct turn *turn, const struct id *id, int64_t time_ms) {
  struct batch *batch = batch_get(turn, id);
  if (batch && batch->record->seal_at_ms == time_ms)
    seal(turn, batch);
}

bool batch_is_open(struct turn *turn, const struct id *id) {
  const struct batch *batch = batch_get(turn, id);
  return batch && is_open(batch);
}

void batch_retention_due(struct turn *turn, const struct id *id) {
  struct batch *batch = batch_get(turn, id);
  if (batch && batch->record->delete_at_ms && batch->record->delete_at_ms <= turn->now_ms)
    batch->gone = batch->dirty = true;
}

void batches_write(struct turn *turn) {
  if (!turn->batches)
    return;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->batches);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct batch *batch = value;
    if (!batch->dirty)
      continue;
    changes_batch(turn->batch, &batch->id, batch->existed ? &batch->before : NULL, batch->gone ? NULL : batch->record,
                  turn->arena);
  }
}

/* ---- answers ---- */

static Millrace__V1__Batch *answer(struct turn *turn, const struct batch *batch) {
  struct arena *arena = turn->arena;
  const Millrace__Store__V1__BatchRecord *record = batch->record;
  Millrace__V1__Batch *message = MESSAGE(arena, Millrace__V1__Batch, millrace__v1__batch__descriptor);
  message->id = id_text(arena, &batch->id);
  message->state = (Millrace__V1__BatchState)record->state;
  message->description = record->description;
  message->total = record->total;
  message->pending = record->total - ended(record);
  message->succeeded = record->succeeded;
  message->failed = record->failed;
  message->cancelled = record->cancelled;
  message->expired = record->expired;
  message->last_chunk = record->last_chunk;
  message->created_at = timestamp_new(arena, record->created_ms);
  message->finished_at = timestamp_new(arena, record->finished_ms);
  if (record->on_success_job_id.len == ID_BYTES)
    message->on_success_job_id = id_text(arena, (const struct id *)(const void *)record->on_success_job_id.data);
  if (record->on_complete_job_id.len == ID_BYTES)
    message->on_complete_job_id = id_text(arena, (const struct id *)(const void *)record->on_complete_job_id.data);
  return message;
}

static struct batch *find(struct turn *turn, struct request *request, const char *text, const char *field) {
  struct id id;
  struct batch *batch = id_parse(text, &id) ? batch_get(turn, &id) : NULL;
  if (!batch)
    reply_failure(turn, request, STATUS_NOT_FOUND, field, "there is no batch %s (it may have been removed after its retention)",
                  text);
  return batch;
}

/* ---- items ---- */

static bool label_is_set(const Millrace__V1__JobSpec *spec, const char *key) {
  for (size_t i = 0; i < spec->n_labels; i++)
    if (strcmp(spec->labels[i]->key, key) == 0)
      return true;
  return false;
}

/* What the item leaves unset comes from the defaults; labels are merged. */
static Millrace__V1__JobSpec *with_defaults(struct turn *turn, const Millrace__V1__JobSpec *item,
                                            const Millrace__V1__JobSpec *defaults) {
  Millrace__V1__JobSpec *spec = arena_memdup(turn->arena, item, sizeof *item);
  if (!defaults)
    return spec;
  if (!spec->task[0])
    spec->task = defaults->task;
  if (!spec->queue[0])
    spec->queue = defaults->queue;
  if (!spec->priority)
    spec->priority = defaults->priority;
  if (spec->start_case == MILLRACE__V1__JOB_SPEC__START__NOT_SET) {
    spec->start_case = defaults->start_case;
    spec->run_at = defaults->run_at; /* the oneof's members share their place */
  }
  if (spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY__NOT_SET) {
    spec->expiry_case = defaults->expiry_case;
    spec->expires_at = defaults->expires_at;
  }
  spec->total_timeout = spec->total_timeout ? spec->total_timeout : defaults->total_timeout;
  spec->attempt_timeout = spec->attempt_timeout ? spec->attempt_timeout : defaults->attempt_timeout;
  spec->retry_policy = spec->retry_policy ? spec->retry_policy : defaults->retry_policy;
  spec->concurrency_key = spec->concurrency_key ? spec->concurrency_key : defaults->concurrency_key;
  spec->retention = spec->retention ? spec->retention : defaults->retention;
  spec->traceparent = spec->traceparent[0] ? spec->traceparent : defaults->traceparent;
  spec->tracestate = spec->tracestate[0] ? spec->tracestate : defaults->tracestate;
  spec->labels = arena_alloc(turn->arena, (item->n_labels + defaults->n_labels + 1) * sizeof *spec->labels);
  for (size_t i = 0; i < item->n_labels; i++)
    spec->labels[i] = item->labels[i];
  for (size_t i = 0; i < defaults->n_labels; i++)
    if (!label_is_set(item, defaults->labels[i]->key))
      spec->labels[spec->n_labels++] = defaults->labels[i];
  return spec;
}

/* The number of an item that has no id of its own: an id is made of it, the same for a chunk sent again and none of another's. */
static uint64_t item_number(const Millrace__Store__V1__BatchRecord *record, size_t index) {
  return (uint64_t)record->last_chunk << 32 | index;
}

static enum status create_item(struct turn *turn, const struct batch *batch, const Millrace__V1__JobSpec *item, uint64_t number,
                               struct created *out_created, struct error *error) {
  if (!item->task[0])
    return error_set(error, STATUS_INVALID_ARGUMENT, "task", "the task is missing, here and in the batch's defaults");
  if (item->n_labels > JOB_LABELS_MAX)
    return error_set(error, STATUS_INVALID_ARGUMENT, "labels", "with the batch's defaults there are %zu labels, the limit is %d",
                     item->n_labels, JOB_LABELS_MAX);
  struct origin origin = {.batch_id = batch->id};
  if (!item->id[0] || !id_parse(item->id, &origin.id))
    origin.id = id_derive(&batch->id, "item", number);
  enum status status = create_job(turn, item, &origin, out_created, error);
  if (status == STATUS_OK && out_created->existing && id_equal(&out_created->entry->id, &origin.id)) {
    char text[ID_TEXT_BYTES];
    id_format(&origin.id, text);
    return error_set(error, STATUS_ALREADY_EXISTS, "id", "job %s exists already and can't become a member of this batch", text);
  }
  return status;
}

/* A chunk. An item that exists elsewhere, or whose unique key is taken, has an outcome of its own and is no member; anything else
 * that is wrong refuses the chunk whole, to be sent again. */
static enum status add_items(struct turn *turn, struct batch *batch, Millrace__V1__JobSpec *const *items, size_t count,
                             Millrace__V1__CreateOutcome ***out_outcomes, struct error *error) {
  Millrace__Store__V1__BatchRecord *record = batch->record;
  if (count > BATCH_MEMBERS_MAX - record->total)
    return error_set(error, STATUS_RESOURCE_EXHAUSTED, "items", "a batch has at most %d members; this one has %u",
                     BATCH_MEMBERS_MAX, record->total);
  Millrace__V1__JobSpec *defaults = spec_unpack(turn, (struct bytes){record->defaults.data, record->defaults.len});
  Millrace__V1__CreateOutcome **outcomes = arena_alloc(turn->arena, (count + 1) * sizeof *outcomes);
  struct entry **created = arena_zalloc(turn->arena, (count + 1) * sizeof *created);
  uint32_t members = 0;
  for (size_t i = 0; i < count; i++) {
    struct created one = {0};
    const Millrace__V1__JobSpec *item = with_defaults(turn, items[i], defaults);
    enum status status = create_item(turn, batch, item, item_number(record, i), &one, error);
    outcomes[i] = MESSAGE(turn->arena, Millrace__V1__CreateOutcome, millrace__v1__create_outcome__descriptor);
    if (status == STATUS_ALREADY_EXISTS) {
      error_prefix_field(error, "items[%zu].", i);
      outcomes[i]->id = items[i]->id;
      outcomes[i]->error = item_error(turn, error);
      continue;
    }
    if (status != STATUS_OK) {
      error_prefix_field(error, "items[%zu].", i);
      while (i-- > 0)
        if (created[i])
          turn_forget(turn, created[i]);
      return status;
    }
    created[i] = one.existing ? NULL : one.entry;
    members += !one.existing;
    outcomes[i]->id = id_text(turn->arena, &one.entry->id);
    outcomes[i]->existing = one.existing;
  }
  record->total += members;
  record->last_chunk++;
  record->seal_at_ms = turn->now_ms + BATCH_SEAL_MS;
  timers_note(turn->engine, record->seal_at_ms);
  batch->dirty = true;
  *out_outcomes = outcomes;
  return STATUS_OK;
}

/* ---- methods ---- */

static void request_hash(struct turn *turn, const Millrace__V1__CreateBatchRequest *message, uint64_t out_hash[static 2]) {
  Millrace__V1__CreateBatchRequest copy = *message;
  copy.defaults = spec_content(turn, message->defaults);
  copy.on_success = spec_content(turn, message->on_success);
  copy.on_complete = spec_content(turn, message->on_complete);
  copy.items = arena_alloc(turn->arena, (message->n_items + 1) * sizeof *copy.items);
  for (size_t i = 0; i < message->n_items; i++)
    copy.items[i] = spec_content(turn, message->items[i]);
  content_hash(turn, &copy.base, out_hash);
}

static ProtobufCBinaryData packed_spec(struct turn *turn, const Millrace__V1__JobSpec *spec) {
  struct bytes packed = spec_pack(turn, spec);
  return (ProtobufCBinaryData){packed.length, (uint8_t *)packed.data};
}

static struct batch *batch_new(struct turn *turn, const Millrace__V1__CreateBatchRequest *message, const struct id *id,
                               const uint64_t hash[static 2]) {
  Millrace__Store__V1__BatchRecord *record =
      MESSAGE(turn->arena, Millrace__Store__V1__BatchRecord, millrace__store__v1__batch_record__descriptor);
  record->description = message->description;
  record->defaults = packed_spec(turn, message->defaults);
  record->on_success = packed_spec(turn, message->on_success);
  record->on_complete = packed_spec(turn, message->on_complete);
  record->state = BATCH_OPEN;
  record->created_ms = turn->now_ms;
  record->content_hash_high = hash[0];
  record->content_hash_low = hash[1];
  struct batch *batch = batch_put(turn, id, record, false);
  record->seal_at_ms = turn->now_ms + BATCH_SEAL_MS;
  timers_note(turn->engine, record->seal_at_ms);
  batch->dirty = true;
  return batch;
}

static enum status reserve_callbacks(struct turn *turn, const Millrace__V1__CreateBatchRequest *message, struct error *error) {
  enum status status = create_reserve(turn, message->on_success, error);
  if (status != STATUS_OK) {
    error_prefix_field(error, "on_success.");
    return status;
  }
  status = create_reserve(turn, message->on_complete, error);
  if (status != STATUS_OK)
    error_prefix_field(error, "on_complete.");
  return status;
}

void create_batch_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateBatchRequest *message = (const void *)request->message;
  struct id id;
  struct error error;
  if (!message->id[0] || !id_parse(message->id, &id))
    id = id_make_v7(turn->now_ms, 0, engine_random(turn->engine));
  uint64_t hash[2];
  request_hash(turn, message, hash);
  Millrace__V1__CreateBatchResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CreateBatchResponse, millrace__v1__create_batch_response__descriptor);
  struct batch *batch = batch_get(turn, &id);
  response->existing = batch != NULL;
  if (batch && (batch->record->content_hash_high != hash[0] || batch->record->content_hash_low != hash[1])) {
    error_set(&error, STATUS_ALREADY_EXISTS, "id", "batch %s exists with other content; use a new id", message->id);
    error_reason(&error, "BATCH_EXISTS", message->id);
    reply_error(turn, request, &error);
    return;
  }
  if (!batch) {
    if (reserve_callbacks(turn, message, &error) != STATUS_OK) {
      reply_error(turn, request, &error);
      return;
    }
    batch = batch_new(turn, message, &id, hash);
    if (message->n_items && add_items(turn, batch, message->items, message->n_items, &response->outcomes, &error) != STATUS_OK) {
      batch->gone = true;
      batch->dirty = false;
      g_hash_table_remove(turn->batches, &batch->id);
      reply_error(turn, request, &error);
      return;
    }
    response->n_outcomes = message->n_items;
    if (message->seal)
      seal(turn, batch);
  }
  response->batch = answer(turn, batch);
  reply(turn, request, response);
}

void add_batch_items_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__AddBatchItemsRequest *message = (const void *)request->message;
  struct batch *batch = find(turn, request, message->batch_id, "batch_id");
  if (!batch)
    return;
  Millrace__Store__V1__BatchRecord *record = batch->record;
  Millrace__V1__AddBatchItemsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__AddBatchItemsResponse, millrace__v1__add_batch_items_response__descriptor);
  response->chunk = message->chunk;
  response->repeated_chunk = message->chunk <= record->last_chunk;
  if (!response->repeated_chunk) {
    struct error error;
    if (record->state != BATCH_OPEN) {
      reply_failure(turn, request, STATUS_FAILED_PRECONDITION, "batch_id", "batch %s is sealed and takes no more items",
                    message->batch_id);
      return;
    }
    if (message->chunk != record->last_chunk + 1) {
      reply_failure(turn, request, STATUS_INVALID_ARGUMENT, "chunk", "chunk %u came, chunk %u is expected", message->chunk,
                    record->last_chunk + 1);
      return;
    }
    if (add_items(turn, batch, message->items, message->n_items, &response->outcomes, &error) != STATUS_OK) {
      reply_error(turn, request, &error);
      return;
    }
    response->n_outcomes = message->n_items;
    if (message->last)
      seal(turn, batch);
  }
  response->total = record->total;
  reply(turn, request, response);
}

void seal_batch_apply(struct turn *turn, struct request *request) {
  struct batch *batch = find(turn, request, ((const Millrace__V1__SealBatchRequest *)(const void *)request->message)->id, "id");
  if (!batch)
    return;
  seal(turn, batch);
  Millrace__V1__SealBatchResponse *response =
      MESSAGE(turn->arena, Millrace__V1__SealBatchResponse, millrace__v1__seal_batch_response__descriptor);
  response->batch = answer(turn, batch);
  reply(turn, request, response);
}

void get_batch_apply(struct turn *turn, struct request *request) {
  struct batch *batch = find(turn, request, ((const Millrace__V1__GetBatchRequest *)(const void *)request->message)->id, "id");
  if (!batch)
    return;
  Millrace__V1__GetBatchResponse *response =
      MESSAGE(turn->arena, Millrace__V1__GetBatchResponse, millrace__v1__get_batch_response__descriptor);
  response->batch = answer(turn, batch);
  reply(turn, request, response);
}

void batch_answer_wait(struct turn *turn, struct request *request, const struct id *id, bool timed_out) {
  struct batch *batch = batch_get(turn, id);
  Millrace__V1__WaitBatchResponse *response =
      MESSAGE(turn->arena, Millrace__V1__WaitBatchResponse, millrace__v1__wait_batch_response__descriptor);
  response->timed_out = timed_out;
  if (batch)
    response->batch = answer(turn, batch);
  reply(turn, request, response);
}

void wait_batch_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__WaitBatchRequest *message = (const void *)request->message;
  struct batch *batch = find(turn, request, message->id, "id");
  if (!batch)
    return;
  if (is_open(batch))
    wait_add(turn, WAIT_BATCH, &batch->id, request, message->timeout ? time_from_duration(message->timeout) : WAIT_DEFAULT_MS);
  else
    batch_answer_wait(turn, request, &batch->id, false);
}

void list_batches_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListBatchesRequest *message = (const void *)request->message;
  struct store_rows rows;
  if (!page_rows(turn, request, FAMILY_BATCHES, message->page_token, message->page_size, &rows))
    return;
  Millrace__V1__ListBatchesResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListBatchesResponse, millrace__v1__list_batches_response__descriptor);
  response->batches = arena_alloc(turn->arena, (rows.count + 1) * sizeof *response->batches);
  for (size_t i = 0; i < rows.count; i++) {
    struct id id;
    struct batch *batch = key_read_id(rows.rows[i].key, &id) ? batch_get(turn, &id) : NULL;
    if (batch)
      response->batches[response->n_batches++] = answer(turn, batch);
  }
  response->next_page_token = page_next(turn, &rows, rows.count, message->page_size);
  store_rows_release(&rows);
  reply(turn, request, response);
}

void cancel_batch_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CancelBatchRequest *message = (const void *)request->message;
  struct batch *batch = find(turn, request, message->id, "id");
  if (!batch)
    return;
  Millrace__V1__CancelBatchResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CancelBatchResponse, millrace__v1__cancel_batch_response__descriptor);
  response->accepted = is_open(batch);
  const bool says_more = !batch->record->cancel_requested || (message->terminate && !batch->record->terminate_requested);
  if (response->accepted && says_more) { /* a repeat finds its members being cancelled */
    batch->record->cancel_requested = true;
    batch->record->terminate_requested |= message->terminate;
    batch->record->cancel_reason = message->reason;
    batch->dirty = true;
    seal(turn, batch);
    cancel_members(turn->engine, &batch->id, message->terminate, message->reason);
  }
  response->batch = answer(turn, batch);
  reply(turn, request, response);
}

/* ---- recovery ---- */

struct recovery {
  struct engine *engine;
  struct arena *arena;
};

static enum status recover_row(void *context, const struct store_row *row, struct error *error) {
  struct recovery *recovery = context;
  struct id id;
  ProtobufCMessage *message;
  arena_reset(recovery->arena);
  if (!key_read_id(row->key, &id))
    return error_set(error, STATUS_DATA_LOSS, NULL, "the family batches holds a key that is none of ours");
  enum status status =
      record_unpack(&millrace__store__v1__batch_record__descriptor, row->value, recovery->arena, &message, error);
  if (status != STATUS_OK)
    return status;
  const Millrace__Store__V1__BatchRecord *record = (void *)message;
  if (record->cancel_requested && record->state == BATCH_SEALED)
    cancel_members(recovery->engine, &id, record->terminate_requested, record->cancel_reason);
  return STATUS_OK;
}

enum status batches_recover(struct engine *engine, struct error *error) {
  struct recovery recovery = {engine, arena_new(0)};
  struct walk walk = {.store = engine->store};
  enum status status = walk_family(&walk, FAMILY_BATCHES, recover_row, &recovery, error);
  arena_free(recovery.arena);
  return status;
}
