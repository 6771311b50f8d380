# SPDX-License-Identifier: Apache-2.0
"""The ways in: many creates in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Final

import grpc.aio

from millrace import _otel
from millrace._call import Connection, raise_end
from millrace._channel import error_of_call, error_of_status
from millrace._convert import spec_to_pb
from millrace._proto.v1 import job_pb2
from millrace._proto.v1 import job_service_pb2 as messages
from millrace._proto.v1.job_service_pb2_grpc import JobServiceStub
from millrace.errors import DeadlineExceeded, MillraceError
from millrace.types import Created, CreateOutcome, JobSpec

JOBS_MAX: Final = 1000
BYTES_MAX: Final = 3 * 1024 * 1024
_STREAM_JOBS: Final = 250
_STREAM_AHEAD: Final = 8


def outcome_from_pb(outcome: messages.CreateOutcome, index: int, *, single: bool = False) -> CreateOutcome:
    """Our outcome; a single create's field is told without its place in the call."""
    if not outcome.HasField("error"):
        return CreateOutcome(outcome.id, outcome.existing)
    error = error_of_status(outcome.error)
    if single and error.field is not None:
        error.field = error.field.removeprefix(f"jobs[{index}].")
    return CreateOutcome(outcome.id, outcome.existing, error)


class Chunker:
    """Gathers messages into calls of at most so many jobs and bytes."""

    def __init__(self, jobs_max: int = JOBS_MAX) -> None:
        self._jobs_max = jobs_max
        self._jobs: list[job_pb2.JobSpec] = []
        self._bytes = 0

    def add(self, job: job_pb2.JobSpec) -> list[job_pb2.JobSpec] | None:
        """Takes a job; returns a chunk when this one begins the next."""
        size = job.ByteSize() + 8
        full = None
        if self._jobs and (len(self._jobs) >= self._jobs_max or self._bytes + size > BYTES_MAX):
            full = self.rest()
        self._jobs.append(job)
        self._bytes += size
        return full

    def rest(self) -> list[job_pb2.JobSpec]:
        """What has been gathered."""
        jobs, self._jobs, self._bytes = self._jobs, [], 0
        return jobs


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
            outcome = outcome_from_pb(answer, index, single=True)
            if outcome.error is None:
                future.set_result(Created(outcome.id, outcome.existing))
            else:
                future.set_exception(outcome.error)


async def each(specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[JobSpec]:
    """Of either kind of iterable."""
    if isinstance(specs, AsyncIterable):
        async for spec in specs:
            yield spec
    else:
        for spec in specs:
            yield spec


async def create_many(connection: Connection, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> list[CreateOutcome]:
    """As few calls as the limits allow, one after the other."""
    outcomes: list[CreateOutcome] = []
    chunker = Chunker()

    async def send(jobs: list[job_pb2.JobSpec]) -> None:
        stub = connection.stub(JobServiceStub)
        response = await connection.call(stub.CreateJobs, messages.CreateJobsRequest(jobs=jobs), of_job=True)
        outcomes.extend(outcome_from_pb(outcome, index) for index, outcome in enumerate(response.outcomes))

    trace = _otel.trace_context()
    async for spec in each(specs):
        if full := chunker.add(traced(spec_to_pb(spec, connection.routes, connection.codec), trace)):
            await send(full)
    if rest := chunker.rest():
        await send(rest)
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
    sent: asyncio.Queue[bool] = asyncio.Queue()

    async def write() -> None:
        chunker = Chunker(_STREAM_JOBS)
        trace = _otel.trace_context()

        async def send(jobs: list[job_pb2.JobSpec]) -> None:
            await ahead.acquire()
            await call.write(messages.CreateJobsStreamRequest(jobs=jobs))
            sent.put_nowait(True)

        try:
            async for spec in each(specs):
                if full := chunker.add(traced(spec_to_pb(spec, connection.routes, connection.codec), trace)):
                    await send(full)
            if rest := chunker.rest():
                await send(rest)
            await call.done_writing()
        finally:
            sent.put_nowait(False)

    writer = asyncio.create_task(write())
    try:
        while await sent.get():
            async with asyncio.timeout(connection.timeout_s):
                response = await call.read()
            if response is grpc.aio.EOF:
                break
            ahead.release()
            for index, outcome in enumerate(response.outcomes):
                yield outcome_from_pb(outcome, index)
        await writer
        await raise_end(call)
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
