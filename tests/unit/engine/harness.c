/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <pthread.h>

#include "store/check.h"
#include "store/format.h"

enum { PATIENCE_S = 60, SETTLE_TURNS_MAX = 10000 };

/* What a call is told, by another thread. */
struct answer {
  pthread_mutex_t mutex;
  pthread_cond_t change;
  bool done;
  bool failed;
  struct error error;
  struct arena *arena;
  ProtobufCMessage *response;
  const ProtobufCMessageDescriptor *type;
  GQueue events;
};

static ProtobufCMessage *copy_message(const ProtobufCMessage *message, struct arena *arena) {
  const size_t length = protobuf_c_message_get_packed_size(message);
  uint8_t *packed = g_malloc(length + 1);
  protobuf_c_message_pack(message, packed);
  ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, arena_protobuf(arena), length, packed);
  g_free(packed);
  return copy;
}

static void done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  struct answer *answer = request->context;
  pthread_mutex_lock(&answer->mutex);
  assert_false(answer->done);
  answer->done = true;
  answer->failed = error != NULL;
  if (error)
    answer->error = *error;
  else if (response)
    answer->response = copy_message(response, answer->arena);
  pthread_cond_broadcast(&answer->change);
  pthread_mutex_unlock(&answer->mutex);
}

static bool event(struct request *request, const ProtobufCMessage *message) {
  struct answer *answer = request->context;
  pthread_mutex_lock(&answer->mutex);
  g_queue_push_tail(&answer->events, copy_message(message, answer->arena));
  pthread_cond_broadcast(&answer->change);
  pthread_mutex_unlock(&answer->mutex);
  return true;
}

static struct answer *answer_new(struct arena *arena) {
  struct answer *answer = g_new0(struct answer, 1);
  pthread_mutex_init(&answer->mutex, NULL);
  pthread_cond_init(&answer->change, NULL);
  answer->arena = arena;
  return answer;
}

static void answer_free(struct answer *answer) {
  g_queue_clear(&answer->events);
  pthread_mutex_destroy(&answer->mutex);
  pthread_cond_destroy(&answer->change);
  g_free(answer);
}

/* Waits for the end, or an event if one is wanted. */
static void answer_wait(struct answer *answer, bool or_event) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  pthread_mutex_lock(&answer->mutex);
  while (!answer->done && !(or_event && !g_queue_is_empty(&answer->events)))
    assert_int_equal(pthread_cond_timedwait(&answer->change, &answer->mutex, &until), 0);
  pthread_mutex_unlock(&answer->mutex);
}

static struct request *submit(struct harness *harness, const char *name, const ProtobufCMessage *message, struct answer *answer) {
  const struct method *method = NULL;
  for (size_t i = 0; i < method_count && !method; i++)
    if (g_str_has_suffix(methods[i].path, name))
      method = &methods[i];
  assert_non_null(method);
  struct request *request = request_new(method, 0);
  request->message = copy_message(message, request->arena);
  request->done = done;
  request->event = event;
  request->context = answer;
  engine_submit(harness->engine, request);
  return request;
}

static void step(struct harness *harness) {
  engine_step(harness->engine);
  engine_sync(harness->engine);
}

/* Its response, or NULL. */
static const void *finish(struct harness *harness, struct request *request) {
  struct answer *answer = request->context;
  while (harness->is_stepped && !answer->done)
    step(harness);
  answer_wait(answer, false);
  const void *response = answer->failed ? NULL : answer->response;
  if (answer->failed)
    harness->error = answer->error;
  request_unref(request);
  answer_free(answer);
  return response;
}

const void *harness_call(struct harness *harness, const char *method, const ProtobufCMessage *message) {
  return finish(harness, submit(harness, method, message, answer_new(harness->arena)));
}

void harness_call_both(struct harness *harness, const char *const methods_called[2], const ProtobufCMessage *const messages[2],
                       const void *out_responses[2]) {
  struct request *requests[2];
  for (int i = 0; i < 2; i++)
    requests[i] = submit(harness, methods_called[i], messages[i], answer_new(harness->arena));
  for (int i = 0; i < 2; i++)
    out_responses[i] = finish(harness, requests[i]);
}

struct harness_stream {
  struct answer *answer;
  struct request *request;
};

struct harness_stream *harness_stream_open(struct harness *harness, const char *method, const ProtobufCMessage *message) {
  struct harness_stream *stream = g_new0(struct harness_stream, 1);
  stream->answer = answer_new(arena_new(0));
  stream->request = submit(harness, method, message, stream->answer);
  return stream;
}

const void *harness_stream_next(struct harness_stream *stream) {
  answer_wait(stream->answer, true);
  pthread_mutex_lock(&stream->answer->mutex);
  const void *message = g_queue_pop_head(&stream->answer->events);
  pthread_mutex_unlock(&stream->answer->mutex);
  return message;
}

void harness_stream_close(struct harness *harness, struct harness_stream *stream) {
  engine_cancel(harness->engine, stream->request);
  answer_wait(stream->answer, false);
  request_unref(stream->request);
  arena_free(stream->answer->arena);
  answer_free(stream->answer);
  g_free(stream);
}

static void drop_bytes(void *context, const struct id *session, uint64_t connection, uint8_t *take_bytes, size_t length) {
  (void)context, (void)session, (void)connection, (void)length;
  g_free(take_bytes);
}

void harness_open(struct harness *harness) {
  harness_open_with(harness, &(struct engine_options){.seed = 1});
}

static int64_t wall_ms(void *context) {
  return ((const struct harness *)context)->now_ms;
}

static int64_t monotonic_ms(void *context) {
  return ((const struct harness *)context)->now_ms - HARNESS_START_MS;
}

