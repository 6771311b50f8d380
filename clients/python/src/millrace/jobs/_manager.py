# SPDX-License-Identifier: Apache-2.0
"""`JobManager`: what applications call to hand work over and to see what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sized
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Self, TypeAlias, Unpack

from millrace.jobs._backend import QueueBackend
from millrace.jobs._types import BatchResult, JobOptions, JobStatus, ScheduledJob, fields_of
from millrace.registry import Task
from millrace.types import JobPriority, JobSpec, ScheduleSpec

BATCH_SIZE_MAX: Final = 1000

AnyTask: TypeAlias = str | Task[..., Any]
"""A task by name, or the handler itself, which also says where its jobs wait and how urgent they are."""
Step: TypeAlias = tuple[AnyTask, Iterable[Any], Mapping[str, Any]]


class JobManager:
    """Hands jobs to a queue backend. Task names are positional; whatever else a method does not name goes to the handler."""

    def __init__(self, backend: QueueBackend, options: JobOptions | None = None) -> None:
        self.backend = backend
        self._options: JobOptions = options or {}

    def options(self, **options: Unpack[JobOptions]) -> Self:
        """The same manager with options for the jobs it makes: `jobs.options(timeout=30, labels={…}).enqueue(…)`."""
        fields_of(options)  # refuses what it does not know
        return type(self)(self.backend, {**self._options, **options})

    # ---- making jobs ----

    async def enqueue(
        self, task: AnyTask, /, *args: Any, priority: JobPriority | None = None, queue: str | None = None, **kwargs: Any
    ) -> str:
        """Hands over a job that may start at once; returns its id."""
        options: JobOptions = {}
        if priority is not None:
            options["priority"] = priority
        if queue is not None:
            options["queue"] = queue
        return await self.backend.enqueue(self._spec(task, args, kwargs, options))

    async def enqueue_delayed(self, task: AnyTask, /, delay: timedelta, *args: Any, **kwargs: Any) -> str:
        """Hands over a job that may start after `delay`; returns its id."""
        if not isinstance(delay, timedelta):
            raise TypeError(f"delay is a timedelta, not {type(delay).__name__}")
        if isinstance(kwargs.get("priority"), JobPriority):
            raise TypeError("enqueue_delayed hands priority= to the handler; write jobs.options(priority=…).enqueue_delayed(…)")
        return await self.backend.enqueue(self._spec(task, args, kwargs, {"delay": delay}))

    async def chain(self, steps: Iterable[Step], /) -> str:
        """Makes jobs of which each starts when the one before has succeeded; returns the id of the last."""
        self._refuse_id("chain")
        specs = [self._step(step) for step in steps]
        if not specs:
            raise ValueError("a chain has at least one step")
        return await self.backend.chain(specs)

    async def enqueue_batch(self, task: AnyTask, /, items: Iterable[Any] | AsyncIterable[Any], batch_size: int = 100) -> BatchResult:
        """Makes a job of each item, `batch_size` a call: a dict is keyword arguments, a tuple positional ones."""
        if not 1 <= batch_size <= BATCH_SIZE_MAX:
            raise ValueError(f"batch_size is 1 to {BATCH_SIZE_MAX}, not {batch_size}")
        self._refuse_id("batch")
        result = await self.backend.enqueue_batch(self._items(task, items), batch_size)
        if isinstance(items, Sized) and len(items) != result.total:
            return replace(result, total=len(items))
        return result

    async def _items(self, task: AnyTask, items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[JobSpec]:
        async for item in items if isinstance(items, AsyncIterable) else _each(items):
            if isinstance(item, Mapping):
                yield self._spec(task, (), item, {})
            elif isinstance(item, tuple):
                yield self._spec(task, item, {}, {})
            else:
                raise TypeError(f"an item of a batch is a dict or a tuple, not {type(item).__name__}: {item!r:.100}")

    # ---- recurring jobs ----

    async def schedule(
        self,
        task: AnyTask,
        /,
        cron: str,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Runs the task at each time of a cron expression. Returns the schedule's id: its name, or the task's without one.

        Saying the same again changes nothing; saying something else under the same name changes the schedule.
        """
        return await self._schedule(task, name, args, kwargs, cron=cron)

    async def schedule_interval(
        self,
        task: AnyTask,
        /,
        interval: timedelta,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Runs the task every `interval`; otherwise like `schedule`."""
        return await self._schedule(task, name, args, kwargs, interval=interval)

    async def _schedule(self, task: AnyTask, name: str | None, args: Iterable[Any], kwargs: Mapping[str, Any] | None, **timing: Any) -> str:
        self._refuse_id("schedule")
        job = self._spec(task, tuple(args), kwargs or {}, {})
        zone = self._options.get("time_zone", "")
        return await self.backend.schedule(ScheduleSpec(name=name or job.task, job=job, time_zone=zone, **timing))

    async def list_scheduled(self) -> list[ScheduledJob]:
        """All recurring jobs, by name."""
        return await self.backend.list_scheduled()

    async def unschedule(self, schedule_id: str) -> bool:
        """Removes a recurring job. False: there was none."""
        return await self.backend.unschedule(schedule_id)

    # ---- looking and stopping ----

    async def get_status(self, task_id: str) -> JobStatus:
        """What became of a job so far."""
        return await self.backend.get_status(task_id)

    async def wait_for(self, task_id: str, timeout: float = 60) -> JobStatus:
        """Returns when the job has ended; `WaitTimeout`, a `TimeoutError`, when it has not after `timeout` seconds."""
        return await self.backend.wait_for(task_id, timeout)

    async def cancel(self, task_id: str, terminate: bool = False) -> bool:
        """Cancels a waiting job; asks a running one to stop, or makes it with `terminate`. False: it had ended."""
        return await self.backend.cancel(task_id, terminate)

    # ---- queues ----

    async def queue_length(self, queue: str = "default") -> int:
        """How many jobs of the queue are pending."""
        return await self.backend.queue_length(queue)

    async def purge_queue(self, queue: str = "default") -> int:
        """Drops the jobs of the queue that are pending; returns how many."""
        return await self.backend.purge_queue(queue)

    async def close(self) -> None:
        """Gives back the backend's connections."""
        await self.backend.close()

    # ---- specs ----

    def _refuse_id(self, what: str) -> None:
        if "id" in self._options:
            raise TypeError(f"the option id names one job; a {what} makes several")

    def _step(self, step: Step) -> JobSpec:
        if not isinstance(step, tuple | list) or len(step) != 3:
            raise TypeError(f"a step of a chain is (task, args, kwargs), not {step!r:.100}")
        task, args, kwargs = step
        return self._spec(task, tuple(args), kwargs, {})

    def _spec(self, task: AnyTask, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: JobOptions) -> JobSpec:
        """What the call says goes before what `options()` said, and that before what the task's handler declares."""
        fields = fields_of({**self._options, **options})
        if isinstance(task, str):
            return JobSpec(task, args, kwargs, **fields)  # type: ignore[misc]  # args and kwargs are no options
        return task.apply(JobSpec(task.name, args, kwargs, **fields))  # type: ignore[misc]


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
