# SPDX-License-Identifier: Apache-2.0
"""The async client: jobs here, and `chains`, `batches`, `schedules`, `queues`, `workers` as parts of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, Unpack

from millrace import _create, _otel
from millrace._call import Connection
from millrace._channel import Target
from millrace._convert import filter_to_pb, job_from_pb, log_from_pb, priority_to_pb, retry_to_pb, spec_to_pb
from millrace._flows import Batches, Chains
from millrace._queues import Queues, Workers
from millrace._schedules import Schedules
from millrace._times import Duration, time_from_pb, time_to_pb
from millrace.errors import MillraceError
from millrace.payload import Codec
from millrace.proto.v1 import admin_service_pb2, common_pb2, job_pb2
from millrace.proto.v1 import job_service_pb2 as messages
from millrace.proto.v1.admin_service_pb2_grpc import AdminServiceStub
from millrace.proto.v1.job_service_pb2_grpc import JobServiceStub
from millrace.registry import Task
from millrace.routing import Routes
from millrace.types import (
    Created,
    CreateOutcome,
    Job,
    JobEvent,
    JobFields,
    JobFilter,
    JobPriority,
    JobSpec,
    LogLine,
    RetryPolicy,
    ServerInfo,
)

__all__ = ["Client"]

TIMEOUT_DEFAULT: Final = 30.0


def to_spec(task: str | JobSpec | Task[..., Any], fields: JobFields) -> JobSpec:
    """The spec that a call names: by task name, by a task (with its policy), or ready-made."""
    if isinstance(task, JobSpec):
        return task.replace(**fields) if fields else task
    if isinstance(task, Task):
        return task.apply(JobSpec(task.name, **fields))
    return JobSpec(task, **fields)


class Client:
    """Speaks to one server, over one connection that all calls share. Make one per event loop and keep it.

    What is None comes from MILLRACE_ADDRESS, MILLRACE_TOKEN (or the file MILLRACE_TOKEN_FILE), MILLRACE_CA, and MILLRACE_CERTIFICATE with
    MILLRACE_KEY. `ca` (a PEM file of the authorities that may have signed the server's certificate, or "system": those that this machine
    trusts) turns encryption on, except on unix sockets; `certificate` (two files: certificate and key) adds a client certificate, and
    with it `ca` is "system" if nothing else was said. `timeout` is the deadline of each call; calls that the server was not there
    for are repeated within it, with the same ids. A stream of creates is not repeated, and has it for each answer. `routes` are routing
    rules, `codec` changes payloads on their way. With `coalesce`, creates that wait while another is under way go out together.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        timeout: Duration = TIMEOUT_DEFAULT,
        codec: Codec | None = None,
        routes: Mapping[str, str] | None = None,
        coalesce: bool = True,
    ) -> None:
        self._connection = Connection(Target.of(address, token, ca, certificate), timeout, codec, Routes(routes))
        self._coalescer = _create.Coalescer(self._connection) if coalesce else None
        self.chains = Chains(self._connection)
        self.batches = Batches(self._connection)
        self.schedules = Schedules(self._connection)
        self.queues = Queues(self._connection)
        self.workers = Workers(self._connection)

    @property
    def address(self) -> str:
        """The server's."""
        return self._connection.target.address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls under way are given up."""
        await self._connection.close()

    @property
    def _jobs(self) -> JobServiceStub:
        return self._connection.stub(JobServiceStub)

    def _job(self, message: Any) -> Job:
        return job_from_pb(message, self._connection.codec)

    # ---- create ----

    async def create(self, task: str | JobSpec | Task[..., Any], /, **fields: Unpack[JobFields]) -> Created:
        """Creates a job; when this returns, it is durable. `fields` are those of JobSpec: `args`, `kwargs`, `queue`, `delay`, …"""
        spec = to_spec(task, fields)
        with _otel.create_span(spec.task):
            message = spec_to_pb(spec, self._connection.routes, self._connection.codec)
            _create.traced(message, _otel.trace_context())
            if self._coalescer is not None:
                return await self._coalescer.create(message)
            return await self._create_alone(message)

    async def _create_alone(self, message: job_pb2.JobSpec) -> Created:
        """A call of its own. The field at fault is told as JobSpec has it."""
        try:
            response = await self._connection.call(self._jobs.CreateJob, messages.CreateJobRequest(job=message), of_job=True)
        except MillraceError as error:
            error.field = error.field and error.field.removeprefix("job.")
            error.outcomes = (CreateOutcome(message.id, error=error),)
            raise
        return Created(response.job.id, response.existing)

    async def create_many(self, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> list[CreateOutcome]:
        """Creates any number of jobs in calls of up to 1,000; each has its own outcome, in order. When a whole call fails, its error is
        raised, and its `outcomes` tell of all jobs taken from `specs` so far: those that are there, and those to send again."""
        with _otel.create_span("many"):
            return await _create.create_many(self._connection, specs)

    def create_stream(self, specs: Iterable[JobSpec] | AsyncIterable[JobSpec]) -> AsyncIterator[CreateOutcome]:
        """Creates jobs over one stream, the fastest way in; outcomes come in order while specs are still being taken. A stream that
        breaks is not repeated: its error is raised, and its `outcomes` tell the ids of the jobs that were taken and not answered."""
        return _create.create_stream(self._connection, specs)

    # ---- look ----

    async def get(self, job_id: str) -> Job:
        """The job, with payload, result and history. Raises JobNotFound."""
        response = await self._connection.call(self._jobs.GetJob, messages.GetJobRequest(id=job_id), of_job=True)
        return self._job(response.job)

    async def log(self, job_id: str) -> list[LogLine]:
        """The job's log, oldest line first."""
        request = messages.GetJobRequest(id=job_id, view=common_pb2.VIEW_BASIC, with_log=True)
        response = await self._connection.call(self._jobs.GetJob, request, of_job=True)
        return [log_from_pb(line) for line in response.log]

    async def wait(self, job_id: str, *, timeout: Duration | None = 60.0) -> Job:
        """The job once it has ended, however it ended. Raises WaitTimeout (a TimeoutError); None waits for ever."""

        async def ask(span: Any, deadline_s: float) -> Any:
            request = messages.WaitJobRequest(id=job_id, timeout=span)
            return await self._connection.call(self._jobs.WaitJob, request, of_job=True, timeout_s=deadline_s)

        return self._job((await self._connection.wait(ask, f"job {job_id}", timeout)).job)

    async def watch(self, filter: JobFilter, *, full: bool = False) -> AsyncIterator[JobEvent]:
        """The state of each match, then an event whose `initial_done` is true, then every change in order, until the caller leaves."""
        request = messages.WatchJobsRequest(filter=filter_to_pb(filter), view=_view(full))
        async for answer in self._connection.answers(self._jobs.WatchJobs, request, of_job=True):
            if answer.HasField("job"):
                yield JobEvent(self._job(answer.job), answer.deleted)
            elif answer.initial_done:
                yield JobEvent(None)

    async def list(self, filter: JobFilter | None = None, *, page_size: int = 0, full: bool = False) -> AsyncIterator[Job]:
        """All jobs that match, page by page, in the server's order. `full` adds payloads, results and histories."""
        request = messages.ListJobsRequest(filter=filter_to_pb(filter), page_size=page_size, view=_view(full))
        async for response in self._connection.pages(lambda: self._jobs.ListJobs, request, of_job=True):
            for job in response.jobs:
                yield self._job(job)

    # ---- change ----

    async def cancel(self, job_id: str, *, terminate: bool = False, reason: str = "") -> bool:
        """Cancels a job: a waiting one at once, a running one by asking its handler. False: it had ended already."""
        request = messages.CancelJobRequest(id=job_id, terminate=terminate, reason=reason)
        response = await self._connection.call(self._jobs.CancelJob, request, of_job=True)
        return bool(response.accepted)

    async def terminate(self, job_id: str, *, reason: str = "") -> bool:
        """Cancels a job, and stops a handler that does not obey by force."""
        return await self.cancel(job_id, terminate=True, reason=reason)

    async def cancel_jobs(self, filter: JobFilter, *, terminate: bool = False, reason: str = "") -> int:
        """Cancels all that match; returns how many."""
        request = messages.CancelJobsRequest(filter=filter_to_pb(filter), terminate=terminate, reason=reason)
        count = 0
        while True:
            response = await self._connection.call(self._jobs.CancelJobs, request, of_job=True)
            count += response.cancelled
            if not response.more:
                return int(count)

    async def retry(self, job_id: str) -> Job:
        """Starts a job anew that failed, was cancelled or expired."""
        response = await self._connection.call(self._jobs.RetryJob, messages.RetryJobRequest(id=job_id), of_job=True)
        return self._job(response.job)

    async def retry_jobs(self, filter: JobFilter) -> int:
        """Starts all that match anew (of failed ones, unless the filter names states); returns how many."""
        request = messages.RetryJobsRequest(filter=filter_to_pb(filter))
        count = 0
        while True:
            response = await self._connection.call(self._jobs.RetryJobs, request, of_job=True)
            count += response.retried
            if not response.more or not response.retried:
                return int(count)

    async def update(
        self,
        job_id: str,
        *,
        priority: JobPriority | int | None = None,
        run_at: datetime | None = None,
        expires_at: datetime | None = None,
        deadline: datetime | None = None,
        retry: RetryPolicy | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Changes a waiting job; what is None stays. Raises FailedPrecondition when it runs or has ended."""
        request = messages.UpdateJobRequest(id=job_id)
        if priority is not None:
            request.priority = priority_to_pb(priority)
        if run_at is not None:
            request.run_at.CopyFrom(time_to_pb(run_at, "run_at"))
        if expires_at is not None:
            request.expires_at.CopyFrom(time_to_pb(expires_at, "expires_at"))
        if deadline is not None:
            request.deadline.CopyFrom(time_to_pb(deadline, "deadline"))
        if retry is not None:
            request.retry_policy.CopyFrom(retry_to_pb(retry))
        if labels is not None:
            request.labels.CopyFrom(messages.Labels(labels=labels))
        response = await self._connection.call(self._jobs.UpdateJob, request, of_job=True)
        return self._job(response.job)

    async def delete(self, job_id: str) -> None:
        """Removes a job that has ended. Raises FailedPrecondition for one that has not."""
        await self._connection.call(self._jobs.DeleteJob, messages.DeleteJobRequest(id=job_id), of_job=True)

    async def server_info(self) -> ServerInfo:
        """Version, durability and what the server holds."""
        stub = self._connection.stub(AdminServiceStub)
        info = await self._connection.call(stub.GetServerInfo, admin_service_pb2.GetServerInfoRequest())
        return ServerInfo(
            version=info.version,
            durability=admin_service_pb2.Durability.Name(info.durability).removeprefix("DURABILITY_").lower(),
            started_at=time_from_pb(info.started_at),
            store_backend=info.store_backend,
            queues=info.queues,
            sessions=info.sessions,
            jobs_waiting=info.jobs_waiting,
            jobs_running=info.jobs_running,
            now=time_from_pb(info.now),
        )


def _view(full: bool) -> common_pb2.View:
    return common_pb2.VIEW_FULL if full else common_pb2.VIEW_BASIC
