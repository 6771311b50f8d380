/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "agent.h"

yajl_val field_of(yajl_val object, const char *name) {
  const char *path[] = {name, NULL};
  return object ? yajl_tree_get(object, path, yajl_t_any) : NULL;
}

const char *text_of(yajl_val object, const char *name) {
  yajl_val value = field_of(object, name);
  return YAJL_IS_STRING(value) ? YAJL_GET_STRING(value) : NULL;
}

bool flag_of(yajl_val object, const char *name) {
  return YAJL_IS_TRUE(field_of(object, name));
}

int64_t integer_of(yajl_val object, const char *name) {
  yajl_val value = field_of(object, name);
  return YAJL_IS_NUMBER(value) ? g_ascii_strtoll(YAJL_GET_NUMBER(value), NULL, 10) : 0;
}

double real_of(yajl_val object, const char *name) {
  yajl_val value = field_of(object, name);
  return YAJL_IS_NUMBER(value) ? g_ascii_strtod(YAJL_GET_NUMBER(value), NULL) : 0;
}

int64_t ms_of(yajl_val object, const char *name) {
  return llround(real_of(object, name) * 1000);
}

int64_t ms_or_zero_of(yajl_val object, const char *name) {
  int64_t value_ms = ms_of(object, name);
  return field_of(object, name) && value_ms == 0 ? MILLRACE_ZERO : value_ms;
}

int64_t time_of(yajl_val object, const char *name) {
  const char *text = text_of(object, name);
  g_autoptr(GDateTime) time = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;
  return time ? g_date_time_to_unix(time) * 1000 + g_date_time_get_microsecond(time) / 1000 : 0;
}

void *own(struct command *command, void *memory) {
  g_ptr_array_add(command->owned, memory);
  return memory;
}

const char **texts_of(struct command *command, yajl_val object, const char *name, size_t *out_count) {
  yajl_val list = field_of(object, name);
  *out_count = YAJL_IS_ARRAY(list) ? list->u.array.len : 0;
  const char **texts = own(command, g_new0(const char *, *out_count + 1));
  for (size_t i = 0; i < *out_count; i++)
    texts[i] = YAJL_GET_STRING(list->u.array.values[i]);
  return texts;
}

struct millrace_label *labels_of(struct command *command, yajl_val object, size_t *out_count) {
  yajl_val map = field_of(object, "labels");
  *out_count = YAJL_IS_OBJECT(map) ? map->u.object.len : 0;
  struct millrace_label *labels = own(command, g_new0(struct millrace_label, *out_count + 1));
  for (size_t i = 0; i < *out_count; i++)
    labels[i] = (struct millrace_label){map->u.object.keys[i], YAJL_GET_STRING(map->u.object.values[i])};
  return labels;
}

/* Which of the names, counted from 1; 0: none of them. */
static int word_of(yajl_val object, const char *name, const char *const *words) {
  const char *text = text_of(object, name);
  for (int i = 0; text && words[i]; i++)
    if (strcmp(text, words[i]) == 0)
      return i + 1;
  return 0;
}

struct millrace_retry_policy *retry_of(struct command *command, yajl_val object) {
  static const char *const backoffs[] = {"exponential", "linear", "constant", "list", NULL};
  if (!object)
    return NULL;
  struct millrace_retry_policy *retry = own(command, g_new0(struct millrace_retry_policy, 1));
  retry->max_attempts = (uint32_t)integer_of(object, "max_attempts");
  retry->backoff = (enum millrace_backoff)word_of(object, "backoff", backoffs);
  retry->initial_ms = ms_of(object, "initial");
  retry->multiplier = real_of(object, "multiplier");
  retry->max_ms = ms_of(object, "max");
  retry->jitter = real_of(object, "jitter");
  if (field_of(object, "jitter") && retry->jitter == 0)
    retry->jitter = -1;
  yajl_val list = field_of(object, "delays");
  retry->delay_count = YAJL_IS_ARRAY(list) ? list->u.array.len : 0;
  int64_t *delays_ms = own(command, g_new0(int64_t, retry->delay_count + 1));
  for (size_t i = 0; i < retry->delay_count; i++)
    delays_ms[i] = llround(g_ascii_strtod(YAJL_GET_NUMBER(list->u.array.values[i]), NULL) * 1000);
  retry->delays_ms = delays_ms;
  return retry;
}

