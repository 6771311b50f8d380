/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of QueueService, those of WorkerService and AdminService for people, and any call in JSON. */
#include <glib.h>

#include "call.h"
#include "convert.h"
#include "fault.h"
#include "json.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/schedule_service.pb-c.h"

#define QUEUES(name, stem) METHOD(QueueService, name, stem)

/* ---- queues ---- */

static int64_t from_limit(const Google__Protobuf__UInt32Value *value) {
  return value ? value->value : 0;
}

static struct millrace_queue from_queue(const Millrace__V1__Queue *queue) {
  struct millrace_queue out = {0};
  if (!queue)
    return out;
  out = (struct millrace_queue){
      .name = queue->name,
      .paused = queue->paused,
      .oldest_ready_at_ms = convert_from_time(queue->oldest_ready_at),
      .oldest_age_ms = convert_from_duration(queue->oldest_age),
      .workers = queue->workers,
      .created_per_second = queue->created_per_second,
      .finished_per_second = queue->finished_per_second,
  };
  const Millrace__V1__QueueSettings *settings = queue->settings;
  if (settings)
    out.settings = (struct millrace_queue_settings){
        .mode = (enum millrace_queue_mode)settings->mode,
        .max_length = settings->max_length ? (int64_t)settings->max_length->value : 0,
        .max_running = from_limit(settings->max_running),
        .rate_per_second = settings->rate_per_second ? settings->rate_per_second->value : 0,
        .rate_burst = from_limit(settings->rate_burst),
        .attempt_timeout_ms = convert_from_duration(settings->attempt_timeout),
        .retention_ms = convert_from_duration(settings->retention),
        .retention_failed_ms = convert_from_duration(settings->retention_failed),
        .retention_count = from_limit(settings->retention_count),
    };
  const Millrace__V1__QueueCounts *counts = queue->counts;
  if (counts) {
    out.counts[MILLRACE_JOB_PENDING] = counts->pending;
    out.counts[MILLRACE_JOB_SCHEDULED] = counts->scheduled;
    out.counts[MILLRACE_JOB_RETRYING] = counts->retrying;
    out.counts[MILLRACE_JOB_BLOCKED] = counts->blocked;
    out.counts[MILLRACE_JOB_RUNNING] = counts->running;
    out.counts[MILLRACE_JOB_SUCCEEDED] = counts->succeeded;
    out.counts[MILLRACE_JOB_FAILED] = counts->failed;
    out.counts[MILLRACE_JOB_CANCELLED] = counts->cancelled;
    out.counts[MILLRACE_JOB_EXPIRED] = counts->expired;
  }
  return out;
}

static struct millrace_queue *queue_lid(struct box *box, const Millrace__V1__Queue *message) {
  struct millrace_queue *queue = box_lid(box, sizeof *queue);
  *queue = from_queue(message);
  return queue;
}

