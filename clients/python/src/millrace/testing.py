# SPDX-License-Identifier: Apache-2.0
"""Tests of applications, without a server: `FakeClient` is a Client whose jobs live in this process.

    async def test_signup() -> None:
        client = FakeClient()
        await sign_up(client, "ada@example.org")          # code that creates jobs
        client.assert_created("send_welcome_email", kwargs={"to": "ada@example.org"})
        await client.advance(timedelta(days=3))           # time passes at once
        client.assert_created("send_reminder")

Jobs whose handlers are registered run as soon as their time has come, in the call that makes it so; with `at_once=False` they run when
`run_due()` is called. Retries, snoozes, delays, chains, batches, schedules, unique keys, expiry and cancels follow the service's rules.
What is not simulated (watching, time limits of attempts, concurrency keys, limits of queues) raises NotImplementedError or has no effect.
"""

from __future__ import annotations

import builtins
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn, Unpack

from millrace._convert import spec_to_pb
from millrace._create import JOBS_MAX, each
from millrace._flows import Batches, Chains
from millrace._queues import Queues, Workers
from millrace._schedules import Schedules
from millrace._simulator import Simulator
from millrace._times import Duration, to_delta
from millrace.client import Client, to_spec
from millrace.errors import AlreadyExists, FailedPrecondition, InvalidArgument, MillraceError, NotFound
from millrace.payload import Codec, Payload, decode_call
from millrace.registry import Registry, Task, default_registry
from millrace.routing import Routes
from millrace.types import (
    Batch,
    BatchState,
    Chain,
    ChainState,
    Created,
    CreateOutcome,
    Declared,
    Job,
    JobError,
    JobFields,
    JobFilter,
    JobSpec,
    JobState,
    LogLine,
    Queue,
    QueueSettings,
    Schedule,
    ScheduleSpec,
)

__all__ = ["FakeClient"]


class _NoConnection:
    """Stands where a connection would be: what is not simulated says so instead of looking for a server."""

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError("millrace.testing does not simulate this; test it against a real server (millraced --dev)")


@dataclass(slots=True)
class _Flow:
    """A chain or batch that may still have callbacks to make."""

    members: list[str]
    on_success: JobSpec | None = None
    on_end: JobSpec | None = None
    """Of a chain: when it fails."""
    sealed: bool = True
    done: bool = False
    cancelled: bool = False
    success_id: str = ""
    end_id: str = ""
    last_chunk: int = 0
    """Of a batch."""


class _World:
    """The simulator, and the flows over its jobs."""

    def __init__(self, simulator: Simulator, routes: Routes) -> None:
        self.simulator = simulator
        self.routes = routes
        self.chains: dict[str, _Flow] = {}
        self.batches: dict[str, _Flow] = {}

    def prepared(self, spec: JobSpec) -> JobSpec:
        """Refuses what the client would refuse, and routes."""
        message = spec_to_pb(spec, self.routes, self.simulator.codec)
        return spec.replace(id=message.id, queue=message.queue or None)

    async def create(self, spec: JobSpec, *, batch_id: str = "") -> Created:
        """One job, and what follows from it."""
        created = await self.simulator.create(self.prepared(spec), batch_id=batch_id)
        await self.settle()
        return created

    async def settle(self) -> None:
        """Makes the callbacks of flows that have ended."""
        for flows, is_chain in ((self.chains, True), (self.batches, False)):
            for flow in builtins.list(flows.values()):
                if flow.done or not flow.sealed or not all(self.simulator.get(job_id).is_terminal for job_id in flow.members):
                    continue
                flow.done = True
                succeeded = all(self.simulator.get(job_id).state is JobState.SUCCEEDED for job_id in flow.members)
                if succeeded and flow.on_success is not None:
                    flow.success_id = (await self.create(flow.on_success)).id
                if flow.on_end is not None and not (is_chain and succeeded):
                    flow.end_id = (await self.create(flow.on_end)).id


