/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lists.h"

#include <string.h>

#include "engine/answer.h"
#include "engine/page.h"
#include "engine/reader.h"
#include "engine/search.h"
#include "engine/turn.h"
#include "millrace/v1/job_service.pb-c.h"

enum {
  CANDIDATES_MIN = 16,
  CANDIDATES_MAX = 256,
  READ_BYTES_MAX = 64 << 20, /* of records, for one page */
  JOB_FIXED_BYTES = 640,     /* more than the parts of a Job that are not text take */
  TOKEN_HASH_BYTES = 8,
};

/* A job of the page. */
struct item {
  struct job job;
  struct spec spec;
  struct bytes result;
};

struct list {
  struct reader_work work;
  struct request *request;
  struct filter *filter;
  struct search *search;
  struct arena *arena;   /* what the items point to */
  struct arena *scratch; /* for some candidates at a time */
  GArray *items;
  size_t size; /* jobs at most */
  bool full;   /* view */
  bool closed; /* no further job fits */
  size_t bytes;
  size_t bytes_read;
  enum status status;
  struct error error;
};

static void list_free(struct list *list) {
  search_free(list->search);
  filter_free(list->filter);
  g_array_free(list->items, TRUE);
  arena_free(list->scratch);
  arena_free(list->arena);
  g_free(list);
}

/* ---- on the reader's thread ---- */

static enum status get(struct list *list, struct store *store, struct store_view *view, struct store_get *gets, size_t count) {
  const enum status status = store_get_many(store, view, gets, count, &list->error);
  for (size_t i = 0; status == STATUS_OK && i < count; i++)
    list->bytes_read += gets[i].value.length;
  return status;
}

/* The records of the candidates, as stored; state 0: not there. */
static enum status load(struct list *list, struct store *store, struct store_view *view, const struct candidate *candidates,
                        size_t count, struct job *jobs) {
  struct store_get *gets = arena_zalloc(list->scratch, count * sizeof *gets);
  for (size_t i = 0; i < count; i++)
    gets[i] = (struct store_get){.family = FAMILY_JOBS, .key = {candidates[i].id.bytes, ID_BYTES}};
  enum status status = get(list, store, view, gets, count);
  if (status != STATUS_OK)
    return status;
  for (size_t i = 0; i < count && status == STATUS_OK; i++) {
    jobs[i] = job_empty;
    if (gets[i].value.data)
      status = record_unpack_job(&candidates[i].id, gets[i].value, list->scratch, &jobs[i], &list->error);
  }
  store_gets_release(gets, count);
  return status;
}

/* RUNNING is a lease beside a PENDING record that has no ready key. */
static enum status find_running(struct list *list, struct store *store, struct store_view *view,
                                const struct candidate *candidates, size_t count, struct job *jobs) {
  struct store_get *gets = arena_zalloc(list->scratch, count * sizeof *gets);
  struct key *keys = arena_alloc(list->scratch, count * sizeof *keys);
  struct job **asked = arena_alloc(list->scratch, count * sizeof *asked);
  size_t asked_count = 0;
  for (size_t i = 0; i < count; i++) {
    if (jobs[i].state != JOB_PENDING)
      continue;
    if (candidates[i].delivery)
      jobs[i].state = JOB_RUNNING;
    if (!candidates[i].anywhere)
      continue;
    key_ready(&keys[asked_count], jobs[i].queue, jobs[i].task, jobs[i].sequence);
    gets[asked_count] = (struct store_get){.family = family_ready(jobs[i].priority), .key = key_slice(&keys[asked_count])};
    asked[asked_count++] = &jobs[i];
  }
  if (asked_count == 0)
    return STATUS_OK;
  const enum status status = get(list, store, view, gets, asked_count);
  if (status != STATUS_OK)
    return status;
  for (size_t i = 0; i < asked_count; i++)
    if (!gets[i].value.data)
      asked[i]->state = JOB_RUNNING;
  store_gets_release(gets, asked_count);
  return STATUS_OK;
}

