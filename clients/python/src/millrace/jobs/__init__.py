# SPDX-License-Identifier: Apache-2.0
"""The application's view of background jobs: enqueue, delay, schedule, chain, batch; handlers in the manner of Celery.

    from millrace.jobs import JobManager, get_job_manager

    @router.post("/signup")
    async def signup(data: SignupRequest, jobs: JobManager = Depends(get_job_manager)):
        await jobs.enqueue("send_welcome_email", user_id=data.user_id)

QUEUE_BACKEND says what carries the jobs: `millrace` (the default), `memory` or `celery`.
"""

from millrace.errors import JobExists, JobNotFound, MillraceError, WaitTimeout
from millrace.jobs._backend import QueueBackend
from millrace.jobs._manager import JobManager
from millrace.jobs._process import (
    AsyncResult,
    TaskFailed,
    close_job_manager,
    enqueue,
    enqueue_delayed,
    get_job_manager,
    get_queue,
    use_backend,
)
from millrace.jobs._types import BatchResult, JobOptions, JobStatus, NotSupported, ScheduledJob, TaskStatus
from millrace.jobs.shared import MaxRetriesExceededError, SharedTask, SoftTimeLimitExceeded, shared_task
from millrace.types import JobPriority, JobSpec, RetryPolicy, ScheduleSpec

__all__ = [
    "AsyncResult",
    "BatchResult",
    "JobExists",
    "JobManager",
    "JobNotFound",
    "JobOptions",
    "JobPriority",
    "JobSpec",
    "JobStatus",
    "MaxRetriesExceededError",
    "MillraceError",
    "NotSupported",
    "QueueBackend",
    "RetryPolicy",
    "ScheduleSpec",
    "ScheduledJob",
    "SharedTask",
    "SoftTimeLimitExceeded",
    "TaskFailed",
    "TaskStatus",
    "WaitTimeout",
    "close_job_manager",
    "enqueue",
    "enqueue_delayed",
    "get_job_manager",
    "get_queue",
    "shared_task",
    "use_backend",
]
