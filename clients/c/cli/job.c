/* SPDX-License-Identifier: Apache-2.0 */
/* millrace job … */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "stream.h"

#define JOBS(name, stem) METHOD(JobService, name, stem)

enum { ANSWERS_BEHIND = 4, LIST_LIMIT = 100 };

static struct {
  gboolean wait, log, terminate, all, retry_failed;
  char *wait_timeout, *from, *reason, *timeout;
  char **queues, **tasks, **states, **priorities, **labels, **ids;
  char *batch, *chain, *schedule, *fingerprint, *after, *before;
  int limit;
  char *at, *expires_at, *deadline, *priority;
} set = {.limit = LIST_LIMIT};

/* ---- showing ---- */

static void print_error(const Millrace__V1__JobError *error) {
  if (!error)
    return;
  print_field("error", "%s: %s", error->type, error->message);
  print_field("fingerprint", "%s", error->fingerprint);
  print_field("trace", "%s", error->trace);
}

static void print_history(const Millrace__V1__Job *job) {
  struct table *table = table_new("delivery,outcome,started,took,error");
  for (size_t i = 0; i < job->n_history; i++) {
    const Millrace__V1__Attempt *attempt = job->history[i];
    char number[16];
    g_snprintf(number, sizeof number, "%u", attempt->delivery);
    int64_t took_ms = convert_from_time(attempt->finished_at) - convert_from_time(attempt->started_at);
    table_row(table, number, show_enum(&millrace__v1__attempt_outcome__descriptor, (int)attempt->outcome),
              show_age(attempt->started_at), attempt->started_at ? show_duration(took_ms) : "",
              attempt->error ? attempt->error->message : "");
  }
  if (job->n_history > 0)
    putchar('\n');
  table_print(table);
}

void job_print(struct cli *cli, const Millrace__V1__Job *job) {
  if (cli->json) {
    print_json(job, true);
    return;
  }
  const char *waiting = show_enum(&millrace__v1__waiting_reason__descriptor, (int)job->waiting_reason);
  print_field("id", "%s", job->id);
  print_field("task", "%s", job->task);
  print_field("queue", "%s", job->queue);
  print_field("priority", "%s", show_enum(&millrace__v1__job_priority__descriptor, (int)job->priority));
  print_field("state", "%s%s%s%s%s", show_enum(&millrace__v1__job_state__descriptor, (int)job->state), *waiting ? " (" : "",
              waiting, *waiting ? ")" : "", job->cancel_requested ? ", asked to stop" : "");
  print_field("attempts", "%u of %u", job->attempts, job->max_attempts);
  print_field("created", "%s", show_time(job->created_at));
  print_field("runs at", "%s", millrace_job_state_is_final((enum millrace_job_state)job->state) ? "" : show_time(job->run_at));
  print_field("expires", "%s", show_time(job->expires_at));
  print_field("deadline", "%s", show_time(job->deadline));
  print_field("started", "%s", show_time(job->started_at));
  print_field("finished", "%s", show_time(job->finished_at));
  if (job->progress)
    print_field("progress", "%.0f%% %s", job->progress->fraction * 100, job->progress->message);
  for (size_t i = 0; i < job->n_labels; i++)
    print_field("label", "%s=%s", job->labels[i]->key, job->labels[i]->value);
  print_field("unique key", "%s", job->unique_key);
  print_field("concurrency key", "%s", job->concurrency_key);
  print_field("chain", "%s", job->chain_id);
  print_field("batch", "%s", job->batch_id);
  print_field("schedule", "%s", job->schedule_name);
  print_field("session", "%s", job->session_id);
  print_payload("payload", job->payload);
  print_payload("result", job->result);
  print_field("no result", "%s", job->result_omitted_reason);
  print_error(job->error);
  print_history(job);
}

/* ---- create, wait ---- */

