/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/chains.h"

#include <string.h>
#include <yajl/yajl_gen.h>

#include "core/text.h"
#include "core/time.h"
#include "engine/create.h"
#include "engine/jobs.h"
#include "engine/page.h"
#include "engine/queues.h"
#include "engine/timers.h"
#include "engine/turn.h"
#include "engine/waiters.h"
#include "millrace/v1/chain_service.pb-c.h"

enum { CAUSE_BYTES_MAX = 1000 }; /* of a step's error, told by the steps that were cancelled because of it */

enum chain_state { CHAIN_RUNNING = 1, CHAIN_SUCCEEDED = 2, CHAIN_FAILED = 3, CHAIN_CANCELLED = 4 };

struct chain {
  struct id id;
  Millrace__Store__V1__ChainRecord
      before; /* as stored; its arrays and texts are shared with the record, and never changed in place */
  bool existed;
  Millrace__Store__V1__ChainRecord *record;
  bool dirty;
  bool gone;
  bool cancelling; /* its later steps are being cancelled: their ends say nothing new */
};

static struct chain *chain_put(struct turn *turn, const struct id *id, Millrace__Store__V1__ChainRecord *record, bool existed) {
  if (!turn->chains)
    turn->chains = g_hash_table_new(id_hash, id_equal_pointers);
  struct chain *chain = arena_zalloc(turn->arena, sizeof *chain);
  chain->id = *id;
  chain->before = *record;
  chain->existed = existed;
  chain->record = record;
  g_hash_table_insert(turn->chains, &chain->id, chain);
  return chain;
}

/* NULL: there is none. */
static struct chain *chain_get(struct turn *turn, const struct id *id) {
  struct chain *chain = turn->chains ? g_hash_table_lookup(turn->chains, id) : NULL;
  if (chain)
    return chain->gone ? NULL : chain;
  struct key key;
  key_id(&key, id);
  struct slice value = turn_get(turn, FAMILY_CHAINS, &key);
  ProtobufCMessage *message;
  struct error error;
  if (!value.data)
    return NULL;
  if (record_unpack(&millrace__store__v1__chain_record__descriptor, value, turn->arena, &message, &error) != STATUS_OK) {
    engine_fail(turn->engine, &error);
    return NULL;
  }
  return chain_put(turn, id, (void *)message, true);
}

static struct id step_id(const struct chain *chain, size_t index) {
  struct id id;
  memcpy(id.bytes, chain->record->job_ids[index].data, ID_BYTES);
  return id;
}

static struct entry *step(struct turn *turn, const struct chain *chain, size_t index) {
  struct id id = step_id(chain, index);
  return turn_job(turn, &id);
}

/* ---- a step ends ---- */

static void gen_string(yajl_gen gen, const char *key, const char *value) {
  yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
  yajl_gen_string(gen, (const unsigned char *)value, strlen(value));
}

/* What an on_failure handler is given as the previous result. */
static struct bytes failure_payload(struct turn *turn, const struct chain *chain, const struct entry *failed) {
  yajl_gen gen = yajl_gen_alloc(NULL);
  yajl_gen_map_open(gen);
  gen_string(gen, "chain_id", id_text(turn->arena, &chain->id));
  gen_string(gen, "job_id", id_text(turn->arena, &failed->id));
  yajl_gen_string(gen, (const unsigned char *)"step", 4);
  yajl_gen_integer(gen, failed->now.chain_index);
  gen_string(gen, "type", failed->now.error.type);
  gen_string(gen, "message", failed->now.error.message);
  yajl_gen_map_close(gen);
  const unsigned char *text;
  size_t length;
  yajl_gen_get_buf(gen, &text, &length);
  Millrace__V1__Payload payload = MILLRACE__V1__PAYLOAD__INIT;
  payload.content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
  payload.json = (char *)text;
  struct slice packed = record_pack(&payload.base, turn->arena);
  yajl_gen_free(gen);
  return (struct bytes){packed.data, packed.length};
}

static void create_on_failure(struct turn *turn, struct chain *chain, const struct entry *failed) {
  Millrace__Store__V1__ChainRecord *record = chain->record;
  if (record->on_failure.len == 0 || record->on_failure_job_id.len)
    return;
  Millrace__V1__JobSpec *spec = spec_unpack(turn, (struct bytes){record->on_failure.data, record->on_failure.len});
  struct origin origin = {.id = id_derive(&chain->id, "on_failure", 0), .internal = true};
  origin.previous_result = failure_payload(turn, chain, failed);
  struct created created;
  struct error error;
  if (spec && create_job(turn, spec, &origin, &created, &error) == STATUS_OK)
    record->on_failure_job_id = (ProtobufCBinaryData){ID_BYTES, arena_memdup(turn->arena, &origin.id, ID_BYTES)};
  else
    engine_log(turn->engine, 3, "on_failure job not created", "chain=%s reason=\"%s\"", id_text(turn->arena, &chain->id),
               spec ? error.message : "its record can't be read");
}

