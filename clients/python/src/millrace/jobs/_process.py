# SPDX-License-Identifier: Apache-2.0
"""Which manager this process uses: one for each event loop, made when first asked for, of the backend that QUEUE_BACKEND names."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

from millrace._loop import LoopThread
from millrace.errors import InvalidArgument, MillraceError
from millrace.jobs._backend import QueueBackend
from millrace.jobs._manager import AnyTask, JobManager
from millrace.jobs._types import TaskStatus
from millrace.jobs.memory import MemoryQueueBackend
from millrace.jobs.service import MillraceQueueBackend
from millrace.types import JobPriority

T = TypeVar("T")

BackendFactory = Callable[[], QueueBackend]


def _celery() -> QueueBackend:
    # Celery is an extra: imported by those who use it.
    from millrace.jobs.celery import CeleryQueueBackend

    return CeleryQueueBackend()


_BACKENDS: Final[dict[str, BackendFactory]] = {"millrace": MillraceQueueBackend, "memory": MemoryQueueBackend, "celery": _celery}


class TaskFailed(MillraceError):
    """The job whose result was asked for did not succeed."""


class _Process:
    """What one process keeps. A forked child starts with nothing: connections do not survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.managers: dict[asyncio.AbstractEventLoop, JobManager] = {}
        self.memory: QueueBackend | None = None
        self._bridge: tuple[LoopThread, JobManager] | None = None

    def manager(self, loop: asyncio.AbstractEventLoop) -> JobManager:
        """The loop's manager."""
        with self.lock:
            manager = self.managers.get(loop)
            if manager is None:
                for closed in [known for known in self.managers if known.is_closed()]:
                    del self.managers[closed]
                manager = self.managers[loop] = JobManager(self._backend())
            return manager

    def _backend(self) -> QueueBackend:
        """A new backend for each loop, except that all see the same jobs in memory."""
        name = os.environ.get("QUEUE_BACKEND", "millrace")
        if _factory is not None:
            return _factory()
        if name not in _BACKENDS:
            raise InvalidArgument(f"QUEUE_BACKEND is {name!r}; there are {', '.join(_BACKENDS)}", field="QUEUE_BACKEND")
        if name != "memory":
            return _BACKENDS[name]()
        if self.memory is None:
            self.memory = MemoryQueueBackend()
        return self.memory

    def bridge(self) -> tuple[LoopThread, JobManager]:
        """An event loop for callers that have none, and its manager."""

        async def make() -> JobManager:
            return JobManager(self._backend())

        with self.lock:
            if self._bridge is None:
                loop = LoopThread()
                self._bridge = (loop, loop.run(make()))
            return self._bridge

    def end(self) -> None:
        """Ends the bridge; the other managers belong to their loops."""
        with self.lock:
            if self._bridge is not None:
                loop, manager = self._bridge
                self._bridge = None
                try:
                    loop.run(manager.close())
                finally:
                    loop.stop()


_process = _Process()
_factory: BackendFactory | None = None
_abandoned: Final[list[_Process]] = []


def _start_anew() -> None:
    global _process
    _abandoned.append(_process)  # closing what belongs to the parent could disturb it
    _process = _Process()


os.register_at_fork(after_in_child=_start_anew)


def use_backend(factory: BackendFactory | None) -> None:
    """Sets what makes the process's backends, in place of QUEUE_BACKEND, for managers made from now on; None goes back to that."""
    global _factory, _process
    _process.end()
    _factory = factory
    _process = _Process()


async def get_job_manager() -> JobManager:
    """This event loop's manager: `Depends(get_job_manager)` in a route, `await get_job_manager()` elsewhere."""
    return _process.manager(asyncio.get_running_loop())


async def get_queue() -> QueueBackend:
    """The backend below the manager, for those who want it directly."""
    return (await get_job_manager()).backend


async def close_job_manager() -> None:
    """Closes this event loop's manager, when the application ends."""
    manager = _process.managers.pop(asyncio.get_running_loop(), None)
    if manager is not None:
        await manager.close()


async def enqueue(task: AnyTask, /, *args: Any, priority: JobPriority | None = None, queue: str | None = None, **kwargs: Any) -> str:
    """`JobManager.enqueue` without a manager at hand."""
    return await (await get_job_manager()).enqueue(task, *args, priority=priority, queue=queue, **kwargs)


async def enqueue_delayed(task: AnyTask, /, delay: timedelta, *args: Any, **kwargs: Any) -> str:
    """`JobManager.enqueue_delayed` without a manager at hand."""
    return await (await get_job_manager()).enqueue_delayed(task, delay, *args, **kwargs)


def call(function: Callable[[JobManager], Coroutine[Any, Any, T]]) -> T:
    """Calls the manager from code that is not async, on whatever thread, and waits for the answer."""
    loop, manager = _process.bridge()
    if isinstance(manager.backend, MemoryQueueBackend) and _is_in_loop():
        # Perhaps a handler that runs in memory on that very loop, which can't wait for itself; jobs in memory need no loop of their own.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(function(manager))).result()
    return loop.run(function(manager))


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class AsyncResult:
    """A job that code without async has made: its `id`, and what became of it."""

    def __init__(self, id: str) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"

    @property
    def status(self) -> TaskStatus:
        """Where the job is in its life."""
        return call(lambda jobs: jobs.get_status(self.id)).status

    def ready(self) -> bool:
        """The job has ended."""
        return self.status.is_terminal

    def get(self, timeout: float = 60) -> Any:
        """What the handler returned, once it has; TaskFailed when it failed, WaitTimeout when it takes too long."""
        ended = call(lambda jobs: jobs.wait_for(self.id, timeout))
        if ended.status is not TaskStatus.SUCCESS:
            raise TaskFailed(f"job {self.id} {ended.status}: {ended.error or 'no reason given'}", subject=self.id)
        return ended.result
