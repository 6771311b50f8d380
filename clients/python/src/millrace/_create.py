# SPDX-License-Identifier: Apache-2.0
"""The ways in: many creates in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any, Final, Self

import grpc.aio

from millrace import _otel
from millrace._call import Connection, raise_end
from millrace._channel import error_of_call, error_of_status
from millrace._convert import spec_to_pb
from millrace.errors import DeadlineExceeded, InvalidArgument, MillraceError, Unavailable
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


def _outcomes(slots: list[Slot], answers: Any) -> Iterator[CreateOutcome]:
    """Of all slots in order, given the answers for the jobs among them."""
    numbered = enumerate(answers)
    for slot in slots:
        if isinstance(slot, CreateOutcome):
            yield slot
        else:
            index, answer = next(numbered)
            yield outcome_from_pb(answer, index)


class Coalescer:
    """Sends creates: at once when no call is under way, otherwise together with all others that came meanwhile, as one CreateJobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[job_pb2.JobSpec, asyncio.Future[Created]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def create(self, job: job_pb2.JobSpec) -> Created:
        """One job; returns when it is durable."""
        future: asyncio.Future[Created] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    def _take(self) -> list[tuple[job_pb2.JobSpec, asyncio.Future[Created]]]:
        """The next call's jobs; those whose callers have left are dropped."""
        taken: list[tuple[job_pb2.JobSpec, asyncio.Future[Created]]] = []
        size = 0
        while self._waiting and len(taken) < JOBS_MAX:
            job, future = self._waiting[0]
            size += job.ByteSize() + 8
            if taken and size > BYTES_MAX:
                break
            self._waiting.popleft()
            if not future.done():
                taken.append((job, future))
        return taken

    async def _send_all(self) -> None:
        try:
            while taken := self._take():
                await self._send(taken)
        finally:
            self._sender = None

    async def _send(self, taken: list[tuple[job_pb2.JobSpec, asyncio.Future[Created]]]) -> None:
        try:
            stub = self._connection.stub(JobServiceStub)
            request = messages.CreateJobsRequest(jobs=[job for job, _ in taken])
            response = await self._connection.call(stub.CreateJobs, request, of_job=True)
        except BaseException as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error if isinstance(error, MillraceError) else MillraceError(f"the create failed: {error!r}"))
            if not isinstance(error, Exception):
                raise
            return
        for index, ((_, future), answer) in enumerate(zip(taken, response.outcomes, strict=True)):
            if future.done():
                continue
            outcome = outcome_from_pb(answer, index)
            if outcome.error is None:
                future.set_result(Created(outcome.id, outcome.existing))
            else:
                future.set_exception(outcome.error)


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
    chunker = Chunker()
    maker = Maker(connection)

    async def send(slots: list[Slot]) -> None:
        request = messages.CreateJobsRequest(jobs=jobs_of(slots))
        answers: Any = ()
        if request.jobs:
            answers = (await connection.call(connection.stub(JobServiceStub).CreateJobs, request, of_job=True)).outcomes
        outcomes.extend(_outcomes(slots, answers))

    async with OneAhead() as calls:
        async for spec in each(specs):
            if full := chunker.add(maker.slot(spec)):
                await calls.run(send(full))
        if rest := chunker.rest():
            await calls.run(send(rest))
    return outcomes


def traced(job: job_pb2.JobSpec, trace: tuple[str, str]) -> job_pb2.JobSpec:
    """Adds the trace context, unless the job has one."""
    if trace[0] and not job.traceparent:
        job.traceparent, job.tracestate = trace
    return job


async def create_stream(connection: Connection, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[CreateOutcome]:
    """One stream with some messages ahead of their answers; outcomes in the order of the specs."""
    call = connection.stream(connection.stub(JobServiceStub).CreateJobsStream)
    ahead = asyncio.Semaphore(_STREAM_AHEAD)
    sent: asyncio.Queue[list[Slot] | None] = asyncio.Queue()

    async def send(slots: list[Slot]) -> None:
        await ahead.acquire()
        if jobs := jobs_of(slots):
            await call.write(messages.CreateJobsStreamRequest(jobs=jobs))
        sent.put_nowait(slots)

    async def write() -> None:
        chunker = Chunker(_STREAM_JOBS)
        maker = Maker(connection)
        try:
            async for spec in each(specs):
                if full := chunker.add(maker.slot(spec)):
                    await send(full)
            if rest := chunker.rest():
                await send(rest)
            await call.done_writing()
        finally:
            sent.put_nowait(None)

    async def read() -> Any:
        async with asyncio.timeout(connection.timeout_s):
            response = await call.read()
        if response is grpc.aio.EOF:
            await raise_end(call)
            raise Unavailable("the server ended the stream before it had answered")
        return response.outcomes

    writer = asyncio.create_task(write())
    try:
        while (slots := await sent.get()) is not None:
            answers = await read() if jobs_of(slots) else ()
            ahead.release()
            for outcome in _outcomes(slots, answers):
                yield outcome
        await writer
    except grpc.aio.AioRpcError as error:
        raise error_of_call(error, of_job=True) from None
    except TimeoutError:
        raise DeadlineExceeded("the server did not answer the stream in time; what was not answered can be sent again") from None
    finally:
        await _stop(writer)
        call.cancel()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
