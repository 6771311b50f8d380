# SPDX-License-Identifier: Apache-2.0
"""Keeps jobs in memory, for tests and for development without a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from millrace._simulator import Simulator
from millrace.errors import MillraceError
from millrace.jobs._types import BatchResult, JobStatus, ScheduledJob
from millrace.registry import Registry, default_registry
from millrace.types import Duration, Job, JobSpec, ScheduleSpec


class MemoryQueueBackend:
    """Runs registered tasks at once, in the caller's process; keeps the others pending; starts delayed ones in `advance()`.

    Its clock stands still: only `advance()` moves it. Nothing outlives the process.
    """

    def __init__(self, registry: Registry = default_registry, *, now: datetime | None = None) -> None:
        self._simulator = Simulator(registry, now=now)

    @property
    def now(self) -> datetime:
        """What its clock says."""
        return self._simulator.now

    async def advance(self, length: Duration) -> None:
        """Moves the clock and runs what becomes due: delayed jobs, retries, schedules."""
        await self._simulator.advance(length)

    def jobs(self) -> list[Job]:
        """Every job there is, oldest first, for what a test wants to know."""
        return self._simulator.jobs()

    async def enqueue(self, job: JobSpec, /) -> str:
        """Keeps the job, and runs it if its task is registered and its time has come."""
        return (await self._simulator.create(job)).id

    async def enqueue_batch(self, jobs: AsyncIterator[JobSpec], /, chunk_size: int) -> BatchResult:
        """Keeps the jobs; what is refused is told in `error`."""
        total = enqueued = 0
        error = None
        batch_id = str(uuid.uuid4())
        async for job in jobs:
            total += 1
            try:
                await self._simulator.create(job, batch_id=batch_id)
                enqueued += 1
            except MillraceError as refusal:
                error = error or str(refusal)
        return BatchResult(total, enqueued, batch_id, error)

    async def chain(self, steps: Sequence[JobSpec], /) -> str:
        """Keeps the jobs and runs the first."""
        return (await self._simulator.create_chain(steps))[-1]

    async def schedule(self, schedule: ScheduleSpec, /) -> str:
        """Keeps the schedule; `advance()` makes its jobs."""
        return self._simulator.put_schedule(schedule).name

    async def get_status(self, task_id: str) -> JobStatus:
        """What became of a job."""
        return JobStatus.of(self._simulator.get(task_id))

    async def wait_for(self, task_id: str, timeout: float) -> JobStatus:
        """Returns when the job has ended. The time-out is real time, whatever the clock says."""
        return JobStatus.of(await self._simulator.wait(task_id, timeout))

    async def cancel(self, task_id: str, terminate: bool = False) -> bool:
        """Cancels a waiting job, asks a running one to stop; nothing here can be stopped by force."""
        return await self._simulator.cancel(task_id)

    async def queue_length(self, queue: str) -> int:
        """How many jobs of the queue are pending."""
        return self._simulator.counts(queue).pending

    async def purge_queue(self, queue: str) -> int:
        """Cancels the jobs of the queue that are pending."""
        return await self._simulator.purge(queue)

    async def list_scheduled(self) -> list[ScheduledJob]:
        """All schedules, by name."""
        return [ScheduledJob.of(schedule) for schedule in self._simulator.schedules()]

    async def unschedule(self, schedule_id: str) -> bool:
        """Removes a schedule."""
        return self._simulator.delete_schedule(schedule_id)

    async def close(self) -> None:
        """There is nothing to give back."""
