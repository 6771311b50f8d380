/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor port, asked with plain sockets; engine and store are stand-ins. */
#include <glib.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "engine/meters.h"
#include "http/monitor.h"
#include "workers/guard.h"

static struct monitor *monitor;
static char something;
static bool alive, failed, stalled, answers;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_busy, is_asked;
static uint64_t disk_free_bytes;

/* ---- stand-ins ---- */

bool engine_is_alive(struct engine *engine, int64_t within_ms) {
  assert_ptr_equal(engine, &something);
  assert_int_equal(within_ms, 5000);
  return alive;
}

const struct histogram_scale scale_ms = {.count = 2, .bounds = {10, 2500}, .unit = 1e-3};
const struct histogram_scale scale_us = {.count = 1, .bounds = {50}, .unit = 1e-6};
const struct histogram_scale scale_count = {.count = 1, .bounds = {4}, .unit = 1};

struct readings *engine_read_meters(struct engine *engine, int64_t wait_ms) {
  (void)engine, (void)wait_ms;
  pthread_mutex_lock(&mutex);
  is_asked = true;
  pthread_cond_broadcast(&changed);
  while (is_busy)
    pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  if (!answers)
    return NULL;
  static struct queue_reading queues[2] = {{.name = METERED_OTHER},
                                           {.name = "mail", .jobs[JOB_RUNNING] = 3, .oldest_age_ms = 1500}};
  static struct task_reading tasks[1] = {{.queue = "mail", .task = "send"}};
  queues[1].wait_ms[3] = (struct histogram){.counts = {4, 2, 1}, .sum = 9000};
  tasks[0].meter.created[1] = 12345678901;
  tasks[0].meter.finished[0][1] = 2;
  struct readings *readings = g_new0(struct readings, 1);
  readings->queues = queues;
  readings->queue_count = 2;
  readings->tasks = tasks;
  readings->task_count = 1;
  return readings;
}

const char *refusal_name(enum refusal reason) {
  return reason == REFUSED_RATE ? "rate" : "another";
}

void guard_count_refused(uint64_t out_counts[REFUSALS]) {
  memset(out_counts, 0, REFUSALS * sizeof *out_counts);
  out_counts[REFUSED_RATE] = 7;
}

void readings_free(struct readings *readings) {
  g_free(readings);
}

enum status store_get_many(struct store *store, struct store_view *view, struct store_get *gets, size_t count,
                           struct error *error) {
  (void)store, (void)view, (void)gets, (void)count;
  return failed ? error_set(error, STATUS_UNAVAILABLE, NULL, "the store failed") : STATUS_OK;
}

void store_gets_release(struct store_get *gets, size_t count) {
  (void)gets, (void)count;
}

void store_statistics(struct store *store, struct store_statistics *out_statistics) {
  (void)store;
  *out_statistics = (struct store_statistics){.backend = "none", .write_stalled = stalled, .disk_free_bytes = disk_free_bytes};
}

/* ---- asking ---- */

