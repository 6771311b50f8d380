/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's session, on the thread of millrace_worker_run:
 *
 *   register ──► dial ──► serve ──► broken ──► dial …         silent, refused, or broken twice in 10 s: register to resume;
 *      ▲                    │                                            NOT_FOUND: everything held is lost, a new session
 *      └── server away: back off, for ever                stop, drain: finish, give back, deregister
 *                                                         (server away: only as long as there is something to report) */
#include "worker.h"

#include <unistd.h>

#include "call.h"
#include "convert.h"
#include "fault.h"

enum {
  CONCURRENCY_DEFAULT = 10,
  STOP_GRACE_DEFAULT_MS = 30000,
  TERMINATE_GRACE_DEFAULT_MS = 10000,
  REGISTER_TIMEOUT_MS = 10000,
  BACKOFF_FIRST_MS = 200,
  BACKOFF_LAST_MS = 3000,
  BACKOFF_DOUBLINGS = 4,
  TWICE_WITHIN_US = 10 * 1000000,
  GOODBYE_MS = 5000, /* for the last reports to be accepted, after the grace */
  LOOK_WHILE_ENDING_MS = 50,
  REFUSALS_BEFORE_GRPC = 2,
};

#define WORKERS(name, stem) METHOD(WorkerService, name, stem)

static void say(const struct millrace_worker *worker, enum millrace_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(const struct millrace_worker *worker, enum millrace_log_level level, const char *format, ...) {
  if (!worker->options.log)
    return;
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *line = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  worker->options.log(worker->options.callback_context, level, line);
}

/* ---- life ---- */

static void handler_free(void *data) {
  struct handler *handler = data;
  g_free(handler->task);
  box_unref(handler->box);
  g_free(handler);
}

static void copy_lists(struct millrace_worker *worker, const struct millrace_worker_options *options) {
  static const struct millrace_worker_queue usual = {.name = "default"};
  bool has_queues = options->queue_count > 0;
  size_t count = has_queues ? options->queue_count : 1;
  struct millrace_worker_queue *queues = box_alloc(worker->box, count * sizeof *queues);
  for (size_t i = 0; i < count; i++) {
    queues[i] = has_queues ? options->queues[i] : usual;
    queues[i].name = box_strdup(worker->box, queues[i].name);
  }
  struct millrace_label *labels = box_alloc(worker->box, options->label_count * sizeof *labels);
  for (size_t i = 0; i < options->label_count; i++) {
    labels[i].key = box_strdup(worker->box, options->labels[i].key);
    labels[i].value = box_strdup(worker->box, options->labels[i].value);
  }
  worker->options.queues = queues;
  worker->options.queue_count = count;
  worker->options.labels = labels;
}

enum millrace_code millrace_worker_new(struct millrace_client *client, const struct millrace_worker_options *options,
                                       struct millrace_worker **out_worker, struct millrace_error *error) {
  static const struct millrace_worker_options none;
  if (!options)
    options = &none;
  const char *url = options->url ? options->url : g_getenv("MILLRACE_WORKER_URL");
  if (url && *url && !g_str_has_prefix(url, "ws://") && !g_str_has_prefix(url, "wss://"))
    return fault_set(error, MILLRACE_INVALID_ARGUMENT, "url", "'%s' is not ws://host:port (MILLRACE_WORKER_URL)", url);
  struct millrace_worker *worker = g_new0(struct millrace_worker, 1);
  worker->client = client;
  worker->box = box_new();
  worker->options = *options;
  worker->options.url = url && *url ? box_strdup(worker->box, url) : NULL;
  if (worker->options.concurrency == 0)
    worker->options.concurrency = CONCURRENCY_DEFAULT;
  if (worker->options.stop_grace_ms == 0)
    worker->options.stop_grace_ms = STOP_GRACE_DEFAULT_MS;
  if (worker->options.terminate_grace_ms == 0)
    worker->options.terminate_grace_ms = TERMINATE_GRACE_DEFAULT_MS;
  copy_lists(worker, options);
  worker->handlers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, handler_free);
  worker->pool = g_array_new(FALSE, FALSE, sizeof(pthread_t));
  pthread_mutex_init(&worker->lock, NULL);
  pthread_cond_init(&worker->news, NULL);
  pthread_cond_init(&worker->returned, NULL);
  pthread_cond_init(&worker->work, NULL);
  worker->session.reports_bytes_max = 1 << 20;
  reports_init(worker);
  *out_worker = worker;
  return MILLRACE_OK;
}

