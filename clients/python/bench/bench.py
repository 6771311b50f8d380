# SPDX-License-Identifier: Apache-2.0
"""Measures the Python client beside Celery on Redis, in one run on one machine: python clients/python/bench/bench.py

How fast jobs are created, each acknowledged, and how fast one worker process runs jobs that do nothing. Both systems write to disk before
they acknowledge (`--durability=sync`; Redis with `appendfsync always`), carry the same payload of about 300 bytes and keep results.
Every figure is the median of some rounds; each ratio compares with Celery's figure of the same row. The limits are what one create at a
time is made of: a call that writes nothing, and an append with its fdatasync; nothing that does both, one after the other, is faster.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "app")]

from processes import Program, start_millraced, start_redis, start_worker, wait_until  # noqa: E402

from millrace import Client, JobSpec, sync  # noqa: E402
from millrace.jobs import JobManager  # noqa: E402
from millrace.jobs.service import MillraceQueueBackend  # noqa: E402

DATA = "x" * 280
PYTHON_PATH = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
PREFETCH = 100
PATIENCE_S = 300.0
RECORD_BYTES = 500  # what a create of this payload adds to the log


@dataclass
class Table:
    """What was measured, by row: Millrace, Celery, the ratio that is wanted."""

    wanted: dict[str, float]
    millrace: dict[str, list[float]] = field(default_factory=dict)
    celery: dict[str, list[float]] = field(default_factory=dict)

    def add(self, system: str, row: str, rate: float) -> None:
        """Takes a figure, and shows it."""
        getattr(self, system).setdefault(row, []).append(rate)
        print(f"  {system:9}{row:42}{rate:12,.0f}/s", file=sys.stderr)

    def __str__(self) -> str:
        lines = ["| what | Millrace | Celery | ratio | wanted |", "|---|---|---|---|---|"]
        for row in dict.fromkeys([*self.millrace, *self.celery]):
            ours, theirs = (statistics.median(side[row]) if row in side else None for side in (self.millrace, self.celery))
            ratio = f"{ours / theirs:.1f}" if ours and theirs else ""
            wanted = f"≥ {self.wanted[row]:g}" if row in self.wanted else ""
            cells = [f"{figure:,.0f}/s" if figure else "" for figure in (ours, theirs)]
            lines.append(f"| {row} | {cells[0]} | {cells[1]} | {ratio} | {wanted} |")
        return "\n".join(lines)


DEPTH_1, DEPTH_64 = "create, one at a time", "create, 64 at a time"
COALESCED, BULK, STREAM = "create, 64 at a time, coalesced", "create in bulk", "create over a stream"
MANAGER_1, MANAGER_BATCH = "JobManager.enqueue, one at a time", "JobManager.enqueue_batch of 1,000"
LIMIT_CALL, LIMIT_SYNC, LIMIT = "limit: a call that writes nothing", "limit: append and fdatasync", "limit: both, one after the other"
WORKER = "run, one process for handlers, prefetch 100"
WORKER_THREADS, WORKER_ASYNCIO = "run, pool threads (8), prefetch 100", "run, pool asyncio (100), prefetch 100"
WANTED = {DEPTH_1: 2, DEPTH_64: 5, COALESCED: 10, BULK: 50, WORKER: 5}


def spec() -> JobSpec:
    """The job that everybody creates."""
    return JobSpec("noop", kwargs={"data": DATA})


# ---- creating ----


async def rate_async(create: Callable[[], Awaitable[object]], depth: int, seconds: float) -> float:
    """Creates a second, with so many under way."""
    done = 0
    end = time.perf_counter() + seconds

    async def loop() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await create()
            done += 1

    begin = time.perf_counter()
    await asyncio.gather(*[loop() for _ in range(depth)])
    return done / (time.perf_counter() - begin)


async def rate_bulk(create: Callable[[int], Awaitable[int]], seconds: float, count: int = 10_000) -> float:
    """Jobs a second, when they come by the thousand."""
    done = 0
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        done += await create(count)
    return done / elapsed


def rate_sync(folder: pathlib.Path, seconds: float) -> float:
    """Appends of a create's size to a file, each synced, a second."""
    done = 0
    begin = time.perf_counter()
    with open(folder / "appended", "ab", buffering=0) as file:
        while (elapsed := time.perf_counter() - begin) < seconds:
            file.write(b"x" * RECORD_BYTES)
            os.fdatasync(file.fileno())
            done += 1
    return done / elapsed


async def measure_limits(folder: pathlib.Path, address: str, table: Table, seconds: float) -> None:
    """What one create at a time can't be faster than."""
    async with Client(address) as client:
        call = await rate_async(client.server_info, 1, seconds)
    append = rate_sync(folder, seconds)
    table.add("millrace", LIMIT_CALL, call)
    table.add("millrace", LIMIT_SYNC, append)
    table.add("millrace", LIMIT, 1 / (1 / call + 1 / append))


