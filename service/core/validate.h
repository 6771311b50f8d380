/* SPDX-License-Identifier: Apache-2.0 */
/* validate.h: is a request of the API well-formed and within its limits? Everything that can be told from the message alone is
 * told here, once, before the engine sees it: what depends on the state or the clock is the engine's. Workers' reports are never
 * refused for their content and so are not checked here: see text.h. Threads: any. Errors: INVALID_ARGUMENT with the path of the
 * field ("jobs[3].payload.json"), a sentence with limit and value. */
#ifndef MILLRACE_CORE_VALIDATE_H
#define MILLRACE_CORE_VALIDATE_H

#include <protobuf-c/protobuf-c.h>

#include "core/error.h"
#include "millrace/v1/job.pb-c.h"

/* Where a JobSpec stands decides what it must leave unset. */
enum job_place {
  JOB_ALONE,          /* CreateJob, CreateJobs: everything may be set */
  JOB_CHAIN_FIRST,    /* the first step: everything may be set */
  JOB_CHAIN_STEP,     /* a later step: no run_at */
  JOB_BATCH_ITEM,     /* no limits but its own; the task may come from the batch's defaults */
  JOB_BATCH_DEFAULTS, /* no id, payload, unique key; the task may be unset */
  JOB_CALLBACK,       /* on_success, on_complete, on_failure: no id, run_at, expires_at, unique key */
  JOB_TEMPLATE,       /* a schedule's: no id, run_at, delay, expires_at, unique key */
};

/* Checks a request message of any unary method, or one message of CreateJobsStream or AddBatchItems. The jobs inside CreateJobs
 * and CreateJobsStream are only counted: each of them has its own outcome, from validate_job_spec. INTERNAL: a type that is not
 * in the table of requests. */
enum status validate_request(const ProtobufCMessage *message, struct error *error) STATUS_CHECK;

/* Checks one job. The field in the error is relative to it ("payload.json"): see error_prefix_field. */
enum status validate_job_spec(const Millrace__V1__JobSpec *spec, enum job_place place, struct error *error) STATUS_CHECK;

#endif
