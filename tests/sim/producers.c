/* SPDX-License-Identifier: Apache-2.0 */
/* producers.c: creates of every kind, some of them sent again, and what they must be answered. */
#include <string.h>

#include "orders.h"

enum { REPEAT_MS = 120000, NAMES = 4 };

/* ---- creates ---- */

static void created(struct sim *sim, void *data, const struct error *error, const void *response) {
  const struct about *self = data;
  const Millrace__V1__CreateJobResponse *answer = response;
  orders_expect(sim, error, STATUS_ALREADY_EXISTS, STATUS_RESOURCE_EXHAUSTED);
  if (error) {
    const struct job *job = model_job_named(sim, self->plan->id);
    if (self->is_again && job && job->plan == self->plan)
      sim_fail(sim, "the create of job %s, which is there, was refused when sent again: %s", self->plan->id, error->message);
    return;
  }
  if (!answer->existing || strcmp(answer->job->id, self->plan->id) == 0)
    model_acknowledge(sim, answer->job->id, self->plan);
}

static void call_create(struct sim *sim, struct plan *plan, bool repeated) {
  Millrace__V1__CreateJobRequest *message = NEW(sim, Millrace__V1__CreateJobRequest, create_job_request);
  message->job = plan_spec(sim, plan);
  sim->tally[TALLY_CREATES]++;
  sim_trace(sim, "create plan %u%s", plan->number, repeated ? " again" : "");
  machine_call(sim, "JobService/CreateJob", &message->base, created,
               about_new((struct about){.plan = plan, .is_again = repeated}));
}

void producer_create(struct sim *sim) {
  call_create(sim, plan_new(sim, PLAN_ALONE, NULL), false);
}

void producer_create_again(struct sim *sim) {
  for (guint i = sim->plans->len; i-- > 0 && i + 20 > sim->plans->len;) {
    struct plan *plan = g_ptr_array_index(sim->plans, i);
    const struct job *job = plan->kind == PLAN_ALONE && plan->packed ? model_job_named(sim, plan->id) : NULL;
    if (job && job->plan == plan && plan_spec(sim, plan)->id[0] && sim->monotonic_ms - plan->planned_ms < REPEAT_MS) {
      call_create(sim, plan, true);
      return;
    }
  }
}

static void replace(struct sim *sim, const struct id *id) {
  struct plan *plan = plan_new(sim, PLAN_ALONE, NULL);
  plan_set_id(sim, plan, id);
  call_create(sim, plan, false);
}

void producer_create_in_place(struct sim *sim) {
  GHashTableIter iter;
  gpointer id, number;
  guint skip = sim_roll(sim, g_hash_table_size(sim->model->gone));
  g_hash_table_iter_init(&iter, sim->model->gone);
  for (guint i = 0; g_hash_table_iter_next(&iter, &id, &number); i++) {
    const struct plan *plan = g_ptr_array_index(sim->plans, GPOINTER_TO_UINT(number));
    if (i < skip || plan->kind != PLAN_ALONE)
      continue;
    replace(sim, id);
    return;
  }
}

static void chain_refused(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)data, (void)response;
  orders_expect(sim, error, STATUS_ALREADY_EXISTS, STATUS_RESOURCE_EXHAUSTED);
  if (!error)
    sim_fail(sim, "a chain was created with a step that is there already");
}

void producer_replace(struct sim *sim, const struct id *id) {
  const struct job *other = model_any(sim, RUNNING);
  if (!other || sim_once_in(sim, 2)) {
    replace(sim, id);
    return;
  }
  struct group *group = group_new(sim, GROUP_CHAIN);
  group->is_gone = true;
  struct plan *first = plan_new(sim, PLAN_STEP, group), *second = plan_new(sim, PLAN_STEP, group);
  plan_set_id(sim, first, id);
  plan_set_id(sim, second, &other->id);
  Millrace__V1__CreateChainRequest *message = NEW(sim, Millrace__V1__CreateChainRequest, create_chain_request);
  message->id = sim_id_text(sim, &group->id);
  Millrace__V1__JobSpec *steps[] = {plan_spec(sim, first), plan_spec(sim, second)};
  message->n_steps = 2;
  message->steps = steps;
  sim_trace(sim, "create chain %s, whose second step is there", message->id + SHORT);
  machine_call(sim, "ChainService/CreateChain", &message->base, chain_refused, NULL);
}

