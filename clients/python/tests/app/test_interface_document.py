# SPDX-License-Identifier: Apache-2.0
"""The interface that applications were written against, section by section, in the call forms that they use, on every backend."""

import asyncio
import importlib
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from document_handlers import calls
from fastapi import APIRouter, Depends, FastAPI
from processes import SOON_S
from src.core.interfaces.queue import QueueBackend
from src.implementations.queue.memory import MemoryQueueBackend
from src.utils.jobs import JobManager, JobPriority, TaskStatus, close_job_manager, enqueue, enqueue_delayed, get_job_manager, get_queue

_numbers = itertools.count()


@pytest.fixture(params=["memory", "millrace", "celery"])
async def jobs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fresh_process: None) -> AsyncIterator[JobManager]:
    """The manager of each backend in turn, chosen by the environment as in production."""
    monkeypatch.setenv("QUEUE_BACKEND", request.param)
    if request.param == "millrace":
        monkeypatch.setenv("MILLRACE_ADDRESS", request.getfixturevalue("millrace_fleet"))
    elif request.param == "celery":
        for name, value in request.getfixturevalue("celery_fleet").items():
            monkeypatch.setenv(name, value)
    yield await get_job_manager()
    await close_job_manager()


@pytest.fixture
def unique() -> str:
    """A word that no other test uses."""
    return f"u{next(_numbers)}-{uuid.uuid4().hex[:8]}"


async def let_pass(jobs: JobManager, length: timedelta) -> None:
    if isinstance(jobs.backend, MemoryQueueBackend):
        await jobs.backend.advance(length)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():  # it is another process that makes it true
            await asyncio.sleep(0.05)


async def post(router: APIRouter, path: str, **arguments: Any) -> Any:
    """What the route answers."""
    app = FastAPI()
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        response = await client.post(path, **arguments)
        assert response.status_code == 200, response.text
        return response.json()


# ---- quick start, levels 1 to 5 ----


async def test_level_1_fire_and_forget(jobs: JobManager, unique: str) -> None:
    router = APIRouter()

    @router.post("/signup")
    async def signup(jobs: JobManager = Depends(get_job_manager)) -> dict[str, str]:
        # Send welcome email asynchronously
        await jobs.enqueue("send_welcome_email", user_id=unique)
        return {"user_id": unique}

    assert await post(router, "/signup") == {"user_id": unique}
    mail = {"to": f"{unique}@example.com", "subject": "Welcome!", "body": f"Hi {unique}, welcome to our platform!"}
    await until(lambda: mail in calls("mailer"))


async def test_level_2_delayed_execution(jobs: JobManager, unique: str) -> None:
    router = APIRouter()

    @router.post("/orders/{order_id}/confirm")
    async def confirm_order(order_id: str, jobs: JobManager = Depends(get_job_manager)) -> list[str]:
        # Send review request in 7 days
        late = await jobs.enqueue_delayed(
            "request_review",
            delay=timedelta(days=7),
            order_id=order_id,
        )
        soon = await jobs.enqueue_delayed("request_review", delay=timedelta(seconds=1), order_id=order_id)
        return [late, soon]

    late, soon = await post(router, f"/orders/{unique}/confirm")
    await let_pass(jobs, timedelta(seconds=1))
    assert (await jobs.wait_for(soon)).status == "success"
    assert calls("request_review").count({"order_id": unique}) == 1
    assert not (await jobs.get_status(late)).status.is_terminal
    assert await jobs.cancel(late)


async def test_level_3_scheduled_jobs(jobs: JobManager) -> None:
    async def setup_scheduled_jobs() -> None:
        jobs = await get_job_manager()

        # Daily report at 9 AM
        await jobs.schedule(
            "generate_daily_report",
            cron="0 9 * * *",
            name="daily-report",
        )

        # Cleanup expired sessions every hour
        await jobs.schedule(
            "cleanup_sessions",
            cron="0 * * * *",
            name="session-cleanup",
        )

        # Health check every 5 minutes
        await jobs.schedule_interval(
            "health_check",
            interval=timedelta(minutes=5),
            name="health-ping",
        )

    await setup_scheduled_jobs()
    await setup_scheduled_jobs()
    schedules = {job.name: job.schedule for job in await jobs.list_scheduled()}
    expected = {"daily-report": "0 9 * * *", "session-cleanup": "0 * * * *", "health-ping": "every 5m"}
    assert {name: schedules.get(name) for name in expected} == expected
    before = len(calls("health_check"))
    await let_pass(jobs, timedelta(minutes=16))
    assert not isinstance(jobs.backend, MemoryQueueBackend) or len(calls("health_check")) == before + 3
    for name in expected:
        assert await jobs.unschedule(name)


