# SPDX-License-Identifier: Apache-2.0
"""Background jobs, under the name by which the application knows them."""

from millrace.jobs import (
    BatchResult,
    JobManager,
    JobPriority,
    JobStatus,
    ScheduledJob,
    TaskStatus,
    close_job_manager,
    enqueue,
    enqueue_delayed,
    get_job_manager,
    get_queue,
)

__all__ = [
    "BatchResult",
    "JobManager",
    "JobPriority",
    "JobStatus",
    "ScheduledJob",
    "TaskStatus",
    "close_job_manager",
    "enqueue",
    "enqueue_delayed",
    "get_job_manager",
    "get_queue",
]
