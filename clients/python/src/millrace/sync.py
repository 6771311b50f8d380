# SPDX-License-Identifier: Apache-2.0
"""The same client for code without an event loop: `from millrace.sync import Client`.

Every method is that of the async client, waited for; what is an async iterator there is an iterator here. Threads may share one client,
and what they create at the same time goes out together. A client that was made before a fork, and not used, works after it; gRPC does not
survive a fork once it has been used, which is then an error that says so.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from millrace import _flows, _queues, _schedules
from millrace import client as _client
from millrace._loop import LoopThread
from millrace._times import Duration
from millrace.errors import CallCancelled
from millrace.payload import Codec

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Face(Protocol):
    """Something that has an async twin."""

    def _run(self, call: Callable[[Any], Coroutine[Any, Any, R]]) -> R: ...

    def _iterate(self, call: Callable[[Any], AsyncIterator[T]]) -> Iterator[T]: ...


def _wait(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Any, P], R]:
    def call(self: _Face, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(lambda twin: method(twin, *args, **kwargs))

    call.__doc__ = method.__doc__
    call.__name__ = method.__name__
    return call


def _each(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    def call(self: _Face, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._iterate(lambda twin: method(twin, *args, **kwargs))

    call.__doc__ = method.__doc__
    call.__name__ = method.__name__
    return call


class _Part(Generic[T]):
    """A part of a client, such as `client.queues`."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def _run(self, call: Callable[[Any], Coroutine[Any, Any, R]]) -> R:
        return self._client._run(lambda twin: call(getattr(twin, self._name)))

    def _iterate(self, call: Callable[[Any], AsyncIterator[R]]) -> Iterator[R]:
        return self._client._iterate(lambda twin: call(getattr(twin, self._name)))


class Chains(_Part[_flows.Chains]):
    """See millrace.Client.chains."""

    create = _wait(_flows.Chains.create)
    get = _wait(_flows.Chains.get)
    wait = _wait(_flows.Chains.wait)
    list = _each(_flows.Chains.list)
    cancel = _wait(_flows.Chains.cancel)


class Batches(_Part[_flows.Batches]):
    """See millrace.Client.batches."""

    create = _wait(_flows.Batches.create)
    add = _wait(_flows.Batches.add)
    seal = _wait(_flows.Batches.seal)
    get = _wait(_flows.Batches.get)
    wait = _wait(_flows.Batches.wait)
    list = _each(_flows.Batches.list)
    cancel = _wait(_flows.Batches.cancel)


class Schedules(_Part[_schedules.Schedules]):
    """See millrace.Client.schedules."""

    declare = _wait(_schedules.Schedules.declare)
    create = _wait(_schedules.Schedules.create)
    put = _wait(_schedules.Schedules.put)
    update = _wait(_schedules.Schedules.update)
    get = _wait(_schedules.Schedules.get)
    list = _each(_schedules.Schedules.list)
    delete = _wait(_schedules.Schedules.delete)
    pause = _wait(_schedules.Schedules.pause)
    resume = _wait(_schedules.Schedules.resume)
    run = _wait(_schedules.Schedules.run)
    preview = _wait(_schedules.Schedules.preview)


class Queues(_Part[_queues.Queues]):
    """See millrace.Client.queues."""

    get = _wait(_queues.Queues.get)
    list = _each(_queues.Queues.list)
    update = _wait(_queues.Queues.update)
    pause = _wait(_queues.Queues.pause)
    resume = _wait(_queues.Queues.resume)
    purge = _wait(_queues.Queues.purge)
    delete = _wait(_queues.Queues.delete)


class Workers(_Part[_queues.Workers]):
    """See millrace.Client.workers."""

    list = _each(_queues.Workers.list)
    quiet = _wait(_queues.Workers.quiet)


class Client:
    """The client for threads; see millrace.Client, whose options it takes."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        timeout: Duration = _client.TIMEOUT_DEFAULT,
        codec: Codec | None = None,
        routes: Mapping[str, str] | None = None,
        coalesce: bool = True,
    ) -> None:
        self._make: Callable[[], _client.Client] = functools.partial(
            _client.Client,
            address,
            token=token,
            ca=ca,
            certificate=certificate,
            timeout=timeout,
            codec=codec,
            routes=routes,
            coalesce=coalesce,
        )
        self._lock = threading.Lock()
        self._open()
        self.chains = Chains(self, "chains")
        self.batches = Batches(self, "batches")
        self.schedules = Schedules(self, "schedules")
        self.queues = Queues(self, "queues")
        self.workers = Workers(self, "workers")

    def _open(self) -> None:
        self._twin = self._make()
        self._loop: LoopThread | None = None
        self._closed = False
        self._pid = os.getpid()

    def _run(self, call: Callable[[Any], Coroutine[Any, Any, R]]) -> R:
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._open()
        with self._lock:
            if self._closed:
                raise CallCancelled("the client is closed")
            if self._loop is None:
                self._loop = LoopThread()
            loop = self._loop
        return loop.run(call(self._twin))

    def _iterate(self, call: Callable[[Any], AsyncIterator[R]]) -> Iterator[R]:
        async def start(twin: Any) -> AsyncIterator[R]:
            return aiter(call(twin))

        iterator = self._run(start)

        async def following(_: Any) -> tuple[R] | None:
            try:
                return (await anext(iterator),)
            except StopAsyncIteration:
                return None

        async def end(_: Any) -> None:
            await iterator.aclose()  # type: ignore[attr-defined]

        try:
            while (item := self._run(following)) is not None:
                yield item[0]
        finally:
            with contextlib.suppress(CallCancelled):  # closing the client has ended it
                self._run(end)

    @property
    def address(self) -> str:
        """The server's."""
        return self._twin.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and its thread; calls of other threads that are under way end with CallCancelled."""
        with self._lock:
            loop, self._loop = self._loop, None
            self._closed = True
        if loop is not None and self._pid == os.getpid():
            try:
                loop.run(self._twin.close())
            finally:
                loop.stop()

    create = _wait(_client.Client.create)
    create_many = _wait(_client.Client.create_many)
    create_stream = _each(_client.Client.create_stream)
    get = _wait(_client.Client.get)
    log = _wait(_client.Client.log)
    wait = _wait(_client.Client.wait)
    watch = _each(_client.Client.watch)
    list = _each(_client.Client.list)
    cancel = _wait(_client.Client.cancel)
    terminate = _wait(_client.Client.terminate)
    cancel_jobs = _wait(_client.Client.cancel_jobs)
    retry = _wait(_client.Client.retry)
    retry_jobs = _wait(_client.Client.retry_jobs)
    update = _wait(_client.Client.update)
    delete = _wait(_client.Client.delete)
    server_info = _wait(_client.Client.server_info)
