# SPDX-License-Identifier: Apache-2.0
"""Handlers in processes of their own, one job at a time each: none can hold up the session, and each can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from dataclasses import replace
from typing import Final

from millrace.context import StopReason
from millrace.worker._attempt import Ending, Limits
from millrace.worker._child import CONTROL, HEADER, REASONS, Setup, ending_from_bytes, frame
from millrace.worker._pools import Listener
from millrace.worker._state import Held, failed_report, now, released_report

log: Final = logging.getLogger("millrace.worker")
_EXIT_S: Final = 5.0
_START_PAUSE_S: Final = 1.0
_AHEAD_MAX: Final = 64


class _Child(asyncio.Protocol):
    """One process, as the session's loop sees it."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._buffer = bytearray()
        self.jobs: deque[Held] = deque()
        """The first one runs; the others were sent ahead."""
        self.was_ready = False
        self.takes_jobs = False
        self.left_in_peace = False
        """It told how its job ended, and ends by itself."""
        self.kill_timer: asyncio.TimerHandle | None = None
        self.process: subprocess.Popen[bytes]
        self.transport: asyncio.Transport
        self.control: socket.socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process can be told what it has to know."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._pool.on_open(self)

    def data_received(self, data: bytes) -> None:
        """Whole frames are taken, the rest is kept."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER.size:
            kind, size = HEADER.unpack_from(buffer, start)
            end = start + HEADER.size + size
            if len(buffer) < end:
                break
            self._pool.on_frame(self, kind, bytes(buffer[start + HEADER.size : end]))
            start = end
        del buffer[:start]

    def connection_lost(self, error: Exception | None) -> None:
        """The process has ended, or is about to."""
        self._pool.on_exit(self)


class ProcessPool:
    """Starts `concurrency` processes, each of which runs one job at a time; one that ends is replaced.

    With `prefetch`, jobs are sent ahead to processes that are busy, which saves a way there and back for each.
    """

    def __init__(self, setup: Setup, concurrency: int, prefetch: int, terminate_grace_s: float) -> None:
        self._setup = setup
        self._concurrency = concurrency
        self._depth = 1 + min(prefetch // concurrency, _AHEAD_MAX)
        self._terminate_grace_s = terminate_grace_s
        self._children: set[_Child] = set()
        self._waiting: deque[Held] = deque()
        """Jobs for processes that are starting anew."""
        self._by_job: dict[Held, _Child] = {}
        self._closing = False
        self._ready = asyncio.Event()
        """All processes have been."""
        self._empty = asyncio.Event()
        """There are no processes, while closing."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listener: Listener) -> None:
        """Spawns the processes and waits until all are ready."""
        self._listener = listener
        for _ in range(self._concurrency):
            await self._spawn()
        await self._ready.wait()

    def set_limits(self, limits: Limits) -> None:
        """From now on."""
        self._setup = replace(self._setup, limits=limits)
        for child in self._children:
            child.transport.write(frame(b"L", pickle.dumps(limits)))

    async def _spawn(self) -> None:
        child = _Child(self)
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        child.control, their_control = socket.socketpair()
        fds = (theirs.fileno(), their_control.fileno())
        code = f"import sys; sys.path[:] = {sys.path!r}; from millrace.worker._child import main; main{fds}"

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=fds)

        with theirs, their_control:
            child.process = await loop.run_in_executor(None, start)
        child.control.setblocking(False)
        await loop.create_connection(lambda: child, sock=ours)

    @property
    def free(self) -> int:
        """How many more jobs can be run now."""
        return self._concurrency * self._depth - len(self._by_job) - len(self._waiting)

    def run(self, held: Held) -> None:
        """Begins a job, or keeps it for the next process that has room."""
        self._waiting.append(held)
        self._deal()

    def _deal(self) -> None:
        """Gives waiting jobs to the processes that have the fewest."""
        while self._waiting:
            child = min((child for child in self._children if child.takes_jobs), key=_jobs_of, default=None)
            if child is None or len(child.jobs) >= self._depth:
                return
            held = self._waiting.popleft()
            child.jobs.append(held)
            self._by_job[held] = child
            child.transport.write(frame(b"J", held.message.SerializeToString()))
            if len(child.jobs) == 1:
                self._listener.on_start(held)

    def stop(self, held: Held, reason: StopReason) -> None:
        """Asks the handler to stop; anything but a plain cancel is SIGTERM, and SIGKILL when that does not help in time."""
        child = self._by_job.get(held)
        if child is None:
            if held in self._waiting:
                self._waiting.remove(held)
                self._listener.on_end(held, self._without_a_word(held, reason))
            return
        job, delivery = held.key
        with contextlib.suppress(OSError):  # it is ending, which will be seen
            child.control.send(frame(b"C", CONTROL.pack(REASONS.index(reason), delivery) + job.encode()))
        if reason is not StopReason.CANCEL and child.jobs[0] is held and child.kill_timer is None:
            self._kill_later(child, f"the process of job={job} task={held.message.task}, which did not obey SIGTERM")

    def _kill_later(self, child: _Child, what: str) -> None:
        def kill() -> None:
            log.warning("killing %s", what)
            child.process.kill()
            self.on_exit(child)  # its connection may have come to another process, which keeps it open

        child.kill_timer = asyncio.get_running_loop().call_later(self._terminate_grace_s, kill)

    # ---- what a child says ----

    def on_open(self, child: _Child) -> None:
        """A child can be spoken to: first of all it has to be set up."""
        self._children.add(child)
        child.transport.write(frame(b"S", pickle.dumps(self._setup)))

    def on_frame(self, child: _Child, kind: bytes, body: bytes) -> None:
        """A message of a child."""
        if kind == b"R":
            child.takes_jobs = child.was_ready = True
            self._deal()
            if sum(child.was_ready for child in self._children) == self._concurrency:
                self._ready.set()
        elif not child.jobs:
            return  # a thread that a handler left behind still talks
        elif kind == b"N":
            self._listener.on_report(child.jobs[0], body)
        else:
            ending, leaves = ending_from_bytes(body)
            child.takes_jobs = not leaves
            child.left_in_peace = leaves
            held = self._done(child)
            if leaves:
                self._kill_later(child, f"a process that stayed after the end of job={held.message.job_id} task={held.message.task}")
            elif child.jobs:
                self._listener.on_start(child.jobs[0])
            self._listener.on_end(held, ending)
            self._deal()

    def _done(self, child: _Child) -> Held:
        """The child's first job has ended."""
        held = child.jobs.popleft()
        del self._by_job[held]
        self._let_live(child)
        return held

    @staticmethod
    def _let_live(child: _Child) -> None:
        if child.kill_timer is not None:
            child.kill_timer.cancel()
            child.kill_timer = None

    def on_exit(self, child: _Child) -> None:
        """A child was killed, or its connection ended: see to its process, and replace it."""
        task = asyncio.get_running_loop().create_task(self._bury(child))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, child: _Child) -> None:
        if child not in self._children:
            return
        self._children.remove(child)
        if not self._children:
            self._empty.set()
        child.takes_jobs = False
        child.control.close()
        code = await asyncio.get_running_loop().run_in_executor(None, _wait, child.process)
        child.transport.close()
        self._let_live(child)
        if child.jobs and not child.left_in_peace:
            held = self._done(child)
            self._listener.on_end(held, self._without_a_word(held, held.stop, code))
        self._take_back(child)
        if self._closing:
            return
        if not child.was_ready:
            log.error("a process ended with %s before it was ready: see its output", _exit_text(code))
            await asyncio.sleep(_START_PAUSE_S)
        while not self._closing:
            try:
                await self._spawn()
                return
            except OSError as error:
                log.error("cannot start a process, trying again in %.0f s: %s", _START_PAUSE_S, error)
                await asyncio.sleep(_START_PAUSE_S)

    def _take_back(self, child: _Child) -> None:
        """Jobs that were sent ahead to a process that has ended have not begun: others run them."""
        while child.jobs:
            held = child.jobs.pop()
            del self._by_job[held]
            if held.stop is None:
                self._waiting.appendleft(held)
            else:
                self._listener.on_end(held, self._without_a_word(held, held.stop))
        self._deal()

    def _without_a_word(self, held: Held, stop: StopReason | None, code: int = 0) -> Ending:
        """The ending of a job whose process ended without telling it."""
        seconds = max(now() - held.started, 0.0) if held.started else 0.0
        if stop is StopReason.SHUTDOWN:
            return Ending("released", released_report(held), seconds)
        if stop is not None:
            report = failed_report(held, "Terminated", f"stopped by force: {stop.value}", cancelled=True)
            return Ending("cancelled", report, seconds)
        text = f"the process that ran the handler ended with {_exit_text(code)}"
        return Ending("failed", failed_report(held, "ProcessDied", text), seconds, text)

    async def close(self) -> None:
        """Idle processes end by themselves when their connection does; others are killed after a while."""
        self._closing = True
        if not self._children:
            return
        for child in list(self._children):
            child.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S):
                await self._empty.wait()
        for child in list(self._children):
            child.process.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code. The connection is gone; a process that stays all the same is killed."""
    try:
        return process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _jobs_of(child: _Child) -> int:
    return len(child.jobs)


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
