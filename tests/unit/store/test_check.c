/* SPDX-License-Identifier: Apache-2.0 */
/* A healthy store has no problems; each kind of damage planted in it is found and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "random_job.h"
#include "store/changes.h"
#include "store/check.h"
#include "store/format.h"
#include "store/keys.h"
#include "store/records.h"

/* ---- a store with something of everything ---- */

enum job_name {
  READY,
  READY_TOO,
  LEASED,
  PARKED,
  SCHEDULED,
  RETRYING,
  DONE,
  DEAD,
  BURIED,
  STEP_DONE,
  STEP_AT_WORK,
  STEP_BLOCKED,
  MEMBER_DONE,
  MEMBER_WAITING,
  JOBS
};

struct world {
  struct store *store;
  struct store_batch *batch;
  struct arena *arena;
  struct job jobs[JOBS];
  Millrace__Store__V1__QueueCountersRecord counters;
  Millrace__Store__V1__ChainRecord chain;
  Millrace__Store__V1__BatchRecord group;
  Millrace__Store__V1__ScheduleRecord schedule;
  struct id session;
  GPtrArray *sentences;
};

static const struct id chain_id = {{0xc1}};
static const struct id old_chain_id = {{0xc2}};
static const struct id group_id = {{0xb1}};
static const struct id old_group_id = {{0xb2}};
static const struct id schedule_uid = {{0x51}};
static const struct label labels[] = {{"env", "prod"}, {"team", "mail"}};
enum { LATER_MS = 1800000000, SEQUENCES = 5000, DELIVERY_SEQ = 4 };

static void commit(struct world *world) {
  uint64_t ticket;
  assert_int_equal(store_write(world->store, world->batch, &ticket, NULL), STATUS_OK);
  store_batch_clear(world->batch);
}

static void put(struct world *world, enum family family, const struct key *key, const void *message) {
  store_batch_put(world->batch, family, key_slice(key), record_pack(message, world->arena));
}

static ProtobufCBinaryData bytes_of(const struct id *id) {
  return (ProtobufCBinaryData){.len = ID_BYTES, .data = (uint8_t *)id->bytes};
}

static void shape_jobs(struct job *jobs) {
  for (unsigned i = 0; i < JOBS; i++)
    jobs[i] = plain_job(i);
  jobs[READY].labels = labels;
  jobs[READY].label_count = 2;
  jobs[READY].unique_key = "one";
  jobs[READY].unique_scope = UNIQUE_UNTIL_FINISHED;
  jobs[READY].unique_held = true;
  jobs[READY_TOO].priority = 10;
  jobs[READY_TOO].deadline_ms = LATER_MS;
  jobs[LEASED].expires_at_ms = LATER_MS;
  jobs[PARKED].state = JOB_PARKED;
  jobs[PARKED].concurrency_key = "customer";
  jobs[SCHEDULED].state = JOB_SCHEDULED;
  jobs[SCHEDULED].schedule_uid = schedule_uid;
  jobs[RETRYING].state = JOB_RETRYING;
  jobs[RETRYING].deliveries = 3;
  jobs[DONE].state = JOB_SUCCEEDED;
  jobs[DONE].result_apart = true;
  jobs[DONE].has_log = true;
  jobs[DEAD].state = JOB_FAILED;
  jobs[BURIED].state = JOB_DELETED;
  jobs[STEP_DONE].state = JOB_SUCCEEDED;
  jobs[STEP_BLOCKED].state = JOB_BLOCKED;
  for (unsigned i = STEP_DONE; i <= STEP_BLOCKED; i++) {
    jobs[i].chain_id = chain_id;
    jobs[i].chain_index = i - STEP_DONE;
  }
  jobs[MEMBER_DONE].state = JOB_CANCELLED;
  jobs[MEMBER_DONE].counted = true;
  jobs[MEMBER_DONE].batch_id = jobs[MEMBER_WAITING].batch_id = group_id;
  for (unsigned i = 0; i < JOBS; i++)
    if (job_is_terminal(jobs[i].state) || jobs[i].state == JOB_DELETED)
      jobs[i].delete_at_ms = LATER_MS;
}

