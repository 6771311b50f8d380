/* SPDX-License-Identifier: Apache-2.0 */
/* process.h: a handler that runs a program for each job. Payload on its standard input, facts in MILLRACE_… variables, standard
 * output is the result, standard error goes line by line into the job's log. Exit 0: succeeded; 75: failed, try again later (a
 * duration on standard output says when); 78: failed for good; anything else: failed. When the job has to stop, its process group
 * gets SIGTERM and, after a grace, SIGKILL. Threads: one per running program. */
#ifndef MILLRACE_CLI_PROCESS_H
#define MILLRACE_CLI_PROCESS_H

#include "millrace.h"

struct process_handler {
  char **argv;           /* the program and its arguments */
  int64_t kill_grace_ms; /* between SIGTERM and SIGKILL */
};

/* Kills all programs that run; for at_quick_exit, as they would outlive the worker. Any thread. */
void process_kill_all(void);
/* For millrace_worker_handle; `user` is a struct process_handler. */
void process_run(struct millrace_context *context, void *user);

#endif
