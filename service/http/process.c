/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of this process, under the names that every Prometheus client library gives them. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/metrics.h"

enum { US_PER_S = 1000000 };

static void add_memory(GString *out_text) {
  unsigned long virtual_pages, resident_pages;
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file)
    return;
  if (fscanf(file, "%lu %lu", &virtual_pages, &resident_pages) == 2) {
    double page_bytes = (double)sysconf(_SC_PAGESIZE);
    metrics_add_gauge(out_text, "process_resident_memory_bytes", "Resident memory size in bytes.",
                      (double)resident_pages * page_bytes);
    metrics_add_gauge(out_text, "process_virtual_memory_bytes", "Virtual memory size in bytes.",
                      (double)virtual_pages * page_bytes);
  }
  fclose(file);
}

static void add_cpu(GString *out_text) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0)
    return;
  double seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / US_PER_S;
  metrics_add_counter(out_text, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", seconds);
}

static void add_descriptors(GString *out_text) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    metrics_add_gauge(out_text, "process_max_fds", "Maximum number of open file descriptors.", (double)limit.rlim_cur);
  GDir *directory = g_dir_open("/proc/self/fd", 0, NULL);
  if (!directory)
    return;
  int count = -1; /* the directory's own is not counted */
  while (g_dir_read_name(directory))
    count++;
  g_dir_close(directory);
  metrics_add_gauge(out_text, "process_open_fds", "Number of open file descriptors.", count);
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
    metrics_add_gauge(out_text, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
                      (double)booted_s + (double)g_ascii_strtoull(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK));
}

void metrics_add_process(GString *out_text) {
  add_cpu(out_text);
  add_memory(out_text);
  add_descriptors(out_text);
  add_start_time(out_text);
}
