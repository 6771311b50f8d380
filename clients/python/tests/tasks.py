# SPDX-License-Identifier: Apache-2.0
"""Handlers for the tests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from millrace import JobContext, PermanentError, RetryLater, RetryPolicy, Snooze, current_job, default_registry, task
from millrace.jobs import shared_task


@default_registry.use
def note(context: JobContext) -> Any:
    """Middleware: what it writes shows the order in the job's log."""
    context.log(f"before {context.task}")
    try:
        yield
    finally:
        context.log(f"after {context.task}")


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def add_async(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b + len(current_job().labels)


def runs_itself(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Async code for those who call it plainly, as in applications that come from Celery."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return run


@shared_task
@runs_itself
async def add_wrapped(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@task(retry=RetryPolicy(max_attempts=2, backoff="constant", initial=0.05))
def fail(message: str) -> None:
    raise ValueError(message)


@task
def fail_for_good() -> None:
    raise PermanentError("no use") from KeyError("cause")


@task(bind=True)
def later(context: JobContext) -> int:
    if context.attempt == 1:
        raise RetryLater("busy", delay=0.05)
    return context.attempt


@task(bind=True)
def snooze_once(context: JobContext) -> int:
    if context.delivery == 1:
        raise Snooze(0.05)
    return context.attempt


@task(bind=True)
def wait_politely(context: JobContext, seconds: float = 300) -> str:
    context.progress(0.5, "waiting")
    context.wait_cancelled(seconds)
    context.check_cancelled()
    return "waited"


@task
async def wait_politely_async(seconds: float = 300) -> str:
    context = current_job()
    context.progress(0.5, "waiting")
    await context.until_cancelled(seconds)
    context.check_cancelled()
    return "waited"


@task(bind=True)
def deaf(context: JobContext, seconds: float = 300) -> None:
    context.progress(0.5, "deaf")
    time.sleep(seconds)


@task
async def deaf_async(seconds: float = 300) -> None:
    current_job().progress(0.5, "deaf")
    await asyncio.sleep(seconds)


@task
async def deaf_in_a_thread() -> None:
    """The thread hears of nothing, and asyncio waits for it."""

    def sleep() -> None:
        current_job().progress(0.5, str(os.getpid()))
        time.sleep(300)

    await asyncio.to_thread(sleep)


@task
async def stubborn_async() -> None:
    """Catches whatever is thrown into it."""
    current_job().progress(0.5, "stubborn")
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(300)


@task
async def hold_the_loop() -> None:
    current_job().progress(0.5, "holding")
    time.sleep(300)  # noqa: ASYNC251


@task
def deaf_beside_a_thread() -> None:
    """The thread outlives the handler, and the interpreter waits for it."""
    threading.Thread(target=time.sleep, args=(300,)).start()
    current_job().progress(0.5, str(os.getpid()))
    time.sleep(300)


@task
async def tidy_up_when_stopped(file: str) -> None:
    current_job().progress(0.5, str(os.getpid()))
    try:
        await asyncio.sleep(300)
    finally:
        await asyncio.sleep(0.5)
        Path(file).write_text("tidy")


@task(bind=True)
def stubborn(context: JobContext) -> None:
    """Catches whatever is thrown into it."""
    context.progress(0.5, "stubborn")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(300)


@task(bind=True)
def hold_the_interpreter(context: JobContext, seconds: float) -> int:
    """C code that lets no other thread run: as long as this one sorts, its process does nothing else."""
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        sorted([1.0] * 30_000_000)
        rounds += 1
    return rounds


@task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def terminate_processes() -> list[int | None]:
    exit_codes = []
    for _ in range(50):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
        process.start()
        process.terminate()
        process.join()
        exit_codes.append(process.exitcode)
    return exit_codes


@task
def die_before_a_process(pid_file: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    process.start()
    Path(pid_file).write_text(str(process.pid))
    os.kill(os.getpid(), signal.SIGKILL)


@task
def stubborn_before_a_process(pid_file: str) -> None:
    """The process comes from native code, so Python can't make it let go of what it has inherited."""
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        time.sleep(300)
        os._exit(0)
    Path(pid_file).write_text(str(pid))
    current_job().progress(0.5, "stubborn")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(300)


_fork_s = 0.0
os.register_at_fork(after_in_parent=lambda: time.sleep(_fork_s))


@task
def fork_slowly(file: str) -> None:
    """Most of its time it is in the middle of a fork."""
    global _fork_s
    _fork_s = 2
    current_job().progress(0.5, "forking")
    try:
        while True:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            time.sleep(0.2)
    finally:
        _fork_s = 0
        Path(file).write_text("tidy")


@task
def bad_result() -> float:
    return float("nan")


@task
def big_result(length: int) -> str:
    return "x" * length


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return current_job().payload


@task(bind=True)
def previous(context: JobContext) -> Any:
    return {"previous": context.previous_result}
