# SPDX-License-Identifier: Apache-2.0
"""A process that runs handlers, one at a time, for a worker that keeps the connection.

It reads jobs from one socket on its main thread, where handlers run; jobs that are sent ahead wait in the socket. A second socket brings
requests to stop, to a thread of their own, so that they come through while a handler runs. Both sockets end with the worker, and this
process with them.

    worker → child, jobs:      S  the Setup, pickled; first of all
                               L  the Limits, pickled
                               J  a Delivery
    worker → child, control:   C  reason (1 byte), delivery (4), job id     ask, or stop by force
    child → worker, jobs:      R  ready
                               N  a Report that is not final
                               E  outcome (1 byte), is the process ending (1), microseconds (4), length of the error text (2), that text,
                                  the final Report
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import logging
import os
import pickle
import pkgutil
import runpy
import signal
import socket
import struct
import sys
import threading
import types
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from millrace.context import JobContext, StopReason
from millrace.payload import Codec
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.registry import Registry, default_registry
from millrace.worker._attempt import WORDS, Attempt, Ending, Limits, Stopped, cut, make_context, run_blocking

HEADER: Final = struct.Struct("<cI")
CONTROL: Final = struct.Struct("<BI")
ENDING: Final = struct.Struct("<BBIH")
REASONS: Final = tuple(StopReason)
_ERROR_BYTES: Final = 1024
_STOPS_MAX: Final = 1024
_STOP_AGAIN_S: Final = 0.01
"""A stop that came in the middle of a fork comes once more after so long."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a child has to know; it is pickled."""

    apps: tuple[str, ...]
    """Modules to import, as `package.module` or `package.module:registry`."""
    script: str | None
    """The program itself, when tasks are defined in it: a module's name or a file's."""
    codec: bytes | None
    """A codec, pickled: it can be one of the application's own, so it is unpickled when that is there."""
    log_level: int | None
    limits: Limits = field(default_factory=Limits)


def load(apps: tuple[str, ...], registry: Registry = default_registry) -> Registry:
    """Imports the modules of an application and returns the registry that its tasks are in."""
    for app in apps:
        module, _, attribute = app.partition(":")
        importlib.import_module(module)
        if attribute:
            registry = pkgutil.resolve_name(app)
            if not isinstance(registry, Registry):
                raise TypeError(f"{app} is no millrace.Registry")
    return registry


def _load_script(script: str) -> None:
    """Runs the program's file as a module that does not take itself for the program, as multiprocessing does."""
    name = "__mp_main__"
    if script.endswith(".py"):
        content = runpy.run_path(script, run_name=name)
    else:
        content = runpy.run_module(script, run_name=name, alter_sys=True)
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = sys.modules["__main__"] = module


def frame(kind: bytes, body: bytes) -> bytes:
    """A message between the two."""
    return HEADER.pack(kind, len(body)) + body


def ending_from_bytes(body: bytes) -> tuple[Ending, bool]:
    """The ending, and whether the process ends too."""
    word, leaves, microseconds, length = ENDING.unpack_from(body)
    start = ENDING.size + length
    error = body[ENDING.size : start].decode("utf-8")
    return Ending(WORDS[word], body[start:], microseconds / 1e6, error), bool(leaves)


def _ending_to_bytes(ending: Ending, leaves: bool) -> bytes:
    error = cut(ending.error, _ERROR_BYTES).encode()
    microseconds = min(int(ending.seconds * 1e6), 2**32 - 1)
    return ENDING.pack(WORDS.index(ending.word), leaves, microseconds, len(error)) + error + ending.report