static void write_jobs(struct world *world) {
  const struct spec spec = {.traceparent = "", .tracestate = ""};
  for (unsigned i = 0; i < JOBS; i++) {
    struct job job = world->jobs[i];
    if (i == LEASED)
      job.state = JOB_RUNNING;
    changes_job(world->batch, NULL, &job, world->arena);
    if (job.state != JOB_DELETED)
      changes_spec(world->batch, &job.id, &spec, world->arena);
  }
  const struct id *done = &world->jobs[DONE].id;
  changes_result(world->batch, done, (struct bytes){(const uint8_t *)"result", 6}, world->arena);
  Millrace__Store__V1__LogRecord log = MILLRACE__STORE__V1__LOG_RECORD__INIT;
  for (uint64_t number = 1; number <= 3; number++) {
    struct key key;
    key_log(&key, done, number);
    put(world, FAMILY_LOGS, &key, &log);
  }
}

static void write_counters(struct world *world) {
  struct key key;
  key_counters(&key, 1);
  put(world, FAMILY_QUEUES, &key, &world->counters);
}

static void write_lane(struct world *world, uint8_t priority, uint64_t ready, uint64_t head) {
  Millrace__Store__V1__LaneRecord lane = MILLRACE__STORE__V1__LANE_RECORD__INIT;
  struct key key;
  lane.ready = ready;
  lane.head = head;
  key_lane(&key, 1, priority, 2);
  put(world, FAMILY_QUEUES, &key, &lane);
}

static void write_marks(struct world *world, uint64_t sequence, uint32_t next_queue) {
  Millrace__Store__V1__MarksRecord marks = MILLRACE__STORE__V1__MARKS_RECORD__INIT;
  struct key key;
  marks.sequence = sequence;
  marks.next_queue = next_queue;
  key_meta(&key, "marks");
  put(world, FAMILY_META, &key, &marks);
}

static void write_queue(struct world *world) {
  Millrace__Store__V1__QueueRecord queue = MILLRACE__STORE__V1__QUEUE_RECORD__INIT;
  Millrace__Store__V1__TaskRecord task = MILLRACE__STORE__V1__TASK_RECORD__INIT;
  struct key key;
  queue.name = (char *)"default";
  queue.next_task = 3;
  key_queue(&key, 1);
  put(world, FAMILY_QUEUES, &key, &queue);
  task.name = (char *)"mail";
  key_task(&key, 1, 2);
  put(world, FAMILY_QUEUES, &key, &task);
  Millrace__Store__V1__QueueCountersRecord counters = MILLRACE__STORE__V1__QUEUE_COUNTERS_RECORD__INIT;
  counters.pending = 5; /* READY, READY_TOO, STEP_AT_WORK, MEMBER_WAITING and PARKED */
  counters.parked = 1;
  counters.running = 1;
  counters.scheduled = 1;
  counters.retrying = 1;
  counters.blocked = 1;
  counters.succeeded = 2;
  counters.failed = 1;
  counters.cancelled = 1;
  world->counters = counters;
  write_counters(world);
  write_lane(world, 5, 3, world->jobs[READY].sequence);
  write_lane(world, 10, 1, 0);
  write_marks(world, SEQUENCES, 2);
}

static void write_lease(struct world *world, const struct id *session, uint64_t delivery_seq, const struct job *job,
                        uint32_t delivery) {
  Millrace__Store__V1__LeaseRecord lease = MILLRACE__STORE__V1__LEASE_RECORD__INIT;
  Millrace__Store__V1__LeaseEntry entry = MILLRACE__STORE__V1__LEASE_ENTRY__INIT;
  Millrace__Store__V1__LeaseEntry *entries[] = {&entry};
  struct key key;
  entry.job_id = bytes_of(&job->id);
  entry.delivery = delivery;
  lease.n_entries = 1;
  lease.entries = entries;
  key_lease(&key, session, delivery_seq);
  put(world, FAMILY_LEASES, &key, &lease);
}

