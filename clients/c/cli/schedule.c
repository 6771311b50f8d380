/* SPDX-License-Identifier: Apache-2.0 */
/* millrace schedule … */
#include <stdio.h>

#include "cli.h"

#define SCHEDULES(name, stem) METHOD(ScheduleService, name, stem)

static struct {
  char *cron, *every, *zone, *start_at, *end_at, *spread;
  char *overlap, *catch_up, *description, *owner, *after, *job_id;
  gboolean prune;
  int limit, count;
} set = {.limit = 100, .count = 10};

static void when_text(const Millrace__V1__ScheduleTiming *timing, char out[static 300]) {
  if (timing && timing->when_case == MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON)
    g_snprintf(out, 300, "%s%s%s", timing->cron, *timing->time_zone ? " " : "", timing->time_zone);
  else
    g_snprintf(out, 300, "every %s", show_duration(timing ? convert_from_duration(timing->interval) : 0));
}

static void schedule_print(struct cli *cli, const Millrace__V1__Schedule *schedule) {
  char when[300];
  if (cli->json) {
    print_json(schedule, true);
    return;
  }
  when_text(schedule->spec->timing, when);
  print_field("name", "%s", schedule->spec->name);
  print_field("description", "%s", schedule->spec->description);
  print_field("when", "%s", when);
  print_field("task", "%s", schedule->spec->job ? schedule->spec->job->task : "");
  print_field("queue", "%s", schedule->spec->job ? schedule->spec->job->queue : "");
  print_field("overlap", "%s", show_enum(&millrace__v1__schedule_overlap__descriptor, (int)schedule->spec->overlap));
  print_field("owner", "%s", schedule->owner);
  print_field("paused", "%s", schedule->paused ? "yes" : "no");
  print_field("next run", "%s", show_time(schedule->next_run_at));
  print_field("last run", "%s", show_time(schedule->last_run_at));
  print_field("last job", "%s", schedule->last_job_id);
  print_field("lateness", "%s", schedule->last_lateness ? show_duration(convert_from_duration(schedule->last_lateness)) : "");
  print_field("runs", "%s", show_number(schedule->runs));
  print_field("skipped", "%s", show_number(schedule->skipped));
}

static Millrace__V1__ScheduleTiming *timing_build(struct cli *cli) {
  Millrace__V1__ScheduleTiming *timing = MESSAGE(cli->box, Millrace__V1__ScheduleTiming, schedule_timing);
  int64_t every_ms = 0, start_ms = 0, end_ms = 0, spread_ms = 0;
  if (!cli_duration("every", set.every, &every_ms) || !cli_time("start-at", set.start_at, &start_ms) ||
      !cli_time("end-at", set.end_at, &end_ms) || !cli_duration("spread", set.spread, &spread_ms))
    return NULL;
  if (!set.cron == !set.every) {
    cli_fail(CLI_USAGE, "when? One of --cron EXPRESSION and --every DURATION");
    return NULL;
  }
  if (set.cron) {
    timing->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_CRON;
    timing->cron = set.cron;
  } else {
    timing->when_case = MILLRACE__V1__SCHEDULE_TIMING__WHEN_INTERVAL;
    timing->interval = convert_duration(cli->box, every_ms ? every_ms : MILLRACE_ZERO);
  }
  timing->time_zone = convert_text(set.zone);
  timing->start_at = convert_time(cli->box, start_ms);
  timing->end_at = convert_time(cli->box, end_ms);
  timing->jitter = convert_duration(cli->box, spread_ms);
  return timing;
}

static Millrace__V1__ScheduleSpec *schedule_build(struct cli *cli, int argc, char **argv) {
  Millrace__V1__ScheduleSpec *spec = MESSAGE(cli->box, Millrace__V1__ScheduleSpec, schedule_spec);
  int64_t catch_up_ms = 0;
  spec->name = argv[0];
  spec->description = convert_text(set.description);
  if (!(spec->timing = timing_build(cli)) || !(spec->job = spec_build(cli, argv[1], argc - 2, argv + 2)) ||
      !cli_enum("overlap", &millrace__v1__schedule_overlap__descriptor, set.overlap, &spec->overlap) ||
      !cli_duration("catch-up", set.catch_up, &catch_up_ms))
    return NULL;
  if (set.catch_up)
    spec->catch_up_window = convert_duration(cli->box, catch_up_ms ? catch_up_ms : MILLRACE_ZERO);
  return spec;
}

