# SPDX-License-Identifier: Apache-2.0
"""The ways in: many creates in one call."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import grpc.aio

from millrace import _otel
from millrace._call import Connection, raise_end
from millrace._channel import error_of_call, error_of_status
from millrace._convert import spec_to_pb
from millrace.errors import DeadlineExceeded, InternalError, InvalidArgument, MillraceError, Unavailable
from millrace.proto.v1 import job_pb2
from millrace.proto.v1 import job_service_pb2 as messages
from millrace.proto.v1.job_service_pb2_grpc import JobServiceStub
from millrace.types import Created, CreateOutcome, JobSpec

JOBS_MAX: Final = 1000
BYTES_MAX: Final = 3 * 1024 * 1024
_TURN_JOBS: Final = 50
_STREAM_JOBS: Final = 250
_STREAM_AHEAD: Final = 8


def outcome_from_pb(outcome: messages.CreateOutcome, index: int) -> CreateOutcome:
    """Our outcome. The field at fault is told without the job's place in the call: the outcome belongs to the job."""
    if not outcome.HasField("error"):
        return CreateOutcome(outcome.id, outcome.existing)
    error = error_of_status(outcome.error)
    if error.field is not None:
        error.field = error.field.removeprefix(f"jobs[{index}].").removeprefix(f"items[{index}].")
    return CreateOutcome(outcome.id, outcome.existing, error)


Slot = job_pb2.JobSpec | CreateOutcome
"""A job to send, or why it can't be sent."""


class Chunker:
    """Gathers jobs into calls of at most so many jobs and bytes."""

    def __init__(self, jobs_max: int = JOBS_MAX) -> None:
        self._jobs_max = jobs_max
        self._slots: list[Slot] = []
        self._bytes = 0

    def add(self, slot: Slot) -> list[Slot] | None:
        """Takes a job; returns a chunk when this one begins the next."""
        size = slot.ByteSize() + 8 if isinstance(slot, job_pb2.JobSpec) else 0
        full = None
        if self._slots and (len(self._slots) >= self._jobs_max or self._bytes + size > BYTES_MAX):
            full = self.rest()
        self._slots.append(slot)
        self._bytes += size
        return full

    def rest(self) -> list[Slot]:
        """What has been gathered."""
        slots, self._slots, self._bytes = self._slots, [], 0
        return slots


def jobs_of(slots: list[Slot]) -> list[job_pb2.JobSpec]:
    """Those that can be sent."""
    return [slot for slot in slots if isinstance(slot, job_pb2.JobSpec)]


def outcomes_of(jobs: Sequence[job_pb2.JobSpec], answers: Sequence[messages.CreateOutcome]) -> list[CreateOutcome]:
    """One for each job in order: a job that the server left out did not come about as far as anybody knows."""
    outcomes = [outcome_from_pb(answer, index) for index, answer in enumerate(answers[: len(jobs)])]
    for job in jobs[len(outcomes) :]:
        fault = f"the server answered {len(jobs)} jobs with {len(answers)} outcomes: the one of this job is missing"
        outcomes.append(CreateOutcome(job.id, error=InternalError(fault)))
    return outcomes


def _outcomes(slots: list[Slot], answers: Sequence[messages.CreateOutcome]) -> Iterator[CreateOutcome]:
    """Of all slots in order, given the answers for the jobs among them."""
    answered = iter(outcomes_of(jobs_of(slots), answers))
    for slot in slots:
        yield slot if isinstance(slot, CreateOutcome) else next(answered)


def _tell(error: MillraceError, known: Iterable[CreateOutcome], slots: Iterable[Slot]) -> None:
    """Adds to the error of a call what became of each job: those without an answer have the error itself."""
    unknown = (slot if isinstance(slot, CreateOutcome) else CreateOutcome(slot.id, error=error) for slot in slots)
    error.outcomes = (*known, *unknown)


