/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-bench: figures of a running server (MILLRACE_ADDRESS), through the public C API.
 *   create   jobs one by one, a number of them outstanding on one connection: coalesced, or with --unary one call each
 *   stream   jobs in messages of 1,000
 *   drain    a queue filled beforehand, emptied by worker processes with no-op handlers that return a result
 *   life     create, run, wait for the end, one after the other
 *   work     a worker process, as drain starts them */
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "millrace.h"

extern char **environ;

static struct {
  int jobs, outstanding, ahead, payload_bytes, workers, concurrency, prefetch;
  char *queue, *transport;
  gboolean unary;
} set = {.jobs = 200000, .outstanding = 64, .ahead = 4, .payload_bytes = 300, .workers = 2, .concurrency = 200};

static struct millrace_client *client;

static void must(enum millrace_code code, const struct millrace_error *error) {
  if (code == MILLRACE_OK)
    return;
  fprintf(stderr, "millrace-bench: %s\n", error->message);
  exit(1);
}

static char *make_payload(void) {
  char *filler = g_strnfill((gsize)MAX(set.payload_bytes - 12, 0), 'x');
  char *payload = g_strdup_printf("{\"text\":\"%s\"}", filler);
  g_free(filler);
  return payload;
}

static int compare_times(const void *a, const void *b) {
  double x = *(const double *)a;
  double y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void print_rate(const char *what, int count, int64_t took_us) {
  printf("%-8s %d in %.2f s: %.0f/s\n", what, count, (double)took_us / 1e6, count / ((double)took_us / 1e6));
}

static void print_times(double *ms, int count) {
  qsort(ms, (size_t)count, sizeof *ms, compare_times);
  printf("         p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", ms[count / 2], ms[(int)(count * 0.99)], ms[count - 1]);
}

/* ---- create ---- */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t ended;
  int started, done, failed;
  double *ms;
  struct millrace_job_spec spec;
} creates;

struct slot {
  int64_t began_us;
};

static void start_create(struct slot *slot);

static void created(void *context, const struct millrace_job *job, const struct millrace_error *error) {
  struct slot *slot = context;
  (void)job;
  pthread_mutex_lock(&creates.lock);
  creates.ms[creates.done] = (double)(g_get_monotonic_time() - slot->began_us) / 1e3;
  if (error && creates.failed++ == 0)
    fprintf(stderr, "millrace-bench: %s\n", error->message);
  bool more = creates.started < set.jobs;
  creates.started += more;
  if (++creates.done == set.jobs)
    pthread_cond_signal(&creates.ended);
  pthread_mutex_unlock(&creates.lock);
  if (more)
    start_create(slot);
}

static void start_create(struct slot *slot) {
  slot->began_us = g_get_monotonic_time();
  millrace_job_create_async(client, &creates.spec, created, slot);
}

static int run_create(void) {
  char *payload = make_payload();
  int outstanding = MIN(set.outstanding, set.jobs);
  struct slot *slots = g_new0(struct slot, outstanding);
  creates.spec = (struct millrace_job_spec){.task = "noop", .queue = set.queue, .payload = millrace_json(payload)};
  creates.ms = g_new0(double, set.jobs);
  creates.started = outstanding;
  int64_t began_us = g_get_monotonic_time();
  for (int i = 0; i < outstanding; i++)
    start_create(&slots[i]);
  pthread_mutex_lock(&creates.lock);
  while (creates.done < set.jobs)
    pthread_cond_wait(&creates.ended, &creates.lock);
  pthread_mutex_unlock(&creates.lock);
  int64_t took_us = g_get_monotonic_time() - began_us;
  if (creates.failed > 0) {
    fprintf(stderr, "millrace-bench: %d of %d creates failed\n", creates.failed, set.jobs);
  } else {
    print_rate("create", set.jobs, took_us);
    print_times(creates.ms, set.jobs);
  }
  g_free(creates.ms);
  g_free(slots);
  g_free(payload);
  return creates.failed > 0;
}

/* ---- stream ---- */

enum { CHUNK = 1000 };

static void take_answer(struct millrace_job_stream *stream) {
  struct millrace_error error;
  struct millrace_outcomes *outcomes;
  must(millrace_job_stream_receive(stream, &outcomes, &error), &error);
  if (outcomes->refused > 0)
    fprintf(stderr, "millrace-bench: %zu refused, the last: %s\n", outcomes->refused,
            outcomes->outcomes[outcomes->count - 1].message);
  millrace_free(outcomes);
}

