# SPDX-License-Identifier: Apache-2.0
"""The shop's data, in a SQLite file that web processes and workers share: SHOP_DATABASE."""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, item TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mails (key TEXT PRIMARY KEY, recipient TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL);
"""


class NotFound(LookupError):
    """There is no such row."""


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection, and one transaction."""
    connection = sqlite3.connect(os.environ.get("SHOP_DATABASE", "shop.sqlite"), timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        connection.executescript(_SCHEMA)
        with connection:
            yield connection
    finally:
        connection.close()


def add_user(email: str, name: str) -> str:
    with database() as db:
        user_id = str(uuid.uuid4())
        db.execute("INSERT INTO users VALUES (?, ?, ?)", (user_id, email, name))
        return user_id


def get_user(user_id: str) -> sqlite3.Row:
    with database() as db:
        found: sqlite3.Row | None = db.execute("SELECT * FROM users WHERE id = ?", (user_id,)).fetchone()
    if found is None:
        raise NotFound(f"there is no user {user_id}")
    return found


def all_users() -> list[sqlite3.Row]:
    with database() as db:
        return db.execute("SELECT * FROM users ORDER BY email").fetchall()


def add_order(item: str) -> str:
    with database() as db:
        order_id = str(uuid.uuid4())
        db.execute("INSERT INTO orders VALUES (?, ?, 'new')", (order_id, item))
        return order_id


def get_order(order_id: str) -> sqlite3.Row:
    with database() as db:
        found: sqlite3.Row | None = db.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
    if found is None:
        raise NotFound(f"there is no order {order_id}")
    return found


def move_order(order_id: str, before: str, after: str) -> None:
    """Moves an order on. Doing it twice is doing it once: jobs may run again."""
    with database() as db:
        moved = db.execute("UPDATE orders SET state = ? WHERE id = ? AND state = ?", (after, order_id, before)).rowcount
    if not moved and get_order(order_id)["state"] != after:
        raise RuntimeError(f"order {order_id} is {get_order(order_id)['state']}, not {before}")


def count_orders() -> dict[str, int]:
    with database() as db:
        return {row["state"]: row["number"] for row in db.execute("SELECT state, count(*) AS number FROM orders GROUP BY state")}


def deliver_mail(key: str, recipient: str, subject: str, body: str) -> None:
    """Stands for a mail provider. The key makes a mail that is sent twice arrive once."""
    with database() as db:
        db.execute("INSERT OR IGNORE INTO mails VALUES (?, ?, ?, ?)", (key, recipient, subject, body))


def all_mails() -> list[sqlite3.Row]:
    with database() as db:
        return db.execute("SELECT * FROM mails ORDER BY rowid").fetchall()