void millrace_worker_handle(struct millrace_worker *worker, const char *task, const struct millrace_task_options *options,
                            void (*run)(struct millrace_context *context, void *user), void *user) {
  g_assert(!worker->was_run);
  struct handler *handler = g_new0(struct handler, 1);
  handler->run = run;
  handler->user = user;
  handler->task = g_strdup(task);
  handler->box = box_new();
  if (options) {
    handler->retry = convert_retry(handler->box, options->retry);
    handler->attempt_timeout_ms = options->attempt_timeout_ms;
  }
  if (strcmp(task, "*") == 0)
    worker->any = handler;
  g_hash_table_replace(worker->handlers, handler->task, handler);
}

static void session_clear(struct session *session) {
  g_free(session->id);
  g_free(session->token);
  g_free(session->url);
  g_free(session->jobs_path);
  g_free(session->reports_path);
  session->id = session->token = session->url = session->jobs_path = session->reports_path = NULL;
}

void millrace_worker_free(struct millrace_worker *worker) {
  if (!worker)
    return;
  pool_stop(worker);
  stuck_stop(worker);
  pthread_mutex_lock(&worker->lock);
  intake_orphan_all_locked(worker);
  pthread_mutex_unlock(&worker->lock);
  reports_clear(worker);
  session_clear(&worker->session);
  g_array_unref(worker->pool);
  g_hash_table_unref(worker->handlers);
  pthread_mutex_destroy(&worker->lock);
  pthread_cond_destroy(&worker->news);
  pthread_cond_destroy(&worker->returned);
  pthread_cond_destroy(&worker->work);
  box_unref(worker->box);
  g_free(worker);
}

void millrace_worker_stop(struct millrace_worker *worker) {
  pthread_mutex_lock(&worker->lock);
  worker->stop_calls++;
  worker_wake_locked(worker);
  pthread_mutex_unlock(&worker->lock);
}

/* ---- stopping ---- */

static void ignore_answer(void *context, struct box *take_box, void *response, const struct millrace_error *error) {
  (void)context;
  (void)response;
  (void)error;
  box_unref(take_box);
}

static void go_quiet_locked(struct millrace_worker *worker) {
  Millrace__V1__QuietWorkerRequest request = MILLRACE__V1__QUIET_WORKER_REQUEST__INIT;
  request.session_id = worker->session.id;
  if (worker->session.id)
    call_start(worker->client, WORKERS(QuietWorker, quiet_worker), &request, 0, ignore_answer, NULL);
}

void worker_begin_stop_locked(struct millrace_worker *worker) {
  worker->is_releasing = true;
  say(worker, MILLRACE_LOG_INFO, "stopping: %u running", worker->running);
  go_quiet_locked(worker);
  intake_release_queued_locked(worker);
  reports_flush_locked(worker, true);
}

/* Tells what still runs to stop, waits for it a little, and gives back what does not. */
static void end_grace(struct millrace_worker *worker) {
  int64_t end_us = g_get_monotonic_time() + (int64_t)HANDLERS_RETURN_MS * 1000;
  pthread_mutex_lock(&worker->lock);
  intake_stop_running_locked(worker);
  while (worker->running > worker->orphans && sync_wait_until(&worker->returned, &worker->lock, end_us))
    ;
  intake_release_running_locked(worker);
  reports_flush_locked(worker, true);
  pthread_mutex_unlock(&worker->lock);
}

/* It says that all has stopped, and that what was not accepted is lost. */
static void deregister(struct millrace_worker *worker) {
  Millrace__V1__DeregisterRequest request = MILLRACE__V1__DEREGISTER_REQUEST__INIT;
  pthread_mutex_lock(&worker->lock);
  bool is_reported = !reports_are_pending_locked(worker);
  pthread_mutex_unlock(&worker->lock);
  if (!worker->session.id || !is_reported)
    return;
  request.session_id = worker->session.id;
  request.session_token = worker->session.token;
  struct box *box;
  void *response;
  if (call(worker->client, WORKERS(Deregister, deregister), &request, GOODBYE_MS, &box, &response, NULL) == MILLRACE_OK)
    box_unref(box);
}

