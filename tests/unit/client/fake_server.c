/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_server.h"

#include <glib.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "sync.h"
#include "testing.h"

enum { HEARTBEAT_MS = 200, SILENCE_S = 30 };

struct fake_server {
  grpc_server *grpc;
  grpc_completion_queue *queue;
  GThread *thread;
  char *address;
  nng_socket jobs;
  nng_socket reports;
  uint16_t jobs_port, reports_port;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool is_joined;
  nng_pipe jobs_pipe, reports_pipe;
  int refuse_code;
  unsigned refuse_times;
  bool forgets;
  bool was_quieted;
  bool is_deregistered;
  unsigned registers;
  unsigned get_jobs;
  bool holds;                /* creates are not answered */
  unsigned create_job_calls; /* CreateJob */
  GArray *create_sizes;      /* unsigned: the number of jobs of each CreateJobs */
};

const char *fake_job_id(unsigned number) {
  static char id[40];
  g_snprintf(id, sizeof id, "00000000-0000-7000-8000-%012u", number);
  return id;
}

/* ---- unary calls ---- */

/* One call, in two steps: its message is read, its answer is written. */
struct fake_call {
  grpc_call *call;
  grpc_call_details details;
  grpc_metadata_array metadata;
  grpc_byte_buffer *request;
  grpc_byte_buffer *response;
  int step;
  int cancelled;
};

static grpc_byte_buffer *pack(const void *message) {
  grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
  protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
  grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

static void expect_call(struct fake_server *server) {
  struct fake_call *call = g_new0(struct fake_call, 1);
  grpc_call_details_init(&call->details);
  grpc_metadata_array_init(&call->metadata);
  grpc_server_request_call(server->grpc, &call->call, &call->details, &call->metadata, server->queue, server->queue, call);
}

static grpc_slice details_of(int code, const char *field) {
  Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
  Google__Rpc__ErrorInfo__MetadataEntry entry = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
  Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&entry};
  Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
  Google__Rpc__BadRequest__FieldViolation violation = GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
  Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
  Google__Protobuf__Any any[2] = {GOOGLE__PROTOBUF__ANY__INIT, GOOGLE__PROTOBUF__ANY__INIT};
  Google__Protobuf__Any *list[] = {&any[0], &any[1]};
  Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
  uint8_t first[256], second[256];
  info.reason = (char *)"JOB_DELETED";
  entry.key = (char *)"subject";
  entry.value = (char *)"some-job";
  info.metadata = entries;
  info.n_metadata = 1;
  violation.field = (char *)field;
  bad.field_violations = violations;
  bad.n_field_violations = 1;
  any[0].type_url = (char *)"type.googleapis.com/google.rpc.ErrorInfo";
  any[0].value = (ProtobufCBinaryData){google__rpc__error_info__pack(&info, first), first};
  any[1].type_url = (char *)"type.googleapis.com/google.rpc.BadRequest";
  any[1].value = (ProtobufCBinaryData){google__rpc__bad_request__pack(&bad, second), second};
  status.code = code;
  status.message = (char *)"no such job";
  status.details = list;
  status.n_details = 2;
  grpc_slice slice = grpc_slice_malloc(google__rpc__status__get_packed_size(&status));
  google__rpc__status__pack(&status, GRPC_SLICE_START_PTR(slice));
  return slice;
}

static int answer_register(struct fake_server *server, const void *bytes, size_t length, grpc_byte_buffer **out) {
  Millrace__V1__RegisterRequest *request = millrace__v1__register_request__unpack(NULL, length, bytes);
  Millrace__V1__RegisterResponse response = MILLRACE__V1__REGISTER_RESPONSE__INIT;
  Google__Protobuf__Duration heartbeat = GOOGLE__PROTOBUF__DURATION__INIT;
  Google__Protobuf__Duration silence = GOOGLE__PROTOBUF__DURATION__INIT;
  char id[40], token[16];
  bool resumes = *request->resume_session_id != '\0';
  millrace__v1__register_request__free_unpacked(request, NULL);
  server->registers++;
  if (resumes && server->forgets) {
    server->forgets = false;
    return GRPC_STATUS_NOT_FOUND;
  }
  g_snprintf(id, sizeof id, "00000000-0000-7000-9000-%012u", resumes ? 1 : server->registers);
  g_snprintf(token, sizeof token, "token");
  heartbeat.nanos = HEARTBEAT_MS * 1000000;
  silence.seconds = SILENCE_S;
  response.session_id = id;
  response.session_token = token;
  response.resumed = resumes;
  response.scheme = (char *)"ws";
  response.port = server->jobs_port;
  response.jobs_path = (char *)"/jobs";
  response.reports_path = (char *)"/reports";
  response.heartbeat_interval = &heartbeat;
  response.silence_timeout = &silence;
  *out = pack(&response);
  return GRPC_STATUS_OK;
}