void harness_open_stepped(struct harness *harness) {
  *harness = (struct harness){
      .store = store_open_memory(), .arena = arena_new(0), .is_stepped = true, .now_ms = HARNESS_START_MS + 1000};
  assert_int_equal(store_format_open(harness->store, 1, 1, &harness->error), STATUS_OK);
  harness_restart(harness);
}

void harness_restart(struct harness *harness) {
  if (harness->engine) {
    engine_stop(harness->engine);
    engine_free(harness->engine);
  }
  const struct engine_options options = {
      .seed = 1,
      .store = harness->store,
      .transport.send = drop_bytes,
      .wall_ms = wall_ms,
      .monotonic_ms = monotonic_ms,
      .clock_context = harness,
      /* Workers of a test are silent but for what it says: time passes at one go. */
      .session_timeout_ms = 365 * DAY_MS,
      .heartbeat_ms = 365 * DAY_MS,
  };
  assert_int_equal(engine_open(&options, &harness->engine, &harness->error), STATUS_OK);
}

void harness_pass(struct harness *harness, int64_t ms) {
  harness->now_ms += ms;
  harness_settle(harness);
}

void harness_settle(struct harness *harness) {
  for (int i = 0; i < SETTLE_TURNS_MAX; i++) {
    const int64_t sleep_ms = engine_step(harness->engine);
    engine_sync(harness->engine);
    if (sleep_ms > 0)
      return;
  }
  fail_msg("the engine does not come to rest");
}

static void problem(void *context, const char *sentence) {
  (void)context;
  print_error("%s\n", sentence);
}

void harness_check_store(struct harness *harness) {
  const struct check_listener listener = {.problem = problem};
  struct check_report report;
  assert_int_equal(store_check(harness->store, &listener, &report, &harness->error), STATUS_OK);
  assert_int_equal(report.problems, 0);
}

void harness_open_with(struct harness *harness, const struct engine_options *wanted) {
  *harness = (struct harness){.store = wanted->store ? wanted->store : store_open_memory(), .arena = arena_new(0)};
  struct engine_options options = *wanted;
  options.store = harness->store;
  options.transport.send = drop_bytes;
  assert_int_equal(engine_open(&options, &harness->engine, &harness->error), STATUS_OK);
  engine_start(harness->engine);
}

void harness_close(struct harness *harness) {
  engine_stop(harness->engine);
  engine_free(harness->engine);
  store_close(harness->store);
  arena_free(harness->arena);
}

const Millrace__V1__QueueCounts *harness_counts(struct harness *harness, char *queue) {
  Millrace__V1__GetQueueRequest message = MILLRACE__V1__GET_QUEUE_REQUEST__INIT;
  message.name = queue;
  const Millrace__V1__GetQueueResponse *response = harness_call(harness, "QueueService/GetQueue", &message.base);
  assert_non_null(response);
  return response->queue->counts;
}

struct id harness_add_worker(struct harness *harness, char *queue, uint32_t concurrency) {
  return harness_add_worker_for(harness, queue, "*", concurrency, 0);
}

struct id harness_add_worker_for(struct harness *harness, char *queue, char *task, uint32_t concurrency, uint32_t prefetch) {
  Millrace__V1__WorkerQueue served = MILLRACE__V1__WORKER_QUEUE__INIT;
  Millrace__V1__WorkerQueue *queues[] = {&served};
  Millrace__V1__WorkerTask handled = MILLRACE__V1__WORKER_TASK__INIT;
  Millrace__V1__WorkerTask *tasks[] = {&handled};
  Millrace__V1__RegisterRequest message = MILLRACE__V1__REGISTER_REQUEST__INIT;
  served.name = queue;
  handled.name = task;
  message.n_queues = message.n_tasks = 1;
  message.queues = queues;
  message.tasks = tasks;
  message.concurrency = concurrency;
  message.prefetch = prefetch;
  const Millrace__V1__RegisterResponse *response = harness_call(harness, "WorkerService/Register", &message.base);
  assert_non_null(response);
  struct id session;
  assert_true(id_parse(response->session_id, &session));
  g_strlcpy(harness->token, response->session_token, sizeof harness->token);
  engine_session_connected(harness->engine, &session, 1, "nng");
  Millrace__V1__Heartbeat heartbeat = MILLRACE__V1__HEARTBEAT__INIT;
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  reports.heartbeat = &heartbeat;
  harness_report(harness, &session, &reports);
  return session;
}

void harness_report(struct harness *harness, const struct id *session, const Millrace__V1__Reports *reports) {
  uint8_t *packed = g_malloc(millrace__v1__reports__get_packed_size(reports) + 1);
  engine_session_reports(harness->engine, session, 1, packed, millrace__v1__reports__pack(reports, packed));
  g_free(packed);
  if (harness->is_stepped)
    step(harness);
}

void harness_report_one(struct harness *harness, const struct id *session, uint64_t report_seq, char *job, uint32_t delivery,
                        Millrace__V1__Report *report) {
  Millrace__V1__Reports reports = MILLRACE__V1__REPORTS__INIT;
  report->job_id = job;
  report->delivery = delivery;
  reports.report_seq = report_seq;
  reports.n_reports = 1;
  reports.reports = &report;
  harness_report(harness, session, &reports);
}

void harness_succeed(struct harness *harness, const struct id *session, uint64_t report_seq, char *job, uint32_t delivery) {
  Millrace__V1__Succeeded succeeded = MILLRACE__V1__SUCCEEDED__INIT;
  Millrace__V1__Report report = MILLRACE__V1__REPORT__INIT;
  report.event_case = MILLRACE__V1__REPORT__EVENT_SUCCEEDED;
  report.succeeded = &succeeded;
  harness_report_one(harness, session, report_seq, job, delivery, &report);
}
