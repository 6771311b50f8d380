/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/compaction.h"

/* Removed jobs that are worth it. */
enum { REMOVED_MIN = 100 * 1000 };
#define PAUSE_MS MINUTE_MS

static gpointer compact(gpointer data) {
  struct engine *engine = data;
  static const struct slice open_end = {NULL, 0};
  /* All of them: the log goes only when each family that it has rows of is in files. */
  for (int family = 0; family < FAMILIES; family++)
    store_compact(engine->store, (enum family)family, open_end, open_end);
  __atomic_store_n(&engine->compaction.working, false, __ATOMIC_RELEASE);
  return NULL;
}

static uint64_t jobs_kept(const struct engine *engine) {
  uint64_t kept = 0;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, engine->queues_by_name);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    for (int state = 0; state < JOB_STATES; state++)
      kept += ((const struct queue *)value)->counts[state];
  return kept;
}

static void join(struct engine *engine) {
  if (engine->compaction.thread)
    g_thread_join(engine->compaction.thread);
  engine->compaction.thread = NULL;
}

void compaction_run(struct turn *turn) {
  struct engine *engine = turn->engine;
  struct compaction *compaction = &engine->compaction;
  /* It rewrites what is kept: no more than twice what is given back. */
  if (compaction->removed < REMOVED_MIN || turn->monotonic_ms < compaction->next_ms ||
      __atomic_load_n(&compaction->working, __ATOMIC_ACQUIRE) || compaction->removed < jobs_kept(engine) / 2)
    return;
  join(engine);
  engine_log(engine, 1, "compaction started", "removed=%" G_GUINT64_FORMAT, compaction->removed);
  compaction->removed = 0;
  compaction->next_ms = turn->monotonic_ms + PAUSE_MS;
  compaction->working = true;
  compaction->thread = g_thread_new("compaction", compact, engine);
}

void compaction_stop(struct engine *engine) {
  store_compact_stop(engine->store);
  join(engine);
}