/* The whole answer to a request on a connection of its own; freed by the caller. */
static char *ask(const char *request) {
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(monitor_port(monitor)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct timeval patience = {.tv_sec = 10};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
  GString *answer = g_string_new(NULL);
  char part[4096];
  ssize_t length;
  while ((length = recv(fd, part, sizeof part, 0)) > 0)
    g_string_append_len(answer, part, length);
  close(fd);
  return g_string_free(answer, FALSE);
}

static char *get(const char *method, const char *path) {
  char request[256];
  g_snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n", method, path);
  return ask(request);
}

static void expect(const char *method, const char *path, int status, const char *text) {
  char line[32];
  g_snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
  char *answer = get(method, path);
  if (!g_str_has_prefix(answer, line) || !strstr(answer, text))
    fail_msg("%s %s answered:\n%s", method, path, answer);
  g_free(answer);
}

static int open_monitor(void **state) {
  (void)state;
  struct monitor_options options = {.port = 0};
  struct error error;
  alive = true;
  answers = true;
  failed = stalled = false;
  disk_free_bytes = UINT64_MAX;
  return monitor_open(&options, &monitor, &error) == STATUS_OK ? 0 : -1;
}

static int close_monitor(void **state) {
  (void)state;
  monitor_close(monitor);
  return 0;
}

static void start_engine(void) {
  monitor_set_engine(monitor, (struct engine *)&something, (struct store *)&something);
}

/* ---- tests ---- */

static void readiness_follows_the_life_of_the_engine(void **state) {
  (void)state;
  expect("GET", "/readyz", 503, "\r\n\r\nstarting\n");
  expect("GET", "/livez", 200, "\r\n\r\nok\n");
  start_engine();
  expect("GET", "/readyz", 200, "\r\n\r\nok\n");
  monitor_set_engine(monitor, NULL, NULL);
  expect("GET", "/readyz", 503, "\r\n\r\nstopping\n");
}

static void readiness_tells_all_reasons(void **state) {
  (void)state;
  start_engine();
  stalled = true;
  disk_free_bytes = 1000;
  expect("GET", "/readyz", 503, "\r\n\r\nwrite stalled\ndisk low: 1000 bytes free\n");
  failed = true;
  expect("GET", "/readyz", 503, "\r\n\r\nstore failed\n");
  expect("GET", "/livez", 200, "ok");
  alive = false;
  expect("GET", "/readyz", 503, "engine silent\n");
  expect("GET", "/livez", 503, "engine silent\n");
}

static void metrics_are_prometheus_text(void **state) {
  (void)state;
  expect("GET", "/metrics", 200, "millrace_build_info{version=\"");
  expect("GET", "/metrics", 200, "millrace_connections_refused_total{reason=\"rate\"} 7\n");
  start_engine();
  expect("GET", "/metrics", 200, "\r\nContent-Type: text/plain; version=0.0.4");
  expect("GET", "/metrics", 200,
         "# TYPE millrace_jobs_created_total "
         "counter\nmillrace_jobs_created_total{queue=\"mail\",task=\"send\",priority=\"normal\"} 12345678901\n");
  expect("GET", "/metrics", 200, "_finished_total{queue=\"mail\",task=\"send\",priority=\"low\",state=\"failed\"} 2\n");
  expect("GET", "/metrics", 200, "\nmillrace_queue_jobs{queue=\"mail\",state=\"running\"} 3\n");
  expect("GET", "/metrics", 200, "\nmillrace_queue_oldest_job_age_seconds{queue=\"mail\"} 1.5\n");
  expect("GET", "/metrics", 200,
         "\nmillrace_job_wait_seconds_bucket{queue=\"mail\",priority=\"critical\",le=\"0.01\"} 4\n"
         "millrace_job_wait_seconds_bucket{queue=\"mail\",priority=\"critical\",le=\"2.5\"} 6\n"
         "millrace_job_wait_seconds_bucket{queue=\"mail\",priority=\"critical\",le=\"+Inf\"} 7\n"
         "millrace_job_wait_seconds_sum{queue=\"mail\",priority=\"critical\"} 9\n"
         "millrace_job_wait_seconds_count{queue=\"mail\",priority=\"critical\"} 7\n");
  expect("GET", "/metrics", 200, "\nprocess_start_time_seconds ");
  char *answer = get("GET", "/metrics");
  char **lines = g_strsplit(strstr(answer, "\r\n\r\n") + 4, "\n", -1);
  for (char **line = lines; *line; line++)
    assert_true(!**line || g_regex_match_simple("^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\\{([a-z]+=\"[^\"]*\",?)+\\})? [0-9.e+-]+)$",
                                                *line, 0, 0));
  g_strfreev(lines);
  g_free(answer);
}

static void a_silent_engine_takes_only_its_own_figures_away(void **state) {
  (void)state;
  start_engine();
  expect("GET", "/metrics", 200, "\nmillrace_engine_answers 1\n");
  answers = false;
  expect("GET", "/metrics", 200, "\nmillrace_engine_answers 0\n");
  expect("GET", "/metrics", 200, "\nmillrace_store_writes_total 0\n");
}

static gpointer scrape(gpointer context) {
  (void)context;
  return get("GET", "/metrics");
}

static void probes_do_not_wait_for_a_scrape(void **state) {
  (void)state;
  start_engine();
  is_busy = true;
  is_asked = false;
  GThread *thread = g_thread_new("scrape", scrape, NULL);
  pthread_mutex_lock(&mutex);
  while (!is_asked)
    pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  expect("GET", "/livez", 200, "ok");
  expect("GET", "/readyz", 200, "ok");
  pthread_mutex_lock(&mutex);
  is_busy = false;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  char *answer = g_thread_join(thread);
  assert_non_null(strstr(answer, "millrace_engine_answers 1"));
  g_free(answer);
}

static void only_these_pages_only_reading(void **state) {
  (void)state;
  start_engine();
  expect("HEAD", "/livez", 200, "Content-Length: 3\r\n");
  char *answer = get("HEAD", "/livez");
  assert_true(g_str_has_suffix(answer, "\r\n\r\n"));
  g_free(answer);
  expect("POST", "/livez", 405, "");
  expect("DELETE", "/metrics", 405, "");
  expect("GET", "/", 404, "");
  expect("GET", "/metrics/../../etc/passwd", 404, "");
  expect("GET", "/livez%0d%0aX:y", 404, "");
  expect("GET", "/livez?verbose=1", 200, "ok");
}

static void abuse_is_turned_away(void **state) {
  (void)state;
  start_engine();
  char *answer = ask("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n");
  assert_true(g_str_has_prefix(answer, "HTTP/1.1 400 "));
  g_free(answer);
  char *filler = g_strnfill(100000, 'a');
  char *request = g_strdup_printf("GET /livez HTTP/1.1\r\nX-Long: %s\r\n\r\n", filler);
  answer = ask(request);
  assert_null(strstr(answer, "200 OK"));
  g_free(answer);
  g_free(request);
  g_free(filler);
  expect("GET", "/livez", 200, "ok");
}

static void a_taken_port_is_an_error(void **state) {
  (void)state;
  struct monitor_options options = {.host = "127.0.0.1"};
  struct monitor *other = NULL;
  struct error error;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
  assert_int_equal(listen(fd, 1), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
  options.port = ntohs(address.sin_port);
  assert_int_equal(monitor_open(&options, &other, &error), STATUS_UNAVAILABLE);
  assert_non_null(strstr(error.message, "cannot listen"));
  assert_null(other);
  close(fd);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_monitor, close_monitor)
  const struct CMUnitTest tests[] = {
      TEST(readiness_follows_the_life_of_the_engine),
      TEST(readiness_tells_all_reasons),
      TEST(metrics_are_prometheus_text),
      TEST(a_silent_engine_takes_only_its_own_figures_away),
      TEST(probes_do_not_wait_for_a_scrape),
      TEST(only_these_pages_only_reading),
      TEST(abuse_is_turned_away),
      TEST(a_taken_port_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