/* How the next call is to be refused; GRPC_STATUS_OK: not at all. */
static int refusal(struct fake_server *server) {
  if (server->refuse_times == 0)
    return GRPC_STATUS_OK;
  server->refuse_times--;
  return server->refuse_code;
}

static void wait_while_held(struct fake_server *server) {
  pthread_cond_broadcast(&server->changed);
  while (server->holds)
    pthread_cond_wait(&server->changed, &server->lock);
}

static int answer_create_job(struct fake_server *server, const void *bytes, size_t length, grpc_byte_buffer **out) {
  server->create_job_calls++;
  wait_while_held(server);
  int code = refusal(server);
  if (code != GRPC_STATUS_OK)
    return code;
  Millrace__V1__CreateJobRequest *request = millrace__v1__create_job_request__unpack(NULL, length, bytes);
  Millrace__V1__CreateJobResponse response = MILLRACE__V1__CREATE_JOB_RESPONSE__INIT;
  Millrace__V1__Job job = MILLRACE__V1__JOB__INIT;
  job.id = request->job->id;
  job.task = request->job->task;
  response.job = &job;
  *out = pack(&response);
  millrace__v1__create_job_request__free_unpacked(request, NULL);
  return GRPC_STATUS_OK;
}

/* Free with google__rpc__status__free_unpacked. */
static Google__Rpc__Status *refused_item(const char *list, unsigned place) {
  g_autofree char *field = g_strdup_printf("%s[%u].task", list, place);
  grpc_slice packed = details_of(GRPC_STATUS_INVALID_ARGUMENT, field);
  Google__Rpc__Status *status = google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(packed), GRPC_SLICE_START_PTR(packed));
  grpc_slice_unref(packed);
  return status;
}

/* What becomes of jobs by their tasks: "bad" is refused; a "forgotten" at the end has no outcome, a "doubled" has two. */
struct outcomes {
  size_t count;
  Millrace__V1__CreateOutcome **list;
};

static struct outcomes outcomes_new(const char *list, Millrace__V1__JobSpec *const *jobs, size_t count) {
  const char *last = count > 0 ? jobs[count - 1]->task : "";
  struct outcomes outcomes = {count, g_new(Millrace__V1__CreateOutcome *, count + 1)};
  outcomes.count += (size_t)(strcmp(last, "doubled") == 0) - (size_t)(strcmp(last, "forgotten") == 0);
  for (unsigned i = 0; i < outcomes.count; i++) {
    const Millrace__V1__JobSpec *job = jobs[MIN(i, count - 1)];
    outcomes.list[i] = g_new(Millrace__V1__CreateOutcome, 1);
    millrace__v1__create_outcome__init(outcomes.list[i]);
    outcomes.list[i]->id = job->id;
    if (strcmp(job->task, "bad") == 0)
      outcomes.list[i]->error = refused_item(list, i);
  }
  return outcomes;
}

static void outcomes_free(struct outcomes *outcomes) {
  for (size_t i = 0; i < outcomes->count; i++) {
    google__rpc__status__free_unpacked(outcomes->list[i]->error, NULL);
    g_free(outcomes->list[i]);
  }
  g_free(outcomes->list);
}

