# SPDX-License-Identifier: Apache-2.0
"""How a session's messages travel: over two plain WebSockets (`nng`), or over one gRPC stream (`grpc`)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import websockets
from websockets.asyncio.client import ClientConnection, connect

from millrace._channel import MESSAGE_BYTES_MAX, Target, error_of_call
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.proto.v1.worker_service_pb2_grpc import WorkerServiceStub

_OPEN_TIMEOUT_S: Final = 10.0
_SEND_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """What a link needs to know of its session."""

    session_id: str
    token: str
    url: str
    jobs_path: str
    reports_path: str
    fragment_bytes: int


class LinkError(Exception):
    """The connection was refused or broke."""


class Link(Protocol):
    """One connection of a session."""

    name: str

    async def send(self, data: bytes) -> None:
        """Sends one Reports message. Raises LinkError."""
        ...

    def messages(self) -> AsyncIterator[pb.Deliveries]:
        """What comes, until the connection ends."""
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...


class NngLink:
    """Speaks to nng's push and pull listeners without nng."""

    name = "nng"

    def __init__(self, jobs: ClientConnection, reports: ClientConnection, fragment_bytes: int) -> None:
        self._jobs = jobs
        self._reports = reports
        self._fragment_bytes = fragment_bytes
        self._watcher = asyncio.create_task(self._watch())

    @classmethod
    async def open(cls, seat: Seat, target: Target) -> NngLink:
        """Dials both paths. Raises LinkError."""
        opened: list[ClientConnection] = []
        try:
            for path, protocol in ((seat.jobs_path, "push.sp.nanomsg.org"), (seat.reports_path, "pull.sp.nanomsg.org")):
                opened.append(
                    await connect(
                        seat.url + path,
                        subprotocols=[websockets.Subprotocol(protocol)],
                        additional_headers={"Authorization": f"Bearer {seat.token}"},
                        ssl=_tls(target) if seat.url.startswith("wss:") else None,
                        compression=None,
                        max_size=MESSAGE_BYTES_MAX,
                        ping_interval=None,
                        proxy=None,
                        open_timeout=_OPEN_TIMEOUT_S,
                        close_timeout=_CLOSE_TIMEOUT_S,
                    )
                )
        except asyncio.CancelledError:
            for connection in opened:
                connection.transport.abort()
            raise
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            for connection in opened:
                await connection.close()
            raise LinkError(f"cannot join the session at {seat.url}: {str(error) or type(error).__name__}") from None
        return cls(opened[0], opened[1], seat.fragment_bytes)

    async def _watch(self) -> None:
        """The reports' path says nothing; when it ends, the session's connection has ended."""
        await self._reports.wait_closed()
        await self._jobs.close()

    async def send(self, data: bytes) -> None:
        """In fragments if it is big: the server takes no large frame. A path that takes nothing for a while is dead."""
        size = self._fragment_bytes
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S) as limit:
                if len(data) <= size:
                    await self._reports.send(data)
                else:
                    await self._reports.send(self._fragments(data, limit))
        except TimeoutError:
            self._abort()
            raise LinkError(f"the server has taken nothing for {_SEND_TIMEOUT_S:.0f} s") from None
        except (OSError, websockets.ConnectionClosed) as error:
            raise LinkError(str(error)) from None

    def _fragments(self, data: bytes, limit: asyncio.Timeout) -> Iterator[bytes]:
        """Each has the time anew."""
        for start in range(0, len(data), self._fragment_bytes):
            limit.reschedule(asyncio.get_running_loop().time() + _SEND_TIMEOUT_S)
            yield data[start : start + self._fragment_bytes]

    async def messages(self) -> AsyncIterator[pb.Deliveries]:
        """One binary message each."""
        try:
            async for data in self._jobs:
                if isinstance(data, bytes):
                    yield pb.Deliveries.FromString(data)
        except (OSError, websockets.ConnectionClosed):
            return

    async def close(self) -> None:
        """Both paths, politely if they take it."""
        self._watcher.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await asyncio.gather(self._jobs.close(), self._reports.close(), return_exceptions=True)
        self._abort()

    def _abort(self) -> None:
        for connection in (self._jobs, self._reports):
            connection.transport.abort()


def _tls(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=target.ca.decode("ascii") if target.ca else None)
    if target.certificate_files is not None:
        context.load_cert_chain(*target.certificate_files)
    return context


class GrpcLink:
    """Speaks Attach. The stream is gRPC's blocking one with a thread to read it: two asynchronous users of gRPC in one process, here and
    in the handlers, would get in each other's way in its older versions."""

    name = "grpc"

    def __init__(self, seat: Seat, stub: WorkerServiceStub, metadata: Any) -> None:
        self._out: queue.SimpleQueue[pb.AttachRequest | None] = queue.SimpleQueue()
        self._in: asyncio.Queue[pb.Deliveries | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._ended: str | None = None
        self._out.put(pb.AttachRequest(hello=pb.AttachHello(session_id=seat.session_id, session_token=seat.token)))
        self._call: Any = stub.Attach(iter(self._out.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="millrace-attach", daemon=True).start()

    def _read(self) -> None:
        ended = "the stream has ended"
        try:
            for message in self._call:
                self._post(message.deliveries)
        except grpc.RpcError as error:
            ended = str(error_of_call(error))
        self._ended = ended
        self._out.put(None)
        self._post(None)

    def _post(self, message: pb.Deliveries | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._in.put_nowait, message)

    async def send(self, data: bytes) -> None:
        """One message of the stream."""
        if self._ended is not None:
            raise LinkError(self._ended)
        self._out.put(pb.AttachRequest(reports=pb.Reports.FromString(data)))

    async def messages(self) -> AsyncIterator[pb.Deliveries]:
        """One message of the stream each."""
        while (message := await self._in.get()) is not None:
            yield message

    async def close(self) -> None:
        """Ends the stream."""
        self._out.put(None)
        self._call.cancel()


__all__ = ["GrpcLink", "Link", "LinkError", "NngLink", "Seat"]
