# SPDX-License-Identifier: Apache-2.0
"""Carries jobs by Celery, for fleets that still run it (the extra `celery`).

Jobs go to workers that Celery's own tools run; recurring ones are kept by celery-redbeat, so `celery beat -S
redbeat.RedBeatScheduler` has to run too. What Celery can't do raises `NotSupported`: docs/from-celery.md has the table.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from celery import Celery, chain, states
from celery.canvas import Signature
from celery.result import AsyncResult
from celery.schedules import ParseException, crontab
from celery.schedules import schedule as every
from kombu.exceptions import OperationalError
from redbeat import RedBeatSchedulerEntry
from redbeat.schedulers import RedBeatConfig, ensure_conf, get_redis
from redis.exceptions import RedisError

from millrace._times import to_delta
from millrace.errors import InvalidArgument, Unavailable, WaitTimeout
from millrace.jobs._types import BatchResult, JobStatus, NotSupported, ScheduledJob, TaskStatus, describe_interval
from millrace.types import NO_PAYLOAD, Duration, JobPriority, JobSpec, ScheduleSpec

T = TypeVar("T")

_STATUS = {
    states.PENDING: TaskStatus.PENDING,
    states.RECEIVED: TaskStatus.PENDING,
    states.STARTED: TaskStatus.RUNNING,
    states.RETRY: TaskStatus.RETRYING,
    states.SUCCESS: TaskStatus.SUCCESS,
    states.FAILURE: TaskStatus.FAILED,
    states.REVOKED: TaskStatus.CANCELLED,
}

_UNSUPPORTED = ("total_timeout", "retry", "labels", "unique", "concurrency", "retention", "wants_previous_result")

# On Redis, Celery takes small numbers first and has a list for each of 0, 3, 6 and 9.
_REDIS_PRIORITY = {JobPriority.CRITICAL: 0, JobPriority.HIGH: 3, JobPriority.NORMAL: 6, JobPriority.LOW: 9}

# A RuntimeError is how Celery says that the result backend has not come back.
_UNREACHABLE = (OperationalError, RedisError, ConnectionError, RuntimeError)
_RESULT_RETRIES = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}

# How often the result of a job is looked for while somebody waits.
_POLL_MIN_S, _POLL_MAX_S = 0.02, 0.5


class CeleryQueueBackend:
    """Carries jobs by Celery. Without an `app` of yours, one is made from CELERY_BROKER_URL and CELERY_RESULT_BACKEND.

    With the app that your workers load, bare task names are looked up in it: "send_email" finds "shop.tasks.send_email".
    """

    def __init__(self, app: Celery | None = None) -> None:
        self._owns_app = app is None
        self.app = app or _app_of_environment()
        scheme = str(self.app.conf.broker_url or "").partition(":")[0]
        self._on_redis = scheme in ("redis", "rediss", "sentinel", "unix", "redis+socket")
        if "redbeat_redis_url" not in self.app.conf and self._on_redis:
            self.app.conf.redbeat_redis_url = self.app.conf.broker_url

    # ---- making jobs ----

    async def enqueue(self, job: JobSpec, /) -> str:
        """Sends the job's message to the broker."""
        return await self._call(self._send, self._signature(job))

    async def enqueue_batch(self, jobs: AsyncIterator[JobSpec], /, chunk_size: int) -> BatchResult:
        """Sends the jobs one by one; Celery knows no batches, so the id is only a name."""
        total = enqueued = 0
        error = None
        waiting: list[Signature[Any]] = []
        async for job in jobs:
            total += 1
            waiting.append(self._signature(job))
            if len(waiting) == chunk_size:
                sent, error = await asyncio.to_thread(self._send_many, waiting)
                enqueued += sent
                waiting = []
                if error:
                    break
        else:
            sent, error = await asyncio.to_thread(self._send_many, waiting)
            enqueued += sent
        return BatchResult(total, enqueued, str(uuid.uuid4()), error)

    async def chain(self, steps: Sequence[JobSpec], /) -> str:
        """Sends the first step's message, which carries the others."""
        return await self._call(self._send, chain(*[self._signature(step) for step in steps]))

    def _signature(self, job: JobSpec) -> Signature[Any]:
        return Signature(
            self._full_name(job.task), args=tuple(job.args), kwargs=dict(job.kwargs), options=self._options(job),
            app=self.app, immutable=True,
        )  # fmt: skip

    def _full_name(self, name: str) -> str:
        """The name under which the app knows the task: the bare one may stand for exactly one with a module before it."""
        if "." in name or name in self.app.tasks:
            return name
        found = [full for full in self.app.tasks if full.endswith(f".{name}")]
        if len(found) > 1:
            raise InvalidArgument(f"the task name {name!r} is ambiguous in this Celery app: {', '.join(sorted(found))}")
        return found[0] if found else name

    def _options(self, job: JobSpec) -> dict[str, Any]:
        unsupported = [name for name in _UNSUPPORTED if getattr(job, name)] + ["payload"] * (job.payload is not NO_PAYLOAD)
        if unsupported:
            raise NotSupported(f"Celery can't do {', '.join(unsupported)}; the millrace backend can", field=unsupported[0])
        priority = JobPriority.NORMAL if job.priority is None else JobPriority(job.priority)
        options = {
            "task_id": str(job.id or uuid.uuid4()),
            "queue": job.queue,
            "priority": _REDIS_PRIORITY[priority] if self._on_redis else int(priority),
            "countdown": _seconds(job.delay),
            "eta": job.run_at,
            "expires": job.expires_at or _seconds(job.expires_in),
            "time_limit": _seconds(job.attempt_timeout) or None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def _send(self, signature: Signature[Any]) -> str:
        return str(signature.apply_async().id)

    def _send_many(self, signatures: Sequence[Signature[Any]]) -> tuple[int, str | None]:
        for sent, signature in enumerate(signatures):
            try:
                signature.apply_async()
            except _UNREACHABLE as error:
                return sent, f"the Celery broker can't be reached: {error}"
        return len(signatures), None

    # ---- looking and stopping ----

    async def get_status(self, task_id: str) -> JobStatus:
        """What the result backend knows. An id that Celery never saw looks pending."""
        return await self._call(self._status, task_id)

    def _status(self, task_id: str) -> JobStatus:
        meta: Mapping[str, Any] = self.app.backend.get_task_meta(task_id)
        status = _STATUS.get(meta["status"], TaskStatus.RUNNING)
        if status is TaskStatus.SUCCESS:
            return JobStatus(task_id, status, meta["result"])
        problem = meta["result"]
        if status is TaskStatus.CANCELLED or not isinstance(problem, BaseException):
            return JobStatus(task_id, status)
        return JobStatus(task_id, status, error=f"{type(problem).__name__}: {problem}")

    async def wait_for(self, task_id: str, timeout: float) -> JobStatus:
        """Looks again and again until the result backend has the job's end."""
        end = time.monotonic() + timeout
        pause = _POLL_MIN_S
        while True:
            status = await self.get_status(task_id)
            if status.status.is_terminal:
                return status
            left = end - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"job {task_id} has not ended after {timeout:g} s; it is {status.status}")
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _POLL_MAX_S)

    async def cancel(self, task_id: str, terminate: bool = False) -> bool:
        """Tells the workers that run now to drop the job, or with `terminate` to kill it."""
        if (await self.get_status(task_id)).status.is_terminal:
            return False
        await self._call(AsyncResult(task_id, app=self.app).revoke, terminate=terminate)
        return True

    # ---- queues ----

    async def queue_length(self, queue: str) -> int:
        """Messages in the broker's queue; what workers have prefetched is not among them."""
        return await self._call(self._queue_length, queue)

    def _queue_length(self, queue: str) -> int:
        with self.app.connection_or_acquire() as connection:
            channel = connection.default_channel
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0

    async def purge_queue(self, queue: str) -> int:
        """Drops the messages of the broker's queue."""
        return await self._call(self._purge_queue, queue)

    def _purge_queue(self, queue: str) -> int:
        with self.app.connection_or_acquire() as connection:
            try:
                return int(connection.default_channel.queue_purge(queue) or 0)
            except connection.channel_errors:
                return 0

    # ---- recurring jobs ----

    async def schedule(self, schedule: ScheduleSpec, /) -> str:
        """Keeps the schedule in Redis, where celery-redbeat finds it."""
        if schedule.time_zone:
            raise NotSupported("celery-redbeat's schedules follow the app's own time zone", field="time_zone")
        job = schedule.job
        entry = RedBeatSchedulerEntry(
            schedule.name, self._full_name(job.task), _timing(self.app, schedule), list(job.args), dict(job.kwargs),
            options={name: value for name, value in self._options(job).items() if name != "task_id"}, app=self.app,
        )  # fmt: skip
        await self._call(entry.save)
        return schedule.name

    async def list_scheduled(self) -> list[ScheduledJob]:
        """What celery-redbeat keeps."""
        return await self._call(self._entries)

    def _entries(self) -> list[ScheduledJob]:
        conf: RedBeatConfig = ensure_conf(self.app)
        keys = get_redis(self.app).zrange(conf.schedule_key, 0, -1)
        found = []
        for key in keys:
            try:
                entry = RedBeatSchedulerEntry.from_key(key, app=self.app)
            except KeyError:
                continue  # removed since the keys were read
            found.append(ScheduledJob(entry.name, entry.name, _describe(entry.schedule), _next_run(entry)))
        return sorted(found, key=lambda job: job.name)

    async def unschedule(self, schedule_id: str) -> bool:
        """Takes it out of celery-redbeat."""
        return await self._call(self._remove, schedule_id)

    def _remove(self, name: str) -> bool:
        conf: RedBeatConfig = ensure_conf(self.app)
        try:
            RedBeatSchedulerEntry.from_key(conf.key_prefix + name, app=self.app).delete()
        except KeyError:
            return False
        return True

    async def close(self) -> None:
        """Closes the app that was made here; one of yours stays open."""
        if self._owns_app:
            await asyncio.to_thread(self.app.close)

    async def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Celery blocks, so it is called in a thread; its connection errors become ours."""
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except _UNREACHABLE as error:
            raise Unavailable(f"the Celery broker can't be reached: {error}") from error


def _app_of_environment() -> Celery:
    broker = os.environ.get("CELERY_BROKER_URL")
    if not broker:
        raise InvalidArgument("QUEUE_BACKEND=celery needs CELERY_BROKER_URL, as redis://localhost:6379/1")
    app = Celery("millrace", broker=broker, backend=os.environ.get("CELERY_RESULT_BACKEND") or broker, set_as_current=False)
    app.conf.task_default_queue = "default"
    app.conf.result_backend_transport_options = {"retry_policy": _RESULT_RETRIES}
    return app


def _seconds(length: Duration | None) -> float | None:
    return None if length is None else to_delta(length, "length").total_seconds()


def _timing(app: Celery, schedule: ScheduleSpec) -> every | crontab:
    if schedule.cron is None:
        return every(to_delta(schedule.interval or 0, "interval"), app=app)
    fields = schedule.cron.split()
    if len(fields) != 5:
        raise NotSupported(f"Celery's cron expressions have five fields and no @names, not {schedule.cron!r}", field="cron")
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise NotSupported(
            f"Celery runs {schedule.cron!r} when both day fields match, cron when either does; restrict one of them", field="cron"
        )
    try:
        return crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, app=app)
    except (ParseException, ValueError) as error:
        raise InvalidArgument(f"the cron expression {schedule.cron!r} is not valid: {error}", field="cron") from error


def _next_run(entry: RedBeatSchedulerEntry) -> datetime | None:
    left: timedelta | None = entry.schedule.remaining_estimate(entry.last_run_at or entry.default_now())
    if left is None:
        return None
    # Celery computes the time left from now, so what it adds up to can miss the full second.
    return (datetime.now(UTC) + max(left, timedelta()) + timedelta(milliseconds=500)).replace(microsecond=0)


def _describe(timing: Any) -> str:
    if isinstance(timing, crontab):
        fields = ("_orig_minute", "_orig_hour", "_orig_day_of_month", "_orig_month_of_year", "_orig_day_of_week")
        return " ".join(str(getattr(timing, field)) for field in fields)
    return describe_interval(timing.run_every) if isinstance(timing, every) else str(timing)  # type: ignore[attr-defined]