/* The first plans belong to the outcomes in order. */
static void take_outcomes(struct sim *sim, struct plan *const *plans, Millrace__V1__CreateOutcome *const *outcomes,
                          size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!outcomes[i]->error && !outcomes[i]->existing)
      model_acknowledge(sim, outcomes[i]->id, plans[i]);
}

static void bulk_created(struct sim *sim, void *data, const struct error *error, const void *response) {
  const struct about *self = data;
  const Millrace__V1__CreateJobsResponse *answer = response;
  orders_expect(sim, error, STATUS_OK, STATUS_OK);
  if (!error)
    take_outcomes(sim, (struct plan *const *)&g_ptr_array_index(sim->plans, self->plan->number), answer->outcomes,
                  answer->n_outcomes);
}

void producer_create_many(struct sim *sim) {
  Millrace__V1__CreateJobsRequest *message = NEW(sim, Millrace__V1__CreateJobsRequest, create_jobs_request);
  size_t count = 2 + sim_roll(sim, 12);
  const guint first = sim->plans->len;
  message->jobs = arena_alloc(sim->arena, count * sizeof *message->jobs);
  for (; message->n_jobs < count; message->n_jobs++) {
    message->jobs[message->n_jobs] = plan_spec(sim, plan_new(sim, PLAN_ALONE, NULL));
  }
  sim->tally[TALLY_CREATES] += count;
  sim_trace(sim, "create %zu from plan %u on", count, first);
  machine_call(sim, "JobService/CreateJobs", &message->base, bulk_created,
               about_new((struct about){.plan = g_ptr_array_index(sim->plans, first)}));
}

static void chain_created(struct sim *sim, void *data, const struct error *error, const void *response) {
  struct group *group = ((struct about *)data)->group;
  const Millrace__V1__CreateChainResponse *answer = response;
  orders_expect(sim, error, STATUS_RESOURCE_EXHAUSTED, STATUS_RESOURCE_EXHAUSTED);
  group->is_acknowledged = !error;
  group->is_gone = error != NULL;
  for (size_t i = 0; !error && i < answer->chain->n_job_ids; i++)
    model_acknowledge(sim, answer->chain->job_ids[i], g_ptr_array_index(group->members, i));
}

void producer_create_chain(struct sim *sim) {
  struct group *group = group_new(sim, GROUP_CHAIN);
  Millrace__V1__CreateChainRequest *message = NEW(sim, Millrace__V1__CreateChainRequest, create_chain_request);
  message->id = sim_id_text(sim, &group->id);
  size_t count = 1 + sim_roll(sim, 4);
  message->steps = arena_alloc(sim->arena, count * sizeof *message->steps);
  for (; message->n_steps < count; message->n_steps++) {
    struct plan *plan = plan_new(sim, PLAN_STEP, group);
    plan->index = (unsigned)message->n_steps;
    g_ptr_array_add(group->members, plan);
    message->steps[message->n_steps] = plan_spec(sim, plan);
    message->steps[message->n_steps]->wants_previous_result = plan->index > 0;
  }
  if (sim_once_in(sim, 2)) {
    group->callback = plan_new(sim, PLAN_CALLBACK, group);
    message->on_failure = plan_spec(sim, group->callback);
  }
  sim_trace(sim, "create chain %s of %zu", message->id + SHORT, count);
  machine_call(sim, "ChainService/CreateChain", &message->base, chain_created, about_new((struct about){.group = group}));
}

/* ---- batches ---- */

static Millrace__V1__JobSpec **items_of(struct sim *sim, struct group *group, size_t count) {
  Millrace__V1__JobSpec **items = arena_alloc(sim->arena, (count + 1) * sizeof *items);
  for (size_t i = 0; i < count; i++) {
    struct plan *plan = plan_new(sim, PLAN_MEMBER, group);
    g_ptr_array_add(group->members, plan);
    items[i] = plan_spec(sim, plan);
  }
  return items;
}