static void finish(struct turn *turn, struct chain *chain, enum chain_state state, const struct entry *failed) {
  Millrace__Store__V1__ChainRecord *record = chain->record;
  record->state = state;
  record->finished_ms = turn->now_ms;
  record->delete_at_ms = turn->now_ms + (state == CHAIN_FAILED ? RETENTION_FAILED_DEFAULT_MS : RETENTION_DEFAULT_MS);
  timers_note(turn->engine, record->delete_at_ms);
  record->error = failed ? error_message(turn->arena, &failed->now.error) : NULL;
  chain->dirty = true;
  if (failed)
    create_on_failure(turn, chain, failed);
  waiters_chain_ended(turn, &chain->id);
}

static void finish_by(struct turn *turn, struct chain *chain, const struct entry *failed) {
  finish(turn, chain, failed->now.state == JOB_CANCELLED ? CHAIN_CANCELLED : CHAIN_FAILED, failed);
}

static void cancel_after(struct turn *turn, struct chain *chain, const struct entry *cause) {
  struct job_error error = {.type = "CHAIN_STEP_FAILED", .trace = "", .fingerprint = ""};
  error.message =
      arena_printf(turn->arena, "step %u (job %s) did not succeed: %s", cause->now.chain_index, id_text(turn->arena, &cause->id),
                   text_clean(turn->arena, cause->now.error.message, CAUSE_BYTES_MAX));
  chain->cancelling = true;
  for (size_t i = cause->now.chain_index + 1; i < chain->record->n_job_ids; i++) {
    struct entry *later = step(turn, chain, i);
    if (!later || !job_is_waiting(later->now.state))
      continue;
    struct job next = later->now;
    job_cancel(&next, turn->now_ms, &error);
    next.cancelled_by_chain = true;
    turn_update(turn, later, &next);
  }
  chain->cancelling = false;
}

/* The step after becomes ready, unless it has ended already. */
static void advance(struct turn *turn, struct chain *chain, const struct entry *entry) {
  Millrace__Store__V1__ChainRecord *record = chain->record;
  record->succeeded++;
  chain->dirty = true;
  if (id_is_zero(&entry->now.chain_next)) {
    finish(turn, chain, CHAIN_SUCCEEDED, NULL);
    return;
  }
  record->current = entry->now.chain_index + 1;
  struct entry *after = turn_job(turn, &entry->now.chain_next);
  if (!after || after->now.state == JOB_DELETED) { /* after a late retry: cancelled steps go before failed ones */
    static const struct job_error gone = {"CHAIN_STEP_REMOVED", "the step after was removed after its retention", "", ""};
    finish(turn, chain, CHAIN_CANCELLED, NULL);
    record->error = error_message(turn->arena, &gone);
    return;
  }
  if (after->now.state != JOB_BLOCKED) {
    finish_by(turn, chain, after);
    return;
  }
  struct job next = after->now;
  const int64_t run_at_ms = MAX(turn->now_ms + next.chain_delay_ms, next.run_at_ms);
  if (run_at_ms > turn->now_ms)
    job_delay(&next, run_at_ms);
  else
    job_make_ready(&next, engine_sequence(turn), turn->now_ms);
  turn_update(turn, after, &next);
}

void chain_step_ended(struct turn *turn, struct entry *entry) {
  struct chain *chain = chain_get(turn, &entry->now.chain_id);
  if (!chain || chain->cancelling || chain->record->state != CHAIN_RUNNING)
    return;
  bool at_work = entry->now.chain_index == chain->record->current;
  if (entry->now.state == JOB_SUCCEEDED) {
    if (at_work)
      advance(turn, chain, entry);
    return;
  }
  cancel_after(turn, chain, entry);
  if (at_work)
    finish_by(turn, chain, entry);
}

bool chain_step_can_retry(struct turn *turn, const struct entry *entry, bool *out_blocked) {
  const struct chain *chain = chain_get(turn, &entry->now.chain_id);
  const struct entry *before = chain && entry->now.chain_index > 0 ? step(turn, chain, entry->now.chain_index - 1) : NULL;
  if (!before || before->now.state == JOB_DELETED) { /* removed: it succeeded if the chain has been behind it */
    *out_blocked = false;
    return !chain || entry->now.chain_index <= chain->record->current;
  }
  *out_blocked = !job_is_terminal(before->now.state);
  return *out_blocked || before->now.state == JOB_SUCCEEDED;
}