int job_wait_and_show(struct cli *cli, const char *id, const char *timeout) {
  int64_t timeout_ms = 0;
  struct millrace_error error;
  struct millrace_job *job;
  if (!cli_wait_timeout("timeout", timeout, &timeout_ms))
    return CLI_USAGE;
  if (millrace_job_wait(cli->client, id, timeout_ms, &job, &error) != MILLRACE_OK)
    return cli_explain(&error);
  int code = job->timed_out ? CLI_TIMED_OUT : job->state == MILLRACE_JOB_SUCCEEDED ? CLI_OK : CLI_NOT_SUCCEEDED;
  millrace_free(job);
  Millrace__V1__GetJobRequest request = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  Millrace__V1__GetJobResponse *response;
  request.id = (char *)id;
  int answer = cli_call(cli, JOBS(GetJob, get_job), &request, &response);
  if (answer != CLI_OK)
    return answer;
  job_print(cli, response->job);
  if (code == CLI_TIMED_OUT)
    cli_fail(code, "it has not ended in time");
  return code;
}

struct load {
  struct cli *cli;
  struct stream *stream;
  unsigned behind; /* messages not answered yet */
  uint64_t created, existing, refused;
};

static int take_answer(struct load *load) {
  struct millrace_error error;
  struct box *box;
  Millrace__V1__CreateJobsStreamResponse *response;
  if (stream_read(load->stream, &box, &response, &error) != MILLRACE_OK)
    return cli_explain(&error);
  if (!response)
    return cli_fail(CLI_FAILED, "the server has ended the stream");
  load->behind--;
  for (size_t i = 0; i < response->n_outcomes; i++) {
    const Millrace__V1__CreateOutcome *outcome = response->outcomes[i];
    if (load->cli->json)
      print_json(outcome, false);
    else if (!outcome->error)
      puts(outcome->id);
    if (outcome->error)
      cli_explain_outcome(outcome);
    load->refused += outcome->error != NULL;
    load->existing += outcome->existing;
    load->created += !outcome->error && !outcome->existing;
  }
  progress_show("created", load->created, 0);
  box_unref(box);
  return CLI_OK;
}

static int send_chunk(void *context, struct box *box, Millrace__V1__JobSpec **specs, size_t count) {
  struct load *load = context;
  struct millrace_error error;
  for (size_t i = 0; i < count; i++)
    specs[i]->id = convert_id(box, specs[i]->id);
  Millrace__V1__CreateJobsStreamRequest request = MILLRACE__V1__CREATE_JOBS_STREAM_REQUEST__INIT;
  request.n_jobs = count;
  request.jobs = specs;
  if (stream_write(load->stream, &request, &error) != MILLRACE_OK)
    return cli_explain(&error);
  load->behind++;
  return load->behind > ANSWERS_BEHIND ? take_answer(load) : CLI_OK;
}

static int create_from_file(struct cli *cli) {
  struct load load = {.cli = cli, .stream = stream_open(cli->client, JOBS(CreateJobsStream, create_jobs_stream), -1)};
  int code = spec_load(cli, set.from, send_chunk, &load);
  while (load.behind > 0 && code == CLI_OK)
    code = take_answer(&load);
  progress_end();
  stream_free(load.stream);
  if (!cli->json)
    fprintf(stderr, "%s created, %s existing, %s refused\n", show_number(load.created), show_number(load.existing),
            show_number(load.refused));
  return code == CLI_OK && load.refused > 0 ? CLI_FAILED : code;
}

static int run_create(struct cli *cli, int argc, char **argv) {
  if (set.from)
    return argc == 0 ? create_from_file(cli) : cli_fail(CLI_USAGE, "--from takes no task: each line has its own");
  if (argc == 0)
    return cli_fail(CLI_USAGE, "usage: millrace job create TASK [KEY=VALUE…]");
  Millrace__V1__CreateJobRequest request = MILLRACE__V1__CREATE_JOB_REQUEST__INIT;
  Millrace__V1__CreateJobResponse *response;
  request.job = spec_build(cli, argv[0], argc - 1, argv + 1);
  if (!request.job)
    return CLI_USAGE;
  request.job->id = convert_id(cli->box, request.job->id);
  int code = cli_call(cli, JOBS(CreateJob, create_job), &request, &response);
  if (code != CLI_OK)
    return code;
  if (set.wait)
    return job_wait_and_show(cli, response->job->id, set.wait_timeout);
  if (cli->json)
    print_json(response, true);
  else
    puts(response->job->id);
  return CLI_OK;
}

