/* SPDX-License-Identifier: Apache-2.0 */
/* orders.c: what operators ask for, what befalls the machine, and which of all that comes next. */
#include <string.h>

#include "orders.h"

struct about *about_new(struct about value) {
  return g_memdup2(&value, sizeof value);
}

void orders_expect(struct sim *sim, const struct error *error, enum status one, enum status other) {
  if (error && error->status != one && error->status != other && error->status != STATUS_UNAVAILABLE)
    sim_fail(sim, "a request was refused with status %d: %s", (int)error->status, error->message);
}

/* A job that there is must be found; one that is gone must not. */
static struct job *found(struct sim *sim, const struct id *id, const struct error *error) {
  struct job *job = model_job(sim, id);
  if (error && error->status == STATUS_NOT_FOUND && job)
    sim_fail(sim, "job %s is %s and was not found", sim_id_text(sim, id), state_names[job->state]);
  return job;
}

/* ---- cancel ---- */

/* Returns the reason that jobs will be given. */
static char *order_new(struct sim *sim, struct order value) {
  g_ptr_array_add(sim->orders, g_memdup2(&value, sizeof value));
  return sim_text(sim, "%u", sim->orders->len - 1);
}

static void cancelled(struct sim *sim, void *data, const struct error *error, const void *response) {
  const Millrace__V1__CancelJobResponse *answer = response;
  orders_expect(sim, error, STATUS_NOT_FOUND, STATUS_NOT_FOUND);
  const struct job *job = found(sim, &((struct about *)data)->id, error);
  if (error)
    return;
  bool is_cancelled = job && (job->state == CANCELLED || (job->state == RUNNING && job->cancel_requested));
  if (!job || (answer->accepted ? !is_cancelled : !is_terminal(job->state)))
    sim_fail(sim, "the cancel of job %s was %saccepted, and it is %s", answer->job->id, answer->accepted ? "" : "not ",
             job ? state_names[job->state] : "gone");
}

static void cancel_job(struct sim *sim) {
  const struct job *job = model_any(sim, sim_once_in(sim, 2) ? RUNNING : 0);
  if (!job)
    return;
  Millrace__V1__CancelJobRequest *message = NEW(sim, Millrace__V1__CancelJobRequest, cancel_job_request);
  message->id = sim_id_text(sim, &job->id);
  message->terminate = sim_once_in(sim, 3);
  message->reason = order_new(sim, (struct order){ORDER_JOB, job->id, 0});
  sim_trace(sim, "cancel job %s", message->id + SHORT);
  machine_call(sim, "JobService/CancelJob", &message->base, cancelled, about_new((struct about){.id = job->id}));
}

static Millrace__V1__JobFilter *queue_filter(struct sim *sim, unsigned queue) {
  Millrace__V1__JobFilter *filter = NEW(sim, Millrace__V1__JobFilter, job_filter);
  filter->n_queues = 1;
  filter->queues = (char **)&queue_names[queue];
  return filter;
}

static void cancel_many(struct sim *sim) {
  unsigned queue = sim_roll(sim, QUEUES);
  Millrace__V1__CancelJobsRequest *message = NEW(sim, Millrace__V1__CancelJobsRequest, cancel_jobs_request);
  message->filter = queue_filter(sim, queue);
  message->filter->n_tasks = sim_roll(sim, 2);
  message->filter->tasks = (char **)&task_names[sim_roll(sim, TASKS)];
  message->reason = order_new(sim, (struct order){ORDER_QUEUE, {{0}}, queue});
  sim_trace(sim, "cancel jobs of queue %s", queue_names[queue]);
  machine_call(sim, "JobService/CancelJobs", &message->base, NULL, NULL);
}