/* The step at `index`, if it follows when one before is retried. NULL: it ended for itself, and those behind it because of it. */
static struct entry *follower(struct turn *turn, const struct chain *chain, size_t index) {
  struct entry *later = step(turn, chain, index);
  return later && later->now.state == JOB_CANCELLED && later->now.cancelled_by_chain ? later : NULL;
}

enum status chain_check_retry(struct turn *turn, const struct entry *entry, struct error *error) {
  const struct chain *chain = chain_get(turn, &entry->now.chain_id);
  for (size_t i = entry->now.chain_index + 1; chain && i < chain->record->n_job_ids; i++) {
    const struct entry *later = follower(turn, chain, i);
    if (!later)
      break;
    struct job next = later->now;
    enum status status = unique_take_back(turn, &next, error);
    if (status != STATUS_OK)
      return status;
  }
  return STATUS_OK;
}

void chain_step_retried(struct turn *turn, struct entry *entry) {
  struct chain *chain = chain_get(turn, &entry->now.chain_id);
  if (!chain)
    return;
  Millrace__Store__V1__ChainRecord *record = chain->record;
  if (entry->now.state != JOB_BLOCKED) { /* else a step before is at work */
    record->state = CHAIN_RUNNING;
    record->current = entry->now.chain_index;
    record->finished_ms = record->delete_at_ms = 0;
    record->error = NULL;
    chain->dirty = true;
  }
  for (size_t i = entry->now.chain_index + 1; i < record->n_job_ids; i++) {
    struct entry *later = follower(turn, chain, i);
    struct error error;
    if (!later)
      break;
    struct job next = later->now;
    if (unique_take_back(turn, &next, &error) != STATUS_OK)
      break; /* chain_check_retry has seen to it that this can't be */
    job_retry(&next, 0, turn->now_ms, true);
    next.run_at_ms = MAX(later->now.run_at_ms, turn->now_ms); /* an update may have given it a time */
    next.cancelled_by_chain = false;
    turn_update(turn, later, &next);
  }
}

bool chain_is_open(struct turn *turn, const struct id *id) {
  const struct chain *chain = chain_get(turn, id);
  return chain && chain->record->state == CHAIN_RUNNING;
}

void chain_retention_due(struct turn *turn, const struct id *id) {
  struct chain *chain = chain_get(turn, id);
  if (!chain || !chain->record->delete_at_ms || chain->record->delete_at_ms > turn->now_ms)
    return;
  chain->gone = chain->dirty = true;
}

void chains_write(struct turn *turn) {
  if (!turn->chains)
    return;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, turn->chains);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct chain *chain = value;
    if (!chain->dirty)
      continue;
    changes_chain(turn->batch, &chain->id, chain->existed ? &chain->before : NULL, chain->gone ? NULL : chain->record,
                  turn->arena);
  }
}

/* ---- methods ---- */

static Millrace__V1__Chain *answer(struct turn *turn, const struct chain *chain, bool with_result) {
  struct arena *arena = turn->arena;
  const Millrace__Store__V1__ChainRecord *record = chain->record;
  Millrace__V1__Chain *message = MESSAGE(arena, Millrace__V1__Chain, millrace__v1__chain__descriptor);
  message->id = id_text(arena, &chain->id);
  message->state = (Millrace__V1__ChainState)record->state;
  message->n_job_ids = record->n_job_ids;
  message->job_ids = arena_alloc(arena, (record->n_job_ids + 1) * sizeof *message->job_ids);
  for (size_t i = 0; i < record->n_job_ids; i++) {
    struct id id = step_id(chain, i);
    message->job_ids[i] = id_text(arena, &id);
  }
  message->succeeded = record->succeeded;
  message->current_step = record->current;
  message->error = record->error;
  if (record->on_failure_job_id.len == ID_BYTES)
    message->on_failure_job_id = id_text(arena, (const struct id *)(const void *)record->on_failure_job_id.data);
  message->created_at = timestamp_new(arena, record->created_ms);
  message->finished_at = timestamp_new(arena, record->finished_ms);
  if (with_result && record->state == CHAIN_SUCCEEDED) {
    struct entry *last = step(turn, chain, record->n_job_ids - 1);
    struct bytes result = last ? turn_result(turn, last) : (struct bytes){NULL, 0};
    if (result.length)
      message->result = millrace__v1__payload__unpack(arena_protobuf(arena), result.length, result.data);
  }
  return message;
}