static int run_wait(struct cli *cli, int argc, char **argv) {
  (void)argc;
  return job_wait_and_show(cli, argv[0], set.timeout);
}

static int run_get(struct cli *cli, int argc, char **argv) {
  (void)argc;
  Millrace__V1__GetJobRequest request = MILLRACE__V1__GET_JOB_REQUEST__INIT;
  Millrace__V1__GetJobResponse *response;
  request.id = argv[0];
  request.with_log = set.log;
  int code = cli_call(cli, JOBS(GetJob, get_job), &request, &response);
  if (code != CLI_OK)
    return code;
  if (cli->json && set.log) {
    print_json(response, true);
    return CLI_OK;
  }
  job_print(cli, response->job);
  if (response->n_log > 0)
    printf("\nlog:\n");
  for (size_t i = 0; i < response->n_log; i++) {
    char time[TEXT_TIME_BYTES];
    text_format_time(response->log[i]->time_unix_ms, time);
    printf("  %s  #%u  %s\n", time, response->log[i]->delivery, response->log[i]->text);
  }
  return CLI_OK;
}

/* ---- filters ---- */

static bool enums_of(const char *name, const ProtobufCEnumDescriptor *type, char **texts, void *out_values, size_t *out_count,
                     struct box *box) {
  size_t count = texts ? g_strv_length(texts) : 0;
  int *values = box_alloc(box, count * sizeof *values);
  for (size_t i = 0; i < count; i++)
    if (!cli_enum(name, type, texts[i], &values[i]))
      return false;
  *(int **)out_values = values;
  *out_count = count;
  return true;
}

static Millrace__V1__JobFilter *filter_build(struct cli *cli) {
  Millrace__V1__JobFilter *filter = MESSAGE(cli->box, Millrace__V1__JobFilter, job_filter);
  struct millrace_label *labels;
  int64_t after_ms = 0, before_ms = 0;
  if (!enums_of("state", &millrace__v1__job_state__descriptor, set.states, &filter->states, &filter->n_states, cli->box) ||
      !enums_of("priority", &millrace__v1__job_priority__descriptor, set.priorities, &filter->priorities, &filter->n_priorities,
                cli->box) ||
      !cli_labels(set.labels, &labels, &filter->n_labels, cli->box) || !cli_time("created-after", set.after, &after_ms) ||
      !cli_time("created-before", set.before, &before_ms))
    return NULL;
  filter->labels = convert_labels(cli->box, labels, filter->n_labels, &millrace__v1__job_filter__labels_entry__descriptor);
  filter->queues = set.queues;
  filter->n_queues = set.queues ? g_strv_length(set.queues) : 0;
  filter->tasks = set.tasks;
  filter->n_tasks = set.tasks ? g_strv_length(set.tasks) : 0;
  filter->ids = set.ids;
  filter->n_ids = set.ids ? g_strv_length(set.ids) : 0;
  filter->batch_id = convert_text(set.batch);
  filter->chain_id = convert_text(set.chain);
  filter->schedule_name = convert_text(set.schedule);
  filter->error_fingerprint = convert_text(set.fingerprint);
  filter->created_after = convert_time(cli->box, after_ms);
  filter->created_before = convert_time(cli->box, before_ms);
  return filter;
}

static bool filter_is_empty(const Millrace__V1__JobFilter *filter) {
  return millrace__v1__job_filter__get_packed_size(filter) == 0;
}

