# SPDX-License-Identifier: Apache-2.0
"""What the contract's tests are given: a backend with what stands behind it."""

import asyncio
import inspect
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from processes import SOON_S

from millrace.jobs import JobManager, JobStatus, TaskStatus
from millrace.jobs.memory import MemoryQueueBackend


@dataclass
class Stack:
    """A backend with what stands behind it, and what only tests want of it."""

    name: str
    jobs: JobManager
    folder: pathlib.Path
    idle_queue: str
    """A queue that nobody serves."""

    def file(self, name: str = "notes") -> str:
        return str(self.folder / name)

    def notes(self, name: str = "notes") -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    async def finish(self, task_id: str) -> JobStatus:
        return await self.jobs.wait_for(task_id, timeout=SOON_S)

    async def let_pass(self, seconds: float) -> None:
        """In memory, time passes when told to; elsewhere tests wait for what should happen."""
        if isinstance(self.jobs.backend, MemoryQueueBackend):
            await self.jobs.backend.advance(seconds)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for a condition, which may be async, with a deadline."""
        async with asyncio.timeout(SOON_S):
            while not await _answer(condition):  # it is another process that makes it true
                await asyncio.sleep(0.05)

    async def until_status(self, task_id: str, status: TaskStatus) -> JobStatus:
        async def reached() -> bool:
            return (await self.jobs.get_status(task_id)).status is status

        await self.until(reached, f"job {task_id} is {status}")
        return await self.jobs.get_status(task_id)

    async def until_reserved(self, queue: str) -> None:
        """Celery's worker takes one message ahead of its slot: waits until it has."""

        async def taken() -> bool:
            return await self.jobs.queue_length(queue) == 0

        if self.name == "celery":
            await self.until(taken, "the message is taken")


async def _answer(condition: Callable[[], Any]) -> Any:
    answer = condition()
    return await answer if inspect.isawaitable(answer) else answer
