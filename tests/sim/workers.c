/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c: worker processes that speak the packed protocol of docs/api.md over a network that loses, doubles and reorders, and
 * of which some are slow, silent, forgetful or liars. */
#include <string.h>

#include "model.h"

enum { HEARTBEAT_MS = 5000, SILENCE_MS = 60000 };

/* A delivery that the worker holds. */
struct held {
  struct id id;
  uint32_t delivery;
  uint64_t final_seq; /* of the message with its final report; 0: the handler still runs */
  int64_t done_ms;    /* monotonic: when the handler ends */
  bool started, asked_to_stop;
};

/* A message on its way: of the server to this worker, or a report that was not accepted yet. */
struct packet {
  uint64_t number; /* connection, or report_seq */
  GBytes *bytes;
};

struct worker {
  unsigned number;
  struct id session;
  char token[SESSION_TOKEN_BYTES_MAX + 1];
  bool registering, registered, joined, lost; /* lost: the server said that the session is gone */
  unsigned queues, tasks, concurrency;
  bool prefetches;
  uint64_t connection, received, report_seq, ping;
  int64_t heartbeat_ms, silent_until_ms;
  bool drains, quiet;
  bool forgot;         /* a delivery, which its heartbeats deny from now on */
  uint64_t idle_since; /* leases of its session when a heartbeat said that it holds nothing; UINT64_MAX: none did */
  GPtrArray *held;
  GQueue inbox, unaccepted;
};

static void packet_free(void *pointer) {
  struct packet *packet = pointer;
  g_bytes_unref(packet->bytes);
  g_free(packet);
}

static void push(GQueue *queue, uint64_t number, GBytes *take_bytes) {
  struct packet *packet = g_new(struct packet, 1);
  *packet = (struct packet){number, take_bytes};
  g_queue_push_tail(queue, packet);
}

void workers_start(struct sim *sim) {
  sim->staff = sim_once_in(sim, 3) ? 2 : WORKERS; /* with few, queues and tasks are at times served by nobody */
  for (unsigned i = 0; i < WORKERS; i++) {
    struct worker *worker = sim->workers[i] = g_new0(struct worker, 1);
    worker->number = i;
    worker->held = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&worker->inbox);
    g_queue_init(&worker->unaccepted);
  }
}

/* A process that starts anew. */
static void forget(struct worker *worker) {
  worker->registering = worker->registered = worker->joined = worker->lost = worker->drains = false;
  worker->quiet = worker->forgot = false;
  worker->idle_since = UINT64_MAX;
  worker->received = worker->report_seq = worker->ping = 0;
  worker->silent_until_ms = 0;
  g_ptr_array_set_size(worker->held, 0);
  g_queue_clear_full(&worker->inbox, packet_free);
  g_queue_clear_full(&worker->unaccepted, packet_free);
}

void workers_free(struct sim *sim) {
  for (unsigned i = 0; i < WORKERS; i++) {
    forget(sim->workers[i]);
    g_ptr_array_free(sim->workers[i]->held, TRUE);
    g_free(sim->workers[i]);
  }
}

static struct worker *worker_of(struct sim *sim, const struct id *session) {
  for (unsigned i = 0; i < WORKERS; i++)
    if (sim->workers[i]->registered && id_equal(&sim->workers[i]->session, session))
      return sim->workers[i];
  return NULL;
}

/* ---- what the engine says ---- */

/* Only jobs that run are sent, under their own number, to the session that has them. */
static void check_deliveries(struct sim *sim, const struct id *session, const Millrace__V1__Deliveries *message) {
  for (size_t i = 0; i < message->n_deliveries; i++) {
    const Millrace__V1__Delivery *delivery = message->deliveries[i];
    struct job *job = model_job_named(sim, delivery->job_id);
    struct given *given = job ? model_given(job, delivery->delivery) : NULL;
    if (!given || job->state != RUNNING || job->deliveries != delivery->delivery || !id_equal(&given->session, session)) {
      sim_fail(sim, "delivery %u of job %s was sent to session %s, and the job is %s", delivery->delivery, delivery->job_id,
               sim_id_text(sim, session), job ? state_names[job->state] : "not there");
      return;
    }
    given->seq = message->delivery_seq;
  }
}

