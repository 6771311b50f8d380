# SPDX-License-Identifier: Apache-2.0
"""The door between `JobManager` and whatever carries its jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from millrace.jobs._types import BatchResult, JobStatus, ScheduledJob
from millrace.types import JobSpec, ScheduleSpec


@runtime_checkable
class QueueBackend(Protocol):
    """Carries jobs. `JobManager` gives it a friendlier face; everything here can be called directly too.

    A backend that can't do what a request asks for raises `NotSupported` and creates nothing.
    """

    async def enqueue(self, job: JobSpec, /) -> str:
        """Creates a job and returns its id."""
        ...

    async def enqueue_batch(self, jobs: AsyncIterator[JobSpec], /, chunk_size: int) -> BatchResult:
        """Creates the jobs, `chunk_size` a call. What is refused is told in `error`; errors of `jobs` itself are raised."""
        ...

    async def chain(self, steps: Sequence[JobSpec], /) -> str:
        """Creates jobs of which each starts when the one before has succeeded; returns the id of the last."""
        ...

    async def schedule(self, schedule: ScheduleSpec, /) -> str:
        """Creates a recurring job, or changes the one of that name; returns its id, which is its name."""
        ...

    async def get_status(self, task_id: str) -> JobStatus:
        """What became of a job. `JobNotFound` if there is none, where the backend can tell."""
        ...

    async def wait_for(self, task_id: str, timeout: float) -> JobStatus:
        """Returns when the job has ended; `WaitTimeout` when it has not after `timeout` seconds."""
        ...

    async def cancel(self, task_id: str, terminate: bool = False) -> bool:
        """Cancels a waiting job; asks a running one to stop, or makes it with `terminate`. False: it had ended."""
        ...

    async def queue_length(self, queue: str) -> int:
        """How many jobs of the queue are pending."""
        ...

    async def purge_queue(self, queue: str) -> int:
        """Drops the jobs of the queue that are pending; returns how many."""
        ...

    async def list_scheduled(self) -> list[ScheduledJob]:
        """All recurring jobs, by name."""
        ...

    async def unschedule(self, schedule_id: str) -> bool:
        """Removes a recurring job. False: there was none."""
        ...

    async def close(self) -> None:
        """Gives back connections. The backend can't be used afterwards."""
        ...
