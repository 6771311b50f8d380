/* SPDX-License-Identifier: Apache-2.0 */
/* plans.c: jobs as producers ask for them, of every kind that there is. */
#include <string.h>

#include "sim.h"

const char *const queue_names[QUEUES] = {"default", "mail", "reports", "video"};
const char *const task_names[TASKS] = {"send", "render", "count"};

struct plan_policy plan_policy_random(struct sim *sim) {
  return (struct plan_policy){
      .is_set = true,
      .attempts_max = 1 + sim_roll(sim, 4),
      .kind = 1 + (int)sim_roll(sim, 4),
      .initial_ms = 1 + sim_roll(sim, 20000),
      .list_ms = {sim_roll(sim, 3000), sim_roll(sim, 60000)},
  };
}

Millrace__V1__RetryPolicy *plan_policy_message(struct sim *sim, const struct plan_policy *policy) {
  if (!policy->is_set)
    return NULL;
  Millrace__V1__RetryPolicy *message = NEW(sim, Millrace__V1__RetryPolicy, retry_policy);
  message->max_attempts = policy->attempts_max;
  message->kind = (Millrace__V1__BackoffKind)policy->kind;
  message->initial = sim_duration(sim, policy->initial_ms);
  message->jitter = sim_message(sim, &google__protobuf__double_value__descriptor); /* none: delays are exact */
  if (policy->kind == MILLRACE__V1__BACKOFF_KIND__BACKOFF_KIND_LIST) {
    message->delays = arena_alloc(sim->arena, 2 * sizeof *message->delays);
    for (; message->n_delays < 2; message->n_delays++)
      message->delays[message->n_delays] = sim_duration(sim, policy->list_ms[message->n_delays]);
  }
  return message;
}

static void add_times(struct sim *sim, const struct plan *plan, Millrace__V1__JobSpec *spec) {
  if (sim_once_in(sim, 4) && plan->kind != PLAN_SCHEDULED) {
    spec->start_case = MILLRACE__V1__JOB_SPEC__START_DELAY;
    spec->delay = sim_duration(sim, sim_roll(sim, sim_once_in(sim, 5) ? 4 * 3600000 : 20000));
  } else if (sim_once_in(sim, 10) && plan->kind == PLAN_ALONE) {
    spec->start_case = MILLRACE__V1__JOB_SPEC__START_RUN_AT;
    spec->run_at = sim_timestamp(sim, sim->wall_ms - 5000 + sim_roll(sim, 60000));
  }
  if (sim_once_in(sim, 8)) {
    spec->expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN;
    spec->expires_in = sim_duration(sim, 1 + sim_roll(sim, 120000));
  }
  if (sim_once_in(sim, 8))
    spec->total_timeout = sim_duration(sim, 1 + sim_roll(sim, 300000));
  if (sim_once_in(sim, 6))
    spec->retention = sim_duration(sim, 60000 + sim_roll(sim, 3600000));
}

static void add_keys(struct sim *sim, struct plan *plan, Millrace__V1__JobSpec *spec) {
  if (sim_once_in(sim, 5) && (plan->kind == PLAN_ALONE || plan->kind == PLAN_MEMBER)) {
    spec->unique_key = NEW(sim, Millrace__V1__UniqueKey, unique_key);
    spec->unique_key->key = sim_text(sim, "u%u", sim_roll(sim, 6));
    spec->unique_key->scope = (Millrace__V1__UniqueScope)sim_roll(sim, 4);
    spec->unique_key->rule = (Millrace__V1__UniqueRule)sim_roll(sim, 3);
    if (spec->unique_key->scope == MILLRACE__V1__UNIQUE_SCOPE__UNIQUE_SCOPE_PERIOD)
      spec->unique_key->period = sim_duration(sim, 1 + sim_roll(sim, 600000));
  }
  if (sim_once_in(sim, 4)) {
    g_snprintf(plan->concurrency_key, sizeof plan->concurrency_key, "k%u", sim_roll(sim, 4));
    plan->concurrency_limit = 1 + sim_roll(sim, 3);
    spec->concurrency_key = NEW(sim, Millrace__V1__ConcurrencyKey, concurrency_key);
    spec->concurrency_key->key = sim_text(sim, "%s", plan->concurrency_key);
    spec->concurrency_key->limit = plan->concurrency_limit;
  }
}

