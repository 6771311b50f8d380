/* SPDX-License-Identifier: Apache-2.0 */
/* machine.c: the engine with its disk and its clock. A crash is a store that fails after it has forgotten what was not synced:
 * the engine then winds itself up, and nothing that it says is heard. */
#include <string.h>

#include "model.h"
#include "store/format.h"

enum { REST_TURNS_MAX = 5000, UNSYNCED_MAX = 6, STEP_MS = 1000 };

struct call {
  struct sim *sim;
  answered_fn *answered;
  void *data;
};

static int64_t wall_ms(void *context) {
  return ((struct sim *)context)->wall_ms;
}

static int64_t monotonic_ms(void *context) {
  return ((struct sim *)context)->monotonic_ms;
}

static void failed(void *context, const struct error *error) {
  struct sim *sim = context;
  if (!sim->is_dead)
    sim_trace(sim, "engine failed: %s", error->message);
  sim->engine_failed = true;
}

static void transport_send(void *context, const struct id *session, uint64_t connection, uint8_t *take_bytes, size_t length) {
  struct sim *sim = context;
  if (!sim->is_dead)
    workers_receive(sim, session, connection, take_bytes, length);
  g_free(take_bytes);
}

static void transport_drop(void *context, const struct id *session, uint64_t connection) {
  struct sim *sim = context;
  if (!sim->is_dead)
    workers_dropped(sim, session, connection);
}

static void transport_close(void *context, const struct id *session) {
  struct sim *sim = context;
  if (!sim->is_dead)
    workers_session_closed(sim, session);
}

static void start(struct sim *sim) {
  sim->incarnation++;
  sim->engine_failed = sim->is_dead = false;
  sim->store = store_open_faulty(sim->disk);
  struct engine_options options = {
      .store = sim->store,
      .transport = {.context = sim, .send = transport_send, .drop = transport_drop, .session_close = transport_close},
      .wall_ms = wall_ms,
      .monotonic_ms = monotonic_ms,
      .clock_context = sim,
      .seed = sim->seed << 20 | sim->incarnation,
      .failed = failed,
      .callback_context = sim,
  };
  struct error error;
  check_store(sim);
  if (store_format_open(sim->store, sim->seed, sim->seed, &error) != STATUS_OK ||
      engine_open(&options, &sim->engine, &error) != STATUS_OK) {
    sim->engine = NULL;
    sim_fail(sim, "the engine does not open its store again: %s", error.message);
    return;
  }
  model_watch(sim);
}

void machine_start(struct sim *sim) {
  sim->wall_ms = sim->wall_low_ms = sim->wall_high_ms = INT64_C(1772323200000); /* 2026-03-01: clocks will change */
  sim->monotonic_ms = 1000;
  sim->disk = store_open_memory();
  start(sim);
}

static void stop(struct sim *sim) {
  if (sim->engine)
    engine_stop(sim->engine);
  engine_free(sim->engine);
  sim->engine = NULL;
}

void machine_end(struct sim *sim) {
  stop(sim);
  store_close(sim->store);
  store_close(sim->disk);
}

/* What is stored stays; who waited or was connected is gone. */
static void go_down(struct sim *sim) {
  stop(sim);
  store_close(sim->store);
  sim->unsynced = 0;
  workers_machine_died(sim);
  model_machine_died(sim);
}

void machine_crash(struct sim *sim) {
  sim->is_dead = true;
  sim->tally[TALLY_CRASHES]++;
  size_t kept = sim_once_in(sim, 2) ? 0 : sim_roll(sim, UNSYNCED_MAX);
  sim_trace(sim, "crash, the disk keeps at most %zu batches of what was not synced", kept);
  store_faulty_crash(sim->store, kept);
  go_down(sim);
  start(sim);
}

void machine_restart(struct sim *sim) {
  stop(sim);
  go_down(sim);
  start(sim);
}

/* ---- calls ---- */

static void call_done(struct request *request, const struct error *error, const ProtobufCMessage *response) {
  const struct call *call = request->context;
  if (!call->sim->is_dead && call->answered)
    call->answered(call->sim, call->data, error, response);
}

