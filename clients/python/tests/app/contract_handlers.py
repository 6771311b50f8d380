# SPDX-License-Identifier: Apache-2.0
"""The handlers of the contract suite, once for all backends: `define` makes them with whatever `shared_task` it is given.

Millrace's and Celery's own decorator both pass, so the suite also proves that ours means what Celery's does.
"""

import pathlib
import time
from collections.abc import Callable
from typing import Any

# Without a pause, Celery's next attempt can be done before its last one has stored that it is retried, which then stands for ever.
RETRY_S = 0.3


def note(path: str, line: object) -> int:
    """Appends a line to a file; returns how many there are. This is how tests see what ran, in whatever process."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return len(pathlib.Path(path).read_text(encoding="utf-8").splitlines())


def define(shared_task: Callable[..., Any], soft_time_limit_exceeded: type[Exception]) -> None:
    """Registers the handlers."""

    @shared_task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    @shared_task(name="echo")
    def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": list(args), "kwargs": kwargs}

    @shared_task(name="append")
    def append(path: str, word: str) -> None:
        note(path, word)

    @shared_task(name="make_jobs")
    def make_jobs(path: str, count: int) -> list[str]:
        return [str(append.delay(path, str(number)).id) for number in range(count)]

    @shared_task(name="discard", ignore_result=True)
    def discard(path: str) -> str:
        note(path, "ran")
        return "nobody reads this"

    @shared_task(name="stuck", time_limit=1)
    def stuck(path: str) -> None:
        note(path, "ran")
        time.sleep(120)

    @shared_task(name="fail", max_retries=3)
    def fail(path: str, message: str) -> None:
        note(path, "ran")
        raise ValueError(message)

    @shared_task(name="flaky", bind=True, max_retries=3)
    def flaky(self: Any, path: str, failures: int) -> int:
        try:
            if note(path, self.request.retries) <= failures:
                raise ConnectionError("not yet")
        except ConnectionError as error:
            raise self.retry(exc=error, countdown=RETRY_S) from error
        return int(self.request.retries)

    @shared_task(name="hopeless", bind=True, max_retries=2)
    def hopeless(self: Any, path: str) -> None:
        note(path, self.request.retries)
        raise self.retry(exc=KeyError("gone"), countdown=RETRY_S)

    @shared_task(name="unexplained", bind=True, max_retries=0)
    def unexplained(self: Any) -> None:
        self.retry(countdown=0)

    @shared_task(name="slow_to_retry", bind=True)
    def slow_to_retry(self: Any) -> None:
        self.retry(exc=ConnectionError("later"))

    @shared_task(name="auto", autoretry_for=(ConnectionError,), retry_backoff=1, retry_backoff_max=1, retry_jitter=False, max_retries=2)
    def auto(path: str, failures: int) -> str:
        if note(path, "ran") <= failures:
            raise ConnectionError("not yet")
        return "done"

    @shared_task(name="auto_other", autoretry_for=(ConnectionError,), retry_backoff=1)
    def auto_other(path: str) -> None:
        note(path, "ran")
        raise LookupError("not among those retried")

    @shared_task(name="calls_directly")
    def calls_directly(path: str) -> str:
        try:
            hopeless(path)
        except KeyError as error:
            return f"raised {error.args[0]}"
        return "did not raise"

    @shared_task(name="impatient", soft_time_limit=1)
    def impatient() -> str:
        try:
            time.sleep(60)
        except soft_time_limit_exceeded:
            return "cut short"
        return "slept through"

    @shared_task(name="hold")
    def hold(folder: str) -> str:
        """Runs until somebody makes the file `release`."""
        place = pathlib.Path(folder)
        (place / "started").touch()
        while not (place / "release").exists():
            time.sleep(0.02)
        return "released"