static void fill(void) {
  struct millrace_error error;
  struct millrace_job_stream *stream;
  struct millrace_job_spec specs[CHUNK];
  char ids[CHUNK][MILLRACE_ID_BYTES];
  char *payload = make_payload();
  int behind = 0;
  must(millrace_job_stream_open(client, &stream, &error), &error);
  for (int sent = 0; sent < set.jobs;) {
    int count = MIN(CHUNK, set.jobs - sent);
    for (int i = 0; i < count; i++) {
      millrace_id_make(ids[i]);
      specs[i] = (struct millrace_job_spec){.id = ids[i], .task = "noop", .queue = set.queue, .payload = millrace_json(payload)};
    }
    must(millrace_job_stream_send(stream, specs, (size_t)count, &error), &error);
    sent += count;
    if (++behind > set.ahead) {
      take_answer(stream);
      behind--;
    }
  }
  for (; behind > 0; behind--)
    take_answer(stream);
  millrace_job_stream_close(stream);
  g_free(payload);
}

static int run_stream(void) {
  int64_t began_us = g_get_monotonic_time();
  fill();
  print_rate("stream", set.jobs, g_get_monotonic_time() - began_us);
  return 0;
}

/* ---- work, drain ---- */

static struct millrace_worker *worker;

static void noop(struct millrace_context *context, void *user) {
  (void)user;
  const struct millrace_payload result = millrace_json("{\"ok\":true}");
  millrace_succeed(context, &result);
}

static void *stop_on_signal(void *data) {
  int number;
  sigwait(data, &number);
  millrace_worker_stop(worker);
  return NULL;
}

static int run_work(void) {
  struct millrace_error error;
  sigset_t signals;
  /* Nobody else would stop it when the one who started it has failed. */
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const struct millrace_worker_queue queue = {.name = set.queue};
  const struct millrace_worker_options options = {.queues = &queue,
                                                  .queue_count = 1,
                                                  .concurrency = (uint32_t)set.concurrency,
                                                  .prefetch = (uint32_t)set.prefetch,
                                                  .transport = g_strcmp0(set.transport, "grpc") == 0 ? MILLRACE_TRANSPORT_GRPC
                                                                                                     : MILLRACE_TRANSPORT_NNG};
  must(millrace_worker_new(client, &options, &worker, &error), &error);
  millrace_worker_handle(worker, "noop", NULL, noop, NULL);
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  g_thread_unref(g_thread_new("signals", stop_on_signal, &signals));
  must(millrace_worker_run(worker, &error), &error);
  millrace_worker_free(worker);
  return 0;
}

static pid_t start_worker(void) {
  g_autofree char *concurrency = g_strdup_printf("--concurrency=%d", set.concurrency);
  g_autofree char *prefetch = g_strdup_printf("--prefetch=%d", set.prefetch);
  g_autofree char *queue = g_strdup_printf("--queue=%s", set.queue);
  g_autofree char *transport = g_strdup_printf("--transport=%s", set.transport ? set.transport : "nng");
  char *argv[] = {(char *)"millrace-bench", concurrency, prefetch, queue, transport, (char *)"work", NULL};
  pid_t pid;
  if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) != 0)
    exit(1);
  return pid;
}

static uint64_t jobs_left(void) {
  struct millrace_error error;
  struct millrace_queue *queue;
  must(millrace_queue_get(client, set.queue, &queue, &error), &error);
  uint64_t left =
      queue->counts[MILLRACE_JOB_PENDING] + queue->counts[MILLRACE_JOB_RUNNING] + queue->counts[MILLRACE_JOB_RETRYING];
  millrace_free(queue);
  return left;
}

static int run_drain(void) {
  struct millrace_error error;
  struct millrace_queue *queue;
  must(millrace_queue_pause(client, set.queue, &queue, &error), &error);
  millrace_free(queue);
  fill();
  pid_t *pids = g_new0(pid_t, set.workers);
  for (int i = 0; i < set.workers; i++)
    pids[i] = start_worker();
  for (size_t attached = 0; attached < (size_t)set.workers; g_usleep(50000)) {
    struct millrace_session_list *list;
    must(millrace_session_list(client, set.queue, NULL, &list, &error), &error);
    attached = 0;
    for (size_t i = 0; i < list->count; i++)
      attached += strcmp(list->sessions[i].state, "active") == 0;
    millrace_free(list);
  }
  uint64_t count = jobs_left();
  int64_t began_us = g_get_monotonic_time();
  must(millrace_queue_resume(client, set.queue, &queue, &error), &error);
  millrace_free(queue);
  while (jobs_left() > 0)
    g_usleep(20000);
  print_rate("drain", (int)count, g_get_monotonic_time() - began_us);
  for (int i = 0; i < set.workers; i++)
    kill(pids[i], SIGTERM);
  for (int i = 0; i < set.workers; i++)
    waitpid(pids[i], NULL, 0);
  g_free(pids);
  return 0;
}

