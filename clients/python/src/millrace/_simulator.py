# SPDX-License-Identifier: Apache-2.0
"""Jobs without a server, for tests: one process, a clock that only `advance()` moves, handlers that run here.

A job whose task is registered runs as soon as its time has come (`at_once`), or when `run_due()` is called; one that nobody handles
stays pending. Retries, chains, schedules, unique keys, expiry and deadlines follow the rules of the service. Not simulated: time limits of
attempts, lost workers, limits of queues, and concurrency keys (one job runs at a time).

Threads: every method may be called from any thread and any event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import heapq
import itertools
import random
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from millrace._convert import new_id, payload_from_pb, schedule_to_pb, spec_to_pb
from millrace._times import delta_from_pb, to_delta
from millrace.context import JobContext, StopReason
from millrace.errors import InvalidArgument, JobExists, JobNotFound, WaitTimeout
from millrace.payload import Codec, Payload
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.registry import Registry, default_registry
from millrace.routing import Routes
from millrace.types import (
    Created,
    Job,
    JobError,
    JobPriority,
    JobSpec,
    JobState,
    QueueCounts,
    RetryPolicy,
    Schedule,
    ScheduleOverlap,
    ScheduleSpec,
    UniqueKey,
)
from millrace.worker._attempt import Attempt, Limits

_NO_ROUTES: Final = Routes(None)
_DEFAULT_RETRY: Final = RetryPolicy(max_attempts=4, backoff="exponential", initial=1, multiplier=2, max=3600, jitter=0.1)
_WAITING: Final = (JobState.PENDING, JobState.SCHEDULED, JobState.RETRYING, JobState.BLOCKED)
_CRON_NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


@dataclass(slots=True)
class _Record:
    """A job, and what the service would keep beside it."""

    job: Job
    spec: JobSpec
    successor: str | None = None
    context: JobContext | None = None
    waiters: list[concurrent.futures.Future[None]] = field(default_factory=list)


@dataclass(slots=True)
class _Recurring:
    """A schedule and its next time."""

    spec: ScheduleSpec
    schedule: Schedule


class Simulator:
    """The engine. `now` is where its clock starts; nothing but `advance()` moves it."""

    def __init__(
        self, registry: Registry = default_registry, *, now: datetime | None = None, at_once: bool = True, codec: Codec | None = None
    ) -> None:
        self.now = now or datetime.now(UTC)
        self.registry = registry
        self.at_once = at_once
        self.codec = codec
        self._records: dict[str, _Record] = {}
        self._schedules: dict[str, _Recurring] = {}
        self._unique: dict[tuple[str, str], tuple[str, datetime | None]] = {}
        self._timers: list[tuple[datetime, int, _Record | _Recurring]] = []
        self._ready: list[tuple[int, int, _Record]] = []
        self._unhandled: dict[str, list[tuple[int, int, _Record]]] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()

    # ---- making jobs ----

    async def create(self, spec: JobSpec, *, batch_id: str = "") -> Created:
        """Creates a job, and runs it if its time has come."""
        with self._lock:
            created = self._create(spec, batch_id=batch_id)
        await self._after_change()
        return created

    async def create_chain(self, steps: Sequence[JobSpec]) -> list[str]:
        """Creates jobs of which each waits for the one before; returns their ids."""
        chain_id = new_id()
        for step in steps:
            spec_to_pb(step, _NO_ROUTES, self.codec)  # one that is refused refuses the chain
        with self._lock:
            ids: list[str] = []
            for index, step in enumerate(steps):
                ids.append(self._create(step, chain_id=chain_id, chain_index=index).id)
                if index:
                    self._records[ids[index - 1]].successor = ids[index]
        await self._after_change()
        return ids

    def _create(self, spec: JobSpec, *, chain_id: str = "", chain_index: int = 0, batch_id: str = "", schedule: str = "") -> Created:
        message = spec_to_pb(spec, _NO_ROUTES, self.codec)  # which refuses what the client would
        job_id = message.id
        there = self._records.get(job_id)
        if there is not None:
            if there.spec != spec:
                raise JobExists(f"there is a job {job_id} with other content", field="id", subject=job_id)
            return Created(job_id, existing=True)
        queue = spec.queue or "default"
        holder = self._unique_holder(spec, queue)
        if holder is not None:
            return Created(holder, existing=True)
        start = spec.run_at or self.now + to_delta(spec.delay or 0, "delay")
        blocked = chain_index > 0
        state = JobState.BLOCKED if blocked else JobState.SCHEDULED if start > self.now else JobState.PENDING
        record = _Record(
            Job(
                id=job_id,
                task=spec.task,
                queue=queue,
                priority=JobPriority.NORMAL if spec.priority is None else JobPriority(spec.priority),
                state=state,
                max_attempts=self._policy(spec).max_attempts or 1,
                created_at=self.now,
                run_at=None if blocked else start,
                expires_at=spec.expires_at or self._later(spec.expires_in),
                deadline=self._later(spec.total_timeout),
                payload=payload_from_pb(message.payload),
                labels=dict(spec.labels),
                unique_key=_unique(spec).key,
                chain_id=chain_id,
                chain_index=chain_index,
                batch_id=batch_id,
                schedule_name=schedule,
                codec=self.codec,
            ),
            spec,
        )
        self._records[job_id] = record
        self._take_unique(record)
        for moment in (start if state is JobState.SCHEDULED else None, record.job.expires_at, record.job.deadline):
            self._set_timer(moment, record)
        if state is JobState.PENDING:
            self._make_ready(record)
        return Created(job_id)

    def _later(self, length: timedelta | float | None) -> datetime | None:
        return None if length is None else self.now + to_delta(length, "length")

    def _set_timer(self, moment: datetime | None, entry: _Record | _Recurring) -> None:
        if moment is not None:
            heapq.heappush(self._timers, (moment, next(self._numbers), entry))

    def _make_ready(self, record: _Record) -> None:
        record.job = replace(record.job, state=JobState.PENDING)
        heapq.heappush(self._ready, (-record.job.priority, next(self._numbers), record))

    # ---- unique keys ----

    def _unique_holder(self, spec: JobSpec, queue: str) -> str | None:
        """The job to answer with because it holds the key; refuses the create where the key says so."""
        unique = _unique(spec)
        holder, until = self._unique.get((queue, unique.key), (None, None))
        if not unique.key or holder is None or (until is not None and until <= self.now):
            return None
        if unique.return_existing:
            return holder
        raise JobExists(f"job {holder} holds the unique key {unique.key!r} in queue {queue!r}", field="unique", subject=holder)

    def _take_unique(self, record: _Record) -> None:
        unique = _unique(record.spec)
        if unique.key:
            until = self._later(unique.period) if unique.scope == "period" else None
            self._unique[record.job.queue, unique.key] = (record.job.id, until)

    def _give_back_unique(self, record: _Record, *scopes: str) -> None:
        unique = _unique(record.spec)
        place = (record.job.queue, unique.key)
        if unique.scope in scopes and self._unique.get(place, ("", None))[0] == record.job.id:
            del self._unique[place]

    # ---- time ----

    async def advance(self, length: timedelta | float) -> None:
        """Moves the clock, stopping at each time at which something is due."""
        end = self.now + to_delta(length, "length")
        while True:
            with self._lock:
                if not self._timers or self._timers[0][0] > end:
                    break
                moment, _, entry = heapq.heappop(self._timers)
                self.now = max(self.now, moment)
                if isinstance(entry, _Record):
                    self._fire_timer(entry)
                else:
                    self._fire_schedule(entry, moment)
            await self._after_change()
        self.now = end

    def _fire_timer(self, record: _Record) -> None:
        job = record.job
        if job.state not in _WAITING:
            return
        if job.deadline is not None and job.deadline <= self.now:
            self._end(record, JobState.EXPIRED, error=JobError("DEADLINE", "its total time-out passed while it waited"))
        elif job.expires_at is not None and job.expires_at <= self.now and job.attempts == 0 and job.state is not JobState.BLOCKED:
            self._end(record, JobState.EXPIRED, error=JobError("EXPIRED", "it was not started in time"))
        elif job.state in (JobState.SCHEDULED, JobState.RETRYING) and job.run_at is not None and job.run_at <= self.now:
            self._make_ready(record)

    # ---- running ----

    async def _after_change(self) -> None:
        if self.at_once:
            await self.run_due()

    async def run_due(self) -> int:
        """Runs what is ready, and what becomes ready by that; returns how many attempts were made."""
        attempts = 0
        while (record := self._take()) is not None:
            await self._attempt(record)
            attempts += 1
        return attempts

    def _take(self) -> _Record | None:
        """Starts the next attempt. What nobody handles is set aside until its task is registered."""
        with self._lock:
            for name in [name for name in self._unhandled if self.registry.get(name) is not None]:
                for entry in self._unhandled.pop(name):
                    heapq.heappush(self._ready, entry)
            while self._ready:
                entry = heapq.heappop(self._ready)
                record = entry[2]
                if record.job.state is not JobState.PENDING:
                    continue
                if self.registry.get(record.job.task) is not None:
                    self._start(record)
                    return record
                self._unhandled.setdefault(record.job.task, []).append(entry)
            return None

    def _start(self, record: _Record) -> None:
        job = record.job
        record.job = job = replace(
            job, state=JobState.RUNNING, attempts=job.attempts + 1, deliveries=job.deliveries + 1, started_at=self.now
        )
        self._give_back_unique(record, "while_waiting")
        previous = self._predecessor(job) if record.spec.wants_previous_result else None
        record.context = JobContext(
            job_id=job.id,
            task=job.task,
            queue=job.queue,
            priority=job.priority,
            attempt=job.attempts,
            max_attempts=job.max_attempts,
            delivery=job.deliveries,
            payload=job.payload or Payload(),
            previous=previous.job.result_payload if previous else None,
            labels=job.labels,
            deadline=job.deadline,
            created_at=job.created_at,
            chain_id=job.chain_id,
            batch_id=job.batch_id,
            codec=self.codec,
        )

    def _predecessor(self, job: Job) -> _Record | None:
        return next((record for record in self._records.values() if record.successor == job.id), None)

    async def _attempt(self, record: _Record) -> None:
        """One attempt, as a worker makes it; the job then goes where the report sends it."""
        assert record.context is not None
        with Attempt(self.registry, record.context, self.codec, Limits()) as attempt:
            result = attempt.call()
            attempt.result = await result if isinstance(result, Coroutine) else result
        assert attempt.ending is not None
        with self._lock:
            self._take_report(record, pb.Report.FromString(attempt.ending.report))
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError  # of the caller, which the handler must not swallow

    def _take_report(self, record: _Record, report: pb.Report) -> None:
        if report.HasField("succeeded"):
            result = payload_from_pb(report.succeeded.result) if report.succeeded.HasField("result") else None
            record.job = replace(record.job, result_payload=result, result_omitted_reason=report.succeeded.result_omitted_reason)
            self._end(record, JobState.SUCCEEDED)
        elif report.HasField("snoozed"):
            record.job = replace(record.job, attempts=record.job.attempts - 1)
            self._put_off(record, JobState.SCHEDULED, delta_from_pb(report.snoozed.delay))
        else:
            self._fail(record, report.failed)

    def _fail(self, record: _Record, failed: pb.Failed) -> None:
        error = JobError(failed.error.type, failed.error.message, failed.error.trace, failed.error.fingerprint)
        policy = self._policy(record.spec)
        if record.job.cancel_requested:
            self._end(record, JobState.CANCELLED, error=error)
        elif failed.permanent or record.job.attempts >= (failed.max_attempts or policy.max_attempts or 1):
            self._end(record, JobState.FAILED, error=error)
        else:
            record.job = replace(record.job, error=error)
            has_delay = failed.HasField("retry_after")
            delay = delta_from_pb(failed.retry_after) if has_delay else _backoff(policy, record.job.attempts)
            self._put_off(record, JobState.RETRYING, delay)

    def _put_off(self, record: _Record, state: JobState, delay: timedelta) -> None:
        if record.job.cancel_requested:
            self._end(record, JobState.CANCELLED)
            return
        record.job = replace(record.job, state=state, run_at=self.now + delay)
        self._set_timer(record.job.run_at, record)

    def _policy(self, spec: JobSpec) -> RetryPolicy:
        """Field by field from the first that sets it: the job, the handler, the service's default."""
        task = self.registry.get(spec.task)
        policy = _DEFAULT_RETRY
        for source in (task.policy.get("retry") if task else None, spec.retry):
            if source is not None:
                given = {name: getattr(source, name) for name in RetryPolicy.__slots__ if getattr(source, name) not in (None, ())}
                policy = replace(policy, **given)
        return policy

    def _end(self, record: _Record, state: JobState, *, error: JobError | None = None) -> None:
        record.job = replace(record.job, state=state, finished_at=self.now, error=error, run_at=None)
        self._give_back_unique(record, "while_waiting", "until_finished")
        for waiter in record.waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(None)
        record.waiters.clear()
        if record.successor is None:
            return
        successor = self._records[record.successor]
        if state is JobState.SUCCEEDED:
            self._unblock(successor)
        elif successor.job.state is JobState.BLOCKED:
            self._end(successor, JobState.CANCELLED, error=JobError("CHAIN_STEP_FAILED", f"step {record.job.chain_index} {state}"))

    def _unblock(self, record: _Record) -> None:
        if record.job.state is not JobState.BLOCKED:
            return
        if record.spec.delay:
            self._put_off(record, JobState.SCHEDULED, to_delta(record.spec.delay, "delay"))
        else:
            self._make_ready(record)

    # ---- looking and stopping ----

    def get(self, job_id: str) -> Job:
        """The job as it is now."""
        try:
            return self._records[str(job_id)].job
        except KeyError:
            raise JobNotFound(f"there is no job {job_id}", subject=str(job_id)) from None

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return [record.job for record in self._records.values()]

    async def wait(self, job_id: str, timeout: float) -> Job:
        """The job when it has ended; WaitTimeout when it has not after `timeout` real seconds."""
        self.get(job_id)
        record = self._records[str(job_id)]
        with self._lock:
            if record.job.is_terminal:
                return record.job
            waiter: concurrent.futures.Future[None] = concurrent.futures.Future()
            record.waiters.append(waiter)
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter), timeout)
        except TimeoutError:
            raise WaitTimeout(f"job {job_id} has not ended after {timeout:g} s; it is {record.job.state}") from None
        return record.job

    async def cancel(self, job_id: str) -> bool:
        """Cancels a waiting job, asks a running one to stop. False: it had ended."""
        self.get(job_id)
        with self._lock:
            record = self._records[str(job_id)]
            if record.job.is_terminal:
                return False
            if record.job.state is JobState.RUNNING:
                record.job = replace(record.job, cancel_requested=True)
                if record.context is not None:
                    record.context.stop(StopReason.CANCEL)
            else:
                self._end(record, JobState.CANCELLED)
        await self._after_change()
        return True

    def counts(self, queue: str) -> QueueCounts:
        """The queue's jobs by state."""
        counts = dict.fromkeys(JobState, 0)
        for record in self._records.values():
            if record.job.queue == queue:
                counts[record.job.state] += 1
        return QueueCounts(**{state.value: number for state, number in counts.items()})

    async def purge(self, queue: str) -> int:
        """Cancels what is pending in the queue."""
        with self._lock:
            pending = [record for record in self._records.values() if record.job.queue == queue and record.job.state is JobState.PENDING]
            for record in pending:
                self._end(record, JobState.CANCELLED, error=JobError("PURGED", "its queue was purged"))
        await self._after_change()
        return len(pending)

    # ---- schedules ----

    def put_schedule(self, spec: ScheduleSpec) -> Schedule:
        """Creates a schedule or changes the one of that name; the same again changes nothing."""
        with self._lock:
            schedule_to_pb(spec, _NO_ROUTES, self.codec)
            there = self._schedules.get(spec.name)
            if there is not None and there.spec == spec:
                return there.schedule
            schedule = Schedule(
                name=spec.name,
                task=spec.job.task,
                queue=spec.job.queue or "default",
                cron=spec.cron,
                interval=None if spec.interval is None else to_delta(spec.interval, "interval"),
                time_zone=spec.time_zone or "UTC",
                overlap=ScheduleOverlap(spec.overlap or ScheduleOverlap.SKIP),
                description=spec.description,
                created_at=self.now,
            )
            entry = _Recurring(spec, replace(schedule, next_run_at=_next_time(schedule, self.now)))
            self._schedules[spec.name] = entry
            self._set_timer(entry.schedule.next_run_at, entry)
            return entry.schedule

    def schedules(self) -> list[Schedule]:
        """All schedules, by name."""
        return [self._schedules[name].schedule for name in sorted(self._schedules)]

    def delete_schedule(self, name: str) -> bool:
        """Removes a schedule. False: there was none."""
        return self._schedules.pop(name, None) is not None

    def _fire_schedule(self, entry: _Recurring, moment: datetime) -> None:
        schedule = entry.schedule
        if self._schedules.get(schedule.name) is not entry:
            return  # it was changed or removed since
        before = self._records.get(schedule.last_job_id)
        busy = before is not None and not before.job.is_terminal
        following = _next_time(schedule, moment)
        if busy and schedule.overlap is not ScheduleOverlap.ALLOW:
            entry.schedule = replace(schedule, next_run_at=following, skipped=schedule.skipped + 1)
        else:
            created = self._create(entry.spec.job, schedule=schedule.name)
            entry.schedule = replace(schedule, next_run_at=following, last_run_at=moment, last_job_id=created.id, runs=schedule.runs + 1)
        self._set_timer(following, entry)


