# SPDX-License-Identifier: Apache-2.0
"""`shared_task`: handlers that were written for Celery, with the meaning that they have there."""

from __future__ import annotations

import functools
import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, TypedDict, TypeVar, Unpack, overload

from millrace.context import JobContext
from millrace.errors import JobCancelled, MillraceError, PermanentError, RetryLater, Snooze
from millrace.jobs._manager import Step
from millrace.jobs._process import AsyncResult, call
from millrace.jobs._softlimit import SoftTimeLimitExceeded, soft_time_limit
from millrace.jobs._types import JobOptions
from millrace.registry import Task, default_registry
from millrace.types import JobPriority, RetryPolicy

__all__ = ["MaxRetriesExceededError", "Request", "Retry", "SharedTask", "SoftTimeLimitExceeded", "shared_task"]

R = TypeVar("R")

DEFAULT_RETRY_DELAY_S: Final = 180
_ATTEMPTS_MAX: Final = 1000
_PASSED_ON: Final = (PermanentError, RetryLater, Snooze, JobCancelled)


class Retry(Exception):
    """Raised by `self.retry()`: the handler ends here and runs again later."""

    def __init__(self, message: str, *, delay: timedelta, attempts_max: int) -> None:
        super().__init__(message)
        self.delay = delay
        self.attempts_max = attempts_max


class MaxRetriesExceededError(MillraceError):
    """`self.retry()` without an exception of yours, and the retries are used up."""


@dataclass(frozen=True, slots=True)
class Request:
    """What runs: `self.request` in a bound handler."""

    id: str | None = None
    retries: int = 0
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    called_directly: bool = True


_request: ContextVar[Request] = ContextVar("millrace_shared_task_request", default=Request())  # noqa: B039


class SharedTaskOptions(TypedDict, total=False):
    """The options of `shared_task`, as in Celery. There is no other."""

    name: str
    bind: bool
    max_retries: int | None
    autoretry_for: Sequence[type[BaseException]]
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    time_limit: float
    soft_time_limit: float
    ignore_result: bool
    queue: str
    priority: JobPriority | int
    acks_late: bool


class SharedTask(Task[..., R]):
    """A handler made by `shared_task`. Calling it calls the function; `delay` and `apply_async` make jobs."""

    def __init__(self, run: Callable[..., R], options: SharedTaskOptions) -> None:
        if inspect.iscoroutinefunction(run):
            raise TypeError(f"{run.__qualname__} is async, which shared_task can't run; @task can")
        self.run = run
        self.options = options
        self.max_retries = options.get("max_retries", 3)

        @functools.wraps(run)
        def attempt(context: JobContext, /, *args: Any, **kwargs: Any) -> R | None:
            return self._attempt(context, args, kwargs)

        super().__init__(
            attempt,  # type: ignore[arg-type]
            options.get("name"),
            bind=True,
            queue=options.get("queue"),
            priority=options.get("priority"),
            # Each retry is asked for by the handler; whatever else ends an attempt, such as the hard time limit, ends the job.
            retry=RetryPolicy(max_attempts=1),
            attempt_timeout=options.get("time_limit"),
        )

    # ---- for the handler ----

    @property
    def request(self) -> Request:
        """What runs now."""
        return _request.get()

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        max_retries: int | None = None,
    ) -> NoReturn:
        """Ends the attempt; the next comes after `countdown` seconds (three minutes unless given), or at `eta`.

        With the retries used up, or in a direct call, raises `exc` instead.
        """
        request = self.request
        if request.called_directly:
            raise exc or MillraceError(f"{self.name} was called directly, so there is nothing to retry")
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries >= limit:
            raise exc or MaxRetriesExceededError(f"{self.name}, job {request.id}, has been retried {request.retries} times")
        delay = timedelta(seconds=DEFAULT_RETRY_DELAY_S if countdown is None else countdown)
        if eta is not None:
            delay = max(eta - datetime.now(eta.tzinfo), timedelta())
        attempts_max = _ATTEMPTS_MAX if limit is None else limit + 1
        cause = exc or sys.exception()
        raise Retry(f"retry in {delay.total_seconds():g} s", delay=delay, attempts_max=attempts_max) from cause

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """The plain call, without any job; `self.retry()` then raises what it was given."""
        with _requested(Request(args=args, kwargs=kwargs)):
            return self._run(args, kwargs)

    # ---- for the producer ----

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Makes a job of the call, from code that is not async; async code says `await jobs.enqueue(task, …)`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        queue: str | None = None,
        priority: JobPriority | int | None = None,
    ) -> AsyncResult:
        """Makes a job of the call, with Celery's options."""
        given: JobOptions = {}
        if countdown is not None:
            given["delay"] = countdown
        if eta is not None:
            given["run_at"] = eta
        if expires is not None:
            given["expires"] = expires
        if queue is not None:
            given["queue"] = queue
        if priority is not None:
            given["priority"] = priority
        return AsyncResult(call(lambda jobs: jobs.options(**given).enqueue(self, *args, **(kwargs or {}))))

    def si(self, *args: Any, **kwargs: Any) -> Step:
        """The call as a step of a chain: `jobs.chain([a.si(1), b.si(2)])`."""
        return (self, args, kwargs)

    # ---- one attempt ----

    def _attempt(self, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R | None:
        request = Request(context.job_id, context.attempt - 1, args, kwargs, called_directly=False)
        with _requested(request):
            try:
                with soft_time_limit(self.options.get("soft_time_limit")):
                    result = self._run_with_autoretry(args, kwargs)
            except Retry as retry:
                raise RetryLater(str(retry), delay=retry.delay, max_attempts=retry.attempts_max) from retry.__cause__
            except _PASSED_ON:
                raise
            except Exception as error:
                raise PermanentError(str(error)) from error
        return None if self.options.get("ignore_result") else result

    def _run_with_autoretry(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R:
        try:
            return self._run(args, kwargs)
        except (Retry, *_PASSED_ON):
            raise
        except tuple(self.options.get("autoretry_for", ())) as error:
            self.retry(exc=error, countdown=self._autoretry_countdown())

    def _autoretry_countdown(self) -> float | None:
        backoff = self.options.get("retry_backoff", False)
        if not backoff:
            return None
        longest = self.options.get("retry_backoff_max", 600)
        countdown = min(max(1, int(backoff)) * 2**self.request.retries, longest)
        return random.uniform(0, countdown) if self.options.get("retry_jitter", True) else countdown

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R:
        return self.run(self, *args, **kwargs) if self.options.get("bind") else self.run(*args, **kwargs)


@contextmanager
def _requested(request: Request) -> Iterator[None]:
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


@overload
def shared_task(function: Callable[..., R], /) -> SharedTask[R]: ...


@overload
def shared_task(**options: Unpack[SharedTaskOptions]) -> Callable[[Callable[..., R]], SharedTask[R]]: ...


def shared_task(function: Callable[..., R] | None = None, /, **options: Unpack[SharedTaskOptions]) -> Any:
    """Registers a function as a handler, as Celery's decorator of this name does; its name is the function's own.

    An exception that escapes fails the job for good, unless `autoretry_for` names it or the handler calls `self.retry()`.
    """
    unknown = [name for name in options if name not in SharedTaskOptions.__annotations__]
    if unknown:
        raise TypeError(f"shared_task has no option {unknown[0]!r}; it has {', '.join(SharedTaskOptions.__annotations__)}")

    def register(real: Callable[..., R]) -> SharedTask[R]:
        made = SharedTask(real, options)
        default_registry.add(made)
        return made

    return register if function is None else register(function)
