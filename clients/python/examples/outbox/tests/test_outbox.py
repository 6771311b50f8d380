# SPDX-License-Identifier: Apache-2.0
"""The outbox against a real PostgreSQL and a real service."""

import asyncio
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import outbox
import psycopg
import pytest
from processes import SOON_S, Program

from millrace import Client, Job


@pytest.fixture
async def client(millraced: str) -> AsyncIterator[Client]:
    async with Client(millraced) as client:
        await client.queues.purge("default")
        yield client


@pytest.fixture
async def connection(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


async def waiting(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    """The ids of the outbox's rows."""
    cursor = await connection.execute("SELECT id FROM outbox ORDER BY created_at")
    return [str(row[0]) for row in await cursor.fetchall()]


async def jobs_of(client: Client) -> list[Job]:
    return [job async for job in client.list(full=True) if job.state == "pending"]


async def test_a_job_is_handed_over_under_the_rows_id(connection: psycopg.AsyncConnection[Any], client: Client) -> None:
    order_id = await outbox.place_order(connection, "tea")
    (row_id,) = await waiting(connection)
    assert await outbox.relay(connection, client) == 1
    (job,) = await jobs_of(client)
    assert (job.id, job.task) == (row_id, "process_order")
    assert job.payload is not None
    assert job.payload.json == f'{{"order_id":"{order_id}"}}'
    assert await waiting(connection) == []
    assert await outbox.relay(connection, client) == 0


async def test_a_transaction_that_is_rolled_back_makes_no_job(connection: psycopg.AsyncConnection[Any], client: Client) -> None:
    async with connection.transaction():
        await outbox.place_order(connection, "tea")
        raise psycopg.Rollback
    assert await outbox.relay(connection, client) == 0
    assert await jobs_of(client) == []


async def test_a_relay_that_dies_after_sending_makes_no_second_job(
    database: str, connection: psycopg.AsyncConnection[Any], client: Client
) -> None:
    for item in ("tea", "cups"):
        await outbox.place_order(connection, item)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as dying, dying.transaction():
        assert await outbox.relay(dying, client) == 2
        raise psycopg.Rollback  # as when it dies before the commit
    rows = await waiting(connection)
    assert len(rows) == 2
    assert await outbox.relay(connection, client) == 2
    assert sorted(job.id for job in await jobs_of(client)) == sorted(rows)


async def test_two_relays_share_the_work(database: str, connection: psycopg.AsyncConnection[Any], client: Client) -> None:
    for number in range(50):
        await outbox.place_order(connection, f"item {number}")
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
        handed = await asyncio.gather(outbox.relay(connection, client), outbox.relay(other, client))
    assert sum(handed) == 50
    assert len(await jobs_of(client)) == 50


async def test_the_program_relays_what_is_placed_while_it_runs(
    database: str, connection: psycopg.AsyncConnection[Any], client: Client, tmp_path: pathlib.Path
) -> None:
    await outbox.place_order(connection, "before")
    program = Program("relay", tmp_path, [sys.executable, outbox.__file__, database], {"MILLRACE_ADDRESS": client.address})
    try:
        async with asyncio.timeout(SOON_S):
            for number in (1, 2):
                while len(await jobs_of(client)) < number:
                    assert program.is_alive(), program.log
                    await asyncio.sleep(0.05)
                await outbox.place_order(connection, "meanwhile")
    finally:
        program.kill()