@dataclass(eq=False, slots=True)
class _Create:
    """A create of one caller, who waits for it."""

    job: job_pb2.JobSpec
    future: asyncio.Future[Created]
    is_sent: bool = False

    def fail(self, error: MillraceError) -> None:
        """Unless it has ended."""
        if not self.future.done():
            _tell(error, (), [self.job])
            self.future.set_exception(error)

    def expire(self, timeout_s: float) -> None:
        """The caller's time is over."""
        if self.is_sent:
            self.fail(DeadlineExceeded(f"the server did not answer within {timeout_s:g} s; the job may have been created"))
        else:
            self.fail(DeadlineExceeded(f"the create waited {timeout_s:g} s for those before it, and was not sent"))


class Coalescer:
    """Sends creates: at once when no call is under way, otherwise together with all others that came meanwhile, as one CreateJobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[_Create] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def create(self, job: job_pb2.JobSpec) -> Created:
        """One job; returns when it is durable. Its time-out counts from now on, whenever it is sent."""
        loop = asyncio.get_running_loop()
        create = _Create(job, loop.create_future())
        timer = loop.call_later(self._connection.timeout_s, create.expire, self._connection.timeout_s)
        self._waiting.append(create)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        try:
            return await create.future
        finally:
            timer.cancel()

    def _take(self) -> list[_Create]:
        """The next call's jobs; those whose callers have left are dropped."""
        taken: list[_Create] = []
        size = 0
        while self._waiting and len(taken) < JOBS_MAX:
            create = self._waiting[0]
            size += create.job.ByteSize() + 8
            if taken and size > BYTES_MAX:
                break
            self._waiting.popleft()
            if not create.future.done():
                create.is_sent = True
                taken.append(create)
        return taken

    async def _send_all(self) -> None:
        try:
            while taken := self._take():
                await self._send(taken)
        finally:
            self._sender = None

    async def _send(self, taken: list[_Create]) -> None:
        jobs = [create.job for create in taken]
        try:
            stub = self._connection.stub(JobServiceStub)
            response = await self._connection.call(stub.CreateJobs, messages.CreateJobsRequest(jobs=jobs), of_job=True)
        except BaseException as error:
            for create in taken:
                create.fail(copy.copy(error) if isinstance(error, MillraceError) else MillraceError(f"the create failed: {error!r}"))
            if not isinstance(error, Exception):
                raise
            return
        for create, outcome in zip(taken, outcomes_of(jobs, response.outcomes), strict=True):
            if outcome.error is not None:
                create.fail(cast(MillraceError, outcome.error))
            elif not create.future.done():
                create.future.set_result(Created(outcome.id, outcome.existing))