class _Chains(Chains):
    def __init__(self, world: _World, nowhere: Any) -> None:
        super().__init__(nowhere)
        self._world = world

    async def create(self, steps: Sequence[JobSpec], *, id: str | None = None, on_failure: JobSpec | None = None) -> Chain:
        chain_id = id or str(uuid.uuid4())
        members = await self._world.simulator.create_chain([self._world.prepared(step) for step in steps])
        self._world.chains[chain_id] = _Flow(members, on_end=on_failure)
        await self._world.settle()
        return await self.get(chain_id)

    async def get(self, chain_id: str) -> Chain:
        flow = _known(self._world.chains, chain_id, "chain")
        jobs = [self._world.simulator.get(job_id) for job_id in flow.members]
        failed = next((job for job in jobs if job.is_terminal and job.state is not JobState.SUCCEEDED), None)
        state = ChainState.SUCCEEDED if all(job.state is JobState.SUCCEEDED for job in jobs) else ChainState.RUNNING
        if failed is not None:
            state = ChainState.CANCELLED if failed.state is JobState.CANCELLED else ChainState.FAILED
        succeeded = sum(job.state is JobState.SUCCEEDED for job in jobs)
        return Chain(
            id=chain_id,
            state=state,
            job_ids=tuple(flow.members),
            succeeded=succeeded,
            current_step=min(succeeded, len(jobs) - 1),
            error=failed.error if failed is not None else None,
            on_failure_job_id=flow.end_id,
            result_payload=jobs[-1].result_payload,
            codec=self._world.simulator.codec,
        )

    async def wait(self, chain_id: str, *, timeout: Duration | None = 60.0) -> Chain:
        for job_id in _known(self._world.chains, chain_id, "chain").members:
            await self._world.simulator.wait(job_id, _seconds(timeout))
        return await self.get(chain_id)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Chain]:
        for chain_id in builtins.list(self._world.chains):
            yield await self.get(chain_id)

    async def cancel(self, chain_id: str, *, terminate: bool = False, reason: str = "") -> Chain:
        for job_id in _known(self._world.chains, chain_id, "chain").members:
            await self._world.simulator.cancel(job_id)
        await self._world.settle()
        return await self.get(chain_id)


