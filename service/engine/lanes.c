/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/queues.h"
#include "engine/turn.h"

enum { WINDOW_MAX = 1024, WINDOW_FILL = 512 };

static const uint8_t priorities[PRIORITIES] = {0, 5, 8, 10};

struct lane *lane_of(struct engine *engine, struct queue *queue, struct task *task, uint8_t priority) {
  unsigned index = priority_index(priority);
  if (!task->lanes[index]) {
    if (engine->lanes >= LANES_MAX)
      return NULL;
    struct lane *lane = g_new0(struct lane, 1);
    lane->queue = queue;
    lane->task = task;
    lane->priority = priorities[index];
    lane->unwritten_first = UINT64_MAX;
    task->lanes[index] = lane;
    engine->lanes++;
  }
  return task->lanes[index];
}

void lane_free(struct lane *lane) {
  if (!lane)
    return;
  if (lane->window)
    g_array_free(lane->window, TRUE);
  g_free(lane);
}

static guint window_count(const struct lane *lane) {
  return lane->window ? lane->window->len - lane->window_first : 0;
}

static struct ready *window_at(const struct lane *lane, guint place) {
  return &g_array_index(lane->window, struct ready, lane->window_first + place);
}

/* The first place whose sequence is not below. */
static guint window_place(const struct lane *lane, uint64_t sequence) {
  guint low = 0, high = window_count(lane);
  if (high && window_at(lane, high - 1)->sequence < sequence)
    return high;
  while (low < high) {
    guint middle = (low + high) / 2;
    if (window_at(lane, middle)->sequence < sequence)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void window_compact(struct lane *lane) {
  if (lane->window && lane->window_first == lane->window->len) {
    g_array_set_size(lane->window, 0);
    lane->window_first = 0;
  } else if (lane->window && lane->window_first >= WINDOW_MAX) {
    g_array_remove_range(lane->window, 0, lane->window_first);
    lane->window_first = 0;
  }
}

static void lane_touch(struct turn *turn, struct lane *lane) {
  if (lane->dirty)
    return;
  lane->dirty = true;
  g_ptr_array_add(turn->engine->dirty_lanes, lane);
}

bool lane_keep(struct turn *turn, struct queue *queue, struct task *task, uint8_t priority) {
  struct lane *lane = lane_of(turn->engine, queue, task, priority);
  if (lane && lane->head == 0)
    lane_touch(turn, lane);
  return lane != NULL;
}

void lane_sort(struct engine *engine, struct lane *lane) {
  unsigned priority = priority_index(lane->priority);
  struct heap *active = &lane->queue->active[priority];
  engine->active_lanes[priority] -= heap_holds(&lane->node);
  if (lane->ready == 0 || !lane->task->served)
    heap_remove(active, &lane->node);
  else
    heap_set(active, &lane->node, window_count(lane) ? window_at(lane, 0)->sequence : lane->head);
  engine->active_lanes[priority] += heap_holds(&lane->node);
}

/* Is the row still what the turn says? The store knows nothing of this turn yet. */
static bool row_holds(struct turn *turn, const struct lane *lane, const struct id *id, uint64_t sequence) {
  const struct entry *entry = g_hash_table_lookup(turn->entries, id);
  return !entry || (entry->exists && entry->now.state == JOB_PENDING && entry->now.sequence == sequence &&
                    entry->now.priority == lane->priority);
}

static void lane_fill(struct turn *turn, struct lane *lane) {
  struct key from, until;
  key_ready(&from, lane->queue->number, lane->task->number, lane->head);
  key_ready(&until, lane->queue->number, lane->task->number, UINT64_MAX);
  struct store_range range = {family_ready(lane->priority), key_slice(&from), key_slice(&until), false, WINDOW_FILL};
  struct store_rows rows;
  if (!turn_scan(turn, &range, &rows))
    return;
  if (!lane->window)
    lane->window = g_array_sized_new(FALSE, FALSE, sizeof(struct ready), WINDOW_FILL);
  for (size_t i = 0; i < rows.count; i++) {
    struct ready ready;
    uint32_t queue, task;
    if (!key_read_ready(rows.rows[i].key, &queue, &task, &ready.sequence) || rows.rows[i].value.length != ID_BYTES)
      continue;
    memcpy(ready.id.bytes, rows.rows[i].value.data, ID_BYTES);
    if (ready.sequence > lane->unwritten_first)
      break; /* a job that went back to its old place comes before */
    if (row_holds(turn, lane, &ready.id, ready.sequence))
      g_array_append_val(lane->window, ready);
  }
  lane->beyond = rows.count == range.limit || lane->unwritten_first != UINT64_MAX;
  if (window_count(lane)) {
    lane->head = window_at(lane, 0)->sequence;
    lane_touch(turn, lane);
    lane_sort(turn->engine, lane);
  }
  store_rows_release(&rows);
}

bool lane_insert(struct turn *turn, struct lane *lane, uint64_t sequence, const struct id *id) {
  lane_touch(turn, lane);
  if (lane->beyond && window_count(lane) == 0)
    lane_fill(turn, lane); /* else the new one would have to wait for those on disk to be looked at */
  if (lane->ready == 0 || sequence < lane->head)
    lane->head = sequence;
  lane->ready++;
  guint count = window_count(lane);
  bool in_window = true;
  if (lane->beyond && (count == 0 || window_at(lane, count - 1)->sequence < sequence)) {
    lane->unwritten_first = MIN(lane->unwritten_first, sequence);
    in_window = false;
  } else {
    if (!lane->window)
      lane->window = g_array_sized_new(FALSE, FALSE, sizeof(struct ready), 16);
    struct ready ready = {sequence, *id};
    guint place = window_place(lane, sequence);
    if (place == count || window_at(lane, place)->sequence != sequence) /* else its row was read just now */
      g_array_insert_val(lane->window, lane->window_first + place, ready);
    if (window_count(lane) > WINDOW_MAX) {
      /* The one dropped may come with this very batch. */
      in_window = place != count;
      lane->unwritten_first = MIN(lane->unwritten_first, window_at(lane, count)->sequence);
      g_array_set_size(lane->window, lane->window->len - 1);
      lane->beyond = true;
    }
  }
  lane_sort(turn->engine, lane);
  turn->engine->dispatch_due = true;
  return in_window;
}

void lane_remove(struct turn *turn, struct lane *lane, uint64_t sequence) {
  g_assert(lane->ready > 0);
  lane_touch(turn, lane);
  lane->ready--;
  guint place = window_place(lane, sequence);
  if (place < window_count(lane) && window_at(lane, place)->sequence == sequence) {
    if (place == 0) {
      lane->window_first++;
      lane->head = sequence + 1;
      window_compact(lane);
    } else {
      g_array_remove_index(lane->window, lane->window_first + place);
    }
  }
  lane_sort(turn->engine, lane);
}

bool lane_look(struct turn *turn, struct lane *lane) {
  if (window_count(lane) || lane->ready == 0)
    return false;
  const uint64_t before = lane->node.key;
  lane_fill(turn, lane);
  return lane->node.key != before;
}

const struct ready *lane_first(struct turn *turn, struct lane *lane) {
  if (window_count(lane) == 0 && lane->ready > 0)
    lane_fill(turn, lane);
  if (window_count(lane) == 0 && lane->ready > 0 && lane->beyond)
    turn->engine->again = turn->engine->dispatch_due = true; /* what is missing comes with this turn's batch */
  return window_count(lane) ? window_at(lane, 0) : NULL;
}

size_t lane_ahead(const struct lane *lane, struct id *out_ids, size_t most) {
  size_t count = MIN(most, window_count(lane));
  for (size_t i = 0; i < count; i++)
    out_ids[i] = window_at(lane, (guint)i)->id;
  return count;
}

int64_t queue_oldest_ready_ms(struct turn *turn, struct queue *queue) {
  uint64_t oldest = UINT64_MAX;
  for (guint i = 0; i < queue->tasks->len; i++) {
    struct task *task = task_by_number(queue, i);
    for (int p = 0; task && p < PRIORITIES; p++) {
      struct lane *lane = task->lanes[p];
      if (!lane || lane->ready == 0)
        continue;
      const struct ready *first = lane_first(turn, lane);
      oldest = MIN(oldest, first ? first->sequence : lane->head);
    }
  }
  return oldest == UINT64_MAX ? 0 : sequence_time_ms(oldest);
}