static void write_session(struct world *world) {
  Millrace__Store__V1__SessionRecord session = MILLRACE__STORE__V1__SESSION_RECORD__INIT;
  struct key key;
  session.delivery_seq = DELIVERY_SEQ;
  world->session = (struct id){{0x5e}};
  key_id(&key, &world->session);
  put(world, FAMILY_SESSIONS, &key, &session);
  write_lease(world, &world->session, DELIVERY_SEQ, &world->jobs[LEASED], 1);
}

static void write_groups(struct world *world) {
  Millrace__Store__V1__ChainRecord chain = MILLRACE__STORE__V1__CHAIN_RECORD__INIT;
  chain.n_job_ids = 3;
  chain.job_ids = arena_alloc(world->arena, 3 * sizeof *chain.job_ids);
  for (size_t i = 0; i < 3; i++)
    chain.job_ids[i] = bytes_of(&world->jobs[STEP_DONE + i].id);
  chain.state = MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_RUNNING;
  chain.succeeded = chain.current = 1;
  world->chain = chain;
  changes_chain(world->batch, &chain_id, NULL, &chain, world->arena);
  chain.state = MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_SUCCEEDED;
  chain.succeeded = 3; /* its steps are gone already */
  chain.delete_at_ms = LATER_MS;
  changes_chain(world->batch, &old_chain_id, NULL, &chain, world->arena);

  Millrace__Store__V1__BatchRecord group = MILLRACE__STORE__V1__BATCH_RECORD__INIT;
  group.state = MILLRACE__V1__BATCH_STATE__BATCH_STATE_OPEN;
  group.total = 2;
  group.cancelled = 1;
  group.seal_at_ms = LATER_MS;
  world->group = group;
  changes_batch(world->batch, &group_id, NULL, &group, world->arena);
  group.state = MILLRACE__V1__BATCH_STATE__BATCH_STATE_FAILED;
  group.total = 7;
  group.failed = 6;
  group.seal_at_ms = 0;
  group.delete_at_ms = LATER_MS;
  changes_batch(world->batch, &old_group_id, NULL, &group, world->arena);

  Millrace__Store__V1__ScheduleRecord schedule = MILLRACE__STORE__V1__SCHEDULE_RECORD__INIT;
  schedule.uid = bytes_of(&schedule_uid);
  schedule.next_fire_ms = LATER_MS;
  world->schedule = schedule;
  changes_schedule(world->batch, "nightly", NULL, &schedule, world->arena);
  schedule.paused = true;
  changes_schedule(world->batch, "paused", NULL, &schedule, world->arena);
}

static struct world *world_new(void) {
  struct world *world = g_new0(struct world, 1);
  world->store = store_open_memory();
  world->batch = store_batch_new();
  world->arena = arena_new(0);
  world->sentences = g_ptr_array_new_with_free_func(g_free);
  assert_int_equal(store_format_open(world->store, 1, 2, NULL), STATUS_OK);
  shape_jobs(world->jobs);
  write_jobs(world);
  write_queue(world);
  write_session(world);
  write_groups(world);
  commit(world);
  return world;
}

static void world_free(struct world *world) {
  g_ptr_array_free(world->sentences, TRUE);
  store_batch_free(world->batch);
  store_close(world->store);
  arena_free(world->arena);
  g_free(world);
}

/* ---- checking ---- */

static void hear(void *context, const char *sentence) {
  struct world *world = context;
  g_ptr_array_add(world->sentences, g_strdup(sentence));
}

static struct check_report check(struct world *world) {
  const struct check_listener listener = {.problem = hear, .context = world};
  struct check_report report = {0};
  struct error error;
  assert_int_equal(store_check(world->store, &listener, &report, &error), STATUS_OK);
  return report;
}