static int run_create(struct cli *cli, int argc, char **argv) {
  Millrace__V1__CreateScheduleRequest request = MILLRACE__V1__CREATE_SCHEDULE_REQUEST__INIT;
  Millrace__V1__CreateScheduleResponse *response;
  if (!(request.schedule = schedule_build(cli, argc, argv)))
    return CLI_USAGE;
  int code = cli_call(cli, SCHEDULES(CreateSchedule, create_schedule), &request, &response);
  if (code == CLI_OK)
    schedule_print(cli, response->schedule);
  return code;
}

static int run_update(struct cli *cli, int argc, char **argv) {
  Millrace__V1__UpdateScheduleRequest request = MILLRACE__V1__UPDATE_SCHEDULE_REQUEST__INIT;
  Millrace__V1__UpdateScheduleResponse *response;
  if (!(request.schedule = schedule_build(cli, argc, argv)))
    return CLI_USAGE;
  int code = cli_call(cli, SCHEDULES(UpdateSchedule, update_schedule), &request, &response);
  if (code == CLI_OK)
    schedule_print(cli, response->schedule);
  return code;
}

static int run_get(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__GetScheduleRequest request = MILLRACE__V1__GET_SCHEDULE_REQUEST__INIT;
  Millrace__V1__GetScheduleResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, SCHEDULES(GetSchedule, get_schedule), &request, &response);
  if (code == CLI_OK)
    schedule_print(cli, response->schedule);
  return code;
}

static void list_row(struct table *table, const Millrace__V1__Schedule *schedule) {
  char when[300];
  when_text(schedule->spec->timing, when);
  table_row(table, schedule->spec->name, when, schedule->spec->job ? schedule->spec->job->task : "",
            schedule->paused ? "paused" : show_age(schedule->next_run_at), show_age(schedule->last_run_at),
            show_number(schedule->runs), show_number(schedule->skipped), schedule->owner);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListSchedulesRequest request = MILLRACE__V1__LIST_SCHEDULES_REQUEST__INIT;
  Millrace__V1__ListSchedulesResponse *response;
  uint32_t left = set.limit > 0 ? (uint32_t)set.limit : UINT32_MAX;
  request.owner = convert_text(set.owner);
  struct table *table = table_new("name,when,task,next run,last run,runs,skipped,owner");
  int code;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, SCHEDULES(ListSchedules, list_schedules), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_schedules; i++) {
      if (cli->json)
        print_json(response->schedules[i], false);
      else
        list_row(table, response->schedules[i]);
    }
    left -= (uint32_t)MIN(response->n_schedules, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

static int run_delete(struct cli *cli, int argc, char **argv) {
  int worst = CLI_OK;
  for (int i = 0; i < argc; i++) {
    Millrace__V1__DeleteScheduleRequest request = MILLRACE__V1__DELETE_SCHEDULE_REQUEST__INIT;
    void *response;
    request.name = argv[i];
    int code = cli_call(cli, SCHEDULES(DeleteSchedule, delete_schedule), &request, &response);
    if (code == CLI_OK && !cli->json)
      printf("%s  deleted\n", argv[i]);
    worst = MAX(worst, code);
  }
  return worst;
}

static int run_pause(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__PauseScheduleRequest request = MILLRACE__V1__PAUSE_SCHEDULE_REQUEST__INIT;
  Millrace__V1__PauseScheduleResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, SCHEDULES(PauseSchedule, pause_schedule), &request, &response);
  if (code == CLI_OK)
    schedule_print(cli, response->schedule);
  return code;
}

static int run_resume(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__ResumeScheduleRequest request = MILLRACE__V1__RESUME_SCHEDULE_REQUEST__INIT;
  Millrace__V1__ResumeScheduleResponse *response;
  request.name = argv[0];
  int code = cli_call(cli, SCHEDULES(ResumeSchedule, resume_schedule), &request, &response);
  if (code == CLI_OK)
    schedule_print(cli, response->schedule);
  return code;
}

