/* SPDX-License-Identifier: Apache-2.0 */
/* millrace worker … */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli.h"
#include "process.h"

#define WORKERS(name, stem) METHOD(WorkerService, name, stem)

static struct {
  char **queues, **handlers, **labels;
  int concurrency, prefetch, limit;
  char *transport, *url, *grace, *kill_grace, *attempt_timeout, *queue;
  gboolean drain, quiet;
} set = {.concurrency = 10, .limit = 100};

enum { AFTER_KILL_MS = 5000 };

/* ---- run ---- */

static void log_line(void *context, enum millrace_log_level level, const char *line) {
  static const char *const levels[] = {"debug", "info", "warning", "error"};
  char now[TEXT_TIME_BYTES];
  (void)context;
  text_format_time(g_get_real_time() / 1000, now);
  fprintf(stderr, "%s %s %s\n", now, levels[level], line);
}

static void log_attempt(void *context, const struct millrace_context *job, const char *outcome, int64_t took_us) {
  const struct millrace_delivery *delivery = millrace_context_delivery(job);
  char line[512];
  if (set.quiet)
    return;
  g_snprintf(line, sizeof line, "%s job=%s task=%s queue=%s attempt=%u/%u took_ms=%.1f", outcome, delivery->job_id,
             delivery->task, delivery->queue, delivery->attempt, delivery->max_attempts, (double)took_us / 1000);
  log_line(context, MILLRACE_LOG_INFO, line);
}

static int signal_fd = -1;

static void on_signal(int number) {
  (void)number;
  int saved = errno;
  eventfd_write(signal_fd, 1);
  errno = saved;
}

/* Until the descriptor is closed by the end of the process. */
static void *stop_on_signal(void *worker) {
  eventfd_t count;
  while (eventfd_read(signal_fd, &count) == 0)
    millrace_worker_stop(worker);
  return NULL;
}

static void catch_signals(struct millrace_worker *worker) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  signal_fd = eventfd(0, EFD_CLOEXEC);
  g_thread_unref(g_thread_new("signals", stop_on_signal, worker));
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
}

static bool queues_of(struct box *box, struct millrace_worker_options *options) {
  size_t count = set.queues ? g_strv_length(set.queues) : 0;
  struct millrace_worker_queue *queues = box_alloc(box, count * sizeof *queues);
  for (size_t i = 0; i < count; i++) {
    char *name = box_strdup(box, set.queues[i]);
    char *colon = strrchr(name, ':');
    guint64 weight = 1;
    /* A name may have colons; a weight is a number after the last. */
    if (colon && g_ascii_string_to_unsigned(colon + 1, 10, 1, 1000, &weight, NULL))
      *colon = '\0';
    queues[i] = (struct millrace_worker_queue){name, (uint32_t)weight};
  }
  options->queues = queues;
  options->queue_count = count;
  return true;
}

static bool transport_of(enum millrace_transport *out_transport) {
  static const char *const names[] = {"auto", "nng", "grpc"};
  for (int i = 0; i < (int)G_N_ELEMENTS(names); i++)
    if (!set.transport || strcmp(set.transport, names[i]) == 0) {
      *out_transport = (enum millrace_transport)i;
      return true;
    }
  cli_fail(CLI_USAGE, "--transport: '%s' is none of auto, nng, grpc", set.transport);
  return false;
}

static bool add_handlers(struct cli *cli, struct millrace_worker *worker, int64_t kill_grace_ms) {
  int64_t attempt_timeout_ms = 0;
  if (!cli_duration("attempt-timeout", set.attempt_timeout, &attempt_timeout_ms))
    return false;
  struct millrace_task_options options = {.attempt_timeout_ms = attempt_timeout_ms};
  if (set.attempt_timeout && attempt_timeout_ms == 0)
    options.attempt_timeout_ms = MILLRACE_ZERO;
  for (size_t i = 0; set.handlers && set.handlers[i]; i++) {
    g_autoptr(GError) problem = NULL;
    struct process_handler *handler = box_alloc(cli->box, sizeof *handler);
    char *task = box_strdup(cli->box, set.handlers[i]);
    char *equals = strchr(task, '=');
    if (!equals || equals == task) {
      cli_fail(CLI_USAGE, "--handler: '%s' is not task=command", task);
      return false;
    }
    *equals = '\0';
    handler->kill_grace_ms = kill_grace_ms;
    g_auto(GStrv) words = NULL;
    if (!g_shell_parse_argv(equals + 1, NULL, &words, &problem)) {
      cli_fail(CLI_USAGE, "--handler %s: %s", task, problem->message);
      return false;
    }
    handler->argv = box_alloc(cli->box, (g_strv_length(words) + 1) * sizeof(void *));
    for (size_t j = 0; words[j]; j++)
      handler->argv[j] = box_strdup(cli->box, words[j]);
    g_autofree char *program = g_find_program_in_path(handler->argv[0]);
    if (!program) {
      cli_fail(CLI_USAGE, "--handler %s: there is no program %s", task, handler->argv[0]);
      return false;
    }
    millrace_worker_handle(worker, task, &options, process_run, handler);
  }
  return true;
}

