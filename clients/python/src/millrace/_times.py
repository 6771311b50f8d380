# SPDX-License-Identifier: Apache-2.0
"""Times and spans between Python and protobuf."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration as PbDuration
from google.protobuf.timestamp_pb2 import Timestamp

from millrace.errors import InvalidArgument

Duration: TypeAlias = timedelta | float
"""A span: a timedelta, or seconds."""

_MICROSECOND = timedelta(microseconds=1)


def to_delta(value: Duration, field: str) -> timedelta:
    """A timedelta; refuses what is no span."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"{field} must be a timedelta or a number of seconds, not {value!r}", field=field)
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise InvalidArgument(f"{field}: {value!r} seconds are not a span ({error})", field=field) from None


def duration_to_pb(value: Duration, field: str) -> PbDuration:
    """A protobuf Duration."""
    microseconds = to_delta(value, field) // _MICROSECOND
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    sign = -1 if microseconds < 0 else 1
    return PbDuration(seconds=sign * seconds, nanos=sign * rest * 1000)


def time_to_pb(value: datetime, field: str) -> Timestamp:
    """A protobuf Timestamp; a time without a zone is refused, since nobody can know which one is meant."""
    if not isinstance(value, datetime):
        raise InvalidArgument(f"{field} must be a datetime, not {type(value).__name__}", field=field)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArgument(f"{field} has no time zone; for UTC write datetime.now(timezone.utc)", field=field)
    microseconds = (value - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def delta_from_pb(value: PbDuration) -> timedelta:
    """A timedelta."""
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def time_from_pb(value: Timestamp) -> datetime:
    """A datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