async def measure_creates(address: str, table: Table, seconds: float) -> None:
    """Millrace's side."""
    async with Client(address, timeout=PATIENCE_S, coalesce=False) as client:
        for row, depth in ((DEPTH_1, 1), (DEPTH_64, 64)):
            table.add("millrace", row, await rate_async(lambda: client.create(spec()), depth, seconds))

        async def bulk(count: int) -> int:
            return len(await client.create_many(spec() for _ in range(count)))

        async def stream(count: int) -> int:
            return len([outcome async for outcome in client.create_stream(spec() for _ in range(count))])

        table.add("millrace", BULK, await rate_bulk(bulk, seconds))
        table.add("millrace", STREAM, await rate_bulk(stream, seconds))
    async with Client(address, timeout=PATIENCE_S) as client:
        table.add("millrace", COALESCED, await rate_async(lambda: client.create(spec()), 64, seconds))
        jobs = JobManager(MillraceQueueBackend(client))

        async def batch(count: int) -> int:
            items: AsyncIterator[dict[str, str]] = _items(count)
            return (await jobs.enqueue_batch("noop", items=items, batch_size=1000)).enqueued

        table.add("millrace", MANAGER_1, await rate_async(lambda: jobs.enqueue("noop", data=DATA), 1, seconds))
        table.add("millrace", MANAGER_BATCH, await rate_bulk(batch, seconds))
        await purge(client)


async def _items(count: int) -> AsyncIterator[dict[str, str]]:
    for _ in range(count):
        yield {"data": DATA}


async def purge(client: Client) -> None:
    """Empties the queue, so that no measurement stands in another's way."""
    await client.queues.purge("default")


def measure_celery_creates(table: Table, seconds: float) -> None:
    """Celery's side: its own calls, from as many threads as creates are under way."""
    from celery import group
    from noop_celery import app, noop

    def one() -> None:
        noop.apply_async(kwargs={"data": DATA})

    def rate(depth: int) -> float:
        end = time.perf_counter() + seconds

        def loop() -> int:
            done = 0
            while time.perf_counter() < end:
                one()
                done += 1
            return done

        begin = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(depth) as threads:
            done = sum(threads.map(lambda _: loop(), range(depth)))
        return done / (time.perf_counter() - begin)

    one()
    app.pool.limit = 64
    table.add("celery", DEPTH_1, rate(1))
    at_64 = rate(64)
    table.add("celery", DEPTH_64, at_64)
    table.add("celery", COALESCED, at_64)  # Celery gathers nothing: what 64 threads reach is what there is
    done = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        group(noop.s(data=DATA) for _ in range(1000)).apply_async()
        done += 1000
    table.add("celery", BULK, done / (time.perf_counter() - begin))
    app.control.purge()


# ---- running ----


def drain_rate(finished: Callable[[], int], total: int) -> float:
    """Jobs a second, from the first tenth that is done to the last job."""
    wait_until(lambda: finished() >= total // 10, "the worker gets going", PATIENCE_S)
    first, begin = finished(), time.perf_counter()
    wait_until(lambda: finished() >= total, "the worker gets done", PATIENCE_S)
    return (total - first) / (time.perf_counter() - begin)


def measure_worker(folder: pathlib.Path, address: str, table: Table, row: str, pool: str, concurrency: int, total: int) -> None:
    """One worker process of ours, from start to empty queue."""
    with sync.Client(address) as client:
        before = client.queues.get("default").counts.succeeded
        client.create_many(spec() for _ in range(total))
        flags = ["--pool", pool, "--prefetch", str(PREFETCH)]
        worker = start_worker(folder, address, "noop", "default", concurrency, {"PYTHONPATH": PYTHON_PATH}, flags)
        try:
            table.add("millrace", row, drain_rate(lambda: client.queues.get("default").counts.succeeded - before, total))
        finally:
            worker.stop()


def measure_celery_worker(folder: pathlib.Path, table: Table, total: int) -> None:
    """One Celery process for handlers (prefork, concurrency 1)."""
    from noop_celery import app, noop
    from redis import Redis

    results = Redis.from_url(os.environ["CELERY_RESULT_BACKEND"])
    results.flushdb()
    with app.producer_or_acquire() as producer:
        for _ in range(total):
            noop.apply_async(kwargs={"data": DATA}, producer=producer)
    command = [sys.executable, "-m", "celery", "-A", "noop_celery", "worker", "--concurrency", "1"]
    command += ["--prefetch-multiplier", str(PREFETCH), "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = Program("celery", folder, command, {"PYTHONPATH": PYTHON_PATH})
    try:
        table.add("celery", WORKER, drain_rate(lambda: int(results.dbsize()), total))
    finally:
        worker.stop()


# ---- all together ----


@contextmanager
def systems(folder: pathlib.Path) -> Iterator[str]:
    """Both servers; yields Millrace's address."""
    millraced, address = start_millraced(folder / "millraced")
    redis, port = start_redis(folder / "redis", durable=True)
    os.environ["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{port}/1"
    os.environ["CELERY_RESULT_BACKEND"] = f"redis://127.0.0.1:{port}/2"
    try:
        yield address
    finally:
        redis.stop()
        millraced.stop()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each measurement of creates (default 5)")
    parser.add_argument("--jobs", type=int, default=20_000, help="for each measurement of a worker (default 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="of everything; the median counts (default 3)")
    arguments = parser.parse_args()
    table = Table(WANTED)
    with tempfile.TemporaryDirectory() as name, systems(pathlib.Path(name)) as address:
        folder = pathlib.Path(name)
        for number in range(arguments.rounds):
            print(f"round {number + 1}", file=sys.stderr)
            asyncio.run(measure_limits(folder, address, table, arguments.seconds))
            asyncio.run(measure_creates(address, table, arguments.seconds))
            measure_celery_creates(table, arguments.seconds)
            for row, pool, concurrency in ((WORKER, "processes", 1), (WORKER_THREADS, "threads", 8), (WORKER_ASYNCIO, "asyncio", 100)):
                measure_worker(folder, address, table, row, pool, concurrency, arguments.jobs)
            measure_celery_worker(folder, table, max(arguments.jobs // 10, 500))
    print(table)


if __name__ == "__main__":
    main()
