# SPDX-License-Identifier: Apache-2.0
"""Queues, and the workers that serve them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from millrace._call import Connection
from millrace._convert import queue_from_pb, settings_to_pb, worker_from_pb
from millrace.proto.v1 import queue_service_pb2, worker_service_pb2
from millrace.proto.v1.queue_service_pb2_grpc import QueueServiceStub
from millrace.proto.v1.worker_service_pb2_grpc import WorkerServiceStub
from millrace.types import Queue, QueueSettings, WorkerInfo

__all__ = ["Queues", "Workers"]


class Queues:
    """Counts, limits, pause, purge. A queue comes into being when a job, a worker or a setting first names it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> QueueServiceStub:
        return self._connection.stub(QueueServiceStub)

    async def get(self, name: str) -> Queue:
        """The queue with its counts; one that is not in use has zeros."""
        response = await self._connection.call(self._stub.GetQueue, queue_service_pb2.GetQueueRequest(name=name))
        return queue_from_pb(response.queue)

    async def list(self, *, page_size: int = 0) -> AsyncIterator[Queue]:
        """All queues by name, page by page."""
        request = queue_service_pb2.ListQueuesRequest(page_size=page_size)
        async for response in self._connection.pages(lambda: self._stub.ListQueues, request):
            for queue in response.queues:
                yield queue_from_pb(queue)

    async def update(self, name: str, settings: QueueSettings) -> Queue:
        """Changes what is set in `settings`; the rest stays."""
        request = queue_service_pb2.UpdateQueueRequest(name=name, settings=settings_to_pb(settings))
        return queue_from_pb((await self._connection.call(self._stub.UpdateQueue, request)).queue)

    async def pause(self, name: str) -> Queue:
        """No more deliveries until resumed; creates are taken."""
        response = await self._connection.call(self._stub.PauseQueue, queue_service_pb2.PauseQueueRequest(name=name))
        return queue_from_pb(response.queue)

    async def resume(self, name: str) -> Queue:
        """Deliveries go on."""
        response = await self._connection.call(self._stub.ResumeQueue, queue_service_pb2.ResumeQueueRequest(name=name))
        return queue_from_pb(response.queue)

    async def purge(self, name: str) -> int:
        """Cancels every job that is pending; returns how many."""
        response = await self._connection.call(self._stub.PurgeQueue, queue_service_pb2.PurgeQueueRequest(name=name))
        return int(response.purged)

    async def delete(self, name: str) -> None:
        """Forgets an empty queue. Raises FailedPrecondition while it has jobs or workers."""
        await self._connection.call(self._stub.DeleteQueue, queue_service_pb2.DeleteQueueRequest(name=name))


class Workers:
    """The worker processes that are attached."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> WorkerServiceStub:
        return self._connection.stub(WorkerServiceStub)

    async def list(self, *, queue: str = "", page_size: int = 0) -> AsyncIterator[WorkerInfo]:
        """All workers (that serve a queue), page by page."""
        request = worker_service_pb2.ListWorkersRequest(queue=queue, page_size=page_size)
        async for response in self._connection.pages(lambda: self._stub.ListWorkers, request):
            for worker in response.workers:
                yield worker_from_pb(worker)

    async def quiet(self, session_id: str, *, drain: bool = False) -> WorkerInfo:
        """Gives a worker no more deliveries; with `drain` it also ends when it has finished what it holds."""
        request = worker_service_pb2.QuietWorkerRequest(session_id=session_id, drain=drain)
        return worker_from_pb((await self._connection.call(self._stub.QuietWorker, request)).worker)
