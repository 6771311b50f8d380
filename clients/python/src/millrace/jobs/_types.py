# SPDX-License-Identifier: Apache-2.0
"""What applications say of a job and what they are told: options, statuses, schedules, results of a batch."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict, cast
from uuid import UUID

from millrace.errors import MillraceError
from millrace.types import ConcurrencyKey, Duration, Job, JobFields, JobPriority, JobState, RetryPolicy, Schedule, UniqueKey


class NotSupported(MillraceError):
    """The chosen queue backend can't do what was asked."""

    code = "UNIMPLEMENTED"


class TaskStatus(enum.StrEnum):
    """Where a job is in its life. Each member equals its string: `TaskStatus.SUCCESS == "success"`."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """The job has ended and will not change, unless a person retries it."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED)


_STATUS: Final = {JobState.SUCCEEDED: TaskStatus.SUCCESS}  # the others have the same name


class JobOptions(TypedDict, total=False):
    """Everything about a job except its task and arguments. What is left out, the service chooses.

    A span is a `timedelta`, or seconds.
    """

    id: str | UUID
    """A UUID of yours, so that sending the same job twice makes one. Default: a new one."""
    queue: str
    """Where it waits. Default "default"."""
    priority: JobPriority | int
    """How urgent it is. Default NORMAL."""
    delay: Duration
    """It starts so much later."""
    run_at: datetime
    """It starts at this time."""
    expires: Duration | datetime
    """Not started by then, or within this span: EXPIRED."""
    timeout: Duration
    """One attempt may take so long. Default 30 min; 0 = for ever."""
    total_timeout: Duration
    """From creation to end, all attempts and waits included."""
    retry: RetryPolicy
    """How often and how soon it is tried again. Default: what its handler declares."""
    unique_key: str | UniqueKey
    """At most one job of the queue that has not ended holds it; the next is refused."""
    concurrency_key: str | ConcurrencyKey
    """At most one job of the queue with this key runs at a time."""
    labels: Mapping[str, str]
    """At most 16, to find it by."""
    retention: Duration
    """How long it is kept once it has ended."""
    time_zone: str
    """Of a cron schedule, as "Europe/Berlin". Default UTC."""


_RENAMED: Final = {"timeout": "attempt_timeout", "unique_key": "unique", "concurrency_key": "concurrency"}


def fields_of(options: JobOptions) -> JobFields:
    """The options as fields of a `JobSpec`; an error names the one at fault."""
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name not in JobOptions.__annotations__:
            raise TypeError(f"there is no job option {name!r}; there are {', '.join(JobOptions.__annotations__)}")
        if name == "expires":
            name = "expires_at" if isinstance(value, datetime) else "expires_in"
        if name == "priority":
            value = JobPriority(cast("int", value))
        if name != "time_zone":
            fields[_RENAMED.get(name, name)] = value
    return cast("JobFields", fields)


@dataclasses.dataclass(frozen=True, slots=True)
class JobStatus:
    """What became of a job: `result` once it succeeded, `error` ("Type: message") once it failed."""

    id: str
    status: TaskStatus
    result: Any = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job) -> JobStatus:
        """The same, of a job of the service."""
        error = f"{job.error.type}: {job.error.message}" if job.error else None
        return cls(job.id, _STATUS.get(job.state) or TaskStatus(job.state), job.result, error)


@dataclasses.dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of `enqueue_batch`: `enqueued` of `total` items were taken; if not all, `error` tells why."""

    total: int
    enqueued: int
    batch_id: str
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A recurring job: `schedule` is its cron expression, or "every 5m" and the like; `next_run` is None when none comes."""

    id: str
    name: str
    schedule: str
    next_run: datetime | None

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduledJob:
        """The same, of a schedule of the service."""
        when = schedule.cron if schedule.interval is None else describe_interval(schedule.interval)
        return cls(schedule.name, schedule.name, when or "", schedule.next_run_at)


def describe_interval(interval: timedelta) -> str:
    """How a schedule by interval is shown: 'every 1h30m'."""
    seconds = interval.total_seconds()
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            parts.append(f"{int(seconds // size)}{unit}")
            seconds %= size
    if seconds or not parts:
        parts.append(f"{seconds:g}s")
    return "every " + "".join(parts)
