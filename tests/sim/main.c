/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: runs seeds; says of one that fails what was seen, how short a run still shows it, and how to see it again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { CHECK_EVERY = 200, DRAIN_ROUNDS = 20000 };

const char *const tally_names[TALLIES] = {
    "turns",       "events",    "creates",    "deliveries", "crashes", "read faults", "write faults",   "sync faults",
    "clock jumps", "swallowed", "duplicates", "reordered",  "forged",  "cuts",        "sessions ended", "whole checks",
};

/* ---- small things ---- */

void sim_fail(struct sim *sim, const char *format, ...) {
  if (sim->failure)
    return;
  va_list arguments;
  va_start(arguments, format);
  sim->failure = g_strdup_vprintf(format, arguments);
  va_end(arguments);
}

void sim_trace(struct sim *sim, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *line = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  sim->digest = (sim->digest ^ g_str_hash(line)) * UINT64_C(1099511628211);
  if (sim->verbose)
    printf("%u %" G_GINT64_FORMAT " %s\n", sim->step, sim->wall_ms, line);
  g_free(line);
}

unsigned sim_roll(struct sim *sim, unsigned below) {
  return below < 2 ? 0 : (unsigned)g_rand_int_range(sim->random, 0, (gint32)below);
}

bool sim_once_in(struct sim *sim, unsigned n) {
  return sim_roll(sim, n) == 0;
}

struct id sim_id(struct sim *sim) {
  struct id id;
  for (int i = 0; i < ID_BYTES; i++)
    id.bytes[i] = (uint8_t)sim_roll(sim, 256);
  return id;
}

void *sim_message(struct sim *sim, const ProtobufCMessageDescriptor *type) {
  ProtobufCMessage *message = arena_alloc(sim->arena, type->sizeof_message);
  type->message_init(message);
  return message;
}

Google__Protobuf__Duration *sim_duration(struct sim *sim, int64_t ms) {
  Google__Protobuf__Duration *duration = arena_alloc(sim->arena, sizeof *duration);
  time_to_duration(ms, duration);
  return duration;
}

Google__Protobuf__Timestamp *sim_timestamp(struct sim *sim, int64_t ms) {
  Google__Protobuf__Timestamp *timestamp = arena_alloc(sim->arena, sizeof *timestamp);
  time_to_timestamp(ms, timestamp);
  return timestamp;
}

char *sim_text(struct sim *sim, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *text = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  char *copy = arena_strdup(sim->arena, text);
  g_free(text);
  return copy;
}

char *sim_id_text(struct sim *sim, const struct id *id) {
  char *text = arena_alloc(sim->arena, ID_TEXT_BYTES);
  id_format(id, text);
  return text;
}

/* ---- a run ---- */

static void stopped_by_fault(struct sim *sim) {
  while (sim->engine_failed && !sim->failure)
    machine_crash(sim);
}

static void step(struct sim *sim) {
  if (sim_roll(sim, 3)) {
    do
      order_one(sim); /* those together come in one turn */
    while (!sim->failure && !sim->engine_failed && sim_once_in(sim, 3));
  }
  stopped_by_fault(sim);
  if (!sim->failure && sim_roll(sim, 2))
    workers_act(sim);
  machine_turn(sim, !sim_once_in(sim, 4));
  if (sim->step % CHECK_EVERY == 0)
    check_all(sim);
  stopped_by_fault(sim);
  arena_reset(sim->arena);
}

/* Jobs that have not ended, and when the next one of them is due: 0 when some are due now. */
static unsigned open_jobs(struct sim *sim, int64_t *out_due_ms) {
  unsigned open = 0;
  GHashTableIter iter;
  gpointer value;
  *out_due_ms = INT64_MAX;
  g_hash_table_iter_init(&iter, sim->model->jobs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct job *job = value;
    if (is_terminal(job->state))
      continue;
    open++;
    if (job->state == PENDING || job->state == RUNNING)
      *out_due_ms = 0;
    else if (job->state != BLOCKED)
      *out_due_ms = MIN(*out_due_ms, job->run_at_ms);
  }
  return open;
}

static const struct job *model_open(struct sim *sim) {
  for (int state = SCHEDULED; state <= BLOCKED; state++) {
    const struct job *job = model_any(sim, state);
    if (job)
      return job;
  }
  return NULL;
}

/* With good workers, no limits and time, all that has not ended must end. */
static void drain(struct sim *sim) {
  g_strlcpy(sim->operation, "drain", sizeof sim->operation);
  sim_trace(sim, "drain");
  for (enum fault fault = 0; fault < FAULTS; fault++)
    store_faulty_fail(sim->store, fault, 0);
  sim->draining = true;
  orders_drain(sim);
  workers_drain(sim);
  unsigned open = 1;
  for (int i = 0; open && i < DRAIN_ROUNDS && !sim->failure; i++) {
    int64_t due_ms;
    workers_act(sim);
    machine_pass(sim, 2000, false);
    open = open_jobs(sim, &due_ms);
    if (due_ms != INT64_MAX && due_ms > sim->wall_ms)
      machine_pass(sim, due_ms - sim->wall_ms, true);
    arena_reset(sim->arena);
  }
  const struct job *stuck = open ? model_open(sim) : NULL;
  if (stuck)
    sim_fail(sim, "%u jobs have not ended, with good workers and all the time they need; job %s (%s, plan %u) is %s", open,
             sim_id_text(sim, &stuck->id), queue_names[stuck->plan->queue], stuck->plan->number, state_names[stuck->state]);
  check_all(sim);
}