static int run_run(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct millrace_error error;
  struct millrace_worker *worker;
  struct millrace_worker_options options = {.concurrency = (uint32_t)MAX(set.concurrency, 1),
                                            .prefetch = (uint32_t)MAX(set.prefetch, 0),
                                            .url = set.url,
                                            .log = log_line,
                                            .ended = log_attempt};
  struct millrace_label *labels;
  int64_t kill_grace_ms = 5000;
  if (!set.handlers)
    return cli_fail(CLI_USAGE, "what to run? --handler TASK=COMMAND, such as --handler send_email=./send_email.sh");
  if (!queues_of(cli->box, &options) || !transport_of(&options.transport) ||
      !cli_labels(set.labels, &labels, &options.label_count, cli->box) ||
      !cli_duration("grace", set.grace, &options.stop_grace_ms) || !cli_duration("kill-grace", set.kill_grace, &kill_grace_ms))
    return CLI_USAGE;
  if (set.grace && options.stop_grace_ms == 0)
    options.stop_grace_ms = MILLRACE_ZERO;
  options.labels = labels;
  /* Killed programs end; this is for one that the kernel does not let go. */
  options.terminate_grace_ms = kill_grace_ms + AFTER_KILL_MS;
  if (millrace_worker_new(cli->client, &options, &worker, &error) != MILLRACE_OK)
    return cli_fail(CLI_USAGE, "%s", error.message);
  if (!add_handlers(cli, worker, kill_grace_ms)) {
    millrace_worker_free(worker);
    return CLI_USAGE;
  }
  catch_signals(worker);
  (void)at_quick_exit(process_kill_all); /* there is room for 32 */
  enum millrace_code code = millrace_worker_run(worker, &error);
  int exit_code = code == MILLRACE_OK ? CLI_OK : cli_explain(&error);
  /* A second signal may come while handlers return. */
  signal(SIGTERM, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  millrace_worker_free(worker);
  return exit_code;
}

/* ---- list, quiet ---- */

static void list_row(struct table *table, const Millrace__V1__Worker *worker) {
  GString *queues = g_string_new(NULL);
  GString *tasks = g_string_new(NULL);
  for (size_t i = 0; i < worker->n_queues; i++)
    g_string_append_printf(queues, "%s%s", i ? "," : "", worker->queues[i]->name);
  for (size_t i = 0; i < worker->n_tasks; i++)
    g_string_append_printf(tasks, "%s%s", i ? "," : "", worker->tasks[i]);
  char slots[32], process[320];
  g_snprintf(slots, sizeof slots, "%u of %u", worker->running, worker->concurrency);
  g_snprintf(process, sizeof process, "%s/%u", worker->hostname, worker->pid);
  table_row(table, worker->session_id, show_enum(&millrace__v1__worker_state__descriptor, (int)worker->state), slots, queues->str,
            tasks->str, process, worker->transport, show_age(worker->last_seen_at));
  g_string_free(queues, TRUE);
  g_string_free(tasks, TRUE);
}

static int run_list(struct cli *cli, int argc, char **argv) {
  (void)argc;
  (void)argv;
  Millrace__V1__ListWorkersRequest request = MILLRACE__V1__LIST_WORKERS_REQUEST__INIT;
  Millrace__V1__ListWorkersResponse *response;
  uint32_t left = set.limit > 0 ? (uint32_t)set.limit : UINT32_MAX;
  request.queue = convert_text(set.queue);
  struct table *table = table_new("session,state,running,queues,tasks,process,over,seen");
  int code;
  do {
    request.page_size = MIN(left, 1000);
    code = cli_call_page(cli, WORKERS(ListWorkers, list_workers), &request, &response);
    if (code != CLI_OK)
      break;
    for (size_t i = 0; i < response->n_workers; i++) {
      if (cli->json)
        print_json(response->workers[i], false);
      else
        list_row(table, response->workers[i]);
    }
    left -= (uint32_t)MIN(response->n_workers, left);
    request.page_token = response->next_page_token;
  } while (*request.page_token && left > 0 && table_print_rows(table));
  table_print(table);
  return code;
}

static int run_quiet(struct cli *cli, int argc, char **argv) {
  int worst = CLI_OK;
  for (int i = 0; i < argc; i++) {
    Millrace__V1__QuietWorkerRequest request = MILLRACE__V1__QUIET_WORKER_REQUEST__INIT;
    Millrace__V1__QuietWorkerResponse *response;
    request.session_id = argv[i];
    request.drain = set.drain;
    int code = cli_call(cli, WORKERS(QuietWorker, quiet_worker), &request, &response);
    if (code == CLI_OK && cli->json)
      print_json(response->worker, true);
    else if (code == CLI_OK)
      printf("%s  %s\n", argv[i], show_enum(&millrace__v1__worker_state__descriptor, (int)response->worker->state));
    worst = MAX(worst, code);
  }
  return worst;
}

#define END                                                                                                                      \
  { NULL, 0, 0, 0, NULL, NULL, NULL }
static const GOptionEntry run_options[] = {
    {"queue", 'q', 0, G_OPTION_ARG_STRING_ARRAY, &set.queues, "Serve this queue (repeatable; default: default)", "NAME[:WEIGHT]"},
    {"handler", 0, 0, G_OPTION_ARG_STRING_ARRAY, &set.handlers,
     "Run COMMAND for jobs of this task, * for all others (repeatable)", "TASK=COMMAND"},
    {"concurrency", 'c', 0, G_OPTION_ARG_INT, &set.concurrency, "Programs at a time (default: 10)", "N"},
    {"prefetch", 0, 0, G_OPTION_ARG_INT, &set.prefetch, "Jobs held ready beyond that (default: 0)", "N"},
    {"transport", 0, 0, G_OPTION_ARG_STRING, &set.transport, "auto (default), nng or grpc", "NAME"},
    {"worker-url", 0, 0, G_OPTION_ARG_STRING, &set.url, "Dial there instead (MILLRACE_WORKER_URL)", "ws://HOST:PORT"},
    {"grace", 0, 0, G_OPTION_ARG_STRING, &set.grace, "For running programs after SIGTERM (default: 30s)", "DURATION"},
    {"kill-grace", 0, 0, G_OPTION_ARG_STRING, &set.kill_grace, "Between a program's SIGTERM and its SIGKILL (default: 5s)",
     "DURATION"},
    {"attempt-timeout", 0, 0, G_OPTION_ARG_STRING, &set.attempt_timeout, "For jobs that set none; 0s: none", "DURATION"},
    {"label", 'l', 0, G_OPTION_ARG_STRING_ARRAY, &set.labels, "Label of this worker (repeatable)", "KEY=VALUE"},
    {"quiet", 0, 0, G_OPTION_ARG_NONE, &set.quiet, "No line for each attempt", NULL},
    END};
static const GOptionEntry list_options[] = {
    {"queue", 'q', 0, G_OPTION_ARG_STRING, &set.queue, "Only those that serve this queue", "NAME"},
    {"limit", 'n', 0, G_OPTION_ARG_INT, &set.limit, "At most so many, 0: all (default: 100)", "N"},
    END};
static const GOptionEntry quiet_options[] = {
    {"drain", 0, 0, G_OPTION_ARG_NONE, &set.drain, "Also end when its jobs have ended", NULL}, END};

static const char run_more[] =
    "millrace worker run --queue default --handler send_email=./send_email.sh\n\n"
    "The program gets the payload on standard input and MILLRACE_JOB_ID, _TASK, _QUEUE, _ATTEMPT, _MAX_ATTEMPTS,\n"
    "_DELIVERY, _DEADLINE, _CHAIN_ID, _BATCH_ID, _PREVIOUS_RESULT (_PREVIOUS_RESULT_FILE when big) and TRACEPARENT\n"
    "in its environment. Standard output is the result: JSON as it is, other text as a string, other bytes as data.\n"
    "Standard error goes into the job's log. Exit 0: succeeded; 75: try again later (print a duration to say when);\n"
    "78: failed for good; anything else: failed. To stop, its process group gets SIGTERM, then SIGKILL.\n"
    "SIGTERM to the worker: it takes nothing new, lets programs end within --grace, gives back the rest.";

const struct command worker_commands[] = {
    {"worker", "run", NULL, "Run a program for each job", run_more, run_options, NULL, 0, 0, false, run_run},
    {"worker", "list", NULL, "List attached workers", NULL, list_options, NULL, 0, 0, false, run_list},
    {"worker", "quiet", "SESSION…", "Send a worker nothing new", NULL, quiet_options, NULL, 1, -1, false, run_quiet},
    {0}};