/* Get, pause and resume: a name goes, a queue comes. The messages have the same layout. */
static enum millrace_code by_name(struct millrace_client *client, struct method method,
                                  const ProtobufCMessageDescriptor *request_type, const char *name,
                                  struct millrace_queue **out_queue, struct millrace_error *error) {
  Millrace__V1__GetQueueRequest request;
  protobuf_c_message_init(request_type, &request);
  request.name = convert_text(name);
  struct box *box;
  Millrace__V1__GetQueueResponse *response;
  enum millrace_code code = call(client, method, &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_queue = queue_lid(box, response->queue);
  return code;
}

enum millrace_code millrace_queue_get(struct millrace_client *client, const char *name, struct millrace_queue **out_queue,
                                      struct millrace_error *error) {
  return by_name(client, QUEUES(GetQueue, get_queue), &millrace__v1__get_queue_request__descriptor, name, out_queue, error);
}

enum millrace_code millrace_queue_pause(struct millrace_client *client, const char *name, struct millrace_queue **out_queue,
                                        struct millrace_error *error) {
  return by_name(client, QUEUES(PauseQueue, pause_queue), &millrace__v1__pause_queue_request__descriptor, name, out_queue, error);
}

enum millrace_code millrace_queue_resume(struct millrace_client *client, const char *name, struct millrace_queue **out_queue,
                                         struct millrace_error *error) {
  return by_name(client, QUEUES(ResumeQueue, resume_queue), &millrace__v1__resume_queue_request__descriptor, name, out_queue,
                 error);
}

enum millrace_code millrace_queue_list(struct millrace_client *client, const struct millrace_page *page,
                                       struct millrace_queue_list **out_list, struct millrace_error *error) {
  Millrace__V1__ListQueuesRequest request = MILLRACE__V1__LIST_QUEUES_REQUEST__INIT;
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListQueuesResponse *response;
  enum millrace_code code = call(client, QUEUES(ListQueues, list_queues), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_queue_list *list = box_lid(box, sizeof *list);
  struct millrace_queue *queues = box_alloc(box, response->n_queues * sizeof *queues);
  for (size_t i = 0; i < response->n_queues; i++)
    queues[i] = from_queue(response->queues[i]);
  *list = (struct millrace_queue_list){queues, response->n_queues, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

/* 0 stays, MILLRACE_ZERO is zero. */
static Google__Protobuf__UInt32Value *to_limit(struct box *box, int64_t value) {
  if (value == 0)
    return NULL;
  Google__Protobuf__UInt32Value *message = convert_message(box, &google__protobuf__uint32_value__descriptor);
  message->value = value < 0 ? 0 : (uint32_t)MIN(value, UINT32_MAX);
  return message;
}

enum millrace_code millrace_queue_update(struct millrace_client *client, const char *name,
                                         const struct millrace_queue_settings *settings, struct millrace_queue **out_queue,
                                         struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__UpdateQueueRequest request = MILLRACE__V1__UPDATE_QUEUE_REQUEST__INIT;
  Millrace__V1__QueueSettings *message = MESSAGE(scratch, Millrace__V1__QueueSettings, queue_settings);
  message->mode = (Millrace__V1__QueueMode)settings->mode;
  if (settings->max_length) {
    message->max_length = convert_message(scratch, &google__protobuf__uint64_value__descriptor);
    message->max_length->value = settings->max_length < 0 ? 0 : (uint64_t)settings->max_length;
  }
  message->max_running = to_limit(scratch, settings->max_running);
  if (settings->rate_per_second != 0) {
    message->rate_per_second = convert_message(scratch, &google__protobuf__double_value__descriptor);
    message->rate_per_second->value = MAX(settings->rate_per_second, 0);
  }
  message->rate_burst = to_limit(scratch, settings->rate_burst);
  message->retry_policy = convert_retry(scratch, settings->retry);
  message->attempt_timeout = convert_duration(scratch, settings->attempt_timeout_ms);
  message->retention = convert_duration(scratch, settings->retention_ms);
  message->retention_failed = convert_duration(scratch, settings->retention_failed_ms);
  message->retention_count = to_limit(scratch, settings->retention_count);
  request.name = convert_text(name);
  request.settings = message;
  struct box *box;
  Millrace__V1__UpdateQueueResponse *response;
  enum millrace_code code = call(client, QUEUES(UpdateQueue, update_queue), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    *out_queue = queue_lid(box, response->queue);
  return code;
}

enum millrace_code millrace_queue_purge(struct millrace_client *client, const char *name, uint64_t *out_purged,
                                        struct millrace_error *error) {
  Millrace__V1__PurgeQueueRequest request = MILLRACE__V1__PURGE_QUEUE_REQUEST__INIT;
  request.name = convert_text(name);
  struct box *box;
  Millrace__V1__PurgeQueueResponse *response;
  enum millrace_code code = call(client, QUEUES(PurgeQueue, purge_queue), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_purged = response->purged;
  box_unref(box);
  return MILLRACE_OK;
}

enum millrace_code millrace_queue_delete(struct millrace_client *client, const char *name, struct millrace_error *error) {
  Millrace__V1__DeleteQueueRequest request = MILLRACE__V1__DELETE_QUEUE_REQUEST__INIT;
  request.name = convert_text(name);
  struct box *box;
  void *response;
  enum millrace_code code = call(client, QUEUES(DeleteQueue, delete_queue), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    box_unref(box);
  return code;
}

/* ---- workers and server ---- */

static struct millrace_session from_worker(struct box *box, const Millrace__V1__Worker *worker) {
  const char **queues = box_alloc(box, worker->n_queues * sizeof *queues);
  for (size_t i = 0; i < worker->n_queues; i++)
    queues[i] = worker->queues[i]->name;
  return (struct millrace_session){
      .id = worker->session_id,
      .state = convert_enum_name(&millrace__v1__worker_state__descriptor, (int)worker->state),
      .queues = queues,
      .queue_count = worker->n_queues,
      .tasks = (const char *const *)worker->tasks,
      .task_count = worker->n_tasks,
      .concurrency = worker->concurrency,
      .running = worker->running,
      .hostname = worker->hostname,
      .pid = worker->pid,
      .labels = convert_from_labels(box, worker->labels, worker->n_labels),
      .label_count = worker->n_labels,
      .sdk = worker->sdk,
      .transport = worker->transport,
      .registered_at_ms = convert_from_time(worker->registered_at),
      .last_seen_at_ms = convert_from_time(worker->last_seen_at),
  };
}

enum millrace_code millrace_session_list(struct millrace_client *client, const char *queue, const struct millrace_page *page,
                                         struct millrace_session_list **out_list, struct millrace_error *error) {
  Millrace__V1__ListWorkersRequest request = MILLRACE__V1__LIST_WORKERS_REQUEST__INIT;
  request.queue = convert_text(queue);
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListWorkersResponse *response;
  enum millrace_code code = call(client, METHOD(WorkerService, ListWorkers, list_workers), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_session_list *list = box_lid(box, sizeof *list);
  struct millrace_session *sessions = box_alloc(box, response->n_workers * sizeof *sessions);
  for (size_t i = 0; i < response->n_workers; i++)
    sessions[i] = from_worker(box, response->workers[i]);
  *list = (struct millrace_session_list){sessions, response->n_workers, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

enum millrace_code millrace_session_quiet(struct millrace_client *client, const char *session_id, bool drain,
                                          struct millrace_error *error) {
  Millrace__V1__QuietWorkerRequest request = MILLRACE__V1__QUIET_WORKER_REQUEST__INIT;
  request.session_id = convert_text(session_id);
  request.drain = drain;
  struct box *box;
  void *response;
  enum millrace_code code = call(client, METHOD(WorkerService, QuietWorker, quiet_worker), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    box_unref(box);
  return code;
}

enum millrace_code millrace_server_info(struct millrace_client *client, struct millrace_server_info **out_info,
                                        struct millrace_error *error) {
  Millrace__V1__GetServerInfoRequest request = MILLRACE__V1__GET_SERVER_INFO_REQUEST__INIT;
  struct box *box;
  Millrace__V1__GetServerInfoResponse *response;
  enum millrace_code code =
      call(client, METHOD(AdminService, GetServerInfo, get_server_info), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_server_info *info = box_lid(box, sizeof *info);
  *info = (struct millrace_server_info){
      .version = response->version,
      .durability = convert_enum_name(&millrace__v1__durability__descriptor, (int)response->durability),
      .durability_interval_ms = convert_from_duration(response->durability_interval),
      .started_at_ms = convert_from_time(response->started_at),
      .store_format = response->store_format,
      .store_backend = response->store_backend,
      .queues = response->queues,
      .sessions = response->sessions,
      .jobs_waiting = response->jobs_waiting,
      .jobs_running = response->jobs_running,
      .now_ms = convert_from_time(response->now),
  };
  *out_info = info;
  return MILLRACE_OK;
}

/* ---- any call ---- */

static const ProtobufCServiceDescriptor *const services[] = {
    &millrace__v1__job_service__descriptor,   &millrace__v1__schedule_service__descriptor,
    &millrace__v1__chain_service__descriptor, &millrace__v1__batch_service__descriptor,
    &millrace__v1__queue_service__descriptor, &millrace__v1__worker_service__descriptor,
    &millrace__v1__admin_service__descriptor};
static const char *const streams[] = {"CreateJobsStream", "WatchJobs", "AddBatchItems", "Attach"};

static const ProtobufCMethodDescriptor *find_method(const char *name, const char **out_path) {
  const char *slash = strchr(name, '/');
  for (size_t i = 0; slash && i < G_N_ELEMENTS(streams); i++)
    if (strcmp(slash + 1, streams[i]) == 0)
      return NULL;
  for (size_t i = 0; slash && i < G_N_ELEMENTS(services); i++) {
    const char *service = services[i]->short_name;
    if (strlen(service) != (size_t)(slash - name) || strncmp(service, name, strlen(service)) != 0)
      continue;
    g_autofree char *path = g_strdup_printf("/%s/%s", services[i]->name, slash + 1);
    *out_path = g_intern_string(path);
    return protobuf_c_service_descriptor_get_method_by_name(services[i], slash + 1);
  }
  return NULL;
}

enum millrace_code millrace_call_json(struct millrace_client *client, const char *method, const char *request, int64_t timeout_ms,
                                      char **out_response, struct millrace_error *error) {
  const char *path;
  const ProtobufCMethodDescriptor *found = find_method(method, &path);
  if (!found)
    return fault_set(error, MILLRACE_UNIMPLEMENTED, NULL, "there is no unary method '%s'; they look like JobService/GetJob",
                     method);
  struct box *scratch = box_new();
  void *message;
  struct box *box;
  ProtobufCMessage *response;
  enum millrace_code code = json_read(scratch, found->input, request, &message, error);
  if (code == MILLRACE_OK)
    code = call(client, (struct method){path, found->output}, message, timeout_ms, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  g_autofree char *text = json_text(response, false);
  char *copy = box_lid(box, strlen(text) + 1);
  memcpy(copy, text, strlen(text) + 1);
  *out_response = copy;
  return MILLRACE_OK;
}