/* How the session's thread sees the end coming. */
struct ending {
  bool begun;
  bool grace_is_over;
  int64_t grace_end_us;
  int64_t goodbye_us; /* since then only reports are waited for; 0: not yet */
};

/* True: all is done, deregister. */
static bool look_after_ending(struct millrace_worker *worker, struct ending *ending) {
  int64_t now_us = g_get_monotonic_time();
  pthread_mutex_lock(&worker->lock);
  int stop_calls = worker->stop_calls;
  bool is_draining = worker->is_draining;
  pthread_mutex_unlock(&worker->lock);
  if (stop_calls == 0 && !is_draining)
    return false;
  if (stop_calls > 0 && !ending->begun) {
    pthread_mutex_lock(&worker->lock);
    worker_begin_stop_locked(worker);
    pthread_mutex_unlock(&worker->lock);
    ending->begun = true;
    ending->grace_end_us = now_us + MAX(worker->options.stop_grace_ms, 0) * 1000;
  }
  pthread_mutex_lock(&worker->lock);
  bool is_idle = worker->running == worker->orphans && worker->queue.length == 0;
  bool is_reported = !reports_are_pending_locked(worker);
  pthread_mutex_unlock(&worker->lock);
  if (is_reported && (is_idle || ending->grace_is_over))
    return true;
  if (ending->begun && !is_idle && !ending->grace_is_over && (now_us >= ending->grace_end_us || stop_calls > 1)) {
    end_grace(worker);
    ending->grace_is_over = true;
    is_idle = true;
  }
  if ((is_idle && ending->begun) || ending->grace_is_over) {
    now_us = g_get_monotonic_time();
    if (ending->goodbye_us == 0)
      ending->goodbye_us = now_us;
    /* What ended early has the rest of the grace, too, unless that was ended. */
    int64_t from_us = stop_calls > 1 ? ending->goodbye_us : MAX(ending->goodbye_us, ending->grace_end_us);
    return now_us >= from_us + (int64_t)GOODBYE_MS * 1000;
  }
  return false;
}

/* Before the next try to connect. True: the worker has ended meanwhile. */
static bool back_off(struct millrace_worker *worker, struct ending *ending, int64_t ms) {
  int64_t end_us = g_get_monotonic_time() + ms * 1000;
  while (!look_after_ending(worker, ending)) {
    int64_t now_us = g_get_monotonic_time();
    if (now_us >= end_us)
      return false;
    pthread_mutex_lock(&worker->lock);
    bool is_ending = worker->stop_calls > 0 || worker->is_draining;
    int64_t look_us = is_ending ? MIN(end_us, now_us + LOOK_WHILE_ENDING_MS * 1000) : end_us;
    sync_wait_until(&worker->news, &worker->lock, look_us);
    pthread_mutex_unlock(&worker->lock);
  }
  return true;
}

/* ---- registering ---- */

static void name_tasks(const struct millrace_worker *worker, struct box *scratch, Millrace__V1__RegisterRequest *request) {
  GHashTableIter iterator;
  void *value;
  request->tasks = box_alloc(scratch, g_hash_table_size(worker->handlers) * sizeof(void *));
  g_hash_table_iter_init(&iterator, worker->handlers);
  while (g_hash_table_iter_next(&iterator, NULL, &value)) {
    const struct handler *handler = value;
    Millrace__V1__WorkerTask *task = MESSAGE(scratch, Millrace__V1__WorkerTask, worker_task);
    task->name = handler->task;
    task->retry_policy = handler->retry;
    task->attempt_timeout = convert_duration(scratch, handler->attempt_timeout_ms);
    request->tasks[request->n_tasks++] = task;
  }
}