def _read(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes; EOFError at the end."""
    data = connection.recv(size, socket.MSG_WAITALL)
    while len(data) < size:
        more = connection.recv(size - len(data), socket.MSG_WAITALL)
        if not more:
            raise EOFError
        data += more
    return data


def _read_frame(connection: socket.socket) -> tuple[bytes, bytes]:
    kind, size = HEADER.unpack(_read(connection, HEADER.size))
    return kind, _read(connection, size) if size else b""


class Child:
    """The process's one job at a time, and what stops it."""

    def __init__(self, jobs: socket.socket, control: socket.socket, codec: Codec | None, limits: Limits, registry: Registry) -> None:
        self._jobs = jobs
        self._control = control
        self._codec = codec
        self._limits = limits
        self._registry = registry
        self._context: JobContext | None = None
        self._stops: dict[tuple[str, int], StopReason] = {}
        """Of jobs that have not begun."""
        self._stop_lock = threading.Lock()
        self._in_handler = False
        self._send_lock = threading.Lock()
        self._is_fork = False

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        if self._is_fork:
            return
        with self._send_lock:
            self._jobs.sendall(frame(kind, body))

    def serve(self) -> None:
        """Until the worker ends, or a handler was stopped by force."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        # A SIGTERM that comes to a new process at once waits until that one has its own way with it.
        os.register_at_fork(before=_hold_sigterm, after_in_parent=_release_sigterm, after_in_child=self._after_fork)
        threading.Thread(target=self._obey, name="millrace-control", daemon=True).start()
        with asyncio.Runner() as runner:
            self._send(b"R")
            while True:
                try:
                    kind, body = _read_frame(self._jobs)
                except (EOFError, OSError):
                    return
                if kind == b"L":
                    self._limits = pickle.loads(body)
                else:
                    self._run(pb.Delivery.FromString(body), runner)

    def _run(self, delivery: pb.Delivery, runner: asyncio.Runner) -> None:
        """One job. The process ends with one that was stopped by force."""
        context = make_context(delivery, self._codec, self._limits, lambda report: self._send(b"N", report))
        attempt = Attempt(self._registry, context, self._codec, self._limits)
        with self._stop_lock:
            self._context = context
            stop = self._stops.pop((context.job_id, context.delivery), None)
        try:
            if stop is not None:
                context.stop(stop)
                ending = attempt.refuse()
            else:
                self._in_handler = True
                ending = run_blocking(attempt, runner)
        finally:
            self._in_handler = False
            self._context = None
        if attempt.stopped_by_force:
            _finish_process()
        self._send(b"E", _ending_to_bytes(ending, attempt.stopped_by_force))
        if attempt.stopped_by_force:
            os._exit(0)

    def _obey(self) -> None:
        """Requests to stop. The end of the socket is the end of the worker: what runs here will run elsewhere."""
        while True:
            try:
                _, body = _read_frame(self._control)
            except (EOFError, OSError):
                os._exit(1)
            reason, delivery = CONTROL.unpack_from(body)
            key = (body[CONTROL.size :].decode(), delivery)
            with self._stop_lock:
                context = self._context
                if context is None or (context.job_id, context.delivery) != key:
                    self._stops[key] = REASONS[reason]
                    if len(self._stops) > _STOPS_MAX:  # of jobs that have ended already
                        del self._stops[next(iter(self._stops))]
                    continue
            context.stop(REASONS[reason])
            if REASONS[reason] is not StopReason.CANCEL:
                _sigterm_to_main_thread()

    def _after_fork(self) -> None:
        """A process that a handler has forked, as multiprocessing does: SIGTERM ends it, and it does not keep our sockets open, whose
        end tells the worker of ours. What it has to say of the job has no way. A Ctrl-C stays the worker's, which grants a grace."""
        self._is_fork = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._jobs.close()
        self._control.close()

    def _on_sigterm(self, number: int, stack: FrameType | None) -> None:
        """Stops the handler that was told to stop. Otherwise a SIGTERM is for the worker, which will end us when it is done."""
        context = self._context
        if self._in_handler and context is not None and context.stop_reason not in (None, StopReason.CANCEL):
            if _is_in_fork_hook(stack):
                threading.Timer(_STOP_AGAIN_S, _sigterm_to_main_thread).start()
                return
            self._in_handler = False
            raise Stopped(f"stopped by force: {context.stop_reason.value}")


def _sigterm_to_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _hold_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _is_in_fork_hook(stack: FrameType | None) -> bool:
    """Whether a signal has interrupted one of these two: Python only prints what is raised in them."""
    while stack is not None:
        if stack.f_code in (_hold_sigterm.__code__, _release_sigterm.__code__):
            return True
        stack = stack.f_back
    return False


def _finish_process() -> None:
    """What the interpreter does at its end, but for its wait for threads: those that a stopped handler left must not run on."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it is closed
            stream.flush()


def main(jobs_fd: int, control_fd: int) -> None:
    """The process's beginning."""
    jobs, control = socket.socket(fileno=jobs_fd), socket.socket(fileno=control_fd)
    for connection in (jobs, control):
        connection.set_inheritable(False)  # by programs that handlers start
    try:
        _, body = _read_frame(jobs)
    except (EOFError, OSError):
        return
    setup: Setup = pickle.loads(body)
    if setup.log_level is not None:
        logging.basicConfig(level=setup.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if setup.script is not None:
        _load_script(setup.script)
    registry = load(setup.apps)
    codec = pickle.loads(setup.codec) if setup.codec is not None else None
    # Stopped, here: it came between the handler's end and its report. The worker sees the process end, and reports.
    with contextlib.suppress(Stopped):
        Child(jobs, control, codec, setup.limits, registry).serve()
