# SPDX-License-Identifier: Apache-2.0
"""Keeps jobs in memory, for tests and for development without a server."""

from __future__ import annotations

from datetime import datetime

from millrace.jobs.service import MillraceQueueBackend
from millrace.registry import Registry, default_registry
from millrace.testing import FakeClient
from millrace.types import Duration, Job


class MemoryQueueBackend(MillraceQueueBackend):
    """Runs registered tasks at once, in the caller's process; keeps the others pending; starts delayed ones in `advance()`.

    Its clock stands still: only `advance()` moves it. Nothing outlives the process. `client` is the `FakeClient` below, with its
    assertions.
    """

    client: FakeClient

    def __init__(self, registry: Registry = default_registry, *, now: datetime | None = None) -> None:
        super().__init__(FakeClient(registry, now=now))

    @property
    def now(self) -> datetime:
        """What its clock says."""
        return self.client.now

    async def advance(self, length: Duration) -> None:
        """Moves the clock and runs what becomes due: delayed jobs, retries, schedules."""
        await self.client.advance(length)

    def jobs(self) -> list[Job]:
        """Every job there is, oldest first, for what a test wants to know."""
        return self.client.created()