void workers_receive(struct sim *sim, const struct id *session, uint64_t connection, const uint8_t *bytes, size_t length) {
  Millrace__V1__Deliveries *message = millrace__v1__deliveries__unpack(arena_protobuf(sim->arena), length, bytes);
  check_deliveries(sim, session, message);
  struct worker *worker = worker_of(sim, session);
  if (!worker || !worker->joined || worker->connection != connection)
    return;
  push(&worker->inbox, connection, g_bytes_new(bytes, length)); /* no dice here: in which order sessions are told is open */
}

bool workers_is_joined(struct sim *sim, const struct id *session, uint64_t connection) {
  const struct worker *worker = worker_of(sim, session);
  return worker && worker->joined && worker->connection == connection;
}

static bool serves(const struct worker *worker, const struct plan *plan) {
  return worker->queues >> plan->queue & 1 && worker->tasks >> plan->task & 1;
}

bool workers_serve(struct sim *sim, const struct plan *plan) {
  for (unsigned i = 0; i < WORKERS; i++) {
    const struct worker *worker = sim->workers[i];
    const struct model_session *session = worker->registered ? model_session_find(sim, &worker->session) : NULL;
    if (session && !session->closed && !session->quiet && serves(worker, plan) && !(session->refused & model_place(plan)))
      return true;
  }
  return false;
}

bool workers_wait_for(struct sim *sim, const struct plan *plan) {
  for (unsigned i = 0; i < WORKERS; i++) {
    struct worker *worker = sim->workers[i];
    const struct model_session *session = worker->joined ? model_session_find(sim, &worker->session) : NULL;
    if (session && !session->closed && !worker->quiet && session->running == 0 && worker->idle_since == session->leases &&
        g_queue_is_empty(&worker->unaccepted) && serves(worker, plan) && !(session->unknown & model_place(plan)))
      return true;
  }
  return false;
}

static void cut(struct sim *sim, struct worker *worker) {
  if (!worker->joined)
    return;
  sim->tally[TALLY_CUTS]++;
  worker->joined = false;
  engine_session_disconnected(sim->engine, &worker->session, worker->connection);
}

void workers_dropped(struct sim *sim, const struct id *session, uint64_t connection) {
  struct worker *worker = worker_of(sim, session);
  if (worker && worker->connection == connection)
    cut(sim, worker);
}

void workers_session_closed(struct sim *sim, const struct id *id) {
  struct worker *worker = worker_of(sim, id);
  struct model_session *session = model_session_find(sim, id);
  sim_trace(sim, "  session %s ended", sim_id_text(sim, id) + SHORT);
  sim->tally[TALLY_SESSIONS_LOST]++;
  if (worker)
    worker->lost = true;
  if (session)
    session->closed = true;
}

void workers_machine_died(struct sim *sim) {
  for (unsigned i = 0; i < WORKERS; i++) {
    struct worker *worker = sim->workers[i];
    worker->joined = worker->registering = false;
    if (sim_once_in(sim, 2)) /* else what had left still arrives */
      g_queue_clear_full(&worker->inbox, packet_free);
  }
}

/* ---- registering ---- */

static void register_answered(struct sim *sim, void *data, const struct error *error, const void *response) {
  const Millrace__V1__RegisterResponse *answer = response;
  struct worker *worker = sim->workers[*(unsigned *)data];
  if (error) {
    sim_fail(sim, "a worker was refused: %s", error->message);
    return;
  }
  worker->registering = false;
  worker->registered = true;
  id_parse(answer->session_id, &worker->session);
  g_strlcpy(worker->token, answer->session_token, sizeof worker->token);
  struct model_session *session = model_session_add(sim, &worker->session);
  session->queues = worker->queues;
  session->tasks = worker->tasks;
  session->concurrency = worker->concurrency;
  session->prefetches = worker->prefetches;
}