static Millrace__V1__RegisterRequest *register_request(const struct millrace_worker *worker, struct box *scratch) {
  Millrace__V1__RegisterRequest *request = MESSAGE(scratch, Millrace__V1__RegisterRequest, register_request);
  const struct millrace_worker_options *options = &worker->options;
  request->n_queues = options->queue_count;
  request->queues = box_alloc(scratch, options->queue_count * sizeof(void *));
  for (size_t i = 0; i < options->queue_count; i++) {
    request->queues[i] = MESSAGE(scratch, Millrace__V1__WorkerQueue, worker_queue);
    request->queues[i]->name = convert_text(options->queues[i].name);
    request->queues[i]->weight = options->queues[i].weight;
  }
  name_tasks(worker, scratch, request);
  request->concurrency = options->concurrency;
  request->prefetch = options->prefetch;
  request->hostname = (char *)g_get_host_name();
  request->pid = (uint32_t)getpid();
  request->n_labels = options->label_count;
  request->labels =
      convert_labels(scratch, options->labels, options->label_count, &millrace__v1__register_request__labels_entry__descriptor);
  request->sdk = (char *)"millrace-c/" MILLRACE_VERSION;
  request->resume_session_id = convert_text(worker->session.id);
  request->resume_session_token = convert_text(worker->session.token);
  return request;
}

static char *url_of(const struct millrace_worker *worker, const Millrace__V1__RegisterResponse *response) {
  if (worker->options.url)
    return g_strdup(worker->options.url);
  g_autofree char *dialled = client_dialled_host(worker->client);
  return g_strdup_printf("%s://%s:%u", *response->scheme ? response->scheme : "ws", *response->host ? response->host : dialled,
                         response->port);
}

static void take_session_locked(struct millrace_worker *worker, const Millrace__V1__RegisterResponse *response) {
  struct session *session = &worker->session;
  struct session old = *session;
  int64_t heartbeat_ms = convert_from_duration(response->heartbeat_interval);
  int64_t silence_ms = convert_from_duration(response->silence_timeout);
  const Millrace__V1__WorkerLimits *limits = response->limits;
  *session = (struct session){
      .id = g_strdup(response->session_id),
      .token = g_strdup(*response->session_token ? response->session_token : old.token),
      .url = url_of(worker, response),
      .jobs_path = g_strdup(response->jobs_path),
      .reports_path = g_strdup(response->reports_path),
      .heartbeat_ms = heartbeat_ms > 0 ? heartbeat_ms : 5000,
      .silence_ms = silence_ms > 0 ? silence_ms : 15000,
      .reports_bytes_max = limits && limits->reports_bytes_max ? limits->reports_bytes_max : 1 << 20,
      .limits = {.result_bytes_max = limits && limits->result_bytes_max ? limits->result_bytes_max : 1 << 20,
                 .log_line_bytes_max = limits && limits->log_line_bytes_max ? limits->log_line_bytes_max : 4096,
                 .trace_bytes_max = limits && limits->trace_bytes_max ? limits->trace_bytes_max : 16384},
  };
  session_clear(&old);
}

/* No longer than to the next thing that a worker that stops has to do. */
static int64_t register_timeout_ms(const struct ending *ending) {
  if (!ending->begun)
    return REGISTER_TIMEOUT_MS;
  int64_t left_us = ending->grace_end_us - g_get_monotonic_time();
  return CLAMP(left_us / 1000, ending->goodbye_us ? GOODBYE_MS : 1, REGISTER_TIMEOUT_MS);
}

/* One try. NOT_FOUND: the session to resume is gone, and with it all that it held. */
static enum millrace_code register_once(struct millrace_worker *worker, const struct ending *ending,
                                        struct millrace_error *error) {
  struct box *scratch = box_new();
  struct box *box;
  Millrace__V1__RegisterResponse *response;
  enum millrace_code code = call(worker->client, WORKERS(Register, register), register_request(worker, scratch),
                                 register_timeout_ms(ending), &box, &response, error);
  box_unref(scratch);
  pthread_mutex_lock(&worker->lock);
  if (code == MILLRACE_OK) {
    bool resumed = response->resumed;
    if (worker->session.id && !resumed)
      intake_orphan_all_locked(worker);
    take_session_locked(worker, response);
    say(worker, MILLRACE_LOG_INFO, "%s session=%s server=%s", resumed ? "resumed" : "registered", worker->session.id,
        millrace_client_address(worker->client));
    box_unref(box);
  } else if (code == MILLRACE_NOT_FOUND && worker->session.id) {
    say(worker, MILLRACE_LOG_WARNING, "the session is gone: its jobs run elsewhere, those here are told to stop");
    intake_orphan_all_locked(worker);
    session_clear(&worker->session);
  }
  pthread_mutex_unlock(&worker->lock);
  return code;
}

