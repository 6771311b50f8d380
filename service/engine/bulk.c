/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bulk.h"

#include <string.h>

#include "engine/jobs.h"
#include "engine/reader.h"
#include "engine/search.h"
#include "engine/turn.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"

enum {
  JOBS_PER_STEP = 250
}; /* looked at; and changed, but for what the last one brings with it, such as the rest of its chain */

struct bulk {
  struct slice_work slice; /* first member */
  struct request *request; /* NULL: nobody waits for the answer */
  struct filter *filter;
  struct search *search;
  GPtrArray *entries; /* of one step */
  /* Does it to one job, and counts. */
  void (*act)(struct turn *turn, struct bulk *bulk, struct entry *entry);
  void (*answer)(struct turn *turn, struct bulk *bulk);
  uint64_t most;
  uint64_t done;
  uint64_t refused;
  bool more;
  bool terminate;
  char *reason;
  uint64_t sequence_max;  /* purge and retry: what became ready later stays */
  int64_t created_max_ms; /* cancel: what was created later stays */
  uint64_t pass_done;     /* purge and cancel: `done` when this walk began */
};

/* ---- the walk ---- */

static void bulk_free(struct slice_work *work) {
  struct bulk *bulk = (struct bulk *)work;
  if (bulk->request && !bulk->request->finished)
    reader_refuse(bulk->request);
  search_free(bulk->search);
  filter_free(bulk->filter);
  g_ptr_array_free(bulk->entries, TRUE);
  g_free(bulk->reason);
  g_free(bulk);
}

void bulk_abandon(struct engine *engine) {
  GList *link = engine->slices->head;
  while (link) {
    GList *next = link->next;
    struct slice_work *work = link->data;
    if (work->free == bulk_free && ((struct bulk *)work)->request) {
      g_queue_delete_link(engine->slices, link);
      bulk_free(work);
    }
    link = next;
  }
}

static bool bulk_end(struct turn *turn, struct bulk *bulk) {
  if (bulk->answer && !turn->engine->failed)
    bulk->answer(turn, bulk);
  return false;
}

static bool bulk_step(struct turn *turn, struct slice_work *work) {
  struct bulk *bulk = (struct bulk *)work;
  if (!search_entries(turn, bulk->search, JOBS_PER_STEP, bulk->entries))
    return bulk_end(turn, bulk);
  const unsigned cost_max = turn->cost + JOBS_PER_STEP;
  for (guint i = 0; i < bulk->entries->len && !bulk->more; i++) {
    if (turn->cost >= cost_max) {
      search_give_back(bulk->search, i);
      break;
    }
    bulk->act(turn, bulk, g_ptr_array_index(bulk->entries, i));
  }
  return bulk->more ? bulk_end(turn, bulk) : true;
}

/* While it goes on, jobs change their places, maybe behind the walk's back: it walks until it meets none. */
static bool bulk_step_until_none(struct turn *turn, struct slice_work *work) {
  struct bulk *bulk = (struct bulk *)work;
  if (search_is_done(bulk->search) && bulk->done > bulk->pass_done) {
    bulk->pass_done = bulk->done;
    search_restart(bulk->search);
  }
  return bulk_step(turn, work);
}

/* True: there is room to do one more; otherwise remembers that there are others. */
static bool has_room(struct bulk *bulk) {
  bulk->more = bulk->done == bulk->most;
  return !bulk->more;
}

static struct bulk *bulk_new(struct engine *engine, struct request *request, const Millrace__V1__JobFilter *message,
                             unsigned states, struct error *error) {
  if (request && g_queue_get_length(engine->slices) >= BULK_ORDERS_MAX) {
    error_set(error, STATUS_RESOURCE_EXHAUSTED, NULL, "%d orders for many jobs are at work, the most that can; ask again soon",
              BULK_ORDERS_MAX);
    error->retry_after_ms = SECOND_MS;
    return NULL;
  }
  struct filter *filter = filter_new(engine, message, error);
  if (!filter)
    return NULL;
  filter_restrict(filter, states);
  struct bulk *bulk = g_new0(struct bulk, 1);
  bulk->slice = (struct slice_work){.step = bulk_step, .free = bulk_free};
  bulk->request = request;
  bulk->filter = filter;
  bulk->search = search_new(filter);
  bulk->entries = g_ptr_array_new();
  bulk->most = UINT64_MAX;
  bulk->created_max_ms = INT64_MAX;
  return bulk;
}

/* ---- cancel ---- */

static void cancel(struct turn *turn, struct bulk *bulk, struct entry *entry) {
  const struct job *job = &entry->now;
  const bool asked = job->state == JOB_RUNNING && job->cancel_requested && (job->terminate_requested || !bulk->terminate);
  if (asked || job->created_ms > bulk->created_max_ms || !has_room(bulk))
    return;
  const struct job_error error = cancel_error(turn, bulk->reason);
  bulk->done += cancel_entry(turn, entry, bulk->terminate, &error);
}

static void answer_cancel(struct turn *turn, struct bulk *bulk) {
  Millrace__V1__CancelJobsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__CancelJobsResponse, millrace__v1__cancel_jobs_response__descriptor);
  response->cancelled = (uint32_t)bulk->done;
  response->more = bulk->more;
  reply(turn, bulk->request, response);
}