static void test_a_healthy_store_has_no_problems(void **state) {
  struct world *world = world_new();
  (void)state;
  const struct check_report report = check(world);
  for (guint i = 0; i < world->sentences->len; i++)
    print_message("%s\n", (const char *)world->sentences->pdata[i]);
  assert_int_equal(report.problems, 0);
  assert_int_equal(report.jobs, JOBS);
  assert_int_equal(report.leases, 1);
  world_free(world);
}

/* ---- damage ---- */

static void change(struct world *world, enum job_name name, struct job after) {
  changes_job(world->batch, &world->jobs[name], &after, world->arena);
}

/* Only the record, as if an index had been forgotten. */
static void overwrite(struct world *world, const struct job *job) {
  struct key key;
  key_id(&key, &job->id);
  store_batch_put(world->batch, FAMILY_JOBS, key_slice(&key), record_pack_job(job, world->arena));
}

static void lose_ready(struct world *world) {
  struct key key;
  key_ready(&key, 1, 2, world->jobs[READY].sequence);
  store_batch_delete(world->batch, FAMILY_READY_NORMAL, key_slice(&key));
}

static void swap_ready(struct world *world) {
  struct key key;
  key_ready(&key, 1, 2, world->jobs[READY].sequence);
  store_batch_put(world->batch, FAMILY_READY_NORMAL, key_slice(&key), (struct slice){world->jobs[DONE].id.bytes, ID_BYTES});
}

static void add_ready(struct world *world) {
  struct key key;
  key_ready(&key, 1, 2, 77);
  store_batch_put(world->batch, FAMILY_READY_LOW, key_slice(&key), (struct slice){world->jobs[DONE].id.bytes, ID_BYTES});
}

static void add_ready_beside_lease(struct world *world) {
  struct key key;
  key_ready(&key, 1, 2, world->jobs[LEASED].sequence);
  store_batch_put(world->batch, FAMILY_READY_NORMAL, key_slice(&key), (struct slice){world->jobs[LEASED].id.bytes, ID_BYTES});
}

static void lose_lease(struct world *world) {
  struct key key;
  key_lease(&key, &world->session, DELIVERY_SEQ);
  store_batch_delete(world->batch, FAMILY_LEASES, key_slice(&key));
}

static void lease_twice(struct world *world) {
  write_lease(world, &world->session, DELIVERY_SEQ - 1, &world->jobs[LEASED], 1);
}

static void lease_ended_job(struct world *world) {
  write_lease(world, &world->session, DELIVERY_SEQ - 1, &world->jobs[DEAD], 1);
}

static void lease_wrong_number(struct world *world) {
  write_lease(world, &world->session, DELIVERY_SEQ, &world->jobs[LEASED], 9);
}

static void lease_without_session(struct world *world) {
  struct key key;
  key_id(&key, &world->session);
  store_batch_delete(world->batch, FAMILY_SESSIONS, key_slice(&key));
}

static void lease_from_the_future(struct world *world) {
  lose_lease(world);
  write_lease(world, &world->session, DELIVERY_SEQ + 1, &world->jobs[LEASED], 1);
}

static void leave_dead_lease(struct world *world) {
  write_lease(world, &world->session, 1, &world->jobs[RETRYING], world->jobs[RETRYING].deliveries);
}

static void lose_parked(struct world *world) {
  struct key key;
  key_parked(&key, 1, "customer", 5, world->jobs[PARKED].sequence);
  store_batch_delete(world->batch, FAMILY_PARKED, key_slice(&key));
}

static void lose_timer(struct world *world) {
  struct key key;
  key_timer(&key, world->jobs[SCHEDULED].run_at_ms, TIMER_RUN, &world->jobs[SCHEDULED].id);
  store_batch_delete(world->batch, FAMILY_TIMERS, key_slice(&key));
}

static void add_timer(struct world *world) {
  struct key key;
  key_timer(&key, 5, TIMER_RUN, &world->jobs[READY].id);
  store_batch_put(world->batch, FAMILY_TIMERS, key_slice(&key), (struct slice){"", 0});
}

