/* SPDX-License-Identifier: Apache-2.0 */
/* Job specs from options, words and files. */
#include <errno.h>
#include <stdio.h>

#include "cli.h"

enum { CHUNK_SPECS = 1000, CHUNK_BYTES = 2 * 1024 * 1024, LINE_BYTES_MAX = 4 * 1024 * 1024, PAYLOAD_BYTES_MAX = 4 * 1024 * 1024 };

static struct {
  char *id, *queue, *priority, *payload, *content_type;
  char *delay, *at, *expires_in, *expires_at, *timeout, *attempt_timeout, *retention;
  int max_attempts;
  char *backoff, *backoff_initial, *backoff_max, *backoff_delays;
  double backoff_multiplier, jitter;
  char **labels;
  char *unique_key, *unique_scope, *unique_period;
  gboolean unique_return_existing;
  char *concurrency_key;
  int concurrency_limit;
  char *traceparent;
  gboolean previous_result;
} set = {.jitter = -1};

const GOptionEntry spec_options[] = {
    {"id", 0, 0, G_OPTION_ARG_STRING, &set.id, "The job's UUID (default: a fresh one); sending the same again is safe", "UUID"},
    {"queue", 'q', 0, G_OPTION_ARG_STRING, &set.queue, "Queue (default: default)", "NAME"},
    {"priority", 'p', 0, G_OPTION_ARG_STRING, &set.priority, "low, normal, high or critical (default: normal)", "PRIORITY"},
    {"payload", 0, 0, G_OPTION_ARG_STRING, &set.payload, "Payload: JSON text, @FILE, or - for standard input", "JSON"},
    {"content-type", 0, 0, G_OPTION_ARG_STRING, &set.content_type, "Media type of the payload", "TYPE"},
    {"delay", 'd', 0, G_OPTION_ARG_STRING, &set.delay, "Start so much later, such as 10s, 5m, 2h, 7d", "DURATION"},
    {"at", 0, 0, G_OPTION_ARG_STRING, &set.at, "Start then, such as 2026-03-01T12:00:00Z", "TIME"},
    {"expires-in", 0, 0, G_OPTION_ARG_STRING, &set.expires_in, "Give up if not started so much later", "DURATION"},
    {"expires-at", 0, 0, G_OPTION_ARG_STRING, &set.expires_at, "Give up if not started by then", "TIME"},
    {"timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout, "From create to end, all attempts included", "DURATION"},
    {"attempt-timeout", 0, 0, G_OPTION_ARG_STRING, &set.attempt_timeout, "Of each attempt; 0s: none (default: 30m)", "DURATION"},
    {"max-attempts", 0, 0, G_OPTION_ARG_INT, &set.max_attempts, "Attempts in all (default: 4)", "N"},
    {"backoff", 0, 0, G_OPTION_ARG_STRING, &set.backoff, "exponential (default), linear, constant or list", "KIND"},
    {"backoff-initial", 0, 0, G_OPTION_ARG_STRING, &set.backoff_initial, "Delay before the second attempt (default: 1s)",
     "DURATION"},
    {"backoff-max", 0, 0, G_OPTION_ARG_STRING, &set.backoff_max, "No delay is longer (default: 1h)", "DURATION"},
    {"backoff-multiplier", 0, 0, G_OPTION_ARG_DOUBLE, &set.backoff_multiplier, "Growth of exponential (default: 2)", "FACTOR"},
    {"backoff-delays", 0, 0, G_OPTION_ARG_STRING, &set.backoff_delays, "The delays of list, such as 1s,10s,1m", "DURATIONS"},
    {"jitter", 0, 0, G_OPTION_ARG_DOUBLE, &set.jitter, "Vary each delay by up to this fraction, 0 to 1 (default: 0.1)",
     "FRACTION"},
    {"label", 'l', 0, G_OPTION_ARG_STRING_ARRAY, &set.labels, "Label; may be given up to 16 times", "KEY=VALUE"},
    {"unique-key", 0, 0, G_OPTION_ARG_STRING, &set.unique_key, "At most one job of the queue holds this key", "KEY"},
    {"unique-scope", 0, 0, G_OPTION_ARG_STRING, &set.unique_scope, "while-waiting, until-finished (default) or period", "SCOPE"},
    {"unique-period", 0, 0, G_OPTION_ARG_STRING, &set.unique_period, "How long the key is held with scope period", "DURATION"},
    {"unique-return-existing", 0, 0, G_OPTION_ARG_NONE, &set.unique_return_existing, "Answer with the job that holds the key",
     NULL},
    {"concurrency-key", 0, 0, G_OPTION_ARG_STRING, &set.concurrency_key,
     "Jobs with this key run at most so many at a time:", "KEY"},
    {"concurrency-limit", 0, 0, G_OPTION_ARG_INT, &set.concurrency_limit, "this many (default: 1)", "N"},
    {"retention", 0, 0, G_OPTION_ARG_STRING, &set.retention, "How long it is kept once it has ended (default: the queue's)",
     "DURATION"},
    {"traceparent", 0, 0, G_OPTION_ARG_STRING, &set.traceparent, "W3C trace context (default: TRACEPARENT)", "TEXT"},
    {"previous-result", 0, 0, G_OPTION_ARG_NONE, &set.previous_result, "Chain steps: hand over the result of the step before",
     NULL},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

/* ---- payloads ---- */

static char *read_file(const char *file, size_t *out_length) {
  FILE *stream = strcmp(file, "-") == 0 ? stdin : fopen(file, "rb");
  if (!stream) {
    cli_fail(CLI_USAGE, "%s: %s", file, g_strerror(errno));
    return NULL;
  }
  GByteArray *bytes = g_byte_array_new();
  guint8 buffer[16384];
  for (size_t got; bytes->len <= PAYLOAD_BYTES_MAX && (got = fread(buffer, 1, sizeof buffer, stream)) > 0;)
    g_byte_array_append(bytes, buffer, (guint)got);
  bool ok = !ferror(stream) || !cli_fail(CLI_USAGE, "%s: %s", file, g_strerror(errno));
  if (stream != stdin)
    fclose(stream);
  if (!ok) {
    g_byte_array_unref(bytes);
    return NULL;
  }
  *out_length = bytes->len;
  g_byte_array_append(bytes, (const guint8 *)"", 1);
  return (char *)g_byte_array_free(bytes, FALSE);
}

static Millrace__V1__Payload *payload_of_bytes(struct cli *cli, const char *bytes, size_t length) {
  const struct millrace_payload payload = {set.content_type, box_strdup(cli->box, bytes), length,
                                           strlen(bytes) == length && json_is_valid(bytes, length)};
  if (strlen(bytes) == length)
    return convert_payload(cli->box, &payload);
  struct millrace_payload binary = payload;
  binary.data = memcpy(box_alloc(cli->box, length), bytes, length);
  return convert_payload(cli->box, &binary);
}

static bool payload_from_option(struct cli *cli, Millrace__V1__Payload **out_payload) {
  if (*set.payload != '@' && strcmp(set.payload, "-") != 0) {
    if (!json_is_valid(set.payload, strlen(set.payload)) && !set.content_type) {
      cli_fail(CLI_USAGE, "--payload is not JSON; a text is \"in quotes\", a file is @FILE, other bytes need --content-type");
      return false;
    }
    *out_payload = payload_of_bytes(cli, set.payload, strlen(set.payload));
    return true;
  }
  size_t length = 0;
  g_autofree char *bytes = read_file(*set.payload == '@' ? set.payload + 1 : "-", &length);
  if (!bytes)
    return false;
  *out_payload = payload_of_bytes(cli, bytes, length);
  return true;
}

/* key=value is a string, key:=value JSON as it is. */
static bool payload_from_words(struct cli *cli, int argc, char **argv, Millrace__V1__Payload **out_payload) {
  yajl_gen gen = yajl_gen_alloc(NULL);
  bool ok = true;
  yajl_gen_map_open(gen);
  for (int i = 0; ok && i < argc; i++) {
    const char *equals = strchr(argv[i], '=');
    ok = equals && equals > argv[i];
    if (!ok) {
      cli_fail(CLI_USAGE, "'%s' is not key=value (a string) or key:=value (JSON)", argv[i]);
      break;
    }
    bool is_json = equals[-1] == ':';
    const char *value = equals + 1;
    yajl_gen_string(gen, (const unsigned char *)argv[i], (size_t)(equals - argv[i]) - is_json);
    ok = !is_json || json_is_valid(value, strlen(value));
    if (!ok)
      cli_fail(CLI_USAGE, "'%s' is not JSON (in '%s')", value, argv[i]);
    else if (is_json)
      yajl_gen_number(gen, value, strlen(value));
    else
      yajl_gen_string(gen, (const unsigned char *)value, strlen(value));
  }
  yajl_gen_map_close(gen);
  const unsigned char *text;
  size_t length;
  yajl_gen_get_buf(gen, &text, &length);
  if (ok)
    *out_payload = payload_of_bytes(cli, (const char *)text, length);
  yajl_gen_free(gen);
  return ok;
}

/* ---- the other options ---- */

static bool delays_of(struct millrace_retry_policy *policy, struct box *box) {
  g_auto(GStrv) parts = g_strsplit(set.backoff_delays, ",", -1);
  int64_t *delays = box_alloc(box, g_strv_length(parts) * sizeof *delays);
  for (size_t i = 0; parts[i]; i++)
    if (!cli_duration("backoff-delays", g_strstrip(parts[i]), &delays[i]))
      return false;
  policy->delays_ms = delays;
  policy->delay_count = g_strv_length(parts);
  policy->backoff = MILLRACE_BACKOFF_LIST;
  return true;
}

static bool apply_retry(struct cli *cli, Millrace__V1__JobSpec *spec) {
  bool is_set = set.max_attempts || set.backoff || set.backoff_initial || set.backoff_max || set.backoff_delays ||
                set.backoff_multiplier != 0 || set.jitter >= 0;
  if (!is_set || spec->retry_policy)
    return true;
  struct millrace_retry_policy policy = {.max_attempts = (uint32_t)MAX(set.max_attempts, 0),
                                         .multiplier = set.backoff_multiplier};
  if (set.backoff_delays && !delays_of(&policy, cli->box))
    return false;
  if (!cli_enum("backoff", &millrace__v1__backoff_kind__descriptor, set.backoff, &policy.backoff) ||
      !cli_duration("backoff-initial", set.backoff_initial, &policy.initial_ms) ||
      !cli_duration("backoff-max", set.backoff_max, &policy.max_ms))
    return false;
  if (set.jitter >= 0)
    policy.jitter = set.jitter > 0 ? set.jitter : -1;
  spec->retry_policy = convert_retry(cli->box, &policy);
  return true;
}

static bool apply_keys(struct cli *cli, Millrace__V1__JobSpec *spec) {
  if (set.unique_key && !spec->unique_key) {
    int64_t period_ms = 0;
    Millrace__V1__UniqueKey *key = MESSAGE(cli->box, Millrace__V1__UniqueKey, unique_key);
    if (!cli_enum("unique-scope", &millrace__v1__unique_scope__descriptor, set.unique_scope, &key->scope) ||
        !cli_duration("unique-period", set.unique_period, &period_ms))
      return false;
    key->key = set.unique_key;
    key->period = convert_duration(cli->box, period_ms);
    if (set.unique_return_existing)
      key->rule = MILLRACE__V1__UNIQUE_RULE__UNIQUE_RULE_RETURN_EXISTING;
    spec->unique_key = key;
  }
  if (set.concurrency_key && !spec->concurrency_key) {
    spec->concurrency_key = MESSAGE(cli->box, Millrace__V1__ConcurrencyKey, concurrency_key);
    spec->concurrency_key->key = set.concurrency_key;
    spec->concurrency_key->limit = (uint32_t)MAX(set.concurrency_limit, 0);
  }
  return true;
}

static bool apply_duration(struct cli *cli, const char *name, const char *text, Google__Protobuf__Duration **out) {
  int64_t ms = 0;
  if (!text || *out)
    return true;
  if (!cli_duration(name, text, &ms))
    return false;
  *out = convert_duration(cli->box, ms ? ms : MILLRACE_ZERO);
  return true;
}

static bool apply_times(struct cli *cli, Millrace__V1__JobSpec *spec) {
  int64_t ms = 0;
  if (set.at && spec->start_case == MILLRACE__V1__JOB_SPEC__START__NOT_SET) {
    if (!cli_time("at", set.at, &ms))
      return false;
    spec->start_case = MILLRACE__V1__JOB_SPEC__START_RUN_AT;
    spec->run_at = convert_time(cli->box, ms);
  } else if (set.delay && spec->start_case == MILLRACE__V1__JOB_SPEC__START__NOT_SET) {
    if (!apply_duration(cli, "delay", set.delay, &spec->delay))
      return false;
    spec->start_case = MILLRACE__V1__JOB_SPEC__START_DELAY;
  }
  if (set.expires_at && spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY__NOT_SET) {
    if (!cli_time("expires-at", set.expires_at, &ms))
      return false;
    spec->expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT;
    spec->expires_at = convert_time(cli->box, ms);
  } else if (set.expires_in && spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY__NOT_SET) {
    if (!apply_duration(cli, "expires-in", set.expires_in, &spec->expires_in))
      return false;
    spec->expiry_case = MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN;
  }
  return apply_duration(cli, "timeout", set.timeout, &spec->total_timeout) &&
         apply_duration(cli, "attempt-timeout", set.attempt_timeout, &spec->attempt_timeout) &&
         apply_duration(cli, "retention", set.retention, &spec->retention);
}

bool spec_apply_options(struct cli *cli, Millrace__V1__JobSpec *spec) {
  if (set.queue && !*spec->queue)
    spec->queue = set.queue;
  if (!spec->priority && !cli_enum("priority", &millrace__v1__job_priority__descriptor, set.priority, &spec->priority))
    return false;
  if (set.labels && spec->n_labels == 0) {
    struct millrace_label *labels;
    if (!cli_labels(set.labels, &labels, &spec->n_labels, cli->box))
      return false;
    spec->labels = convert_labels(cli->box, labels, spec->n_labels, &millrace__v1__job_spec__labels_entry__descriptor);
  }
  const char *traceparent = set.traceparent ? set.traceparent : g_getenv("TRACEPARENT");
  if (traceparent && !*spec->traceparent)
    spec->traceparent = (char *)traceparent;
  if (set.previous_result)
    spec->wants_previous_result = true;
  return apply_retry(cli, spec) && apply_keys(cli, spec) && apply_times(cli, spec);
}

Millrace__V1__JobSpec *spec_build(struct cli *cli, const char *task, int argc, char **argv) {
  Millrace__V1__JobSpec *spec = MESSAGE(cli->box, Millrace__V1__JobSpec, job_spec);
  spec->task = (char *)task;
  if (set.id)
    spec->id = set.id;
  if (set.payload && argc > 0) {
    cli_fail(CLI_USAGE, "a payload comes from --payload or from key=value, not from both");
    return NULL;
  }
  bool ok = !set.payload || payload_from_option(cli, &spec->payload);
  if (ok && argc > 0)
    ok = payload_from_words(cli, argc, argv, &spec->payload);
  return ok && spec_apply_options(cli, spec) ? spec : NULL;
}

const char *spec_fixed_option(void) {
  const struct {
    const char *name;
    bool is_given;
  } fixed[] = {{"id", set.id},
               {"queue", set.queue},
               {"payload", set.payload},
               {"content-type", set.content_type},
               {"timeout", set.timeout},
               {"attempt-timeout", set.attempt_timeout},
               {"unique-key", set.unique_key},
               {"unique-scope", set.unique_scope},
               {"unique-period", set.unique_period},
               {"unique-return-existing", set.unique_return_existing},
               {"concurrency-key", set.concurrency_key},
               {"concurrency-limit", set.concurrency_limit},
               {"retention", set.retention},
               {"traceparent", set.traceparent},
               {"previous-result", set.previous_result}};
  for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
    if (fixed[i].is_given)
      return fixed[i].name;
  return NULL;
}

/* ---- files of JSON lines ---- */

int spec_load(struct cli *cli, const char *file,
              int (*chunk)(void *context, struct box *box, Millrace__V1__JobSpec **specs, size_t count), void *context) {
  FILE *stream = strcmp(file, "-") == 0 ? stdin : fopen(file, "r");
  if (!stream)
    return cli_fail(CLI_USAGE, "%s: %s", file, g_strerror(errno));
  /* What a line needs lives as long as its chunk. */
  struct box *run_box = cli->box;
  struct box *box = cli->box = box_new();
  Millrace__V1__JobSpec *specs[CHUNK_SPECS];
  size_t count = 0;
  size_t bytes = 0;
  char *line = NULL;
  size_t capacity = 0;
  int code = CLI_OK;
  uint64_t number = 0;
  for (ssize_t length; code == CLI_OK && (length = getline(&line, &capacity, stream)) >= 0;) {
    struct millrace_error error;
    number++;
    if (length > LINE_BYTES_MAX)
      code = cli_fail(CLI_USAGE, "%s:%" G_GUINT64_FORMAT ": a line of more than 4 MiB", file, number);
    if (code != CLI_OK || *g_strchug(line) == '\0')
      continue;
    if (json_read(box, &millrace__v1__job_spec__descriptor, line, &specs[count], &error) != MILLRACE_OK)
      code = cli_fail(CLI_USAGE, "%s:%" G_GUINT64_FORMAT ": %s", file, number, error.message);
    else if (!spec_apply_options(cli, specs[count]))
      code = CLI_USAGE;
    else
      count++;
    bytes += (size_t)length;
    if (code == CLI_OK && (count == CHUNK_SPECS || bytes > CHUNK_BYTES)) {
      code = chunk(context, box, specs, count);
      box_unref(box);
      box = cli->box = box_new();
      count = bytes = 0;
    }
  }
  if (code == CLI_OK && ferror(stream))
    code = cli_fail(CLI_USAGE, "%s: %s", file, g_strerror(errno));
  if (code == CLI_OK && count > 0)
    code = chunk(context, box, specs, count);
  box_unref(box);
  cli->box = run_box;
  free(line);
  if (stream != stdin)
    fclose(stream);
  return code;
}
