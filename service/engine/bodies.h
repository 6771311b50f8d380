/* SPDX-License-Identifier: Apache-2.0 */
/* bodies.h: records and specs of jobs that are ready and near the head of their lane, so that a delivery rarely reads the store.
 * Bounded in bytes; the oldest go first. Whoever changes a job's record drops or replaces it here. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_BODIES_H
#define MILLRACE_ENGINE_BODIES_H

#include "core/id.h"
#include "store/store.h"

struct bodies;

struct bodies *bodies_new(size_t bytes_max);
void bodies_free(struct bodies *bodies); /* NULL is fine */
/* Copies. Replaces what was there. */
void bodies_put(struct bodies *bodies, const struct id *id, struct slice record, struct slice spec);
/* Valid until the next put or drop. False: not here. */
bool bodies_get(struct bodies *bodies, const struct id *id, struct slice *out_record, struct slice *out_spec);
void bodies_drop(struct bodies *bodies, const struct id *id);

#endif