/* CreateJobs; and CreateJobsStream, whose messages look the same, with one message. */
static int answer_create_jobs(struct fake_server *server, const void *bytes, size_t length, grpc_byte_buffer **out) {
  Millrace__V1__CreateJobsRequest *request = millrace__v1__create_jobs_request__unpack(NULL, length, bytes);
  unsigned size = (unsigned)request->n_jobs;
  g_array_append_val(server->create_sizes, size);
  wait_while_held(server);
  int code = refusal(server);
  if (code == GRPC_STATUS_OK) {
    struct outcomes outcomes = outcomes_new("jobs", request->jobs, size);
    Millrace__V1__CreateJobsResponse response = MILLRACE__V1__CREATE_JOBS_RESPONSE__INIT;
    response.outcomes = outcomes.list;
    response.n_outcomes = outcomes.count;
    *out = pack(&response);
    outcomes_free(&outcomes);
  }
  millrace__v1__create_jobs_request__free_unpacked(request, NULL);
  return code;
}

static int answer_create_batch(const void *bytes, size_t length, grpc_byte_buffer **out) {
  Millrace__V1__CreateBatchRequest *request = millrace__v1__create_batch_request__unpack(NULL, length, bytes);
  struct outcomes outcomes = outcomes_new("items", request->items, request->n_items);
  Millrace__V1__CreateBatchResponse response = MILLRACE__V1__CREATE_BATCH_RESPONSE__INIT;
  Millrace__V1__Batch batch = MILLRACE__V1__BATCH__INIT;
  batch.id = request->id;
  response.batch = &batch;
  response.outcomes = outcomes.list;
  response.n_outcomes = outcomes.count;
  *out = pack(&response);
  outcomes_free(&outcomes);
  millrace__v1__create_batch_request__free_unpacked(request, NULL);
  return GRPC_STATUS_OK;
}

static int answer_add_batch_items(struct fake_server *server, const void *bytes, size_t length, grpc_byte_buffer **out) {
  Millrace__V1__AddBatchItemsRequest *request = millrace__v1__add_batch_items_request__unpack(NULL, length, bytes);
  wait_while_held(server);
  struct outcomes outcomes = outcomes_new("items", request->items, request->n_items);
  Millrace__V1__AddBatchItemsResponse response = MILLRACE__V1__ADD_BATCH_ITEMS_RESPONSE__INIT;
  response.outcomes = outcomes.list;
  response.n_outcomes = outcomes.count;
  *out = pack(&response);
  outcomes_free(&outcomes);
  millrace__v1__add_batch_items_request__free_unpacked(request, NULL);
  return GRPC_STATUS_OK;
}

/* The answer to the call, with the lock held. */
static int answer(struct fake_server *server, const char *method, const void *bytes, size_t length, grpc_byte_buffer **out) {
  if (g_str_has_suffix(method, "/Register"))
    return answer_register(server, bytes, length, out);
  if (g_str_has_suffix(method, "/CreateJob"))
    return answer_create_job(server, bytes, length, out);
  if (g_str_has_suffix(method, "/CreateJobs") || g_str_has_suffix(method, "/CreateJobsStream"))
    return answer_create_jobs(server, bytes, length, out);
  if (g_str_has_suffix(method, "/CreateBatch"))
    return answer_create_batch(bytes, length, out);
  if (g_str_has_suffix(method, "/AddBatchItems"))
    return answer_add_batch_items(server, bytes, length, out);
  if (g_str_has_suffix(method, "/GetJob")) {
    Millrace__V1__GetJobResponse response = MILLRACE__V1__GET_JOB_RESPONSE__INIT;
    Millrace__V1__Job job = MILLRACE__V1__JOB__INIT;
    server->get_jobs++;
    int code = refusal(server);
    if (code != GRPC_STATUS_OK)
      return code;
    job.id = (char *)"found";
    response.job = &job;
    *out = pack(&response);
    return GRPC_STATUS_OK;
  }
  if (g_str_has_suffix(method, "/QuietWorker"))
    server->was_quieted = true;
  if (g_str_has_suffix(method, "/Deregister"))
    server->is_deregistered = true;
  *out = grpc_raw_byte_buffer_create(NULL, 0);
  return GRPC_STATUS_OK;
}

static void read_request(struct fake_server *server, struct fake_call *call) {
  expect_call(server);
  call->step = 1;
  grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->request};
  grpc_call_start_batch(call->call, &op, 1, call, NULL);
}

