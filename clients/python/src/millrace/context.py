# SPDX-License-Identifier: Apache-2.0
"""What a handler sees of its job, and can say about it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from millrace._times import Duration, to_delta
from millrace.errors import JobCancelled
from millrace.payload import Codec, Payload, decode
from millrace.types import JobPriority

__all__ = ["JobContext", "StopReason", "current_job"]

_current: Final[ContextVar[JobContext]] = ContextVar("millrace_job")


class StopReason(Enum):
    """Why a handler should stop."""

    CANCEL = "cancel"
    """A person or program asked for it: let JobCancelled escape to confirm."""
    TERMINATE = "terminate"
    """Likewise, and the code is stopped by force if it does not obey."""
    LOST = "lost"
    """The delivery is no longer this worker's (its time is over, or another has it): what it returns is not used."""
    SHUTDOWN = "shutdown"
    """The worker stops and its grace is over: the job goes back to its queue."""


class JobContext:
    """The job that runs, for its handler. `current_job()` gives it; so does `@task(bind=True)` as the first argument."""

    def __init__(
        self,
        *,
        job_id: str,
        task: str,
        queue: str,
        priority: JobPriority,
        attempt: int,
        max_attempts: int,
        delivery: int,
        payload: Payload,
        previous: Payload | None = None,
        labels: Mapping[str, str] | None = None,
        deadline: datetime | None = None,
        created_at: datetime | None = None,
        traceparent: str = "",
        tracestate: str = "",
        chain_id: str = "",
        batch_id: str = "",
        codec: Codec | None = None,
        say: Callable[[str, Any], None] | None = None,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.queue = queue
        self.priority = priority
        self.attempt = attempt
        """This attempt's number, from 1."""
        self.max_attempts = max_attempts
        self.delivery = delivery
        """Rises with each handing-over: a fence for whoever writes elsewhere."""
        self.labels: Mapping[str, str] = labels or {}
        self.deadline = deadline
        """When the attempt must have ended (its own time-out or the job's deadline, whichever is first); None: never."""
        self.created_at = created_at
        self.traceparent = traceparent
        self.tracestate = tracestate
        self.chain_id = chain_id
        self.batch_id = batch_id
        self._payload = payload
        self._previous = previous
        self._codec = codec
        self._say = say
        self._stop: StopReason | None = None
        self._stopped = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    @property
    def payload(self) -> Any:
        """The whole payload, decoded, however it was split into arguments."""
        return decode(self._payload, self._codec)

    @property
    def previous_result(self) -> Any:
        """What the chain step before returned, when the job asked for it."""
        return decode(self._previous, self._codec)

    @property
    def remaining(self) -> timedelta | None:
        """Time until the deadline, never negative; None: no deadline."""
        return None if self.deadline is None else max(self.deadline - datetime.now(UTC), timedelta())

    @property
    def cancelled(self) -> bool:
        """The handler was asked to stop; `stop_reason` tells why."""
        return self._stop is not None

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the handler should stop, if it should."""
        return self._stop

    def check_cancelled(self) -> None:
        """Raises JobCancelled when the handler was asked to stop. Letting that escape confirms it."""
        if self._stop is not None:
            raise JobCancelled(f"asked to stop: {self._stop.value}")

    def wait_cancelled(self, timeout: Duration | None = None) -> bool:
        """Blocks until the handler is asked to stop (True) or the time has passed (False): a sleep that can be cancelled."""
        return self._stopped.wait(None if timeout is None else to_delta(timeout, "timeout").total_seconds())

    async def until_cancelled(self, timeout: Duration | None = None) -> bool:
        """The same for async handlers."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._lock:
            if self._stop is not None:
                return True
            self._waiters.append(entry)
        try:
            await asyncio.wait_for(event.wait(), None if timeout is None else to_delta(timeout, "timeout").total_seconds())
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters.remove(entry)
        return True

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells how far the job is, from 0 to 1; people see it while the job runs."""
        self._tell("progress", (min(max(float(fraction), 0.0), 1.0), message))

    def log(self, text: str) -> None:
        """Writes a line into the job's log, of which the last 64 KiB are kept."""
        self._tell("log", text)

    def stop(self, reason: StopReason) -> None:
        """Asks the handler to stop; for workers."""
        with self._lock:
            self._stop = reason
            self._stopped.set()
            for loop, event in self._waiters:
                loop.call_soon_threadsafe(event.set)

    def _tell(self, what: str, value: Any) -> None:
        if self._say is not None:
            self._say(what, value)


def current_job() -> JobContext:
    """The job whose handler is running here. Raises LookupError outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job is running here: current_job() is for handlers") from None
