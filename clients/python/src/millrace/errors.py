# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions: `MillraceError` and its kin.

Those that a call raises carry a sentence for a person (`message`), a `code` (gRPC's word), a constant `reason` where the server gives one,
the `field` at fault, and `retry_after` where waiting can help. Those at the end are for handlers to raise.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace.types import CreateOutcome

__all__ = [
    "AlreadyExists",
    "CallCancelled",
    "DataLoss",
    "DeadlineExceeded",
    "EncodingError",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "JobCancelled",
    "JobExists",
    "JobNotFound",
    "MillraceError",
    "NotFound",
    "PermanentError",
    "PermissionDenied",
    "QueueFull",
    "ResourceExhausted",
    "RetryLater",
    "Snooze",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "WaitTimeout",
]


class MillraceError(Exception):
    """The root of all that Millrace's client raises by itself."""

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        subject: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        """The path of the argument at fault, such as `task` or `kwargs.items[2]`."""
        self.reason = reason
        """A constant for programs, such as `JOB_DELETED`."""
        self.subject = subject
        """The id or name of the object in the way."""
        self.retry_after = retry_after
        """When trying again can help."""
        self.outcomes: tuple[CreateOutcome, ...] = ()
        """Of creates whose call failed: what is known of each job, in order. `create` tells of its one job, `create_many` of all that
        it had taken from `specs`, `create_stream` of those whose outcomes it had not told. Those without an answer carry this error,
        and the id with which they can be sent again."""


class InvalidArgument(MillraceError, ValueError):
    """An argument is missing, malformed or beyond its limit: see `field`."""

    code = "INVALID_ARGUMENT"


class EncodingError(InvalidArgument):
    """A value can't be written as a payload; `field` is its path. docs/json.md has the rules."""


class NotFound(MillraceError, LookupError):
    """There is no such chain, batch, schedule or session, or its retention has passed."""

    code = "NOT_FOUND"


class JobNotFound(NotFound):
    """There is no such job, or its retention has passed."""


class AlreadyExists(MillraceError):
    """The id or name is in use with other content."""

    code = "ALREADY_EXISTS"


class JobExists(AlreadyExists):
    """The job's id is in use with other content, or its unique key is taken."""

    @property
    def job_id(self) -> str | None:
        """The job that holds the id or the unique key."""
        return self.subject


class FailedPrecondition(MillraceError):
    """The object's state does not allow it, such as updating a job that runs."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(MillraceError):
    """A limit is reached: slow down, or raise the limit."""

    code = "RESOURCE_EXHAUSTED"


class QueueFull(ResourceExhausted):
    """The queue's `max_length` is reached."""


class Unavailable(MillraceError, ConnectionError):
    """The server can't be reached, starts or stops. Sending again with the same id is safe."""

    code = "UNAVAILABLE"


class DeadlineExceeded(MillraceError, TimeoutError):
    """The client's own time-out for a call passed; the call may have been carried out. Sending again with the same id is safe."""

    code = "DEADLINE_EXCEEDED"


class WaitTimeout(MillraceError, TimeoutError):
    """What was waited for had not ended in time."""

    code = "DEADLINE_EXCEEDED"


class CallCancelled(MillraceError):
    """The call was given up, for instance because the client was closed."""

    code = "CANCELLED"


class Unauthenticated(MillraceError):
    """The token is missing or wrong."""

    code = "UNAUTHENTICATED"


class PermissionDenied(MillraceError):
    """The token's role does not reach so far."""

    code = "PERMISSION_DENIED"


class Unimplemented(MillraceError):
    """The server does not know the method: compare versions."""

    code = "UNIMPLEMENTED"


class InternalError(MillraceError):
    """A fault in Millrace: please report it."""

    code = "INTERNAL"


class DataLoss(MillraceError):
    """Damage on the server's disk."""

    code = "DATA_LOSS"


class PermanentError(Exception):
    """Raised by a handler: the job has failed, and no further attempt is made.

    Raised `from` another exception, the job's error tells of that one.
    """


class RetryLater(Exception):
    """Raised by a handler: the attempt has failed, and the next one comes after `delay`.

    `max_attempts` overrides the job's limit. Raised `from` another exception, the job's error tells of that one.
    """

    def __init__(self, message: str = "", *, delay: timedelta | float, max_attempts: int | None = None) -> None:
        super().__init__(message or f"try again in {delay}")
        self.delay = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        self.max_attempts = max_attempts


class Snooze(Exception):
    """Raised by a handler: call me again after `delay`. This is no failure and uses up no attempt."""

    def __init__(self, delay: timedelta | float) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)


class JobCancelled(Exception):
    """Raised in a handler, by `JobContext.check_cancelled()`: the job was asked to stop. Letting it escape confirms the cancel."""