static void register_anew(struct sim *sim, struct worker *worker) {
  forget(worker);
  worker->registering = true;
  worker->queues = sim->draining ? (1 << QUEUES) - 1 : 1 + sim_roll(sim, (1 << QUEUES) - 1);
  worker->tasks = sim->draining || sim_once_in(sim, 2) ? (1 << TASKS) - 1 : 1 + sim_roll(sim, (1 << TASKS) - 1);
  unsigned prefetch = sim_once_in(sim, 4) ? sim_roll(sim, 4) : 0;
  Millrace__V1__RegisterRequest *message = NEW(sim, Millrace__V1__RegisterRequest, register_request);
  message->queues = arena_alloc(sim->arena, QUEUES * sizeof *message->queues);
  for (unsigned i = 0; i < QUEUES; i++) {
    if (!(worker->queues >> i & 1))
      continue;
    Millrace__V1__WorkerQueue *queue = NEW(sim, Millrace__V1__WorkerQueue, worker_queue);
    queue->name = (char *)queue_names[i];
    queue->weight = sim_roll(sim, 4);
    message->queues[message->n_queues++] = queue;
  }
  message->tasks = arena_alloc(sim->arena, TASKS * sizeof *message->tasks);
  bool all = worker->tasks == (1 << TASKS) - 1;
  for (unsigned i = 0; i < (all ? 1 : TASKS); i++) {
    if (!(worker->tasks >> i & 1))
      continue;
    Millrace__V1__WorkerTask *task = NEW(sim, Millrace__V1__WorkerTask, worker_task);
    task->name = (char *)(all ? "*" : task_names[i]);
    message->tasks[message->n_tasks++] = task;
  }
  message->concurrency = 1 + sim_roll(sim, 6);
  message->prefetch = prefetch;
  worker->concurrency = message->concurrency + prefetch;
  worker->prefetches = prefetch > 0;
  machine_call(sim, "WorkerService/Register", &message->base, register_answered, g_memdup2(&worker->number, sizeof(unsigned)));
}

static void deregister(struct sim *sim, struct worker *worker) {
  Millrace__V1__DeregisterRequest *message = NEW(sim, Millrace__V1__DeregisterRequest, deregister_request);
  message->session_id = sim_id_text(sim, &worker->session);
  message->session_token = worker->token;
  sim_trace(sim, "worker %u deregisters", worker->number);
  model_session_find(sim, &worker->session)->leaves = true;
  machine_call(sim, "WorkerService/Deregister", &message->base, NULL, NULL);
}

static void quieted(struct sim *sim, void *data, const struct error *error, const void *response) {
  (void)response;
  struct model_session *session = model_session_find(sim, data);
  if (!error)
    session->quiet = true;
}

static void quiet(struct sim *sim, struct worker *worker) {
  Millrace__V1__QuietWorkerRequest *message = NEW(sim, Millrace__V1__QuietWorkerRequest, quiet_worker_request);
  message->session_id = sim_id_text(sim, &worker->session);
  message->drain = sim_once_in(sim, 3);
  sim_trace(sim, "worker %u is to take no more", worker->number);
  worker->quiet = true;
  machine_call(sim, "WorkerService/QuietWorker", &message->base, quieted, g_memdup2(&worker->session, sizeof worker->session));
}

/* ---- reports ---- */

static void send_packed(struct sim *sim, const struct worker *worker, GBytes *bytes) {
  size_t length;
  const uint8_t *data = g_bytes_get_data(bytes, &length);
  engine_session_reports(sim->engine, &worker->session, worker->connection, data, length);
}

static GBytes *pack(const Millrace__V1__Reports *message) {
  size_t length = millrace__v1__reports__get_packed_size(message);
  uint8_t *packed = g_malloc(length + 1);
  millrace__v1__reports__pack(message, packed);
  return g_bytes_new_take(packed, length);
}

/* What it received, forgot and does not list. */
static void deny(struct sim *sim, const struct worker *worker) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct job *job = value;
    struct given *given = job->state == RUNNING ? model_given(job, job->deliveries) : NULL;
    if (given && given->unlisted && id_equal(&given->session, &worker->session))
      given->denied_over = worker->connection;
  }
}

static void heartbeat(struct sim *sim, struct worker *worker) {
  Millrace__V1__Heartbeat *beat = NEW(sim, Millrace__V1__Heartbeat, heartbeat);
  beat->received_up_to = worker->received;
  beat->ping = worker->ping;
  beat->held = arena_alloc(sim->arena, (worker->held->len + 1) * sizeof *beat->held);
  for (guint i = 0; i < worker->held->len; i++) {
    const struct held *held = g_ptr_array_index(worker->held, i);
    beat->held[i] = NEW(sim, Millrace__V1__HeldDelivery, held_delivery);
    beat->held[i]->job_id = sim_id_text(sim, &held->id);
    beat->held[i]->delivery = held->delivery;
  }
  beat->n_held = worker->held->len;
  Millrace__V1__Reports *message = NEW(sim, Millrace__V1__Reports, reports);
  message->heartbeat = beat;
  GBytes *bytes = pack(message);
  send_packed(sim, worker, bytes);
  g_bytes_unref(bytes);
  worker->heartbeat_ms = sim->monotonic_ms + HEARTBEAT_MS;
  const struct model_session *session = model_session_find(sim, &worker->session);
  worker->idle_since = worker->held->len || session->running ? UINT64_MAX : session->leases;
  if (worker->forgot)
    deny(sim, worker);
}