async def test_level_4_chained_jobs(jobs: JobManager, unique: str) -> None:
    router = APIRouter()

    @router.post("/orders")
    async def create_order(jobs: JobManager = Depends(get_job_manager)) -> str:
        # Chain: validate -> process payment -> send confirmation
        return await jobs.chain(
            [
                ("validate_order", (), {"order_id": str(unique)}),
                ("process_payment", (), {"order_id": str(unique)}),
                ("send_confirmation", (), {"order_id": str(unique)}),
            ]
        )

    last = await jobs.wait_for(await post(router, "/orders"))
    assert last.result == {"task": "send_confirmation", "order_id": unique}
    for task in ("validate_order", "process_payment", "send_confirmation"):
        assert calls(task).count({"order_id": unique}) == 1


async def test_level_5_batch_processing(jobs: JobManager, unique: str) -> None:
    router = APIRouter()
    subscribers = [f"{unique}-{number}" for number in range(120)]

    @router.post("/admin/send-newsletter")
    async def send_newsletter(jobs: JobManager = Depends(get_job_manager)) -> dict[str, int]:
        # Enqueue job for each subscriber
        result = await jobs.enqueue_batch(
            "send_newsletter_email",
            items=[{"user_id": str(s), "content": "News"} for s in subscribers],
            batch_size=100,
        )
        return {
            "total": result.total,
            "enqueued": result.enqueued,
        }

    assert await post(router, "/admin/send-newsletter") == {"total": 120, "enqueued": 120}
    await until(lambda: {call["user_id"] for call in calls("send_newsletter_email")} >= set(subscribers))


# ---- architecture, configuration ----


def test_the_modules_have_their_names() -> None:
    for module, name in (
        ("src.utils.jobs", "JobManager"),
        ("src.core.interfaces.queue", "QueueBackend"),
        ("src.implementations.queue.memory", "MemoryQueueBackend"),
        ("src.implementations.queue.celery", "CeleryQueueBackend"),
    ):
        assert hasattr(importlib.import_module(module), name)


async def test_the_environment_chooses_the_backend(jobs: JobManager, request: pytest.FixtureRequest) -> None:
    backend = request.node.callspec.params["jobs"]
    assert type(jobs.backend).__module__ == {"millrace": "millrace.jobs.service"}.get(backend, f"millrace.jobs.{backend}")


# ---- priorities ----


async def test_job_priority_levels(jobs: JobManager) -> None:
    ids = [
        # Background tasks that can wait
        await jobs.enqueue("cleanup", priority=JobPriority.LOW),
        # Standard priority (default)
        await jobs.enqueue("send_email", to="a@example.com", priority=JobPriority.NORMAL),
        # Should run soon
        await jobs.enqueue("process_payment", priority=JobPriority.HIGH),
        # Must run immediately
        await jobs.enqueue("fraud_alert", priority=JobPriority.CRITICAL),
    ]
    for task_id in ids:
        assert (await jobs.wait_for(task_id)).status == "success"
    assert {p.name: p.value for p in JobPriority} == {"LOW": 0, "NORMAL": 5, "HIGH": 8, "CRITICAL": 10}


# ---- cron ----

NINE = timedelta(hours=9)


