/* SPDX-License-Identifier: Apache-2.0 */
/* harness.h: an engine on a store in memory, called like the server calls it, and workers that take all they get and report what
 * the test says. Threads: the test's. */
#ifndef MILLRACE_TESTS_ENGINE_HARNESS_H
#define MILLRACE_TESTS_ENGINE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <glib.h>

#include "core/limits.h"
#include "engine/engine.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

#define HARNESS_START_MS INT64_C(1772323200000)

struct harness {
  struct store *store;
  struct engine *engine;
  struct arena *arena; /* of responses */
  struct error error;  /* of the last call that failed */
  bool is_stepped;
  int64_t now_ms;                          /* of one that is stepped: its clock */
  char token[SESSION_TOKEN_BYTES_MAX + 1]; /* of the session added last */
};

void harness_open(struct harness *harness);
/* With options of the test's own, apart from transport.send; a store is then the harness's, NULL: in memory. */
void harness_open_with(struct harness *harness, const struct engine_options *options);
/* Without threads: its turns are those of the calls, and its clock stands still but for harness_pass. */
void harness_open_stepped(struct harness *harness);
/* Time passes at one go, then turns follow until the engine rests. */
void harness_pass(struct harness *harness, int64_t ms);
/* Turns until the engine rests. */
void harness_settle(struct harness *harness);
/* The store agrees with itself, as `millrace check` sees it. */
void harness_check_store(struct harness *harness);
/* One that is stepped: stops it, and opens it again on what it stored. */
void harness_restart(struct harness *harness);
void harness_close(struct harness *harness);
/* Calls "JobService/CreateJob" and so on. NULL: it failed, see harness->error. */
const void *harness_call(struct harness *harness, const char *method, const ProtobufCMessage *message);
/* Two calls in one turn, of an engine that is stepped. */
void harness_call_both(struct harness *harness, const char *const methods[2], const ProtobufCMessage *const messages[2],
                       const void *out_responses[2]);
/* How many jobs a queue has in each state. */
const Millrace__V1__QueueCounts *harness_counts(struct harness *harness, char *queue);
/* Registers a worker for all tasks of a queue and joins it to its session by connection 1. */
struct id harness_add_worker(struct harness *harness, char *queue, uint32_t concurrency);
struct id harness_add_worker_for(struct harness *harness, char *queue, char *task, uint32_t concurrency, uint32_t prefetch);
/* The worker says this; an engine that is stepped does a turn. */
void harness_report(struct harness *harness, const struct id *session, const Millrace__V1__Reports *reports);
/* ... of this delivery, in one report. */
void harness_report_one(struct harness *harness, const struct id *session, uint64_t report_seq, char *job, uint32_t delivery,
                        Millrace__V1__Report *report);
void harness_succeed(struct harness *harness, const struct id *session, uint64_t report_seq, char *job, uint32_t delivery);

/* A call of a server stream. */
struct harness_stream;
struct harness_stream *harness_stream_open(struct harness *harness, const char *method, const ProtobufCMessage *message);
/* The next event, or NULL after the end (which then fails the test unless it is expected by a close). */
const void *harness_stream_next(struct harness_stream *stream);
void harness_stream_close(struct harness *harness, struct harness_stream *stream);

#endif
