/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/validate.h"
#include "engine/backup.h"
#include "engine/batches.h"
#include "engine/bodies.h"
#include "engine/bulk.h"
#include "engine/compaction.h"
#include "engine/dispatch.h"
#include "engine/job_log.h"
#include "engine/queues.h"
#include "engine/reader.h"
#include "engine/running.h"
#include "engine/schedules.h"
#include "engine/sessions.h"
#include "engine/timers.h"
#include "engine/turn.h"
#include "engine/waiters.h"

enum {
  MAIL_MAX = 20000,           /* requests that wait; beyond: RESOURCE_EXHAUSTED */
  MAIL_BYTES_MAX = 256 << 20, /* of them together; and of the reports that wait: beyond, their worker is to send them again */
  TURN_MAIL_MAX = 1000,       /* pieces of mail a turn */
  TURN_PART = 64,             /* read and decided together */
  TURN_WANTED_MAX = 1000,     /* jobs that these name, unless one alone names more */
  TURN_COST_MAX = 4000,       /* jobs a turn */
  TURN_MS_MAX = 5,
  TURN_BYTES_MAX = 16 << 20, /* of what was read and answered */
  TICK_MS = 1000,
  SLEEP_MS_MAX = 1000, /* the wall clock is looked at again at least so often */
  BODIES_BYTES_MAX = 32 << 20,
};

enum mail_kind { MAIL_REQUEST, MAIL_CANCEL, MAIL_CONNECTED, MAIL_DISCONNECTED, MAIL_REPORTS, MAIL_TASK };

struct letter {
  struct mail mail;
  struct request *request;
  size_t bytes;
  size_t *counted; /* where `bytes` are counted */
  struct id session;
  uint64_t connection;
  const char *transport;
  struct arena *arena;
  Millrace__V1__Reports *reports; /* NULL: can't be read, or too many wait */
};

/* ---- small things ---- */

uint64_t engine_random(struct engine *engine) {
  return (uint64_t)g_rand_int(engine->random) << 32 | g_rand_int(engine->random);
}

double engine_random_fraction(struct engine *engine) {
  return g_rand_double(engine->random);
}

void engine_secret(struct engine *engine, uint8_t *out_bytes, size_t length) {
  if (engine->options.seed) {
    for (size_t i = 0; i < length; i++)
      out_bytes[i] = (uint8_t)engine_random(engine);
    return;
  }
  while (getrandom(out_bytes, length, 0) != (ssize_t)length)
    g_assert(errno == EINTR);
}

uint64_t engine_sequence(struct turn *turn) {
  struct engine *engine = turn->engine;
  engine->sequence = MAX(engine->sequence + 1, (uint64_t)turn->now_ms << 20);
  return engine->sequence;
}

int64_t engine_created_ms(struct turn *turn) {
  struct engine *engine = turn->engine;
  const bool is_near = engine->created_ms - turn->now_ms < SECOND_MS;
  const int64_t created_ms = is_near ? MAX(engine->created_ms, turn->now_ms) : turn->now_ms;
  engine->created_ms = MAX(engine->created_ms, created_ms);
  return created_ms;
}

int64_t engine_divide_created(struct turn *turn) {
  struct engine *engine = turn->engine;
  const int64_t last_ms = MAX(engine->created_ms, turn->now_ms);
  engine->created_ms = last_ms + 1;
  return last_ms;
}