@pytest.mark.parametrize(
    ("cron", "matches"),
    [
        ("0 9 * * *", lambda t: (t.hour, t.minute) == (9, 0)),
        ("0 0 * * 0", lambda t: (t.isoweekday(), t.hour, t.minute) == (7, 0, 0)),
        ("*/15 * * * *", lambda t: t.minute % 15 == 0),
        ("0 9 1 * *", lambda t: (t.day, t.hour, t.minute) == (1, 9, 0)),
        ("0 */2 * * *", lambda t: (t.hour % 2, t.minute) == (0, 0)),
        ("30 4 * * 1-5", lambda t: t.isoweekday() <= 5 and (t.hour, t.minute) == (4, 30)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_common_cron_patterns(jobs: JobManager, unique: str, cron: str, matches: Callable[[datetime], bool]) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    await jobs.schedule("cleanup", cron=cron, name=unique)
    (listed,) = [job for job in await jobs.list_scheduled() if job.name == unique]
    assert await jobs.unschedule(unique)
    assert listed.next_run is not None
    first = next(t for minute in itertools.count(1) if matches(t := now + timedelta(minutes=minute)))
    second = next(t for minute in itertools.count(1) if matches(t := first + timedelta(minutes=minute)))
    assert listed.next_run in (first, second)  # the second when that minute has just begun


# ---- status and control ----


async def test_get_job_status(jobs: JobManager, unique: str) -> None:
    good = await jobs.enqueue("my_task", arg1=unique)
    bad = await jobs.enqueue("fail", "/dev/null", message="out of stock")
    words = []
    for task_id in (good, bad):
        await jobs.wait_for(task_id)
        status = await jobs.get_status(task_id)

        if status.status == "success":
            words.append(f"Result: {status.result}")
        elif status.status == "failed":
            words.append(f"Error: {status.error}")
    assert words == [f"Result: {{'task': 'my_task', 'arg1': '{unique}'}}", "Error: ValueError: out of stock"]


async def test_wait_for_completion(jobs: JobManager, unique: str) -> None:
    async def wait(task_id: str) -> Any:
        result = await jobs.wait_for(task_id, timeout=60)

        if result.status == TaskStatus.SUCCESS:
            return result.result
        raise Exception(result.error)

    assert await wait(await jobs.enqueue("my_task", arg1=unique)) == {"task": "my_task", "arg1": unique}
    with pytest.raises(Exception, match="ValueError: out of stock"):
        await wait(await jobs.enqueue("fail", "/dev/null", message="out of stock"))
    never = await jobs.enqueue("test_task", queue=unique)
    with pytest.raises(TimeoutError):
        await jobs.wait_for(never, timeout=0.1)


async def test_cancel_job(jobs: JobManager, unique: str) -> None:
    task_id = await jobs.enqueue("test_task", queue=unique)

    # Cancel pending job
    cancelled = await jobs.cancel(task_id)
    assert cancelled is True

    task_id = await jobs.enqueue_delayed("cleanup", timedelta(seconds=1))

    # Force terminate running job
    cancelled = await jobs.cancel(task_id, terminate=True)
    assert cancelled is True
    await let_pass(jobs, timedelta(seconds=1))
    assert (await jobs.wait_for(task_id)).status == "cancelled"
    assert await jobs.cancel(task_id) is False


# ---- queues ----


async def test_queue_management(jobs: JobManager, unique: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Get queue length
    pending = await jobs.queue_length("default")
    assert isinstance(pending, int)

    for _ in range(3):
        await jobs.enqueue("test_task", queue=unique)
    assert await jobs.queue_length(unique) == 3

    # Purge all pending jobs
    purged = await jobs.purge_queue(unique)
    assert (purged, await jobs.queue_length(unique)) == (3, 0)

    schedule_id = await jobs.schedule("cleanup", cron="0 9 * * *", name=unique)

    # List scheduled jobs
    schedules = await jobs.list_scheduled()
    for s in schedules:
        print(f"{s.name}: {s.schedule} (next: {s.next_run})")
    assert f"{unique}: 0 9 * * * (next: 2" in capsys.readouterr().out

    # Unschedule a job
    assert await jobs.unschedule(schedule_id) is True


# ---- FastAPI ----


async def test_fastapi_dependencies(jobs: JobManager, unique: str) -> None:
    router = APIRouter()

    # High-level JobManager (recommended)
    @router.post("/tasks")
    async def create_task(jobs: JobManager = Depends(get_job_manager)) -> dict[str, str]:
        task_id = await jobs.enqueue("my_task", arg1="value")
        return {"task_id": task_id}

    # Low-level queue access
    @router.post("/queue-stats")
    async def queue_stats(queue: QueueBackend = Depends(get_queue)) -> dict[str, int]:
        length = await queue.queue_length(unique)
        return {"pending": length}

    assert (await jobs.wait_for((await post(router, "/tasks"))["task_id"])).status == "success"
    assert await post(router, "/queue-stats") == {"pending": 0}
    assert await get_job_manager() is jobs
    assert await get_queue() is jobs.backend


# ---- convenience ----


async def test_convenience_functions(jobs: JobManager, unique: str) -> None:
    # Fire and forget
    task_id = await enqueue("send_email", to="user@example.com")
    assert (await jobs.wait_for(task_id)).status == "success"

    # Delayed execution
    task_id = await enqueue_delayed(
        "send_reminder",
        timedelta(hours=1),
        user_id="123",
    )
    assert not (await jobs.get_status(task_id)).status.is_terminal
    assert await jobs.cancel(task_id)


# ---- handlers ----


async def test_task_handlers_retry_with_exponential_backoff(jobs: JobManager, unique: str) -> None:
    """`send_email` is as the document writes it: it waits 1 s, then 2 s, and succeeds the third time."""
    begin = datetime.now(UTC)
    task_id = await jobs.enqueue("send_email", to=unique, subject="2", body="Hello")
    await let_pass(jobs, timedelta(seconds=1))
    await let_pass(jobs, timedelta(seconds=2))
    assert (await jobs.wait_for(task_id)).status == "success"
    assert len([call for call in calls("mailer") if call["to"] == unique]) == 3
    assert isinstance(jobs.backend, MemoryQueueBackend) or datetime.now(UTC) - begin >= timedelta(seconds=3)


# ---- testing ----


@pytest.fixture
def job_manager() -> JobManager:
    backend = MemoryQueueBackend()
    return JobManager(backend)


async def test_enqueue_job(job_manager: JobManager) -> None:
    task_id = await job_manager.enqueue("test_task", arg="value")
    assert task_id is not None

    # In memory backend, tasks execute immediately
    status = await job_manager.get_status(task_id)
    assert status.status in ["pending", "success"]
    assert (await job_manager.get_status(await job_manager.enqueue("my_task", arg1=1))).status == "success"
