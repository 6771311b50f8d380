/* SPDX-License-Identifier: Apache-2.0 */
#include "coalesce.h"

#include <glib.h>
#include <pthread.h>

#include "call.h"
#include "convert.h"
#include "fault.h"

/* Of a call: by the protocol; and below the server's limit of 4 MiB, with room for what surrounds the jobs. */
enum { JOBS_MAX = 1000, BYTES_MAX = 3 * 1024 * 1024 };

/* One create. It holds the request of a call for its job alone: by the rules of protobuf, such requests one behind the other are
 * the request for all of their jobs. */
struct create {
  GList link;
  void (*done)(void *context, const struct millrace_job *job, const struct millrace_error *error);
  void *context;
  int64_t began_us;
  size_t length;
  uint8_t request[];
};

struct coalescer {
  struct millrace_client *client;
  int64_t timeout_us;
  pthread_mutex_t lock;
  GQueue waiting;   /* struct create; the lock guards it */
  bool is_busy;     /* a call is under way, or its callbacks; the lock guards it */
  GQueue under_way; /* struct create: those of the call; whoever made the coalescer busy guards it */
};

struct coalescer *coalescer_new(struct millrace_client *client, int64_t timeout_ms) {
  struct coalescer *self = g_new0(struct coalescer, 1);
  self->client = client;
  self->timeout_us = timeout_ms * 1000;
  pthread_mutex_init(&self->lock, NULL);
  g_queue_init(&self->waiting);
  g_queue_init(&self->under_way);
  return self;
}

void coalescer_free(struct coalescer *self) {
  if (!self)
    return;
  g_assert(!self->is_busy);
  pthread_mutex_destroy(&self->lock);
  g_free(self);
}

static void move_first(GQueue *from, GQueue *to) {
  g_queue_push_tail_link(to, g_queue_pop_head_link(from));
}

/* Ends the first of them. */
static void finish_first(GQueue *creates, const struct millrace_job *job, const struct millrace_error *error) {
  struct create *create = g_queue_pop_head_link(creates)->data;
  create->done(create->context, job, error);
  g_free(create);
}

static void fail(GQueue *creates, const struct millrace_error *error) {
  while (!g_queue_is_empty(creates))
    finish_first(creates, NULL, error);
}

static void fail_late(GQueue *creates, int64_t timeout_us) {
  struct millrace_error error;
  fault_set(&error, MILLRACE_DEADLINE_EXCEEDED, NULL, "the create was not sent: the calls before it took longer than its %.1f s",
            (double)timeout_us / G_USEC_PER_SEC);
  fail(creates, &error);
}

/* Moves what fits into one call from those that wait, and to `late` what came by `late_us` and has waited too long for it; with
 * the lock held. Returns the bytes of the call, 0 if there is none to make. */
static size_t take(struct coalescer *self, int64_t late_us, GQueue *late) {
  size_t bytes = 0;
  for (struct create *next; (next = g_queue_peek_head(&self->waiting)) && self->under_way.length < JOBS_MAX;) {
    if (next->began_us <= late_us) {
      move_first(&self->waiting, late);
      continue;
    }
    if (bytes > 0 && bytes + next->length > BYTES_MAX)
      break;
    bytes += next->length;
    move_first(&self->waiting, &self->under_way);
  }
  return bytes;
}

static void answered(void *context, struct box *take_box, void *response, const struct millrace_error *error);

/* By the one that has made the coalescer busy. */
static void send_next(struct coalescer *self, int64_t late_us) {
  GQueue late = G_QUEUE_INIT;
  pthread_mutex_lock(&self->lock);
  size_t bytes = take(self, late_us, &late);
  self->is_busy = bytes > 0;
  pthread_mutex_unlock(&self->lock);
  if (bytes > 0) {
    g_autoptr(GByteArray) request = g_byte_array_sized_new((guint)bytes);
    for (const GList *link = self->under_way.head; link; link = link->next) {
      const struct create *create = link->data;
      g_byte_array_append(request, create->request, (guint)create->length);
    }
    call_start_bytes(self->client, METHOD(JobService, CreateJobs, create_jobs), request->data, request->len, answered, self);
  }
  if (late.length > 0)
    fail_late(&late, self->timeout_us);
}

/* Why one create failed. The field is named as in a call of its own: nobody knows of the job's place in this one. */
static void fault_of(const Google__Rpc__Status *status, size_t place, struct millrace_error *out_error) {
  fault_from_status(out_error, status);
  g_autofree char *prefix = g_strdup_printf("jobs[%zu].", place);
  if (!g_str_has_prefix(out_error->field, prefix))
    return;
  g_autofree char *field = g_strconcat("job.", out_error->field + strlen(prefix), NULL);
  g_strlcpy(out_error->field, field, sizeof out_error->field);
}

static void finish_each(GQueue *creates, struct box *box, Millrace__V1__CreateOutcome **outcomes) {
  static const Millrace__V1__Job none = MILLRACE__V1__JOB__INIT;
  struct millrace_job job;
  convert_from_job(box, &none, &job);
  for (size_t i = 0; !g_queue_is_empty(creates); i++) {
    struct millrace_error error;
    if (outcomes[i]->error)
      fault_of(outcomes[i]->error, i, &error);
    job.id = outcomes[i]->id;
    job.existing = outcomes[i]->existing;
    finish_first(creates, outcomes[i]->error ? NULL : &job, outcomes[i]->error ? &error : NULL);
  }
}

/* The callbacks come before the next call, so that what they create goes with it. */
static void answered(void *context, struct box *take_box, void *response, const struct millrace_error *error) {
  struct coalescer *self = context;
  const Millrace__V1__CreateJobsResponse *answer = response;
  size_t count = self->under_way.length;
  if (!answer) {
    fail(&self->under_way, error);
  } else if (answer->n_outcomes != count) {
    struct millrace_error misfit;
    fault_set(&misfit, MILLRACE_INTERNAL, NULL, "the server has answered %zu of %zu creates", answer->n_outcomes, count);
    fail(&self->under_way, &misfit);
  } else {
    finish_each(&self->under_way, take_box, answer->outcomes);
  }
  box_unref(take_box);
  send_next(self, g_get_monotonic_time() - self->timeout_us);
}

void coalescer_create(struct coalescer *self, Millrace__V1__JobSpec *job,
                      void (*done)(void *context, const struct millrace_job *job, const struct millrace_error *error),
                      void *context) {
  Millrace__V1__CreateJobsRequest request = MILLRACE__V1__CREATE_JOBS_REQUEST__INIT;
  request.jobs = &job;
  request.n_jobs = 1;
  size_t length = millrace__v1__create_jobs_request__get_packed_size(&request);
  struct create *create = g_malloc(sizeof *create + length);
  *create = (struct create){
      .link = {.data = create}, .done = done, .context = context, .began_us = g_get_monotonic_time(), .length = length};
  millrace__v1__create_jobs_request__pack(&request, create->request);
  pthread_mutex_lock(&self->lock);
  g_queue_push_tail_link(&self->waiting, &create->link);
  bool was_busy = self->is_busy;
  self->is_busy = true;
  pthread_mutex_unlock(&self->lock);
  if (!was_busy)
    send_next(self, INT64_MIN); /* there was no call to wait for; and callbacks never come amid this function */
}