static bool is_refusal(enum millrace_code code) {
  return code == MILLRACE_INVALID_ARGUMENT || code == MILLRACE_PERMISSION_DENIED || code == MILLRACE_UNAUTHENTICATED ||
         code == MILLRACE_UNIMPLEMENTED || code == MILLRACE_FAILED_PRECONDITION;
}

/* Tries until it is registered, refused (the code tells) or has ended (CANCELLED). */
static enum millrace_code register_until_done(struct millrace_worker *worker, struct ending *ending,
                                              struct millrace_error *error) {
  int64_t backoff_ms = BACKOFF_FIRST_MS;
  while (!look_after_ending(worker, ending)) {
    struct millrace_error fault;
    enum millrace_code code = register_once(worker, ending, &fault);
    if (code == MILLRACE_OK)
      return code;
    if (is_refusal(code))
      return fault_copy(error, &fault);
    if (code == MILLRACE_NOT_FOUND)
      continue;
    say(worker, MILLRACE_LOG_WARNING, "cannot register, trying again in %.1f s: %s", (double)backoff_ms / 1000, fault.message);
    if (back_off(worker, ending, backoff_ms + g_random_int_range(0, (gint32)backoff_ms / 4)))
      break;
    backoff_ms = MIN(backoff_ms * 2, BACKOFF_LAST_MS);
  }
  return MILLRACE_CANCELLED;
}

/* ---- a connection ---- */

static void link_broken(void *data) {
  struct millrace_worker *worker = data;
  pthread_mutex_lock(&worker->lock);
  worker->link_is_broken = true;
  worker_wake_locked(worker);
  pthread_mutex_unlock(&worker->lock);
}

static enum millrace_code dial(struct millrace_worker *worker, bool over_grpc, struct millrace_error *error) {
  const struct link_target target = {.client = worker->client,
                                     .url = worker->session.url,
                                     .jobs_path = worker->session.jobs_path,
                                     .reports_path = worker->session.reports_path,
                                     .session_id = worker->session.id,
                                     .session_token = worker->session.token};
  const struct link_events events = {worker, intake_received, reports_sent, link_broken};
  struct link *link = NULL;
  pthread_mutex_lock(&worker->lock);
  worker->link_is_broken = false;
  reports_restart_locked(worker);
  pthread_mutex_unlock(&worker->lock);
  enum millrace_code code = MILLRACE_OK;
  if (over_grpc)
    link = link_open_grpc(&target, &events);
  else
    code = link_open_nng(&target, &events, &link, error);
  if (code != MILLRACE_OK)
    return code;
  pthread_mutex_lock(&worker->lock);
  worker->link = link;
  worker->heard_us = g_get_monotonic_time();
  reports_flush_locked(worker, true);
  pthread_mutex_unlock(&worker->lock);
  return MILLRACE_OK;
}

static void hang_up(struct millrace_worker *worker) {
  pthread_mutex_lock(&worker->lock);
  struct link *link = worker->link;
  worker->link = NULL;
  while (worker->link_users > 0)
    pthread_cond_wait(&worker->news, &worker->lock);
  pthread_mutex_unlock(&worker->lock);
  link_close(link);
}

/* ---- serving ---- */

/* How long the session's thread may sleep. */
static int64_t next_look_ms_locked(struct millrace_worker *worker, int64_t next_heartbeat_us, const struct ending *ending) {
  int64_t started_ms = reports_started_locked(worker);
  int64_t ms = (next_heartbeat_us - g_get_monotonic_time()) / 1000 + 1;
  worker->session_sleeps = started_ms < 0 && worker->queue.length == 0;
  if (started_ms >= 0)
    ms = MIN(ms, started_ms);
  if (worker->queue.length > 0)
    ms = MIN(ms, STALL_MS);
  if (ending->begun || worker->is_draining)
    ms = MIN(ms, LOOK_WHILE_ENDING_MS);
  return CLAMP(ms, 1, 1000);
}

