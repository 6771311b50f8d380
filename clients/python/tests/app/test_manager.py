# SPDX-License-Identifier: Apache-2.0
"""`JobManager` and the values around it, in memory: arguments, options, time that is moved by hand."""

import asyncio
import enum
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace import RetryPolicy, task
from millrace.jobs import JobManager, JobPriority, TaskStatus, WaitTimeout
from millrace.jobs._types import describe_interval
from millrace.jobs.memory import MemoryQueueBackend
from millrace.types import JobState

START = datetime(2030, 1, 1, 8, 30, tzinfo=UTC)


@pytest.fixture
def backend() -> MemoryQueueBackend:
    return MemoryQueueBackend(now=START)


@pytest.fixture
def jobs(backend: MemoryQueueBackend) -> JobManager:
    return JobManager(backend)


def unique_name() -> str:
    return f"task_{uuid.uuid4().hex}"


def arguments(backend: MemoryQueueBackend) -> Any:
    """What the last job would hand to its handler."""
    payload = backend.jobs()[-1].payload
    assert payload is not None
    return json.loads(payload.json) if payload.json else None


def test_the_words_equal_their_values() -> None:
    assert [priority.value for priority in JobPriority] == [0, 5, 8, 10]
    assert {status.name: status for status in TaskStatus} == {
        name.upper(): name
        for name in ("pending", "scheduled", "running", "success", "failed", "cancelled", "retrying", "blocked", "expired")
    }
    assert {status for status in TaskStatus if status.is_terminal} == {"success", "failed", "cancelled", "expired"}
    assert f"{TaskStatus.SUCCESS}" == "success"


