# SPDX-License-Identifier: Apache-2.0
"""The helper for applications' own tests, used as they would."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

import pytest

from millrace import (
    AlreadyExists,
    BatchState,
    ChainState,
    Client,
    EncodingError,
    FailedPrecondition,
    InvalidArgument,
    JobExists,
    JobFilter,
    JobNotFound,
    JobPriority,
    JobSpec,
    JobState,
    NotFound,
    Registry,
    RetryPolicy,
    ScheduleSpec,
    WaitTimeout,
)
from millrace.testing import FakeClient

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @registry.task
    async def double(x: int) -> int:
        return 2 * x

    @registry.task(retry=RetryPolicy(max_attempts=3, initial=10, backoff="constant", jitter=0))
    def flaky(fails: int, seen: list[int] = []) -> str:  # noqa: B006
        seen.append(1)
        if len(seen) <= fails:
            raise ValueError("not yet")
        return "done"

    @registry.task
    def broken() -> None:
        raise ValueError("it broke")

    return registry


async def sign_up(client: Client, address: str) -> None:
    """An application's code, which knows nothing of tests."""
    await client.create("send_welcome_email", kwargs={"to": address}, priority=JobPriority.HIGH)
    await client.create("send_reminder", args=[address], delay=timedelta(days=3))


async def test_a_wrapper_around_an_async_function_is_called_as_what_it_is(registry: Registry) -> None:
    """As in a worker."""
    double = registry.get("double")
    assert double is not None

    @registry.task("quadruple")
    @functools.wraps(double.function)
    def quadruple(x: int) -> int:
        return 4 * x

    client = FakeClient(registry)
    for task, result in (("quadruple", 84), ("double", 42)):
        assert (await client.wait((await client.create(task, args=[21])).id)).result == result


async def test_what_was_created_can_be_asserted() -> None:
    client = FakeClient(Registry(), now=NOON, routes={"send_*": "mail"})
    await sign_up(client, "ada@example.org")
    job = client.assert_created("send_welcome_email", kwargs={"to": "ada@example.org"}, priority=8, count=1)
    assert (job.state, job.queue) == (JobState.PENDING, "mail")
    reminder = client.assert_created("send_reminder", args=["ada@example.org"], state="scheduled")
    await client.advance(timedelta(days=2))
    assert (await client.get(reminder.id)).state is JobState.SCHEDULED
    await client.advance(timedelta(days=1))
    assert (await client.get(reminder.id)).state is JobState.PENDING
    client.assert_not_created("send_invoice")
    with pytest.raises(
        AssertionError, match=r"expected 2 of send_reminder.*\n.*send_welcome_email\(to='ada@example.org'\) in mail, pending"
    ):
        client.assert_created("send_reminder", count=2)
    with pytest.raises(AssertionError, match="expected none"):
        client.assert_not_created("send_reminder")


async def test_handlers_run_at_once_or_on_demand(registry: Registry) -> None:
    client = FakeClient(registry)
    created = await client.create("double", args=[21])
    assert (await client.get(created.id)).result == 42
    patient = FakeClient(registry, at_once=False)
    created = await patient.create("double", args=[4])
    assert (await patient.get(created.id)).state is JobState.PENDING
    with pytest.raises(WaitTimeout):
        await patient.wait(created.id, timeout=0.01)
    assert await patient.run_due() == 1
    assert (await patient.wait(created.id)).result == 8


async def test_retries_wait_for_their_time(registry: Registry) -> None:
    client = FakeClient(registry, now=NOON)
    created = await client.create("flaky", args=[2])
    job = await client.get(created.id)
    assert (job.state, job.run_at) == (JobState.RETRYING, NOON + timedelta(seconds=10))
    await client.advance(10)
    assert (await client.get(created.id)).attempts == 2
    await client.advance(10)
    job = await client.get(created.id)
    assert (job.state, job.result, client.now) == (JobState.SUCCEEDED, "done", NOON + timedelta(seconds=20))