static int run_now(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__RunScheduleRequest request = MILLRACE__V1__RUN_SCHEDULE_REQUEST__INIT;
  Millrace__V1__RunScheduleResponse *response;
  request.name = argv[0];
  request.job_id = convert_id(cli->box, set.job_id);
  int code = cli_call(cli, SCHEDULES(RunSchedule, run_schedule), &request, &response);
  if (code != CLI_OK)
    return code;
  if (cli->json)
    print_json(response, true);
  else
    puts(response->job_id);
  return CLI_OK;
}

static int run_preview(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__PreviewScheduleRequest request = MILLRACE__V1__PREVIEW_SCHEDULE_REQUEST__INIT;
  Millrace__V1__PreviewScheduleResponse *response;
  int64_t after_ms = 0;
  if (!(request.timing = timing_build(cli)) || !cli_time("after", set.after, &after_ms))
    return CLI_USAGE;
  request.count = (uint32_t)MAX(set.count, 0);
  request.after = convert_time(cli->box, after_ms);
  int code = cli_call(cli, SCHEDULES(PreviewSchedule, preview_schedule), &request, &response);
  if (code != CLI_OK)
    return code;
  if (cli->json)
    print_json(response, true);
  for (size_t i = 0; !cli->json && i < response->n_times; i++)
    puts(show_time(response->times[i]));
  return CLI_OK;
}

/* A file with {"schedules": […]}, a JSON list, or one schedule a line: all become the one request. */
static char *declare_request(const char *text) {
  g_autofree char *trimmed = g_strstrip(g_strdup(text));
  if (*trimmed == '[')
    return g_strdup_printf("{\"schedules\": %s}", trimmed);
  if (g_str_has_prefix(trimmed, "{") && strstr(trimmed, "\"schedules\""))
    return g_steal_pointer(&trimmed);
  GString *list = g_string_new("{\"schedules\": [");
  g_auto(GStrv) lines = g_strsplit(trimmed, "\n", -1);
  bool is_first = true;
  for (size_t i = 0; lines[i]; i++)
    if (*g_strstrip(lines[i])) {
      g_string_append_printf(list, "%s%s", is_first ? "" : ", ", lines[i]);
      is_first = false;
    }
  g_string_append(list, "]}");
  return g_string_free(list, FALSE);
}