/* More than the job will take in the response, its payload and result apart. */
static size_t answer_bytes(const struct job *job) {
  const struct job_error *error = &job->error;
  size_t bytes = JOB_FIXED_BYTES + 2 * NAME_BYTES_MAX + strlen(job->schedule_name) + strlen(job->unique_key) +
                 strlen(job->concurrency_key) + strlen(job->result_omitted_reason) + strlen(error->type) +
                 strlen(error->message) + strlen(error->trace) + PROGRESS_MESSAGE_BYTES_MAX;
  for (size_t i = 0; i < job->label_count; i++)
    bytes += strlen(job->labels[i].key) + strlen(job->labels[i].value) + 16;
  for (size_t i = 0; i < job->history_count; i++) {
    const struct job_error *past = &job->history[i].error;
    bytes += strlen(past->type) + strlen(past->message) + strlen(past->trace) + 160;
  }
  return bytes;
}

/* The spec without what the view leaves out, and the result if it is asked for. */
static enum status load_bodies(struct list *list, struct store *store, struct store_view *view, const struct job *job,
                               struct spec *out_spec, struct bytes *out_result) {
  const struct slice id = {job->id.bytes, ID_BYTES};
  struct store_get gets[] = {{.family = FAMILY_SPECS, .key = id}, {.family = FAMILY_RESULTS, .key = id}};
  const size_t count = list->full && job->result_apart ? 2 : 1;
  enum status status = get(list, store, view, gets, count);
  if (status != STATUS_OK)
    return status;
  if (gets[0].value.data)
    status = record_unpack_spec(&job->id, gets[0].value, list->scratch, out_spec, &list->error);
  if (status == STATUS_OK && count == 2 && gets[1].value.data) {
    ProtobufCMessage *message;
    status = record_unpack(&millrace__store__v1__result_record__descriptor, gets[1].value, list->scratch, &message, &list->error);
    if (status == STATUS_OK) {
      const Millrace__Store__V1__ResultRecord *record = (const void *)message;
      *out_result = (struct bytes){record->payload.data, record->payload.len};
    }
  }
  store_gets_release(gets, count);
  if (!list->full)
    out_spec->payload = (struct bytes){NULL, 0};
  out_spec->previous_result = (struct bytes){NULL, 0};
  return status;
}

/* Puts a copy of a match on the page, or closes it. */
static enum status add(struct list *list, struct store *store, struct store_view *view, const struct job *job) {
  struct job kept = *job;
  struct spec spec = {.traceparent = "", .tracestate = ""};
  struct bytes result = {NULL, 0};
  enum status status = load_bodies(list, store, view, job, &spec, &result);
  if (status != STATUS_OK)
    return status;
  if (list->full && !kept.result_apart)
    result = kept.result;
  kept.result = (struct bytes){NULL, 0};
  if (!list->full)
    kept.history_count = 0;
  const size_t bytes = answer_bytes(&kept) + spec.payload.length + result.length;
  if (list->items->len && list->bytes + bytes > RESPONSE_BYTES_MAX) {
    list->closed = true;
    return STATUS_OK;
  }
  struct item item = {.result = {arena_memdup(list->arena, result.data, result.length), result.length}};
  if ((status = record_unpack_job(&job->id, record_pack_job(&kept, list->scratch), list->arena, &item.job, &list->error)) ||
      (status = record_unpack_spec(&job->id, record_pack_spec(&spec, list->scratch), list->arena, &item.spec, &list->error)))
    return status;
  item.job.state = job->state;
  g_array_append_val(list->items, item);
  list->bytes += bytes;
  return STATUS_OK;
}

/* The matches among the next candidates. */
static enum status read_some(struct list *list, struct store *store, struct store_view *view) {
  const struct candidate *candidates;
  size_t count;
  const size_t most = CLAMP(list->size - list->items->len, CANDIDATES_MIN, CANDIDATES_MAX);
  arena_reset(list->scratch);
  enum status status = search_next(list->search, store, view, most, &candidates, &count, &list->error);
  if (status != STATUS_OK || count == 0)
    return status;
  struct job *jobs = arena_alloc(list->scratch, count * sizeof *jobs);
  if ((status = load(list, store, view, candidates, count, jobs)) ||
      (status = find_running(list, store, view, candidates, count, jobs)))
    return status;
  for (size_t i = 0; i < count && status == STATUS_OK; i++) {
    list->closed = list->closed || list->items->len == list->size;
    if (!list->closed && jobs[i].state && search_agrees(list->search, &candidates[i], &jobs[i]) &&
        filter_matches(list->filter, &jobs[i]))
      status = add(list, store, view, &jobs[i]);
    if (list->closed) {
      search_go_back(list->search, &candidates[i]);
      break;
    }
  }
  return status;
}

