# SPDX-License-Identifier: Apache-2.0
"""The worker as a program sees it."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from types import FrameType
from typing import Any, Final, NoReturn

from millrace._channel import Target
from millrace.errors import InvalidArgument
from millrace.payload import Codec
from millrace.registry import Registry, default_registry
from millrace.worker._child import Setup, load
from millrace.worker._pools import AsyncioPool, Pool, ThreadPool
from millrace.worker._processes import ProcessPool
from millrace.worker._session import EXIT_STUCK, Session
from millrace.worker.options import WorkerOptions

__all__ = ["Worker"]

log: Final = logging.getLogger("millrace.worker")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_EXIT_S: Final = 3.0
"""How long the event loop may take to end after the session."""


class Worker:
    """Runs the handlers of an application for one server.

    `apps` are modules to import, as `package.module` (its `@task`s) or `package.module:registry` (a Registry of your own). With the pool
    `processes`, each process imports them too, so they must not start a worker when they are imported. What is None comes from
    the environment, as with `Client`.
    """

    def __init__(
        self,
        *apps: str,
        registry: Registry | None = None,
        options: WorkerOptions | None = None,
        address: str | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        codec: Codec | None = None,
        **settings: Any,
    ) -> None:
        self.options = replace(options or WorkerOptions(), **settings)
        if registry is not None and self.options.pool == "processes":
            raise InvalidArgument("processes can't share a registry: name it, as 'package.module:registry'", field="registry")
        self.registry = load(apps, registry or default_registry)
        if not len(self.registry):
            raise InvalidArgument("there are no tasks: name the modules that have them, as in Worker('myapp.tasks')", field="apps")
        self._apps = apps
        self._codec = codec
        self._target = Target.of(address, token, ca, certificate)
        self._session: Session | None = None
        self._stops = 0
        self._lock = threading.Lock()
        self._is_program = False
        self._exit_timer: threading.Timer | None = None

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, then finishes what it can within the grace and gives back the rest. A second signal cuts the
        grace short. Raises MillraceError when the server refuses the worker. Where a handler on the event loop, or a thread that it
        waits for, still runs three seconds after that, the process exits: it must not outlive its session."""
        self._is_program = True
        try:
            asyncio.run(self._run_with_signals())
        finally:
            if self._exit_timer is not None:
                self._exit_timer.cancel()

    async def _run_with_signals(self) -> None:
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            await self.serve()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, stack: FrameType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Asks a running worker for a graceful end; once more, without the grace. From any thread."""
        with self._lock:
            self._stops += 1
            session = self._session
        if session is not None:
            session.stop()

    async def serve(self) -> None:
        """Works until `stop()`, or until this is cancelled. With the pool `asyncio`, async handlers run on this event loop.

        A handler in a thread or on the event loop that does not obey a terminate ends the whole process, with exit code 75: nothing else
        could stop it, and the worker confirms no cancel while the code still runs. After a stop, code in a thread that does not even hear
        of a cancel goes on when this returns. The server calls its job cancelled when it has not heard of the worker for its reconnect
        grace: by then the process has to be gone, as that of `millrace-worker` is. A larger program in which no code may outlive the
        cancel of its job ends itself after this, too (75 tells a supervisor to start it again).
        """
        loop = asyncio.get_running_loop()
        session = Session(self._target, self.registry, self.options, self._pool(loop))
        with self._lock:
            self._session = session
            for _ in range(self._stops):
                session.stop()
        done: asyncio.Future[int] = loop.create_future()

        def work() -> None:
            try:
                code, error = session.run(), None
            except BaseException as fault:
                code, error = 1, fault
            if code == EXIT_STUCK:
                _exit(EXIT_STUCK)
            if self._is_program:
                self._exit_timer = threading.Timer(_EXIT_S, _exit_late, (code, error))
                self._exit_timer.daemon = True
                self._exit_timer.start()
            loop.call_soon_threadsafe(_settle, done, code, error)

        thread = threading.Thread(target=work, name="millrace-session")
        thread.start()
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            session.stop()
            await done
            raise
        finally:
            thread.join()

    def _pool(self, loop: asyncio.AbstractEventLoop) -> Pool:
        options = self.options
        if options.pool == "threads":
            return ThreadPool(self.registry, self._codec, options.concurrency, options.terminate_grace)
        if options.pool == "asyncio":
            return AsyncioPool(self.registry, self._codec, options.concurrency, options.terminate_grace, loop)
        modules = {task.function.__module__ for task in self.registry}
        root = logging.getLogger()
        apps = (*sorted(modules - {"__main__", *self._apps}), *self._apps)
        script = _script() if "__main__" in (*modules, type(self._codec).__module__) else None
        codec = pickle.dumps(self._codec) if self._codec is not None else None
        setup = Setup(apps, script, codec, root.level if root.handlers else None)
        return ProcessPool(setup, options.concurrency, options.prefetch, options.terminate_grace)


def _script() -> str:
    """What to run to get the tasks of the program itself."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    name = spec.name if spec is not None else getattr(main, "__file__", None)
    if not name:
        raise InvalidArgument("tasks that were typed in can't reach other processes: put them into a file, or use threads", field="pool")
    return str(name)


def _exit(code: int) -> NoReturn:
    """Ends the process with whatever runs in it."""
    logging.shutdown()
    os._exit(code)


def _exit_late(code: int, error: BaseException | None) -> None:
    log.error("a handler still runs, and the worker has ended%s: the process exits with %d", f" ({error})" if error else "", code)
    _exit(code)


def _settle(done: asyncio.Future[int], code: int, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(code)
