/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

enum { SPECS_A_CALL = 1000, MESSAGES_UNDER_WAY = 4 };

enum millrace_code job_create(struct command *command) {
  struct millrace_job *job;
  enum millrace_code code = millrace_job_create(client, spec_of(command, command->fields), &job, &command->error);
  if (code != MILLRACE_OK)
    return code;
  put_outcome(command->out, job->id, job->existing, NULL);
  millrace_free(job);
  return MILLRACE_OK;
}

/* ---- many ---- */

static enum millrace_code create_in_bulk(struct command *command, const struct millrace_job_spec *specs, size_t count) {
  for (size_t first = 0; first < count; first += SPECS_A_CALL) {
    struct millrace_outcomes *outcomes;
    size_t size = MIN(SPECS_A_CALL, count - first);
    enum millrace_code code = millrace_jobs_create(client, specs + first, size, &outcomes, &command->error);
    if (code != MILLRACE_OK)
      return code;
    put_outcomes(command->out, outcomes);
  }
  return MILLRACE_OK;
}

static enum millrace_code create_by_stream(struct command *command, const struct millrace_job_spec *specs, size_t count) {
  struct millrace_job_stream *stream;
  enum millrace_code code = millrace_job_stream_open(client, &stream, &command->error);
  if (code != MILLRACE_OK)
    return code;
  size_t messages = (count + SPECS_A_CALL - 1) / SPECS_A_CALL;
  for (size_t sent = 0, received = 0; code == MILLRACE_OK && received < messages;) {
    if (sent < messages && sent - received < MESSAGES_UNDER_WAY) {
      size_t first = sent++ * SPECS_A_CALL;
      code = millrace_job_stream_send(stream, specs + first, MIN(SPECS_A_CALL, count - first), &command->error);
      continue;
    }
    struct millrace_outcomes *outcomes;
    code = millrace_job_stream_receive(stream, &outcomes, &command->error);
    if (code == MILLRACE_OK) {
      put_outcomes(command->out, outcomes);
      received++;
    }
  }
  millrace_job_stream_close(stream);
  return code;
}

/* What came of one create of many that are under way at once. */
struct coalesced {
  struct coalescing *all;
  char id[MILLRACE_ID_BYTES];
  bool existing;
  struct millrace_error error;
};
struct coalescing {
  pthread_mutex_t lock;
  pthread_cond_t ended;
  size_t under_way;
};

static void one_created(void *context, const struct millrace_job *job, const struct millrace_error *error) {
  struct coalesced *one = context;
  if (error)
    one->error = *error;
  else
    g_strlcpy(one->id, job->id, sizeof one->id);
  one->existing = job && job->existing;
  pthread_mutex_lock(&one->all->lock);
  if (--one->all->under_way == 0)
    pthread_cond_signal(&one->all->ended);
  pthread_mutex_unlock(&one->all->lock);
}

static enum millrace_code create_coalesced(struct command *command, const struct millrace_job_spec *specs, size_t count) {
  struct coalescing all = {.under_way = count};
  pthread_mutex_init(&all.lock, NULL);
  pthread_cond_init(&all.ended, NULL);
  struct coalesced *each = own(command, g_new0(struct coalesced, count + 1));
  for (size_t i = 0; i < count; i++) {
    each[i].all = &all;
    millrace_job_create_async(client, &specs[i], one_created, &each[i]);
  }
  pthread_mutex_lock(&all.lock);
  while (all.under_way > 0)
    pthread_cond_wait(&all.ended, &all.lock);
  pthread_mutex_unlock(&all.lock);
  pthread_mutex_destroy(&all.lock);
  pthread_cond_destroy(&all.ended);
  for (size_t i = 0; i < count; i++)
    put_outcome(command->out, each[i].id, each[i].existing, each[i].error.code == MILLRACE_OK ? NULL : &each[i].error);
  return MILLRACE_OK;
}

enum millrace_code job_create_many(struct command *command) {
  size_t count;
  const struct millrace_job_spec *specs = specs_of(command, "jobs", &count);
  const char *mode = text_of(command->fields, "mode");
  yajl_gen_map_open(command->out);
  put_key(command->out, "outcomes");
  yajl_gen_array_open(command->out);
  enum millrace_code code = g_strcmp0(mode, "stream") == 0      ? create_by_stream(command, specs, count)
                            : g_strcmp0(mode, "coalesced") == 0 ? create_coalesced(command, specs, count)
                                                                : create_in_bulk(command, specs, count);
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return code;
}

/* ---- one ---- */

static enum millrace_code answer(struct command *command, enum millrace_code code, struct millrace_job *job) {
  if (code != MILLRACE_OK)
    return code;
  put_job(command->out, job);
  millrace_free(job);
  return MILLRACE_OK;
}

