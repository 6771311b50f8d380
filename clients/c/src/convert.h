/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h: between the public structs and protobuf. `…_to_…` builds messages in a box whose strings are borrowed from the
 * caller's structs; `…_from_…` fills public structs whose strings are borrowed from the message. Pure. */
#ifndef MILLRACE_CLIENT_CONVERT_H
#define MILLRACE_CLIENT_CONVERT_H

#include "box.h"
#include "millrace.h"
#include "millrace/v1/job.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

/* A message of type T in the box, initialised. */
#define MESSAGE(box, T, stem) ((T *)convert_message(box, &millrace__v1__##stem##__descriptor))
void *convert_message(struct box *box, const ProtobufCMessageDescriptor *type);
/* What protobuf-c wants of a string. */
char *convert_text(const char *text);

/* NULL for 0. */
Google__Protobuf__Timestamp *convert_time(struct box *box, int64_t ms);
/* NULL for 0, zero seconds for MILLRACE_ZERO. */
Google__Protobuf__Duration *convert_duration(struct box *box, int64_t ms);
int64_t convert_from_time(const Google__Protobuf__Timestamp *time);
int64_t convert_from_duration(const Google__Protobuf__Duration *duration);
/* "scheduled" for JOB_STATE_SCHEDULED: lower case, without the type's prefix, interned; empty for 0. */
const char *convert_enum_name(const ProtobufCEnumDescriptor *type, int value);

Millrace__V1__RetryPolicy *convert_retry(struct box *box, const struct millrace_retry_policy *policy); /* NULL for NULL */
Millrace__V1__Payload *convert_payload(struct box *box, const struct millrace_payload *payload);       /* NULL when empty */
/* An array of map entries of the given type. */
void *convert_labels(struct box *box, const struct millrace_label *labels, size_t count,
                     const ProtobufCMessageDescriptor *entry_type);
Millrace__V1__JobSpec *convert_spec(struct box *box, const struct millrace_job_spec *spec); /* NULL for NULL */
Millrace__V1__JobSpec **convert_specs(struct box *box, const struct millrace_job_spec *specs, size_t count);
Millrace__V1__JobFilter *convert_filter(struct box *box, const struct millrace_job_filter *filter);
/* The id, or a fresh one that lives in the box. */
char *convert_id(struct box *box, const char *id);

struct millrace_payload convert_from_payload(const Millrace__V1__Payload *payload);
struct millrace_job_error convert_from_job_error(const Millrace__V1__JobError *error);
struct millrace_label *convert_from_labels(struct box *box, void *entries, size_t count);
void convert_from_job(struct box *box, const Millrace__V1__Job *job, struct millrace_job *out_job);
/* What became of so many jobs, in the memory of the box. INTERNAL: the answer is about more or fewer. */
enum millrace_code convert_from_outcomes(struct box *box, Millrace__V1__CreateOutcome **outcomes, size_t count, size_t jobs,
                                         struct millrace_outcomes *out, struct millrace_error *error);
/* The same as an object for the caller, with the box that the answer came in. */
enum millrace_code convert_give_outcomes(struct box *take_box, Millrace__V1__CreateOutcome **outcomes, size_t count, size_t jobs,
                                         struct millrace_outcomes **out_outcomes, struct millrace_error *error);

#endif