static void write_answer(struct fake_server *server, struct fake_call *call) {
  grpc_byte_buffer_reader reader;
  grpc_slice slice = grpc_empty_slice();
  if (call->request && grpc_byte_buffer_reader_init(&reader, call->request)) {
    slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
  }
  g_autofree char *method = grpc_slice_to_c_string(call->details.method);
  pthread_mutex_lock(&server->lock);
  int code = answer(server, method, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), &call->response);
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
  grpc_slice_unref(slice);
  grpc_slice message = grpc_slice_from_static_string("no such job");
  grpc_metadata trailer = {.key = grpc_slice_from_static_string("grpc-status-details-bin"), .value = details_of(code, "id")};
  call->step = 2;
  grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                    {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                     .data.send_status_from_server = {.status = (grpc_status_code)code,
                                                      .status_details = code ? &message : NULL,
                                                      .trailing_metadata_count = code != 0,
                                                      .trailing_metadata = &trailer}},
                    {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &call->cancelled},
                    {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->response}};
  grpc_call_start_batch(call->call, ops, call->response ? 4 : 3, call, NULL);
  grpc_slice_unref(trailer.value);
}

static void call_free(struct fake_call *call) {
  if (call->call)
    grpc_call_unref(call->call);
  grpc_call_details_destroy(&call->details);
  grpc_metadata_array_destroy(&call->metadata);
  grpc_byte_buffer_destroy(call->request);
  grpc_byte_buffer_destroy(call->response);
  g_free(call);
}

static void *serve(void *data) {
  struct fake_server *server = data;
  bool is_down = false;
  for (;;) {
    grpc_event event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    if (event.type == GRPC_QUEUE_SHUTDOWN)
      return NULL;
    struct fake_call *call = event.tag;
    if (!call) {
      /* The server has shut down: nothing may be started on the queue any more. */
      is_down = true;
      grpc_completion_queue_shutdown(server->queue);
    } else if (call->step == 0 && event.success && !is_down) {
      read_request(server, call);
    } else if (call->step == 1 && call->request && !is_down) {
      write_answer(server, call);
    } else {
      call_free(call);
    }
  }
}

/* ---- the session ---- */

static void pipe_changed(nng_pipe pipe, nng_pipe_ev event, void *data) {
  struct fake_server *server = data;
  pthread_mutex_lock(&server->lock);
  bool is_jobs = nng_socket_id(nng_pipe_socket(pipe)) == nng_socket_id(server->jobs);
  nng_pipe *place = is_jobs ? &server->jobs_pipe : &server->reports_pipe;
  if (event == NNG_PIPE_EV_ADD_POST)
    *place = pipe;
  else if (place->id == pipe.id)
    *place = (nng_pipe)NNG_PIPE_INITIALIZER;
  server->is_joined = server->jobs_pipe.id > 0 && server->reports_pipe.id > 0;
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

static uint16_t listen_on(struct fake_server *server, nng_socket socket, const char *path, uint16_t port) {
  g_autofree char *url = g_strdup_printf("ws://127.0.0.1:%u%s", port, path);
  nng_listener listener;
  nng_sockaddr address;
  nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, pipe_changed, server);
  nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, pipe_changed, server);
  g_assert(nng_listen(socket, url, &listener, 0) == 0);
  g_assert(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address) == 0);
  return GUINT16_FROM_BE(address.s_in.sa_port);
}

struct fake_server *fake_server_open(void) {
  struct fake_server *server = g_new0(struct fake_server, 1);
  grpc_init();
  pthread_mutex_init(&server->lock, NULL);
  pthread_cond_init(&server->changed, NULL);
  server->create_sizes = g_array_new(FALSE, FALSE, sizeof(unsigned));
  g_assert(nng_push0_open(&server->jobs) == 0 && nng_pull0_open(&server->reports) == 0);
  server->jobs_port = listen_on(server, server->jobs, "/jobs", 0);
  server->reports_port = listen_on(server, server->reports, "/reports", server->jobs_port);
  nng_socket_set_ms(server->jobs, NNG_OPT_SENDTIMEO, FAKE_WAIT_MS);
  server->queue = grpc_completion_queue_create_for_next(NULL);
  server->grpc = grpc_server_create(NULL, NULL);
  grpc_server_register_completion_queue(server->grpc, server->queue, NULL);
  grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
  int port = grpc_server_add_http2_port(server->grpc, "127.0.0.1:0", credentials);
  grpc_server_credentials_release(credentials);
  server->address = g_strdup_printf("127.0.0.1:%d", port);
  grpc_server_start(server->grpc);
  expect_call(server);
  server->thread = g_thread_new("fake", serve, server);
  return server;
}

