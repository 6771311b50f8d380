# SPDX-License-Identifier: Apache-2.0
"""One attempt: from a delivery to the handler's call, and from how that ended to a report. The same in every pool."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, Literal

from millrace import _otel
from millrace._convert import payload_from_pb, payload_to_pb, priority_from_pb
from millrace._times import delta_from_pb, duration_to_pb, time_from_pb
from millrace.context import JobContext, StopReason, _current
from millrace.errors import EncodingError, JobCancelled, PermanentError, RetryLater, Snooze
from millrace.payload import Codec, Payload, decode_call, encode
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.registry import Registry

_TYPE_BYTES: Final = 256
_MESSAGE_BYTES: Final = 4096
_REASON_BYTES: Final = 256
_PROGRESS_BYTES: Final = 256
_OUR_FILES: Final = str(PurePath(__file__).parent.parent)

Word = Literal["succeeded", "failed", "snoozed", "released", "cancelled", "unknown_task", "lost"]
WORDS: Final[tuple[Word, ...]] = ("succeeded", "failed", "snoozed", "released", "cancelled", "unknown_task", "lost")


class Stopped(BaseException):
    """Thrown into a handler that is stopped by force. Not an Exception, so that handlers do not catch it by accident."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server keeps of a report."""

    result_bytes: int = 1 << 20
    log_line_bytes: int = 4096
    trace_bytes: int = 16384


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    word: Word
    report: bytes
    """The final report."""
    seconds: float
    error: str = ""
    """For the log line of a failure."""


