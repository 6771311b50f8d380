# SPDX-License-Identifier: Apache-2.0
"""Handlers by task name. Modules of an application register theirs with `@task` when they are imported; workers look them up."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from millrace.errors import InvalidArgument
from millrace.types import ConcurrencyKey, Duration, JobPriority, JobSpec, RetryPolicy, UniqueKey

if TYPE_CHECKING:
    from millrace.context import JobContext

__all__ = ["Middleware", "Registry", "Task", "TaskPolicy", "default_registry", "task"]

P = ParamSpec("P")
R = TypeVar("R")
Middleware = Callable[["JobContext"], AbstractContextManager[Any]]
"""Wraps each attempt, of sync and async handlers alike: where it yields, the handler runs."""

_NAME: Final = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_BY_WORKER: Final = frozenset({"retry", "attempt_timeout"})


class TaskPolicy(TypedDict, total=False):
    """What a task says of its jobs. `retry` and `attempt_timeout` are declared by its workers, so they hold for jobs of every producer;
    the rest goes into the jobs that are made from the task itself (`Task.spec`)."""

    retry: RetryPolicy | None
    attempt_timeout: Duration | None
    queue: str | None
    priority: JobPriority | int | None
    expires_in: Duration | None
    total_timeout: Duration | None
    labels: Mapping[str, str]
    unique: UniqueKey | str | None
    concurrency: ConcurrencyKey | str | None
    retention: Duration | None


class Task(Generic[P, R]):
    """A handler with its name and policy. Calling it calls the function; `spec()` makes a job of it."""

    def __init__(self, function: Callable[P, R], name: str | None = None, *, bind: bool = False, **policy: Unpack[TaskPolicy]) -> None:
        self.function = function
        self.name = name if name is not None else function.__name__
        if self.name != "*" and not _NAME.fullmatch(self.name):
            raise InvalidArgument(f"the task name {self.name!r} is not of [A-Za-z0-9._:/-]{{1,128}}", field="name")
        self.bind = bind
        """The handler gets the JobContext as its first argument."""
        self.policy = policy
        self.is_async = inspect.iscoroutinefunction(function)
        """As it is called: a plain wrapper around an async function may run that itself, on an event loop of its own."""
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The plain call, without any job."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def spec(self, *args: Any, **kwargs: Any) -> JobSpec:
        """The job that calls this handler with these arguments, with the task's policy."""
        return self.apply(JobSpec(self.name, args=args, kwargs=kwargs))

    def apply(self, spec: JobSpec) -> JobSpec:
        """The spec, with the task's policy where it leaves something open."""
        missing: dict[str, Any] = {
            name: value for name, value in self.policy.items() if name not in _BY_WORKER and getattr(spec, name) in (None, {})
        }
        return replace(spec, **missing) if missing else spec


class Registry:
    """Tasks by name, and the middleware around them."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._middleware: list[Middleware] = []

    def add(self, task: Task[P, R]) -> Task[P, R]:
        """Registers a task. A name that another function has is an error, so that no handler replaces another unseen."""
        there = self._tasks.get(task.name)
        if there is not None and _where(there) != _where(task):
            raise InvalidArgument(f"the task {task.name!r} is registered twice: {_where(there)} and {_where(task)}", field="name")
        self._tasks[task.name] = task
        return task

    def get(self, name: str) -> Task[..., Any] | None:
        """The task of this name, or the one for all names (`*`), or None."""
        return self._tasks.get(name) or self._tasks.get("*")

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """Outermost first."""
        return tuple(self._middleware)

    def use(self, middleware: Callable[[JobContext], Any]) -> Callable[[JobContext], Any]:
        """Adds middleware, as a decorator or a call: a function of the context that yields once, or returns a context manager."""
        is_generator = inspect.isgeneratorfunction(middleware)
        self._middleware.append(contextmanager(middleware) if is_generator else cast(Middleware, middleware))
        return middleware

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self, name: str | None = None, /, *, bind: bool = False, **policy: Unpack[TaskPolicy]
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Any = None, /, *, bind: bool = False, **policy: Unpack[TaskPolicy]) -> Any:
        """Registers a function as a handler: `@task`, `@task("name")` or `@task(retry=RetryPolicy(max_attempts=3))`.

        Its name is the function's unless given; `bind=True` hands it the JobContext first.
        """
        if callable(function):
            return self.add(Task(function))
        return lambda real: self.add(Task(real, function, bind=bind, **policy))


def _where(task: Task[..., Any]) -> str:
    """Where the function is defined. A script that a child process imports again is the same one under another name."""
    module = getattr(task.function, "__module__", "?").replace("__mp_main__", "__main__")
    return f"{module}.{getattr(task.function, '__qualname__', task.function)}"


default_registry: Final = Registry()
"""Where `@task` registers, and where workers look unless told otherwise."""
task = default_registry.task