/* ---- life ---- */

static int run_life(void) {
  struct millrace_error error;
  const struct millrace_job_spec spec = {.task = "noop", .queue = set.queue};
  set.jobs = MIN(set.jobs, 5000);
  double *ms = g_new0(double, set.jobs);
  pid_t pid = start_worker();
  int64_t began_us = g_get_monotonic_time();
  for (int i = 0; i < set.jobs; i++) {
    struct millrace_job *job, *ended;
    int64_t start_us = g_get_monotonic_time();
    must(millrace_job_create(client, &spec, &job, &error), &error);
    must(millrace_job_wait(client, job->id, 0, &ended, &error), &error);
    ms[i] = (double)(g_get_monotonic_time() - start_us) / 1e3;
    millrace_free(job);
    millrace_free(ended);
  }
  print_rate("life", set.jobs, g_get_monotonic_time() - began_us);
  print_times(ms, set.jobs);
  kill(pid, SIGTERM);
  waitpid(pid, NULL, 0);
  g_free(ms);
  return 0;
}

static const GOptionEntry options[] = {
    {"jobs", 'n', 0, G_OPTION_ARG_INT, &set.jobs, "How many (default: 200,000)", "N"},
    {"outstanding", 0, 0, G_OPTION_ARG_INT, &set.outstanding, "create: jobs at a time (default: 64)", "N"},
    {"ahead", 0, 0, G_OPTION_ARG_INT, &set.ahead, "stream: messages ahead of the answers that were received (default: 4)", "N"},
    {"unary", 0, 0, G_OPTION_ARG_NONE, &set.unary,
     "create: each job in a call of its own (default: coalesced into CreateJobs calls)", NULL},
    {"payload", 0, 0, G_OPTION_ARG_INT, &set.payload_bytes, "Bytes of payload (default: 300)", "N"},
    {"workers", 0, 0, G_OPTION_ARG_INT, &set.workers, "drain: processes (default: 2)", "N"},
    {"concurrency", 0, 0, G_OPTION_ARG_INT, &set.concurrency, "Of each worker (default: 200)", "N"},
    {"prefetch", 0, 0, G_OPTION_ARG_INT, &set.prefetch, "Of each worker (default: 0)", "N"},
    {"queue", 'q', 0, G_OPTION_ARG_STRING, &set.queue, "Default: bench", "NAME"},
    {"transport", 0, 0, G_OPTION_ARG_STRING, &set.transport, "nng (default) or grpc", "NAME"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

static const struct {
  const char *name;
  int (*run)(void);
} modes[] = {{"create", run_create}, {"stream", run_stream}, {"drain", run_drain}, {"life", run_life}, {"work", run_work}};

int main(int argc, char **argv) {
  g_autoptr(GError) problem = NULL;
  GOptionContext *context = g_option_context_new("create|stream|drain|life|work");
  g_option_context_add_main_entries(context, options, NULL);
  bool ok = g_option_context_parse(context, &argc, &argv, &problem);
  g_option_context_free(context);
  if (!ok || argc != 2) {
    fprintf(stderr, "millrace-bench: %s\n", problem ? problem->message : "create, stream, drain, life or work?");
    return 2;
  }
  if (!set.queue)
    set.queue = g_strdup("bench");
  /* Before any thread is there, so that all of them leave it to the one that waits. */
  if (strcmp(argv[1], "work") == 0) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
  }
  struct millrace_error error;
  const struct millrace_client_options client_options = {.without_coalescing = set.unary};
  must(millrace_client_new(&client_options, &client, &error), &error);
  int code = 2;
  for (size_t i = 0; i < G_N_ELEMENTS(modes); i++)
    if (strcmp(argv[1], modes[i].name) == 0)
      code = modes[i].run();
  millrace_client_free(client);
  g_free(set.queue);
  return code;
}