/* Some forget what they hold: the next heartbeat gives it up. */
static void lose_one(struct sim *sim, struct worker *worker, guint index) {
  const struct held *held = g_ptr_array_index(worker->held, index);
  struct job *job = model_job(sim, &held->id);
  struct given *given = job ? model_given(job, held->delivery) : NULL;
  if (given && id_equal(&given->session, &worker->session))
    worker->forgot = given->unlisted = true;
  g_ptr_array_remove_index(worker->held, index);
}

static void failed_event(struct sim *sim, const struct held *held, Millrace__V1__Report *report, struct said *said) {
  report->event_case = MILLRACE__V1__REPORT__EVENT_FAILED;
  report->failed = NEW(sim, Millrace__V1__Failed, failed);
  report->failed->error = NEW(sim, Millrace__V1__JobError, job_error);
  report->failed->error->type = "Boom";
  report->failed->error->message = "it went wrong";
  report->failed->cancelled = held->asked_to_stop;
  report->failed->permanent = sim_once_in(sim, 8);
  said->permanent = report->failed->permanent;
  if (sim_once_in(sim, 6)) {
    said->delay_ms = sim_roll(sim, 30000);
    report->failed->retry_after = sim_duration(sim, said->delay_ms);
  }
  if (sim_once_in(sim, 8))
    report->failed->max_attempts = said->attempts_max = 1 + sim_roll(sim, 5);
}

static void final_event(struct sim *sim, const struct held *held, Millrace__V1__Report *report, struct said *said) {
  unsigned roll = sim->draining ? 0 : sim_roll(sim, 20);
  *said = (struct said){.delay_ms = -1};
  if (roll < 10 && !(held->asked_to_stop && roll < 7)) {
    report->event_case = MILLRACE__V1__REPORT__EVENT_SUCCEEDED;
    report->succeeded = NEW(sim, Millrace__V1__Succeeded, succeeded);
    report->succeeded->result = NEW(sim, Millrace__V1__Payload, payload);
    report->succeeded->result->content_case = MILLRACE__V1__PAYLOAD__CONTENT_JSON;
    report->succeeded->result->json = "{\"done\":true}";
  } else if (roll < 16) {
    failed_event(sim, held, report, said);
  } else if (roll < 18) {
    report->event_case = MILLRACE__V1__REPORT__EVENT_SNOOZED;
    report->snoozed = NEW(sim, Millrace__V1__Snoozed, snoozed);
    said->delay_ms = sim_roll(sim, 40000);
    report->snoozed->delay = sim_duration(sim, said->delay_ms);
  } else {
    report->event_case = MILLRACE__V1__REPORT__EVENT_RELEASED;
    report->released = NEW(sim, Millrace__V1__Released, released);
    said->unknown_task = sim_once_in(sim, 4);
    if (said->unknown_task)
      report->released->reason = MILLRACE__V1__RELEASE_REASON__RELEASE_REASON_UNKNOWN_TASK;
  }
  said->event = (int)report->event_case;
}

static Millrace__V1__Report *report_of(struct sim *sim, const struct id *id, uint32_t delivery) {
  Millrace__V1__Report *report = NEW(sim, Millrace__V1__Report, report);
  report->job_id = sim_id_text(sim, id);
  report->delivery = delivery;
  return report;
}

/* A report about a delivery that is not the worker's, or not any more: it must change nothing. */
static Millrace__V1__Report *forged(struct sim *sim, const struct worker *worker) {
  const struct job *job = model_any(sim, RUNNING);
  if (!job)
    return NULL;
  bool mine = id_equal(&job->session, &worker->session);
  if (mine && job->deliveries < 2)
    return NULL;
  sim->tally[TALLY_FORGED]++;
  Millrace__V1__Report *report = report_of(sim, &job->id, mine ? job->deliveries - 1 : job->deliveries);
  struct said said;
  final_event(sim, &(struct held){.delivery = 0}, report, &said);
  return report;
}