static void lose_schedule_timer(struct world *world) {
  struct key key;
  key_timer(&key, LATER_MS, TIMER_SCHEDULE, &schedule_uid);
  store_batch_delete(world->batch, FAMILY_TIMERS, key_slice(&key));
}

static void lose_chain_timer(struct world *world) {
  struct key key;
  key_timer(&key, LATER_MS, TIMER_CHAIN_END, &old_chain_id);
  store_batch_delete(world->batch, FAMILY_TIMERS, key_slice(&key));
}

static void add_batch_timer(struct world *world) {
  struct key key;
  key_timer(&key, 99, TIMER_BATCH_SEAL, &group_id);
  store_batch_put(world->batch, FAMILY_TIMERS, key_slice(&key), (struct slice){"", 0});
}

static void lose_unique(struct world *world) {
  struct key key;
  key_unique(&key, 1, "one");
  store_batch_delete(world->batch, FAMILY_UNIQUE, key_slice(&key));
}

static void hold_unique_twice(struct world *world) {
  struct job other = world->jobs[READY_TOO];
  other.unique_key = "one";
  other.unique_held = true;
  overwrite(world, &other);
}

static void lose_label(struct world *world) {
  struct key key;
  key_label(&key, "env", "prod", &world->jobs[READY].id);
  store_batch_delete(world->batch, FAMILY_LABELS, key_slice(&key));
}

static void add_label(struct world *world) {
  struct key key;
  key_label(&key, "env", "test", &world->jobs[READY].id);
  store_batch_put(world->batch, FAMILY_LABELS, key_slice(&key), (struct slice){"", 0});
}

static void lose_finished(struct world *world) {
  struct key key;
  key_ended(&key, 1, LATER_MS, &world->jobs[DONE].id);
  store_batch_delete(world->batch, FAMILY_FINISHED, key_slice(&key));
}

static void lose_spec(struct world *world) {
  struct key key;
  key_id(&key, &world->jobs[READY].id);
  store_batch_delete(world->batch, FAMILY_SPECS, key_slice(&key));
}

static void leave_spec(struct world *world) {
  const struct spec spec = {.traceparent = "", .tracestate = ""};
  changes_spec(world->batch, &world->jobs[BURIED].id, &spec, world->arena);
}

static void damage_spec(struct world *world) {
  struct key key;
  key_id(&key, &world->jobs[READY].id);
  store_batch_put(world->batch, FAMILY_SPECS, key_slice(&key), (struct slice){"\xff\xff", 2});
}

static void lose_result(struct world *world) {
  struct key key;
  key_id(&key, &world->jobs[DONE].id);
  store_batch_delete(world->batch, FAMILY_RESULTS, key_slice(&key));
}

static void lose_log(struct world *world) {
  assert_int_equal(changes_delete_log(world->batch, world->store, &world->jobs[DONE].id, NULL), STATUS_OK);
}

static void leave_log(struct world *world) {
  struct key key;
  key_log(&key, &world->jobs[DEAD].id, 3);
  store_batch_put(world->batch, FAMILY_LOGS, key_slice(&key), (struct slice){"", 0});
}

static void damage_job(struct world *world) {
  struct key key;
  key_id(&key, &world->jobs[READY].id);
  store_batch_put(world->batch, FAMILY_JOBS, key_slice(&key), (struct slice){"\xff\xff", 2});
}

static void lose_job(struct world *world) {
  struct key key;
  key_id(&key, &world->jobs[READY].id);
  store_batch_delete(world->batch, FAMILY_JOBS, key_slice(&key));
}

static void count_wrongly(struct world *world) {
  world->counters.running++;
  write_counters(world);
}

static void count_parked_wrongly(struct world *world) {
  world->counters.parked = 0;
  write_counters(world);
}

static void lose_queue(struct world *world) {
  struct key key;
  key_queue(&key, 1);
  store_batch_delete(world->batch, FAMILY_QUEUES, key_slice(&key));
}