static void purge(struct sim *sim) {
  unsigned queue = sim_roll(sim, QUEUES);
  Millrace__V1__PurgeQueueRequest *message = NEW(sim, Millrace__V1__PurgeQueueRequest, purge_queue_request);
  message->name = (char *)queue_names[queue];
  order_new(sim, (struct order){ORDER_PURGE, {{0}}, queue});
  sim_trace(sim, "purge queue %s", queue_names[queue]);
  machine_call(sim, "QueueService/PurgeQueue", &message->base, NULL, NULL);
}

static void cancel_group(struct sim *sim) {
  const struct group *group = producer_group(sim, sim_once_in(sim, 2) ? GROUP_CHAIN : GROUP_BATCH);
  if (!group)
    return;
  char *id = sim_id_text(sim, &group->id), *reason = order_new(sim, (struct order){ORDER_GROUP, group->id, 0});
  sim_trace(sim, "cancel group %s", id + SHORT);
  if (group->kind == GROUP_CHAIN) {
    Millrace__V1__CancelChainRequest *message = NEW(sim, Millrace__V1__CancelChainRequest, cancel_chain_request);
    message->id = id;
    message->reason = reason;
    machine_call(sim, "ChainService/CancelChain", &message->base, NULL, NULL);
  } else {
    Millrace__V1__CancelBatchRequest *message = NEW(sim, Millrace__V1__CancelBatchRequest, cancel_batch_request);
    message->id = id;
    message->reason = reason;
    machine_call(sim, "BatchService/CancelBatch", &message->base, NULL, NULL);
  }
}

/* ---- retry, update, delete ---- */

static void retried(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)response;
  orders_expect(sim, error, STATUS_NOT_FOUND, STATUS_FAILED_PRECONDITION);
  struct job *job = found(sim, &((struct about *)data)->id, error);
  if (!job)
    return;
  job->retries -= job->retries > 0;
  if (!error && job->state != PENDING && job->state != BLOCKED)
    sim_fail(sim, "job %s was retried, and is %s", sim_id_text(sim, &job->id), state_names[job->state]);
}

static void retry_job(struct sim *sim) {
  struct job *job = model_any(sim, FAILED + (int)sim_roll(sim, 3));
  if (!job)
    return;
  job->retries++;
  Millrace__V1__RetryJobRequest *message = NEW(sim, Millrace__V1__RetryJobRequest, retry_job_request);
  message->id = sim_id_text(sim, &job->id);
  sim_trace(sim, "retry job %s", message->id + SHORT);
  machine_call(sim, "JobService/RetryJob", &message->base, retried, about_new((struct about){.id = job->id}));
}

static void many_retried(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)response;
  orders_expect(sim, error, STATUS_OK, STATUS_OK);
  struct model_queue *queue = &sim->model->queues[((struct about *)data)->queue];
  queue->retries_open -= queue->retries_open > 0;
}

static void retry_many(struct sim *sim) {
  unsigned queue = sim_roll(sim, QUEUES);
  sim->model->queues[queue].retries_open++;
  Millrace__V1__RetryJobsRequest *message = NEW(sim, Millrace__V1__RetryJobsRequest, retry_jobs_request);
  message->filter = queue_filter(sim, queue);
  sim_trace(sim, "retry jobs of queue %s", queue_names[queue]);
  machine_call(sim, "JobService/RetryJobs", &message->base, many_retried, about_new((struct about){.queue = queue}));
}

static void updated(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)response;
  const struct about *self = data;
  orders_expect(sim, error, STATUS_NOT_FOUND, STATUS_FAILED_PRECONDITION);
  struct job *job = found(sim, &self->id, error);
  if (!job)
    return;
  job->updates -= job->updates > 0;
  if (error && error->status == STATUS_FAILED_PRECONDITION && !is_terminal(job->state) && job->state != RUNNING)
    sim_fail(sim, "job %s is %s, and its update was refused: %s", sim_id_text(sim, &job->id), state_names[job->state],
             error->message);
  if (!error && self->policy.is_set)
    job->policy = self->policy;
}