void engine_log(struct engine *engine, int level, const char *event, const char *format, ...) {
  if (!engine->options.log)
    return;
  char fields[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(fields, sizeof fields, format, arguments);
  va_end(arguments);
  engine->options.log(engine->options.callback_context, level, event, fields);
}

void engine_fail(struct engine *engine, const struct error *error) {
  if (engine->failed)
    return;
  engine->failed = true;
  if (engine->options.failed)
    engine->options.failed(engine->options.callback_context, error);
}

void engine_add_slice(struct engine *engine, struct slice_work *work) {
  g_queue_push_tail(engine->slices, work);
  engine->again = true;
}

static int64_t system_wall_ms(void *context) {
  (void)context;
  return g_get_real_time() / 1000;
}

static int64_t system_monotonic_ms(void *context) {
  (void)context;
  return g_get_monotonic_time() / 1000;
}

static int64_t wall_ms(const struct engine *engine) {
  return engine->options.wall_ms(engine->options.clock_context);
}

static int64_t monotonic_ms(const struct engine *engine) {
  return engine->options.monotonic_ms(engine->options.clock_context);
}

/* ---- requests ---- */

struct request *request_new(const struct method *method, size_t bytes_max) {
  struct request *request = g_new0(struct request, 1);
  request->method = method;
  request->arena = arena_new(bytes_max);
  request->references = 1;
  return request;
}

struct request *request_ref(struct request *request) {
  __atomic_add_fetch(&request->references, 1, __ATOMIC_RELAXED);
  return request;
}

void request_finish(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  void (*all_done)(void *group) = request->all_done;
  void *group = request->group;
  request->done(request, error, response);
  if (all_done)
    all_done(group);
}

void request_unref(struct request *request) {
  if (__atomic_sub_fetch(&request->references, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  if (request->released)
    request->released(request);
  arena_free(request->arena);
  g_strfreev(request->queues);
  g_free(request);
}

bool request_may_use(const struct request *request, const char *queue) {
  for (char **pattern = request->queues; pattern && *pattern; pattern++) {
    if (g_pattern_match_simple(*pattern, queue))
      return true;
  }
  return !request->queues;
}

static struct letter *letter_new(enum mail_kind kind) {
  struct letter *letter = g_new0(struct letter, 1);
  letter->mail.kind = kind;
  return letter;
}

/* Counts the letter's bytes. False: too many wait. */
static bool letter_count(struct letter *letter, size_t *counter, size_t bytes) {
  letter->bytes = bytes;
  letter->counted = counter;
  return __atomic_add_fetch(counter, bytes, __ATOMIC_RELAXED) <= MAIL_BYTES_MAX;
}

static void letter_free(struct letter *letter) {
  if (letter->counted)
    __atomic_sub_fetch(letter->counted, letter->bytes, __ATOMIC_RELAXED);
  arena_free(letter->arena);
  g_free(letter);
}

static void refuse(struct engine *engine, struct letter *letter, struct request *request) {
  struct error error;
  if (__atomic_load_n(&engine->stopping, __ATOMIC_ACQUIRE)) {
    error_set(&error, STATUS_UNAVAILABLE, NULL, "the server is stopping; try again");
  } else {
    error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL, "the server has too many requests waiting; slow down and try again");
    error.retry_after_ms = 100;
    error_reason(&error, "OVERLOADED", NULL);
  }
  letter_free(letter);
  request_finish(request, &error, NULL);
  request_unref(request);
}

void engine_submit(struct engine *engine, struct request *request) {
  struct error error;
  if (validate_request(request->message, &error) != STATUS_OK) {
    request_finish(request, &error, NULL);
    return;
  }
  struct letter *letter = letter_new(MAIL_REQUEST);
  letter->request = request_ref(request);
  if (!letter_count(letter, &engine->mail_bytes, arena_used(request->arena)) ||
      !mailbox_post(&engine->mailbox, &letter->mail, request->method->urgent))
    refuse(engine, letter, request);
}

void engine_cancel(struct engine *engine, struct request *request) {
  int expected = 0;
  if (!__atomic_compare_exchange_n(&request->cancelled, &expected, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) && expected == 1)
    return;
  struct letter *letter = letter_new(MAIL_CANCEL);
  letter->request = request_ref(request);
  if (mailbox_post(&engine->mailbox, &letter->mail, true))
    return;
  request_unref(request);
  letter_free(letter);
}

/* ---- the hub's side ---- */

static void post_session(struct engine *engine, struct letter *letter) {
  if (!mailbox_post(&engine->mailbox, &letter->mail, true))
    letter_free(letter);
}

void engine_session_connected(struct engine *engine, const struct id *session, uint64_t connection, const char *transport_name) {
  struct letter *letter = letter_new(MAIL_CONNECTED);
  letter->session = *session;
  letter->connection = connection;
  letter->transport = transport_name;
  post_session(engine, letter);
}

void engine_session_disconnected(struct engine *engine, const struct id *session, uint64_t connection) {
  struct letter *letter = letter_new(MAIL_DISCONNECTED);
  letter->session = *session;
  letter->connection = connection;
  post_session(engine, letter);
}

void engine_session_reports(struct engine *engine, const struct id *session, uint64_t connection, const uint8_t *bytes,
                            size_t length) {
  struct letter *letter = letter_new(MAIL_REPORTS);
  letter->session = *session;
  letter->connection = connection;
  letter->arena = arena_new(REQUEST_ARENA_BYTES_MAX);
  letter->reports = millrace__v1__reports__unpack(arena_protobuf(letter->arena), length, bytes);
  if (!letter_count(letter, &engine->report_bytes, arena_used(letter->arena))) {
    letter->reports = NULL;
    arena_reset(letter->arena);
  }
  post_session(engine, letter);
}

void engine_post_back(struct engine *engine, struct engine_task *task) {
  task->mail.kind = MAIL_TASK;
  if (!mailbox_post(&engine->mailbox, &task->mail, true))
    task->run(NULL, task);
}

/* ---- a turn ---- */

static void prepare(struct turn *turn, const struct mail *mail) {
  const struct letter *letter = (const void *)mail;
  if (mail->kind == MAIL_REQUEST && letter->request->method->prepare)
    letter->request->method->prepare(turn, letter->request);
}

static void open_request(struct turn *turn, struct letter *letter) {
  struct request *request = letter->request;
  turn->engine->statistics.requests++;
  turn->cost++;
  if (__atomic_load_n(&request->cancelled, __ATOMIC_ACQUIRE) == 1 && request->method->shape != METHOD_MESSAGE_STREAM)
    reply_failure(turn, request, STATUS_CANCELLED, NULL, "the caller left");
  else
    request->method->apply(turn, request);
}

static void open_session_letter(struct turn *turn, struct letter *letter) {
  struct session *session = session_find(turn->engine, &letter->session);
  if (!session)
    return;
  if (letter->mail.kind == MAIL_CONNECTED) {
    session_connect(turn, session, letter->connection, letter->transport);
  } else if (letter->mail.kind == MAIL_DISCONNECTED) {
    session_disconnect(turn, session, letter->connection);
  } else if (letter->reports) {
    session_reports(turn, session, letter->connection, letter->reports);
  } else {
    struct release_item *item = release_add(turn->release, RELEASE_DROP);
    item->session = letter->session;
    item->connection = letter->connection;
  }
}

static void open_mail(struct turn *turn, struct mail *mail) {
  if (mail->kind == MAIL_TASK) {
    struct engine_task *task = (void *)mail;
    task->run(turn, task);
    return;
  }
  struct letter *letter = (void *)mail;
  if (letter->mail.kind == MAIL_REQUEST) {
    open_request(turn, letter);
  } else if (letter->mail.kind == MAIL_CANCEL) {
    waiters_cancel(turn, letter->request);
    release_call(turn->release, (void (*)(void *))request_unref, letter->request);
  } else {
    open_session_letter(turn, letter);
  }
  if (letter->reports) {
    /* Jobs may borrow from the message until the turn's end. */
    release_call(turn->release, (void (*)(void *))arena_free, letter->arena);
    letter->arena = NULL;
  }
  letter_free(letter);
}

/* Once a second: what depends on time alone. */
static void tick(struct turn *turn) {
  struct engine *engine = turn->engine;
  int64_t passed_ms = turn->monotonic_ms - engine->last_turn_ms;
  engine->silence_ms += CLAMP(passed_ms, 0, SLEEP_MS_MAX);
  engine->last_turn_ms = turn->monotonic_ms;
  if (turn->monotonic_ms < engine->next_tick_ms)
    return;
  engine->next_tick_ms = turn->monotonic_ms + TICK_MS;
  engine->retention_due = true;
  sessions_tick(turn);
  job_log_tick(engine);
  struct store_statistics store;
  store_statistics(engine->store, &store);
  bool was_low = engine->disk_low;
  engine->disk_low = store.disk_free_bytes < engine->options.disk_low_bytes;
  if (was_low && !engine->disk_low)
    schedules_go_on(turn);
  if (store.disk_free_bytes < engine->options.disk_stop_bytes) {
    struct error error;
    error_set(&error, STATUS_RESOURCE_EXHAUSTED, NULL,
              "the disk has only %" G_GUINT64_FORMAT " MiB left; make room and start again", store.disk_free_bytes >> 20);
    engine_fail(engine, &error);
  }
}

static void run_slice(struct turn *turn) {
  struct slice_work *work = g_queue_pop_head(turn->engine->slices);
  if (!work)
    return;
  if (work->step(turn, work))
    g_queue_push_tail(turn->engine->slices, work);
  else
    work->free(work);
  turn->engine->again |= !g_queue_is_empty(turn->engine->slices);
}

/* Opens mail in parts, each read at once; what is too much for one turn stays for the next. Returns what is left. */
static struct mail *open_all(struct turn *turn, struct mail *first) {
  struct engine *engine = turn->engine;
  int64_t until_ms = turn->monotonic_ms + TURN_MS_MAX;
  const size_t until_bytes = arena_used(turn->arena) + TURN_BYTES_MAX;
  while (first) {
    int part = 0;
    for (struct mail *mail = first; mail && part < TURN_PART && turn->wanted->len < TURN_WANTED_MAX; mail = mail->next, part++)
      prepare(turn, mail);
    turn_fetch(turn);
    do {
      struct mail *mail = first;
      first = mail->next;
      open_mail(turn, mail);
    } while (--part > 0 && arena_used(turn->arena) < until_bytes);
    if (turn->cost > TURN_COST_MAX || arena_used(turn->arena) >= until_bytes || monotonic_ms(engine) > until_ms)
      break;
  }
  return first;
}

static void do_turn(struct engine *engine) {
  struct turn *turn = turn_begin(engine, wall_ms(engine), monotonic_ms(engine));
  int64_t start_ms = turn->monotonic_ms;
  engine->again = false;
  engine->timers_noted_ms = INT64_MAX;
  retention_run(turn);
  tick(turn);
  running_time_outs(turn);
  timers_run(turn);
  engine->mail = open_all(turn, engine->mail);
  waiters_run(turn);
  run_slice(turn);
  turn_end(turn, !engine->stepped && !engine->mail && mailbox_count(&engine->mailbox) == 0);
  engine->statistics.turn_ms_max = MAX(engine->statistics.turn_ms_max, monotonic_ms(engine) - start_ms);
  __atomic_store_n(&engine->alive_ms, engine->last_turn_ms, __ATOMIC_RELAXED);
}

/* How long the thread may sleep. */
static int64_t sleep_us(const struct engine *engine) {
  int64_t wall = wall_ms(engine), monotonic = monotonic_ms(engine);
  int64_t sleep_ms = MIN(SLEEP_MS_MAX, engine->next_tick_ms - monotonic);
  if (engine->timers_due_ms != INT64_MAX)
    sleep_ms = MIN(sleep_ms, engine->timers_due_ms - wall);
  if (engine->rate_due_ms != INT64_MAX)
    sleep_ms = MIN(sleep_ms, engine->rate_due_ms - monotonic);
  const struct heap_node *node = heap_first(&engine->timeouts);
  if (node)
    sleep_ms = MIN(sleep_ms, (int64_t)node->key - wall);
  node = heap_first(&engine->wait_timeouts);
  if (node)
    sleep_ms = MIN(sleep_ms, (int64_t)node->key - monotonic);
  return MAX(sleep_ms, 0) * 1000;
}

/* Takes mail, waiting for it or for what is due if `wait`, and does a turn. False: there is none, and none will come. */
static bool go_round(struct engine *engine, bool wait) {
  const int64_t wait_us = wait && !engine->again ? sleep_us(engine) : 0;
  if (!engine->mail && mailbox_take(&engine->mailbox, TURN_MAIL_MAX, wait_us, &engine->mail) == 0 &&
      __atomic_load_n(&engine->closing, __ATOMIC_ACQUIRE))
    return false;
  do_turn(engine);
  return true;
}

static gpointer engine_thread(gpointer data) {
  struct engine *engine = data;
  while (go_round(engine, true)) {
  }
  struct turn *turn = turn_begin(engine, wall_ms(engine), monotonic_ms(engine));
  waiters_stop(turn);
  turn_end(turn, true);
  return NULL;
}

/* ---- life ---- */

static void options_default(struct engine_options *options) {
  if (!options->wall_ms)
    options->wall_ms = system_wall_ms;
  if (!options->monotonic_ms)
    options->monotonic_ms = system_monotonic_ms;
  if (!options->durability)
    options->durability = DURABILITY_SYNC;
  options->session_timeout_ms = options->session_timeout_ms ? options->session_timeout_ms : 15 * SECOND_MS;
  options->reconnect_grace_ms = options->reconnect_grace_ms ? options->reconnect_grace_ms : 5 * SECOND_MS;
  options->heartbeat_ms = options->heartbeat_ms ? options->heartbeat_ms : 5 * SECOND_MS;
  options->disk_low_bytes = options->disk_low_bytes ? options->disk_low_bytes : UINT64_C(512) << 20;
  options->disk_stop_bytes = options->disk_stop_bytes ? options->disk_stop_bytes : UINT64_C(64) << 20;
}

static struct engine *engine_new(const struct engine_options *options) {
  struct engine *engine = g_new0(struct engine, 1);
  engine->options = *options;
  options_default(&engine->options);
  engine->store = options->store;
  mailbox_init(&engine->mailbox, MAIL_MAX);
  meters_init(&engine->meters);
  guint32 seed[4] = {(guint32)options->seed, (guint32)(options->seed >> 32), 0, 0};
  if (!options->seed)
    while (getrandom(seed, sizeof seed, 0) != sizeof seed)
      g_assert(errno == EINTR);
  engine->random = g_rand_new_with_seed_array(seed, 4);
  engine->queues = g_ptr_array_new();
  engine->queues_by_name = g_hash_table_new(g_str_hash, g_str_equal);
  engine->dirty_queues = g_hash_table_new(NULL, NULL);
  engine->dirty_lanes = g_ptr_array_new();
  engine->sessions = g_hash_table_new(id_hash, id_equal_pointers);
  engine->dirty_sessions = g_hash_table_new(id_hash, id_equal_pointers);
  engine->running = g_hash_table_new(id_hash, id_equal_pointers);
  engine->concurrencies = concurrencies_new();
  for (int kind = 0; kind < WAIT_KINDS; kind++)
    engine->waits[kind] = g_hash_table_new_full(id_hash, id_equal_pointers, g_free, (GDestroyNotify)g_ptr_array_unref);
  engine->watches = g_ptr_array_new();
  engine->slices = g_queue_new();
  engine->bodies = bodies_new(BODIES_BYTES_MAX);
  engine->rate_due_ms = INT64_MAX;
  engine->dispatch_due = true;
  engine->started_wall_ms = wall_ms(engine);
  engine->last_turn_ms = engine->alive_ms = engine->next_tick_ms = monotonic_ms(engine);
  engine->silence_ms = 1; /* 0 means "connected" where the clock is compared */
  return engine;
}

enum status engine_open(const struct engine_options *options, struct engine **out_engine, struct error *error) {
  struct engine *engine = engine_new(options);
  enum status status = queues_recover(engine, error);
  if (status == STATUS_OK)
    status = sessions_recover(engine, error);
  if (status == STATUS_OK)
    status = running_recover(engine, error);
  if (status == STATUS_OK)
    status = schedules_recover(engine, error);
  if (status == STATUS_OK)
    status = batches_recover(engine, error);
  if (status != STATUS_OK) {
    engine_free(engine);
    return status;
  }
  dispatch_unpark_later(engine);
  backup_clean(engine);
  engine->syncer = syncer_new(engine, &engine->options);
  engine->reader = reader_new(engine);
  *out_engine = engine;
  return STATUS_OK;
}

void engine_start(struct engine *engine) {
  engine->started = true;
  syncer_start(engine->syncer);
  reader_start(engine->reader);
  engine->thread = g_thread_new("engine", engine_thread, engine);
}

int64_t engine_step(struct engine *engine) {
  engine->started = engine->stepped = true;
  reader_step(engine->reader);
  go_round(engine, false);
  return engine->mail || engine->again || mailbox_count(&engine->mailbox) ? 0 : sleep_us(engine) / 1000;
}

void engine_sync(struct engine *engine) {
  syncer_step(engine->syncer);
}

static void free_slices(struct engine *engine) {
  struct slice_work *work;
  while ((work = g_queue_pop_head(engine->slices)))
    work->free(work);
}

static void abandon(struct turn *turn, struct engine_task *task) {
  if (turn)
    bulk_abandon(turn->engine);
  g_free(task);
}

void engine_abandon(struct engine *engine) {
  struct engine_task *task = g_new0(struct engine_task, 1);
  task->run = abandon;
  engine_post_back(engine, task);
}

void engine_stop(struct engine *engine) {
  if (!engine->started)
    return;
  engine->started = false;
  __atomic_store_n(&engine->stopping, true, __ATOMIC_RELEASE);
  reader_stop(engine->reader);
  __atomic_store_n(&engine->closing, true, __ATOMIC_RELEASE);
  mailbox_close(&engine->mailbox);
  if (engine->stepped)
    engine_thread(engine);
  else
    g_thread_join(engine->thread);
  engine->thread = NULL;
  compaction_stop(engine);
  backup_stop(engine);
  syncer_stop(engine->syncer);
  free_slices(engine); /* those who asked for unfinished work are answered */
}

static void free_all(GHashTable *table, void (*free_one)(void *)) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, table);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    free_one(value);
  g_hash_table_destroy(table);
}

