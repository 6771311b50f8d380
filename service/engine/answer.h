/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h: what the API tells of a job. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_ANSWER_H
#define MILLRACE_ENGINE_ANSWER_H

#include "engine/state.h"

/* The job as it is now in the turn, in the turn's arena. `full`: with payload, result and history. */
Millrace__V1__Job *answer_job(struct turn *turn, struct entry *entry, bool full);
/* The same for a job read elsewhere (lists): `spec` and `result` may be NULL. A job that says RUNNING gets its progress if it
 * still runs. */
Millrace__V1__Job *answer_record(struct turn *turn, const struct job *job, const struct spec *spec, const struct bytes *result,
                                 bool full);

#endif