static void update(struct sim *sim) {
  static const int states[] = {PENDING, SCHEDULED, RETRYING, BLOCKED, 0};
  struct job *job = model_any(sim, states[sim_roll(sim, G_N_ELEMENTS(states))]);
  if (!job)
    return;
  Millrace__V1__UpdateJobRequest *message = NEW(sim, Millrace__V1__UpdateJobRequest, update_job_request);
  struct about self = {.id = job->id};
  message->id = sim_id_text(sim, &job->id);
  if (sim_once_in(sim, 2))
    message->priority =
        sim_once_in(sim, 2) ? MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_CRITICAL : MILLRACE__V1__JOB_PRIORITY__JOB_PRIORITY_LOW;
  if (sim_once_in(sim, 2))
    message->run_at = sim_timestamp(sim, sim->wall_ms - 10000 + sim_roll(sim, 60000));
  if (sim_once_in(sim, 6))
    message->expires_at = sim_timestamp(sim, sim->wall_ms + 1 + sim_roll(sim, 60000));
  if (sim_once_in(sim, 6))
    message->deadline = sim_timestamp(sim, sim->wall_ms + 1 + sim_roll(sim, 120000));
  if (sim_once_in(sim, 4)) {
    self.policy = plan_policy_random(sim);
    message->retry_policy = plan_policy_message(sim, &self.policy);
  }
  job->updates++;
  sim_trace(sim, "update job %s", message->id + SHORT);
  machine_call(sim, "JobService/UpdateJob", &message->base, updated, about_new(self));
}

static void deleted(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)response;
  orders_expect(sim, error, STATUS_NOT_FOUND, STATUS_FAILED_PRECONDITION);
  struct job *job = found(sim, &((struct about *)data)->id, error);
  if (!job)
    return;
  job->deletes -= job->deletes > 0;
  job->is_leaving = false;
  if (!error)
    sim_fail(sim, "job %s was deleted, and those who watch were not told", sim_id_text(sim, &job->id));
}

static void call_delete(struct sim *sim, struct job *job) {
  job->deletes++;
  Millrace__V1__DeleteJobRequest *message = NEW(sim, Millrace__V1__DeleteJobRequest, delete_job_request);
  message->id = sim_id_text(sim, &job->id);
  sim_trace(sim, "delete job %s", message->id + SHORT);
  machine_call(sim, "JobService/DeleteJob", &message->base, deleted, about_new((struct about){.id = job->id}));
}

static void delete_job(struct sim *sim) {
  struct job *job = model_any(sim, SUCCEEDED + (int)sim_roll(sim, 4));
  if (job)
    call_delete(sim, job);
}

/* One that has ended and was sent in one message with one that runs: a lease still names it. NULL: there is none. */
static struct job *ended_beside_running(struct sim *sim) {
  struct job *running = model_any(sim, RUNNING);
  const struct given *given = running ? model_given(running, running->deliveries) : NULL;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (given && g_hash_table_iter_next(&iter, NULL, &value)) {
    struct job *job = value;
    const struct given *other = is_terminal(job->state) && !job->is_leaving ? model_given(job, job->deliveries) : NULL;
    if (other && other->seq == given->seq && id_equal(&other->session, &given->session))
      return job;
  }
  return NULL;
}

static void replace_job(struct sim *sim) {
  struct job *job = ended_beside_running(sim);
  job = job ? job : model_any(sim, SUCCEEDED + (int)sim_roll(sim, 4));
  if (!job || job->plan->kind != PLAN_ALONE)
    return;
  call_delete(sim, job);
  job->is_leaving = true;
  producer_replace(sim, &job->id);
}

static void waited(struct sim *sim, void *data, const struct error *error, const void *response) {
  const Millrace__V1__WaitJobResponse *answer = response;
  orders_expect(sim, error, STATUS_NOT_FOUND, STATUS_NOT_FOUND);
  const struct job *job = found(sim, &((struct about *)data)->id, error);
  if (job && !error && answer->job && (!answer->timed_out || is_terminal(answer->job->state)) &&
      (!is_terminal(answer->job->state) || answer->job->generation > job->generation))
    sim_fail(sim, "a wait for job %s ended before it did", answer->job->id);
}