void engine_free(struct engine *engine) {
  if (!engine)
    return;
  engine_stop(engine);
  reader_free(engine->reader);
  syncer_free(engine->syncer);
  free_slices(engine);
  g_queue_free(engine->slices);
  schedules_free(engine);
  free_all(engine->running, (void (*)(void *))running_free);
  free_all(engine->sessions, (void (*)(void *))session_free);
  free_all(engine->queues_by_name, (void (*)(void *))queue_free);
  g_ptr_array_free(engine->queues, TRUE);
  g_hash_table_destroy(engine->dirty_queues);
  g_ptr_array_free(engine->dirty_lanes, TRUE);
  g_hash_table_destroy(engine->dirty_sessions);
  g_hash_table_destroy(engine->concurrencies);
  for (int kind = 0; kind < WAIT_KINDS; kind++)
    g_hash_table_destroy(engine->waits[kind]);
  g_ptr_array_free(engine->watches, TRUE);
  heap_release(&engine->round);
  heap_release(&engine->timeouts);
  heap_release(&engine->wait_timeouts);
  bodies_free(engine->bodies);
  g_rand_free(engine->random);
  mailbox_clear(&engine->mailbox);
  meters_release(&engine->meters);
  g_free(engine);
}

/* ---- the monitor's side ---- */

bool engine_is_alive(struct engine *engine, int64_t within_ms) {
  return monotonic_ms(engine) - __atomic_load_n(&engine->alive_ms, __ATOMIC_RELAXED) <= within_ms;
}
