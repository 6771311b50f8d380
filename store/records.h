/* SPDX-License-Identifier: Apache-2.0 */
/* records.h: values on disk <-> values in memory. Decoded strings and arrays live in the arena given, not in the input.
 * The arenas have no limit, or one that the input cannot reach.
 * Errors: STATUS_DATA_LOSS for bytes that are not a record, naming family and id. */
#ifndef MILLRACE_STORE_RECORDS_H
#define MILLRACE_STORE_RECORDS_H

#include <protobuf-c/protobuf-c.h>

#include "core/job.h"
#include "millrace/store/v1/store.pb-c.h"
#include "store/store.h"

/* RUNNING is encoded as PENDING: a lease leaves the record as it was. */
struct slice record_pack_job(const struct job *job, struct arena *arena);
enum status record_unpack_job(const struct id *id, struct slice value, struct arena *arena, struct job *out_job,
                              struct error *error) STATUS_CHECK;
struct slice record_pack_spec(const struct spec *spec, struct arena *arena);
enum status record_unpack_spec(const struct id *id, struct slice value, struct arena *arena, struct spec *out_spec,
                               struct error *error) STATUS_CHECK;
/* Any other record: a protobuf-c message, packed into and unpacked from the arena. */
struct slice record_pack(const ProtobufCMessage *message, struct arena *arena);
enum status record_unpack(const ProtobufCMessageDescriptor *type, struct slice value, struct arena *arena,
                          ProtobufCMessage **out_message, struct error *error) STATUS_CHECK;

/* Does this entry of a lease count for the job, as its record says it is? See LeaseEntry. */
bool lease_entry_counts(uint32_t delivery, int64_t created_ms, const struct job *job);

/* struct job_error <-> its API message (NULL: no error); texts are borrowed. */
struct job_error job_error_from_api(const Millrace__V1__JobError *message);
Millrace__V1__JobError *job_error_to_api(const struct job_error *error, struct arena *arena);
/* struct policy <-> its API message (NULL: nothing set); the attempt time-out stands apart there. */
struct policy policy_from_api(const Millrace__V1__RetryPolicy *message, const Google__Protobuf__Duration *attempt_timeout,
                              struct arena *arena);
Millrace__V1__RetryPolicy *policy_to_api(const struct policy *policy, struct arena *arena);

#endif
