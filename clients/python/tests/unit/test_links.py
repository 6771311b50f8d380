# SPDX-License-Identifier: Apache-2.0
"""A session's connection, where the other side takes nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets import Subprotocol
from websockets.asyncio.server import ServerConnection, serve

from harness import SOON_S
from millrace._channel import Target
from millrace.worker import _links
from millrace.worker._links import LinkError, NngLink, Seat

MORE_THAN_BUFFERS_HOLD = bytes(64 * 1024 * 1024)


@pytest.fixture
async def link() -> AsyncIterator[NngLink]:
    """To a server that does not read."""
    over = asyncio.Event()

    async def hold(connection: ServerConnection) -> None:
        await over.wait()

    protocols = [Subprotocol("push.sp.nanomsg.org"), Subprotocol("pull.sp.nanomsg.org")]
    async with serve(hold, "127.0.0.1", 0, subprotocols=protocols, max_queue=1, close_timeout=0.1) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield await NngLink.open(Seat("session", "token", url, "/jobs", "/reports", 65536), Target.of(None, None, None, None))
        over.set()


async def test_a_send_ends_when_nothing_is_taken(link: NngLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_links, "_SEND_TIMEOUT_S", 0.2)
    async with asyncio.timeout(SOON_S):
        with pytest.raises(LinkError, match="the server has taken nothing"):
            await link.send(MORE_THAN_BUFFERS_HOLD)
        assert [message async for message in link.messages()] == []
        await link.close()


async def test_a_close_ends_when_nothing_is_taken(link: NngLink) -> None:
    sending = asyncio.create_task(link.send(MORE_THAN_BUFFERS_HOLD))
    await asyncio.wait([sending], timeout=0.2)
    sending.cancel()
    async with asyncio.timeout(SOON_S):
        await link.close()
