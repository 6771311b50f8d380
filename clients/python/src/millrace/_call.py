# SPDX-License-Identifier: Apache-2.0
"""The connection that all parts of an async client share: one channel, a deadline on every call, errors as our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio

from millrace._channel import Target, error_of_call
from millrace._times import Duration, duration_to_pb, to_delta
from millrace.errors import CallCancelled, Unavailable, WaitTimeout
from millrace.payload import Codec
from millrace.routing import Routes

T = TypeVar("T")
_WAIT_ONCE_S: Final = 60.0
_WAIT_SLACK_S: Final = 15.0
_PAUSE_S: Final = 0.2
_PAUSE_MAX_S: Final = 2.0


class Connection:
    """One channel to one server, opened at the first call, on the event loop of that call."""

    def __init__(self, target: Target, timeout: Duration, codec: Codec | None, routes: Routes) -> None:
        self.target = target
        self.timeout_s = to_delta(timeout, "timeout").total_seconds()
        self.codec = codec
        self.routes = routes
        self._metadata = target.metadata()
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[Any, Any] = {}
        self._closed = False

    def stub(self, kind: Callable[[Any], T]) -> T:
        """The stub of a service."""
        if self._closed:
            raise CallCancelled("the client is closed")
        stub = self._stubs.get(kind)
        if stub is None:
            if self._channel is None:
                self._channel = self.target.open_async()
            stub = self._stubs[kind] = kind(self._channel)
        return cast(T, stub)

    async def call(self, method: Any, request: Any, *, of_job: bool = False, timeout_s: float | None = None) -> Any:
        """One answer."""
        try:
            return await method(request, timeout=timeout_s or self.timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, of_job=of_job) from None
        except asyncio.CancelledError:
            self.raise_if_closed()
            raise

    def raise_if_closed(self) -> None:
        """For calls that end as cancelled: it was closing the client that ended them, and not somebody who cancelled the caller."""
        task = asyncio.current_task()
        if self._closed and (task is None or not task.cancelling()):
            raise CallCancelled("the client was closed during the call") from None

    async def pages(self, method: Callable[[], Any], request: Any, *, of_job: bool = False) -> AsyncIterator[Any]:
        """All pages of a list."""
        while True:
            response = await self.call(method(), request, of_job=of_job)
            yield response
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def exchange(self, method: Callable[[], Any], request: Any) -> Any:
        """One message and its answer over a stream, which gRPC does not repeat by itself when the server is away: this does."""
        pause_s = _PAUSE_S
        end = asyncio.get_running_loop().time() + self.timeout_s
        while True:
            call = method()(timeout=self.timeout_s, metadata=self._metadata)
            try:
                await call.write(request)
                await call.done_writing()
                response = await call.read()
                if response is not grpc.aio.EOF:
                    return response
                await raise_end(call)
            except grpc.aio.AioRpcError as error:
                ours = error_of_call(error)
                if not isinstance(ours, Unavailable) or asyncio.get_running_loop().time() + pause_s > end:
                    raise ours from None
            except asyncio.InvalidStateError:  # the call ended while it was being written
                continue
            except asyncio.CancelledError:
                self.raise_if_closed()
                raise
            finally:
                call.cancel()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)

    def stream(self, method: Any) -> Any:
        """A call in both directions, without a deadline: the caller bounds each message."""
        return method(metadata=self._metadata)

    async def answers(self, method: Any, request: Any, *, of_job: bool = False) -> AsyncIterator[Any]:
        """A stream of answers, for as long as the caller reads."""
        call = method(request, metadata=self._metadata)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, of_job=of_job) from None
        except asyncio.CancelledError:
            self.raise_if_closed()
            raise
        finally:
            call.cancel()

    async def wait(self, ask: Callable[[Any, float], Awaitable[Any]], what: str, timeout: Duration | None) -> Any:
        """Asks until the answer is not `timed_out`: longer than the server waits at once, and through its restarts."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + to_delta(timeout, "timeout").total_seconds()
        pause_s = _PAUSE_S
        while True:
            left_s = _WAIT_ONCE_S if end is None else max(end - loop.time(), 0.0)
            span_s = min(left_s, _WAIT_ONCE_S)
            try:
                answer = await ask(duration_to_pb(timedelta(seconds=span_s), "timeout"), span_s + _WAIT_SLACK_S)
            except Unavailable:
                if end is not None and loop.time() + pause_s >= end:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
                continue
            pause_s = _PAUSE_S
            if not answer.timed_out:
                return answer
            if end is not None and loop.time() >= end:
                raise WaitTimeout(f"{what} has not ended within {to_delta(timeout or 0, 'timeout').total_seconds():g} s")

    async def close(self) -> None:
        """Ends all calls."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._stubs.clear()
        if channel is not None:
            await channel.close()


async def raise_end(call: Any) -> None:
    """Raises when a stream has ended otherwise than well."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())
