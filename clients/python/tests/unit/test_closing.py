# SPDX-License-Identifier: Apache-2.0
"""What becomes of calls that are under way when their client is closed."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from fake_service import Service
from millrace import CallCancelled, Client, JobFilter, JobSpec
from millrace.sync import Client as SyncClient

CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.create("t"),
    lambda client: client.create("t"),  # which waits for the one before
    lambda client: client.create_many([JobSpec("t")]),
    lambda client: client.create_stream([JobSpec("t")]),
    lambda client: client.batches.add("b", 1, [JobSpec("t")]),
    lambda client: client.watch(JobFilter()),
    lambda client: client.get("id"),
]


async def never(request: Any, context: Any) -> Any:
    await asyncio.Event().wait()


async def until_called(fake: Service, count: int) -> None:
    async with asyncio.timeout(60):
        while len(fake.requests) < count:
            fake.called.clear()
            await fake.called.wait()


async def test_closing_a_client_ends_its_calls(service: tuple[Service, str]) -> None:
    fake, address = service
    fake.answer = never
    client = Client(address, timeout=300)

    async def result(call: Callable[[Any], Any]) -> Any:
        answer = call(client)
        return [item async for item in answer] if isinstance(answer, AsyncIterator) else await answer

    calls = [asyncio.create_task(result(call)) for call in CALLS]
    await until_called(fake, len(CALLS) - 1)
    await client.close()
    async with asyncio.timeout(60):
        assert [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [CallCancelled] * len(CALLS)
    with pytest.raises(CallCancelled):
        await client.get("id")


async def test_closing_a_sync_client_ends_the_calls_of_other_threads(service: tuple[Service, str]) -> None:
    fake, address = service
    fake.answer = never
    client = SyncClient(address, timeout=300)
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(call: Callable[[Any], Any]) -> None:
        try:
            answer = call(client)
            ended.put(list(answer) if isinstance(answer, Iterator) else answer)
        except BaseException as error:
            ended.put(type(error))

    for call in CALLS:
        threading.Thread(target=run, args=[call], daemon=True).start()
    await until_called(fake, len(CALLS) - 1)
    async with asyncio.timeout(60):
        await asyncio.to_thread(client.close)
        assert [await asyncio.to_thread(ended.get, timeout=30) for _ in CALLS] == [CallCancelled] * len(CALLS)
    with pytest.raises(CallCancelled):
        client.get("id")
    client.close()