static int run_declare(struct cli *cli, int argc, char **argv) {
  (void)argc;
  struct millrace_error error;
  g_autofree char *text = NULL;
  g_autoptr(GError) problem = NULL;
  if (!g_file_get_contents(strcmp(argv[0], "-") == 0 ? "/dev/stdin" : argv[0], &text, NULL, &problem))
    return cli_fail(CLI_USAGE, "%s", problem->message);
  g_autofree char *json = declare_request(text);
  Millrace__V1__DeclareSchedulesRequest *request;
  Millrace__V1__DeclareSchedulesResponse *response;
  if (json_read(cli->box, &millrace__v1__declare_schedules_request__descriptor, json, &request, &error) != MILLRACE_OK)
    return cli_fail(CLI_USAGE, "%s: %s", argv[0], error.message);
  if (set.owner)
    request->owner = set.owner;
  request->prune = request->prune || set.prune;
  if (!*request->owner)
    return cli_fail(CLI_USAGE, "whose schedules? --owner NAME");
  int code = cli_call(cli, SCHEDULES(DeclareSchedules, declare_schedules), request, &response);
  if (code == CLI_OK && cli->json)
    print_json(response, true);
  else if (code == CLI_OK)
    printf("%u created, %u updated, %u unchanged, %u deleted\n", response->created, response->updated, response->unchanged,
           response->deleted);
  return code;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
#define TIMING                                                                                                                   \
  {"cron",      'c', 0, G_OPTION_ARG_STRING, &set.cron, "When, such as \"*/5 * * * *\" or @daily (seconds may go in front)",     \
   "EXPRESSION"},                                                                                                                \
      {"every", 'e', 0, G_OPTION_ARG_STRING, &set.every, "Instead: an interval of 1s or more", "DURATION"},                      \
      {"zone", 'z', 0, G_OPTION_ARG_STRING, &set.zone, "Time zone of the cron expression (default: UTC)", "NAME"},               \
      {"start-at", 0, 0, G_OPTION_ARG_STRING, &set.start_at, "No job before", "TIME"},                                           \
      {"end-at", 0, 0, G_OPTION_ARG_STRING, &set.end_at, "No job at or after", "TIME"}, {                                        \
    "spread", 0, 0, G_OPTION_ARG_STRING, &set.spread, "Put each job off by a random part of this", "DURATION"                    \
  }

static const GOptionEntry create_options[] = {
    TIMING,
    {"overlap", 0, 0, G_OPTION_ARG_STRING, &set.overlap, "When the job before still runs: skip (default), queue-one or allow",
     "RULE"},
    {"catch-up", 0, 0, G_OPTION_ARG_STRING, &set.catch_up, "Make up for a missed time up to this old; 0s: never", "DURATION"},
    {"description", 0, 0, G_OPTION_ARG_STRING, &set.description, "For people", "TEXT"},
    END};
static const GOptionEntry list_options[] = {
    {"owner", 0, 0, G_OPTION_ARG_STRING, &set.owner, "Only this owner's", "NAME"},
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many, 0: all (default: 100)", "N"},
    END};
static const GOptionEntry preview_options[] = {
    TIMING,
    {"count", 'n', 0, G_OPTION_ARG_INT, &set.count, "How many times (default: 10)", "N"},
    {"after", 0, 0, G_OPTION_ARG_STRING, &set.after, "Times after this (default: now)", "TIME"},
    END};
static const GOptionEntry run_options[] = {
    {"job-id", 0, 0, G_OPTION_ARG_STRING, &set.job_id, "The job's UUID (default: a fresh one)", "UUID"}, END};
static const GOptionEntry declare_options[] = {
    {"owner", 0, 0, G_OPTION_ARG_STRING, &set.owner, "Whose schedules these are", "NAME"},
    {"prune", 0, 0, G_OPTION_ARG_NONE, &set.prune, "Delete the owner's other schedules", NULL},
    END};

const struct command schedule_commands[] = {
    {"schedule", "create", "NAME TASK [KEY=VALUE…]", "Create a schedule",
     "millrace schedule create health ping --every 1s\n"
     "millrace schedule create report make_report kind=daily --cron \"30 6 * * mon-fri\" --zone Europe/Berlin",
     create_options, spec_options, 2, -1, false, run_create},
    {"schedule", "get", "NAME", "Show a schedule", NULL, NULL, NULL, 1, 1, false, run_get},
    {"schedule", "list", NULL, "List schedules with their next run", NULL, list_options, NULL, 0, 0, false, run_list},
    {"schedule", "update", "NAME TASK [KEY=VALUE…]", "Replace the whole content of a schedule", NULL, create_options,
     spec_options, 2, -1, false, run_update},
    {"schedule", "delete", "NAME…", "Delete schedules; their jobs stay", NULL, NULL, NULL, 1, -1, false, run_delete},
    {"schedule", "pause", "NAME", "Make no jobs until resumed", NULL, NULL, NULL, 1, 1, false, run_pause},
    {"schedule", "resume", "NAME", "Go on", NULL, NULL, NULL, 1, 1, false, run_resume},
    {"schedule", "run", "NAME", "Make a job now and print its id", NULL, run_options, NULL, 1, 1, false, run_now},
    {"schedule", "preview", NULL, "Print the next times of an expression", NULL, preview_options, NULL, 0, 0, false, run_preview},
    {"schedule", "declare", "FILE", "Make an owner's schedules be those of a file",
     "The file has {\"schedules\": […]}, a list, or a schedule a line; - is standard input:\n"
     "  {\"name\": \"health\", \"timing\": {\"interval\": \"1s\"}, \"job\": {\"task\": \"ping\"}}",
     declare_options, NULL, 1, 1, false, run_declare},
    {0}};