async def test_chains_and_batches_with_their_callbacks(registry: Registry) -> None:
    client = FakeClient(registry)
    chain = await client.chains.create([JobSpec("double", args=[1]), JobSpec("double", args=[2])])
    assert (chain.state, chain.result, chain.succeeded) == (ChainState.SUCCEEDED, 4, 2)
    once = RetryPolicy(max_attempts=1)
    failing = await client.chains.create([JobSpec("broken", retry=once), JobSpec("double", args=[1])], on_failure=JobSpec("undo"))
    assert failing.state is ChainState.FAILED
    assert failing.error is not None
    assert failing.error.message == "it broke"
    assert client.assert_created("undo").id == failing.on_failure_job_id
    batch = await client.batches.create(
        [JobSpec("double", args=[number]) for number in range(3)],
        defaults=JobSpec("double", queue="bulk"),
        on_success=JobSpec("celebrate"),
        on_complete=JobSpec("report"),
    )
    assert (batch.state, batch.total, batch.succeeded) == (BatchState.SUCCEEDED, 3, 3)
    client.assert_created("double", queue="bulk", batch_id=batch.id, count=3)
    client.assert_created("celebrate", count=1)
    client.assert_created("report", count=1)
    mixed = await client.batches.create([JobSpec("broken", retry=once)], on_success=JobSpec("celebrate"), seal=False)
    assert mixed.state is BatchState.OPEN
    with pytest.raises(InvalidArgument, match="chunk 2 is expected"):
        await client.batches.add(mixed.id, 3, [JobSpec("nobody")])
    for chunk, items, field in ((0, [JobSpec("nobody")], "chunk"), (2, [], "items")):
        with pytest.raises(InvalidArgument) as error:
            await client.batches.add(mixed.id, chunk, items)
        assert error.value.field == field
    for outcomes in (1, 0):
        assert len(await client.batches.add(mixed.id, 2, [JobSpec("nobody")], last=True)) == outcomes
    with pytest.raises(FailedPrecondition):
        await client.batches.add(mixed.id, 3, [JobSpec("nobody")])
    mixed = await client.batches.get(mixed.id)
    assert (mixed.state, mixed.total, mixed.last_chunk) == (BatchState.SEALED, 2, 2)
    assert (await client.batches.cancel(mixed.id)).cancelled == 1
    client.assert_created("celebrate", count=1)
    with pytest.raises(NotFound):
        await client.batches.get("none")


async def test_schedules_make_jobs_as_time_passes() -> None:
    client = FakeClient(Registry(), now=NOON)
    daily = ScheduleSpec(name="daily", cron="0 9 * * *", time_zone="Europe/Berlin", job=JobSpec("report"), overlap="allow")
    await client.schedules.declare("app", [daily, ScheduleSpec(name="ping", interval=3600, job=JobSpec("ping"), overlap="allow")])
    await client.advance(timedelta(days=2))
    client.assert_created("report", count=2, schedule_name="daily")
    client.assert_created("ping", count=48)
    declared = await client.schedules.declare("app", [daily], prune=True)
    assert (declared.unchanged, declared.deleted) == (1, 1)
    assert [schedule.name async for schedule in client.schedules.list()] == ["daily"]
    with pytest.raises(AlreadyExists):
        await client.schedules.create(ScheduleSpec(name="daily", interval=60, job=JobSpec("report")))


async def test_what_the_client_refuses_is_refused_here() -> None:
    client = FakeClient(Registry())
    with pytest.raises(EncodingError) as error:
        await client.create("t", kwargs={"a": [float("nan")]})
    assert error.value.field == "kwargs.a[0]"
    await client.create("t", unique="key")
    with pytest.raises(JobExists):
        await client.create("t", unique="key")
    with pytest.raises(JobNotFound):
        await client.get("00000000-0000-4000-8000-000000000000")
    with pytest.raises(NotImplementedError, match="real server"):
        await client.schedules.pause("daily")
    with pytest.raises(NotImplementedError, match="real server"):
        await client.retry("id")


async def test_listing_cancelling_and_purging() -> None:
    client = FakeClient(Registry())
    outcomes = await client.create_many(
        [JobSpec("a"), JobSpec("b", queue="other", labels={"k": "v"}), JobSpec("c", args=[object()]), JobSpec("d\0")]
    )
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, False]
    assert [job.task async for job in client.list(JobFilter(labels={"k": "v"}))] == ["b"]
    assert await client.cancel(outcomes[0].id)
    assert await client.cancel_jobs(JobFilter(tasks=["a", "b"])) == 1
    await client.create("d")
    assert (await client.queues.get("default")).counts.pending == 1
    assert await client.queues.purge("default") == 1