static char *json_of(yajl_val value) {
  yajl_gen gen = yajl_gen_alloc(NULL);
  const unsigned char *text;
  size_t length;
  put_tree(gen, value);
  yajl_gen_get_buf(gen, &text, &length);
  char *copy = g_strndup((const char *)text, length);
  yajl_gen_free(gen);
  return copy;
}

static struct millrace_payload payload_of(struct command *command, yajl_val object) {
  struct millrace_payload payload = {NULL, NULL, 0, false};
  const char *data = text_of(object, "data");
  const char *special = text_of(object, "special");
  if (special)
    return millrace_json(strcmp(special, "nan") == 0 ? "{\"value\": NaN}" : "{\"value\": Infinity}");
  if (data)
    payload.data = own(command, g_base64_decode(data, &payload.length));
  else if (field_of(object, "json"))
    payload = millrace_json(own(command, json_of(field_of(object, "json"))));
  return payload;
}

static void fill_spec(struct command *command, yajl_val object, struct millrace_job_spec *spec) {
  static const char *const scopes[] = {"while_waiting", "until_finished", "period", NULL};
  yajl_val unique = field_of(object, "unique");
  yajl_val concurrency = field_of(object, "concurrency");
  yajl_val priority = field_of(object, "priority");
  int64_t number = integer_of(object, "priority");
  *spec = (struct millrace_job_spec){
      .id = text_of(object, "id"),
      .task = text_of(object, "task"),
      .queue = text_of(object, "queue"),
      .priority = priority && number == 0 ? MILLRACE_PRIORITY_LOW : (enum millrace_priority)number,
      .payload = payload_of(command, field_of(object, "payload")),
      .run_at_ms = time_of(object, "run_at"),
      .delay_ms = ms_of(object, "delay"),
      .expires_at_ms = time_of(object, "expires_at"),
      .expires_in_ms = ms_of(object, "expires_in"),
      .total_timeout_ms = ms_of(object, "total_timeout"),
      .attempt_timeout_ms = ms_or_zero_of(object, "attempt_timeout"),
      .retry = retry_of(command, field_of(object, "retry")),
      .unique = {text_of(unique, "key"), (enum millrace_unique_scope)word_of(unique, "scope", scopes),
                 g_strcmp0(text_of(unique, "rule"), "return_existing") == 0, ms_of(unique, "period")},
      .concurrency_key = text_of(concurrency, "key"),
      .concurrency_limit = (uint32_t)integer_of(concurrency, "limit"),
      .retention_ms = ms_or_zero_of(object, "retention"),
      .traceparent = text_of(object, "traceparent"),
      .wants_previous_result = flag_of(object, "wants_previous_result"),
  };
  spec->labels = labels_of(command, object, &spec->label_count);
}

struct millrace_job_spec *spec_of(struct command *command, yajl_val object) {
  if (!object)
    return NULL;
  struct millrace_job_spec *spec = own(command, g_new0(struct millrace_job_spec, 1));
  fill_spec(command, object, spec);
  return spec;
}

struct millrace_job_spec *specs_of(struct command *command, const char *name, size_t *out_count) {
  yajl_val list = field_of(command->fields, name);
  *out_count = YAJL_IS_ARRAY(list) ? list->u.array.len : 0;
  struct millrace_job_spec *specs = own(command, g_new0(struct millrace_job_spec, *out_count + 1));
  for (size_t i = 0; i < *out_count; i++)
    fill_spec(command, list->u.array.values[i], &specs[i]);
  return specs;
}

struct millrace_timing timing_of(yajl_val object) {
  return (struct millrace_timing){
      .cron = text_of(object, "cron"),
      .interval_ms = ms_of(object, "interval"),
      .time_zone = text_of(object, "time_zone"),
      .start_at_ms = time_of(object, "start_at"),
      .end_at_ms = time_of(object, "end_at"),
  };
}

struct millrace_schedule_spec schedule_of(struct command *command, yajl_val object) {
  static const char *const overlaps[] = {"skip", "queue_one", "allow", NULL};
  struct millrace_schedule_spec spec = {
      .name = text_of(object, "name"),
      .timing = timing_of(object),
      .overlap = (enum millrace_overlap)word_of(object, "overlap", overlaps),
      .catch_up_window_ms = ms_or_zero_of(object, "catch_up_window"),
      .description = text_of(object, "description"),
  };
  fill_spec(command, field_of(object, "job"), &spec.job);
  return spec;
}
