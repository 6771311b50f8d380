/* SPDX-License-Identifier: Apache-2.0 */
/* queue_methods.h: the methods of QueueService, WorkerService and AdminService. Threads: the engine's. */
#ifndef MILLRACE_ENGINE_QUEUE_METHODS_H
#define MILLRACE_ENGINE_QUEUE_METHODS_H

#include "engine/state.h"

void list_queues_apply(struct turn *turn, struct request *request);
void get_queue_apply(struct turn *turn, struct request *request);
void update_queue_apply(struct turn *turn, struct request *request);
void pause_queue_apply(struct turn *turn, struct request *request);
void resume_queue_apply(struct turn *turn, struct request *request);
void delete_queue_apply(struct turn *turn, struct request *request);

void register_apply(struct turn *turn, struct request *request);
void deregister_apply(struct turn *turn, struct request *request);
void list_workers_apply(struct turn *turn, struct request *request);
void quiet_worker_apply(struct turn *turn, struct request *request);

void get_server_info_apply(struct turn *turn, struct request *request);

#endif
