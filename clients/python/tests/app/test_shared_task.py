# SPDX-License-Identifier: Apache-2.0
"""`shared_task`: options, direct calls, `.delay` and its kin; what handlers do when they run is in test_contract.py."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.errors import InvalidArgument
from millrace.jobs import (
    JobManager,
    JobPriority,
    SharedTask,
    TaskFailed,
    TaskStatus,
    WaitTimeout,
    shared_task,
    use_backend,
)
from millrace.jobs.memory import MemoryQueueBackend
from millrace.registry import default_registry
from millrace.types import JobState


@pytest.fixture
def backend() -> Iterator[MemoryQueueBackend]:
    """What `.delay` reaches."""
    made = MemoryQueueBackend()
    use_backend(lambda: made)
    yield made
    use_backend(None)


def unique_name() -> str:
    return f"task_{uuid.uuid4().hex}"


def test_a_task_has_the_bare_name_of_its_function() -> None:
    @shared_task
    def tidy_up_the_cellar() -> None:
        """Carries coal."""

    assert tidy_up_the_cellar.name == "tidy_up_the_cellar"
    assert tidy_up_the_cellar.__doc__ == "Carries coal."
    assert default_registry.get("tidy_up_the_cellar") is tidy_up_the_cellar


def test_two_functions_of_one_name_are_an_error_when_they_are_imported() -> None:
    def define(module: str) -> None:
        def sweep_twice() -> None: ...

        sweep_twice.__module__ = module
        shared_task(sweep_twice)

    define("shop.email")
    define("shop.email")  # a module that is loaded again
    with pytest.raises(InvalidArgument, match=r"'sweep_twice' is registered twice: shop\.email.*shop\.reports"):
        define("shop.reports")


@pytest.mark.parametrize("option", ["rate_limit", "serializer", "default_retry_delay", "base"])
def test_an_option_that_is_not_there_is_named(option: str) -> None:
    with pytest.raises(TypeError, match=f"no option '{option}'"):
        shared_task(**{option: 1})(lambda: None)


def test_an_async_function_is_refused() -> None:
    async def asynchronous() -> None: ...

    with pytest.raises(TypeError, match="@task can"):
        shared_task(asynchronous)


def test_a_direct_call_is_a_plain_call() -> None:
    @shared_task(name=unique_name(), bind=True)
    def double(self: SharedTask[Any], number: int) -> tuple[int, bool, int]:
        return 2 * number, self.request.called_directly, self.request.retries

    assert double(21) == (42, True, 0)
    with pytest.raises(ZeroDivisionError):
        shared_task(name=unique_name())(lambda: 1 / 0)()


def test_retrying_in_a_direct_call_raises_the_exception() -> None:
    @shared_task(name=unique_name(), bind=True)
    def send(self: SharedTask[Any]) -> None:
        self.retry(exc=ConnectionError("no route"), countdown=1)

    with pytest.raises(ConnectionError, match="no route"):
        send()


@pytest.mark.parametrize("options", [{"autoretry_for": (ValueError,)}, {}])
def test_an_exception_in_a_direct_call_comes_out(options: Any) -> None:
    @shared_task(name=unique_name(), **options)
    def parse() -> int:
        return int("seven")

    with pytest.raises(ValueError, match="seven"):
        parse()


# ---- making jobs from code that is not async ----


def test_delay_makes_a_job(backend: MemoryQueueBackend) -> None:
    @shared_task(name=unique_name())
    def add(a: int, b: int) -> int:
        return a + b

    made = add.delay(2, b=3)
    assert (made.get(timeout=30), made.status, made.ready()) == (5, "success", True)
    assert [job.id for job in backend.jobs()] == [made.id]


def test_the_result_of_a_job_that_failed_is_an_error(backend: MemoryQueueBackend) -> None:
    @shared_task(name=unique_name())
    def fail() -> None:
        raise LookupError("no such user")

    with pytest.raises(TaskFailed, match="LookupError: no such user"):
        fail.delay().get()


def test_the_result_of_a_job_that_has_not_ended_is_waited_for(backend: MemoryQueueBackend) -> None:
    made = shared_task(name=unique_name())(lambda: None).apply_async(countdown=60)
    assert (made.status, made.ready()) == (TaskStatus.SCHEDULED, False)
    with pytest.raises(WaitTimeout):
        made.get(timeout=0.1)


def test_apply_async_takes_celerys_options(backend: MemoryQueueBackend) -> None:
    task = shared_task(name=unique_name(), queue="mail", priority=JobPriority.LOW)(lambda *args, **kwargs: None)
    eta = datetime.now(UTC) + timedelta(hours=1)
    task.apply_async((1, 2), {"c": 3}, countdown=30, expires=90)
    task.apply_async(eta=eta, queue="urgent", priority=8, expires=eta + timedelta(hours=1))
    first, second = backend.jobs()
    assert (first.queue, first.priority) == ("mail", JobPriority.LOW)
    assert first.run_at == backend.now + timedelta(seconds=30)
    assert first.expires_at == backend.now + timedelta(seconds=90)
    assert first.payload is not None
    assert first.payload.json == '{"args":[1,2],"kwargs":{"c":3}}'
    assert (second.queue, second.priority) == ("urgent", JobPriority.HIGH)
    assert (second.run_at, second.expires_at) == (eta, eta + timedelta(hours=1))
    with pytest.raises(TypeError, match="link"):
        task.apply_async(link="other")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="7"):
        task.apply_async(priority=7)


async def test_delay_works_where_an_event_loop_runs(backend: MemoryQueueBackend) -> None:
    @shared_task(name=unique_name())
    def leaf() -> str:
        return "leaf"

    @shared_task(name=unique_name())
    def trunk() -> str:
        return str(leaf.delay().get(timeout=30))

    @shared_task(name=unique_name())
    def root() -> str:
        return str(trunk.delay().get(timeout=30))

    assert root.delay().get(timeout=30) == "leaf"
    jobs = JobManager(backend)
    assert (await jobs.wait_for(await jobs.enqueue(root))).result == "leaf"


def test_si_is_a_step_of_a_chain(backend: MemoryQueueBackend) -> None:
    seen: list[str] = []
    step = shared_task(name=unique_name(), queue="mail")(seen.append)
    last = asyncio.run(JobManager(backend).chain([step.si("first"), step.si("second")]))
    assert seen == ["first", "second"]
    assert [(job.queue, job.state) for job in backend.jobs()] == [("mail", JobState.SUCCEEDED)] * 2
    assert backend.jobs()[-1].id == last


def test_a_task_object_brings_its_queue_and_priority(backend: MemoryQueueBackend) -> None:
    task = shared_task(name=unique_name(), queue="mail", priority=JobPriority.HIGH)(lambda: None)

    async def enqueue() -> None:
        jobs = JobManager(backend)
        await jobs.enqueue(task)
        await jobs.enqueue(task, queue="other", priority=JobPriority.LOW)
        await jobs.options(queue="third").enqueue(task)
        await jobs.enqueue(task.name)

    asyncio.run(enqueue())
    assert [(job.queue, job.priority) for job in backend.jobs()] == [("mail", 8), ("other", 0), ("third", 8), ("default", 5)]


# ---- retries, to the second ----


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [180, 180, 180]),
        ({"retry_backoff": True, "retry_jitter": False}, [1, 2, 4]),
        ({"retry_backoff": 5, "retry_backoff_max": 12, "retry_jitter": False}, [5, 10, 12]),
    ],
)
async def test_autoretry_waits_as_celery_does(options: Any, waits: list[int]) -> None:
    backend = MemoryQueueBackend()

    @shared_task(name=unique_name(), autoretry_for=(ValueError,), **options)
    def fail() -> None:
        raise ValueError

    await JobManager(backend).enqueue(fail)
    assert await waits_between_attempts(backend) == waits
    assert backend.jobs()[0].state is JobState.FAILED


async def test_autoretry_jitter_stays_below_the_backoff() -> None:
    backend = MemoryQueueBackend()

    @shared_task(name=unique_name(), autoretry_for=(ValueError,), retry_backoff=100, max_retries=8)
    def fail() -> None:
        raise ValueError

    await JobManager(backend).enqueue(fail)
    waits = await waits_between_attempts(backend)
    assert len(waits) == 8
    assert all(0 <= wait <= min(100 * 2**n, 600) for n, wait in enumerate(waits))
    assert len(set(waits)) > 1


async def test_retry_takes_a_time_and_a_limit_of_its_own() -> None:
    backend = MemoryQueueBackend()

    @shared_task(name=unique_name(), bind=True, max_retries=0)
    def wait(self: SharedTask[Any]) -> None:
        self.retry(eta=backend_now() + timedelta(seconds=50), max_retries=1)

    def backend_now() -> datetime:
        return datetime.now(UTC)

    await JobManager(backend).enqueue(wait)
    (pause,) = await waits_between_attempts(backend)
    assert 48 <= pause <= 50


async def test_retries_without_a_limit_go_on() -> None:
    backend = MemoryQueueBackend()

    @shared_task(name=unique_name(), bind=True, max_retries=None)
    def again(self: SharedTask[Any]) -> int:
        if self.request.retries < 20:
            self.retry(countdown=1)
        return self.request.retries

    await JobManager(backend).enqueue(again)
    await backend.advance(30)
    assert backend.jobs()[0].result == 20


async def waits_between_attempts(backend: MemoryQueueBackend) -> list[float]:
    """Lets a job run to its end; returns the whole seconds between its attempts."""
    waits = []
    while (job := backend.jobs()[0]).state is JobState.RETRYING:
        assert job.run_at is not None
        wait = job.run_at - backend.now
        waits.append(round(wait.total_seconds()))
        await backend.advance(wait)
    return waits


# ---- soft time limits outside of the main thread ----


@pytest.mark.parametrize("in_thread", [False, True])
def test_the_soft_time_limit_works_in_any_thread(backend: MemoryQueueBackend, in_thread: bool) -> None:
    from millrace.jobs import SoftTimeLimitExceeded

    @shared_task(name=unique_name(), soft_time_limit=0.2)
    def spin() -> str:
        try:
            while True:
                sum(range(1000))
        except SoftTimeLimitExceeded:
            return "cut short"

    def run() -> str:
        async def enqueue() -> Any:
            jobs = JobManager(backend)
            return (await jobs.wait_for(await jobs.enqueue(spin))).result

        return str(asyncio.run(enqueue()))

    assert _in_thread(run) == "cut short" if in_thread else run() == "cut short"


def _in_thread(function: Callable[[], str]) -> str:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=60)
