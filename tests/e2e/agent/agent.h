/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h: offers libmillrace to the runner of tests/e2e/scenarios; the README there is the protocol.
 *
 * main.c     lines in, a thread for each command, lines out
 * read.c     fields of a command as values of millrace.h
 * write.c    objects of millrace.h as JSON
 * jobs.c     commands about jobs
 * flows.c    commands about chains, batches, schedules and queues
 * worker.c   the worker, and what stops it
 * handlers.c the standard handlers */
#ifndef MILLRACE_AGENT_H
#define MILLRACE_AGENT_H

#include <glib.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

#include "millrace.h"

/* A command at work. What its answer says goes into `out`; what read.c makes lives until it is answered. */
struct command {
  yajl_val fields;
  const char *number; /* as it was written */
  GPtrArray *owned;
  yajl_gen out; /* stands where the value of "ok" goes */
  struct millrace_error error;
};

extern struct millrace_client *client;
extern enum millrace_transport transport;

/* Each writes its answer into `out` and answers MILLRACE_OK, or fills `error`. */
typedef enum millrace_code run_command(struct command *command);
run_command job_create, job_create_many, job_get, job_wait, job_watch, job_list, job_cancel, job_retry;
run_command chain_create, chain_get, chain_wait, chain_cancel;
run_command batch_create, batch_add, batch_seal, batch_get, batch_wait, batch_cancel;
run_command schedule_create, schedule_get, schedule_list, schedule_delete, schedule_pause, schedule_resume, schedule_run;
run_command schedule_preview, schedules_declare;
run_command queue_get, queue_pause, queue_resume, queue_purge;
run_command worker_start, worker_stop;

/* One line to the runner, whole. */
void say_line(const char *text, size_t length);
/* Stops the worker, if there is one, and waits for its end. */
void worker_finish(void);
void handlers_register(struct millrace_worker *worker, struct command *command);

/* ---- read.c; a field that is not there reads as NULL, 0, false ---- */

yajl_val field_of(yajl_val object, const char *name);
const char *text_of(yajl_val object, const char *name);
bool flag_of(yajl_val object, const char *name);
int64_t integer_of(yajl_val object, const char *name);
double real_of(yajl_val object, const char *name);
/* Seconds as milliseconds. */
int64_t ms_of(yajl_val object, const char *name);
/* The same where 0 is a choice of its own. */
int64_t ms_or_zero_of(yajl_val object, const char *name);
/* A time as milliseconds since 1970. */
int64_t time_of(yajl_val object, const char *name);
void *own(struct command *command, void *memory);
const char **texts_of(struct command *command, yajl_val object, const char *name, size_t *out_count);
struct millrace_label *labels_of(struct command *command, yajl_val object, size_t *out_count);
struct millrace_retry_policy *retry_of(struct command *command, yajl_val object);
struct millrace_job_spec *spec_of(struct command *command, yajl_val object); /* NULL: no object */
struct millrace_job_spec *specs_of(struct command *command, const char *name, size_t *out_count);
struct millrace_timing timing_of(yajl_val object);
struct millrace_schedule_spec schedule_of(struct command *command, yajl_val object);

/* ---- write.c ---- */

void put_key(yajl_gen out, const char *key);
void put_text(yajl_gen out, const char *key, const char *text); /* NULL or empty: left out */
void put_integer(yajl_gen out, const char *key, int64_t value);
void put_flag(yajl_gen out, const char *key, bool value);
void put_time(yajl_gen out, const char *key, int64_t time_ms); /* 0: left out */
char *time_text(int64_t time_ms);
void put_tree(yajl_gen out, yajl_val value);
void put_payload(yajl_gen out, const char *key, const struct millrace_payload *payload); /* empty: left out */
void put_labels(yajl_gen out, const struct millrace_label *labels, size_t count);
void put_job(yajl_gen out, const struct millrace_job *job);
void put_chain(yajl_gen out, const struct millrace_chain *chain);
void put_batch(yajl_gen out, const struct millrace_batch *batch);
void put_schedule(yajl_gen out, const struct millrace_schedule *schedule);
void put_queue(yajl_gen out, const struct millrace_queue *queue);
void put_outcome(yajl_gen out, const char *id, bool existing, const struct millrace_error *error); /* error NULL: created */
void put_outcomes(yajl_gen out, struct millrace_outcomes *take_outcomes);
/* The waits of libmillrace answer OK with the latest state when their time has passed; in the protocol that is an error. */
enum millrace_code wait_timeout(struct command *command, const char *state);
/* `command` tells what was not found. */
void put_error(yajl_gen out, const struct millrace_error *error, const char *command);

#endif
