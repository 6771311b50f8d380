/* SPDX-License-Identifier: Apache-2.0 */
/* millrace queue … and millrace server … */
#include <stdio.h>

#include "cli.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "millrace/v1/admin_service.pb-c.h"

#define QUEUES(name, stem) METHOD(QueueService, name, stem)

static struct {
  char *mode, *attempt_timeout, *retention, *retention_failed;
  int64_t max_length, max_running, rate_burst, retention_count;
  double rate;
  int max_attempts, limit;
} set = {.max_length = -1, .max_running = -1, .rate_burst = -1, .retention_count = -1, .rate = -1, .limit = 100};

static void print_settings(const Millrace__V1__QueueSettings *settings) {
  if (!settings)
    return;
  print_field("mode", "%s", show_enum(&millrace__v1__queue_mode__descriptor, (int)settings->mode));
  if (settings->max_length && settings->max_length->value)
    print_field("max length", "%s", show_number(settings->max_length->value));
  if (settings->max_running && settings->max_running->value)
    print_field("max running", "%s", show_number(settings->max_running->value));
  if (settings->rate_per_second && settings->rate_per_second->value > 0)
    print_field("rate", "%g/s", settings->rate_per_second->value);
  if (settings->attempt_timeout)
    print_field("attempt timeout", "%s", show_duration(convert_from_duration(settings->attempt_timeout)));
  if (settings->retention)
    print_field("kept for", "%s", show_duration(convert_from_duration(settings->retention)));
  if (settings->retention_failed)
    print_field("failed kept for", "%s", show_duration(convert_from_duration(settings->retention_failed)));
  if (settings->retention_count)
    print_field("kept at most", "%s", show_number(settings->retention_count->value));
}

/* As many characters as minutes, each as high as its share of the highest. */
static char *sparkline(const Millrace__V1__GetQueueResponse *response, bool created) {
  static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  uint32_t highest = 1;
  GString *line = g_string_new(NULL);
  for (size_t i = 0; i < response->n_last_hour; i++)
    highest = MAX(highest, created ? response->last_hour[i]->created : response->last_hour[i]->finished);
  for (size_t i = 0; i < response->n_last_hour; i++) {
    uint32_t count = created ? response->last_hour[i]->created : response->last_hour[i]->finished;
    g_string_append(line, count == 0 ? " " : bars[(uint64_t)(count - 1) * G_N_ELEMENTS(bars) / highest]);
  }
  g_string_append_printf(line, "| at most %s/min", show_number(highest));
  return g_string_free(line, FALSE);
}

static void print_last_hour(const Millrace__V1__GetQueueResponse *response) {
  if (response->n_last_hour == 0)
    return;
  g_autofree char *created = sparkline(response, true);
  g_autofree char *finished = sparkline(response, false);
  print_field("created, 1 h", "%s", created);
  print_field("finished, 1 h", "%s", finished);
}

static void queue_print(struct cli *cli, const Millrace__V1__Queue *queue) {
  static const Millrace__V1__QueueCounts zeros = MILLRACE__V1__QUEUE_COUNTS__INIT;
  if (cli->json) {
    print_json(queue, true);
    return;
  }
  const Millrace__V1__QueueCounts *counts = queue->counts ? queue->counts : &zeros;
  print_field("name", "%s", queue->name);
  print_field("paused", "%s", queue->paused ? "yes" : "no");
  print_field("workers", "%u", queue->workers);
  print_field("pending", "%s", show_number(counts->pending));
  print_field("oldest", "%s", queue->oldest_age ? show_duration(convert_from_duration(queue->oldest_age)) : "");
  print_field("running", "%s", show_number(counts->running));
  print_field("scheduled", "%s", show_number(counts->scheduled));
  print_field("retrying", "%s", show_number(counts->retrying));
  print_field("blocked", "%s", show_number(counts->blocked));
  print_field("succeeded", "%s", show_number(counts->succeeded));
  print_field("failed", "%s", show_number(counts->failed));
  print_field("cancelled", "%s", show_number(counts->cancelled));
  print_field("expired", "%s", show_number(counts->expired));
  print_field("created", "%.1f/s", queue->created_per_second);
  print_field("finished", "%.1f/s", queue->finished_per_second);
  print_settings(queue->settings);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListQueuesRequest request = MILLRACE__V1__LIST_QUEUES_REQUEST__INIT;
  Millrace__V1__ListQueuesResponse *response;
  uint32_t left = set.limit > 0 ? (uint32_t)set.limit : UINT32_MAX;
  struct table *table = table_new("name,pending,oldest,running,scheduled,retrying,failed,workers,state");
  int code;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, QUEUES(ListQueues, list_queues), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_queues; i++) {
      const Millrace__V1__Queue *queue = response->queues[i];
      const Millrace__V1__QueueCounts *counts = queue->counts;
      if (cli->json)
        print_json(queue, false);
      else if (counts)
        table_row(table, queue->name, show_number(counts->pending),
                  queue->oldest_age ? show_duration(convert_from_duration(queue->oldest_age)) : "", show_number(counts->running),
                  show_number(counts->scheduled), show_number(counts->retrying), show_number(counts->failed),
                  show_number(queue->workers), queue->paused ? "paused" : "");
    }
    left -= (uint32_t)MIN(response->n_queues, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

static int run_get(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__GetQueueRequest request = MILLRACE__V1__GET_QUEUE_REQUEST__INIT;
  Millrace__V1__GetQueueResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, QUEUES(GetQueue, get_queue), &request, &response);
  if (code == CLI_OK)
    queue_print(cli, response->queue);
  if (code == CLI_OK && !cli->json)
    print_last_hour(response);
  return code;
}