class _Batches(Batches):
    def __init__(self, world: _World, nowhere: Any) -> None:
        super().__init__(nowhere)
        self._world = world

    async def create(
        self,
        items: Iterable[JobSpec] | AsyncIterable[JobSpec] = (),
        *,
        id: str | None = None,
        description: str = "",
        defaults: JobSpec | None = None,
        on_success: JobSpec | None = None,
        on_complete: JobSpec | None = None,
        chunk_size: int = 1000,
        seal: bool = True,
    ) -> Batch:
        batch_id = id or str(uuid.uuid4())
        flow = self._world.batches[batch_id] = _Flow([], on_success, on_complete, sealed=False)
        outcomes = [await self._take(flow, batch_id, _merged(item, defaults)) async for item in each(items)]
        flow.last_chunk = -(-len(outcomes) // min(max(chunk_size, 1), JOBS_MAX))
        flow.sealed = seal
        await self._world.settle()
        return replace(await self.get(batch_id), description=description, outcomes=tuple(outcomes))

    async def _take(self, flow: _Flow, batch_id: str, item: JobSpec) -> CreateOutcome:
        try:
            created = await self._world.create(item, batch_id=batch_id)
        except InvalidArgument:
            raise
        except MillraceError as error:
            return CreateOutcome("", error=error)
        if not created.existing:
            flow.members.append(created.id)
        return CreateOutcome(created.id, created.existing)

    async def add(self, batch_id: str, chunk: int, items: Sequence[JobSpec], *, last: bool = False) -> builtins.list[CreateOutcome]:
        flow = _known(self._world.batches, batch_id, "batch")
        if chunk < 1:
            raise InvalidArgument(f"chunks are numbered from 1; it is {chunk}", field="chunk")
        if not items:
            raise InvalidArgument(f"items is required: 1 to {JOBS_MAX} of them", field="items")
        if chunk <= flow.last_chunk:
            return []
        if flow.sealed:
            raise FailedPrecondition(f"batch {batch_id} is sealed and takes no more items", field="batch_id")
        if chunk != flow.last_chunk + 1:
            raise InvalidArgument(f"chunk {chunk} came, chunk {flow.last_chunk + 1} is expected", field="chunk")
        outcomes = [await self._take(flow, batch_id, item) for item in items]
        flow.last_chunk = chunk
        flow.sealed = last
        await self._world.settle()
        return outcomes

    async def seal(self, batch_id: str) -> Batch:
        _known(self._world.batches, batch_id, "batch").sealed = True
        await self._world.settle()
        return await self.get(batch_id)

    async def get(self, batch_id: str) -> Batch:
        flow = _known(self._world.batches, batch_id, "batch")
        states = [self._world.simulator.get(job_id).state for job_id in flow.members]
        ended = {state: states.count(state) for state in JobState if state.is_terminal}
        succeeded = ended[JobState.SUCCEEDED]
        state = BatchState.SEALED if flow.sealed else BatchState.OPEN
        if flow.done:
            state = BatchState.CANCELLED if flow.cancelled else BatchState.SUCCEEDED if succeeded == len(states) else BatchState.FAILED
        return Batch(
            id=batch_id,
            state=state,
            total=len(states),
            pending=len(states) - sum(ended.values()),
            succeeded=succeeded,
            failed=ended[JobState.FAILED],
            cancelled=ended[JobState.CANCELLED],
            expired=ended[JobState.EXPIRED],
            on_success_job_id=flow.success_id,
            on_complete_job_id=flow.end_id,
            last_chunk=flow.last_chunk,
        )

    async def wait(self, batch_id: str, *, timeout: Duration | None = 60.0) -> Batch:
        for job_id in builtins.list(_known(self._world.batches, batch_id, "batch").members):
            await self._world.simulator.wait(job_id, _seconds(timeout))
        return await self.get(batch_id)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Batch]:
        for batch_id in builtins.list(self._world.batches):
            yield await self.get(batch_id)

    async def cancel(self, batch_id: str, *, terminate: bool = False, reason: str = "") -> Batch:
        flow = _known(self._world.batches, batch_id, "batch")
        flow.sealed = flow.cancelled = True
        for job_id in flow.members:
            await self._world.simulator.cancel(job_id)
        await self._world.settle()
        return await self.get(batch_id)


class _Schedules(Schedules):
    def __init__(self, world: _World, nowhere: Any) -> None:
        super().__init__(nowhere)
        self._world = world
        self._owners: dict[str, set[str]] = {}

    def _find(self, name: str) -> Schedule | None:
        return next((schedule for schedule in self._world.simulator.schedules() if schedule.name == name), None)

    async def declare(self, owner: str, schedules: Iterable[ScheduleSpec], *, prune: bool = False) -> Declared:
        counts = dict.fromkeys(("created", "updated", "unchanged", "deleted"), 0)
        names = set()
        for spec in schedules:
            names.add(spec.name)
            before = self._find(spec.name)
            after = self._world.simulator.put_schedule(spec)
            counts["created" if before is None else "unchanged" if after is before else "updated"] += 1
        for name in (self._owners.get(owner, set()) - names) if prune else ():
            counts["deleted"] += self._world.simulator.delete_schedule(name)
        self._owners[owner] = names if prune else self._owners.get(owner, set()) | names
        return Declared(**counts)

    async def create(self, spec: ScheduleSpec) -> Schedule:
        before = self._find(spec.name)
        if before is not None and self._world.simulator.put_schedule(spec) is not before:
            raise AlreadyExists(f"there is a schedule {spec.name} with other content", field="name", subject=spec.name)
        return replace(self._world.simulator.put_schedule(spec), existing=before is not None)

    async def put(self, spec: ScheduleSpec) -> Schedule:
        return self._world.simulator.put_schedule(spec)

    async def update(self, spec: ScheduleSpec) -> Schedule:
        await self.get(spec.name)
        return self._world.simulator.put_schedule(spec)

    async def get(self, name: str) -> Schedule:
        schedule = self._find(name)
        if schedule is None:
            raise NotFound(f"there is no schedule {name}", subject=name)
        return schedule

    async def list(self, *, owner: str = "", page_size: int = 0) -> AsyncIterator[Schedule]:
        for schedule in self._world.simulator.schedules():
            if not owner or schedule.name in self._owners.get(owner, ()):
                yield schedule

    async def delete(self, name: str) -> None:
        await self.get(name)
        self._world.simulator.delete_schedule(name)