static void lose_task(struct world *world) {
  struct key key;
  key_task(&key, 1, 2);
  store_batch_delete(world->batch, FAMILY_QUEUES, key_slice(&key));
}

static void number_task_wrongly(struct world *world) {
  Millrace__Store__V1__TaskRecord task = MILLRACE__STORE__V1__TASK_RECORD__INIT;
  struct key key;
  key_task(&key, 1, 3);
  put(world, FAMILY_QUEUES, &key, &task);
}

static void count_lane_wrongly(struct world *world) {
  write_lane(world, 5, 2, 0);
}

static void move_head(struct world *world) {
  write_lane(world, 5, 3, world->jobs[READY].sequence + 1);
}

static void lower_sequence_mark(struct world *world) {
  write_marks(world, 10, 2);
}

static void lower_queue_mark(struct world *world) {
  write_marks(world, SEQUENCES, 1);
}

static void count_steps_wrongly(struct world *world) {
  Millrace__Store__V1__ChainRecord chain = world->chain;
  chain.succeeded = 2;
  changes_chain(world->batch, &chain_id, &world->chain, &chain, world->arena);
}

static void lose_chain(struct world *world) {
  changes_chain(world->batch, &chain_id, &world->chain, NULL, world->arena);
}

static void end_chain_early(struct world *world) {
  Millrace__Store__V1__ChainRecord chain = world->chain;
  chain.state = MILLRACE__V1__CHAIN_STATE__CHAIN_STATE_FAILED;
  chain.delete_at_ms = LATER_MS;
  changes_chain(world->batch, &chain_id, &world->chain, &chain, world->arena);
}

static void forget_chain_retention(struct world *world) {
  Millrace__Store__V1__ChainRecord chain = world->chain;
  chain.delete_at_ms = LATER_MS;
  changes_chain(world->batch, &chain_id, &world->chain, &chain, world->arena);
}

static void exchange_steps(struct world *world) {
  Millrace__Store__V1__ChainRecord chain = world->chain;
  ProtobufCBinaryData ids[] = {chain.job_ids[0], chain.job_ids[2], chain.job_ids[1]};
  chain.job_ids = ids;
  changes_chain(world->batch, &chain_id, &world->chain, &chain, world->arena);
}

static void stall_chain(struct world *world) {
  struct job step = world->jobs[STEP_AT_WORK];
  step.state = JOB_CANCELLED;
  step.delete_at_ms = LATER_MS;
  change(world, STEP_AT_WORK, step);
  step = world->jobs[STEP_BLOCKED];
  step.state = JOB_CANCELLED;
  step.delete_at_ms = LATER_MS;
  change(world, STEP_BLOCKED, step);
}

static void count_members_wrongly(struct world *world) {
  Millrace__Store__V1__BatchRecord group = world->group;
  group.total = 3;
  changes_batch(world->batch, &group_id, &world->group, &group, world->arena);
}

static void count_ends_wrongly(struct world *world) {
  Millrace__Store__V1__BatchRecord group = world->group;
  group.succeeded = 1;
  changes_batch(world->batch, &group_id, &world->group, &group, world->arena);
}

static void count_end_as_another(struct world *world) {
  Millrace__Store__V1__BatchRecord group = world->group;
  group.succeeded = 1;
  group.cancelled = 0;
  changes_batch(world->batch, &group_id, &world->group, &group, world->arena);
}

static void forget_to_count(struct world *world) {
  struct job member = world->jobs[MEMBER_DONE];
  member.counted = false;
  change(world, MEMBER_DONE, member);
}

static void end_batch_early(struct world *world) {
  Millrace__Store__V1__BatchRecord group = world->group;
  group.state = MILLRACE__V1__BATCH_STATE__BATCH_STATE_CANCELLED;
  group.seal_at_ms = 0;
  group.delete_at_ms = LATER_MS;
  changes_batch(world->batch, &group_id, &world->group, &group, world->arena);
}