/* Runs a seed. The caller frees the failure. */
static struct sim *run(uint64_t seed, unsigned ops, bool verbose, bool lying_disk) {
  struct sim *sim = g_new0(struct sim, 1);
  const guint32 seeds[] = {(guint32)seed, (guint32)(seed >> 32)};
  sim->seed = seed;
  sim->verbose = verbose;
  sim->lying_disk = lying_disk;
  sim->random = g_rand_new_with_seed_array(seeds, G_N_ELEMENTS(seeds));
  sim->arena = arena_new(0);
  sim->plans = g_ptr_array_new();
  sim->groups = g_ptr_array_new();
  sim->orders = g_ptr_array_new_with_free_func(g_free);
  model_start(sim);
  workers_start(sim);
  machine_start(sim);
  while (sim->step < ops && !sim->failure) {
    sim->step++;
    step(sim);
  }
  if (!sim->failure)
    drain(sim);
  sim->is_dead = true;
  machine_end(sim);
  workers_free(sim);
  model_free(sim);
  plans_free(sim);
  g_ptr_array_free(sim->orders, TRUE);
  arena_free(sim->arena);
  g_rand_free(sim->random);
  return sim;
}

static void sim_free(struct sim *sim) {
  g_free(sim->failure);
  g_free(sim);
}

/* ---- options ---- */

static gint64 seed = 1;
static gint seeds = 1, ops = 10000;
static gboolean verbose, lying_disk, twice;
static const char *program;

static const GOptionEntry entries[] = {
    {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "The (first) seed (1)", "N"},
    {"seeds", 0, 0, G_OPTION_ARG_INT, &seeds, "How many seeds, one after the other (1)", "N"},
    {"ops", 0, 0, G_OPTION_ARG_INT, &ops, "Operations of a run (10000)", "N"},
    {"verbose", 0, 0, G_OPTION_ARG_NONE, &verbose, "Tell every operation and every change of a job", NULL},
    {"lying-disk", 0, 0, G_OPTION_ARG_NONE, &lying_disk, "A disk that says it has kept what it has not", NULL},
    {"twice", 0, 0, G_OPTION_ARG_NONE, &twice, "Run each seed twice and compare", NULL},
    {NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL},
};

/* The drain of a shorter run may show it earlier than the step did: the shortest that fails, by halving. */
static unsigned shrink(uint64_t number, unsigned fails) {
  unsigned passes = 0;
  while (passes + 1 < fails) {
    unsigned middle = passes + (fails - passes) / 2;
    struct sim *sim = run(number, middle, false, lying_disk);
    if (sim->failure)
      fails = middle;
    else
      passes = middle;
    sim_free(sim);
  }
  return fails;
}

static void report(const struct sim *sim) {
  fprintf(stderr, "sim: seed %" G_GUINT64_FORMAT " fails at step %u (%s):\n  %s\n", sim->seed, sim->step, sim->operation,
          sim->failure);
  unsigned shortest = shrink(sim->seed, sim->step);
  fprintf(stderr, "  again: %s --seed %" G_GUINT64_FORMAT " --ops %u%s --verbose\n", program, sim->seed, shortest,
          lying_disk ? " --lying-disk" : "");
}

static bool run_seed(uint64_t number, uint64_t *tally, uint64_t *steps) {
  struct sim *sim = run(number, (unsigned)ops, verbose, lying_disk);
  bool ok = !sim->failure;
  if (!ok)
    report(sim);
  if (ok && twice) {
    struct sim *again = run(number, (unsigned)ops, false, lying_disk);
    if (again->digest != sim->digest) {
      fprintf(stderr, "sim: seed %" G_GUINT64_FORMAT " gave two different runs\n", number);
      ok = false;
    }
    sim_free(again);
  }
  if (ok && seeds == 1)
    printf("sim: seed %" G_GUINT64_FORMAT ", %u steps, digest %016" G_GINT64_MODIFIER "x\n", number, sim->step, sim->digest);
  *steps += sim->step;
  for (int i = 0; i < TALLIES; i++)
    tally[i] += sim->tally[i];
  sim_free(sim);
  return ok;
}

int main(int argc, char **argv) {
  GError *error = NULL;
  program = argv[0];
  GOptionContext *context = g_option_context_new("- simulates Millrace's engine from a seed");
  g_option_context_add_main_entries(context, entries, NULL);
  if (!g_option_context_parse(context, &argc, &argv, &error) || ops < 1 || seeds < 1) {
    fprintf(stderr, "sim: %s\n", error ? error->message : "--ops and --seeds must be above 0");
    g_clear_error(&error);
    g_option_context_free(context);
    return 2;
  }
  g_option_context_free(context);
  uint64_t tally[TALLIES] = {0}, steps = 0;
  int64_t start_us = g_get_monotonic_time();
  bool ok = true;
  for (gint i = 0; ok && i < seeds; i++)
    ok = run_seed((uint64_t)seed + (uint64_t)i, tally, &steps);
  double seconds = (double)(g_get_monotonic_time() - start_us) / 1e6;
  printf("sim: %" G_GUINT64_FORMAT " steps in %.1f s, %.0f a second:", steps, seconds, (double)steps / seconds);
  for (int i = 0; i < TALLIES; i++)
    printf("%s %" G_GUINT64_FORMAT " %s", i ? "," : "", tally[i], tally_names[i]);
  printf("\n");
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