static void list_read(struct reader_work *work, struct store *store, struct store_view *view) {
  struct list *list = (struct list *)work;
  while (list->status == STATUS_OK && !list->closed && list->items->len < list->size && !search_is_done(list->search) &&
         search_rows(list->search) < FILTER_ROWS_MAX && list->bytes_read < READ_BYTES_MAX)
    list->status = read_some(list, store, view);
}

/* ---- on the engine's thread ---- */

/* The filter's hash, then the search's position. */
static char *token_of(struct arena *arena, const struct list *list) {
  if (search_is_done(list->search))
    return (char *)protobuf_c_empty_string;
  const uint64_t hash = filter_hash(list->filter);
  struct key position;
  search_position(list->search, &position);
  uint8_t *bytes = arena_alloc(arena, TOKEN_HASH_BYTES + position.length);
  memcpy(bytes, &hash, TOKEN_HASH_BYTES);
  memcpy(bytes + TOKEN_HASH_BYTES, position.bytes, position.length);
  return page_token(arena, (struct slice){bytes, TOKEN_HASH_BYTES + position.length});
}

static enum status seek(struct list *list, const char *token, struct error *error) {
  struct key bytes;
  if (!*token)
    return STATUS_OK;
  if (!page_start(token, &bytes, error))
    return error->status;
  const uint64_t hash = filter_hash(list->filter);
  const size_t length = bytes.length - 1; /* page_start makes it the key after */
  if (length > TOKEN_HASH_BYTES && memcmp(bytes.bytes, &hash, TOKEN_HASH_BYTES) == 0 &&
      search_seek(list->search, (struct slice){bytes.bytes + TOKEN_HASH_BYTES, length - TOKEN_HASH_BYTES}))
    return STATUS_OK;
  return error_set(error, STATUS_INVALID_ARGUMENT, "page_token", "the page token belongs to another filter; start without one");
}

static void answer(struct turn *turn, struct list *list) {
  if (list->status != STATUS_OK) {
    engine_fail(turn->engine, &list->error);
    reply_error(turn, list->request, &list->error);
    return;
  }
  Millrace__V1__ListJobsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__ListJobsResponse, millrace__v1__list_jobs_response__descriptor);
  response->n_jobs = list->items->len;
  response->jobs = arena_alloc(turn->arena, list->items->len * sizeof *response->jobs);
  for (guint i = 0; i < list->items->len; i++) {
    const struct item *item = &g_array_index(list->items, struct item, i);
    response->jobs[i] = answer_record(turn, &item->job, &item->spec, &item->result, list->full);
  }
  response->next_page_token = token_of(turn->arena, list);
  reply(turn, list->request, response);
  /* The answer borrows from it. */
  release_call(turn->release, (void (*)(void *))arena_free, list->arena);
  list->arena = NULL;
}

static void list_done(struct turn *turn, struct engine_task *task) {
  struct list *list = (struct list *)task;
  if (!turn)
    reader_refuse(list->request);
  else if (list->work.stopped)
    reply_failure(turn, list->request, STATUS_UNAVAILABLE, NULL, "the server is stopping; ask again");
  else
    answer(turn, list);
  list_free(list);
}

void list_jobs_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__ListJobsRequest *message = (const void *)request->message;
  struct error error;
  struct filter *filter = filter_new(turn->engine, message->filter, &error);
  if (!filter) {
    reply_error(turn, request, &error);
    return;
  }
  struct list *list = g_new0(struct list, 1);
  list->work.task.run = list_done;
  list->work.read = list_read;
  list->request = request;
  list->filter = filter;
  list->search = search_new(filter);
  list->arena = arena_new(0);
  list->scratch = arena_new(0);
  list->items = g_array_new(FALSE, FALSE, sizeof(struct item));
  list->size = page_size(message->page_size);
  list->full = message->view == MILLRACE__V1__VIEW__VIEW_FULL;
  if (seek(list, message->page_token, &error) != STATUS_OK) {
    reply_error(turn, request, &error);
    list_free(list);
  } else if (!reader_post(turn->engine->reader, &list->work)) {
    reply_failure(turn, request, STATUS_RESOURCE_EXHAUSTED, NULL,
                  "%d lists wait to be read already, the most that can; ask again soon", READER_QUEUE_MAX);
    list_free(list);
  }
}