void fake_server_close(struct fake_server *server) {
  nng_close(server->jobs);
  nng_close(server->reports);
  grpc_server_shutdown_and_notify(server->grpc, server->queue, NULL);
  grpc_server_cancel_all_calls(server->grpc);
  g_thread_join(server->thread);
  grpc_server_destroy(server->grpc);
  grpc_completion_queue_destroy(server->queue);
  pthread_mutex_destroy(&server->lock);
  pthread_cond_destroy(&server->changed);
  g_array_unref(server->create_sizes);
  g_free(server->address);
  g_free(server);
  grpc_shutdown_blocking();
}

const char *fake_server_address(const struct fake_server *server) {
  return server->address;
}

void fake_server_refuse(struct fake_server *server, int code, unsigned times) {
  pthread_mutex_lock(&server->lock);
  server->refuse_code = code;
  server->refuse_times = times;
  pthread_mutex_unlock(&server->lock);
}

void fake_server_hold_creates(struct fake_server *server, bool hold) {
  pthread_mutex_lock(&server->lock);
  server->holds = hold;
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

void fake_server_wait_for_creates(struct fake_server *server, unsigned calls) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)FAKE_WAIT_MS * 1000;
  pthread_mutex_lock(&server->lock);
  while (server->create_sizes->len < calls && sync_wait_until(&server->changed, &server->lock, end_us))
    ;
  assert_int_equal(server->create_sizes->len, calls);
  pthread_mutex_unlock(&server->lock);
}

size_t fake_server_creates(struct fake_server *server, unsigned *out_sizes, size_t count) {
  pthread_mutex_lock(&server->lock);
  size_t calls = server->create_sizes->len;
  for (size_t i = 0; i < MIN(calls, count); i++)
    out_sizes[i] = g_array_index(server->create_sizes, unsigned, i);
  pthread_mutex_unlock(&server->lock);
  return calls;
}

void fake_server_refuse_sessions(struct fake_server *server) {
  nng_close(server->jobs);
  nng_close(server->reports);
}

void fake_server_forget_sessions(struct fake_server *server) {
  pthread_mutex_lock(&server->lock);
  server->forgets = true;
  pthread_mutex_unlock(&server->lock);
}

static unsigned read_count(struct fake_server *server, const unsigned *count) {
  pthread_mutex_lock(&server->lock);
  unsigned value = *count;
  pthread_mutex_unlock(&server->lock);
  return value;
}

unsigned fake_server_registers(struct fake_server *server) {
  return read_count(server, &server->registers);
}

unsigned fake_server_get_jobs(struct fake_server *server) {
  return read_count(server, &server->get_jobs);
}

unsigned fake_server_create_job_calls(struct fake_server *server) {
  return read_count(server, &server->create_job_calls);
}

static bool read_flag(struct fake_server *server, const bool *flag) {
  pthread_mutex_lock(&server->lock);
  bool result = *flag;
  pthread_mutex_unlock(&server->lock);
  return result;
}

bool fake_server_was_quieted(struct fake_server *server) {
  return read_flag(server, &server->was_quieted);
}

bool fake_server_is_deregistered(struct fake_server *server) {
  return read_flag(server, &server->is_deregistered);
}

static void send_deliveries(struct fake_server *server, const Millrace__V1__Deliveries *message) {
  size_t length = millrace__v1__deliveries__get_packed_size(message);
  g_autofree uint8_t *bytes = g_malloc(length + 1);
  millrace__v1__deliveries__pack(message, bytes);
  g_assert(nng_send(server->jobs, bytes, length, 0) == 0);
}