static void list_row(struct table *table, const Millrace__V1__Job *job) {
  const char *why = job->waiting_reason ? show_enum(&millrace__v1__waiting_reason__descriptor, (int)job->waiting_reason)
                    : job->error        ? job->error->message
                                        : "";
  table_row(table, job->id, show_enum(&millrace__v1__job_state__descriptor, (int)job->state), job->task, job->queue,
            show_enum(&millrace__v1__job_priority__descriptor, (int)job->priority), show_age(job->created_at), why);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListJobsRequest request = MILLRACE__V1__LIST_JOBS_REQUEST__INIT;
  Millrace__V1__ListJobsResponse *response;
  uint32_t left = set.all || set.limit <= 0 ? UINT32_MAX : (uint32_t)set.limit;
  request.filter = filter_build(cli);
  if (!request.filter)
    return CLI_USAGE;
  struct table *table = table_new("id,state,task,queue,priority,created,why");
  int code = CLI_OK;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, JOBS(ListJobs, list_jobs), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_jobs; i++) {
      if (cli->json)
        print_json(response->jobs[i], false);
      else
        list_row(table, response->jobs[i]);
    }
    left -= (uint32_t)MIN(response->n_jobs, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

/* Who reads the output may leave while there is no news. A file never ends this, nor does an output that is closed. */
static void *end_with_the_reader(void *unused) {
  struct pollfd output = {.fd = STDOUT_FILENO};
  while (poll(&output, 1, -1) < 0)
    ;
  if (output.revents & (POLLERR | POLLHUP))
    _exit(CLI_FAILED);
  return unused;
}

static int run_watch(struct cli *cli, int argc, char **argv) {
  Millrace__V1__WatchJobsRequest request = MILLRACE__V1__WATCH_JOBS_REQUEST__INIT;
  request.filter = filter_build(cli);
  if (!request.filter)
    return CLI_USAGE;
  if (argc > 0) {
    request.filter->ids = argv;
    request.filter->n_ids = (size_t)argc;
  }
  if (filter_is_empty(request.filter))
    return cli_fail(CLI_USAGE, "what to watch? Name ids or at least one condition, such as --queue default");
  pthread_t waiter;
  if (pthread_create(&waiter, NULL, end_with_the_reader, NULL) == 0)
    pthread_detach(waiter);
  struct millrace_error error;
  struct stream *stream = stream_open(cli->client, JOBS(WatchJobs, watch_jobs), -1);
  enum millrace_code code = stream_write(stream, &request, &error);
  if (code == MILLRACE_OK)
    stream_close_writes(stream);
  struct box *box;
  Millrace__V1__WatchJobsResponse *news = NULL;
  while (code == MILLRACE_OK && output_is_read() && (code = stream_read(stream, &box, &news, &error)) == MILLRACE_OK && news) {
    const Millrace__V1__Job *job = news->job;
    char now[TEXT_TIME_BYTES];
    text_format_time(g_get_real_time() / 1000, now);
    if (cli->json)
      print_json(news, false);
    else if (job)
      printf("%s  %s  %-9s  %s  %s%s\n", now, job->id, show_enum(&millrace__v1__job_state__descriptor, (int)job->state),
             job->task, show_enum(&millrace__v1__waiting_reason__descriptor, (int)job->waiting_reason),
             news->deleted ? "deleted" : "");
    box_unref(box);
  }
  stream_free(stream);
  return code == MILLRACE_OK ? CLI_OK : cli_explain(&error);
}

/* ---- changing ---- */

static int cancel_matches(struct cli *cli) {
  Millrace__V1__CancelJobsRequest request = MILLRACE__V1__CANCEL_JOBS_REQUEST__INIT;
  Millrace__V1__CancelJobsResponse *response;
  request.filter = filter_build(cli);
  request.terminate = set.terminate;
  request.reason = convert_text(set.reason);
  if (!request.filter)
    return CLI_USAGE;
  if (filter_is_empty(request.filter))
    return cli_fail(CLI_USAGE, "which jobs? Name ids or at least one condition, such as --queue default");
  uint64_t cancelled = 0;
  do {
    int code = cli_call(cli, JOBS(CancelJobs, cancel_jobs), &request, &response);
    if (code != CLI_OK)
      return code;
    cancelled += response->cancelled;
    progress_show("cancelled", cancelled, 0);
  } while (response->more && response->cancelled > 0);
  progress_end();
  printf(cli->json ? "{\"cancelled\":%" G_GUINT64_FORMAT "}\n" : "%" G_GUINT64_FORMAT " cancelled\n", cancelled);
  return CLI_OK;
}

static int run_cancel(struct cli *cli, int argc, char **argv) {
  if (argc == 0)
    return cancel_matches(cli);
  int worst = CLI_OK;
  for (int i = 0; i < argc; i++) {
    Millrace__V1__CancelJobRequest request = MILLRACE__V1__CANCEL_JOB_REQUEST__INIT;
    Millrace__V1__CancelJobResponse *response;
    request.id = argv[i];
    request.terminate = set.terminate;
    request.reason = convert_text(set.reason);
    int code = cli_call(cli, JOBS(CancelJob, cancel_job), &request, &response);
    if (code == CLI_OK && cli->json)
      print_json(response, true);
    else if (code == CLI_OK)
      printf("%s  %s%s\n", argv[i], show_enum(&millrace__v1__job_state__descriptor, (int)response->job->state),
             !response->accepted               ? "  (had ended already)"
             : response->job->cancel_requested ? "  (asked to stop)"
                                               : "");
    worst = MAX(worst, code);
  }
  return worst;
}

static int retry_matches(struct cli *cli) {
  Millrace__V1__RetryJobsRequest request = MILLRACE__V1__RETRY_JOBS_REQUEST__INIT;
  Millrace__V1__RetryJobsResponse *response;
  request.filter = filter_build(cli);
  if (!request.filter)
    return CLI_USAGE;
  if (filter_is_empty(request.filter))
    return cli_fail(CLI_USAGE, "which jobs? Name ids or at least one condition, such as --queue default");
  uint64_t retried = 0, refused = 0;
  do {
    int code = cli_call(cli, JOBS(RetryJobs, retry_jobs), &request, &response);
    if (code != CLI_OK)
      return code;
    retried += response->retried;
    refused += response->refused;
    progress_show("retried", retried, 0);
  } while (response->more && response->retried > 0);
  progress_end();
  printf(cli->json ? "{\"retried\":%" G_GUINT64_FORMAT ",\"refused\":%" G_GUINT64_FORMAT "}\n"
                   : "%" G_GUINT64_FORMAT " start anew, %" G_GUINT64_FORMAT " refused\n",
         retried, refused);
  return CLI_OK;
}

static int run_retry(struct cli *cli, int argc, char **argv) {
  if (argc == 0)
    return retry_matches(cli);
  int worst = CLI_OK;
  for (int i = 0; i < argc; i++) {
    Millrace__V1__RetryJobRequest request = MILLRACE__V1__RETRY_JOB_REQUEST__INIT;
    Millrace__V1__RetryJobResponse *response;
    request.id = argv[i];
    int code = cli_call(cli, JOBS(RetryJob, retry_job), &request, &response);
    if (code == CLI_OK && cli->json)
      print_json(response->job, true);
    else if (code == CLI_OK)
      printf("%s  %s\n", argv[i], show_enum(&millrace__v1__job_state__descriptor, (int)response->job->state));
    worst = MAX(worst, code);
  }
  return worst;
}

static int run_update(struct cli *cli, int argc, char **argv) {
  (void)argc;
  /* The options of a spec that can be changed later, applied to a spec that is not sent. */
  Millrace__V1__JobSpec *spec = MESSAGE(cli->box, Millrace__V1__JobSpec, job_spec);
  Millrace__V1__UpdateJobRequest request = MILLRACE__V1__UPDATE_JOB_REQUEST__INIT;
  Millrace__V1__UpdateJobResponse *response;
  Millrace__V1__Labels labels = MILLRACE__V1__LABELS__INIT;
  int64_t deadline_ms = 0;
  const char *fixed = spec_fixed_option();
  if (fixed)
    return cli_fail(CLI_USAGE, "--%s can't be changed once a job is created; `millrace job update --help` tells what can", fixed);
  if (!spec_apply_options(cli, spec) || !cli_time("deadline", set.deadline, &deadline_ms))
    return CLI_USAGE;
  int64_t now_ms = g_get_real_time() / 1000;
  request.id = argv[0];
  request.priority = spec->priority;
  request.retry_policy = spec->retry_policy;
  request.deadline = convert_time(cli->box, deadline_ms);
  if (spec->start_case == MILLRACE__V1__JOB_SPEC__START_RUN_AT)
    request.run_at = spec->run_at;
  else if (spec->start_case == MILLRACE__V1__JOB_SPEC__START_DELAY)
    request.run_at = convert_time(cli->box, now_ms + convert_from_duration(spec->delay));
  if (spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_AT)
    request.expires_at = spec->expires_at;
  else if (spec->expiry_case == MILLRACE__V1__JOB_SPEC__EXPIRY_EXPIRES_IN)
    request.expires_at = convert_time(cli->box, now_ms + convert_from_duration(spec->expires_in));
  if (spec->n_labels > 0) {
    labels.n_labels = spec->n_labels;
    labels.labels = (Millrace__V1__Labels__LabelsEntry **)spec->labels;
    for (size_t i = 0; i < spec->n_labels; i++)
      labels.labels[i]->base.descriptor = &millrace__v1__labels__labels_entry__descriptor;
    request.labels = &labels;
  }
  int code = cli_call(cli, JOBS(UpdateJob, update_job), &request, &response);
  if (code == CLI_OK)
    job_print(cli, response->job);
  return code;
}

static int run_delete(struct cli *cli, int argc, char **argv) {
  int worst = CLI_OK;
  for (int i = 0; i < argc; i++) {
    Millrace__V1__DeleteJobRequest request = MILLRACE__V1__DELETE_JOB_REQUEST__INIT;
    void *response;
    request.id = argv[i];
    int code = cli_call(cli, JOBS(DeleteJob, delete_job), &request, &response);
    if (code == CLI_OK && !cli->json)
      printf("%s  deleted\n", argv[i]);
    worst = MAX(worst, code);
  }
  return worst;
}

/* ---- the table ---- */

#define FILTER                                                                                                                   \
  {"queue", 'q', 0, G_OPTION_ARG_STRING_ARRAY, &set.queues, "Of this queue (repeatable)", "NAME"},                               \
      {"task", 't', 0, G_OPTION_ARG_STRING_ARRAY, &set.tasks, "Of this task (repeatable)", "NAME"},                              \
      {"state", 's', 0, G_OPTION_ARG_STRING_ARRAY, &set.states, "In this state (repeatable)", "STATE"},                          \
      {"priority", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &set.priorities, "Of this priority (repeatable)", "PRIORITY"},             \
      {"label", 'l', 0, G_OPTION_ARG_STRING_ARRAY, &set.labels, "With this label (repeatable: all of them)", "KEY=VALUE"},       \
      {"batch", 0, 0, G_OPTION_ARG_STRING, &set.batch, "Members of this batch", "ID"},                                           \
      {"chain", 0, 0, G_OPTION_ARG_STRING, &set.chain, "Steps of this chain", "ID"},                                             \
      {"schedule", 0, 0, G_OPTION_ARG_STRING, &set.schedule, "Made by this schedule", "NAME"},                                   \
      {"fingerprint", 0, 0, G_OPTION_ARG_STRING, &set.fingerprint, "Failed with this fingerprint", "HEX"},                       \
      {"created-after", 0, 0, G_OPTION_ARG_STRING, &set.after, "Created at or after", "TIME"}, {                                 \
    "created-before", 0, 0, G_OPTION_ARG_STRING, &set.before, "Created before", "TIME"                                           \
  }
#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }

static const GOptionEntry create_options[] = {
    {"wait", 'w', 0, G_OPTION_ARG_NONE, &set.wait, "Wait for its end and show it", NULL},
    {"wait-timeout", 0, 0, G_OPTION_ARG_STRING, &set.wait_timeout, "But not longer than that", "DURATION"},
    {"from", 'f', 0, G_OPTION_ARG_STRING, &set.from, "Many jobs: a file of JSON lines, - for standard input", "FILE"},
    END};
static const GOptionEntry get_options[] = {{"log", 0, 0, G_OPTION_ARG_NONE, &set.log, "Also its log", NULL}, END};
static const GOptionEntry wait_options[] = {{"timeout", 0, 0, G_OPTION_ARG_STRING, &set.timeout,
                                             "Give up after; 0s: only look (default: wait as long as it takes)", "DURATION"},
                                            END};
static const GOptionEntry watch_options[] = {FILTER, END};
static const GOptionEntry list_options[] = {
    FILTER,
    {"id", 0, 0, G_OPTION_ARG_STRING_ARRAY, &set.ids, "With this id (repeatable)", "ID"},
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many (default: 100)", "N"},
    {"all", 'a', 0, G_OPTION_ARG_NONE, &set.all, "All of them", NULL},
    END};
static const GOptionEntry cancel_options[] = {
    FILTER,
    {"terminate", 0, 0, G_OPTION_ARG_NONE, &set.terminate, "Stop a running handler by force", NULL},
    {"reason", 0, 0, G_OPTION_ARG_STRING, &set.reason, "Kept with the job", "TEXT"},
    END};
static const GOptionEntry retry_options[] = {FILTER, END};
static const GOptionEntry update_options[] = {
    {"deadline", 0, 0, G_OPTION_ARG_STRING, &set.deadline, "When its total time-out passes", "TIME"}, END};

static const char create_more[] =
    "key=value makes a string of the payload object, key:=value takes JSON as it is:\n"
    "  millrace job create send_email to=a@example.org retries:=3 --priority high --delay 10s\n"
    "A file of JSON lines has a job in each, with the names of the API:\n"
    "  {\"task\": \"send_email\", \"payload\": {\"json\": {\"to\": \"a@example.org\"}}, \"delay\": \"10s\"}\n"
    "Options fill in what a line leaves out. Prints the id.";

const struct command job_commands[] = {
    {"job", "create", "TASK [KEY=VALUE…]", "Create a job, or many from a file", create_more, create_options, spec_options, 0, -1,
     false, run_create},
    {"job", "get", "ID", "Show a job", NULL, get_options, NULL, 1, 1, false, run_get},
    {"job", "wait", "ID", "Wait until a job has ended, and show it", "Exit code 0 only if it succeeded.", wait_options, NULL, 1,
     1, false, run_wait},
    {"job", "watch", "[ID…]", "Print every change of some jobs", NULL, watch_options, NULL, 0, -1, false, run_watch},
    {"job", "list", NULL, "List jobs", "With --output json one job a line.", list_options, NULL, 0, 0, false, run_list},
    {"job", "cancel", "[ID…]", "Cancel jobs by id or by condition", NULL, cancel_options, NULL, 0, -1, false, run_cancel},
    {"job", "retry", "[ID…]", "Start ended jobs anew, by id or by condition",
     "By condition: the failed ones, unless --state says otherwise.", retry_options, NULL, 0, -1, false, run_retry},
    {"job", "update", "ID", "Change a waiting job: priority, start, expiry, deadline, retries, labels",
     "Of the options of create: --priority, --delay, --at, --expires-…, --max-attempts, --backoff…, --jitter, --label.",
     update_options, spec_options, 1, 1, false, run_update},
    {"job", "delete", "ID…", "Remove ended jobs", NULL, NULL, NULL, 1, -1, false, run_delete},
    {0}};
