# SPDX-License-Identifier: Apache-2.0
"""Producing, against the real service."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from millrace import (
    AlreadyExists,
    BatchState,
    ChainState,
    Client,
    FailedPrecondition,
    InvalidArgument,
    JobExists,
    JobFilter,
    JobNotFound,
    JobPriority,
    JobSpec,
    JobState,
    MillraceError,
    NotFound,
    QueueFull,
    QueueSettings,
    ScheduleSpec,
    UniqueKey,
    WaitingReason,
    WaitTimeout,
)
from millrace.sync import Client as SyncClient


async def test_a_job_is_created_seen_and_cancelled(client: Client, queue: str) -> None:
    created = await client.create("t", args=[1], kwargs={"b": 2}, queue=queue, priority=JobPriority.HIGH, labels={"a": "b"})
    job = await client.get(created.id)
    assert (job.state, job.queue, job.priority, job.labels) == (JobState.PENDING, queue, JobPriority.HIGH, {"a": "b"})
    assert job.waiting_reason is WaitingReason.NO_WORKER_FOR_QUEUE
    with pytest.raises(WaitTimeout):
        await client.wait(created.id, timeout=0.1)
    assert await client.cancel(created.id, reason="not wanted")
    ended = await client.wait(created.id)
    assert (ended.state, ended.error and ended.error.message) == (JobState.CANCELLED, "not wanted")
    assert not await client.cancel(created.id)
    assert (await client.retry(created.id)).generation == 2
    with pytest.raises(FailedPrecondition):
        await client.delete(created.id)
    await client.cancel(created.id)
    await client.delete(created.id)
    with pytest.raises(JobNotFound):
        await client.get(created.id)


async def test_sending_again_is_safe(client: Client, queue: str) -> None:
    spec = JobSpec("t", args=[1], id=uuid.uuid4(), queue=queue)
    assert not (await client.create(spec)).existing
    assert (await client.create(spec)).existing
    assert (await client.create(spec, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).existing
    with pytest.raises(JobExists):
        await client.create(spec, args=[2])
    flow, steps = str(uuid.uuid4()), [JobSpec("t", queue=queue), JobSpec("t", queue=queue)]
    chains = [await client.chains.create(steps, id=flow) for _ in range(2)]
    assert [chain.existing for chain in chains] == [False, True]
    assert chains[0].job_ids == chains[1].job_ids
    flow = str(uuid.uuid4())
    batches = [await client.batches.create(steps * 3, id=flow, chunk_size=2) for _ in range(2)]
    assert [(batch.existing, batch.total) for batch in batches] == [(False, 6), (True, 6)]
    with pytest.raises(AlreadyExists):
        await client.batches.create([JobSpec("other", queue=queue)], id=flow)


async def test_a_unique_key_names_its_holder(client: Client, queue: str) -> None:
    holder = await client.create("t", queue=queue, unique="key")
    with pytest.raises(JobExists) as error:
        await client.create("t", queue=queue, unique="key")
    assert error.value.job_id == holder.id
    again = await client.create("t", queue=queue, unique=UniqueKey("key", return_existing=True))
    assert (again.id, again.existing) == (holder.id, True)


async def test_delays_and_updates(client: Client, queue: str) -> None:
    created = await client.create("t", queue=queue, delay=timedelta(days=3))
    job = await client.get(created.id)
    assert job.state is JobState.SCHEDULED
    assert job.run_at is not None
    assert job.created_at is not None
    assert job.run_at - job.created_at == timedelta(days=3)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    assert (await client.update(created.id, run_at=at, priority=10, labels={"x": "y"})).run_at == at
    async with Client(client.address, coalesce=False) as alone:
        for each in (client, alone):
            with pytest.raises(InvalidArgument) as error:
                await each.create("no spaces", queue=queue)
            assert error.value.field == "task"


async def test_bulk_stream_list_and_filters(client: Client, queue: str) -> None:
    bulk = await client.create_many(JobSpec("bulk", args=[number], queue=queue) for number in range(1200))
    assert all(outcome.error is None for outcome in bulk)

    async def specs():  # type: ignore[no-untyped-def]
        for number in range(700):
            yield JobSpec("bad task" if number == 500 else "stream", args=[number], queue=queue)

    stream = [outcome async for outcome in client.create_stream(specs())]
    assert [index for index, outcome in enumerate(stream) if outcome.error] == [500]
    listed = [job.id async for job in client.list(JobFilter(queues=[queue], tasks=["bulk"]), page_size=500)]
    assert sorted(listed) == sorted(outcome.id for outcome in bulk)
    full = [job async for job in client.list(JobFilter(ids=[stream[0].id]), full=True)]
    assert full[0].payload is not None
    assert full[0].payload.json == "[0]"
    assert (await client.queues.get(queue)).counts.pending == 1899
    assert await client.cancel_jobs(JobFilter(queues=[queue], tasks=["stream"])) == 699
    assert await client.queues.purge(queue) == 1200
    assert await client.retry_jobs(JobFilter(queues=[queue], states=["cancelled"])) == 1899


async def test_watching(client: Client, queue: str) -> None:
    created = await client.create("t", queue=queue)
    seen = []
    async with asyncio.timeout(60):
        async for event in client.watch(JobFilter(ids=[created.id])):
            seen.append(event.job.state if event.job else "then")
            if event.initial_done:
                await client.cancel(created.id)
            elif event.job is not None and event.job.is_terminal:
                break
    assert seen == [JobState.PENDING, "then", JobState.CANCELLED]


async def test_queues(client: Client, queue: str) -> None:
    settings = await client.queues.update(queue, QueueSettings(max_length=1, mode="weighted"))
    assert (settings.settings.max_length, settings.settings.mode) == (1, "weighted")
    assert (await client.queues.pause(queue)).paused
    assert not (await client.queues.resume(queue)).paused
    await client.create("t", queue=queue)
    with pytest.raises(QueueFull):
        await client.create("t", queue=queue)
    assert queue in [known.name async for known in client.queues.list()]
    with pytest.raises(FailedPrecondition):
        await client.queues.delete(queue)


async def test_chains(client: Client, queue: str) -> None:
    chain = await client.chains.create([JobSpec("one", queue=queue), JobSpec("two", queue=queue)], on_failure=JobSpec("undo", queue=queue))
    assert (chain.state, len(chain.job_ids)) == (ChainState.RUNNING, 2)
    assert (await client.get(chain.job_ids[1])).waiting_reason is WaitingReason.BLOCKED
    with pytest.raises(WaitTimeout):
        await client.chains.wait(chain.id, timeout=0.05)
    await client.chains.cancel(chain.id)
    ended = await client.chains.wait(chain.id)
    assert ended.state is ChainState.CANCELLED
    assert ended.on_failure_job_id
    with pytest.raises(InvalidArgument) as error:
        await client.chains.create([JobSpec("one"), JobSpec("two", priority=3)])
    assert error.value.field == "steps[1].priority"
    with pytest.raises(NotFound):
        await client.chains.get(str(uuid.uuid4()))


async def test_batches_in_chunks(client: Client, queue: str) -> None:
    batch = await client.batches.create(
        (JobSpec("t", args=[number]) for number in range(25)),
        chunk_size=10,
        defaults=JobSpec("t", queue=queue),
        on_complete=JobSpec("report", queue=queue),
    )
    assert (batch.state, batch.total, batch.last_chunk, len(batch.outcomes)) == (BatchState.SEALED, 25, 3, 25)
    open_batch = await client.batches.create(seal=False)
    assert open_batch.state is BatchState.OPEN
    assert len(await client.batches.add(open_batch.id, 1, [JobSpec("t", queue=queue)])) == 1
    assert await client.batches.add(open_batch.id, 1, [JobSpec("t", queue=queue)]) == []
    assert (await client.batches.seal(open_batch.id)).total == 1
    await client.batches.cancel(batch.id)
    ended = await client.batches.wait(batch.id)
    assert (ended.state, ended.cancelled) == (BatchState.CANCELLED, 25)
    assert ended.on_complete_job_id
    assert {batch.id, open_batch.id} <= {known.id async for known in client.batches.list()}
    assert (await client.batches.create()).state is BatchState.SUCCEEDED


async def test_a_batch_that_was_sent_in_part_tells_which_outcomes_are_not_known(client: Client, queue: str) -> None:
    """Those of later items would stand where the first ones are looked for."""
    flow = str(uuid.uuid4())
    items = [JobSpec("t", queue=queue, labels={"number": str(number)}) for number in range(4)]

    def failing() -> Iterator[JobSpec]:
        yield from items[:3]
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError):
        await client.batches.create(failing(), id=flow, chunk_size=1)
    batch = await client.batches.create(items, id=flow, chunk_size=1)
    assert (batch.existing, batch.total, len(batch.outcomes), batch.outcomes[3].error) == (True, 4, 4, None)
    errors = [outcome.error for outcome in batch.outcomes]
    assert {error.reason for error in errors if isinstance(error, MillraceError)} == {"OUTCOME_NOT_KEPT"}
    assert (await client.get(batch.outcomes[3].id)).labels["number"] == "3"
    again = await client.batches.create(items, id=flow, chunk_size=1)
    assert (again.existing, again.total, again.outcomes) == (True, 4, ())
    whole = await client.batches.create(items, chunk_size=1)
    jobs = [await client.get(outcome.id) for outcome in whole.outcomes]
    assert [job.labels["number"] for job in jobs] == ["0", "1", "2", "3"]


async def test_schedules(client: Client, queue: str) -> None:
    name = f"report-{queue}"
    daily = ScheduleSpec(name=name, cron="0 9 * * *", time_zone="Europe/Berlin", job=JobSpec("report", queue=queue, kwargs={"a": 1}))
    made = await client.schedules.create(daily)
    assert (made.cron, made.time_zone, made.task, made.existing) == ("0 9 * * *", "Europe/Berlin", "report", False)
    assert (await client.schedules.create(daily)).existing
    hourly = ScheduleSpec(name=name, interval=timedelta(hours=1), job=daily.job)
    with pytest.raises(AlreadyExists):
        await client.schedules.create(hourly)
    assert (await client.schedules.put(hourly)).interval == timedelta(hours=1)
    assert (await client.schedules.pause(name)).paused
    assert not (await client.schedules.resume(name)).paused
    job = await client.get(await client.schedules.run(name))
    assert (job.task, job.schedule_name) == ("report", name)
    owner = f"app-{queue}"
    declared = await client.schedules.declare(owner, [ScheduleSpec(name=f"{queue}-{n}", interval=60, job=daily.job) for n in "ab"])
    assert declared.created == 2
    declared = await client.schedules.declare(owner, [ScheduleSpec(name=f"{queue}-a", interval=60, job=daily.job)], prune=True)
    assert (declared.unchanged, declared.deleted) == (1, 1)
    assert [schedule.name async for schedule in client.schedules.list(owner=owner)] == [f"{queue}-a"]
    times = await client.schedules.preview(cron="0 9 * * *", after=datetime(2026, 1, 1, 10, tzinfo=UTC), count=2)
    assert times == [datetime(2026, 1, 2, 9, tzinfo=UTC), datetime(2026, 1, 3, 9, tzinfo=UTC)]
    await client.schedules.delete(name)
    with pytest.raises(NotFound):
        await client.schedules.get(name)


async def test_routes_and_server_info(address: str, queue: str) -> None:
    async with Client(routes={"fraud_*": queue}, coalesce=False) as client:
        assert (await client.get((await client.create("fraud_alert")).id)).queue == queue
        assert (await client.server_info()).durability == "sync"


def test_the_sync_client_serves_threads(address: str, queue: str) -> None:
    ids: list[str] = []
    with SyncClient() as client:

        def create() -> None:
            for number in range(20):
                ids.append(client.create("t", args=[number], queue=queue).id)

        threads = [threading.Thread(target=create) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(job.id for job in client.list(JobFilter(queues=[queue]))) == sorted(ids)
        first = next(iter(client.list(JobFilter(queues=[queue]), page_size=1)))
        assert client.get(first.id).queue == queue
        outcomes = list(client.create_stream(JobSpec("t", queue=queue) for _ in range(10)))
        assert len(client.create_many([JobSpec("t", queue=queue)])) + len(outcomes) == 11
        with pytest.raises(WaitTimeout):
            client.wait(first.id, timeout=0.05)
        assert client.queues.purge(queue) == 171
        assert client.wait(first.id).state is JobState.CANCELLED
        chain = client.chains.create([JobSpec("t", queue=queue)])
        assert client.chains.cancel(chain.id).id == chain.id
        assert client.batches.create([JobSpec("t", queue=queue)]).total == 1
        assert client.schedules.preview(interval=60, count=1)