async def test_no_keyword_is_taken_from_handlers_except_priority_and_queue(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    words = {"task": 1, "self": 2, "name": 3, "delay": 4, "timeout": 5, "labels": 6, "args": 7, "kwargs": 8, "options": 9}
    await jobs.enqueue("unhandled", **words)
    assert arguments(backend) == words
    words = {"task": 1, "self": 2, "queue": "q", "priority": 3, "timeout": 5}
    await jobs.enqueue_delayed("unhandled", delay=timedelta(1), **words)
    assert arguments(backend) == words
    with pytest.raises(TypeError, match=r"jobs\.options\(priority=…\)"):
        await jobs.enqueue_delayed("unhandled", timedelta(1), priority=JobPriority.HIGH)


async def test_priorities_are_the_four(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    for value, priority in ((0, JobPriority.LOW), (10, JobPriority.CRITICAL), (JobPriority.HIGH, JobPriority.HIGH)):
        await jobs.enqueue("unhandled", priority=value)  # type: ignore[arg-type]
        assert backend.jobs()[-1].priority is priority
    await jobs.enqueue("unhandled")
    assert backend.jobs()[-1].priority is JobPriority.NORMAL
    with pytest.raises(ValueError, match="7"):
        await jobs.enqueue("unhandled", priority=7)  # type: ignore[arg-type]


async def test_a_delay_is_a_timedelta(jobs: JobManager) -> None:
    with pytest.raises(TypeError, match="delay is a timedelta, not int"):
        await jobs.enqueue_delayed("unhandled", 60)  # type: ignore[arg-type]


async def test_options_hold_for_what_follows_and_only_that(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    tenant = jobs.options(labels={"tenant": "a"}, queue="mail")
    await tenant.options(priority=JobPriority.HIGH, total_timeout=60, unique_key="k").enqueue("unhandled")
    await tenant.enqueue_delayed("unhandled", timedelta(hours=1))
    await tenant.chain([("unhandled", (), {})])
    await tenant.enqueue_batch("unhandled", items=[{}])
    await jobs.enqueue("unhandled")
    made = backend.jobs()
    assert [(job.queue, dict(job.labels)) for job in made] == [("mail", {"tenant": "a"})] * 4 + [("default", {})]
    assert (made[0].priority, made[0].deadline, made[0].unique_key) == (JobPriority.HIGH, START + timedelta(seconds=60), "k")
    assert (made[1].priority, made[1].deadline) == (JobPriority.NORMAL, None)


async def test_an_option_that_is_not_there_is_named(jobs: JobManager) -> None:
    with pytest.raises(TypeError, match="'tiemout'"):
        jobs.options(tiemout=5)  # type: ignore[call-arg]


async def test_an_id_names_one_job(jobs: JobManager) -> None:
    one = jobs.options(id=uuid.uuid4())
    with pytest.raises(TypeError, match="a chain makes several"):
        await one.chain([("unhandled", (), {})])
    with pytest.raises(TypeError, match="a batch makes several"):
        await one.enqueue_batch("unhandled", items=[])
    with pytest.raises(TypeError, match="a schedule makes several"):
        await one.schedule("unhandled", cron="* * * * *")


@pytest.mark.parametrize("size", [0, -1, 1001])
async def test_a_batch_size_has_limits(jobs: JobManager, size: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        await jobs.enqueue_batch("unhandled", items=[], batch_size=size)


async def test_a_batch_tells_what_was_refused(jobs: JobManager) -> None:
    result = await jobs.options(unique_key="only one").enqueue_batch("unhandled", items=[{}, {}, {}])
    assert (result.total, result.enqueued) == (3, 1)
    assert result.error is not None
    assert "unique key 'only one'" in result.error


# ---- handlers of @task, in memory ----


async def test_async_handlers_run_too(jobs: JobManager) -> None:
    @task(unique_name())
    async def slowly(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert (await jobs.wait_for(await jobs.enqueue(slowly, 1))).result == 2


async def test_an_exception_in_a_task_follows_the_jobs_policy(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    attempts: list[datetime] = []

    @task(unique_name(), retry=RetryPolicy(max_attempts=3, initial=10, jitter=0))
    def fail() -> None:
        attempts.append(backend.now)
        raise RuntimeError("no")

    await jobs.enqueue(fail)
    await jobs.options(retry=RetryPolicy(max_attempts=1)).enqueue(fail)
    await backend.advance(timedelta(minutes=5))
    assert attempts == [START, START, START + timedelta(seconds=10), START + timedelta(seconds=30)]
    assert [job.state for job in backend.jobs()] == [JobState.FAILED] * 2


async def test_a_task_without_policy_is_tried_four_times(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    ran: list[int] = []

    @task(unique_name())
    def fail() -> None:
        ran.append(1)
        raise RuntimeError("no")

    task_id = await jobs.enqueue(fail)
    assert (await jobs.get_status(task_id)).status == "retrying"
    await backend.advance(timedelta(minutes=1))
    assert ((await jobs.get_status(task_id)).status, len(ran)) == ("failed", 4)


async def test_a_task_that_is_registered_later_runs_when_time_moves(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    name = unique_name()
    task_id = await jobs.enqueue(name)
    assert (await jobs.get_status(task_id)).status == "pending"
    task(name)(lambda: "late")
    await jobs.enqueue("unhandled")
    assert (await jobs.get_status(task_id)).result == "late"


async def test_what_json_cannot_say_is_refused_at_once(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    class Colour(enum.Enum):
        RED = object()

    with pytest.raises(ValueError, match=r"kwargs\.when\.colour"):
        await jobs.enqueue("unhandled", when={"colour": Colour.RED})
    assert backend.jobs() == []


async def test_somebody_can_wait_while_time_is_moved(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    task_id = await jobs.enqueue_delayed(task(unique_name())(lambda: "done"), timedelta(hours=1))
    waiting = asyncio.create_task(jobs.wait_for(task_id))
    await asyncio.sleep(0)
    await backend.advance(timedelta(hours=1))
    assert (await waiting).result == "done"
    with pytest.raises(WaitTimeout):
        await jobs.wait_for(await jobs.enqueue("unhandled"), timeout=0.01)


# ---- schedules, in memory ----


async def test_schedules_run_at_their_times(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    times: list[datetime] = []
    handler = task(unique_name())(lambda: times.append(backend.now))
    assert await jobs.schedule(handler, cron="0 9 * * *") == handler.name
    (listed,) = await jobs.list_scheduled()
    assert (listed.schedule, listed.next_run) == ("0 9 * * *", datetime(2030, 1, 1, 9, tzinfo=UTC))
    await backend.advance(timedelta(days=2))
    assert times == [datetime(2030, 1, 1, 9, tzinfo=UTC), datetime(2030, 1, 2, 9, tzinfo=UTC)]
    await jobs.options(time_zone="Europe/Berlin").schedule(handler, cron="0 9 * * *")
    (listed,) = await jobs.list_scheduled()
    assert listed.next_run == datetime(2030, 1, 4, 8, tzinfo=UTC)
    await jobs.unschedule(handler.name)
    await backend.advance(timedelta(days=2))
    assert len(times) == 2


async def test_a_schedule_does_not_overtake_itself(jobs: JobManager, backend: MemoryQueueBackend) -> None:
    await jobs.schedule_interval("unhandled", interval=timedelta(minutes=5))
    await backend.advance(timedelta(hours=1))
    assert [job.schedule_name for job in backend.jobs()] == ["unhandled"]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(minutes=5), "every 5m"),
        (timedelta(seconds=90), "every 1m30s"),
        (timedelta(days=7), "every 7d"),
        (timedelta(hours=1, seconds=0.5), "every 1h0.5s"),
        (timedelta(seconds=1), "every 1s"),
    ],
)
def test_an_interval_in_words(interval: timedelta, words: str) -> None:
    assert describe_interval(interval) == words