/* Works over the link until it breaks (false) or the worker has ended (true). */
static bool serve(struct millrace_worker *worker, struct ending *ending) {
  int64_t next_heartbeat_us = g_get_monotonic_time() + worker->session.heartbeat_ms * 1000;
  for (;;) {
    if (look_after_ending(worker, ending))
      return true;
    int64_t now_us = g_get_monotonic_time();
    pthread_mutex_lock(&worker->lock);
    if (now_us >= next_heartbeat_us) {
      worker->heartbeat_is_due = true;
      next_heartbeat_us = now_us + worker->session.heartbeat_ms * 1000;
    }
    bool is_silent = now_us - worker->heard_us > worker->session.silence_ms * 1000;
    if (is_silent)
      say(worker, MILLRACE_LOG_WARNING, "the server has been silent for %.0f s: joining again",
          (double)worker->session.silence_ms / 1000);
    if (is_silent || worker->link_is_broken) {
      pthread_mutex_unlock(&worker->lock);
      return false;
    }
    pool_look_for_stall_locked(worker);
    int64_t ms = next_look_ms_locked(worker, next_heartbeat_us, ending);
    reports_flush_locked(worker, true);
    if (!worker->link_is_broken)
      sync_wait_until(&worker->news, &worker->lock, g_get_monotonic_time() + ms * 1000);
    worker->session_sleeps = false;
    pthread_mutex_unlock(&worker->lock);
  }
}

/* What went wrong lately decides between dialling again and registering again. */
struct history {
  unsigned refusals; /* in a row */
  int64_t broken_us; /* the last time */
  bool over_grpc;
};

/* One connection. False: the worker has ended. *out_register: the next step is to register. */
static bool connect_and_serve(struct millrace_worker *worker, struct ending *ending, struct history *history,
                              bool *out_register) {
  struct millrace_error fault;
  if (dial(worker, history->over_grpc, &fault) != MILLRACE_OK) {
    say(worker, MILLRACE_LOG_WARNING, "%s", fault.message);
    history->refusals++;
    if (worker->options.transport == MILLRACE_TRANSPORT_AUTO && history->refusals >= REFUSALS_BEFORE_GRPC) {
      say(worker, MILLRACE_LOG_WARNING, "going on over gRPC");
      history->over_grpc = true;
    }
    *out_register = true;
    int64_t backoff_ms = MIN(BACKOFF_FIRST_MS << MIN(history->refusals - 1, BACKOFF_DOUBLINGS), BACKOFF_LAST_MS);
    return !back_off(worker, ending, backoff_ms);
  }
  say(worker, MILLRACE_LOG_INFO, "joined transport=%s", history->over_grpc ? "grpc" : "nng");
  history->refusals = 0;
  if (ending->begun) { /* the server may have been away when it was told to send no more */
    pthread_mutex_lock(&worker->lock);
    go_quiet_locked(worker);
    pthread_mutex_unlock(&worker->lock);
  }
  bool has_ended = serve(worker, ending);
  pthread_mutex_lock(&worker->lock);
  bool was_silent = !worker->link_is_broken;
  pthread_mutex_unlock(&worker->lock);
  hang_up(worker);
  if (has_ended)
    return false;
  int64_t now_us = g_get_monotonic_time();
  /* To dial a host that is gone takes as long as TCP likes, and a stop would wait for it: a call asks first whether it is there.
   */
  bool may_be_gone = was_silent || ending->begun;
  *out_register = may_be_gone || (history->broken_us && now_us - history->broken_us < TWICE_WITHIN_US);
  history->broken_us = now_us;
  say(worker, MILLRACE_LOG_WARNING, "the connection broke: joining again");
  return !*out_register || !back_off(worker, ending, BACKOFF_FIRST_MS);
}

enum millrace_code millrace_worker_run(struct millrace_worker *worker, struct millrace_error *error) {
  g_assert(!worker->was_run);
  worker->was_run = true;
  struct ending ending = {.begun = false};
  struct history history = {.over_grpc = worker->options.transport == MILLRACE_TRANSPORT_GRPC};
  bool must_register = true;
  bool goes_on = true;
  while (goes_on) {
    if (must_register) {
      enum millrace_code code = register_until_done(worker, &ending, error);
      if (code == MILLRACE_CANCELLED)
        break;
      if (code != MILLRACE_OK)
        return code;
    }
    goes_on = connect_and_serve(worker, &ending, &history, &must_register);
  }
  stuck_exit_if_cancelled(worker); /* to deregister would say that it has stopped */
  deregister(worker);
  say(worker, MILLRACE_LOG_INFO, "stopped");
  return MILLRACE_OK;
}
