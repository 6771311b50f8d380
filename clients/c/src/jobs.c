/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of JobService. */
#include <glib.h>

#include "coalesce.h"
#include "convert.h"
#include "fault.h"
#include "stream.h"
#include "wait.h"

#define JOBS(name, stem) METHOD(JobService, name, stem)

static struct millrace_job *job_lid(struct box *box, const Millrace__V1__Job *message) {
  static const Millrace__V1__Job none = MILLRACE__V1__JOB__INIT;
  struct millrace_job *job = box_lid(box, sizeof *job);
  convert_from_job(box, message ? message : &none, job);
  return job;
}

static Millrace__V1__CreateJobRequest *create_request(struct box *box, const struct millrace_job_spec *spec) {
  Millrace__V1__CreateJobRequest *request = MESSAGE(box, Millrace__V1__CreateJobRequest, create_job_request);
  request->job = convert_spec(box, spec);
  request->job->id = convert_id(box, spec->id);
  return request;
}

enum millrace_code millrace_job_create(struct millrace_client *client, const struct millrace_job_spec *spec,
                                       struct millrace_job **out_job, struct millrace_error *error) {
  struct box *scratch = box_new();
  struct box *box;
  Millrace__V1__CreateJobResponse *response;
  enum millrace_code code = call(client, JOBS(CreateJob, create_job), create_request(scratch, spec), 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_job = job_lid(box, response->job);
  (*out_job)->existing = response->existing;
  return MILLRACE_OK;
}

struct async_create {
  void (*done)(void *context, const struct millrace_job *job, const struct millrace_error *error);
  void *context;
};

static void created(void *context, struct box *take_box, void *response, const struct millrace_error *error) {
  struct async_create *self = context;
  if (error) {
    self->done(self->context, NULL, error);
  } else {
    const Millrace__V1__CreateJobResponse *created_job = response;
    struct millrace_job *job = job_lid(take_box, created_job->job);
    job->existing = created_job->existing;
    self->done(self->context, job, NULL);
    millrace_free(job);
  }
  g_free(self);
}

void millrace_job_create_async(struct millrace_client *client, const struct millrace_job_spec *spec,
                               void (*done)(void *context, const struct millrace_job *job, const struct millrace_error *error),
                               void *context) {
  struct millrace_error error;
  if (client_check_process(client, &error) != MILLRACE_OK) {
    done(context, NULL, &error);
    return;
  }
  struct box *scratch = box_new();
  Millrace__V1__CreateJobRequest *request = create_request(scratch, spec);
  struct coalescer *coalescer = client_coalescer(client);
  if (coalescer) {
    coalescer_create(coalescer, request->job, done, context);
  } else {
    struct async_create *self = g_new(struct async_create, 1);
    *self = (struct async_create){done, context};
    call_start(client, JOBS(CreateJob, create_job), request, 0, created, self);
  }
  box_unref(scratch);
}

/* Each gets an id, so that a request that is sent again makes no second job. */
static Millrace__V1__JobSpec **new_jobs(struct box *box, const struct millrace_job_spec *specs, size_t count) {
  Millrace__V1__JobSpec **jobs = convert_specs(box, specs, count);
  for (size_t i = 0; i < count; i++)
    jobs[i]->id = convert_id(box, specs[i].id);
  return jobs;
}

enum millrace_code millrace_jobs_create(struct millrace_client *client, const struct millrace_job_spec *specs, size_t count,
                                        struct millrace_outcomes **out_outcomes, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CreateJobsRequest request = MILLRACE__V1__CREATE_JOBS_REQUEST__INIT;
  request.n_jobs = count;
  request.jobs = new_jobs(scratch, specs, count);
  struct box *box;
  Millrace__V1__CreateJobsResponse *response;
  enum millrace_code code = call(client, JOBS(CreateJobs, create_jobs), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    code = convert_give_outcomes(box, response->outcomes, response->n_outcomes, count, out_outcomes, error);
  return code;
}

struct millrace_job_stream {
  struct stream *stream;
  GArray *unanswered; /* size_t: how many jobs each message had */
};

enum millrace_code millrace_job_stream_open(struct millrace_client *client, struct millrace_job_stream **out_stream,
                                            struct millrace_error *error) {
  (void)error; /* what is wrong shows with the first message */
  struct millrace_job_stream *stream = g_new0(struct millrace_job_stream, 1);
  stream->stream = stream_open(client, JOBS(CreateJobsStream, create_jobs_stream), -1);
  stream_read_without_limit(stream->stream);
  stream->unanswered = g_array_new(FALSE, FALSE, sizeof(size_t));
  *out_stream = stream;
  return MILLRACE_OK;
}

enum millrace_code millrace_job_stream_send(struct millrace_job_stream *stream, const struct millrace_job_spec *specs,
                                            size_t count, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CreateJobsStreamRequest request = MILLRACE__V1__CREATE_JOBS_STREAM_REQUEST__INIT;
  request.n_jobs = count;
  request.jobs = new_jobs(scratch, specs, count);
  enum millrace_code code = stream_write(stream->stream, &request, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    g_array_append_val(stream->unanswered, count);
  return code;
}

enum millrace_code millrace_job_stream_receive(struct millrace_job_stream *stream, struct millrace_outcomes **out_outcomes,
                                               struct millrace_error *error) {
  struct box *box;
  Millrace__V1__CreateJobsStreamResponse *response;
  if (stream->unanswered->len == 0)
    return fault_set(error, MILLRACE_FAILED_PRECONDITION, NULL, "all that was sent over the stream is answered");
  enum millrace_code code = stream_read(stream->stream, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  if (!response)
    return fault_set(error, MILLRACE_UNAVAILABLE, NULL, "the server has ended the stream");
  size_t count = g_array_index(stream->unanswered, size_t, 0);
  g_array_remove_index(stream->unanswered, 0);
  return convert_give_outcomes(box, response->outcomes, response->n_outcomes, count, out_outcomes, error);
}

void millrace_job_stream_close(struct millrace_job_stream *stream) {
  if (!stream)
    return;
  stream_free(stream->stream);
  g_array_unref(stream->unanswered);
  g_free(stream);
}

enum millrace_code millrace_job_get(struct millrace_client *client, const char *id, bool with_log, struct millrace_job **out_job,
                                    struct millrace_error *error) {
  Millrace__V1__GetJobRequest request = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  request.id = convert_text(id);
  request.with_log = with_log;
  struct box *box;
  Millrace__V1__GetJobResponse *response;
  enum millrace_code code = call(client, JOBS(GetJob, get_job), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_job *job = job_lid(box, response->job);
  struct millrace_log_line *log = box_alloc(box, response->n_log * sizeof *log);
  for (size_t i = 0; i < response->n_log; i++)
    log[i] = (struct millrace_log_line){response->log[i]->time_unix_ms, response->log[i]->delivery, response->log[i]->text};
  job->log = log;
  job->log_count = response->n_log;
  *out_job = job;
  return MILLRACE_OK;
}

static bool job_timed_out(const void *response) {
  return ((const Millrace__V1__WaitJobResponse *)response)->timed_out;
}

enum millrace_code millrace_job_wait(struct millrace_client *client, const char *id, int64_t timeout_ms,
                                     struct millrace_job **out_job, struct millrace_error *error) {
  Millrace__V1__WaitJobRequest request = MILLRACE__V1__WAIT_JOB_REQUEST__INIT;
  Google__Protobuf__Duration slice;
  request.id = convert_text(id);
  request.timeout = &slice;
  struct box *box;
  Millrace__V1__WaitJobResponse *response;
  enum millrace_code code =
      wait_call(client, JOBS(WaitJob, wait_job), &request, &slice, timeout_ms, job_timed_out, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_job = job_lid(box, response->job);
  (*out_job)->timed_out = response->timed_out;
  return MILLRACE_OK;
}

enum millrace_code millrace_job_watch(struct millrace_client *client, const struct millrace_job_filter *filter,
                                      int64_t timeout_ms, bool (*event)(void *context, const struct millrace_job_event *event),
                                      void *context, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__WatchJobsRequest request = MILLRACE__V1__WATCH_JOBS_REQUEST__INIT;
  request.filter = convert_filter(scratch, filter);
  struct stream *stream = stream_open(client, JOBS(WatchJobs, watch_jobs), timeout_ms > 0 ? timeout_ms : -1);
  enum millrace_code code = stream_write(stream, &request, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    stream_close_writes(stream);
  bool wants_more = true;
  while (code == MILLRACE_OK && wants_more) {
    struct box *box;
    Millrace__V1__WatchJobsResponse *response;
    code = stream_read(stream, &box, &response, error);
    if (code != MILLRACE_OK)
      break;
    if (!response) {
      code = fault_set(error, MILLRACE_UNAVAILABLE, NULL, "the server has ended the watch");
      break;
    }
    struct millrace_job *job = job_lid(box, response->job);
    const struct millrace_job_event news = {response->job ? job : NULL, response->initial_done, response->deleted};
    wants_more = event(context, &news);
    millrace_free(job);
  }
  stream_free(stream);
  return code;
}

enum millrace_code millrace_job_list(struct millrace_client *client, const struct millrace_job_filter *filter,
                                     const struct millrace_page *page, struct millrace_job_list **out_list,
                                     struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__ListJobsRequest request = MILLRACE__V1__LIST_JOBS_REQUEST__INIT;
  request.filter = convert_filter(scratch, filter);
  request.page_size = page ? page->size : 0;
  request.page_token = convert_text(page ? page->token : NULL);
  struct box *box;
  Millrace__V1__ListJobsResponse *response;
  enum millrace_code code = call(client, JOBS(ListJobs, list_jobs), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  struct millrace_job_list *list = box_lid(box, sizeof *list);
  struct millrace_job *jobs = box_alloc(box, response->n_jobs * sizeof *jobs);
  for (size_t i = 0; i < response->n_jobs; i++)
    convert_from_job(box, response->jobs[i], &jobs[i]);
  *list = (struct millrace_job_list){jobs, response->n_jobs, response->next_page_token};
  *out_list = list;
  return MILLRACE_OK;
}

enum millrace_code millrace_job_cancel(struct millrace_client *client, const char *id, bool terminate, const char *reason,
                                       struct millrace_job **out_job, struct millrace_error *error) {
  Millrace__V1__CancelJobRequest request = MILLRACE__V1__CANCEL_JOB_REQUEST__INIT;
  request.id = convert_text(id);
  request.terminate = terminate;
  request.reason = convert_text(reason);
  struct box *box;
  Millrace__V1__CancelJobResponse *response;
  enum millrace_code code = call(client, JOBS(CancelJob, cancel_job), &request, 0, &box, &response, error);
  if (code != MILLRACE_OK)
    return code;
  *out_job = job_lid(box, response->job);
  (*out_job)->accepted = response->accepted;
  return MILLRACE_OK;
}

enum millrace_code millrace_job_retry(struct millrace_client *client, const char *id, struct millrace_job **out_job,
                                      struct millrace_error *error) {
  Millrace__V1__RetryJobRequest request = MILLRACE__V1__RETRY_JOB_REQUEST__INIT;
  request.id = convert_text(id);
  struct box *box;
  Millrace__V1__RetryJobResponse *response;
  enum millrace_code code = call(client, JOBS(RetryJob, retry_job), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    *out_job = job_lid(box, response->job);
  return code;
}

enum millrace_code millrace_job_update(struct millrace_client *client, const char *id, const struct millrace_job_update *update,
                                       struct millrace_job **out_job, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__UpdateJobRequest request = MILLRACE__V1__UPDATE_JOB_REQUEST__INIT;
  Millrace__V1__Labels labels = MILLRACE__V1__LABELS__INIT;
  request.id = convert_text(id);
  request.priority = (Millrace__V1__JobPriority)update->priority;
  request.run_at = convert_time(scratch, update->run_at_ms);
  request.expires_at = convert_time(scratch, update->expires_at_ms);
  request.deadline = convert_time(scratch, update->deadline_ms);
  request.retry_policy = convert_retry(scratch, update->retry);
  if (update->set_labels) {
    labels.n_labels = update->label_count;
    labels.labels = convert_labels(scratch, update->labels, update->label_count, &millrace__v1__labels__labels_entry__descriptor);
    request.labels = &labels;
  }
  struct box *box;
  Millrace__V1__UpdateJobResponse *response;
  enum millrace_code code = call(client, JOBS(UpdateJob, update_job), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code == MILLRACE_OK)
    *out_job = job_lid(box, response->job);
  return code;
}

enum millrace_code millrace_job_delete(struct millrace_client *client, const char *id, struct millrace_error *error) {
  Millrace__V1__DeleteJobRequest request = MILLRACE__V1__DELETE_JOB_REQUEST__INIT;
  request.id = convert_text(id);
  struct box *box;
  void *response;
  enum millrace_code code = call(client, JOBS(DeleteJob, delete_job), &request, 0, &box, &response, error);
  if (code == MILLRACE_OK)
    box_unref(box);
  return code;
}

enum millrace_code millrace_jobs_cancel(struct millrace_client *client, const struct millrace_job_filter *filter, bool terminate,
                                        const char *reason, struct millrace_bulk *out_bulk, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__CancelJobsRequest request = MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT;
  request.filter = convert_filter(scratch, filter);
  request.terminate = terminate;
  request.reason = convert_text(reason);
  struct box *box;
  Millrace__V1__CancelJobsResponse *response;
  enum millrace_code code = call(client, JOBS(CancelJobs, cancel_jobs), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_bulk = (struct millrace_bulk){.done = response->cancelled, .more = response->more};
  box_unref(box);
  return MILLRACE_OK;
}

enum millrace_code millrace_jobs_retry(struct millrace_client *client, const struct millrace_job_filter *filter,
                                       struct millrace_bulk *out_bulk, struct millrace_error *error) {
  struct box *scratch = box_new();
  Millrace__V1__RetryJobsRequest request = MILLRACE__V1__RETRY_JOBS_REQUEST__INIT;
  request.filter = convert_filter(scratch, filter);
  struct box *box;
  Millrace__V1__RetryJobsResponse *response;
  enum millrace_code code = call(client, JOBS(RetryJobs, retry_jobs), &request, 0, &box, &response, error);
  box_unref(scratch);
  if (code != MILLRACE_OK)
    return code;
  *out_bulk = (struct millrace_bulk){.done = response->retried, .refused = response->refused, .more = response->more};
  box_unref(box);
  return MILLRACE_OK;
}
