/* SPDX-License-Identifier: Apache-2.0 */
/* fake_engine.h: an engine without jobs, for tests of the gRPC front. Answers come from a thread of its own.
 *   CreateJob      OK with the id given; task "refuse" fails with all error details; queue "held" holds the answer, also of
 *                  CreateJobsStream, until a job of queue "release" comes, which answers them all, the newest first
 *                  (queue "late": a second later, whatever comes)
 *   CreateJobs     OK with one outcome per job
 *   GetJob         a payload of as many bytes as the id says
 *   WaitJob        waits until its caller leaves
 *   WatchJobs      three events, then waits until its caller leaves; with task "flood" events until they are refused
 *   GetServerInfo  jobs_running: held answers; jobs_waiting: waits and watches; queues: cancelled ones */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "engine/engine.h"

struct engine *fake_engine_new(void);
void fake_engine_free(struct engine *engine);

#endif