static Google__Protobuf__UInt32Value *number_of(struct cli *cli, int64_t value) {
  if (value < 0)
    return NULL;
  Google__Protobuf__UInt32Value *number = convert_message(cli->box, &google__protobuf__uint32_value__descriptor);
  number->value = (uint32_t)MIN(value, UINT32_MAX);
  return number;
}

static bool duration_of(struct cli *cli, const char *name, const char *text, Google__Protobuf__Duration **out) {
  int64_t ms = 0;
  if (!cli_duration(name, text, &ms))
    return false;
  if (text)
    *out = convert_duration(cli->box, ms ? ms : MILLRACE_ZERO);
  return true;
}

static int run_update(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__UpdateQueueRequest request = MILLRACE__V1__UPDATE_QUEUE_REQUEST__INIT;
  Millrace__V1__QueueSettings settings = MILLRACE__V1__QUEUE_SETTINGS__INIT;
  Millrace__V1__UpdateQueueResponse *response;
  if (!cli_enum("mode", &millrace__v1__queue_mode__descriptor, set.mode, &settings.mode) ||
      !duration_of(cli, "attempt-timeout", set.attempt_timeout, &settings.attempt_timeout) ||
      !duration_of(cli, "retention", set.retention, &settings.retention) ||
      !duration_of(cli, "retention-failed", set.retention_failed, &settings.retention_failed))
    return CLI_USAGE;
  if (set.max_length >= 0) {
    settings.max_length = convert_message(cli->box, &google__protobuf__uint64_value__descriptor);
    settings.max_length->value = (uint64_t)set.max_length;
  }
  if (set.rate >= 0) {
    settings.rate_per_second = convert_message(cli->box, &google__protobuf__double_value__descriptor);
    settings.rate_per_second->value = set.rate;
  }
  settings.max_running = number_of(cli, set.max_running);
  settings.rate_burst = number_of(cli, set.rate_burst);
  settings.retention_count = number_of(cli, set.retention_count);
  const struct millrace_retry_policy policy = {.max_attempts = (uint32_t)MAX(set.max_attempts, 0)};
  settings.retry_policy = set.max_attempts > 0 ? convert_retry(cli->box, &policy) : NULL;
  request.name = argv[0];
  request.settings = &settings;
  int code = cli_call(cli, QUEUES(UpdateQueue, update_queue), &request, &response);
  if (code == CLI_OK)
    queue_print(cli, response->queue);
  return code;
}

static int run_pause(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__PauseQueueRequest request = MILLRACE__V1__PAUSE_QUEUE_REQUEST__INIT;
  Millrace__V1__PauseQueueResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, QUEUES(PauseQueue, pause_queue), &request, &response);
  if (code == CLI_OK)
    queue_print(cli, response->queue);
  return code;
}

static int run_resume(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__ResumeQueueRequest request = MILLRACE__V1__RESUME_QUEUE_REQUEST__INIT;
  Millrace__V1__ResumeQueueResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, QUEUES(ResumeQueue, resume_queue), &request, &response);
  if (code == CLI_OK)
    queue_print(cli, response->queue);
  return code;
}

static int run_purge(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__PurgeQueueRequest request = MILLRACE__V1__PURGE_QUEUE_REQUEST__INIT;
  Millrace__V1__PurgeQueueResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, QUEUES(PurgeQueue, purge_queue), &request, &response);
  if (code == CLI_OK && cli->json)
    print_json(response, true);
  else if (code == CLI_OK)
    printf("%s cancelled\n", show_number(response->purged));
  return code;
}

static int run_delete(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__DeleteQueueRequest request = MILLRACE__V1__DELETE_QUEUE_REQUEST__INIT;
  void *response;
  request.name = argv[0];
  int code = cli_call(cli, QUEUES(DeleteQueue, delete_queue), &request, &response);
  if (code == CLI_OK && !cli->json)
    printf("%s  deleted\n", argv[0]);
  return code;
}

