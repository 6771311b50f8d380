/* SPDX-License-Identifier: Apache-2.0 */
/* reports.h: applies one report of a worker to the job that it names. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_REPORTS_H
#define MILLRACE_ENGINE_REPORTS_H

#include "engine/state.h"

/* Fenced by (session, delivery): a stale report changes nothing and is answered "lost: stop". */
void report_apply(struct turn *turn, struct session *session, const Millrace__V1__Report *report);

#endif
