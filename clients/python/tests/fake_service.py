# SPDX-License-Identifier: Apache-2.0
"""A gRPC server that says what a test tells it to, and notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import any_pb2

from millrace.proto.v1 import job_service_pb2 as pb
from millrace.proto.v1.batch_service_pb2_grpc import BatchServiceServicer
from millrace.proto.v1.job_service_pb2_grpc import JobServiceServicer

Answer = Callable[[Any, Any], Awaitable[Any]]


def accept(request: pb.CreateJobsRequest) -> pb.CreateJobsResponse:
    return pb.CreateJobsResponse(outcomes=[pb.CreateOutcome(id=job.id) for job in request.jobs])


def packed(*details: Any) -> list[any_pb2.Any]:
    boxes = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        boxes.append(box)
    return boxes


class Service(JobServiceServicer, BatchServiceServicer):  # type: ignore[misc]
    """Notes each request; answers what the test has set."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.answer: Answer | None = None
        self.called = asyncio.Event()
        self.stream_end: grpc.StatusCode | None = None
        """How a stream of creates ends after its first answer."""

    async def _take(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.called.set()
        self.metadata.append(dict(context.invocation_metadata()))
        assert self.answer is not None
        return await self.answer(request, context)

    CreateJob = CreateJobs = GetJob = CreateBatch = GetBatch = _take

    async def CreateJobsStream(self, requests: Any, context: Any) -> Any:  # noqa: N802
        async for request in requests:
            yield await self._take(request, context)
            if self.stream_end is not None:
                await context.abort(self.stream_end, "stopping")

    async def WatchJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield await self._take(request, context)

    async def AddBatchItems(self, requests: Any, context: Any) -> Any:  # noqa: N802
        async for request in requests:
            yield await self._take(request, context)