static void speak_of(struct sim *sim, const struct worker *worker, struct held *held, Millrace__V1__Reports *message) {
  struct job *job = model_job(sim, &held->id);
  struct given *given = job ? model_given(job, held->delivery) : NULL;
  Millrace__V1__Report *report = report_of(sim, &held->id, held->delivery);
  if (held->done_ms > sim->monotonic_ms) {
    if (held->started && !sim_once_in(sim, 8))
      return;
    report->event_case = held->started ? MILLRACE__V1__REPORT__EVENT_PROGRESS : MILLRACE__V1__REPORT__EVENT_STARTED;
    if (held->started)
      report->progress = NEW(sim, Millrace__V1__Progress, progress);
    else
      report->started = NEW(sim, Millrace__V1__Started, started);
    held->started = true;
  } else {
    struct said said;
    final_event(sim, held, report, &said);
    held->final_seq = message->report_seq;
    if (given && id_equal(&given->session, &worker->session) && !given->said.event)
      given->said = said;
    struct model_session *session = model_session_find(sim, &worker->session);
    if (said.unknown_task && job && session)
      session->unknown |= model_place(job->plan);
    sim_trace(sim, "worker %u reports job %s delivery %u event %d", worker->number, report->job_id + SHORT, held->delivery,
              said.event);
  }
  message->reports[message->n_reports++] = report;
}

static void send_reports(struct sim *sim, struct worker *worker) {
  Millrace__V1__Reports *message = NEW(sim, Millrace__V1__Reports, reports);
  message->reports = arena_alloc(sim->arena, (worker->held->len + 2) * sizeof *message->reports);
  message->report_seq = worker->report_seq + 1;
  Millrace__V1__Report *lie = !sim->draining && sim_once_in(sim, 30) ? forged(sim, worker) : NULL;
  if (lie)
    message->reports[message->n_reports++] = lie;
  for (guint i = 0; i < worker->held->len; i++) {
    struct held *held = g_ptr_array_index(worker->held, i);
    if (!held->final_seq)
      speak_of(sim, worker, held, message);
  }
  if (message->n_reports == 0)
    return;
  worker->report_seq++;
  push(&worker->unaccepted, worker->report_seq, pack(message));
  struct packet *packet = g_queue_peek_tail(&worker->unaccepted);
  unsigned fate = sim->draining ? 99 : sim_roll(sim, 100);
  if (fate == 0) { /* the connection breaks before it arrives */
    cut(sim, worker);
    return;
  }
  if (fate == 1) /* it stays behind: the next one leaves a gap */
    sim->tally[TALLY_REORDERED]++;
  else
    send_packed(sim, worker, packet->bytes);
  if (fate == 2 || fate == 3) {
    sim->tally[TALLY_DUPLICATES]++;
    send_packed(sim, worker, ((struct packet *)g_queue_peek_head(&worker->unaccepted))->bytes);
  }
}

/* ---- the protocol ---- */

static void join(struct sim *sim, struct worker *worker) {
  worker->joined = true;
  worker->idle_since = UINT64_MAX;
  worker->connection = ++sim->connections;
  sim_trace(sim, "worker %u joins session %s", worker->number, sim_id_text(sim, &worker->session) + SHORT);
  engine_session_connected(sim->engine, &worker->session, worker->connection, "nng");
  heartbeat(sim, worker);
  for (GList *link = worker->unaccepted.head; link; link = link->next)
    send_packed(sim, worker, ((struct packet *)link->data)->bytes);
}

static void accepted(struct worker *worker, uint64_t seq) {
  struct packet *first;
  while ((first = g_queue_peek_head(&worker->unaccepted)) && first->number <= seq)
    packet_free(g_queue_pop_head(&worker->unaccepted));
  for (guint i = worker->held->len; i-- > 0;) {
    const struct held *held = g_ptr_array_index(worker->held, i);
    if (held->final_seq && held->final_seq <= seq)
      g_ptr_array_remove_index(worker->held, i);
  }
}

static void obey(struct sim *sim, struct worker *worker, const Millrace__V1__Command *command) {
  struct id id;
  worker->drains |= command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_DRAIN;
  if (!id_parse(command->job_id, &id))
    return;
  for (guint i = worker->held->len; i-- > 0;) {
    struct held *held = g_ptr_array_index(worker->held, i);
    if (!id_equal(&held->id, &id) || held->delivery != command->delivery)
      continue;
    if (command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_LOST) {
      lose_one(sim, worker, i);
    } else {
      held->asked_to_stop = true;
      if (command->kind == MILLRACE__V1__COMMAND_KIND__COMMAND_KIND_TERMINATE || sim_once_in(sim, 2))
        held->done_ms = sim->monotonic_ms;
    }
  }
}

