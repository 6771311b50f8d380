# SPDX-License-Identifier: Apache-2.0
"""One manager for each process and event loop: which backend it has, and what a fork means."""

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest
from processes import HERE, SOON_S

from millrace.errors import CallCancelled, InvalidArgument
from millrace.jobs import JobManager, JobStatus, close_job_manager, get_job_manager, get_queue, use_backend
from millrace.jobs._process import AsyncResult, call
from millrace.jobs.memory import MemoryQueueBackend
from millrace.jobs.service import MillraceQueueBackend

pytestmark = pytest.mark.usefixtures("fresh_process")


def run_script(text: str, address: str) -> list[str]:
    """Runs a program of its own; returns the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
        env={"MILLRACE_ADDRESS": address, "PYTHONPATH": str(HERE.parents[1] / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_each_event_loop_has_one_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_BACKEND", "memory")

    async def twice() -> tuple[JobManager, JobManager]:
        return await get_job_manager(), await get_job_manager()

    first, second = asyncio.run(twice()), asyncio.run(twice())
    assert first[0] is first[1]
    assert second[0] is second[1]
    assert first[0] is not second[0]
    assert first[0].backend is second[0].backend  # the jobs in memory are the process's


async def test_millrace_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUEUE_BACKEND", raising=False)
    assert isinstance(await get_queue(), MillraceQueueBackend)
    before = await get_job_manager()
    await close_job_manager()
    assert await get_job_manager() is not before
    await close_job_manager()
    await close_job_manager()  # nothing is left to close


async def test_a_backend_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_BACKEND", "rabbit")
    with pytest.raises(InvalidArgument, match="'rabbit'; there are millrace, memory, celery"):
        await get_job_manager()


async def test_celery_needs_to_know_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_BACKEND", "celery")
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    with pytest.raises(InvalidArgument, match="CELERY_BROKER_URL"):
        await get_job_manager()


async def test_an_application_can_bring_its_own_backend() -> None:
    backend = MemoryQueueBackend()
    use_backend(lambda: backend)
    assert await get_queue() is backend


def test_another_backend_ends_the_calls_of_threads_that_wait_for_the_one_before() -> None:
    waiting = threading.Event()
    ended: list[type[BaseException]] = []

    class Slow(MemoryQueueBackend):
        async def wait_for(self, task_id: str, timeout: float) -> JobStatus:
            waiting.set()
            return await super().wait_for(task_id, timeout)

    def wait() -> None:
        job_id = call(lambda jobs: jobs.enqueue("nobody"))
        try:
            AsyncResult(job_id).get(timeout=300)
        except BaseException as error:
            ended.append(type(error))

    use_backend(Slow)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert waiting.wait(SOON_S)
    use_backend(None)
    thread.join(SOON_S)
    assert ended == [CallCancelled]


def test_the_workers_of_a_prefork_server_each_have_a_connection(service: str) -> None:
    lines = run_script(
        """
        import asyncio, os
        from millrace.jobs import get_job_manager, shared_task

        @shared_task(queue="prefork")
        def work(): ...

        async def serve():
            jobs = await get_job_manager()
            await jobs.enqueue(work)

        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                asyncio.run(serve())
                print(work.delay().status, flush=True)
                os._exit(0)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        print(asyncio.run(get_job_manager()).backend is not None)
        """,
        service,
    )
    assert lines == ["pending"] * 3 + ["True"]


def test_a_fork_after_the_first_call_is_an_error_and_no_hang(service: str) -> None:
    lines = run_script(
        """
        import asyncio, os
        from millrace.errors import MillraceError
        from millrace.jobs import get_job_manager

        async def serve():
            jobs = await get_job_manager()
            await jobs.enqueue("work", queue="prefork")

        asyncio.run(serve())
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(serve())
            except MillraceError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        asyncio.run(serve())
        print("the parent goes on")
        """,
        service,
    )
    assert "make the first call after the fork" in lines[0]
    assert lines[1] == "the parent goes on"