static void forget_to_seal(struct world *world) {
  Millrace__Store__V1__BatchRecord group = world->group;
  group.seal_at_ms = 0;
  changes_batch(world->batch, &group_id, &world->group, &group, world->arena);
}

static void lose_format(struct world *world) {
  struct key key;
  key_meta(&key, "store");
  store_batch_delete(world->batch, FAMILY_META, key_slice(&key));
}

static const struct damage {
  const char *name;
  void (*plant)(struct world *world);
  const char *sentence; /* a part of it */
} damages[] = {
    {"a ready key is missing", lose_ready, "of family ready_normal is missing"},
    {"a ready key names another job", swap_ready, "of family ready_normal holds"},
    {"a ready key of an ended job", add_ready, "of family ready_low belongs to no record"},
    {"ready and leased at once", add_ready_beside_lease, "of family ready_normal belongs to no record"},
    {"neither ready nor leased", lose_lease, "of family ready_normal is missing"},
    {"leased twice", lease_twice, "is leased 2 times at once"},
    {"an ended job leased", lease_ended_job, "is leased, but its record is in state 7"},
    {"a lease skips a delivery", lease_wrong_number, "is leased as delivery 9 after 0 deliveries"},
    {"a lease of no session", lease_without_session, "belongs to no session"},
    {"a lease above the session's mark", lease_from_the_future, "gave out message 4, but a lease has number 5"},
    {"a lease that holds nothing", leave_dead_lease, "holds nothing any more"},
    {"a parked key is missing", lose_parked, "of family parked is missing"},
    {"a timer is missing", lose_timer, "of family timers is missing"},
    {"a timer too much", add_timer, "of family timers belongs to no record"},
    {"a schedule without its timer", lose_schedule_timer, "of family timers is missing"},
    {"a chain without its timer", lose_chain_timer, "of family timers is missing"},
    {"a batch's timer too much", add_batch_timer, "of family timers belongs to no record"},
    {"a unique key is missing", lose_unique, "of family unique is missing"},
    {"a unique key held by two", hold_unique_twice, "of family unique holds"},
    {"a label is missing", lose_label, "of family labels is missing"},
    {"a label too much", add_label, "of family labels belongs to no record"},
    {"an ended job without retention key", lose_finished, "of family finished is missing"},
    {"a spec is missing", lose_spec, "of family specs is missing"},
    {"a spec of a tombstone", leave_spec, "of family specs belongs to no record"},
    {"a damaged spec", damage_spec, "cannot be read"},
    {"a result is missing", lose_result, "of family results is missing"},
    {"a log is missing", lose_log, "is missing"},
    {"a log that nobody knows of", leave_log, "of family logs belongs to no record"},
    {"a damaged job", damage_job, "cannot be read"},
    {"a job is missing", lose_job, "belongs to no record"},
    {"a wrong counter", count_wrongly, "counts 2 running, there are 1"},
    {"a wrong counter of parked jobs", count_parked_wrongly, "counts 0 parked, there are 1"},
    {"a queue is missing", lose_queue, "Queue 1 has jobs or counters, but no record"},
    {"a task is missing", lose_task, "has task 2 of queue 1, which is not there"},
    {"a task number given out twice", number_task_wrongly, "the next number is 3"},
    {"a wrong lane length", count_lane_wrongly, "counts 2 ready jobs, there are 3"},
    {"a head above a waiting job", move_head, "but a job waits at"},
    {"a low sequence mark", lower_sequence_mark, "none at or above 10 was given out"},
    {"a low queue mark", lower_queue_mark, "the next number is 1"},
    {"a chain counts wrongly", count_steps_wrongly, "counts 2 steps succeeded, there are 1"},
    {"a chain is missing", lose_chain, "which is not there"},
    {"a step blocked behind an ended chain", end_chain_early, "which has ended"},
    {"a running chain with an end", forget_chain_retention, "runs, but its retention says otherwise"},
    {"steps in another order", exchange_steps, "which does not know it"},
    {"a chain in which nothing runs", stall_chain, "runs, but none of its steps does"},
    {"a batch counts its members wrongly", count_members_wrongly, "counts 3 members, there are 2"},
    {"a batch counts ends wrongly", count_ends_wrongly, "counts 2 ended members, there are 1"},
    {"a batch counts an end as another", count_end_as_another, "counts 0 members in state 8, there are 1"},
    {"an end not counted", forget_to_count, "but its batch has not counted it"},
    {"a batch ended before its members", end_batch_early, "has ended with 1 of 2 members counted"},
    {"an open batch that is never sealed", forget_to_seal, "its sealing time says otherwise"},
    {"no format record", lose_format, "no format record"},
};

