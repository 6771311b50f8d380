# SPDX-License-Identifier: Apache-2.0
"""A worker's session, on a thread and an event loop of its own, so that no handler can hold up its heartbeats.

register ──► dial ──► serve ──► (broken, silent) ──► dial …       refused, or broken twice in 10 s: register to resume;
   ▲                    │                                          NOT_FOUND: everything held is lost, a new session
   └── server away: back off, until a stop's end    stop, drain: finish, give back, deregister
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import grpc

from millrace import errors
from millrace._channel import Target, error_of_call
from millrace._convert import retry_to_pb
from millrace._times import delta_from_pb, duration_to_pb
from millrace._version import VERSION
from millrace.context import StopReason
from millrace.errors import MillraceError, NotFound
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.proto.v1.worker_service_pb2_grpc import WorkerServiceStub
from millrace.registry import Registry
from millrace.worker._attempt import Ending, Limits
from millrace.worker._links import GrpcLink, Link, LinkError, NngLink, Seat
from millrace.worker._pools import Pool
from millrace.worker._state import Held, ProtocolError, SessionState, Status, now, released_report, started_report
from millrace.worker.options import WorkerOptions

T = TypeVar("T")
log: Final = logging.getLogger("millrace.worker")
EXIT_STUCK: Final = 75
"""Exit code after a terminate that could not be obeyed: a supervisor starts the worker anew."""
_REGISTER_S: Final = 10.0
_BACKOFF_S: Final = 0.2
_BACKOFF_MAX_S: Final = 3.0
_BACKOFF_DOUBLINGS: Final = 4
_TWICE_WITHIN_S: Final = 10.0
_REFUSALS_BEFORE_GRPC: Final = 2
_LOOK_WHILE_ENDING_S: Final = 0.05
_STARTED_AFTER_S: Final = 0.01
"""A job that has ended by then needs no report of its start."""
_HANDLERS_RETURN_S: Final = 3.0
"""How long handlers have, once they were told to stop."""
_GOODBYE_S: Final = 5.0
"""For the last reports to be accepted."""
_REFUSALS: Final = (
    errors.InvalidArgument,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Unimplemented,
    errors.FailedPrecondition,
)


class Session:
    """Takes deliveries for a pool and carries its reports back, until it is told to stop."""

    def __init__(self, target: Target, registry: Registry, options: WorkerOptions, pool: Pool) -> None:
        self._target = target
        self._registry = registry
        self._options = options
        self._pool = pool
        self._state = SessionState()
        self._seat: Seat | None = None
        self._heartbeat_s = 5.0
        self._silence_s = 15.0
        self._over_grpc = options.transport == "grpc"
        self._refusals = 0
        self._broken_at = -_TWICE_WITHIN_S
        self._unstarted: deque[Held] = deque()
        self._running = 0
        self._orphans: set[Held] = set()
        self._is_draining = False
        self._beat_is_due = False
        self._stuck: Held | None = None
        self._stops = 0
        self._grace_end: float | None = None
        self._grace_is_over = False
        self._goodbye: float | None = None
        """Since when only the last reports are waited for."""
        self._stop_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    # ---- for the program ----

    def run(self) -> int:
        """Works until stopped; returns the exit code. Raises MillraceError when the server refuses the worker."""
        with asyncio.Runner() as runner:
            return runner.run(self._main())

    def stop(self) -> None:
        """Asks for a graceful end; a second time, without the grace. From any thread, and from signal handlers."""
        with self._stop_lock:
            self._stops += 1
            loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # it has ended already
                return

    async def _main(self) -> int:
        with self._stop_lock:
            self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._channel = self._target.open()
        self._stub = WorkerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = self._target.metadata()
        try:
            await self._work()
        finally:
            await self._pool.close()
            self._channel.close()
        return EXIT_STUCK if self._stuck is not None else 0

    async def _work(self) -> None:
        must_register = True
        if not await self._start_pool():
            return
        while True:
            if must_register and not await self._unless_ended(self._register()):
                break
            ended, must_register = await self._join_and_serve()
            if ended or ((self._stops > 0 or self._stuck is not None) and self._look_after_ending()):
                break
        if self._stuck is None and not any(self._ends_unsaid(held) for held in self._state.held.values()):
            await self._deregister()
        log.info("stopped")

    async def _start_pool(self) -> bool:
        """Nothing is asked of the server before the pool can run it. False: stopped meanwhile."""
        starting = asyncio.create_task(self._pool.start(self))
        starting.add_done_callback(lambda _: self._wake())
        while not starting.done() and self._stops == 0:
            self._news.clear()
            await self._wait_for_news(1.0)
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait([starting])
        return False

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns, on its way to the server. None: the worker has ended meanwhile, since it keeps to its times without one."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._wake())
        try:
            while not task.done():
                self._news.clear()
                if self._stops > 0 and self._look_after_ending():
                    return None
                await self._wait_for_news(_LOOK_WHILE_ENDING_S if self._stops else 1.0)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _wake(self) -> None:
        self._news.set()

    async def _pause(self, seconds: float) -> None:
        """Sleeps, but not through a stop. One that is stopping already sleeps too: its tries must not follow each other without end."""
        end, stops = self._now() + seconds, self._stops
        while self._stops == stops and self._now() < end:
            self._news.clear()
            await self._wait_for_news(end - self._now())

    async def _wait_for_news(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._news.set)
        await self._news.wait()
        timer.cancel()

    # ---- registering ----

    async def _blocking(self, method: Any, request: Any, timeout_s: float) -> Any:
        """A call on a thread of its own; gRPC's blocking calls do not disturb the program's asynchronous ones."""
        call = functools.partial(method, request, timeout=timeout_s, metadata=self._metadata)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, call)
        except grpc.RpcError as error:
            raise error_of_call(error) from None

    def _request(self) -> pb.RegisterRequest:
        options = self._options
        request = pb.RegisterRequest(
            queues=[pb.WorkerQueue(name=name, weight=weight) for name, weight in options.queues.items()],
            concurrency=options.concurrency,
            prefetch=options.prefetch,
            hostname=socket.gethostname()[:256],
            pid=os.getpid(),
            labels=options.labels,
            sdk=f"millrace-python/{VERSION}",
        )
        for task in self._registry:
            entry = request.tasks.add(name=task.name)
            retry, timeout = task.policy.get("retry"), task.policy.get("attempt_timeout")
            if retry is not None:
                entry.retry_policy.CopyFrom(retry_to_pb(retry))
            if timeout is not None:
                entry.attempt_timeout.CopyFrom(duration_to_pb(timeout, "attempt_timeout"))
        if self._seat is not None:
            request.resume_session_id = self._seat.session_id
            request.resume_session_token = self._seat.token
        return request

    async def _register(self) -> bool:
        """Tries until it is registered (True) or stopped (False). Raises when the server refuses."""
        backoff_s = _BACKOFF_S
        while self._stops == 0 or self._seat is not None:
            try:
                response = await self._blocking(self._stub.Register, self._request(), _REGISTER_S)
            except NotFound:
                log.warning("the session is gone: its jobs run elsewhere, those here are told to stop")
                self._orphan_all()
                self._seat = None
                continue
            except _REFUSALS:
                raise
            except MillraceError as error:
                if self._stuck is not None:
                    return False
                log.warning("cannot register at %s, trying again in %.1f s: %s", self._target.address, backoff_s, error)
                await self._pause(backoff_s + random.uniform(0, backoff_s / 4))
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                continue
            self._take_seat(response)
            return True
        return False

    def _take_seat(self, response: pb.RegisterResponse) -> None:
        if self._seat is not None and not response.resumed:
            self._orphan_all()
        token = response.session_token or (self._seat.token if self._seat is not None else "")
        url = self._options.url or os.environ.get("MILLRACE_WORKER_URL")
        url = url or f"{response.scheme or 'ws'}://{response.host or self._target.host}:{response.port}"
        limits = response.limits
        self._seat = Seat(response.session_id, token, url, response.jobs_path, response.reports_path, limits.fragment_bytes_max or 65536)
        self._heartbeat_s = delta_from_pb(response.heartbeat_interval).total_seconds() or 5.0
        self._silence_s = delta_from_pb(response.silence_timeout).total_seconds() or 15.0
        self._state.reports_bytes_max = limits.reports_bytes_max or 1 << 20
        usual = Limits()
        self._pool.set_limits(
            Limits(
                limits.result_bytes_max or usual.result_bytes,
                limits.log_line_bytes_max or usual.log_line_bytes,
                limits.trace_bytes_max or usual.trace_bytes,
            )
        )
        log.info("%s session=%s server=%s", "resumed" if response.resumed else "registered", self._seat.session_id, self._target.address)

    def _orphan_all(self) -> None:
        """The session is gone: what runs is told to stop, and what it says is not heard."""
        for held in self._state.forget():
            self._orphans.add(held)
            held.stop = StopReason.LOST
            self._pool.stop(held, StopReason.LOST)
        self._unstarted.clear()

    async def _deregister(self) -> None:
        if self._seat is None:
            return
        request = pb.DeregisterRequest(session_id=self._seat.session_id, session_token=self._seat.token)
        try:
            await self._blocking(self._stub.Deregister, request, _GOODBYE_S)
        except MillraceError as error:
            log.info("could not deregister: %s", error)

    # ---- a connection ----

    async def _dial(self) -> Link:
        assert self._seat is not None
        if self._over_grpc:
            return GrpcLink(self._seat, self._stub, self._metadata)
        return await NngLink.open(self._seat, self._target)

    async def _join_and_serve(self) -> tuple[bool, bool]:
        """One connection. Returns whether the worker has ended, and whether to register before the next one."""
        try:
            link = await self._unless_ended(self._dial())
        except LinkError as error:
            log.warning("%s", error)
            self._refusals += 1
            if self._options.transport == "auto" and self._refusals >= _REFUSALS_BEFORE_GRPC:
                log.warning("going on over gRPC")
                self._over_grpc = True
            pause_s = min(_BACKOFF_S * 2 ** min(self._refusals - 1, _BACKOFF_DOUBLINGS), _BACKOFF_MAX_S)
            await self._unless_ended(self._pause(pause_s))
            return False, True
        if link is None:
            return True, False
        log.info("joined transport=%s", link.name)
        self._refusals = 0
        if self._stops > 0 or self._stuck is not None:  # the server may have been away when it was asked to send no more
            self._go_quiet(lambda: None)
        try:
            ended = await self._serve(link)
        finally:
            await link.close()
        if ended:
            return True, False
        broken_before, self._broken_at = self._broken_at, self._now()
        log.warning("the connection broke: joining again")
        if self._now() - broken_before < _TWICE_WITHIN_S:
            await self._pause(_BACKOFF_S)
            return False, True
        return False, False

    async def _serve(self, link: Link) -> bool:
        """Works over the link until it breaks (False) or the worker has ended (True)."""
        self._heard = self._now()
        self._beat_is_due = True
        next_beat = self._now()
        resend = self._state.unaccepted()
        reader = asyncio.create_task(self._read(link))
        reader.add_done_callback(lambda _: self._wake())
        try:
            while not reader.done():
                self._news.clear()
                if self._now() >= next_beat or self._beat_is_due:
                    self._beat_is_due = False
                    next_beat = self._now() + self._heartbeat_s
                    await link.send(self._state.heartbeat(self._options.concurrency))
                for message in resend:
                    await link.send(message)
                started_in_s = self._report_started()
                while (data := self._state.next_message()) is not None:
                    await link.send(data)
                if self._look_after_ending():
                    return True
                silent_s = self._now() - self._heard
                if silent_s > self._silence_s:
                    log.warning("the server has been silent for %.0f s: joining again", silent_s)
                    return False
                pause_s = min(next_beat - self._now(), started_in_s, 1.0)
                is_ending = self._stops or self._is_draining or self._stuck
                await self._wait_for_news(min(pause_s, _LOOK_WHILE_ENDING_S) if is_ending else pause_s)
            return False
        except LinkError:
            return False
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, link: Link) -> None:
        async for message in link.messages():
            self._heard = self._now()
            try:
                new = self._state.receive(message)
            except ProtocolError as error:
                log.warning("deliveries are missing (%s): joining again", error)
                return
            if new and (self._stops > 0 or self._stuck is not None):
                for held in new:
                    self._state.final(held, released_report(held))
            for command in message.commands:
                self._obey(command)
            self._dispatch()
            self._wake()

    def _obey(self, command: pb.Command) -> None:
        if command.kind == pb.COMMAND_KIND_QUIET:
            log.info("the server made this worker quiet: nothing new will come")
        elif command.kind == pb.COMMAND_KIND_DRAIN:
            if not self._is_draining:
                log.info("the server drains this worker: it ends when its jobs have")
            self._is_draining = True
        else:
            held = self._state.held.get((command.job_id, command.delivery))
            reason = {
                pb.COMMAND_KIND_CANCEL: StopReason.CANCEL,
                pb.COMMAND_KIND_TERMINATE: StopReason.TERMINATE,
                pb.COMMAND_KIND_LOST: StopReason.LOST,
            }.get(command.kind)
            if held is not None and reason is not None:
                self._stop_one(held, reason)

    def _stop_one(self, held: Held, reason: StopReason) -> None:
        if held.status is Status.REPORTED or held.stop is reason:
            return
        held.stop = reason
        if held.status is Status.RUNNING:
            self._pool.stop(held, reason)
        elif reason is StopReason.LOST:
            self._state.drop(held)
            self._beat_is_due = True
        else:
            report = pb.Report(job_id=held.message.job_id, delivery=held.message.delivery)
            report.failed.cancelled = True
            self._state.final(held, report.SerializeToString())

    # ---- jobs ----

    def _dispatch(self) -> None:
        """Gives the pool what it has room for."""
        queue = self._state.queue
        while queue and self._pool.free > 0 and self._stops == 0 and self._stuck is None:
            held = queue.popleft()
            held.status = Status.RUNNING
            self._running += 1
            self._pool.run(held)

    def _report_started(self) -> float:
        """Reports the start of handlers that have been at it for a moment. Returns when the next one is due."""
        while self._unstarted:
            held = self._unstarted[0]
            age_s = now() - held.started
            if held.status is Status.RUNNING and 0 <= age_s < _STARTED_AFTER_S:
                return _STARTED_AFTER_S - age_s
            self._unstarted.popleft()
            if held.status is Status.RUNNING:
                self._state.news(started_report(held))
        return self._heartbeat_s

    def on_start(self, held: Held) -> None:
        """A handler begins; its report waits a moment, see _report_started."""
        held.started = now()
        self._unstarted.append(held)
        if len(self._unstarted) == 1:
            self._wake()

    def on_report(self, held: Held, report: bytes) -> None:
        """Progress or a log line of a handler."""
        if held.status is Status.RUNNING and held not in self._orphans:
            self._state.news(report)
            self._wake()

    def on_end(self, held: Held, ending: Ending) -> None:
        """A handler has ended: one line in the log, and its report, unless the delivery is no longer ours."""
        self._running -= 1
        message = held.message
        word = "lost" if held.stop is StopReason.LOST else ending.word
        level = logging.WARNING if word in ("failed", "lost", "unknown_task") else logging.INFO
        log.log(
            level,
            "attempt job=%s task=%s attempt=%d duration=%.3fs outcome=%s%s",
            message.job_id,
            message.task,
            message.attempt,
            ending.seconds,
            word,
            f" error={ending.error!r}" if ending.error else "",
        )
        if held in self._orphans:
            self._orphans.discard(held)
        elif held.status is Status.REPORTED:
            pass  # it was given back already
        elif word == "lost":
            self._state.drop(held)
            self._beat_is_due = True
        else:
            self._state.final(held, ending.report)
        self._dispatch()
        if not self._state.queue or self._pool.free == 0:
            self._wake()

    def on_stuck(self, held: Held) -> None:
        """A handler does not obey: give back the others, and end. What it was doing stays unconfirmed until the process is gone."""
        if self._stuck is not None:
            return
        log.error(
            "job=%s task=%s was terminated and its code can't be stopped: this process ends with %d",
            held.message.job_id,
            held.message.task,
            EXIT_STUCK,
        )
        self._stuck = held

        def give_back() -> None:
            for other in list(self._state.held.values()):
                if other is not held and other.status is not Status.REPORTED and not self._must_not_confirm(other):
                    self._state.final(other, released_report(other))
            self._goodbye = self._now()

        self._go_quiet(give_back)

    # ---- the end ----

    def _look_after_ending(self) -> bool:
        """Sees to the steps of a stop, a drain, or a handler that is stuck. True: all is done."""
        if self._stuck is not None:
            return self._goodbye is not None and (self._state.is_reported or self._now() >= self._goodbye + _GOODBYE_S)
        if self._stops == 0 and not self._is_draining:
            return False
        if self._stops > 0 and self._grace_end is None:
            self._begin_stop()
        is_idle = self._running == len(self._orphans) and not self._state.queue
        if is_idle and self._state.is_reported:
            return True
        if self._grace_end is None:
            return False
        if not self._grace_is_over and (self._now() >= self._grace_end or self._stops > 1):
            self._end_grace()
        if self._grace_is_over and self._goodbye is None and self._now() >= self._grace_end + _HANDLERS_RETURN_S:
            self._release(Status.RUNNING)
        if is_idle or (self._grace_is_over and self._now() >= self._grace_end + _HANDLERS_RETURN_S):
            # What has ended and is not accepted would be run again: while the server is away, it has what is left of the grace, too.
            self._goodbye = self._goodbye or self._now()
            return self._now() >= max(self._goodbye, self._grace_end) + _GOODBYE_S
        return False

    def _begin_stop(self) -> None:
        """From now on nothing is started; the server is asked not to send any more."""
        log.info("stopping: %d running", self._running)
        self._grace_end = self._now() + self._options.stop_grace
        self._go_quiet(lambda: self._release(Status.QUEUED))

    def _go_quiet(self, then: Callable[[], None]) -> None:
        """Asks the server for nothing new, and does the rest when it has answered: what is given back must not come again at once."""
        loop = asyncio.get_running_loop()

        def go_on() -> None:
            then()
            self._wake()

        def answered(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the worker has ended without waiting for the answer
                loop.call_soon_threadsafe(go_on)

        if self._seat is None:
            then()
            return
        request = pb.QuietWorkerRequest(session_id=self._seat.session_id)
        self._stub.QuietWorker.future(request, timeout=_GOODBYE_S, metadata=self._metadata).add_done_callback(answered)

    def _release(self, status: Status) -> None:
        for held in list(self._state.held.values()):
            if held.status is status and not self._must_not_confirm(held):
                self._state.final(held, released_report(held))

    def _ends_unsaid(self, held: Held) -> bool:
        """To leave the session would give it up: how it ended may be on its way to the server still, or must not be told."""
        return held.status is Status.REPORTED or self._must_not_confirm(held)

    @staticmethod
    def _must_not_confirm(held: Held) -> bool:
        """The job is to be cancelled and its code still runs. To give it back, or to leave the session, would end it as if the code had
        stopped; without a word of ours it ends when this process has been gone for the server's reconnect grace."""
        return held.status is Status.RUNNING and held.stop in (StopReason.CANCEL, StopReason.TERMINATE)

    def _end_grace(self) -> None:
        """Tells what still runs to stop. That goes for what was only asked to, too: it is still to be cancelled, and how it ends may be
        told, since by then its code does not run any more."""
        self._grace_is_over = True
        self._grace_end = self._now()
        for held in list(self._state.held.values()):
            if held.status is Status.RUNNING and held.stop is None:
                self._stop_one(held, StopReason.SHUTDOWN)
            elif held.status is Status.RUNNING and held.stop is StopReason.CANCEL:
                self._pool.stop(held, StopReason.SHUTDOWN)
