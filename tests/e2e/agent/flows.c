/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent.h"

static const char *id_of(struct command *command) {
  return text_of(command->fields, "id");
}

static const char *name_of(struct command *command) {
  return text_of(command->fields, "name");
}

static enum millrace_code answer_nothing(struct command *command, enum millrace_code code) {
  yajl_gen_map_open(command->out);
  yajl_gen_map_close(command->out);
  return code;
}

/* ---- chains ---- */

static enum millrace_code answer_chain(struct command *command, enum millrace_code code, struct millrace_chain *chain) {
  if (code != MILLRACE_OK)
    return code;
  if (chain->timed_out)
    code = wait_timeout(command, chain->state);
  else
    put_chain(command->out, chain);
  millrace_free(chain);
  return code;
}

enum millrace_code chain_create(struct command *command) {
  struct millrace_chain *chain = NULL;
  size_t count;
  const struct millrace_job_spec *steps = specs_of(command, "steps", &count);
  const struct millrace_job_spec *on_failure = spec_of(command, field_of(command->fields, "on_failure"));
  enum millrace_code code = millrace_chain_create(client, id_of(command), steps, count, on_failure, &chain, &command->error);
  return answer_chain(command, code, chain);
}

enum millrace_code chain_get(struct command *command) {
  struct millrace_chain *chain = NULL;
  enum millrace_code code = millrace_chain_get(client, id_of(command), &chain, &command->error);
  return answer_chain(command, code, chain);
}

enum millrace_code chain_wait(struct command *command) {
  struct millrace_chain *chain = NULL;
  int64_t timeout_ms = ms_of(command->fields, "timeout");
  enum millrace_code code = millrace_chain_wait(client, id_of(command), timeout_ms, &chain, &command->error);
  return answer_chain(command, code, chain);
}

enum millrace_code chain_cancel(struct command *command) {
  struct millrace_chain *chain = NULL;
  enum millrace_code code = millrace_chain_cancel(client, id_of(command), flag_of(command->fields, "terminate"),
                                                  text_of(command->fields, "reason"), &chain, &command->error);
  return answer_chain(command, code, chain);
}

/* ---- batches ---- */

static enum millrace_code answer_batch(struct command *command, enum millrace_code code, struct millrace_batch *batch) {
  if (code != MILLRACE_OK)
    return code;
  if (batch->timed_out)
    code = wait_timeout(command, batch->state);
  else
    put_batch(command->out, batch);
  millrace_free(batch);
  return code;
}

enum millrace_code batch_create(struct command *command) {
  struct millrace_batch *batch = NULL;
  struct millrace_batch_spec spec = {
      .id = id_of(command),
      .description = text_of(command->fields, "description"),
      .defaults = spec_of(command, field_of(command->fields, "defaults")),
      .on_success = spec_of(command, field_of(command->fields, "on_success")),
      .on_complete = spec_of(command, field_of(command->fields, "on_complete")),
      .seal = flag_of(command->fields, "seal"),
  };
  spec.items = specs_of(command, "items", &spec.item_count);
  enum millrace_code code = millrace_batch_create(client, &spec, &batch, &command->error);
  return answer_batch(command, code, batch);
}