static void test_each_damage_is_found_and_named(void **state) {
  (void)state;
  for (size_t i = 0; i < G_N_ELEMENTS(damages); i++) {
    struct world *world = world_new();
    damages[i].plant(world);
    commit(world);
    const struct check_report report = check(world);
    bool is_named = false;
    for (guint k = 0; k < world->sentences->len; k++)
      is_named = is_named || strstr(world->sentences->pdata[k], damages[i].sentence);
    if (!is_named) {
      for (guint k = 0; k < world->sentences->len; k++)
        print_error("%s\n", (const char *)world->sentences->pdata[k]);
      fail_msg("%s: no sentence with \"%s\"", damages[i].name, damages[i].sentence);
    }
    assert_int_equal(report.problems, world->sentences->len);
    world_free(world);
  }
}

static void test_only_the_first_hundred_problems_are_told(void **state) {
  struct world *world = world_new();
  (void)state;
  for (uint64_t i = 0; i < 250; i++) {
    struct key key;
    key_ready(&key, 9, 9, i);
    store_batch_put(world->batch, FAMILY_READY_LOW, key_slice(&key), (struct slice){"", 0});
  }
  commit(world);
  assert_int_equal(check(world).problems, 250);
  assert_int_equal(world->sentences->len, 100);
  world_free(world);
}

static void test_a_long_store_is_walked_to_its_end(void **state) {
  struct world *world = world_new();
  const struct spec spec = {.traceparent = "", .tracestate = ""};
  (void)state;
  for (unsigned i = 0; i < 3500; i++) { /* more than three chunks */
    struct job job = plain_job(10000 + i);
    job.state = JOB_SUCCEEDED;
    job.delete_at_ms = LATER_MS;
    job.sequence = 1;
    changes_job(world->batch, NULL, &job, world->arena);
    changes_spec(world->batch, &job.id, &spec, world->arena);
  }
  world->counters.succeeded += 3500;
  write_counters(world);
  commit(world);
  const struct check_report report = check(world);
  assert_int_equal(report.problems, 0);
  assert_int_equal(report.jobs, JOBS + 3500);
  world_free(world);
}

static void test_a_store_of_another_format_is_not_judged(void **state) {
  struct world *world = world_new();
  Millrace__Store__V1__StoreRecord record = MILLRACE__STORE__V1__STORE_RECORD__INIT;
  const struct check_listener listener = {.problem = hear, .context = world};
  struct check_report report;
  struct error error;
  struct key key;
  (void)state;
  record.format = STORE_FORMAT + 1;
  key_meta(&key, "store");
  store_batch_put(world->batch, FAMILY_META, key_slice(&key), record_pack(&record.base, world->arena));
  commit(world);
  assert_int_equal(store_check(world->store, &listener, &report, &error), STATUS_FAILED_PRECONDITION);
  assert_non_null(strstr(error.message, "format 2"));
  assert_int_equal(world->sentences->len, 0);
  world_free(world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_healthy_store_has_no_problems),          cmocka_unit_test(test_each_damage_is_found_and_named),
      cmocka_unit_test(test_only_the_first_hundred_problems_are_told), cmocka_unit_test(test_a_long_store_is_walked_to_its_end),
      cmocka_unit_test(test_a_store_of_another_format_is_not_judged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
