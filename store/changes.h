/* SPDX-License-Identifier: Apache-2.0 */
/* changes.h: the batch builder. From a job before and after, it derives every key to put and delete, so that no caller can forget
 * an index. */
#ifndef MILLRACE_STORE_CHANGES_H
#define MILLRACE_STORE_CHANGES_H

#include "core/job.h"
#include "millrace/store/v1/store.pb-c.h"
#include "store/store.h"

/* Adds to `batch` what turns `before` (NULL: not there) into `after` (NULL: removed, with its spec and its result; its log lines,
 * if has_log, by the caller with changes_delete_log). Spec and result go with DELETED too, the result also when `after` has none
 * apart. A record that stays as it was, as at a lease, is not written. `arena` is scratch. */
void changes_job(struct store_batch *batch, const struct job *before, const struct job *after, struct arena *arena);
/* Puts the unchanging part. */
void changes_spec(struct store_batch *batch, const struct id *id, const struct spec *spec, struct arena *arena);
/* Puts a result kept apart: a packed Payload. */
void changes_result(struct store_batch *batch, const struct id *id, struct bytes payload, struct arena *arena);
/* Deletes the log rows of a job; reads them from `store` first. */
enum status changes_delete_log(struct store_batch *batch, struct store *store, const struct id *id,
                               struct error *error) STATUS_CHECK;

/* The same for the other records with timers: the row (put only when it differs) and its timers. NULL as in changes_job. */
void changes_chain(struct store_batch *batch, const struct id *id, const Millrace__Store__V1__ChainRecord *before,
                   const Millrace__Store__V1__ChainRecord *after, struct arena *arena);
void changes_batch(struct store_batch *batch, const struct id *id, const Millrace__Store__V1__BatchRecord *before,
                   const Millrace__Store__V1__BatchRecord *after, struct arena *arena);
void changes_schedule(struct store_batch *batch, const char *name, const Millrace__Store__V1__ScheduleRecord *before,
                      const Millrace__Store__V1__ScheduleRecord *after, struct arena *arena);

#endif
