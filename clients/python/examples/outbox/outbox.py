# SPDX-License-Identifier: Apache-2.0
"""The outbox on PostgreSQL: jobs written in the transaction that they belong to, and the relay that hands them to Millrace.

python outbox.py "dbname=shop"          # the relay; run one, or several
"""

import asyncio
import contextlib
import sys
import uuid
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

import millrace

BATCH = 1000
IDLE_S = 5.0


async def place_order(connection: psycopg.AsyncConnection[Any], item: str) -> uuid.UUID:
    """What an application does: its own change and the job, both or neither."""
    order_id = uuid.uuid4()
    async with connection.transaction():
        await connection.execute("INSERT INTO orders (id, item) VALUES (%s, %s)", (order_id, item))
        await connection.execute("INSERT INTO outbox (task, kwargs) VALUES (%s, %s)", ("process_order", Jsonb({"order_id": str(order_id)})))
        await connection.execute("NOTIFY outbox")
    return order_id


async def relay(connection: psycopg.AsyncConnection[Any], client: millrace.Client) -> int:
    """Hands over what is waiting, and forgets it; returns how many.

    A relay that dies before the commit leaves the rows, and they go out again: Millrace answers with the jobs that it has. Rows that
    another relay is handing over are left to it. A row that Millrace refuses stays; the error says why.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT id, task, kwargs FROM outbox ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED", (BATCH,)
        )
        rows = await cursor.fetchall()
        specs = [millrace.JobSpec(task, kwargs=kwargs, id=row_id) for row_id, task, kwargs in rows]
        outcomes = await client.create_many(specs)
        taken = [outcome.id for outcome in outcomes if outcome.error is None]
        await connection.execute("DELETE FROM outbox WHERE id = ANY(%s::uuid[])", (taken,))
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"outbox row {outcome.id} is refused: {outcome.error}", file=sys.stderr)
    return len(taken)


async def run_relay(conninfo: str, client: millrace.Client) -> None:
    """Relays for ever: at once when told by NOTIFY, and every few seconds in case one was missed."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute("LISTEN outbox")
        while True:
            try:
                while await relay(connection, client) == BATCH:
                    pass
            except millrace.Unavailable as error:
                print(f"Millrace can't be reached, trying again: {error}", file=sys.stderr)
            async for _ in connection.notifies(timeout=IDLE_S, stop_after=1):
                pass


async def main() -> None:
    """The command."""
    async with millrace.Client() as client:
        await run_relay(sys.argv[1], client)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