static void call_released(struct request *request) {
  struct call *call = request->context;
  g_free(call->data);
  g_free(call);
}

static const struct method *method_named(const char *name) {
  for (size_t i = 0; i < method_count; i++)
    if (g_str_has_suffix(methods[i].path, name))
      return &methods[i];
  g_assert_not_reached();
}

static ProtobufCMessage *copy_message(const ProtobufCMessage *message, struct arena *arena) {
  size_t length = protobuf_c_message_get_packed_size(message);
  uint8_t *packed = g_malloc(length + 1);
  protobuf_c_message_pack(message, packed);
  ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, arena_protobuf(arena), length, packed);
  g_free(packed);
  return copy;
}

void machine_call(struct sim *sim, const char *method, const ProtobufCMessage *message, answered_fn *answered, void *take_data) {
  struct request *request = request_new(method_named(method), 0);
  struct call *call = g_new(struct call, 1);
  *call = (struct call){sim, answered, take_data};
  request->message = copy_message(message, request->arena);
  request->done = call_done;
  request->released = call_released;
  request->context = call;
  if (sim->engine)
    engine_submit(sim->engine, request);
  request_unref(request);
}

/* The answer to a question that was given up after a failure may come still: it is nobody's then. */
static void ask_answered(struct sim *sim, void *data, const struct error *error, const void *response) {
  if (*(const uint64_t *)data != sim->questions)
    return;
  sim->is_answered = true;
  sim->answer = error ? NULL : copy_message(response, sim->arena);
}

const void *machine_ask(struct sim *sim, const char *method, const ProtobufCMessage *message) {
  uint64_t *data = g_new(uint64_t, 1);
  *data = ++sim->questions;
  sim->is_answered = false;
  sim->answer = NULL;
  machine_call(sim, method, message, ask_answered, data);
  for (int i = 0; !sim->is_answered && !sim->engine_failed && !sim->failure; i++) {
    if (i == REST_TURNS_MAX)
      sim_fail(sim, "%s is not answered", method);
    machine_turn(sim, true);
  }
  return sim->answer;
}

/* ---- turns and time ---- */

static int64_t turn(struct sim *sim, bool sync) {
  if (!sim->engine || sim->engine_failed)
    return 0;
  sim->tally[TALLY_TURNS]++;
  int64_t sleep_ms = engine_step(sim->engine);
  sim->unsynced++;
  sim->wall_low_ms = MIN(sim->wall_low_ms, sim->wall_ms);
  sim->wall_high_ms = MAX(sim->wall_high_ms, sim->wall_ms);
  if ((sync || sim->unsynced >= UNSYNCED_MAX) && !sim->engine_failed) {
    if (sim->lying_disk)
      store_faulty_fail(sim->store, FAULT_SYNC_LOST, 1);
    sim->syncs++;
    engine_sync(sim->engine);
    sim->unsynced = 0;
    sim->wall_low_ms = sim->wall_high_ms = sim->wall_ms;
  }
  return sleep_ms;
}

void machine_turn(struct sim *sim, bool sync) {
  turn(sim, sync);
}

void machine_settle(struct sim *sim) {
  for (int i = 0; i < REST_TURNS_MAX && !sim->engine_failed && !sim->failure; i++)
    if (turn(sim, true) > 0)
      return;
  if (!sim->engine_failed && !sim->failure)
    sim_fail(sim, "the engine does not come to rest: %d turns, and the next one is due at once", REST_TURNS_MAX);
}

static void advance(struct sim *sim, int64_t ms) {
  sim->monotonic_ms += ms;
  sim->wall_ms += ms;
}

void machine_pass(struct sim *sim, int64_t ms, bool asleep) {
  machine_settle(sim);
  if (asleep) {
    advance(sim, ms);
    ms = 0;
  }
  while (ms > 0 && !sim->engine_failed && !sim->failure) {
    int64_t sleep_ms = turn(sim, true);
    int64_t step_ms = MIN(MIN(MAX(sleep_ms, 1), ms), STEP_MS);
    advance(sim, step_ms);
    ms -= step_ms;
    workers_act(sim);
  }
  machine_settle(sim);
}
