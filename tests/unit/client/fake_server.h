/* SPDX-License-Identifier: Apache-2.0 */
/* fake_server.h: a stand-in for millraced: answers unary calls as told, and has both ends of a worker's session in the test's
 * hands. Threads: one for the calls; the rest from the test's. Everything waits at most FAKE_WAIT_MS and fails the test then. */
#ifndef MILLRACE_TESTS_FAKE_SERVER_H
#define MILLRACE_TESTS_FAKE_SERVER_H

#include <stdbool.h>

#include "millrace/v1/worker_service.pb-c.h"

enum { FAKE_WAIT_MS = 60000 };

struct fake_server;

struct fake_server *fake_server_open(void);
void fake_server_close(struct fake_server *server);
const char *fake_server_address(const struct fake_server *server);

/* The next answers to GetJob, CreateJob and CreateJobs: this gRPC code, with details naming a field and a subject. 0: an empty
 * job, or the outcomes of the jobs, all created. */
void fake_server_refuse(struct fake_server *server, int code, unsigned times);
/* The worker port listens no more, and the connections of the worker break. For good. */
void fake_server_refuse_sessions(struct fake_server *server);
/* Register with a session to resume: NOT_FOUND. */
void fake_server_forget_sessions(struct fake_server *server);
unsigned fake_server_registers(struct fake_server *server);
unsigned fake_server_get_jobs(struct fake_server *server);
/* Was the server asked not to send the worker any more? */
bool fake_server_was_quieted(struct fake_server *server);
bool fake_server_is_deregistered(struct fake_server *server);

/* Whether to leave creates and added items, and all calls behind them, without an answer for now. */
void fake_server_hold_creates(struct fake_server *server, bool hold);
/* Waits until so many CreateJobs have come. */
void fake_server_wait_for_creates(struct fake_server *server, unsigned calls);
/* How many CreateJobs have come; the number of jobs of each goes to out_sizes, as far as it has room. */
size_t fake_server_creates(struct fake_server *server, unsigned *out_sizes, size_t count);
unsigned fake_server_create_job_calls(struct fake_server *server);

/* Sends deliveries numbered `first`… of this task as message `seq`. */
void fake_server_deliver(struct fake_server *server, uint64_t seq, unsigned first, unsigned count, const char *task);
void fake_server_accept(struct fake_server *server, uint64_t report_seq);
/* Accepts whatever was and will be reported, if the worker is there. */
void fake_server_accept_all(struct fake_server *server);
void fake_server_command(struct fake_server *server, Millrace__V1__CommandKind kind, unsigned number);
/* The next message of the worker; heartbeats are passed over unless wanted. Free with millrace__v1__reports__free_unpacked. */
Millrace__V1__Reports *fake_server_next(struct fake_server *server, bool want_heartbeat);
/* The next message, whatever it is. */
Millrace__V1__Reports *fake_server_any(struct fake_server *server);
/* Nothing comes for `ms`, heartbeats apart. */
bool fake_server_is_quiet(struct fake_server *server, int ms);
/* Breaks the connections of the worker; new ones are taken. */
void fake_server_cut(struct fake_server *server);
/* Id of the job of delivery `number`; a static buffer. */
const char *fake_job_id(unsigned number);

#endif