enum millrace_code job_get(struct command *command) {
  struct millrace_job *job = NULL;
  const char *id = text_of(command->fields, "id");
  enum millrace_code code = millrace_job_get(client, id, flag_of(command->fields, "log"), &job, &command->error);
  return answer(command, code, job);
}

enum millrace_code job_wait(struct command *command) {
  struct millrace_job *job = NULL;
  const char *id = text_of(command->fields, "id");
  enum millrace_code code = millrace_job_wait(client, id, ms_of(command->fields, "timeout"), &job, &command->error);
  if (code != MILLRACE_OK || !job->timed_out)
    return answer(command, code, job);
  code = wait_timeout(command, millrace_job_state_name(job->state));
  millrace_free(job);
  return code;
}

enum millrace_code job_cancel(struct command *command) {
  struct millrace_job *job;
  enum millrace_code code = millrace_job_cancel(client, text_of(command->fields, "id"), flag_of(command->fields, "terminate"),
                                                text_of(command->fields, "reason"), &job, &command->error);
  if (code != MILLRACE_OK)
    return code;
  yajl_gen_map_open(command->out);
  put_flag(command->out, "accepted", job->accepted);
  yajl_gen_map_close(command->out);
  millrace_free(job);
  return MILLRACE_OK;
}

enum millrace_code job_retry(struct command *command) {
  struct millrace_job *job = NULL;
  enum millrace_code code = millrace_job_retry(client, text_of(command->fields, "id"), &job, &command->error);
  return answer(command, code, job);
}

/* ---- watch ---- */

struct watching {
  struct command *command;
  const char *until;
  const char *last;
};

static bool seen(void *context, const struct millrace_job_event *event) {
  struct watching *watching = context;
  const char *state = event->job && !event->deleted ? millrace_job_state_name(event->job->state) : NULL;
  if (!state || state == watching->last)
    return true;
  watching->last = state;
  yajl_gen_string(watching->command->out, (const unsigned char *)state, strlen(state));
  g_autofree char *line =
      g_strdup_printf("{\"number\": %s, \"event\": \"state\", \"state\": \"%s\"}", watching->command->number, state);
  say_line(line, strlen(line));
  return g_strcmp0(state, watching->until) != 0;
}

enum millrace_code job_watch(struct command *command) {
  struct watching watching = {command, text_of(command->fields, "until"), NULL};
  const char *id = text_of(command->fields, "id");
  const struct millrace_job_filter filter = {.ids = &id, .id_count = 1};
  yajl_gen_map_open(command->out);
  put_key(command->out, "states");
  yajl_gen_array_open(command->out);
  enum millrace_code code =
      millrace_job_watch(client, &filter, ms_of(command->fields, "timeout"), seen, &watching, &command->error);
  if (code == MILLRACE_DEADLINE_EXCEEDED)
    return wait_timeout(command, watching.last);
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return code;
}

/* ---- list ---- */

static enum millrace_job_state *states_of(struct command *command, size_t *out_count) {
  const char **names = texts_of(command, command->fields, "states", out_count);
  enum millrace_job_state *states = own(command, g_new0(enum millrace_job_state, *out_count + 1));
  for (size_t i = 0; i < *out_count; i++)
    for (int state = MILLRACE_JOB_SCHEDULED; state <= MILLRACE_JOB_EXPIRED; state++)
      if (strcmp(names[i], millrace_job_state_name((enum millrace_job_state)state)) == 0)
        states[i] = (enum millrace_job_state)state;
  return states;
}

enum millrace_code job_list(struct command *command) {
  yajl_val fields = command->fields;
  struct millrace_job_filter filter = {.batch_id = text_of(fields, "batch_id"), .chain_id = text_of(fields, "chain_id")};
  filter.queues = texts_of(command, fields, "queues", &filter.queue_count);
  filter.tasks = texts_of(command, fields, "tasks", &filter.task_count);
  filter.ids = texts_of(command, fields, "ids", &filter.id_count);
  filter.states = states_of(command, &filter.state_count);
  filter.labels = labels_of(command, fields, &filter.label_count);
  yajl_gen_map_open(command->out);
  put_key(command->out, "jobs");
  yajl_gen_array_open(command->out);
  struct millrace_page page = {0, NULL};
  do {
    struct millrace_job_list *list;
    enum millrace_code code = millrace_job_list(client, &filter, &page, &list, &command->error);
    if (code != MILLRACE_OK)
      return code;
    for (size_t i = 0; i < list->count; i++)
      put_job(command->out, &list->jobs[i]);
    page.token = own(command, g_strdup(list->next_page_token));
    millrace_free(list);
  } while (page.token && *page.token);
  yajl_gen_array_close(command->out);
  yajl_gen_map_close(command->out);
  return MILLRACE_OK;
}