static void batch_created(struct sim *sim, void *data, const struct error *error, const void *response) {
  struct group *group = ((struct about *)data)->group;
  const Millrace__V1__CreateBatchResponse *answer = response;
  orders_expect(sim, error, STATUS_RESOURCE_EXHAUSTED, STATUS_RESOURCE_EXHAUSTED);
  group->is_acknowledged = !error;
  group->is_gone = error != NULL;
  if (error)
    return;
  group->chunks = answer->batch->last_chunk;
  take_outcomes(sim, (struct plan *const *)group->members->pdata, answer->outcomes, answer->n_outcomes);
}

void producer_create_batch(struct sim *sim) {
  struct group *group = group_new(sim, GROUP_BATCH);
  Millrace__V1__CreateBatchRequest *message = NEW(sim, Millrace__V1__CreateBatchRequest, create_batch_request);
  message->id = sim_id_text(sim, &group->id);
  message->n_items = sim_roll(sim, 6);
  message->items = items_of(sim, group, message->n_items);
  message->seal = sim_once_in(sim, 2);
  if (!sim_once_in(sim, 3)) {
    group->callback = plan_new(sim, PLAN_CALLBACK, group);
    message->on_complete = plan_spec(sim, group->callback);
  }
  sim_trace(sim, "create batch %s of %zu", message->id + SHORT, message->n_items);
  machine_call(sim, "BatchService/CreateBatch", &message->base, batch_created, about_new((struct about){.group = group}));
}

struct group *producer_group(struct sim *sim, enum group_kind kind) {
  for (guint i = sim->groups->len; i-- > 0 && i + 30 > sim->groups->len;) {
    struct group *group = g_ptr_array_index(sim->groups, i);
    if (group->kind == kind && group->is_acknowledged && !group->is_gone && sim_once_in(sim, 2))
      return group;
  }
  return NULL;
}

static void chunk_answered(struct sim *sim, void *data, const struct error *error, const void *response) {
  const struct about *self = data;
  struct group *group = self->group;
  const Millrace__V1__AddBatchItemsResponse *answer = response;
  if (error && error->status == STATUS_NOT_FOUND)
    return; /* after its retention */
  orders_expect(sim, error, STATUS_FAILED_PRECONDITION, STATUS_RESOURCE_EXHAUSTED);
  if (error)
    return;
  if (answer->repeated_chunk ? !self->is_again : self->chunk <= group->chunks)
    sim_fail(sim, "chunk %u of batch %s was %staken as a repeat; %u were acknowledged", self->chunk, sim_id_text(sim, &group->id),
             answer->repeated_chunk ? "" : "not ", group->chunks);
  group->chunks = MAX(group->chunks, self->chunk);
  group->is_chunk_open = false;
}

/* A new chunk, or the last one again. */
void producer_add_chunk(struct sim *sim) {
  struct group *group = producer_group(sim, GROUP_BATCH);
  if (!group)
    return;
  Millrace__V1__AddBatchItemsRequest *message = NEW(sim, Millrace__V1__AddBatchItemsRequest, add_batch_items_request);
  size_t length;
  bool is_again = group->last_chunk && (group->is_chunk_open || sim_once_in(sim, 2));
  if (is_again) {
    const uint8_t *packed = g_bytes_get_data(group->last_chunk, &length);
    message = millrace__v1__add_batch_items_request__unpack(arena_protobuf(sim->arena), length, packed);
  } else {
    message->batch_id = sim_id_text(sim, &group->id);
    message->chunk = group->chunks + 1;
    message->n_items = 1 + sim_roll(sim, 5);
    message->items = items_of(sim, group, message->n_items);
    message->last = sim_once_in(sim, 3);
    length = millrace__v1__add_batch_items_request__get_packed_size(message);
    uint8_t *packed = g_malloc(length);
    millrace__v1__add_batch_items_request__pack(message, packed);
    g_bytes_unref(group->last_chunk);
    group->last_chunk = g_bytes_new_take(packed, length);
    group->is_chunk_open = true;
  }
  sim_trace(sim, "chunk %u of batch %s", message->chunk, message->batch_id + SHORT);
  machine_call(sim, "BatchService/AddBatchItems", &message->base, chunk_answered,
               about_new((struct about){.group = group, .chunk = message->chunk, .is_again = is_again}));
}

