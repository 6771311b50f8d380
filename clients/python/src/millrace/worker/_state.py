# SPDX-License-Identifier: Apache-2.0
"""A session's numbers and what it holds: the protocol of docs/api.md, without any I/O.

Deliveries come in messages numbered without a gap; reports go out in messages numbered likewise, each kept until the server says that it
is durable. A delivery is held from its arrival until its final report has been accepted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from millrace.context import StopReason
from millrace.proto.v1 import worker_service_pb2 as pb

REPORTS_MAX: Final = 1000
NEWS_BYTES_MAX: Final = 8 * 1024 * 1024
"""Progress and log lines not accepted yet; more are dropped, since they must not fill the memory while the server is away."""
_SLACK_BYTES: Final = 64

Key = tuple[str, int]


class ProtocolError(Exception):
    """The server's messages have a gap: join again."""


class Status(Enum):
    """Where a delivery is in this worker."""

    QUEUED = 1
    RUNNING = 2
    REPORTED = 3


@dataclass(eq=False, slots=True)
class Held:
    """A delivery that this worker holds."""

    message: pb.Delivery
    status: Status = Status.QUEUED
    started: float = 0.0
    """Unix time."""
    stop: StopReason | None = None

    @property
    def key(self) -> Key:
        """Names it in reports."""
        return self.message.job_id, self.message.delivery


@dataclass(slots=True)
class _Chunk:
    """A message of reports, or what becomes one."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    news_bytes: int = 0
    finals: list[Key] = field(default_factory=list)
    data: bytes = b""


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


class SessionState:
    """What one session knows. Confined to the session's thread."""

    def __init__(self) -> None:
        self.reports_bytes_max = 1 << 20
        self._begin()

    def _begin(self) -> None:
        """A session holds nothing and has said nothing."""
        self.held: dict[Key, Held] = {}
        self.queue: deque[Held] = deque()
        """Received and not started."""
        self.received_up_to = 0
        self.ping = 0
        self._report_seq = 0
        self._filling: deque[_Chunk] = deque([_Chunk()])
        self._unaccepted: dict[int, _Chunk] = {}
        self._news_bytes = 0

    # ---- in ----

    def receive(self, message: pb.Deliveries) -> list[Held]:
        """Takes a message and returns what is new in it; commands are the caller's."""
        if message.ping:
            self.ping = message.ping
        if message.accepted_report_seq:
            self._accept(message.accepted_report_seq)
        if message.delivery_seq <= self.received_up_to:  # also one without a number
            return []
        if message.delivery_seq != self.received_up_to + 1:
            raise ProtocolError(f"message {message.delivery_seq} came after {self.received_up_to}")
        self.received_up_to = message.delivery_seq
        new = [Held(delivery) for delivery in message.deliveries]
        self.held.update((held.key, held) for held in new)
        self.queue.extend(new)
        return new

    def _accept(self, seq: int) -> None:
        for number in [number for number in self._unaccepted if number <= seq]:
            chunk = self._unaccepted.pop(number)
            self._news_bytes -= chunk.news_bytes
            for key in chunk.finals:
                self.held.pop(key, None)

    def drop(self, held: Held) -> None:
        """The delivery is lost to us, and its code does not run (any more): the next heartbeat tells."""
        self.held.pop(held.key, None)
        if held.status is Status.QUEUED:
            self.queue.remove(held)
        held.status = Status.REPORTED

    def forget(self) -> list[Held]:
        """The session is gone, and with it all that it held; returns what is running."""
        running = [held for held in self.held.values() if held.status is Status.RUNNING]
        self._begin()
        return running

    # ---- out ----

    def news(self, report: bytes) -> None:
        """Adds a report that is not final."""
        if self._news_bytes + len(report) > NEWS_BYTES_MAX:
            return
        self._news_bytes += len(report)
        self._append(report).news_bytes += len(report)

    def final(self, held: Held, report: bytes) -> None:
        """Adds the report that ends a delivery. None counts for one that is no longer held."""
        if held.status is Status.QUEUED:
            self.queue.remove(held)
        held.status = Status.REPORTED
        if self.held.get(held.key) is held:
            self._append(report).finals.append(held.key)

    def _append(self, report: bytes) -> _Chunk:
        chunk = self._filling[-1]
        size = len(report) + 12
        if len(chunk.parts) >= 2 * REPORTS_MAX or (chunk.parts and chunk.size + size + _SLACK_BYTES > self.reports_bytes_max):
            chunk = _Chunk()
            self._filling.append(chunk)
        chunk.parts += (b"\x12" + _varint(len(report)), report)  # field 2 of Reports
        chunk.size += size
        return chunk

    def next_message(self) -> bytes | None:
        """The next message of reports, with its number from now on; None: there is nothing to report."""
        if not self._filling[0].parts:
            return None
        chunk = self._filling.popleft()
        if not self._filling:
            self._filling.append(_Chunk())
        self._report_seq += 1
        chunk.data = b"".join((b"\x08", _varint(self._report_seq), *chunk.parts))  # field 1 of Reports
        chunk.parts = []
        self._unaccepted[self._report_seq] = chunk
        return chunk.data

    def unaccepted(self) -> Iterator[bytes]:
        """What has to be sent again on a new connection, in order."""
        return iter([self._unaccepted[number].data for number in sorted(self._unaccepted)])

    @property
    def is_reported(self) -> bool:
        """All reports have been accepted."""
        return not self._unaccepted and not self._filling[0].parts

    def heartbeat(self, concurrency: int) -> bytes:
        """The heartbeat as of now."""
        beat = pb.Heartbeat(
            received_up_to=self.received_up_to,
            held=[pb.HeldDelivery(job_id=job, delivery=delivery) for job, delivery in self.held],
            ping=self.ping,
            free_slots=max(concurrency - len(self.held), 0),
        )
        return pb.Reports(heartbeat=beat).SerializeToString()


def report_for(held: Held) -> pb.Report:
    """A report about a delivery, to be given an event."""
    report = pb.Report(job_id=held.message.job_id, delivery=held.message.delivery)
    if held.started:
        report.started_at.FromMilliseconds(int(held.started * 1000))
    return report


def started_report(held: Held) -> bytes:
    """Tells that the handler has started."""
    report = report_for(held)
    report.started.started_at.CopyFrom(report.started_at)
    return report.SerializeToString()


def released_report(held: Held, *, unknown_task: bool = False) -> bytes:
    """Gives a delivery back."""
    report = report_for(held)
    report.released.reason = pb.RELEASE_REASON_UNKNOWN_TASK if unknown_task else pb.RELEASE_REASON_STOPPING
    return report.SerializeToString()


def failed_report(held: Held, kind: str, message: str, *, cancelled: bool = False) -> bytes:
    """Tells that the attempt failed without the handler's own word."""
    report = report_for(held)
    report.failed.cancelled = cancelled
    report.failed.error.type = kind
    report.failed.error.message = message
    return report.SerializeToString()


def now() -> float:
    """Unix time, for reports."""
    return time.time()