static void wait_for(struct sim *sim) {
  const struct job *job = model_any(sim, 0);
  if (!job)
    return;
  Millrace__V1__WaitJobRequest *message = NEW(sim, Millrace__V1__WaitJobRequest, wait_job_request);
  message->id = sim_id_text(sim, &job->id);
  message->timeout = sim_duration(sim, sim_roll(sim, 20000));
  machine_call(sim, "JobService/WaitJob", &message->base, waited, about_new((struct about){.id = job->id}));
}

/* ---- queues ---- */

static void queue_changed(struct sim *sim, void *data, const struct error *error, const void *response) {
  orders_expect(sim, error, STATUS_OK, STATUS_OK);
  struct model_queue *queue = &sim->model->queues[((struct about *)data)->queue];
  /* The three answers have one form. */
  const Millrace__V1__Queue *answer = error ? NULL : ((const Millrace__V1__UpdateQueueResponse *)response)->queue;
  queue->settings_open -= queue->settings_open > 0;
  if (answer)
    model_take_queue(queue, answer);
}

static void call_queue(struct sim *sim, const char *method, const ProtobufCMessage *message, unsigned queue) {
  sim->model->queues[queue].settings_open++;
  sim_trace(sim, "%s %s", method, queue_names[queue]);
  machine_call(sim, method, message, queue_changed, about_new((struct about){.queue = queue}));
}

static void resume(struct sim *sim, unsigned queue) {
  Millrace__V1__ResumeQueueRequest *message = NEW(sim, Millrace__V1__ResumeQueueRequest, resume_queue_request);
  message->name = (char *)queue_names[queue];
  call_queue(sim, "QueueService/ResumeQueue", &message->base, queue);
}

static void pause_or_resume(struct sim *sim) {
  unsigned queue = sim_roll(sim, QUEUES);
  if (sim->model->queues[queue].paused || sim_once_in(sim, 3)) {
    resume(sim, queue);
    return;
  }
  Millrace__V1__PauseQueueRequest *message = NEW(sim, Millrace__V1__PauseQueueRequest, pause_queue_request);
  message->name = (char *)queue_names[queue];
  call_queue(sim, "QueueService/PauseQueue", &message->base, queue);
}

static void set_limits(struct sim *sim, unsigned queue, uint32_t running_max, uint64_t length_max, double rate) {
  Millrace__V1__UpdateQueueRequest *message = NEW(sim, Millrace__V1__UpdateQueueRequest, update_queue_request);
  message->name = (char *)queue_names[queue];
  Millrace__V1__QueueSettings *settings = message->settings = NEW(sim, Millrace__V1__QueueSettings, queue_settings);
  Google__Protobuf__UInt32Value *running = sim_message(sim, &google__protobuf__uint32_value__descriptor);
  Google__Protobuf__UInt64Value *length = sim_message(sim, &google__protobuf__uint64_value__descriptor);
  Google__Protobuf__DoubleValue *per_second = sim_message(sim, &google__protobuf__double_value__descriptor);
  running->value = running_max;
  length->value = length_max;
  per_second->value = rate;
  settings->max_running = running;
  settings->max_length = length;
  settings->rate_per_second = per_second;
  settings->mode = (Millrace__V1__QueueMode)(1 + sim_roll(sim, 2));
  settings->retention = sim_duration(sim, HOUR_MS + sim_roll(sim, HOUR_MS));
  call_queue(sim, "QueueService/UpdateQueue", &message->base, queue);
}

static void change_settings(struct sim *sim) {
  uint64_t length_max = sim_once_in(sim, 4) ? 20 : 0;
  double rate = sim_once_in(sim, 4) ? 5 : 0;
  set_limits(sim, sim_roll(sim, QUEUES), sim_roll(sim, 4), length_max, rate);
}

