# SPDX-License-Identifier: Apache-2.0
"""The standard handlers of the scenarios, for each process of the worker; MILLRACE_AGENT_WORKER tells which ones to register."""

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import millrace
from millrace import JobContext, PermanentError, RetryLater, Snooze, Task, current_job, default_registry

CHOICE: dict[str, Any] = json.loads(os.environ.get("MILLRACE_AGENT_WORKER", "{}"))


class Boom(Exception):
    """The agent's own error."""


def to_retry(fields: dict[str, Any] | None) -> millrace.RetryPolicy | None:
    """The protocol's retry policy as the client's."""
    return millrace.RetryPolicy(**fields) if fields is not None else None


def handler(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in CHOICE.get("handlers", [name]):
            policy = CHOICE.get("tasks", {}).get(name, {})
            task = Task(function, name, bind=True, retry=to_retry(policy.get("retry")), attempt_timeout=policy.get("attempt_timeout"))
            default_registry.add(task)
        return function

    return register


if CHOICE.get("middleware"):

    @default_registry.use
    def tell(context: JobContext) -> Any:
        context.log(f"middleware: {context.task}")
        yield


@handler("echo")
def echo(context: JobContext, *args: Any, **kwargs: Any) -> Any:
    return context.payload


@handler("bytes")
def same_bytes(context: JobContext, payload: Any = None, **kwargs: Any) -> bytes:
    if not isinstance(payload, bytes):
        raise Boom(f"the payload is no bytes, but {type(payload).__name__}")
    return payload


@handler("fail")
def fail(context: JobContext, message: str = "it broke") -> None:
    raise Boom(message)


@handler("panic")
def panic(context: JobContext, message: str = "it broke") -> None:
    raise SystemExit(message)


@handler("permanent")
def permanent(context: JobContext, message: str = "never again") -> None:
    raise PermanentError from Boom(message)


@handler("retry_later")
def retry_later(context: JobContext, delay: float, message: str = "busy") -> dict[str, int]:
    if context.attempt == 1:
        raise RetryLater(delay=delay) from Boom(message)
    return {"attempt": context.attempt}


@handler("snooze")
def snooze(context: JobContext, until: str, delay: float) -> dict[str, int]:
    if datetime.now().astimezone() < datetime.fromisoformat(until):
        raise Snooze(timedelta(seconds=delay))
    return {"attempt": context.attempt}


@handler("flaky")
def flaky(context: JobContext, until: int) -> dict[str, int]:
    if context.attempt < until:
        raise Boom(f"attempt {context.attempt}")
    return {"attempt": context.attempt}


@handler("sleep")
def sleep(context: JobContext, seconds: float) -> dict[str, float]:
    context.wait_cancelled(seconds)
    context.check_cancelled()
    return {"slept": seconds}


@handler("hang")
def hang(context: JobContext, seconds: float) -> dict[str, float]:
    time.sleep(seconds)
    return {"hung": seconds}


@handler("busy")
def busy(context: JobContext, seconds: float) -> dict[str, float]:
    """Holds the interpreter: one call of C code after the other, each too long for another thread to get a turn soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(20_000_000))
    return {"busy": seconds}


@handler("progress")
def progress(context: JobContext, fraction: float, message: str = "", seconds: float = 0) -> dict[str, float]:
    context.progress(fraction, message)
    return sleep(context, seconds)


@handler("log")
def log(context: JobContext, lines: list[str]) -> dict[str, int]:
    for line in lines:
        context.log(line)
    return {"lines": len(lines)}


@handler("previous")
def previous(context: JobContext) -> dict[str, Any]:
    return {"previous": current_job().previous_result}


@handler("big_result")
def big_result(context: JobContext, length: int) -> str:
    return "x" * length


@handler("bad_result")
def bad_result(context: JobContext) -> dict[str, float]:
    return {"value": float("nan")}


@handler("crash")
def crash(context: JobContext) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@handler("context")
def see_context(context: JobContext) -> dict[str, Any]:
    seen = {
        name: getattr(context, name)
        for name in ("job_id", "task", "queue", "attempt", "max_attempts", "traceparent", "chain_id", "batch_id", "deadline")
    }
    return {**seen, "priority": int(context.priority), "labels": dict(context.labels)}