async def each(specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[JobSpec]:
    """Of either kind of iterable. One that never waits lets the loop's other tasks run now and then, the call under way among them."""
    if isinstance(specs, AsyncIterable):
        async for spec in specs:
            yield spec
    else:
        for index, spec in enumerate(specs):
            if index % _TURN_JOBS == _TURN_JOBS - 1:
                await asyncio.sleep(0)
            yield spec


class Maker:
    """Makes messages of specs. What can't be written is an outcome of its own, so that it does not hold up the others."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trace = _otel.trace_context()

    def slot(self, spec: JobSpec) -> Slot:
        """The message, or why there is none."""
        try:
            return traced(spec_to_pb(spec, self._connection.routes, self._connection.codec), self._trace)
        except InvalidArgument as error:
            return CreateOutcome("" if spec.id is None else str(spec.id), error=error)


class OneAhead:
    """Runs one call at a time, in the background, so that the next one can be made meanwhile. Leaving it waits for the last: also when
    its user fails, since what was sent is not taken back. Only cancelling ends the call."""

    def __init__(self) -> None:
        self._call: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def run(self, call: Coroutine[Any, Any, None]) -> None:
        """Starts a call once the one before has ended; raises what that one raised."""
        try:
            if self._call is not None:
                await self._call
        except BaseException:
            call.close()
            raise
        self._call = asyncio.create_task(call)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._call is None:
            return
        if kind is None:
            await self._call
            return
        if not issubclass(kind, Exception):
            self._call.cancel()
        await asyncio.gather(self._call, return_exceptions=True)


async def create_many(connection: Connection, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> list[CreateOutcome]:
    """As few calls as the limits allow, one after the other; while one is under way, the next one's jobs are made."""
    outcomes: list[CreateOutcome] = []
    unanswered: deque[Slot] = deque()
    chunker = Chunker()
    maker = Maker(connection)

    async def send(slots: list[Slot]) -> None:
        request = messages.CreateJobsRequest(jobs=jobs_of(slots))
        answers: Any = ()
        if request.jobs:
            answers = (await connection.call(connection.stub(JobServiceStub).CreateJobs, request, of_job=True)).outcomes
        outcomes.extend(_outcomes(slots, answers))
        for _ in slots:
            unanswered.popleft()

    try:
        async with OneAhead() as calls:
            async for spec in each(specs):
                slot = maker.slot(spec)
                unanswered.append(slot)
                if full := chunker.add(slot):
                    await calls.run(send(full))
            if rest := chunker.rest():
                await calls.run(send(rest))
    except MillraceError as error:
        _tell(error, outcomes, unanswered)
        raise
    return outcomes


def traced(job: job_pb2.JobSpec, trace: tuple[str, str]) -> job_pb2.JobSpec:
    """Adds the trace context, unless the job has one."""
    if trace[0] and not job.traceparent:
        job.traceparent, job.tracestate = trace
    return job


class _Stream:
    """One CreateJobsStream with some messages ahead of their answers."""

    def __init__(self, connection: Connection) -> None:
        self.unanswered: deque[Slot] = deque()
        """In order, from when they are made until their outcomes are told."""
        self._connection = connection
        self._call = connection.stream(connection.stub(JobServiceStub).CreateJobsStream)
        self._ahead = asyncio.Semaphore(_STREAM_AHEAD)
        self._sent: asyncio.Queue[list[Slot] | None] = asyncio.Queue()

    async def _send(self, slots: list[Slot]) -> None:
        await self._ahead.acquire()
        self._sent.put_nowait(slots)  # first, so that the reader has an eye on it: a write waits as long as the server does not read
        if jobs := jobs_of(slots):
            await self._call.write(messages.CreateJobsStreamRequest(jobs=jobs))

    async def write(self, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> None:
        """Sends all. When the stream has ended, it is the reader who finds out why."""
        chunker = Chunker(_STREAM_JOBS)
        maker = Maker(self._connection)
        try:
            async for spec in each(specs):
                slot = maker.slot(spec)
                self.unanswered.append(slot)
                if full := chunker.add(slot):
                    await self._send(full)
            if rest := chunker.rest():
                await self._send(rest)
            await self._call.done_writing()
        finally:
            self._sent.put_nowait(None)

    async def _read(self) -> Any:
        async with asyncio.timeout(self._connection.timeout_s):
            response = await self._call.read()
        if response is grpc.aio.EOF:
            await raise_end(self._call)
            raise Unavailable("the server ended the stream before it had answered")
        return response.outcomes

    async def outcomes(self) -> AsyncGenerator[CreateOutcome, None]:
        """Of all that is sent, in order."""
        try:
            while (slots := await self._sent.get()) is not None:
                answers = await self._read() if jobs_of(slots) else ()
                self._ahead.release()
                for outcome in _outcomes(slots, answers):
                    self.unanswered.popleft()
                    yield outcome
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, of_job=True) from None
        except TimeoutError as error:
            if isinstance(error, MillraceError):
                raise
            raise DeadlineExceeded("the server did not answer the stream in time; what was not answered can be sent again") from None
        except asyncio.CancelledError:
            self._connection.raise_if_closed()
            raise

    def end(self) -> None:
        """Gives up what is under way."""
        self._call.cancel()


async def create_stream(connection: Connection, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[CreateOutcome]:
    """Over one stream; outcomes in the order of the specs."""
    stream = _Stream(connection)
    writer = asyncio.create_task(stream.write(specs))
    try:
        async with contextlib.aclosing(stream.outcomes()) as outcomes:
            async for outcome in outcomes:
                yield outcome
        await writer
    except MillraceError as error:
        _tell(error, (), stream.unanswered)
        raise
    finally:
        await _stop(writer)
        stream.end()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