static void seal(struct sim *sim, const struct group *group) {
  Millrace__V1__SealBatchRequest *message = NEW(sim, Millrace__V1__SealBatchRequest, seal_batch_request);
  message->id = sim_id_text(sim, &group->id);
  machine_call(sim, "BatchService/SealBatch", &message->base, NULL, NULL);
}

void producer_seal_one(struct sim *sim) {
  const struct group *group = producer_group(sim, GROUP_BATCH);
  if (group)
    seal(sim, group);
}

/* ---- schedules ---- */

void producer_create_schedule(struct sim *sim) {
  const struct plan *plan = plan_new(sim, PLAN_SCHEDULED, NULL);
  Millrace__V1__ScheduleSpec *spec = NEW(sim, Millrace__V1__ScheduleSpec, schedule_spec);
  spec->name = sim_text(sim, "schedule%u", sim_roll(sim, NAMES));
  spec->description = sim_text(sim, "%u", plan->number);
  spec->job = plan_spec(sim, plan);
  spec->overlap = (Millrace__V1__ScheduleOverlap)sim_roll(sim, 4);
  spec->timing = NEW(sim, Millrace__V1__ScheduleTiming, schedule_timing);
  if (sim_once_in(sim, 3)) {
    static char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York"};
    spec->timing->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON;
    spec->timing->cron = sim_once_in(sim, 2) ? "*/2 * * * *" : "30 2 * * *";
    spec->timing->time_zone = zones[sim_roll(sim, G_N_ELEMENTS(zones))];
  } else {
    spec->timing->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL;
    spec->timing->interval = sim_duration(sim, 10000 + sim_roll(sim, 600000));
  }
  if (sim_once_in(sim, 3))
    spec->catch_up_window = sim_duration(sim, sim_roll(sim, 120000));
  Millrace__V1__CreateScheduleRequest *message = NEW(sim, Millrace__V1__CreateScheduleRequest, create_schedule_request);
  message->schedule = spec;
  sim_trace(sim, "create %s of plan %u", spec->name, plan->number);
  machine_call(sim, "ScheduleService/CreateSchedule", &message->base, NULL, NULL);
}

static void delete_schedule(struct sim *sim, unsigned number) {
  Millrace__V1__DeleteScheduleRequest *message = NEW(sim, Millrace__V1__DeleteScheduleRequest, delete_schedule_request);
  message->name = sim_text(sim, "schedule%u", number);
  machine_call(sim, "ScheduleService/DeleteSchedule", &message->base, NULL, NULL);
}

void producer_change_schedule(struct sim *sim) {
  unsigned number = sim_roll(sim, NAMES), roll = sim_roll(sim, 4);
  if (roll == 0) {
    delete_schedule(sim, number);
  } else if (roll == 1) {
    Millrace__V1__PauseScheduleRequest *message = NEW(sim, Millrace__V1__PauseScheduleRequest, pause_schedule_request);
    message->name = sim_text(sim, "schedule%u", number);
    machine_call(sim, "ScheduleService/PauseSchedule", &message->base, NULL, NULL);
  } else {
    Millrace__V1__ResumeScheduleRequest *message = NEW(sim, Millrace__V1__ResumeScheduleRequest, resume_schedule_request);
    message->name = sim_text(sim, "schedule%u", number);
    machine_call(sim, "ScheduleService/ResumeSchedule", &message->base, NULL, NULL);
  }
}

void producers_drain(struct sim *sim) {
  for (unsigned i = 0; i < NAMES; i++)
    delete_schedule(sim, i);
  for (guint i = 0; i < sim->groups->len; i++) {
    const struct group *group = g_ptr_array_index(sim->groups, i);
    if (group->kind == GROUP_BATCH && !group->is_gone)
      seal(sim, group);
  }
}