/* A queue of its steps that the caller may not use; NULL: there is none. */
static const char *foreign_queue(struct turn *turn, const struct request *request, const struct chain *chain) {
  for (size_t i = 0; request->queues && i < chain->record->n_job_ids; i++) {
    const struct entry *entry = step(turn, chain, i);
    const char *queue = entry ? queue_by_number(turn->engine, entry->now.queue)->name : NULL;
    if (queue && !request_may_use(request, queue))
      return queue;
  }
  return NULL;
}

static struct chain *find(struct turn *turn, struct request *request, const char *text) {
  struct id id;
  struct chain *chain = id_parse(text, &id) ? chain_get(turn, &id) : NULL;
  if (!chain) {
    reply_failure(turn, request, STATUS_NOT_FOUND, "id", "there is no chain %s (it may have been removed after its retention)",
                  text);
    return NULL;
  }
  const char *foreign = foreign_queue(turn, request, chain);
  return !foreign || reply_unless_granted(turn, request, foreign) ? chain : NULL;
}

void create_chain_prepare(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateChainRequest *message = (const void *)request->message;
  for (size_t i = 0; i < message->n_steps; i++)
    create_want(turn, message->steps[i]);
}

static void request_hash(struct turn *turn, const Millrace__V1__CreateChainRequest *message, uint64_t out_hash[static 2]) {
  Millrace__V1__CreateChainRequest copy = *message;
  copy.steps = arena_alloc(turn->arena, (message->n_steps + 1) * sizeof *copy.steps);
  for (size_t i = 0; i < message->n_steps; i++)
    copy.steps[i] = spec_content(turn, message->steps[i]);
  copy.on_failure = spec_content(turn, message->on_failure);
  content_hash(turn, &copy.base, out_hash);
}

static enum status create_steps(struct turn *turn, const Millrace__V1__CreateChainRequest *message, const struct id *chain_id,
                                struct id *ids, struct error *error) {
  for (size_t i = 0; i < message->n_steps; i++)
    if (!message->steps[i]->id[0] || !id_parse(message->steps[i]->id, &ids[i]))
      ids[i] = id_derive(chain_id, "step", i);
  for (size_t i = 0; i < message->n_steps; i++) {
    struct origin origin = {.id = ids[i], .chain_id = *chain_id, .chain_index = (uint32_t)i, .blocked = i > 0};
    if (i + 1 < message->n_steps)
      origin.chain_next = ids[i + 1];
    if (i > 0)
      origin.previous_id = ids[i - 1];
    struct created created;
    enum status status = create_job(turn, message->steps[i], &origin, &created, error);
    if (status == STATUS_OK && created.existing) {
      char text[ID_TEXT_BYTES];
      id_format(&created.entry->id, text);
      status = error_set(error, STATUS_ALREADY_EXISTS, "id", "job %s exists already and can't become a step of this chain", text);
    }
    if (status != STATUS_OK) {
      error_prefix_field(error, "steps[%zu].", i);
      while (i-- > 0)
        turn_forget(turn, turn_job(turn, &ids[i]));
      return status;
    }
  }
  return STATUS_OK;
}

static enum status reserve_on_failure(struct turn *turn, const Millrace__V1__CreateChainRequest *message, struct error *error) {
  enum status status = create_reserve(turn, message->on_failure, error);
  if (status != STATUS_OK)
    error_prefix_field(error, "on_failure.");
  return status;
}

void create_chain_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CreateChainRequest *message = (const void *)request->message;
  struct id id;
  if (!message->id[0] || !id_parse(message->id, &id))
    id = id_make_v7(turn->now_ms, 0, engine_random(turn->engine));
  uint64_t hash[2];
  request_hash(turn, message, hash);
  struct chain *chain = chain_get(turn, &id);
  bool existing = chain != NULL;
  if (chain && (chain->record->content_hash_high != hash[0] || chain->record->content_hash_low != hash[1])) {
    struct error error;
    error_set(&error, STATUS_ALREADY_EXISTS, "id", "chain %s exists with other content; use a new id", message->id);
    error_reason(&error, "CHAIN_EXISTS", message->id);
    reply_error(turn, request, &error);
    return;
  }
  if (!chain) {
    struct id *ids = arena_alloc(turn->arena, message->n_steps * sizeof *ids);
    struct error error;
    if (reserve_on_failure(turn, message, &error) != STATUS_OK || create_steps(turn, message, &id, ids, &error) != STATUS_OK) {
      reply_error(turn, request, &error);
      return;
    }
    Millrace__Store__V1__ChainRecord *record =
        MESSAGE(turn->arena, Millrace__Store__V1__ChainRecord, millrace__store__v1__chain_record__descriptor);
    record->n_job_ids = message->n_steps;
    record->job_ids = arena_alloc(turn->arena, message->n_steps * sizeof *record->job_ids);
    for (size_t i = 0; i < message->n_steps; i++)
      record->job_ids[i] = (ProtobufCBinaryData){ID_BYTES, ids[i].bytes};
    record->state = CHAIN_RUNNING;
    struct bytes packed = spec_pack(turn, message->on_failure);
    record->on_failure = (ProtobufCBinaryData){packed.length, (uint8_t *)packed.data};
    record->created_ms = turn->now_ms;
    record->content_hash_high = hash[0];
    record->content_hash_low = hash[1];
    chain = chain_put(turn, &id, record, false);
    chain->dirty = true;
  }
  Millrace__V1__CreateChainResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CreateChainResponse, millrace__v1__create_chain_response__descriptor);
  response->chain = answer(turn, chain, true);
  response->existing = existing;
  reply(turn, request, response);
}