static void add_label(struct sim *sim, const struct plan *plan, Millrace__V1__JobSpec *spec) {
  Millrace__V1__JobSpec__LabelsEntry *label = sim_message(sim, &millrace__v1__job_spec__labels_entry__descriptor);
  label->key = "plan";
  label->value = sim_text(sim, "%u", plan->number);
  spec->n_labels = 1;
  spec->labels = arena_alloc(sim->arena, sizeof *spec->labels);
  spec->labels[0] = label;
}

static void plan_pack(struct plan *plan, const Millrace__V1__JobSpec *spec) {
  size_t length = millrace__v1__job_spec__get_packed_size(spec);
  uint8_t *packed = g_malloc(length + 1);
  millrace__v1__job_spec__pack(spec, packed);
  plan->packed = g_bytes_new_take(packed, length);
}

struct plan *plan_new(struct sim *sim, enum plan_kind kind, struct group *group) {
  static const int priorities[] = {0, 1, 5, 5, 8, 10};
  struct plan *plan = g_new0(struct plan, 1);
  plan->number = sim->plans->len;
  plan->kind = kind;
  plan->group = group;
  plan->queue = sim_roll(sim, QUEUES);
  plan->task = sim_roll(sim, TASKS);
  plan->attempt_timeout_ms = 30 * MINUTE_MS;
  plan->planned_ms = sim->monotonic_ms;
  g_ptr_array_add(sim->plans, plan);
  Millrace__V1__JobSpec *spec = NEW(sim, Millrace__V1__JobSpec, job_spec);
  spec->task = (char *)task_names[plan->task];
  spec->queue = (char *)queue_names[plan->queue];
  spec->priority = (Millrace__V1__JobPriority)priorities[sim_roll(sim, G_N_ELEMENTS(priorities))];
  if (kind != PLAN_CALLBACK && kind != PLAN_SCHEDULED && !sim_once_in(sim, 4)) {
    struct id id = sim_id(sim);
    id_format(&id, plan->id);
    spec->id = plan->id;
  }
  if (kind != PLAN_CALLBACK) {
    add_times(sim, plan, spec);
    add_keys(sim, plan, spec);
  }
  if (sim_once_in(sim, 2)) {
    plan->policy = plan_policy_random(sim);
    spec->retry_policy = plan_policy_message(sim, &plan->policy);
  }
  if (sim_once_in(sim, 4)) {
    plan->attempt_timeout_ms = sim_once_in(sim, 4) ? 0 : 1 + sim_roll(sim, 60000);
    spec->attempt_timeout = sim_duration(sim, plan->attempt_timeout_ms);
  }
  add_label(sim, plan, spec);
  plan_pack(plan, spec);
  return plan;
}

void plan_set_id(struct sim *sim, struct plan *plan, const struct id *id) {
  Millrace__V1__JobSpec *spec = plan_spec(sim, plan);
  id_format(id, plan->id);
  spec->id = plan->id;
  g_bytes_unref(plan->packed);
  plan_pack(plan, spec);
}

Millrace__V1__JobSpec *plan_spec(struct sim *sim, const struct plan *plan) {
  size_t length;
  const uint8_t *packed = g_bytes_get_data(plan->packed, &length);
  return millrace__v1__job_spec__unpack(arena_protobuf(sim->arena), length, packed);
}

struct group *group_new(struct sim *sim, enum group_kind kind) {
  struct group *group = g_new0(struct group, 1);
  group->kind = kind;
  group->id = sim_id(sim);
  group->members = g_ptr_array_new();
  g_ptr_array_add(sim->groups, group);
  return group;
}

void plans_free(struct sim *sim) {
  for (guint i = 0; i < sim->plans->len; i++) {
    struct plan *plan = g_ptr_array_index(sim->plans, i);
    g_bytes_unref(plan->packed);
    g_free(plan);
  }
  for (guint i = 0; i < sim->groups->len; i++) {
    struct group *group = g_ptr_array_index(sim->groups, i);
    g_ptr_array_free(group->members, TRUE);
    g_bytes_unref(group->last_chunk);
    g_free(group);
  }
  g_ptr_array_free(sim->plans, TRUE);
  g_ptr_array_free(sim->groups, TRUE);
}
