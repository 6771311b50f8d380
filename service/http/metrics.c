/* SPDX-License-Identifier: Apache-2.0 */
#include "http/metrics.h"

#include <stddef.h>

enum { NUMBER_BYTES = G_ASCII_DTOSTR_BUF_SIZE, LABELS_BYTES = 512, MS_PER_S = 1000 };

static const char *const priorities[METERED_PRIORITIES] = {"low", "normal", "high", "critical"};
static const char *const ends[METERED_ENDS] = {"succeeded", "failed", "cancelled", "expired"};
static const struct {
  enum job_state state;
  const char *name;
} states[] = {{JOB_PENDING, "pending"}, {JOB_SCHEDULED, "scheduled"}, {JOB_RETRYING, "retrying"},
              {JOB_BLOCKED, "blocked"}, {JOB_RUNNING, "running"},     {JOB_SUCCEEDED, "succeeded"},
              {JOB_FAILED, "failed"},   {JOB_CANCELLED, "cancelled"}, {JOB_EXPIRED, "expired"}};

/* ---- the format ---- */

static void describe(GString *out_text, const char *name, const char *type, const char *help) {
  g_string_append_printf(out_text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `labels` without braces, or empty. Names of queues and tasks need no escapes: see validate.h. Locale-independent. */
static void add_sample(GString *out_text, const char *name, const char *suffix, const char *labels, double value) {
  char number[NUMBER_BYTES];
  g_string_append_printf(out_text, *labels ? "%s%s{%s} %s\n" : "%s%s%s %s\n", name, suffix, labels,
                         g_ascii_formatd(number, sizeof number, "%.17g", value));
}

static void add_histogram(GString *out_text, const char *name, const char *labels, const struct histogram *histogram,
                          const struct histogram_scale *scale) {
  char bucket[LABELS_BYTES + NUMBER_BYTES], bound[NUMBER_BYTES];
  uint64_t count = 0;
  for (size_t i = 0; i <= scale->count; i++) {
    count += histogram->counts[i];
    if (i < scale->count)
      g_ascii_formatd(bound, sizeof bound, "%.6g", (double)scale->bounds[i] * scale->unit);
    else
      g_strlcpy(bound, "+Inf", sizeof bound);
    g_snprintf(bucket, sizeof bucket, "%s%sle=\"%s\"", labels, *labels ? "," : "", bound);
    add_sample(out_text, name, "_bucket", bucket, (double)count);
  }
  add_sample(out_text, name, "_sum", labels, (double)histogram->sum * scale->unit);
  add_sample(out_text, name, "_count", labels, (double)count);
}

static uint64_t histogram_count(const struct histogram *histogram) {
  uint64_t count = 0;
  for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
    count += histogram->counts[i];
  return count;
}

void metrics_add_counter(GString *out_text, const char *name, const char *help, double value) {
  describe(out_text, name, "counter", help);
  add_sample(out_text, name, "", "", value);
}

void metrics_add_gauge(GString *out_text, const char *name, const char *help, double value) {
  describe(out_text, name, "gauge", help);
  add_sample(out_text, name, "", "", value);
}

static void add_one_histogram(GString *out_text, const char *name, const char *help, const struct histogram *histogram,
                              const struct histogram_scale *scale) {
  describe(out_text, name, "histogram", help);
  add_histogram(out_text, name, "", histogram, scale);
}

/* ---- jobs by queue and task; those that never had a job have no series ---- */

static void add_created(GString *out_text, const struct readings *readings) {
  const char *name = "millrace_jobs_created_total";
  describe(out_text, name, "counter", "Jobs created since the start of the server.");
  for (size_t i = 0; i < readings->task_count; i++) {
    const struct task_reading *task = &readings->tasks[i];
    for (int p = 0; p < METERED_PRIORITIES; p++) {
      if (task->meter.created[p] == 0)
        continue;
      char labels[LABELS_BYTES];
      g_snprintf(labels, sizeof labels, "queue=\"%s\",task=\"%s\",priority=\"%s\"", task->queue, task->task, priorities[p]);
      add_sample(out_text, name, "", labels, (double)task->meter.created[p]);
    }
  }
}

/* All ends of a task whose jobs ever ended or began: from 0 on, since an increase from nothing is none to Prometheus. */
static void add_finished(GString *out_text, const struct readings *readings) {
  const char *name = "millrace_jobs_finished_total";
  describe(out_text, name, "counter", "Jobs that ended since the start of the server, by how they ended.");
  for (size_t i = 0; i < readings->task_count; i++) {
    const struct task_reading *task = &readings->tasks[i];
    for (int at = 0; at < METERED_PRIORITIES * METERED_ENDS; at++) {
      int p = at / METERED_ENDS, end = at % METERED_ENDS;
      if (task->meter.created[p] == 0 && task->meter.finished[p][end] == 0)
        continue;
      char labels[LABELS_BYTES];
      g_snprintf(labels, sizeof labels, "queue=\"%s\",task=\"%s\",priority=\"%s\",state=\"%s\"", task->queue, task->task,
                 priorities[p], ends[end]);
      add_sample(out_text, name, "", labels, (double)task->meter.finished[p][end]);
    }
  }
}

static void add_run_times(GString *out_text, const struct readings *readings) {
  const char *name = "millrace_job_run_seconds";
  describe(out_text, name, "histogram", "How long attempts ran, from the start of the handler.");
  for (size_t i = 0; i < readings->task_count; i++) {
    const struct task_reading *task = &readings->tasks[i];
    if (histogram_count(&task->meter.run_ms) == 0)
      continue;
    char labels[LABELS_BYTES];
    g_snprintf(labels, sizeof labels, "queue=\"%s\",task=\"%s\"", task->queue, task->task);
    add_histogram(out_text, name, labels, &task->meter.run_ms, &scale_ms);
  }
}

static void add_wait_times(GString *out_text, const struct readings *readings) {
  const char *name = "millrace_job_wait_seconds";
  describe(out_text, name, "histogram", "How long jobs were ready before they were handed to a worker.");
  for (size_t i = 0; i < readings->queue_count; i++) {
    const struct queue_reading *queue = &readings->queues[i];
    for (int p = 0; p < METERED_PRIORITIES; p++) {
      if (histogram_count(&queue->wait_ms[p]) == 0)
        continue;
      char labels[LABELS_BYTES];
      g_snprintf(labels, sizeof labels, "queue=\"%s\",priority=\"%s\"", queue->name, priorities[p]);
      add_histogram(out_text, name, labels, &queue->wait_ms[p], &scale_ms);
    }
  }
}

/* A queue is always shown, so that an alert on it can end; the sum of the others once there are any. */
static bool is_shown(const struct readings *readings, size_t at) {
  const struct queue_reading *queue = &readings->queues[at];
  bool any = at > 0;
  for (size_t i = 0; i < G_N_ELEMENTS(states); i++)
    any = any || queue->jobs[states[i].state] > 0;
  return any;
}

static void add_queue_jobs(GString *out_text, const struct readings *readings) {
  const char *name = "millrace_queue_jobs";
  describe(out_text, name, "gauge", "Jobs in the store, by state; those that ended until their retention has passed.");
  for (size_t i = 0; i < readings->queue_count; i++) {
    const struct queue_reading *queue = &readings->queues[i];
    for (size_t s = 0; s < G_N_ELEMENTS(states) && is_shown(readings, i); s++) {
      char labels[LABELS_BYTES];
      g_snprintf(labels, sizeof labels, "queue=\"%s\",state=\"%s\"", queue->name, states[s].name);
      add_sample(out_text, name, "", labels, (double)queue->jobs[states[s].state]);
    }
  }
}

static double oldest_age_s(const struct queue_reading *queue) {
  return (double)queue->oldest_age_ms / MS_PER_S;
}

static double without_worker(const struct queue_reading *queue) {
  return (double)queue->without_worker;
}

static double is_paused(const struct queue_reading *queue) {
  return queue->paused;
}

static void add_queue_gauges(GString *out_text, const struct readings *readings) {
  static const struct {
    const char *name;
    const char *help;
    double (*value)(const struct queue_reading *queue);
  } gauges[] = {
      {"millrace_queue_oldest_job_age_seconds", "How long the oldest ready job has been ready; 0: none is.", oldest_age_s},
      {"millrace_queue_jobs_without_worker", "Ready jobs whose task no attached worker handles.", without_worker},
      {"millrace_queue_paused", "1 while the queue is paused.", is_paused},
  };
  for (size_t g = 0; g < G_N_ELEMENTS(gauges); g++) {
    describe(out_text, gauges[g].name, "gauge", gauges[g].help);
    for (size_t i = 0; i < readings->queue_count; i++) {
      char labels[LABELS_BYTES];
      g_snprintf(labels, sizeof labels, "queue=\"%s\"", readings->queues[i].name);
      if (is_shown(readings, i))
        add_sample(out_text, gauges[g].name, "", labels, gauges[g].value(&readings->queues[i]));
    }
  }
}

/* ---- the engine ---- */

static void add_workers(GString *out_text, const struct readings *readings) {
  describe(out_text, "millrace_sessions", "gauge", "Registered workers, by whether they take jobs.");
  add_sample(out_text, "millrace_sessions", "", "state=\"active\"", (double)readings->sessions_active);
  add_sample(out_text, "millrace_sessions", "", "state=\"quiet\"", (double)readings->sessions_quiet);
  add_sample(out_text, "millrace_sessions", "", "state=\"disconnected\"", (double)readings->sessions_disconnected);
  describe(out_text, "millrace_credit", "gauge", "Slots of the workers: deliveries that they hold, and that they would take.");
  add_sample(out_text, "millrace_credit", "", "state=\"used\"", (double)readings->credit_used);
  add_sample(out_text, "millrace_credit", "", "state=\"free\"", (double)readings->credit_free);
}

static void add_statistics(GString *out_text, const struct engine_statistics *statistics) {
  metrics_add_counter(out_text, "millrace_deliveries_total", "Deliveries handed to workers.", (double)statistics->deliveries);
  metrics_add_counter(out_text, "millrace_reports_total", "Reports taken from workers.", (double)statistics->reports);
  metrics_add_counter(out_text, "millrace_requests_total", "Requests taken by the engine.", (double)statistics->requests);
  metrics_add_counter(out_text, "millrace_turns_total", "Turns of the engine.", (double)statistics->turns);
  metrics_add_gauge(out_text, "millrace_turn_longest_seconds", "Longest turn since the figures were last read.",
                    (double)statistics->turn_ms_max / MS_PER_S);
  metrics_add_gauge(out_text, "millrace_mailbox_depth", "Messages that wait for the engine.", (double)statistics->mailbox_depth);
  metrics_add_gauge(out_text, "millrace_waiters", "Calls that wait for something to end.", (double)statistics->waiters);
  metrics_add_gauge(out_text, "millrace_watches", "Streams that watch jobs.", (double)statistics->watches);
}

void metrics_add_engine(GString *out_text, const struct readings *readings) {
  metrics_add_gauge(out_text, "millrace_engine_answers", "1 if the engine answered the scrape; if not, its figures are missing.",
                    readings != NULL);
  if (!readings)
    return;
  add_created(out_text, readings);
  add_finished(out_text, readings);
  add_queue_jobs(out_text, readings);
  add_queue_gauges(out_text, readings);
  add_wait_times(out_text, readings);
  add_run_times(out_text, readings);
  add_one_histogram(out_text, "millrace_schedule_lateness_seconds", "How late schedules made their jobs, jitter not counted.",
                    &readings->lateness_ms, &scale_ms);
  metrics_add_gauge(out_text, "millrace_schedules", "Schedules, paused ones included.", (double)readings->schedules);
  add_workers(out_text, readings);
  add_statistics(out_text, &readings->statistics);
  add_one_histogram(out_text, "millrace_batch_rows", "Puts and deletes in one write to the store.", &readings->batch_rows,
                    &scale_count);
  add_one_histogram(out_text, "millrace_store_write_seconds", "Time of a write to the store, not synced.", &readings->write_us,
                    &scale_us);
  add_one_histogram(out_text, "millrace_sync_seconds", "Time of making the log durable.", &readings->sync_us, &scale_us);
}

void metrics_add_store(GString *out_text, const struct store_statistics *statistics) {
  metrics_add_counter(out_text, "millrace_store_writes_total", "Batches written.", (double)statistics->last_ticket);
  metrics_add_gauge(out_text, "millrace_store_writes_not_durable", "Batches written and not made durable yet.",
                    (double)(statistics->last_ticket - MIN(statistics->synced_ticket, statistics->last_ticket)));
  if (statistics->disk_bytes > 0) {
    uint64_t other = statistics->disk_bytes - MIN(statistics->disk_bytes, statistics->table_bytes + statistics->log_bytes);
    describe(out_text, "millrace_store_disk_bytes", "gauge", "Size on disk.");
    add_sample(out_text, "millrace_store_disk_bytes", "", "kind=\"tables\"", (double)statistics->table_bytes);
    add_sample(out_text, "millrace_store_disk_bytes", "", "kind=\"log\"", (double)statistics->log_bytes);
    add_sample(out_text, "millrace_store_disk_bytes", "", "kind=\"other\"", (double)other);
  }
  if (statistics->disk_free_bytes != UINT64_MAX)
    metrics_add_gauge(out_text, "millrace_store_disk_free_bytes", "Free space of the file system.",
                      (double)statistics->disk_free_bytes);
  if (statistics->memory_bytes > 0)
    metrics_add_gauge(out_text, "millrace_store_memory_bytes", "Memory of tables and caches.", (double)statistics->memory_bytes);
  metrics_add_gauge(out_text, "millrace_store_compaction_pending_bytes", "Estimate of what compactions still have to rewrite.",
                    (double)statistics->compaction_pending_bytes);
  metrics_add_gauge(out_text, "millrace_store_write_stalled", "1 while the store holds writes back.",
                    statistics->write_stalled ? 1 : 0);
}

void metrics_add_refused(GString *out_text, const uint64_t counts[REFUSALS]) {
  const char *name = "millrace_connections_refused_total";
  describe(out_text, name, "counter", "New connections closed at once, by the limit that was reached.");
  for (int i = 0; i < REFUSALS; i++) {
    char labels[LABELS_BYTES];
    g_snprintf(labels, sizeof labels, "reason=\"%s\"", refusal_name((enum refusal)i));
    add_sample(out_text, name, "", labels, (double)counts[i]);
  }
}

void metrics_add_build(GString *out_text) {
  describe(out_text, "millrace_build_info", "gauge", "1, with what was built as labels.");
  add_sample(out_text, "millrace_build_info", "", "version=\"" MILLRACE_VERSION "\"", 1);
}
