# SPDX-License-Identifier: Apache-2.0
"""Carries jobs by the Millrace service: the backend for production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from millrace._convert import new_id
from millrace._flows import OUTCOME_NOT_KEPT
from millrace.client import Client
from millrace.errors import MillraceError, NotFound
from millrace.jobs._types import BatchResult, JobStatus, ScheduledJob
from millrace.types import JobSpec, ScheduleSpec


class MillraceQueueBackend:
    """Carries jobs by the service at MILLRACE_ADDRESS, or by the one that `client` speaks to."""

    def __init__(self, client: Client | None = None) -> None:
        self._owns_client = client is None
        self.client = client or Client()

    async def enqueue(self, job: JobSpec, /) -> str:
        """Creates a job; when this returns, it is durable."""
        return (await self.client.create(job)).id

    async def enqueue_batch(self, jobs: AsyncIterator[JobSpec], /, chunk_size: int) -> BatchResult:
        """Creates a batch, and seals it whatever happens."""
        batch_id = new_id()
        total = 0

        async def counted() -> AsyncIterator[JobSpec]:
            nonlocal total
            async for job in jobs:
                total += 1
                yield job

        try:
            batch = await self.client.batches.create(counted(), id=batch_id, chunk_size=chunk_size)
        except MillraceError as refusal:
            return BatchResult(total, await self._seal(batch_id), batch_id, str(refusal))
        except BaseException:
            await self._seal(batch_id)
            raise
        errors = [outcome.error for outcome in batch.outcomes if outcome.error is not None]
        refusals = [error for error in errors if getattr(error, "reason", None) != OUTCOME_NOT_KEPT]
        if len(batch.outcomes) == total and len(refusals) == len(errors):
            return BatchResult(total, total - len(refusals), batch_id, str(refusals[0]) if refusals else None)
        # An answer was lost, and with it the outcomes in it: the batch itself knows how many members it has.
        lost = (
            f"{total - batch.total} of {total} items are no members: they were refused or there already, and the answer that told was lost"
        )
        return BatchResult(total, batch.total, batch_id, str(refusals[0]) if refusals else lost if batch.total < total else None)

    async def _seal(self, batch_id: str) -> int:
        """Closes a batch that was cut off, so that it can end; returns how many items it has."""
        try:
            return (await self.client.batches.seal(batch_id)).total
        except NotFound:
            return 0

    async def chain(self, steps: Sequence[JobSpec], /) -> str:
        """Creates all steps at once; the service starts each when the one before has succeeded."""
        return (await self.client.chains.create(steps)).job_ids[-1]

    async def schedule(self, schedule: ScheduleSpec, /) -> str:
        """Creates the schedule, or changes the one of that name."""
        return (await self.client.schedules.put(schedule)).name

    async def get_status(self, task_id: str) -> JobStatus:
        """What became of a job."""
        return JobStatus.of(await self.client.get(task_id))

    async def wait_for(self, task_id: str, timeout: float) -> JobStatus:
        """Returns when the job has ended; the service tells, nobody polls."""
        return JobStatus.of(await self.client.wait(task_id, timeout=timeout))

    async def cancel(self, task_id: str, terminate: bool = False) -> bool:
        """Cancels a waiting job; asks a running one to stop, or has its worker kill it with `terminate`."""
        return await self.client.cancel(task_id, terminate=terminate)

    async def queue_length(self, queue: str) -> int:
        """How many jobs of the queue are pending."""
        return (await self.client.queues.get(queue)).counts.pending

    async def purge_queue(self, queue: str) -> int:
        """Cancels the jobs of the queue that are pending."""
        return await self.client.queues.purge(queue)

    async def list_scheduled(self) -> list[ScheduledJob]:
        """All schedules, by name."""
        return [ScheduledJob.of(schedule) async for schedule in self.client.schedules.list()]

    async def unschedule(self, schedule_id: str) -> bool:
        """Removes a schedule; the jobs that it made stay."""
        try:
            await self.client.schedules.delete(schedule_id)
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        """Closes the client that was made here; one of yours stays open."""
        if self._owns_client:
            await self.client.close()
