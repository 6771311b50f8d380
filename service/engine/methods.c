/* SPDX-License-Identifier: Apache-2.0 */
/* The table of methods: the one place where path, types, role, lane and handler meet. */
#include "engine/backup.h"
#include "engine/batches.h"
#include "engine/bulk.h"
#include "engine/chains.h"
#include "engine/engine.h"
#include "engine/job_log.h"
#include "engine/jobs.h"
#include "engine/lists.h"
#include "engine/queue_methods.h"
#include "engine/schedules.h"
#include "engine/waiters.h"
#include "millrace/v1/admin_service.pb-c.h"
#include "millrace/v1/batch_service.pb-c.h"
#include "millrace/v1/chain_service.pb-c.h"
#include "millrace/v1/job_service.pb-c.h"
#include "millrace/v1/queue_service.pb-c.h"
#include "millrace/v1/schedule_service.pb-c.h"
#include "millrace/v1/worker_service.pb-c.h"

#define METHOD(service, name, type, minimum, how, ahead, want, handler)                                                          \
  {                                                                                                                              \
    .path = "/millrace.v1." service "/" name, .request = &millrace__v1__##type##_request__descriptor,                            \
    .response = &millrace__v1__##type##_response__descriptor, .role = (minimum), .shape = (how), .urgent = (ahead),              \
    .prepare = (want), .apply = (handler)                                                                                        \
  }
#define UNARY(service, name, type, minimum) METHOD(service, name, type, minimum, METHOD_UNARY, false, NULL, type##_apply)
#define URGENT(service, name, type, minimum) METHOD(service, name, type, minimum, METHOD_UNARY, true, NULL, type##_apply)

const struct method methods[] = {
    METHOD("JobService", "CreateJob", create_job, ROLE_PRODUCER, METHOD_UNARY, false, create_job_prepare, create_job_apply),
    METHOD("JobService", "CreateJobs", create_jobs, ROLE_PRODUCER, METHOD_UNARY, false, create_jobs_prepare, create_jobs_apply),
    /* Its messages have the form of CreateJobs. */
    METHOD("JobService", "CreateJobsStream", create_jobs, ROLE_PRODUCER, METHOD_MESSAGE_STREAM, false, create_jobs_prepare,
           create_jobs_apply),
    METHOD("JobService", "GetJob", get_job, ROLE_VIEWER, METHOD_UNARY, true, get_job_prepare, get_job_apply),
    URGENT("JobService", "WaitJob", wait_job, ROLE_VIEWER),
    METHOD("JobService", "WatchJobs", watch_jobs, ROLE_VIEWER, METHOD_SERVER_STREAM, false, NULL, watch_jobs_apply),
    UNARY("JobService", "ListJobs", list_jobs, ROLE_VIEWER),
    URGENT("JobService", "CancelJob", cancel_job, ROLE_PRODUCER),
    UNARY("JobService", "RetryJob", retry_job, ROLE_PRODUCER),
    UNARY("JobService", "UpdateJob", update_job, ROLE_PRODUCER),
    UNARY("JobService", "DeleteJob", delete_job, ROLE_PRODUCER),
    UNARY("JobService", "CancelJobs", cancel_jobs, ROLE_PRODUCER),
    UNARY("JobService", "RetryJobs", retry_jobs, ROLE_PRODUCER),
    UNARY("ScheduleService", "CreateSchedule", create_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "GetSchedule", get_schedule, ROLE_VIEWER),
    UNARY("ScheduleService", "ListSchedules", list_schedules, ROLE_VIEWER),
    UNARY("ScheduleService", "UpdateSchedule", update_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "DeleteSchedule", delete_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "DeclareSchedules", declare_schedules, ROLE_PRODUCER),
    UNARY("ScheduleService", "PauseSchedule", pause_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "ResumeSchedule", resume_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "RunSchedule", run_schedule, ROLE_PRODUCER),
    UNARY("ScheduleService", "PreviewSchedule", preview_schedule, ROLE_VIEWER),
    METHOD("ChainService", "CreateChain", create_chain, ROLE_PRODUCER, METHOD_UNARY, false, create_chain_prepare,
           create_chain_apply),
    UNARY("ChainService", "GetChain", get_chain, ROLE_VIEWER),
    URGENT("ChainService", "WaitChain", wait_chain, ROLE_VIEWER),
    UNARY("ChainService", "ListChains", list_chains, ROLE_VIEWER),
    URGENT("ChainService", "CancelChain", cancel_chain, ROLE_PRODUCER),
    UNARY("BatchService", "CreateBatch", create_batch, ROLE_PRODUCER),
    METHOD("BatchService", "AddBatchItems", add_batch_items, ROLE_PRODUCER, METHOD_MESSAGE_STREAM, false, NULL,
           add_batch_items_apply),
    UNARY("BatchService", "SealBatch", seal_batch, ROLE_PRODUCER),
    UNARY("BatchService", "GetBatch", get_batch, ROLE_VIEWER),
    URGENT("BatchService", "WaitBatch", wait_batch, ROLE_VIEWER),
    UNARY("BatchService", "ListBatches", list_batches, ROLE_VIEWER),
    URGENT("BatchService", "CancelBatch", cancel_batch, ROLE_PRODUCER),
    UNARY("QueueService", "ListQueues", list_queues, ROLE_VIEWER),
    UNARY("QueueService", "GetQueue", get_queue, ROLE_VIEWER),
    UNARY("QueueService", "UpdateQueue", update_queue, ROLE_ADMIN),
    URGENT("QueueService", "PauseQueue", pause_queue, ROLE_ADMIN),
    URGENT("QueueService", "ResumeQueue", resume_queue, ROLE_ADMIN),
    URGENT("QueueService", "PurgeQueue", purge_queue, ROLE_ADMIN),
    UNARY("QueueService", "DeleteQueue", delete_queue, ROLE_ADMIN),
    URGENT("WorkerService", "Register", register, ROLE_WORKER),
    URGENT("WorkerService", "Deregister", deregister, ROLE_WORKER),
    UNARY("WorkerService", "ListWorkers", list_workers, ROLE_VIEWER),
    /* Workers quiet themselves when they stop. */
    URGENT("WorkerService", "QuietWorker", quiet_worker, ROLE_WORKER),
    UNARY("AdminService", "GetServerInfo", get_server_info, ROLE_VIEWER),
    UNARY("AdminService", "Checkpoint", checkpoint, ROLE_ADMIN),
    METHOD("AdminService", "StreamBackup", stream_backup, ROLE_ADMIN, METHOD_SERVER_STREAM, false, NULL, stream_backup_apply),
    URGENT("AdminService", "SetLogLevel", set_log_level, ROLE_ADMIN),
};
const size_t method_count = sizeof methods / sizeof *methods;
