# SPDX-License-Identifier: Apache-2.0
"""How an attempt ends, and what is reported of it."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from millrace import JobCancelled, JobContext, PermanentError, Registry, RetryLater, Snooze, StopReason, current_job
from millrace.proto.v1 import common_pb2
from millrace.proto.v1 import worker_service_pb2 as pb
from millrace.worker._attempt import Attempt, Ending, Limits, make_context, run_blocking


def run(
    function: Callable[..., Any] | None, payload: str = "{}", *, stop: StopReason | None = None, limits: Limits | None = None, **fields: Any
) -> tuple[Ending, pb.Report, list[pb.Report]]:
    registry = Registry()
    if function is not None:
        registry.task("t", bind=True)(function)
    return run_with(registry, payload, stop=stop, limits=limits, **fields)


def run_with(
    registry: Registry, payload: str = "{}", *, stop: StopReason | None = None, limits: Limits | None = None, **fields: Any
) -> tuple[Ending, pb.Report, list[pb.Report]]:
    delivery = pb.Delivery(job_id="id", delivery=3, task="t", attempt=1, payload=common_pb2.Payload(json=payload), **fields)
    said: list[pb.Report] = []
    limits = limits or Limits()
    context = make_context(delivery, None, limits, lambda report: said.append(pb.Report.FromString(report)))
    if stop is not None:
        context.stop(stop)
    with asyncio.Runner() as runner:
        ending = run_blocking(Attempt(registry, context, None, limits), runner)
    report = pb.Report.FromString(ending.report)
    assert (report.job_id, report.delivery) == ("id", 3)
    assert report.HasField("started_at")
    return ending, report, said


def raiser(error: BaseException, cause: BaseException | None = None) -> Callable[..., Any]:
    def raise_it(context: JobContext) -> None:
        raise error from cause

    return raise_it


def test_a_result_is_reported() -> None:
    ending, report, _ = run(lambda context, a, b: [a, b], '{"a": 1, "b": "x"}')
    assert (ending.word, report.succeeded.result.json) == ("succeeded", '[1,"x"]')
    assert not run(lambda context: None)[1].succeeded.HasField("result")
    assert run(lambda context: b"\0\xff")[1].succeeded.result.data == b"\0\xff"


def test_an_async_handler_sees_its_job() -> None:
    async def handler(context: JobContext) -> str:
        await asyncio.sleep(0)
        assert current_job() is context
        return current_job().task

    assert run(handler)[1].succeeded.result.json == '"t"'
    with pytest.raises(LookupError):
        current_job()


def test_what_a_wrapper_returns_decides_and_not_what_it_wraps() -> None:
    async def double(context: JobContext, number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    @functools.wraps(double)
    def runs_it(*args: Any, **kwargs: Any) -> int:
        return asyncio.run(double(*args, **kwargs))

    @functools.wraps(double)
    def passes_it_on(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, int]:
        return double(*args, **kwargs)

    for handler in (runs_it, passes_it_on):
        ending, report, _ = run(handler, '{"number": 21}')
        assert (ending.word, report.succeeded.result.json) == ("succeeded", "42")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"value": [float("nan")]}, "result.value[0]"),
        (object(), "object"),
        ((number for number in range(3)), "generator"),
        ("x" * 2000, "2002 bytes"),
    ],
)
def test_a_result_that_cannot_be_kept_is_left_out_and_the_job_has_succeeded(result: Any, reason: str) -> None:
    ending, report, _ = run(lambda context: result, limits=Limits(result_bytes=1000))
    assert ending.word == "succeeded"
    assert not report.succeeded.HasField("result")
    assert reason in report.succeeded.result_omitted_reason


def test_an_exception_is_a_failure_with_type_message_trace_and_fingerprint() -> None:
    def handler(context: JobContext, text: str) -> None:
        raise ValueError(text)

    ending, report, _ = run(handler, '{"text": "it broke"}')
    error = report.failed.error
    assert (ending.word, ending.error) == ("failed", "ValueError: it broke")
    assert (error.type, error.message) == ("ValueError", "it broke")
    assert "test_attempt.py" in error.trace
    assert "raise ValueError(text)" in error.trace
    assert "_attempt.py" not in error.trace.replace("test_attempt.py", "")
    assert not report.failed.permanent
    other = run(handler, '{"text": "it broke in another way"}')[1].failed.error
    assert len(error.fingerprint) == 16
    assert error.fingerprint == other.fingerprint
    assert error.fingerprint != run(raiser(ValueError("elsewhere")))[1].failed.error.fingerprint


def test_a_long_error_is_cut_and_keeps_the_innermost_frames() -> None:
    def deep(levels: int) -> None:
        if levels == 0:
            raise ValueError("é" * 10_000)
        deep(levels - 1)

    error = run(lambda context: deep(300), limits=Limits(trace_bytes=1000))[1].failed.error
    assert len(error.message.encode()) <= 4096
    assert len(error.trace.encode()) <= 1000


def test_wrong_arguments_are_a_failure() -> None:
    assert "unexpected keyword argument 'b'" in run(lambda context, a=1: a, '{"b": 2}')[1].failed.error.message


def test_the_ways_to_fail_on_purpose() -> None:
    permanent = run(raiser(PermanentError("no use")))[1].failed
    assert (permanent.permanent, permanent.error.type, permanent.error.message) == (True, "PermanentError", "no use")
    caused = run(raiser(PermanentError(), KeyError("cause")))[1].failed
    assert (caused.permanent, caused.error.type) == (True, "KeyError")
    later = run(raiser(RetryLater("busy", delay=1.5, max_attempts=9)))[1].failed
    assert (later.retry_after.ToMilliseconds(), later.max_attempts, later.error.message) == (1500, 9, "busy")
    ending, report, _ = run(raiser(Snooze(2)))
    assert (ending.word, report.snoozed.delay.ToSeconds()) == ("snoozed", 2)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ZeroDivisionError()])
def test_the_worst_exceptions_are_failures_too(error: BaseException) -> None:
    assert run(raiser(error))[1].failed.error.type == type(error).__name__


def test_only_a_handler_that_was_asked_to_stop_confirms_a_cancel() -> None:
    def obey(context: JobContext) -> None:
        context.check_cancelled()
        raise JobCancelled("nobody asked")

    ending, report, _ = run(obey, stop=StopReason.CANCEL)
    assert (ending.word, report.failed.cancelled) == ("cancelled", True)
    ending, report, _ = run(obey)
    assert (ending.word, report.failed.cancelled, report.failed.error.type) == ("failed", False, "JobCancelled")
    ending, report, _ = run(obey, stop=StopReason.SHUTDOWN)
    assert (ending.word, report.released.reason) == ("released", pb.RELEASE_REASON_STOPPING)
    ending, report, _ = run(lambda context: "done all the same", stop=StopReason.CANCEL)
    assert ending.word == "succeeded"


def test_a_task_without_a_handler_is_released_as_such() -> None:
    ending, report, _ = run(None)
    assert (ending.word, report.released.reason) == ("unknown_task", pb.RELEASE_REASON_UNKNOWN_TASK)


def test_middleware_wraps_handlers_of_both_kinds_and_sees_their_errors() -> None:
    registry, seen = Registry(), []

    @registry.use
    def outer(context: JobContext) -> Any:
        seen.append(f"outer {context.task}")
        try:
            yield
        except ValueError as error:
            raise Snooze(1) from error
        seen.append("outer done")

    @registry.use
    def inner(context: JobContext) -> Any:
        seen.append("inner")
        yield

    @registry.task("t")
    async def handler(fails: bool) -> int:
        seen.append("handler")
        if fails:
            raise ValueError
        return 1

    assert run_with(registry, '{"fails": false}')[0].word == "succeeded"
    assert seen == ["outer t", "inner", "handler", "outer done"]
    assert run_with(registry, '{"fails": true}')[0].word == "snoozed"


def test_progress_and_log_are_reported_as_they_come_and_cut() -> None:
    def handler(context: JobContext) -> None:
        context.progress(7, "p" * 1000)
        context.log("\ud800 é" + "l" * 10_000)

    progress, log = run(handler, limits=Limits(log_line_bytes=100))[2]
    assert (progress.progress.fraction, len(progress.progress.message)) == (1.0, 256)
    line = log.log.lines[0].text
    assert len(line.encode()) <= 100
    assert line.startswith("? é")


async def test_waiting_for_a_cancel_ends_with_it() -> None:
    delivery = pb.Delivery(job_id="id", delivery=1, task="t")
    context = make_context(delivery, None, Limits(), lambda report: None)
    assert not await context.until_cancelled(0.01)
    assert not context.wait_cancelled(0.01)
    waiting = asyncio.create_task(context.until_cancelled(60))
    await asyncio.sleep(0)
    await asyncio.to_thread(context.stop, StopReason.CANCEL)
    assert await waiting
    assert context.wait_cancelled(60)
    assert await context.until_cancelled(60)