def cut(text: str, bytes_max: int) -> str:
    """Valid UTF-8 of at most so many bytes."""
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def make_context(delivery: pb.Delivery, codec: Codec | None, limits: Limits, send: Callable[[bytes], None]) -> JobContext:
    """What the handler gets to see. `send` takes reports that are not final."""

    def say(what: str, value: Any) -> None:
        report = pb.Report(job_id=delivery.job_id, delivery=delivery.delivery)
        if what == "progress":
            report.progress.fraction = value[0]
            report.progress.message = cut(str(value[1]), _PROGRESS_BYTES)
        else:
            report.log.lines.add(time_unix_ms=time.time_ns() // 1_000_000, text=cut(str(value), limits.log_line_bytes))
        send(report.SerializeToString())

    deadlines: list[datetime] = []
    if delivery.HasField("deadline"):
        deadlines.append(time_from_pb(delivery.deadline))
    if delivery.HasField("attempt_timeout"):
        deadlines.append(datetime.now(UTC) + delta_from_pb(delivery.attempt_timeout))
    return JobContext(
        job_id=delivery.job_id,
        task=delivery.task,
        queue=delivery.queue,
        priority=priority_from_pb(delivery.priority),
        attempt=delivery.attempt,
        max_attempts=delivery.max_attempts,
        delivery=delivery.delivery,
        payload=payload_from_pb(delivery.payload),
        previous=payload_from_pb(delivery.previous_result) if delivery.HasField("previous_result") else None,
        labels=dict(delivery.labels),
        deadline=min(deadlines) if deadlines else None,
        created_at=time_from_pb(delivery.created_at) if delivery.HasField("created_at") else None,
        traceparent=delivery.traceparent,
        tracestate=delivery.tracestate,
        chain_id=delivery.chain_id,
        batch_id=delivery.batch_id,
        codec=codec,
        say=say,
    )


class Attempt:
    """Around the handler's call: `with Attempt(…) as attempt: attempt.result = task.function(…)`; then `ending` tells how it went.

    Whatever the handler raises ends here.
    """

    def __init__(self, registry: Registry, context: JobContext, codec: Codec | None, limits: Limits) -> None:
        self.context = context
        self.result: Any = None
        self.ending: Ending | None = None
        self.stopped_by_force = False
        self.task = registry.get(context.task)
        self._middleware = registry.middleware
        self._codec = codec
        self._limits = limits
        self._stack = ExitStack()
        self._started = time.time()
        self._clock = time.perf_counter()
        self._token: Any = None

    def __enter__(self) -> Attempt:
        self._token = _current.set(self.context)
        return self

    def call(self) -> Any:
        """Calls the handler inside of the middleware; returns its result, or what has to be awaited for it."""
        if self.task is None:
            raise _UnknownTask
        self._stack.enter_context(_otel.run_span(self.context))
        for middleware in self._middleware:
            self._stack.enter_context(middleware(self.context))
        args, kwargs = decode_call(self.context._payload, self._codec)
        if self.task.bind:
            args.insert(0, self.context)
        return self.task.function(*args, **kwargs)

    def refuse(self) -> Ending:
        """The ending of a job that was to be stopped before it had begun."""
        with self:
            raise JobCancelled
        assert self.ending is not None
        return self.ending

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        try:
            if self._stack.__exit__(kind, error, trace):
                error = None
        except BaseException as other:
            error = other
        _current.reset(self._token)
        report = pb.Report(job_id=self.context.job_id, delivery=self.context.delivery)
        report.started_at.FromMilliseconds(int(self._started * 1000))
        text = ""
        if error is None:
            word = self._succeed(report.succeeded)
        else:
            word, text = self._end_badly(report, error)
        self.ending = Ending(word, report.SerializeToString(), time.perf_counter() - self._clock, text)
        return True

    def _succeed(self, succeeded: pb.Succeeded) -> Word:
        succeeded.SetInParent()
        if self.result is None:
            return "succeeded"
        try:
            payload = encode(self.result, self._codec, path="result")
        except EncodingError as error:
            succeeded.result_omitted_reason = cut(str(error), _REASON_BYTES)
        except Exception as error:  # of a codec of the application's own
            succeeded.result_omitted_reason = cut(f"the result can't be encoded: {error!r}", _REASON_BYTES)
        else:
            size = _size(payload)
            if size > self._limits.result_bytes:
                succeeded.result_omitted_reason = f"the result has {size} bytes, at most {self._limits.result_bytes} are kept"
            else:
                succeeded.result.CopyFrom(payload_to_pb(payload))
        return "succeeded"

    def _end_badly(self, report: pb.Report, error: BaseException) -> tuple[Word, str]:
        stop = self.context.stop_reason
        if isinstance(error, _UnknownTask):
            report.released.reason = pb.RELEASE_REASON_UNKNOWN_TASK
            return "unknown_task", ""
        if isinstance(error, Snooze):
            report.snoozed.delay.CopyFrom(duration_to_pb(error.delay, "delay"))
            return "snoozed", ""
        self.stopped_by_force = isinstance(error, Stopped)
        if stop is StopReason.SHUTDOWN and isinstance(error, JobCancelled | Stopped | asyncio.CancelledError):
            report.released.reason = pb.RELEASE_REASON_STOPPING
            return "released", ""
        failed = report.failed
        failed.cancelled = stop is not None
        if isinstance(error, RetryLater):
            failed.retry_after.CopyFrom(duration_to_pb(error.delay, "delay"))
            failed.max_attempts = error.max_attempts or 0
        failed.permanent = isinstance(error, PermanentError)
        cause = error.__cause__ if isinstance(error, PermanentError | RetryLater) and error.__cause__ is not None else error
        self._describe(failed, cause)
        if stop is not None and isinstance(error, JobCancelled | Stopped | asyncio.CancelledError):
            return "cancelled", ""
        return "failed", f"{failed.error.type}: {failed.error.message}"

    def _describe(self, failed: pb.Failed, error: BaseException) -> None:
        """Type, message, trace, and the fingerprint over task, type and innermost frame: the same fault has the same one."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OUR_FILES)]
        kind = type(error).__qualname__
        try:
            message = str(error)
        except Exception as fault:
            message = f"(its text can't be had: {type(fault).__name__})"
        trace = "".join(traceback.format_list(frames)) + f"{kind}: {message}"
        top = f"{PurePath(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
        failed.error.type = cut(kind, _TYPE_BYTES)
        failed.error.message = cut(message, _MESSAGE_BYTES)
        # The innermost frames come last: what has no room is the outer part.
        failed.error.trace = trace.encode("utf-8", "replace")[-self._limits.trace_bytes :].decode("utf-8", "ignore")
        failed.error.fingerprint = hashlib.sha256(f"{self.context.task}\n{kind}\n{top}".encode("utf-8", "replace")).hexdigest()[:16]


class _UnknownTask(Exception):
    """There is no handler."""


def _size(payload: Payload) -> int:
    return len(payload.json.encode()) if payload.json is not None else len(payload.data or b"")


def run_blocking(attempt: Attempt, runner: asyncio.Runner) -> Ending:
    """Runs a handler of either kind on this thread; `runner` keeps the event loop of async ones, and is closed when one was stopped."""
    with attempt:
        try:
            result = attempt.call()
            if isinstance(result, Coroutine):
                result = runner.run(result, context=contextvars.copy_context())
        except Stopped:
            # It came out of the loop, which still has the handler's tasks, and threads that they wait for: the end is told after theirs.
            with suppress(BaseException):
                runner.close()
            raise
        attempt.result = result
    assert attempt.ending is not None
    return attempt.ending