void orders_drain(struct sim *sim) {
  for (unsigned i = 0; i < QUEUES; i++) {
    resume(sim, i);
    set_limits(sim, i, 0, 0, 0);
  }
  producers_drain(sim);
}

/* ---- time and faults ---- */

static void pass(struct sim *sim) {
  static const int64_t spans_ms[] = {100, 2000, 2000, 10000, 10000, 60000};
  machine_pass(sim, 1 + sim_roll(sim, (unsigned)spans_ms[sim_roll(sim, G_N_ELEMENTS(spans_ms))]), false);
}

static void jump(struct sim *sim) {
  sim->tally[TALLY_CLOCK_JUMPS]++;
  if (sim_once_in(sim, 2)) {
    machine_settle(sim);
    sim->wall_ms += sim_once_in(sim, 2) ? HOUR_MS : -HOUR_MS;
    sim_trace(sim, "the wall clock jumps by an hour");
    machine_settle(sim);
  } else {
    int64_t ms = sim_roll(sim, sim_once_in(sim, 4) ? 3 * 86400000 : 3600000);
    sim_trace(sim, "the machine sleeps for %" G_GINT64_FORMAT " ms", ms);
    machine_pass(sim, ms, true);
  }
}

static void break_disk(struct sim *sim) {
  static const struct {
    enum fault fault;
    enum tally tally;
  } faults[] = {{FAULT_GET, TALLY_READ_FAULTS},    {FAULT_SCAN, TALLY_READ_FAULTS},
                {FAULT_WRITE, TALLY_WRITE_FAULTS}, {FAULT_WRITE_APPLIED, TALLY_WRITE_FAULTS},
                {FAULT_SYNC, TALLY_SYNC_FAULTS},   {FAULT_SYNC_APPLIED, TALLY_SYNC_FAULTS}};
  unsigned which = sim_roll(sim, G_N_ELEMENTS(faults));
  sim->tally[faults[which].tally]++;
  sim_trace(sim, "the disk will fail: %d", (int)faults[which].fault);
  store_faulty_fail(sim->store, faults[which].fault, 1 + sim_roll(sim, 3));
}

/* After a turn: what is still in the mailbox is refused or done, and nobody can tell which. */
static void restart(struct sim *sim) {
  machine_turn(sim, true);
  if (!sim->engine_failed)
    machine_restart(sim);
}

static const struct {
  const char *name;
  void (*run)(struct sim *sim);
  unsigned weight;
} all_orders[] = {
    {"create", producer_create, 100},
    {"create again", producer_create_again, 15},
    {"create many", producer_create_many, 15},
    {"create chain", producer_create_chain, 20},
    {"create batch", producer_create_batch, 15},
    {"add a chunk", producer_add_chunk, 20},
    {"seal", producer_seal_one, 8},
    {"create schedule", producer_create_schedule, 5},
    {"change schedule", producer_change_schedule, 5},
    {"cancel", cancel_job, 20},
    {"cancel many", cancel_many, 2},
    {"cancel group", cancel_group, 6},
    {"purge", purge, 2},
    {"retry", retry_job, 20},
    {"retry many", retry_many, 3},
    {"update", update, 25},
    {"delete", delete_job, 10},
    {"replace", replace_job, 10},
    {"create in place", producer_create_in_place, 10},
    {"wait", wait_for, 15},
    {"pause or resume", pause_or_resume, 8},
    {"settings", change_settings, 4},
    {"time passes", pass, 60},
    {"time jumps", jump, 4},
    {"break the disk", break_disk, 3},
    {"crash", machine_crash, 4},
    {"restart", restart, 2},
};

void order_one(struct sim *sim) {
  unsigned total = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(all_orders); i++)
    total += all_orders[i].weight;
  unsigned roll = sim_roll(sim, total);
  size_t which = 0;
  while (roll >= all_orders[which].weight)
    roll -= all_orders[which++].weight;
  g_strlcpy(sim->operation, all_orders[which].name, sizeof sim->operation);
  all_orders[which].run(sim);
}