void fake_server_deliver(struct fake_server *server, uint64_t seq, unsigned first, unsigned count, const char *task) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  message.delivery_seq = seq;
  message.n_deliveries = count;
  message.deliveries = g_new0(Millrace__V1__Delivery *, count);
  for (unsigned i = 0; i < count; i++) {
    message.deliveries[i] = g_new(Millrace__V1__Delivery, 1);
    millrace__v1__delivery__init(message.deliveries[i]);
    message.deliveries[i]->job_id = g_strdup(fake_job_id(first + i));
    message.deliveries[i]->delivery = first + i;
    message.deliveries[i]->task = (char *)task;
    message.deliveries[i]->queue = (char *)"default";
    message.deliveries[i]->attempt = 1;
  }
  send_deliveries(server, &message);
  for (unsigned i = 0; i < count; i++) {
    g_free(message.deliveries[i]->job_id);
    g_free(message.deliveries[i]);
  }
  g_free(message.deliveries);
}

void fake_server_accept(struct fake_server *server, uint64_t report_seq) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  message.accepted_report_seq = report_seq;
  send_deliveries(server, &message);
}

void fake_server_accept_all(struct fake_server *server) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  uint8_t bytes[16];
  message.accepted_report_seq = UINT32_MAX;
  nng_send(server->jobs, bytes, millrace__v1__deliveries__pack(&message, bytes), NNG_FLAG_NONBLOCK);
}

void fake_server_command(struct fake_server *server, Millrace__V1__CommandKind kind, unsigned number) {
  Millrace__V1__Deliveries message = MILLRACE__V1__DELIVERIES__INIT;
  Millrace__V1__Command command = MILLRACE__V1__COMMAND__INIT;
  Millrace__V1__Command *commands[] = {&command};
  command.kind = kind;
  command.job_id = (char *)fake_job_id(number);
  command.delivery = number;
  message.commands = commands;
  message.n_commands = 1;
  send_deliveries(server, &message);
}

/* NULL: nothing came in time. */
static Millrace__V1__Reports *receive(struct fake_server *server, int ms) {
  void *bytes;
  size_t length;
  nng_socket_set_ms(server->reports, NNG_OPT_RECVTIMEO, ms);
  if (nng_recv(server->reports, &bytes, &length, NNG_FLAG_ALLOC) != 0)
    return NULL;
  Millrace__V1__Reports *reports = millrace__v1__reports__unpack(NULL, length, bytes);
  nng_free(bytes, length);
  return reports;
}

Millrace__V1__Reports *fake_server_next(struct fake_server *server, bool want_heartbeat) {
  for (;;) {
    Millrace__V1__Reports *reports = receive(server, FAKE_WAIT_MS);
    assert_non_null(reports);
    if ((reports->heartbeat != NULL) == want_heartbeat)
      return reports;
    assert_false(want_heartbeat); /* a heartbeat comes before anything else where one is wanted */
    millrace__v1__reports__free_unpacked(reports, NULL);
  }
}

Millrace__V1__Reports *fake_server_any(struct fake_server *server) {
  Millrace__V1__Reports *reports = receive(server, FAKE_WAIT_MS);
  assert_non_null(reports);
  return reports;
}

bool fake_server_is_quiet(struct fake_server *server, int ms) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)ms * 1000;
  while (g_get_monotonic_time() < end_us) {
    Millrace__V1__Reports *reports = receive(server, HEARTBEAT_MS);
    bool is_news = reports && !reports->heartbeat;
    if (reports)
      millrace__v1__reports__free_unpacked(reports, NULL);
    if (is_news)
      return false;
  }
  return true;
}

void fake_server_cut(struct fake_server *server) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)FAKE_WAIT_MS * 1000;
  pthread_mutex_lock(&server->lock);
  while (!server->is_joined && sync_wait_until(&server->changed, &server->lock, end_us))
    ;
  assert_true(server->is_joined);
  nng_pipe jobs = server->jobs_pipe;
  nng_pipe reports = server->reports_pipe;
  pthread_mutex_unlock(&server->lock);
  nng_pipe_close(jobs);
  nng_pipe_close(reports);
}