enum millrace_code batch_add(struct command *command) {
  struct millrace_outcomes *outcomes;
  size_t count;
  const struct millrace_job_spec *items = specs_of(command, "items", &count);
  enum millrace_code code = millrace_batch_add(client, id_of(command), (uint32_t)integer_of(command->fields, "chunk"), items,
                                               count, flag_of(command->fields, "last"), &outcomes, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_key(command->out, "outcomes");
  yajl_gen_array_open(command->out);
  put_outcomes(command->out, outcomes);
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

enum millrace_code batch_seal(struct command *command) {
  struct millrace_batch *batch = NULL;
  enum millrace_code code = millrace_batch_seal(client, id_of(command), &batch, &command->error);
  return answer_batch(command, code, batch);
}

enum millrace_code batch_get(struct command *command) {
  struct millrace_batch *batch = NULL;
  enum millrace_code code = millrace_batch_get(client, id_of(command), &batch, &command->error);
  return answer_batch(command, code, batch);
}

enum millrace_code batch_wait(struct command *command) {
  struct millrace_batch *batch = NULL;
  int64_t timeout_ms = ms_of(command->fields, "timeout");
  enum millrace_code code = millrace_batch_wait(client, id_of(command), timeout_ms, &batch, &command->error);
  return answer_batch(command, code, batch);
}

enum millrace_code batch_cancel(struct command *command) {
  struct millrace_batch *batch = NULL;
  enum millrace_code code = millrace_batch_cancel(client, id_of(command), flag_of(command->fields, "terminate"),
                                                  text_of(command->fields, "reason"), &batch, &command->error);
  return answer_batch(command, code, batch);
}

/* ---- schedules ---- */

static enum millrace_code answer_schedule(struct command *command, enum millrace_code code, struct millrace_schedule *schedule) {
  if (code != MILLRACE_OK)
    return code;
  put_schedule(command->out, schedule);
  millrace_free(schedule);
  return MILLRACE_OK;
}

enum millrace_code schedule_create(struct command *command) {
  struct millrace_schedule *schedule = NULL;
  const struct millrace_schedule_spec spec = schedule_of(command, command->fields);
  enum millrace_code code = millrace_schedule_create(client, &spec, &schedule, &command->error);
  return answer_schedule(command, code, schedule);
}

enum millrace_code schedule_get(struct command *command) {
  struct millrace_schedule *schedule = NULL;
  enum millrace_code code = millrace_schedule_get(client, name_of(command), &schedule, &command->error);
  return answer_schedule(command, code, schedule);
}

enum millrace_code schedule_pause(struct command *command) {
  struct millrace_schedule *schedule = NULL;
  enum millrace_code code = millrace_schedule_pause(client, name_of(command), &schedule, &command->error);
  return answer_schedule(command, code, schedule);
}

enum millrace_code schedule_resume(struct command *command) {
  struct millrace_schedule *schedule = NULL;
  enum millrace_code code = millrace_schedule_resume(client, name_of(command), &schedule, &command->error);
  return answer_schedule(command, code, schedule);
}

enum millrace_code schedule_delete(struct command *command) {
  return answer_nothing(command, millrace_schedule_delete(client, name_of(command), &command->error));
}

enum millrace_code schedule_list(struct command *command) {
  yajl_gen_map_open(command->out);
  put_key(command->out, "schedules");
  yajl_gen_array_open(command->out);
  struct millrace_page page = {0, NULL};
  do {
    struct millrace_schedule_list *list;
    enum millrace_code code = millrace_schedule_list(client, text_of(command->fields, "owner"), &page, &list, &command->error);
    if (code != MILLRACE_OK)
      return code;
    for (size_t i = 0; i < list->count; i++)
      put_schedule(command->out, &list->schedules[i]);
    page.token = own(command, g_strdup(list->next_page_token));
    millrace_free(list);
  } while (page.token && *page.token);
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

enum millrace_code schedule_run(struct command *command) {
  char job_id[MILLRACE_ID_BYTES];
  enum millrace_code code = millrace_schedule_run(client, name_of(command), job_id, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_text(command->out, "job_id", job_id);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

enum millrace_code schedule_preview(struct command *command) {
  const struct millrace_timing timing = timing_of(command->fields);
  size_t count = (size_t)integer_of(command->fields, "count");
  int64_t *times_ms = own(command, g_new0(int64_t, count + 1));
  enum millrace_code code =
      millrace_schedule_preview(client, &timing, time_of(command->fields, "after"), times_ms, count, &count, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_key(command->out, "times");
  yajl_gen_array_open(command->out);
  for (size_t i = 0; i < count; i++)
    put_key(command->out, own(command, time_text(times_ms[i])));
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

enum millrace_code schedules_declare(struct command *command) {
  yajl_val list = field_of(command->fields, "schedules");
  size_t count = YAJL_IS_ARRAY(list) ? list->u.array.len : 0;
  struct millrace_schedule_spec *specs = own(command, g_new0(struct millrace_schedule_spec, count + 1));
  for (size_t i = 0; i < count; i++)
    specs[i] = schedule_of(command, list->u.array.values[i]);
  struct millrace_declared declared;
  enum millrace_code code = millrace_schedules_declare(client, text_of(command->fields, "owner"), specs, count,
                                                       flag_of(command->fields, "prune"), &declared, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_integer(command->out, "created", declared.created);
  put_integer(command->out, "updated", declared.updated);
  put_integer(command->out, "unchanged", declared.unchanged);
  put_integer(command->out, "deleted", declared.deleted);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}

/* ---- queues ---- */

static enum millrace_code answer_queue(struct command *command, enum millrace_code code, struct millrace_queue *queue) {
  if (code != MILLRACE_OK)
    return code;
  put_queue(command->out, queue);
  millrace_free(queue);
  return MILLRACE_OK;
}

enum millrace_code queue_get(struct command *command) {
  struct millrace_queue *queue = NULL;
  enum millrace_code code = millrace_queue_get(client, name_of(command), &queue, &command->error);
  return answer_queue(command, code, queue);
}

enum millrace_code queue_pause(struct command *command) {
  struct millrace_queue *queue = NULL;
  enum millrace_code code = millrace_queue_pause(client, name_of(command), &queue, &command->error);
  return answer_queue(command, code, queue);
}

enum millrace_code queue_resume(struct command *command) {
  struct millrace_queue *queue = NULL;
  enum millrace_code code = millrace_queue_resume(client, name_of(command), &queue, &command->error);
  return answer_queue(command, code, queue);
}

enum millrace_code queue_purge(struct command *command) {
  uint64_t purged;
  enum millrace_code code = millrace_queue_purge(client, name_of(command), &purged, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_integer(command->out, "purged", (int64_t)purged);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}