static void add_cancel(struct engine *engine, struct bulk *bulk, bool terminate, const char *reason) {
  bulk->slice.step = bulk_step_until_none;
  bulk->act = cancel;
  bulk->terminate = terminate;
  bulk->reason = g_strdup(reason);
  engine_add_slice(engine, &bulk->slice);
}

enum { STATES_NOT_ENDED = FILTER_STATES_ALL & ~FILTER_STATES_ENDED };

void cancel_jobs_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__CancelJobsRequest *message = (const void *)request->message;
  struct error error;
  struct bulk *bulk = bulk_new(turn->engine, request, message->filter, STATES_NOT_ENDED, &error);
  if (!bulk) {
    reply_error(turn, request, &error);
    return;
  }
  bulk->answer = answer_cancel;
  bulk->most = BULK_JOBS_MAX;
  bulk->created_max_ms = engine_divide_created(turn);
  add_cancel(turn->engine, bulk, message->terminate, message->reason);
}

void cancel_members(struct engine *engine, const struct id *batch, bool terminate, const char *reason) {
  char text[ID_TEXT_BYTES];
  id_format(batch, text);
  Millrace__V1__JobFilter message = MILLRACE__V1__JOB_FILTER__INIT;
  message.batch_id = text;
  struct error error;
  struct bulk *bulk = bulk_new(engine, NULL, &message, STATES_NOT_ENDED, &error);
  g_assert(bulk); /* nothing in this filter can be refused */
  add_cancel(engine, bulk, terminate, reason);
}

/* ---- retry ---- */

/* Each job once: one that fails again while the order is at work comes before the walk anew. */
static void retry(struct turn *turn, struct bulk *bulk, struct entry *entry) {
  struct error error;
  if (entry->now.sequence > bulk->sequence_max || !has_room(bulk))
    return;
  if (retry_entry(turn, entry, &error) == STATUS_OK)
    bulk->done++;
  else
    bulk->refused++;
}

static void answer_retry(struct turn *turn, struct bulk *bulk) {
  Millrace__V1__RetryJobsResponse *response =
      MESSAGE(turn->arena, Millrace__V1__RetryJobsResponse, millrace__v1__retry_jobs_response__descriptor);
  response->retried = (uint32_t)bulk->done;
  response->refused = (uint32_t)MIN(bulk->refused, UINT32_MAX);
  response->more = bulk->more;
  reply(turn, bulk->request, response);
}

void retry_jobs_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__RetryJobsRequest *message = (const void *)request->message;
  struct error error;
  for (size_t i = 0; i < message->filter->n_states; i++) {
    enum job_state state = (enum job_state)message->filter->states[i];
    if (state != JOB_FAILED && state != JOB_CANCELLED && state != JOB_EXPIRED) {
      char field[32];
      g_snprintf(field, sizeof field, "filter.states[%zu]", i);
      reply_failure(turn, request, STATUS_INVALID_ARGUMENT, field, "only FAILED, CANCELLED and EXPIRED jobs can be retried");
      return;
    }
  }
  const unsigned states = message->filter->n_states ? FILTER_STATES_RETRYABLE : 1 << JOB_FAILED;
  struct bulk *bulk = bulk_new(turn->engine, request, message->filter, states, &error);
  if (!bulk) {
    reply_error(turn, request, &error);
    return;
  }
  bulk->sequence_max = turn->engine->sequence;
  bulk->act = retry;
  bulk->answer = answer_retry;
  bulk->most = BULK_JOBS_MAX;
  engine_add_slice(turn->engine, &bulk->slice);
}

/* ---- purge ---- */

static void purge(struct turn *turn, struct bulk *bulk, struct entry *entry) {
  static const struct job_error error = {"PURGED", "the queue was purged", "", ""};
  if (entry->now.sequence <= bulk->sequence_max)
    bulk->done += cancel_entry(turn, entry, false, &error);
}

static void answer_purge(struct turn *turn, struct bulk *bulk) {
  Millrace__V1__PurgeQueueResponse *response =
      MESSAGE(turn->arena, Millrace__V1__PurgeQueueResponse, millrace__v1__purge_queue_response__descriptor);
  response->purged = bulk->done;
  reply(turn, bulk->request, response);
}

void purge_queue_apply(struct turn *turn, struct request *request) {
  const Millrace__V1__PurgeQueueRequest *message = (const void *)request->message;
  char *queues[] = {message->name};
  Millrace__V1__JobFilter filter = MILLRACE__V1__JOB_FILTER__INIT;
  filter.n_queues = 1;
  filter.queues = queues;
  struct error error;
  struct bulk *bulk = bulk_new(turn->engine, request, &filter, 1 << JOB_PENDING, &error);
  if (!bulk) {
    reply_error(turn, request, &error);
    return;
  }
  bulk->slice.step = bulk_step_until_none;
  bulk->act = purge;
  bulk->answer = answer_purge;
  bulk->sequence_max = turn->engine->sequence;
  search_limit_sequence(bulk->search, bulk->sequence_max);
  engine_add_slice(turn->engine, &bulk->slice);
}
