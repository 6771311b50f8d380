# SPDX-License-Identifier: Apache-2.0
"""Where handlers run: what the session expects of a pool, and the pools within this process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from millrace.context import JobContext, StopReason
from millrace.payload import Codec
from millrace.registry import Registry
from millrace.worker._attempt import Attempt, Ending, Limits, make_context, run_blocking
from millrace.worker._state import Held


class Listener(Protocol):
    """The session, to its pool. All calls come on the session's loop."""

    def on_start(self, held: Held) -> None:
        """The handler begins."""
        ...

    def on_report(self, held: Held, report: bytes) -> None:
        """A report that is not final."""
        ...

    def on_end(self, held: Held, ending: Ending) -> None:
        """The handler has ended, and its code runs no more."""
        ...

    def on_stuck(self, held: Held) -> None:
        """The handler was told to stop by force, and can't be stopped: this process must end."""
        ...


class Pool(Protocol):
    """Runs handlers. All calls come on the session's loop."""

    async def start(self, listener: Listener) -> None:
        """Makes ready; returns when it is."""
        ...

    def set_limits(self, limits: Limits) -> None:
        """What the server keeps of a report, from now on."""
        ...

    @property
    def free(self) -> int:
        """How many more jobs can be run now."""
        ...

    def run(self, held: Held) -> None:
        """Begins a job."""
        ...

    def stop(self, held: Held, reason: StopReason) -> None:
        """Asks the handler to stop, or stops it by force where the reason says so."""
        ...

    async def close(self) -> None:
        """Ends what can be ended."""
        ...


class Mailbox:
    """Hands calls from other threads to a loop, waking it once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._awake = False

    def post(self, call: Callable[[], None]) -> None:
        """Runs `call` on the loop, after those posted before."""
        with self._lock:
            self._calls.append(call)
            if self._awake:
                return
            self._awake = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, deque()
            self._awake = False
        for call in calls:
            call()


class LocalPool:
    """What pools within this process share: contexts of running jobs, and the end of those that do not obey."""

    def __init__(self, registry: Registry, codec: Codec | None, concurrency: int, terminate_grace_s: float) -> None:
        self._registry = registry
        self._codec = codec
        self._concurrency = concurrency
        self._terminate_grace_s = terminate_grace_s
        self._running: dict[Held, JobContext] = {}
        self._limits = Limits()

    async def start(self, listener: Listener) -> None:
        """Makes ready."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox(self._loop)

    def set_limits(self, limits: Limits) -> None:
        """What the server keeps of a report, from now on."""
        self._limits = limits

    @property
    def free(self) -> int:
        """How many more jobs can be run now."""
        return self._concurrency - len(self._running)

    def _attempt(self, held: Held) -> Attempt:
        def send(report: bytes) -> None:
            self._mailbox.post(lambda: self._listener.on_report(held, report))

        context = make_context(held.message, self._codec, self._limits, send)
        self._running[held] = context
        self._listener.on_start(held)
        return Attempt(self._registry, context, self._codec, self._limits)

    def _ended(self, held: Held, ending: Ending) -> None:
        """From any thread."""

        def end() -> None:
            self._running.pop(held, None)
            self._listener.on_end(held, ending)

        self._mailbox.post(end)

    def stop(self, held: Held, reason: StopReason) -> None:
        """Asks the handler to stop. Code in this process can't be stopped by force; a terminate that it does not obey ends the process."""
        context = self._running.get(held)
        if context is None:
            return
        context.stop(reason)
        if reason is StopReason.TERMINATE:
            self._loop.call_later(self._terminate_grace_s, self._look_at, held)

    def _look_at(self, held: Held) -> None:
        if held in self._running:
            self._listener.on_stuck(held)


class ThreadPool(LocalPool):
    """A thread per job at a time. An async handler gets the event loop of its thread."""

    async def start(self, listener: Listener) -> None:
        """Makes ready."""
        await super().start(listener)
        self._work: queue.SimpleQueue[tuple[Held, Attempt] | None] = queue.SimpleQueue()
        for number in range(self._concurrency):
            threading.Thread(target=self._serve, name=f"millrace-job-{number}", daemon=True).start()

    def run(self, held: Held) -> None:
        """Begins a job."""
        self._work.put((held, self._attempt(held)))

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            while (item := self._work.get()) is not None:
                held, attempt = item
                self._ended(held, run_blocking(attempt, runner))

    async def close(self) -> None:
        """Idle threads end; one that is still in a handler ends with the process."""
        for _ in range(self._concurrency):
            self._work.put(None)


class AsyncioPool(LocalPool):
    """Tasks on an event loop, that of the program; plain functions get threads, so that they don't hold up the others."""

    def __init__(
        self,
        registry: Registry,
        codec: Codec | None,
        concurrency: int,
        terminate_grace_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(registry, codec, concurrency, terminate_grace_s)
        self._program = loop
        self._inbox = Mailbox(loop)
        self._threads = ThreadPool(registry, codec, concurrency, terminate_grace_s)
        self._tasks: dict[Held, asyncio.Task[None]] = {}

    async def start(self, listener: Listener) -> None:
        """Makes ready."""
        await super().start(listener)
        await self._threads.start(listener)

    def set_limits(self, limits: Limits) -> None:
        """What the server keeps of a report, from now on."""
        super().set_limits(limits)
        self._threads.set_limits(limits)

    @property
    def free(self) -> int:
        """How many more jobs can be run now."""
        return super().free - (self._concurrency - self._threads.free)

    def run(self, held: Held) -> None:
        """Begins a job."""
        task = self._registry.get(held.message.task)
        if task is not None and not task.is_async:
            self._threads.run(held)
            return
        attempt = self._attempt(held)
        self._inbox.post(lambda: self._begin(held, attempt))

    def _begin(self, held: Held, attempt: Attempt) -> None:
        async def run() -> None:
            with attempt:
                attempt.result = await attempt.call()

        def done(_: asyncio.Task[None]) -> None:
            del self._tasks[held]
            if attempt.ending is None:  # stopped before its first step
                with attempt:
                    raise asyncio.CancelledError
            assert attempt.ending is not None
            self._ended(held, attempt.ending)

        self._tasks[held] = asyncio.create_task(run())
        self._tasks[held].add_done_callback(done)

    def stop(self, held: Held, reason: StopReason) -> None:
        """Asks the handler to stop; anything but a plain cancel is also thrown into it, as asyncio's CancelledError."""
        self._threads.stop(held, reason)
        super().stop(held, reason)
        if reason is not StopReason.CANCEL and held in self._running:
            self._inbox.post(lambda: self._throw(held))

    def _throw(self, held: Held) -> None:
        task = self._tasks.get(held)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Ends the threads."""
        await self._threads.close()