def _unique(spec: JobSpec) -> UniqueKey:
    """The job's unique key; an empty one when it has none."""
    return spec.unique if isinstance(spec.unique, UniqueKey) else UniqueKey(spec.unique or "")


def _next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """The schedule's first time after this one."""
    if schedule.interval is not None:
        return after + schedule.interval
    try:
        cron = schedule.cron or ""
        times = CronSim(_CRON_NAMES.get(cron, cron), after.astimezone(ZoneInfo(schedule.time_zone)))
        following: datetime = next(times)
    except CronSimError as error:
        raise InvalidArgument(f"the cron expression {schedule.cron!r} is not valid: {error}", field="cron") from None
    except StopIteration:
        return None
    return following.astimezone(UTC)


def _backoff(policy: RetryPolicy, attempt: int) -> timedelta:
    """The delay after the attempt of this number."""
    initial = to_delta(policy.initial or 0, "initial")
    if policy.backoff == "list" and policy.delays:
        delay = to_delta(policy.delays[min(attempt, len(policy.delays)) - 1], "delays")
    elif policy.backoff == "linear":
        delay = initial * attempt
    elif policy.backoff == "constant":
        delay = initial
    else:
        delay = initial * float(policy.multiplier or 1) ** (attempt - 1)
    if policy.max is not None:
        delay = min(delay, to_delta(policy.max, "max"))
    return delay * (1 + (policy.jitter or 0) * random.uniform(-1, 1))