void get_chain_apply(struct turn *turn, struct request *request) {
  struct chain *chain = find(turn, request, ((const Millrace__V1__GetChainRequest *)(const void *)request->message)->id);
  if (!chain)
    return;
  Millrace__V1__GetChainResponse *response =
      MESSAGE(turn->arena, Millrace__V1__GetChainResponse, millrace__v1__get_chain_response__descriptor);
  response->chain = answer(turn, chain, true);
  reply(turn, request, response);
}

void chain_answer_wait(struct turn *turn, struct request *request, const struct id *id, bool timed_out) {
  struct chain *chain = chain_get(turn, id);
  Millrace__V1__WaitChainResponse *response =
      MESSAGE(turn->arena, Millrace__V1__WaitChainResponse, millrace__v1__wait_chain_response__descriptor);
  response->timed_out = timed_out;
  if (chain)
    response->chain = answer(turn, chain, true);
  reply(turn, request, response);
}

void wait_chain_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__WaitChainRequest *message = (const void *)request->message;
  struct chain *chain = find(turn, request, message->id);
  if (!chain)
    return;
  if (chain->record->state == CHAIN_RUNNING)
    wait_add(turn, WAIT_CHAIN, &chain->id, request, message->timeout ? time_from_duration(message->timeout) : WAIT_DEFAULT_MS);
  else
    chain_answer_wait(turn, request, &chain->id, false);
}

void list_chains_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListChainsRequest *message = (const void *)request->message;
  struct store_rows rows;
  if (!page_rows(turn, request, FAMILY_CHAINS, message->page_token, message->page_size, &rows))
    return;
  Millrace__V1__ListChainsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListChainsResponse, millrace__v1__list_chains_response__descriptor);
  response->chains = arena_alloc(turn->arena, (rows.count + 1) * sizeof *response->chains);
  size_t bytes = 0, used = 0;
  for (; used < rows.count && bytes < RESPONSE_BYTES_MAX / 2; used++) {
    struct id id;
    struct chain *chain = key_read_id(rows.rows[used].key, &id) ? chain_get(turn, &id) : NULL;
    if (!chain || foreign_queue(turn, request, chain))
      continue;
    response->chains[response->n_chains] = answer(turn, chain, false);
    bytes += millrace__v1__chain__get_packed_size(response->chains[response->n_chains++]);
  }
  response->next_page_token = page_next(turn, &rows, used, message->page_size);
  store_rows_release(&rows);
  reply(turn, request, response);
}

void cancel_chain_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CancelChainRequest *message = (const void *)request->message;
  struct chain *chain = find(turn, request, message->id);
  if (!chain)
    return;
  bool accepted = chain->record->state == CHAIN_RUNNING;
  struct job_error error = cancel_error(turn, message->reason);
  /* The step at work, and the one behind it: its end takes the rest with it, and the chain ends when the step at work does. */
  size_t at_work = chain->record->current;
  struct entry *behind = accepted && at_work + 1 < chain->record->n_job_ids ? step(turn, chain, at_work + 1) : NULL;
  if (behind)
    cancel_entry(turn, behind, message->terminate, &error);
  struct entry *working = accepted ? step(turn, chain, at_work) : NULL;
  if (working)
    cancel_entry(turn, working, message->terminate, &error);
  Millrace__V1__CancelChainResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CancelChainResponse, millrace__v1__cancel_chain_response__descriptor);
  response->chain = answer(turn, chain, true);
  response->accepted = accepted;
  reply(turn, request, response);
}