class _Queues(Queues):
    def __init__(self, world: _World, nowhere: Any) -> None:
        super().__init__(nowhere)
        self._world = world

    async def get(self, name: str) -> Queue:
        return Queue(name=name, paused=False, counts=self._world.simulator.counts(name), settings=QueueSettings())

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Queue]:
        for name in sorted({job.queue for job in self._world.simulator.jobs()}):
            yield await self.get(name)

    async def purge(self, name: str) -> int:
        purged = await self._world.simulator.purge(name)
        await self._world.settle()
        return purged


class FakeClient(Client):
    """A Client without a server. Its clock stands still until `advance()` moves it."""

    def __init__(
        self,
        registry: Registry = default_registry,
        *,
        now: datetime | None = None,
        at_once: bool = True,
        codec: Codec | None = None,
        routes: Mapping[str, str] | None = None,
    ) -> None:
        self._simulator = Simulator(registry, now=now, at_once=at_once, codec=codec)
        self._world = _World(self._simulator, Routes(routes))
        nowhere: Any = _NoConnection()
        self._connection = nowhere
        self.chains = _Chains(self._world, nowhere)
        self.batches = _Batches(self._world, nowhere)
        self.schedules = _Schedules(self._world, nowhere)
        self.queues = _Queues(self._world, nowhere)
        self.workers = Workers(nowhere)

    # ---- for tests ----

    @property
    def now(self) -> datetime:
        """What the clock says."""
        return self._simulator.now

    async def advance(self, length: Duration) -> None:
        """Lets time pass: what becomes due on the way is made and, with `at_once`, run."""
        await self._simulator.advance(length)
        await self._world.settle()

    async def run_due(self) -> int:
        """Runs what is ready, and what becomes ready by that; returns how many attempts that were."""
        attempts = await self._simulator.run_due()
        await self._world.settle()
        return attempts

    def created(self, task: str | Task[..., Any] | None = None, **conditions: Any) -> builtins.list[Job]:
        """The jobs there are, oldest first: of a task, and with these values: `args`, `kwargs`, or anything that a Job has."""
        name = task.name if isinstance(task, Task) else task
        return [job for job in self._simulator.jobs() if name in (None, job.task) and _fits(job, conditions)]

    def assert_created(self, task: str | Task[..., Any], *, count: int | None = None, **conditions: Any) -> Job:
        """Asserts that such a job was created (`count` times, if given) and returns the latest one."""
        found = self.created(task, **conditions)
        if not found or (count is not None and len(found) != count):
            wanted = f"{count if count is not None else 'at least one'} of {task} with {conditions or 'any values'}"
            there = "\n".join(f"  {_told(job)}" for job in self._simulator.jobs()) or "  none"
            raise AssertionError(f"expected {wanted}, found {len(found)}; the jobs are:\n{there}")
        return found[-1]

    def assert_not_created(self, task: str | Task[..., Any], **conditions: Any) -> None:
        """Asserts that no such job was created."""
        found = self.created(task, **conditions)
        if found:
            raise AssertionError("expected none, found:\n" + "\n".join(f"  {_told(job)}" for job in found))

    # ---- the client ----

    @property
    def address(self) -> str:
        """No server's."""
        return "testing"

    async def close(self) -> None:
        """There is nothing to close."""

    async def create(self, task: str | JobSpec | Task[..., Any], /, **fields: Unpack[JobFields]) -> Created:
        """As Client.create; a handler that is registered has run when this returns, if the job's time has come."""
        return await self._world.create(to_spec(task, fields))

    async def create_many(self, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> builtins.list[CreateOutcome]:
        """As Client.create_many."""
        return [outcome async for outcome in self.create_stream(specs)]

    async def create_stream(self, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[CreateOutcome]:
        """As Client.create_stream."""
        async for spec in each(specs):
            try:
                created = await self._world.create(spec)
            except MillraceError as error:
                yield CreateOutcome("" if spec.id is None else str(spec.id), error=error)
            else:
                yield CreateOutcome(created.id, created.existing)

    async def get(self, job_id: str) -> Job:
        """As Client.get."""
        return self._simulator.get(job_id)

    async def log(self, job_id: str) -> builtins.list[LogLine]:
        """Logs are not kept."""
        raise NotImplementedError("millrace.testing keeps no logs of jobs")

    async def wait(self, job_id: str, *, timeout: Duration | None = 60.0) -> Job:
        """As Client.wait; the time-out is real time."""
        return await self._simulator.wait(job_id, _seconds(timeout))

    async def list(self, filter: JobFilter | None = None, *, page_size: int = 0, full: bool = False) -> AsyncIterator[Job]:
        """As Client.list, oldest first."""
        for job in self._simulator.jobs():
            if filter is None or _passes(job, filter):
                yield job

    async def cancel(self, job_id: str, *, terminate: bool = False, reason: str = "") -> bool:
        """As Client.cancel; a running handler can only be asked."""
        accepted = await self._simulator.cancel(job_id)
        await self._world.settle()
        return accepted

    async def cancel_jobs(self, filter: JobFilter, *, terminate: bool = False, reason: str = "") -> int:
        """As Client.cancel_jobs."""
        matches = [job.id async for job in self.list(filter)]
        return sum([await self.cancel(job_id) for job_id in matches])


def _known(flows: dict[str, _Flow], flow_id: str, what: str) -> _Flow:
    try:
        return flows[flow_id]
    except KeyError:
        raise NotFound(f"there is no {what} {flow_id}", subject=flow_id) from None


def _merged(item: JobSpec, defaults: JobSpec | None) -> JobSpec:
    """What the item leaves open, from the batch's defaults."""
    if defaults is None:
        return item
    names = [name for name in JobSpec.__slots__ if name not in ("id", "args", "kwargs", "payload", "labels")]
    missing: dict[str, Any] = {name: getattr(defaults, name) for name in names if not getattr(item, name)}
    return replace(item, labels={**defaults.labels, **item.labels}, **missing)


def _seconds(timeout: Duration | None) -> float:
    """A real time-out; nothing in this process takes a year."""
    return 365.0 * 86400 if timeout is None else to_delta(timeout, "timeout").total_seconds()


def _fits(job: Job, conditions: Mapping[str, Any]) -> bool:
    wanted = dict(conditions)
    args, kwargs = decode_call(job.payload or Payload(), job.codec)
    if "args" in wanted and builtins.list(wanted.pop("args")) != args:
        return False
    if "kwargs" in wanted and wanted.pop("kwargs") != kwargs:
        return False
    return all(getattr(job, name) == value for name, value in wanted.items())


def _told(job: Job) -> str:
    args, kwargs = decode_call(job.payload or Payload(), job.codec)
    inside = ", ".join([*(repr(arg) for arg in args), *(f"{name}={value!r}" for name, value in kwargs.items())])
    error: JobError | None = job.error
    return f"{job.task}({inside}) in {job.queue}, {job.state}{f': {error.type}: {error.message}' if error else ''}"


def _passes(job: Job, filter: JobFilter) -> bool:
    lists: tuple[tuple[Sequence[Any], Any], ...] = (
        (filter.queues, job.queue),
        (filter.tasks, job.task),
        (filter.states, job.state),
        (filter.priorities, job.priority),
        (filter.ids, job.id),
    )
    same = ((filter.batch_id, job.batch_id), (filter.chain_id, job.chain_id), (filter.schedule_name, job.schedule_name))
    return (
        all(not wanted or value in wanted for wanted, value in lists)
        and all(not wanted or value == wanted for wanted, value in same)
        and all(job.labels.get(key) == value for key, value in filter.labels.items())
        and (filter.created_after is None or (job.created_at is not None and job.created_at >= filter.created_after))
        and (filter.created_before is None or (job.created_at is not None and job.created_at < filter.created_before))
    )
