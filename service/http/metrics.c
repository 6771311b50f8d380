/* SPDX-License-Identifier: Apache-2.0 */
#include "http/metrics.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NUMBER_BYTES = G_ASCII_DTOSTR_BUF_SIZE, MS_PER_S = 1000, US_PER_S = 1000000 };

static void describe(GString *out_text, const char *name, const char *type, const char *help) {
  g_string_append_printf(out_text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `labels` with their braces, or empty. Locale-independent. */
static void add_sample(GString *out_text, const char *name, const char *labels, double value) {
  char number[NUMBER_BYTES];
  g_string_append_printf(out_text, "%s%s %s\n", name, labels, g_ascii_formatd(number, sizeof number, "%.17g", value));
}

static void add(GString *out_text, const char *name, const char *type, const char *help, double value) {
  describe(out_text, name, type, help);
  add_sample(out_text, name, "", value);
}

static void add_counter(GString *out_text, const char *name, const char *help, uint64_t value) {
  add(out_text, name, "counter", help, (double)value);
}

static void add_gauge(GString *out_text, const char *name, const char *help, double value) {
  add(out_text, name, "gauge", help, value);
}

void metrics_add_engine(GString *out_text, const struct engine_statistics *statistics) {
  add_counter(out_text, "millrace_jobs_created_total", "Jobs created since the start.", statistics->jobs_created);
  add_counter(out_text, "millrace_jobs_finished_total", "Jobs that ended since the start.", statistics->jobs_finished);
  add_counter(out_text, "millrace_deliveries_total", "Deliveries handed to workers since the start.", statistics->deliveries);
  add_counter(out_text, "millrace_reports_total", "Reports taken from workers since the start.", statistics->reports);
  add_counter(out_text, "millrace_requests_total", "Requests taken by the engine since the start.", statistics->requests);
  add_counter(out_text, "millrace_turns_total", "Turns of the engine since the start.", statistics->turns);
  describe(out_text, "millrace_jobs", "gauge", "Jobs that have not ended, by what they do.");
  add_sample(out_text, "millrace_jobs", "{state=\"waiting\"}", (double)statistics->jobs_waiting);
  add_sample(out_text, "millrace_jobs", "{state=\"running\"}", (double)statistics->jobs_running);
  add_gauge(out_text, "millrace_sessions", "Sessions of workers.", (double)statistics->sessions);
  add_gauge(out_text, "millrace_queues", "Queues.", (double)statistics->queues);
  add_gauge(out_text, "millrace_mailbox_depth", "Requests that wait for the engine.", (double)statistics->mailbox_depth);
  add_gauge(out_text, "millrace_waiters", "Calls that wait for a job to end.", (double)statistics->waiters);
  add_gauge(out_text, "millrace_watches", "Streams that watch jobs.", (double)statistics->watches);
  add_gauge(out_text, "millrace_turn_max_seconds", "Longest turn since the figures were last read.",
            (double)statistics->turn_ms_max / MS_PER_S);
  add_gauge(out_text, "millrace_sync_mean_seconds", "Mean time of making the log durable, over the last second of syncs.",
            (double)statistics->sync_us_mean / US_PER_S);
}

void metrics_add_store(GString *out_text, const struct store_statistics *statistics) {
  add_counter(out_text, "millrace_store_writes_total", "Batches written.", statistics->last_ticket);
  add_gauge(out_text, "millrace_store_writes_not_durable", "Batches written and not made durable yet.",
            (double)(statistics->last_ticket - MIN(statistics->synced_ticket, statistics->last_ticket)));
  if (statistics->disk_bytes > 0)
    add_gauge(out_text, "millrace_store_disk_bytes", "Size on disk.", (double)statistics->disk_bytes);
  if (statistics->disk_free_bytes != UINT64_MAX)
    add_gauge(out_text, "millrace_store_disk_free_bytes", "Free space of the file system.", (double)statistics->disk_free_bytes);
  if (statistics->memory_bytes > 0)
    add_gauge(out_text, "millrace_store_memory_bytes", "Memory of tables and caches.", (double)statistics->memory_bytes);
  add_gauge(out_text, "millrace_store_write_stalled", "1 while the store holds writes back.", statistics->write_stalled ? 1 : 0);
}

/* ---- the process: names as every Prometheus client library has them ---- */

static void add_memory(GString *out_text) {
  unsigned long virtual_pages, resident_pages;
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file)
    return;
  if (fscanf(file, "%lu %lu", &virtual_pages, &resident_pages) == 2) {
    double page_bytes = (double)sysconf(_SC_PAGESIZE);
    add_gauge(out_text, "process_resident_memory_bytes", "Resident memory size in bytes.", (double)resident_pages * page_bytes);
    add_gauge(out_text, "process_virtual_memory_bytes", "Virtual memory size in bytes.", (double)virtual_pages * page_bytes);
  }
  fclose(file);
}

static void add_cpu(GString *out_text) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0)
    return;
  double seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / US_PER_S;
  add(out_text, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", seconds);
}

static void add_descriptors(GString *out_text) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    add_gauge(out_text, "process_max_fds", "Maximum number of open file descriptors.", (double)limit.rlim_cur);
  GDir *directory = g_dir_open("/proc/self/fd", 0, NULL);
  if (!directory)
    return;
  int count = -1; /* the directory's own is not counted */
  while (g_dir_read_name(directory))
    count++;
  g_dir_close(directory);
  add_gauge(out_text, "process_open_fds", "Number of open file descriptors.", count);
}

/* The value behind `field` in a file of "name value" lines; 0: not there. */
static unsigned long long read_field(const char *path, const char *field) {
  char line[256];
  unsigned long long value = 0;
  FILE *file = fopen(path, "re");
  if (!file)
    return 0;
  while (value == 0 && fgets(line, sizeof line, file))
    if (g_str_has_prefix(line, field))
      value = g_ascii_strtoull(line + strlen(field), NULL, 10);
  fclose(file);
  return value;
}

static void add_start_time(GString *out_text) {
  enum { STARTTIME_FIELD = 22, AFTER_NAME_FIELD = 3 }; /* proc(5) */
  char line[1024];
  FILE *file = fopen("/proc/self/stat", "re");
  if (!file)
    return;
  bool got = fgets(line, sizeof line, file) != NULL;
  fclose(file);
  char *at = got ? strrchr(line, ')') : NULL; /* the program's name may hold anything, blanks too */
  if (!at || !at[1])
    return;
  at += 2;
  for (int field = AFTER_NAME_FIELD; at && field < STARTTIME_FIELD; field++) {
    at = strchr(at, ' ');
    if (at)
      at++;
  }
  unsigned long long booted_s = read_field("/proc/stat", "btime ");
  if (at && booted_s)
    add_gauge(out_text, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
              (double)booted_s + (double)g_ascii_strtoull(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK));
}

void metrics_add_process(GString *out_text) {
  add_cpu(out_text);
  add_memory(out_text);
  add_descriptors(out_text);
  add_start_time(out_text);
  describe(out_text, "millrace_build_info", "gauge", "1, with what was built as labels.");
  add_sample(out_text, "millrace_build_info", "{version=\"" MILLRACE_VERSION "\"}", 1);
}