static int run_info(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__GetServerInfoRequest request = MILLRACE__V1__GET_SERVER_INFO_REQUEST__INIT;
  Millrace__V1__GetServerInfoResponse *response;
  int code = cli_call(cli, METHOD(AdminService, GetServerInfo, get_server_info), &request, &response);
  if (code != CLI_OK)
    return code;
  if (cli->json) {
    print_json(response, true);
    return CLI_OK;
  }
  print_field("address", "%s", millrace_client_address(cli->client));
  print_field("version", "%s", response->version);
  print_field("durability", "%s%s%s", show_enum(&millrace__v1__durability__descriptor, (int)response->durability),
              response->durability_interval ? " of " : "",
              response->durability_interval ? show_duration(convert_from_duration(response->durability_interval)) : "");
  print_field("started", "%s", show_time(response->started_at));
  print_field("store", "%s, format %u", response->store_backend, response->store_format);
  print_field("queues", "%s", show_number(response->queues));
  print_field("workers", "%s", show_number(response->sessions));
  print_field("jobs waiting", "%s", show_number(response->jobs_waiting));
  print_field("jobs running", "%s", show_number(response->jobs_running));
  return CLI_OK;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
static const GOptionEntry list_options[] = {
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many, 0: all (default: 100)", "N"}, END};
static const GOptionEntry update_options[] = {
    {"mode", 0, 0, G_OPTION_ARG_STRING, &set.mode, "strict or weighted (high 6 : normal 3 : low 1)", "MODE"},
    {"max-length", 0, 0, G_OPTION_ARG_INT64, &set.max_length, "Jobs that have not ended; 0: no limit", "N"},
    {"max-running", 0, 0, G_OPTION_ARG_INT64, &set.max_running, "Jobs running at a time; 0: no limit", "N"},
    {"rate", 0, 0, G_OPTION_ARG_DOUBLE, &set.rate, "Jobs started a second; 0: no limit", "N"},
    {"rate-burst", 0, 0, G_OPTION_ARG_INT64, &set.rate_burst, "How many may start at once after a quiet time", "N"},
    {"max-attempts", 0, 0, G_OPTION_ARG_INT, &set.max_attempts, "For jobs that set none", "N"},
    {"attempt-timeout", 0, 0, G_OPTION_ARG_STRING, &set.attempt_timeout, "For jobs that set none; 0s: none", "DURATION"},
    {"retention", 0, 0, G_OPTION_ARG_STRING, &set.retention, "How long succeeded, cancelled, expired jobs are kept", "DURATION"},
    {"retention-failed", 0, 0, G_OPTION_ARG_STRING, &set.retention_failed, "How long failed jobs are kept", "DURATION"},
    {"retention-count", 0, 0, G_OPTION_ARG_INT64, &set.retention_count, "How many ended jobs are kept at most", "N"},
    END};

const struct command queue_commands[] = {
    {"queue", "list", NULL, "List queues with their lengths", NULL, list_options, NULL, 0, 0, false, run_list},
    {"queue", "get", "NAME", "Show a queue", NULL, NULL, NULL, 1, 1, false, run_get},
    {"queue", "update", "NAME", "Change limits and defaults; what is not named stays", NULL, update_options, NULL, 1, 1, false,
     run_update},
    {"queue", "pause", "NAME", "Deliver nothing until resumed", NULL, NULL, NULL, 1, 1, false, run_pause},
    {"queue", "resume", "NAME", "Go on", NULL, NULL, NULL, 1, 1, false, run_resume},
    {"queue", "purge", "NAME", "Cancel every job that is pending now", NULL, NULL, NULL, 1, 1, false, run_purge},
    {"queue", "delete", "NAME", "Forget an empty queue", NULL, NULL, NULL, 1, 1, false, run_delete},
    {0}};

static int run_log_level(struct cli *cli, int argc, char **argv) {
  Millrace__V1__SetLogLevelRequest request = MILLRACE__V1__SET_LOG_LEVEL_REQUEST__INIT;
  Millrace__V1__SetLogLevelResponse *response;
  if (argc > 0 && !cli_enum("level", &millrace__v1__log_level__descriptor, argv[0], &request.level))
    return CLI_USAGE;
  int code = cli_call(cli, METHOD(AdminService, SetLogLevel, set_log_level), &request, &response);
  if (code == CLI_OK && cli->json)
    print_json(response, true);
  else if (code == CLI_OK)
    printf("%s\n", show_enum(&millrace__v1__log_level__descriptor, (int)response->level));
  return code;
}

const struct command server_commands[] = {
    {"server", "info", NULL, "Show version, durability and size of the server", NULL, NULL, NULL, 0, 0, false, run_info},
    {"server", "log-level", "[debug|info|warning|error]", "Show from where on the server logs, or set it until it stops", NULL,
     NULL, NULL, 0, 1, false, run_log_level},
    {0}};