static int64_t handler_ms(struct sim *sim) {
  if (sim_once_in(sim, 30))
    return sim_roll(sim, 2 * HOUR_MS);
  return sim_roll(sim, sim_once_in(sim, 10) ? 90000 : 3000);
}

static void read_message(struct sim *sim, struct worker *worker, GBytes *bytes) {
  size_t length;
  const uint8_t *data = g_bytes_get_data(bytes, &length);
  Millrace__V1__Deliveries *message = millrace__v1__deliveries__unpack(arena_protobuf(sim->arena), length, data);
  worker->ping = message->ping ? message->ping : worker->ping;
  if (message->accepted_report_seq)
    accepted(worker, message->accepted_report_seq);
  for (size_t i = 0; i < message->n_commands; i++)
    obey(sim, worker, message->commands[i]);
  if (message->delivery_seq <= worker->received)
    return;
  if (message->delivery_seq > worker->received + 1) {
    cut(sim, worker);
    return;
  }
  worker->received = message->delivery_seq;
  for (size_t i = 0; i < message->n_deliveries; i++) {
    struct held *held = g_new0(struct held, 1);
    id_parse(message->deliveries[i]->job_id, &held->id);
    held->delivery = message->deliveries[i]->delivery;
    held->done_ms = sim->monotonic_ms + (sim->draining ? 0 : handler_ms(sim));
    g_ptr_array_add(worker->held, held);
  }
}

static void read_inbox(struct sim *sim, struct worker *worker) {
  unsigned most = sim->draining ? 1000 : 1 + sim_roll(sim, 4);
  struct packet *packet;
  while (most-- > 0 && (packet = g_queue_pop_head(&worker->inbox))) {
    unsigned fate = sim->draining ? 99 : sim_roll(sim, 60);
    sim->tally[TALLY_SWALLOWED] += fate == 0;
    sim->tally[TALLY_DUPLICATES] += fate == 1;
    for (unsigned times = fate > 1 ? 1 : 2 * fate; times > 0; times--)
      if (packet->number == worker->connection)
        read_message(sim, worker, packet->bytes);
    packet_free(packet);
  }
}

/* What makes a worker a bad one. True: it does nothing else now. */
static bool misbehave(struct sim *sim, struct worker *worker) {
  if (sim->draining)
    return false;
  if (sim_once_in(sim, 500))
    worker->silent_until_ms = sim->monotonic_ms + sim_roll(sim, SILENCE_MS);
  if (sim->monotonic_ms < worker->silent_until_ms)
    return true;
  if (sim_once_in(sim, 400))
    cut(sim, worker);
  else if (sim_once_in(sim, 1500)) {
    sim_trace(sim, "worker %u is killed", worker->number);
    cut(sim, worker);
    forget(worker);
  } else if (worker->held->len && sim_once_in(sim, 400))
    lose_one(sim, worker, sim_roll(sim, worker->held->len));
  else if (sim_once_in(sim, worker->quiet ? 100 : 1500))
    deregister(sim, worker);
  else if (sim_once_in(sim, 1000))
    quiet(sim, worker);
  else
    return false;
  return true;
}

static void act(struct sim *sim, struct worker *worker) {
  if (worker->registering)
    return;
  if (!worker->registered || (worker->lost && !sim_once_in(sim, 10))) {
    register_anew(sim, worker);
    return;
  }
  if (misbehave(sim, worker))
    return;
  read_inbox(sim, worker);
  if (!worker->joined) {
    if (sim->draining || sim_once_in(sim, 3))
      join(sim, worker);
    return;
  }
  if (worker->heartbeat_ms <= sim->monotonic_ms)
    heartbeat(sim, worker);
  send_reports(sim, worker);
  if (worker->drains && worker->held->len == 0 && g_queue_is_empty(&worker->unaccepted))
    deregister(sim, worker);
}

void workers_act(struct sim *sim) {
  for (unsigned i = 0; i < (sim->draining ? WORKERS : sim->staff) && sim->engine && !sim->engine_failed; i++)
    act(sim, sim->workers[i]);
}

void workers_drain(struct sim *sim) {
  for (unsigned i = 0; i < WORKERS && sim->engine; i++) {
    struct worker *worker = sim->workers[i];
    if (worker->registered)
      deregister(sim, worker);
    cut(sim, worker);
    forget(worker);
  }
}
